"""A plan file that a person wrote or changed: what it says, field by field, with the line of each.

Pure: a text in, changes of a plan out. Whatever is wrong is told with its line and column, what the field takes and
the nearest name. It must not know where a file lies or how a plan is drafted; writing is `caravan.runs.plan_file`'s.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from caravan.planning.answers import changes_from
from caravan.planning.fields import plan_paths
from caravan.planning.flags import field_of
from caravan.planning.plan_nodes import Mark, Marked, MarkedError, compose
from caravan.planning.plan_schema import Kind, fields_in, kind_at, wants
from caravan.planning.secrets import refuse_values
from caravan.values.errors import PlanError, UsageError
from caravan.values.masking import MASK
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from caravan.values.base import Json

_KEPT: Final = "provenance"
_PROBE: Final = TrainingPlan(goal="", command=("train",))
_RUN_OUTPUTS: Final = re.compile(r"/runs/[0-9a-f]{8}/outputs/?$")
_SHOWN: Final = 60  # characters of a value in a message
_MOST: Final = 10  # problems that are told at once


class PlanFile(NamedTuple):
    """What a plan file says. `source`: where the repository is, as the file has it; `notes`: what is not taken."""

    changes: tuple[PlanChange, ...]
    source: str = ""
    notes: tuple[str, ...] = ()

    def value(self, path: str) -> Json:
        """What the file says for a field, or None."""
        return next((c.value for c in self.changes if c.path == path), None)

    def beside(self, answers: Mapping[str, Json]) -> tuple[PlanChange, ...]:
        """The changes but for fields that the answers say: those were given for this run alone."""
        said = {change.path for change in changes_from(answers)}
        return tuple(c for c in self.changes if not _within(c.path, said))


class Problem(NamedTuple):
    """Something wrong in a plan file, at a line and column from 1 on."""

    line: int
    column: int
    text: str


class PlanFileError(UsageError):
    """A plan file that is wrong, with everything that is found wrong with it."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        more = len(self.problems) - 1
        also = f" And {more} more: see `main.py plan --check FILE`." if more else ""
        super().__init__(f"{name}, line {first.line}, column {first.column}: {first.text}{also}")


def read_plan_file(text: str, name: str, known: Sequence[str] = ()) -> PlanFile:
    """What the file says. `name` stands in messages and reasons; `known` are values that are secret.

    Raises PlanFileError for what is no YAML, no plan, or holds a secret.
    """
    try:
        root = compose(text)
    except MarkedError as error:
        raise PlanFileError(name, [Problem(*error.mark, error.message)]) from error
    if root is None or not isinstance(root.value, dict):
        at = root.mark if root else Mark(1, 1)
        raise PlanFileError(
            name, [Problem(*at, "A plan is a mapping of fields, like `goal: …` and `command: [train.py]`.")]
        )
    problems: list[Problem] = []
    changes: list[PlanChange] = []
    source = ""
    for key, item in root.value.items():
        if key == "source":
            source, wrong = _source(item)
            problems += wrong
        elif key != _KEPT:
            for path, inner in _fields("", key, item, problems):
                change = _change(path, inner, name, known, problems)
                changes += [change] if change else []
    if not problems:
        problems += _together(changes)
    if problems:
        raise PlanFileError(name, sorted(problems)[:_MOST])
    kept, notes = _of_this_run(changes)
    return PlanFile(tuple(kept), source, tuple(notes))


def _source(item: Marked) -> tuple[str, list[Problem]]:
    text = item.text if item.text is not None else ""
    if isinstance(item.value, dict | list) or not text.strip():
        return "", [Problem(*item.mark, "source: the repository's path or git URL.")]
    return text, []


def _fields(block: str, key: str, item: Marked, problems: list[Problem]) -> Iterator[tuple[str, Marked]]:
    """The fields below a key, each as it is set: one by one in a block that is always there, else as a whole."""
    path = f"{block}.{key}" if block else key
    kind = kind_at(path) if "." not in key else None
    if kind is None:
        problems.append(Problem(*item.key, f"A plan has no field {path!r}.{_nearest(path)}"))
    elif kind is Kind.BLOCK and isinstance(item.value, dict):
        for name, inner in item.value.items():
            yield from _fields(path, name, inner, problems)
    elif kind is Kind.ENTRIES and isinstance(item.value, dict):
        yield from ((f"{path}.{name}", inner) for name, inner in item.value.items())
    elif kind is not Kind.BLOCK:
        yield path, item
    elif item.value is not None:
        problems.append(Problem(*item.mark, f"{path} is a block of fields: {', '.join(_inside(path))}."))


