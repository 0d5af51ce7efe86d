"""Which column plays which part, and what format rows have by that. Pure."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from caravan.values.training import DataFormat, TrainingType

NEEDED: Final[Mapping[DataFormat, tuple[str, ...]]] = {
    DataFormat.CHAT: ("messages",),
    DataFormat.INSTRUCTION: ("prompt", "completion"),
    DataFormat.TEXT: ("text",),
    DataFormat.CLASSIFICATION: ("text", "label"),
    DataFormat.PAIRS: ("anchor", "positive"),
    DataFormat.IMAGES: ("image", "label"),
}
"""The parts that rows of a format must have."""
MAY: Final[Mapping[DataFormat, tuple[str, ...]]] = {
    DataFormat.INSTRUCTION: ("input",),
    DataFormat.CLASSIFICATION: ("pair",),
    DataFormat.PAIRS: ("negative",),
}
"""The parts that they may have."""
# Names of columns where no training type says them: those under which public data sets have them.
USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "messages": ("messages", "conversations", "conversation"),
    "prompt": ("prompt", "instruction", "question"),
    "input": ("input",),
    "completion": ("completion", "output", "response", "answer"),
    "text": ("text", "content", "sentence"),
    "label": ("label", "labels", "class", "category"),
    "anchor": ("anchor", "query", "sentence1"),
    "positive": ("positive", "pos", "sentence2"),
    "negative": ("negative", "neg", "hard_negative"),
    "image": ("image", "file_name", "path"),
}
_ALSO: Final[Mapping[str, tuple[str, ...]]] = {"prompt": ("instruction",), "completion": ("output",)}
_PART_OF: Final[Mapping[str, str]] = {also: part for part, names in _ALSO.items() for also in names}
_ORDER: Final = (
    *(DataFormat.CHAT, DataFormat.PAIRS, DataFormat.INSTRUCTION, DataFormat.IMAGES, DataFormat.CLASSIFICATION),
    DataFormat.TEXT,
)


@dataclass(frozen=True)
class Parts:
    """A format, the column of each of its parts, and the parts for which there is none."""

    format: DataFormat | None
    columns: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def parts_of(
    columns: Sequence[str],
    kind: TrainingType | None,
    wanted: DataFormat | None = None,
    named: Mapping[str, str] | None = None,
) -> Parts:
    """The format that the columns make: the wanted one, or the first of the type's whose parts are all there.

    `named`: the column of a part as a person says it. Where no format fits, the one that lacks the fewest parts.
    """
    formats = (wanted,) if wanted else kind.formats if kind else _ORDER
    said = {_PART_OF.get(part, part): name for part, name in (named or {}).items()}
    tried = [_tried(each, columns, kind, said) for each in formats]
    return min(tried, key=lambda parts: _far(parts, columns, kind, said)) if tried else Parts(None)


def _far(parts: Parts, columns: Sequence[str], kind: TrainingType | None, named: Mapping[str, str]) -> int:
    """How much of a format is not there: a part to which a column is near by its name counts for a third.

    A part that a person names and the format has not counts like one that is not there.
    """
    free = [c for c in columns if c not in parts.columns.values()]
    lacking = sum(3 - 2 * (nearest(named.get(part, part), free, kind) is not None) for part in parts.missing)
    return lacking and lacking + 3 * len(set(named) - set(_all_of(parts.format)))


def _all_of(wanted: DataFormat | None) -> tuple[str, ...]:
    return (*NEEDED[wanted], *MAY.get(wanted, ())) if wanted else ()


def not_there(columns: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """Part → column, of those that a person names and that are none of the columns."""
    return {part: name for part, name in named.items() if name not in columns}


def _tried(wanted: DataFormat, columns: Sequence[str], kind: TrainingType | None, named: Mapping[str, str]) -> Parts:
    found: dict[str, str] = {}
    missing = []
    for part in _all_of(wanted):
        name = named.get(part) or _column(part, columns, kind, taken=found.values())
        if name and name in columns:
            found[part] = name
        elif part in NEEDED[wanted]:
            missing.append(part)
    if wanted is DataFormat.PAIRS and kind is not None and not found and not named and len(columns) == len(missing):
        return Parts(wanted, dict(zip(missing, columns, strict=True)))  # as the scripts read two columns without names
    return Parts(wanted, found, tuple(missing))


def names_of(part: str, kind: TrainingType | None) -> tuple[str, ...]:
    """The names under which a part is known."""
    if kind is None or not any(name in kind.columns for name in (part, *_ALSO.get(part, ()))):
        return USUAL.get(part, (part,))
    return tuple(dict.fromkeys(n for name in (part, *_ALSO.get(part, ())) for n in kind.columns.get(name, ())))


def _column(part: str, columns: Sequence[str], kind: TrainingType | None, taken: Iterable[str]) -> str | None:
    used = set(taken)
    free = [c for c in columns if c not in used]
    for name in names_of(part, kind):
        if name in free:
            return name
    small = {c.lower().strip(): c for c in reversed(free)}
    return next((small[name] for name in names_of(part, kind) if name in small), None)


def nearest(name: str, columns: Iterable[str], kind: TrainingType | None = None) -> str | None:
    """The column that was probably meant: by spelling, of the part's names each."""
    there = {str(c).lower(): str(c) for c in columns}
    for known in (name, *names_of(name, kind)):
        close = difflib.get_close_matches(known.lower(), there, n=1, cutoff=0.75)
        if close:
            return there[close[0]]
    return None


def some(columns: Iterable[str], most: int = 8) -> str:
    """Columns for a person, few of them."""
    names = [str(c)[:60] for c in columns]
    return ", ".join(names[:most]) + (", …" if len(names) > most else "") or "none"
