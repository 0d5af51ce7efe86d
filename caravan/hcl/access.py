"""`value.name` and `value[key]`, with HCL's words for what is not there. Pure."""

from decimal import Decimal
from typing import Any, Final

from caravan.hcl.convert import UNKNOWN, Mismatch, to_number, to_string, type_name
from caravan.hcl.errors import Problem, Span

_ELEMENT: Final = "The given key does not identify an element in this collection value"


def attribute(value: Any, name: str, where: Span, problems: list[Problem]) -> Any:
    """`value.name`."""
    if value is UNKNOWN:
        return UNKNOWN
    if value is None:
        detail = "This value is null, so it does not have any attributes."
        problems.append(Problem("Attempt to get attribute from null value", detail, where))
    elif isinstance(value, dict):
        if name in value:
            return value[name]
        detail = f'This object does not have an attribute named "{name}".'
        problems.append(Problem("Unsupported attribute", detail, where))
    elif isinstance(value, list):
        problems.append(Problem("Unsupported attribute", "This value does not have any attributes.", where))
    else:
        detail = f"Can't access attributes on a primitive-typed value ({type_name(value)})."
        problems.append(Problem("Unsupported attribute", detail, where))
    return UNKNOWN


def element(value: Any, key: Any, where: Span, problems: list[Problem]) -> Any:
    """`value[key]`."""
    if value is UNKNOWN or key is UNKNOWN:
        return UNKNOWN
    if value is None:
        detail = "This value is null, so it does not have any indices."
        problems.append(Problem("Attempt to index null value", detail, where))
        return UNKNOWN
    try:
        if key is None:
            raise Mismatch("Can't use a null value as an indexing key.")
        return _element(value, key)
    except Mismatch as wrong:
        problems.append(Problem("Invalid index", str(wrong), where))
        return UNKNOWN


def _element(value: Any, key: Any) -> Any:
    if not isinstance(value, list | dict):
        raise Mismatch("This value does not have any indices.")
    try:
        found = to_string(key) if isinstance(value, dict) else to_number(key)
    except Mismatch as wrong:
        raise Mismatch(f"{_ELEMENT}: {wrong}.") from None
    if isinstance(value, dict):
        if found in value:
            return value[found]
        number = type_name(key) == "number"
        hint = " An object only supports looking up attributes by name, not by numeric index." if number else ""
        raise Mismatch(f"{_ELEMENT}.{hint}")
    if isinstance(found, Decimal):
        raise Mismatch(
            f"{_ELEMENT}: indexing a sequence requires a whole number, but the given index has a fractional part."
        )
    if found < 0:
        raise Mismatch(f"{_ELEMENT}: a negative number is not a valid index for a sequence.")
    if found < len(value):
        return value[found]
    if found > len(value):
        raise Mismatch(f"{_ELEMENT}.")
    if not value:
        raise Mismatch(f"{_ELEMENT}: the collection has no elements.")
    raise Mismatch(f"{_ELEMENT}: the given index is greater than or equal to the length of the collection.")
