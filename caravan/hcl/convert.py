"""Values of HCL expressions, their types, and the conversions between them. Pure.

A value is None, bool, int, Decimal, str, list or dict, or UNKNOWN where an error left none. A type is `string`,
`number`, `bool`, `any`, `list of …`, `set of …` or `map of …`, written as HCL writes it in its messages.
"""

import math
import unicodedata
from decimal import Decimal
from typing import Any, Final, TypeAlias

Type: TypeAlias = str


class _Unknown:
    """The value of an expression that went wrong."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()
PRIMITIVES: Final = ("string", "number", "bool")


class Mismatch(Exception):
    """A value that does not convert; its text is HCL's reason."""


def text_value(text: str) -> str:
    """A string as HCL keeps it: in Unicode's normal form C."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def type_name(value: Any) -> str:
    """The kind of a value as HCL names it in messages."""
    if value is None or value is UNKNOWN:
        return "dynamic"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | Decimal):
        return "number"
    if isinstance(value, str):
        return "string"
    return "tuple" if isinstance(value, list) else "object"


def number_text(value: int | Decimal) -> str:
    """A number as text, without an exponent."""
    if isinstance(value, int):
        return str(value)
    if not value.is_finite():
        return "+Inf" if value > 0 else "-Inf"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_string(value: Any) -> Any:
    """A value as string. Raises Mismatch for lists and objects."""
    if value is None or value is UNKNOWN or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return number_text(value)
    raise Mismatch(f"string required, but have {type_name(value)}")


def to_number(value: Any) -> Any:
    """A value as number. Raises Mismatch."""
    if value is None or value is UNKNOWN or (isinstance(value, int | Decimal) and not isinstance(value, bool)):
        return value
    if not isinstance(value, str):
        raise Mismatch(f"number required, but have {type_name(value)}")
    from caravan.hcl.builder import number

    try:
        found = number(value) if value.isascii() and value == value.strip() and "_" not in value else None
    except ValueError:
        found = None
    if found is None:
        raise Mismatch("a number is required")
    return found


def to_bool(value: Any) -> Any:
    """A value as bool. Raises Mismatch."""
    if value is None or value is UNKNOWN or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise Mismatch(f"bool required, but have {type_name(value)}")
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    if value.lower() in ("true", "false"):
        raise Mismatch(f'a bool is required; to convert from string, use lowercase "{value.lower()}"')
    raise Mismatch("a bool is required")


_TO_PRIMITIVE: Final = {"string": to_string, "number": to_number, "bool": to_bool}


def convert(value: Any, wanted: Type) -> Any:
    """A value as the wanted type. Raises Mismatch with HCL's reason."""
    if value is None or value is UNKNOWN or wanted == "any":
        return value
    if wanted in _TO_PRIMITIVE:
        return _TO_PRIMITIVE[wanted](value)
    kind, _, element = wanted.partition(" of ")
    if not isinstance(value, list | dict):
        raise Mismatch(f"{wanted} required, but have {type_name(value)}")
    if isinstance(value, dict) != (kind == "map"):
        raise Mismatch(f"{wanted} required")
    _check_shapes(value, element)
    if isinstance(value, dict):
        return {k: convert(v, element) for k, v in sorted(value.items())}
    items = [convert(v, element) for v in value]
    return _distinct(items) if kind == "set" else items


def _check_shapes(value: list[Any] | dict[str, Any], element: Type) -> None:
    """Raises Mismatch, naming the element, where an element's kind can never become the wanted one."""
    if element not in PRIMITIVES:
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        have = type_name(item)
        crossed = {have, element} == {"bool", "number"}
        if have in ("tuple", "object") or crossed:
            name = f'"{key}"' if isinstance(key, str) else key
            raise Mismatch(f"element {name}: {element} required, but have {have}")


def _distinct(items: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if item not in out:
            out.append(item)
    return sorted(out, key=lambda v: (type_name(v), v if isinstance(v, str | int) else str(v)))


def same(a: Any, b: Any) -> bool:
    """Equality as HCL has it: 1 is not true, and a number is not its text."""
    if type_name(a) != type_name(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def json_value(value: Any) -> Any:
    """A value as JSON. Raises Mismatch for what JSON has not."""
    if value is UNKNOWN:
        raise Mismatch("value is not known")
    if isinstance(value, list):
        return [json_value(v) for v in value]
    if isinstance(value, dict):
        return {k: json_value(v) for k, v in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return _float(Decimal(value))
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**63 else _float(value)
    return value


def _float(value: Decimal) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise Mismatch("number has no JSON form")
    return found
