"""What the functions of a job file do: text, numbers, collections and encodings.

Functions that read files are disabled, as on Nomad's servers. `bcrypt`, `rsadecrypt` and `convert` are known by name
and refused. This module knows nothing of expressions and places.
"""

import base64
import binascii
import hashlib
import json
import math
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple
from urllib.parse import quote_plus

from caravan.hcl import library_more as more
from caravan.hcl.convert import Mismatch, convert, json_value, same, to_string, type_name

_LARGEST: Final = 1_000_000  # the widest field that format makes


class Function(NamedTuple):
    """A function: its parameters as (name, type), the variadic one, and what it does. `nulls`: may get null."""

    parameters: tuple[tuple[str, str], ...]
    rest: tuple[str, str] | None
    run: Callable[..., Any]
    nulls: bool = False


class BadArgument(Exception):
    """A function's complaint about its argument of that index."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def _format(pattern: str, *values: Any) -> str:
    """HCL's `format`: %s, %d, %f, %g, %e, %t, %q, %v, %x, %o, %b, %%, with flags, width and precision."""
    queue, used = list(values), 0
    out, done = [], 0
    for match in re.finditer(r"%(?:%|([#0\- +]*)(\d*)(?:\.(\d+))?([a-zA-Z]))", pattern):
        out.append(pattern[done : match.start()])
        done = match.end()
        if match[0] == "%%":
            out.append("%")
            continue
        if used >= len(queue):
            raise ValueError(
                f'not enough arguments for "{match[0]}" at {match.start()}: need index {used + 1} '
                f"but have {len(queue)} total"
            )
        out.append(_verb(match, queue[used]))
        used += 1
    if used < len(queue):
        raise ValueError("too many arguments; only " + f"{used} used by format string")
    return "".join(out) + pattern[done:]


def _verb(match: re.Match[str], value: Any) -> str:
    flags, width, precision, verb = match[1], match[2], match[3], match[4]
    if int(width or 0) > _LARGEST:
        raise ValueError("width is too large")
    if verb == "v":
        text = to_string(value) if not isinstance(value, list | dict | None) else _json(value)
    elif verb == "s":
        text = to_string(value)
    elif verb == "q":
        text = _json(to_string(value))
    elif verb == "t":
        text = to_string(_fit(match, value, "bool"))
    elif verb in "dxXob":
        text = format(int(_fit(match, value, "number")), f"{'+' if '+' in flags else ''}{verb}")
    elif verb in "fFeEgG":
        text = format(float(_fit(match, value, "number")), f"{'+' if '+' in flags else ''}.{precision or 6}{verb}")
    else:
        raise ValueError(f"unsupported format verb '{verb}' in \"{match[0]}\" at offset {match.start()}")
    if "-" in flags:
        return text.ljust(int(width or 0))
    return text.rjust(int(width or 0), "0" if "0" in flags and verb in "dxXobfFeEgG" else " ")


def _fit(match: re.Match[str], value: Any, kind: str) -> Any:
    try:
        return convert(value, kind)
    except Mismatch as wrong:
        raise ValueError(f'unsupported value for "{match[0]}" at {match.start()}: {wrong}') from wrong


