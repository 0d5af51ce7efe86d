"""Files of exported lessons, read line by line: what can't be taken in is said with its line, the rest goes on."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caravan.terminal.text import one_line
from caravan.values.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from caravan.ports import Memory
    from caravan.values.base import Json

_LONGEST: Final = 1 << 20  # characters of a line; a lesson has about a thousand


@dataclass
class Taken:
    """What came of an import: how many lessons were new or merged, and the refused lines with the reasons."""

    new: int = 0
    merged: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


@contextmanager
def numbered_lines(file: str, stdin: TextIO) -> Iterator[Iterator[tuple[int, str | None]]]:
    """The lines of a file (`-`: of `stdin`), numbered from 1; None for one that is too long. Raises UsageError."""
    try:
        if file == "-":
            yield _numbered(stdin)
        else:
            with Path(file).open(encoding="utf-8", errors="replace") as stream:
                yield _numbered(stream)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{one_line(file)} can't be read ({reason}).", hint="Name a file of exported lessons."
        ) from error


def _numbered(stream: TextIO) -> Iterator[tuple[int, str | None]]:
    number = 0
    while line := stream.readline(_LONGEST):
        number += 1
        whole = line.endswith("\n") or len(line) < _LONGEST
        while not whole:
            rest = stream.readline(_LONGEST)
            whole = rest.endswith("\n") or len(rest) < _LONGEST
            line = ""
        yield number, line or None


def take_in(lines: Iterable[tuple[int, str | None]], memory: Memory) -> Taken:
    """Restore each line's lesson. Raises ServiceError where the memory can't be used, saying how far it came."""
    taken = Taken()
    for number, line in lines:
        if line is not None and not line.strip():
            continue
        try:
            if memory.restore(_record(line)):
                taken.new += 1
            else:
                taken.merged += 1
        except UsageError as error:
            taken.refused.append((number, error.line()))
        except ServiceError as error:
            done = f"The lines before line {number} were taken in; importing the file again goes on."
            raise ServiceError(f"{error.message} {done}", hint=error.hint) from error
    return taken


def _record(line: str | None) -> Json:
    if line is None:
        raise UsageError(f"It is longer than {_LONGEST} characters.")
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError("It is no JSON.") from error


def _refuse(name: str) -> None:
    raise ValueError(name)
