"""The shape of a plan for one who reads it from a file: which fields are blocks, and where a text is wanted.

Read off the plan's own model, so that it can't drift.
"""

import types
from enum import Enum, StrEnum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from caravan.values.base import Value
from caravan.values.plan import TrainingPlan, block_in


class Kind(Enum):
    """How a field of a plan file is set."""

    BLOCK = "each of its fields by itself"
    ENTRIES = "each of its entries by itself"
    WHOLE = "as a whole"


_TOGETHER: Final = frozenset({"code", "outputs"})
"""Blocks whose fields say something only together."""
_ENTRIES: Final = ("env", "training.options")
"""Mappings to which the job adds entries of its own."""


def kind_at(path: str) -> Kind | None:
    """How the field at a path is set, or None where a plan has none. `path` leads through blocks only."""
    annotation = _annotation(TrainingPlan, path.split("."))
    if annotation is None:
        return None
    if path in _ENTRIES:
        return Kind.ENTRIES
    always = isinstance(annotation, type) and issubclass(annotation, Value)
    return Kind.BLOCK if always and path not in _TOGETHER else Kind.WHOLE


def fields_in(path: str) -> tuple[str, ...]:
    """The fields of the blocks that the field at a path holds as items, entries or by itself."""
    for option in _options(_annotation(TrainingPlan, path.split("."))):
        for part in (option, *get_args(option)):
            if isinstance(part, type) and issubclass(part, Value):
                return tuple(part.model_fields)
    return ()


def _annotation(block: type[Value], names: list[str]) -> Any:
    field = block.model_fields.get(names[0])
    if field is None or names[0] == "provenance":
        return None
    if len(names) == 1:
        return field.annotation
    inner = block_in(field.annotation)
    return _annotation(inner, names[1:]) if inner is not None else None


def wants(path: str, inside: tuple[str | int, ...]) -> bool:
    """Whether a text is wanted at a place in the value of a field, so that `3.10` or `yes` is one."""
    mapping = next((name for name in _ENTRIES if path.startswith(f"{name}.")), None)
    if mapping is not None:
        path, inside = mapping, ("", *inside)
    annotation = _annotation(TrainingPlan, path.split("."))
    for step in inside:
        annotation = _below(annotation, step)
    return annotation is not None and _is_text(annotation)


def _below(annotation: Any, step: str | int) -> Any:
    """The type of an item, an entry or a field; None where it isn't known."""
    for option in _options(annotation):
        origin, args = get_origin(option), get_args(option)
        if origin is tuple and isinstance(step, int):
            return args[0]
        if origin is dict and isinstance(step, str):
            return args[1]
        if isinstance(option, type) and issubclass(option, Value) and isinstance(step, str):
            field = option.model_fields.get(step)
            return field.annotation if field is not None else None
    return None


def _options(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(o for option in get_args(annotation) for o in _options(option))
    return (annotation,)


def _is_text(annotation: Any) -> bool:
    """Whether the type is a text or a choice of texts, and nothing else but unset."""
    kinds = [o for o in _options(annotation) if o is not type(None)]
    return bool(kinds) and all(_one_text(kind) for kind in kinds)


def _one_text(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return all(isinstance(value, str) for value in get_args(kind))
    return isinstance(kind, type) and (issubclass(kind, str | StrEnum))
