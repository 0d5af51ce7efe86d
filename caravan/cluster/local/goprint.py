"""How Go prints values: `shown` (%v), `printf`, `joined` (Sprint). Pure; held to Go 1.26's own answers."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from caravan.cluster.local.words import go_quote

_TYPES: Final = {str: "string", int: "int", float: "float64", bool: "bool", list: "[]interface {}"}
_VERB: Final = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d*)(?P<exact>\.\d*)?(?P<verb>[a-zA-Z%]|$)")


def type_name(value: Any) -> str:
    """What Go calls the type of a value."""
    if isinstance(value, Mapping):
        return "map[string]interface {}"
    return _TYPES.get(type(value), type(value).__name__)


def shown(value: Any) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + " ".join(shown(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{k}:{shown(value[k])}" for k in sorted(value)) + "]"
    return _float(value) if isinstance(value, float) else str(value)


def _float(value: float) -> str:
    """The fewest digits that tell it, with an exponent where that is below -4 or above 5."""
    number = Decimal(repr(value))
    if not number.is_finite():
        return "NaN" if number.is_nan() else "+Inf" if value > 0 else "-Inf"
    sign, digits, _ = number.as_tuple()
    exponent = number.adjusted()
    said = "".join(map(str, digits)).rstrip("0") or "0"
    if -4 <= exponent <= 5 or not value:
        return f"{number.normalize():f}" if value else "-0" if sign else "0"
    rest = f".{said[1:]}" if said[1:] else ""
    return f"{'-' if sign else ''}{said[0]}{rest}e{exponent:+03d}"


def joined(*values: Any) -> str:
    """Values in a row, with a space between two of which neither is a text (Go's Sprint)."""
    said = ""
    for at, value in enumerate(values):
        apart = at > 0 and not isinstance(value, str) and not isinstance(values[at - 1], str)
        said += (" " if apart else "") + shown(value)
    return said


def printf(pattern: str, *values: Any) -> str:
    """Go's Sprintf for the verbs that templates use. What does not fit is told in the text, as Go does it."""
    queue = list(values)

    def one(found: re.Match[str]) -> str:
        verb = found["verb"]
        if verb == "%":
            return "%"
        if not verb:
            return "%!(NOVERB)"
        if not queue:
            return f"%!{verb}(MISSING)"
        return _one(verb, found["flags"], int(found["width"] or 0), found["exact"], queue.pop(0))

    said = _VERB.sub(one, pattern)
    if queue:
        said += f"%!(EXTRA {', '.join(f'{type_name(v)}={shown(v)}' for v in queue)})"
    return said


def _one(verb: str, flags: str, width: int, exact: str | None, value: Any) -> str:
    """One value by one verb; a list's values each by it. One that the verb doesn't take is told with its type."""
    if isinstance(value, list | tuple) and verb != "T":
        return "[" + " ".join(_one(verb, flags, width, exact, each) for each in value) + "]"
    most = None if exact is None else int(exact[1:] or 0)
    sign = "+" if "+" in flags else " " if " " in flags else ""
    said = _formatted(verb, "" if verb == "v" else sign, most, "#" in flags, value)
    if said is not None:
        return _wide(said, flags, width)
    by = "d" if isinstance(value, int) else "g" if isinstance(value, float) else "v"
    said = _formatted("v" if isinstance(value, bool) else by, sign, most, False, value) or ""
    return f"%!{verb}({type_name(value)}={_wide(said, flags, width)})"


def _formatted(verb: str, sign: str, most: int | None, alternate: bool, value: Any) -> str | None:
    """One value by one verb, not yet at its width; None for a value that the verb doesn't take."""
    if verb == "T":
        return type_name(value)
    if isinstance(value, str):
        cut = value if most is None else value[:most]
        octets = value.encode()[:most].hex()
        return {"s": cut, "v": cut, "q": go_quote(cut), "x": octets, "X": octets.upper()}.get(verb)
    if isinstance(value, bool):
        return shown(value) if verb in "tv" else None
    if isinstance(value, int):
        if verb == "c":
            return chr(value) if 0 <= value < 0x110000 else "\ufffd"
        kind = "d" if verb == "v" else verb
        return format(value, sign + ("#" if alternate and kind in "xX" else "") + kind) if kind in "dboxX" else None
    if isinstance(value, float) and verb in "feEgGFv":
        if verb in "gGv" and most is None:
            return (sign if value >= 0 else "") + _float(value)
        return format(value, f"{sign}.{6 if most is None else most}{'g' if verb == 'v' else verb}")
    return shown(value) if verb == "v" else None


def _wide(text: str, flags: str, width: int) -> str:
    if "-" in flags:
        return text.ljust(width)
    return text.zfill(width) if "0" in flags else text.rjust(width)
