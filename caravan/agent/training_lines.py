"""What the copies of a task's logs tell of the training itself: without its first steps, without its evaluation.

What a log means is not known here, nor what a metric is.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from caravan.values.log_marks import Mark, Series, head_of

_PART: Final = re.compile(r"\.(\d{6})\.log$")
_FIRST: Final = 1 << 16  # bytes of a log in which its head stands: before it only an image can have written
_STRETCH: Final = 1 << 20


def by_log(files: Iterable[Path]) -> tuple[tuple[Path, ...], ...]:
    """Copies, grouped by the log that they are parts of, in the order that they are given in."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(log_of(file), []).append(file)
    return tuple(tuple(parts) for parts in found.values())


def log_of(file: Path) -> str:
    """The name of the log that a copy is of, or a part of."""
    return _PART.sub(".log", file.name)


def head_in(file: Path) -> str:
    """The head of the log's marks; empty where it has none. Raises OSError."""
    with file.open("rb") as stream:
        lines = stream.read(_FIRST).decode("utf-8", "replace").split("\n")
    return next((head for line in lines if (head := head_of(line))), "")


def of_training(text: str) -> str:
    """The text of one whole log without what first steps and evaluation wrote."""
    return "\n".join(Series().of(text.splitlines()))


def training_end(parts: Sequence[Path], limit: int) -> tuple[bytes, bool]:
    """The last `limit` bytes of what the training wrote into one log, whose copy has these parts; and whether there
    was more. Raises OSError.

    All of the copy is read: which lines are the training's is said by lines that may stand far before the end.
    """
    kept: list[bytes] = []
    size, cut, series = 0, False, Series()
    for lines in _stretches(parts):
        mine = "\n".join(series.of(line.decode("utf-8", "surrogateescape") for line in lines))
        kept.append(mine.encode("utf-8", "surrogateescape"))
        size += len(kept[-1]) + 1
        while size - len(kept[0]) - 1 >= limit:
            size -= len(kept.pop(0)) + 1
            cut = True
    data = b"\n".join(kept)
    missing = any(part[1] == "000000" for file in parts if (part := _PART.search(file.name)))
    return data[-limit:], cut or len(data) > limit or missing


def ended_in_evaluation(parts: Sequence[Path]) -> bool:
    """Whether a log's copy ends in the evaluation behind the training, which had ended well then. Raises OSError."""
    series = Series()
    for lines in _stretches(parts):
        for _ in series.of(line.decode("utf-8", "replace") for line in lines):
            pass
    return series.last is Mark.EVALUATION_BEGINS


def _stretches(parts: Sequence[Path]) -> Iterable[list[bytes]]:
    """The lines of a copy's parts, many at once: what is between them is the same for any number."""
    rest = b""
    for file in parts:
        with file.open("rb") as stream:
            while piece := stream.read(_STRETCH):
                *lines, rest = (rest + piece).split(b"\n")
                yield lines
    if rest:
        yield [rest]