def _json(value: Any) -> str:
    text = json.dumps(json_value(value), separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")  # as Go writes it


def _no_number(name: str) -> Any:
    """NaN and infinities, which Python reads and JSON has not."""
    raise ValueError(name)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadArgument(0, "a JSON document is required") from None


def _from_base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadArgument(0, f"failed to decode base64 data {_json(text)}") from None


def _joined(separator: str, *lists: list[str]) -> str:
    return separator.join(x for items in lists for x in items)


def _substr(text: str, offset: int, length: int) -> str:
    start = offset if offset >= 0 else max(len(text) + offset, 0)
    return text[start:] if length < 0 else text[start : start + length]


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    for number, name, index in ((1, "start", start), (2, "end", end)):
        if index < 0:
            raise BadArgument(number, f"{name} index must not be less than zero")
        if index > len(items):
            raise BadArgument(number, f"{name} index must not be greater than the length of the list")
    if start > end:
        raise BadArgument(1, "start index must not be greater than end index")
    return items[start:end]


def _lookup(where: Any, key: str, *default: Any) -> Any:
    if not isinstance(where, dict):
        raise BadArgument(0, "lookup() requires a map as the first argument")
    if key in where:
        return where[key]
    if default:
        return default[0]
    raise ValueError(f'lookup failed to find key "{key}"')


def _flat(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        out.extend(_flat(item) if isinstance(item, list) else [item])
    return out


def _merged(*maps: Any) -> Any:
    out: dict[str, Any] = {}
    for i, found in enumerate(maps):
        if found is None:
            continue
        if not isinstance(found, dict):
            raise BadArgument(i, f"arguments must be maps or objects, got {_json(type_name(found))}")
        out.update(found)
    return out


def _concat(*lists: Any) -> list[Any]:
    for i, found in enumerate(lists):
        if not isinstance(found, list):
            raise BadArgument(i, "all arguments must be lists or tuples; got " + type_name(found))
    return [x for found in lists for x in found]


def _coalesce(*values: Any) -> Any:
    found = next((v for v in values if v is not None), None)
    if found is None:
        raise ValueError("no non-null arguments")
    return to_string(found) if any(isinstance(v, str) for v in values) and type_name(found) != "string" else found


def _distinct(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if not any(same(item, seen) for seen in out):
            out.append(item)
    return out


def _position(items: list[Any], wanted: Any) -> int:
    for i, item in enumerate(items):
        if same(item, wanted):
            return i
    raise ValueError("item not found")


def _zipmap(keys: list[str], values: list[Any]) -> dict[str, Any]:
    if len(keys) != len(values):
        raise ValueError(f"number of keys ({len(keys)}) does not match number of values ({len(values)})")
    return dict(zip(keys, values, strict=True))


def _element(items: list[Any], index: int) -> Any:
    if not items:
        raise ValueError("cannot use element function with an empty list")
    return items[index % len(items)]


def _range(*bounds: Any) -> list[Any]:
    start, end, step = {1: (0, *bounds, None), 2: (*bounds, None)}.get(len(bounds), bounds)
    step = step if step is not None else (1 if end >= start else -1)
    if step == 0:
        raise ValueError("step must not be zero")
    if abs((end - start) / step) > 1024:
        raise ValueError(
            "more than 1024 values were generated; either decrease the difference between start and end "
            "or use a smaller step"
        )
    out = []
    while (start < end) if step > 0 else (start > end):
        out.append(start)
        start += step
    return out


def _replaced(text: str, old: str, new: str) -> str:
    if len(old) > 1 and old[0] == old[-1] == "/":
        return more.regex_replace(text, old[1:-1], new)
    return text.replace(old, new)


def _length(value: Any) -> int:
    if not isinstance(value, list | dict):
        raise BadArgument(0, "collection must be a list, a map or a tuple")
    return len(value)


def _parse_int(text: Any, base: int) -> int:
    try:
        return int(str(to_string(text)), base)
    except ValueError:
        raise BadArgument(0, f"cannot parse {_json(to_string(text))} as a base {base} integer") from None


def _hash(name: str) -> Callable[[str], str]:
    return lambda text: hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


_STR, _LIST = ("str", "string"), ("list", "list of any")


def _text(run: Callable[..., Any], *more: tuple[str, str]) -> Function:
    return Function((_STR, *more), None, run)


def _number(run: Callable[..., Any]) -> Function:
    return Function((("num", "number"),), None, run)


FUNCTIONS: Final[dict[str, Function]] = {
    "abs": _number(abs),
    "base64decode": _text(_from_base64),
    "base64encode": _text(lambda s: base64.b64encode(s.encode()).decode()),
    "ceil": _number(math.ceil),
    "chomp": _text(lambda s: re.sub(r"(?:\r\n?|\n)*\Z", "", s)),
    "chunklist": Function(
        (_LIST, ("size", "number")), None, lambda x, n: [x[i : i + n] for i in range(0, len(x), n)] if n else [x]
    ),
    "coalesce": Function((), ("vals", "any"), _coalesce, nulls=True),
    "coalescelist": Function((), ("vals", "list of any"), lambda *x: next((v for v in x if v), [])),
    "compact": Function((("list", "list of string"),), None, lambda x: [v for v in x if v]),
    "concat": Function((), ("seqs", "any"), _concat),
    "contains": Function((_LIST, ("value", "any")), None, lambda x, v: any(same(i, v) for i in x)),
    "distinct": Function((_LIST,), None, _distinct),
    "element": Function((_LIST, ("index", "number")), None, _element),
    "flatten": Function((_LIST,), None, _flat),
    "floor": _number(math.floor),
    "format": Function((("format", "string"),), ("args", "any"), _format, nulls=True),
    "indent": Function(
        (("spaces", "number"), _STR), None, lambda n, s: s.replace("\n", "\n" + " " * min(int(n), 1000))
    ),
    "index": Function((_LIST, ("value", "any")), None, _position),
    "join": Function((("separator", "string"),), ("lists", "list of string"), _joined),
    "jsondecode": _text(_from_json),
    "jsonencode": Function((("val", "any"),), None, _json, nulls=True),
    "keys": Function((("inputMap", "map of any"),), None, sorted),
    "length": Function((("collection", "any"),), None, _length),
    "lookup": Function((("inputMap", "any"), ("key", "string")), ("default", "any"), _lookup),
    "lower": _text(str.lower),
    "max": Function((), ("numbers", "number"), max),
    "md5": _text(_hash("md5")),
    "merge": Function((), ("maps", "any"), _merged, nulls=True),
    "min": Function((), ("numbers", "number"), min),
    "parseint": Function((("number", "any"), ("base", "number")), None, _parse_int),
    "pow": Function((("num", "number"), ("power", "number")), None, math.pow),
    "range": Function((), ("params", "number"), _range),
    "replace": _text(_replaced, ("substr", "string"), ("replace", "string")),
    "reverse": _text(lambda s: s[::-1]),
    "sha1": _text(_hash("sha1")),
    "sha256": _text(_hash("sha256")),
    "sha512": _text(_hash("sha512")),
    "signum": _number(lambda n: (n > 0) - (n < 0)),
    "slice": Function((_LIST, ("start_index", "number"), ("end_index", "number")), None, _slice),
    "sort": Function((("list", "list of string"),), None, sorted),
    "split": Function((("separator", "string"), _STR), None, lambda p, s: s.split(p) if p else list(s)),
    "strlen": _text(len),
    "strrev": _text(lambda s: s[::-1]),
    "substr": _text(_substr, ("offset", "number"), ("length", "number")),
    "title": _text(lambda s: re.sub(r"\b\w", lambda m: m[0].upper(), s)),
    "trim": _text(lambda s, cut: s.strip(cut) if cut else s, ("cutset", "string")),
    "trimprefix": _text(str.removeprefix, ("prefix", "string")),
    "trimspace": _text(str.strip),
    "trimsuffix": _text(str.removesuffix, ("suffix", "string")),
    "upper": _text(str.upper),
    "urlencode": _text(quote_plus),
    "values": Function((("mapping", "map of any"),), None, lambda m: [m[k] for k in sorted(m)]),
    "cidrhost": Function((("prefix", "string"), ("hostnum", "number")), None, more.cidr_host),
    "cidrnetmask": Function((("prefix", "string"),), None, more.cidr_netmask),
    "cidrsubnet": Function((("prefix", "string"), ("newbits", "number"), ("netnum", "number")), None, more.cidr_subnet),
    "cidrsubnets": Function((("prefix", "string"),), ("newbits", "number"), more.cidr_subnets),
    "csvdecode": _text(more.csv_table),
    "formatdate": Function((("format", "string"), ("time", "string")), None, more.format_date),
    "formatlist": Function(
        (("format", "string"),), ("args", "any"), lambda form, *x: more.format_list(_format, form, *x), nulls=True
    ),
    "log": Function((("num", "number"), ("base", "number")), None, more.logarithm),
    "regex_replace": _text(more.regex_replace, ("pattern", "string"), ("replace", "string")),
    "setintersection": Function((("first_set", "set of any"),), ("other_sets", "set of any"), more.common),
    "setproduct": Function((), ("sets", "list of any"), more.product),
    "setunion": Function((("first_set", "set of any"),), ("other_sets", "set of any"), more.united),
    "timeadd": Function((("timestamp", "string"), ("duration", "string")), None, more.time_add),
    "uuidv4": Function((), None, lambda: str(uuid.uuid4())),
    "uuidv5": Function((("namespace", "string"), ("name", "string")), None, more.named_uuid),
    "yamldecode": Function((("src", "string"),), None, more.from_yaml),
    "yamlencode": Function((("value", "any"),), None, more.yaml_text, nulls=True),
    "zipmap": Function((("keys", "list of string"), ("values", "list of any")), None, _zipmap),
}

_FILES: Final = ("abspath", "basename", "dirname", "file", "filebase64", "fileexists", "fileset", "pathexpand")
_NOT_HERE: Final = ("bcrypt", "convert", "rsadecrypt")
DISABLED: Final[dict[str, str]] = {
    **dict.fromkeys(_FILES, "filesystem function disabled"),
    **dict.fromkeys(_NOT_HERE, "not available in the built-in reader of job files; a Nomad server has it"),
}
