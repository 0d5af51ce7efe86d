"""Whether a type's definition makes sense in itself: names, paths, values. Pure: it opens no file."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.training import Knob, TrainingType

_FLAG: Final = re.compile(r"--[a-z][a-z0-9-]*")
_ALIAS: Final = re.compile(r"[a-z][a-z0-9-]{0,40}")
_TEMPLATE: Final = TrainingPlan(goal="", command=("train.py",))

Wrong = tuple[str, str]
"""The field that is wrong, and what is wrong with it."""


def unsound(found: TrainingType) -> Wrong | None:
    """The first thing that is wrong with a definition: (field, text without a full stop), or None."""
    return next(_wrong(found), None)


def _wrong(found: TrainingType) -> Iterator[Wrong]:
    if not found.formats:
        yield "formats", "at least one format of data is needed"
    for what in ("name", "flag"):
        taken: set[str] = set()
        for at, knob in enumerate(found.knobs):
            name = str(getattr(knob, what))
            if name in taken:
                yield f"knobs.{at}.{what}", f"{name!r} is there twice"
            taken.add(name)
    for at, knob in enumerate(found.knobs):
        yield from ((f"knobs.{at}.{field} ({knob.name})", text) for field, text in _wrong_knob(knob))
    for alias, sets in found.aliases.items():
        if not _ALIAS.fullmatch(alias):
            yield f"aliases.{alias}", "small letters, digits and dashes make a name"
        for path, value in sets.items():
            if (text := _not_in_plan(path, value)) is not None:
                yield f"aliases.{alias}.{path}", text
    names = [metric.name for metric in found.metrics]
    if len(set(names)) < len(names):
        yield "metrics", "a name is there twice"
    if found.target is not None and found.target not in names:
        yield "target", f"{found.target!r} is none of the metrics ({', '.join(names) or 'there are none'})"
    yield from _wrong_files(found)


def _wrong_knob(knob: Knob) -> Iterator[Wrong]:
    if not _FLAG.fullmatch(knob.flag):
        yield "flag", f"an option is spelled --small-letters, not {knob.flag[:40]!r}"
    if knob.type == "choice" and not knob.choices:
        yield "choices", "a choice needs choices"
    if knob.least is not None and knob.most is not None and knob.least > knob.most:
        yield "least", f"{knob.least:g} is more than most ({knob.most:g})"
    if knob.default is not None and (text := out_of_range(knob, knob.default)) is not None:
        yield "default", text
    if knob.requirements and _leads_out(knob.requirements):
        yield "requirements", f"{knob.requirements!r} leads out of the type's folder"
    if knob.path and (text := _not_in_plan(knob.path, knob.default)) is not None:
        yield "path", text


def out_of_range(knob: Knob, value: Json) -> str | None:
    """Why a knob can't have a value, without a full stop; None where it can."""
    kinds: dict[str, tuple[type, ...]] = {
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "text": (str,),
        "choice": (str, int, float, bool),
    }
    if not isinstance(value, kinds[knob.type]) or (isinstance(value, bool) and knob.type in ("integer", "number")):
        return f"{value!r} is no {knob.type}"
    if knob.choices and value not in knob.choices:
        return f"{value!r} is none of {', '.join(str(c) for c in knob.choices)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if knob.least is not None and value < knob.least:
            return f"{value} is less than {knob.least:g}"
        if knob.most is not None and value > knob.most:
            return f"{value} is more than {knob.most:g}"
    return None


def _not_in_plan(path: str, value: Json) -> str | None:
    """Why a plan can't have that value at that path."""
    try:
        _TEMPLATE.get(path)
        if value is not None:
            apply_changes(_TEMPLATE, [PlanChange(path=path, value=value, by=Author.DEFAULT)])
    except PlanError as error:
        return error.message.rstrip(".")
    return None


def _wrong_files(found: TrainingType) -> Iterator[Wrong]:
    for source, target in found.files.items():
        for path in (source, target):
            if _leads_out(path):
                yield f"files.{source}", f"{path!r} leads out of the type's folder"
    for what in ("entry", "evaluation"):
        name = str(getattr(found, what))
        if "/" in name or not name.endswith(".py"):
            yield what, f"{name!r} is no Python file beside the others"
    for at, line in enumerate(found.requirements):
        if "\n" in line or not line.strip():
            yield f"requirements.{at}", "one package in a line"


def _leads_out(path: str) -> bool:
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path
