"""The fields of a plan by their dotted paths: which there are, and texts typed for them.

Generated from the plan's own model, so that it can't drift. It knows no repository and no cluster.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import get_origin

from caravan.planning.command import read_command
from caravan.values.base import Json, Value
from caravan.values.errors import PlanError, UsageError
from caravan.values.plan import Author, PlanChange, Target, TrainingPlan, apply_changes, block_in
from caravan.values.repo import Launcher

_PROBE = TrainingPlan(goal="", command=("train",), target=Target(metric="loss"))
_CLOSED = ("provenance",)
_LISTS = frozenset(
    {"setup.pip", "setup.apt", "setup.further_requirements", "datacenters", "exclude_nodes", "dataset.columns"}
    | {"resources.gpu_prefer", "data.left_out"}
)
"""Lists of plain words, which may be written with commas. Not `secrets`: what stands there alone may be one itself."""


def plan_paths() -> tuple[str, ...]:
    """Every dotted path that can be set, in the plan's order; a free mapping ends with `.*` (`env.*`)."""
    return tuple(p for p in _paths(TrainingPlan) if p.partition(".")[0] not in _CLOSED)


def _paths(model: type[Value], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = block_in(field.annotation)
        if inner is not None:
            yield from _paths(inner, f"{prefix}{name}.")
        elif get_origin(field.annotation) is dict:
            yield f"{prefix}{name}.*"
        else:
            yield f"{prefix}{name}"


def is_path(path: str) -> bool:
    """Whether a plan has a field at that path. Whole blocks (`target`, `outputs`) count too."""
    if path.partition(".")[0] in _CLOSED or not path or path.endswith("."):
        return False
    try:
        _PROBE.get(path)
    except PlanError:
        return False
    return True


def require_path(path: str) -> str:
    """`path`, if a plan has it. Raises UsageError with the nearest names."""
    if is_path(path):
        return path
    known = [p.removesuffix(".*") for p in plan_paths()]
    near = difflib.get_close_matches(path, known, n=3, cutoff=0.6)
    near += [p for p in known if p.rsplit(".", 1)[-1] == path and p not in near]
    hint = f"Did you mean {' or '.join(near)}?" if near else "`docs/plan.md` lists the fields."
    raise UsageError(f"The plan has no field {path!r}.", hint=hint)


def typed(path: str, value: Json) -> Json:
    """A value, or a text for one, as the field at `path` takes it: `2`, `1e-4`, `yes`, `["dc1"]`.

    Raises PlanError with what the field expects.
    """
    candidates = [value]
    if path == "command" and isinstance(value, str) and not value.lstrip().startswith("["):
        candidates = [_words(value)]
    elif isinstance(value, str) and path in _LISTS and value.strip() not in ("", "null") and "[" not in value[:1]:
        candidates = [_items(value)]
    elif isinstance(value, str):
        parsed = _parsed(value)
        candidates = [value] if parsed is None and value.strip() != "null" else [parsed, value]
    elif value is not None and not isinstance(value, list | dict | bool):
        candidates.append(str(value))
    failure: PlanError | None = None
    for candidate in candidates:
        try:
            probe = apply_changes(_PROBE, [PlanChange(path=path, value=candidate, by=Author.USER)])
        except PlanError as error:
            failure = failure or error
            continue
        result = None if candidate is None else probe.get(path)
        if isinstance(candidate, bool) and not isinstance(result, bool):
            failure = failure or PlanError(f"{path}: yes or no isn't expected here.")
            continue
        return result
    raise failure or PlanError(f"{path}: {value!r} doesn't fit.")


def _items(text: str) -> Json:
    """The items of a list that is written with commas; one before a version's further bound divides nothing."""
    return [item for part in re.split(r",(?!\s*[<>=!~])", text) if (item := part.strip())]


def _words(text: str) -> Json:
    """A command's words as a shell splits them, without `python`, which the launcher is. Raises PlanError."""
    read = read_command(text)
    if read is None or read.env or read.launcher_args or read.launcher not in (Launcher.PYTHON, Launcher.CLI):
        raise PlanError("command: a program and its arguments, like `train.py --lr 5`; launch.launcher says the rest.")
    return list(read.command)


def _parsed(text: str) -> Json:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> None:
    raise ValueError(name)