def _change(path: str, item: Marked, name: str, known: Sequence[str], problems: list[Problem]) -> PlanChange | None:
    """The field as the file sets it, in the plan's own form. What is wrong with it is put to the problems."""
    # What is meant to be a text is taken as it is written, `3.10` and `yes` too.
    value = item.plain(lambda inside: wants(path, inside))
    if MASK in str(value):
        text = f"{path}: a secret stood here and was masked. Name it in `secrets`, and give the cluster its value."
        problems.append(Problem(*item.mark, text))
        return None
    change = PlanChange(path=path, value=value, by=Author.USER, why=f"{name}:{item.mark.line}", confirms=True)
    try:
        refuse_values(path, value, known)
        typed = None if value is None else apply_changes(_PROBE, [change]).get(path)
        if value is None:
            apply_changes(_PROBE, [change])
        if isinstance(value, bool) and not isinstance(typed, bool):
            raise PlanError(f"{path}: yes or no isn't expected here (got {value}).")
    except PlanError as error:
        problems.append(_problem(path, value, item, error))
        return None
    except UsageError as error:
        problems.append(Problem(*item.mark, error.line()))
        return None
    return change.model_copy(update={"value": typed})


def _problem(path: str, value: Json, item: Marked, error: PlanError) -> Problem:
    """Where in the value it is wrong, what the field takes, and what stands there."""
    where, _, what = error.message.partition(" (got")[0].partition(": ")
    if "holds a secret" in error.message or not what:
        return Problem(*item.mark, error.message)
    names = where.removeprefix(path).strip(".").split(".") if where.startswith(path) else []
    found = item.at([n for n in names if n])
    if "Extra inputs" in what:
        text = f"there is no field {names[-1]!r} in it (it has {', '.join(_inside_of(path))})"
        return Problem(*found.key, f"{path}: {text}.")
    if "Field required" in what:
        return Problem(*found.mark, f"{where} is missing.")
    shown = found.text if found.text is not None else str(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return Problem(*found.mark, f"{where or path} {_takes(what)}, and it says {shown!r}.")


def _takes(what: str) -> str:
    """What a field takes, in words of one who writes YAML."""
    text = what.rstrip(".").removesuffix(", unable to parse string as a number")
    text = text.removesuffix(", unable to parse string as an integer")
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return text


_WORDS: Final = {
    "Input should be": "takes",
    "a valid tuple": "a list, like [a, b]",
    "a valid dictionary": "a mapping, like {a: b}",
    "a valid string": "a text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "got a number with a fractional part": "and no part of one",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "yes or no isn't expected here": "takes no true or false",
}


def _together(changes: Sequence[PlanChange]) -> list[Problem]:
    """What only the whole plan shows: fields that each are well and don't go together."""
    try:
        apply_changes(_PROBE, changes)
    except PlanError as error:
        return [Problem(1, 1, error.message)]
    return []


def _of_this_run(changes: Sequence[PlanChange]) -> tuple[list[PlanChange], list[str]]:
    """The changes without what belonged to the run that wrote the file: its archive, its uploads, its directory."""
    kept: list[PlanChange] = []
    notes: list[str] = []
    for change in changes:
        value: Any = change.value if isinstance(change.value, dict) else {}
        if change.path == "code" and value.get("kind") == "archive" and value.get("sha256"):
            notes.append("The code is taken from the repository as it is now, not from the run that wrote the file.")
        elif change.path == "data" and value.get("kind") in ("upload", "shared", "code"):
            notes.append("How the data gets to the job is found out anew.")
        elif change.path == "build" and value.get("sha256"):
            notes.append("Whether an image is built is found out anew.")
        elif change.path == "outputs" and _RUN_OUTPUTS.search(str(value.get("location") or "")):
            notes.append("The outputs go to the new run's directory, not to that of the run that wrote the file.")
        else:
            kept.append(change)
    return kept, notes


def _within(path: str, said: set[str]) -> bool:
    """Whether the field, a block that it is in, or a part of it was said."""
    return any(path == p or path.startswith(f"{p}.") or p.startswith(f"{path}.") for p in said)


def _nearest(path: str) -> str:
    """The fields that were probably meant: as programs call it, elsewhere in a plan, or spelled nearly like it."""
    known = [p.removesuffix(".*") for p in plan_paths()]
    block, _, last = path.rpartition(".")
    common = field_of(last)  # as programs call it: `learning_rate`
    near = [common] if common else [p for p in known if p.rpartition(".")[2] == last]
    if not near:
        beside = {p.removeprefix(f"{block}."): p for p in known if block and p.startswith(f"{block}.")}
        top = {p.partition(".")[0]: p.partition(".")[0] for p in known}
        names = beside or top
        near = [names[name] for name in difflib.get_close_matches(last, list(names), n=2, cutoff=0.6)]
    if not near:
        ends = {p.rpartition(".")[2]: p for p in known}
        near = [ends[name] for name in difflib.get_close_matches(last, list(ends), n=2, cutoff=0.7)]
    found = [_as_written(p) for p in dict.fromkeys(near)][:3]
    return f" Did you mean {' or '.join(found)}?" if found else " docs/plan.md lists the fields."


def _as_written(path: str) -> str:
    """A path as a plan file has it: `lr` in `training`."""
    block, _, name = path.rpartition(".")
    return f"`{name}` in `{block}`" if block else f"`{name}`"


def _inside(path: str) -> list[str]:
    """The fields of a block that is always there."""
    return [p.removesuffix(".*").removeprefix(f"{path}.") for p in plan_paths() if p.startswith(f"{path}.")]


def _inside_of(path: str) -> list[str]:
    """The fields of a block that may be unset, or of each item of a list."""
    return _inside(path) or list(fields_in(path))
