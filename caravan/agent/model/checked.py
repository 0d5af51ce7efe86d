"""A JSON value → a value of a pydantic model, dropping what the model has no field for and coercing what loses nothing.

Pure. What was done is told, a line each; what can't be used is a ValueError in words that a model can act on.
"""

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from caravan.values.base import Json

T = TypeVar("T", bound=BaseModel)
_ROUNDS: Final = 6
_MOST_ERRORS: Final = 8
_MOST_PLACES: Final = 20
_SHOWN: Final = 80


def checked(kind: type[T], value: Json, told: Callable[[str], None]) -> T:
    """The value as `kind`. Raises ValueError that names the fields that are wrong."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
        told("the reply was a list of one")
    if not isinstance(value, dict):
        raise ValueError("the reply must be one JSON object")
    value = json.loads(json.dumps(value))  # ours to change
    extra = _unknown(kind, value)
    for name in extra:
        del value[name]
    if extra:
        told(f"unknown fields were dropped: {_few(extra)}")
    for _ in range(_ROUNDS):
        try:
            return kind.model_validate_json(json.dumps(value))
        except ValidationError as error:
            mended = [done for e in error.errors() if (done := _mend(value, dict(e)))]
            if not mended:
                raise ValueError(_said(error)) from error
            told(_few(mended))
        except RecursionError as error:
            raise ValueError("it is too deep") from error
    raise ValueError("it has too many wrong fields")


def _unknown(kind: type[BaseModel], value: dict[str, Json]) -> list[str]:
    """Names at the top that `kind` has no field for."""
    if kind.model_config.get("extra") == "allow" or issubclass(kind, _roots()):
        return []
    known: set[str] = set()
    for name, field in kind.model_fields.items():
        alias = field.validation_alias
        if alias is not None and not isinstance(alias, str):
            return []
        known |= {name, alias or name}
    return [name for name in value if name not in known]


def _roots() -> type[BaseModel]:
    from pydantic import RootModel

    return RootModel


def _mend(value: Json, error: dict[str, Any]) -> str:
    """Drop or coerce what one error is about; what was done, empty: nothing."""
    found = _place(value, error["loc"])
    if found is None:
        return ""
    holder, key = found
    at, given = _dotted(error["loc"]), holder[key]
    if error["type"] == "extra_forbidden" and isinstance(holder, dict):
        del holder[key]
        return f"the unknown field {at} was dropped"
    if error["type"] == "string_type" and isinstance(given, bool | int | float):
        holder[key] = json.dumps(given)
        return f"{at}: a number was taken as text"
    if error["type"] in ("list_type", "tuple_type", "set_type", "frozen_set_type") and isinstance(
        given, str | bool | int | float | dict
    ):
        holder[key] = [given]
        return f"{at}: one value was taken as a list of it"
    return ""


def _place(value: Json, loc: tuple[int | str, ...]) -> tuple[Any, Any] | None:
    """The container and key that an error's place leads to. Names of a union's members in it lead nowhere."""
    holder: Any = None
    key: Any = None
    here = value
    for step in loc:
        inside = isinstance(here, dict) and step in here
        if inside or (isinstance(here, list) and isinstance(step, int) and 0 <= step < len(here)):
            holder, key, here = here, step, here[step]
        elif isinstance(here, dict | list) and step == loc[-1]:
            return None  # a field that is missing, or that was dropped for an error before
    return None if holder is None else (holder, key)


def _dotted(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(step) for step in loc)[:_SHOWN]


def _said(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)
    lines = [f"{_dotted(e['loc']) or 'the object'}: {e['msg']}" for e in found[:_MOST_ERRORS]]
    more = f"; {len(found) - _MOST_ERRORS} more" if len(found) > _MOST_ERRORS else ""
    return "; ".join(lines) + more


def _few(texts: list[str]) -> str:
    shown = "; ".join(text[:_SHOWN] for text in texts[:_MOST_PLACES])
    return shown if len(texts) <= _MOST_PLACES else f"{shown}; {len(texts) - _MOST_PLACES} more"
