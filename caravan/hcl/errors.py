"""Positions in HCL source, and what is wrong there, in Nomad's words.

Lines and columns count from 1; a column is one character as a person sees it, so a letter with its combining marks
is one. This module knows nothing of tokens, trees or jobs.
"""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from caravan.values.errors import JobRefused

SOURCE_NAME = "input.hcl"
"""The name under which Nomad's API reports positions in a job that was sent to it."""


class Position(NamedTuple):
    """A place in the source: line and column from 1, offset in characters from 0."""

    line: int
    column: int
    offset: int


class Span(NamedTuple):
    """From `start` up to but not including `end`."""

    start: Position
    end: Position

    def __str__(self) -> str:
        (line, column, _), (end_line, end_column, _) = self
        end = str(end_column) if line == end_line else f"{end_line},{end_column}"
        return f"{SOURCE_NAME}:{line},{column}-{end}"

    def to(self, other: "Span") -> "Span":
        """From this span's start to the other's end."""
        return Span(self.start, other.end)


def at(position: Position) -> Span:
    """The empty span at a position."""
    return Span(position, position)


class Problem(NamedTuple):
    """One thing that is wrong. `where` is None where Nomad names no place."""

    summary: str
    detail: str
    where: Span | None

    def __str__(self) -> str:
        return f"{self.where or '<nil>'}: {self.summary}; {self.detail}"


class HclError(JobRefused):
    """The text is no job.

    `message` is Nomad's own text, which its `/v1/jobs/parse` answers after "Failed to parse job: "; `source_line` and
    `source_column` say where the first problem is (0: nowhere in particular), `problems` are all that were found.
    """

    def __init__(self, message: str, *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        where = problems[0].where if problems else None
        self.source_line = where.start.line if where else 0
        self.source_column = where.start.column if where else 0
        self.problems = tuple(problems)


def refusal(problems: Sequence[Problem], text: str) -> HclError:
    """The error for these problems, `text` being what Nomad says of them."""
    return HclError(text, problems=problems)


def first_of(problems: Sequence[Problem]) -> str:
    """The first problem and how many more there are, as HCL prints a list of diagnostics."""
    if not problems:
        return "no diagnostics"
    more = f", and {len(problems) - 1} other diagnostic(s)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}"


def columns(text: str) -> int:
    """How many columns a text without line ends takes: characters less the marks that join the one before."""
    if text.isascii():
        return len(text)
    count, joined = 0, False
    for char in text:
        mark = (
            unicodedata.category(char) in ("Mn", "Me", "Mc") or char == "\u200d" or "\U0001f3fb" <= char <= "\U0001f3ff"
        )
        count += not (mark or joined) or count == 0
        joined = char == "\u200d"
    return count


def advance(position: Position, text: str) -> Position:
    """The position after a text that starts at `position`."""
    lines = text.count("\n")
    if not lines:
        return Position(position.line, position.column + columns(text), position.offset + len(text))
    return Position(position.line + lines, 1 + columns(text[text.rindex("\n") + 1 :]), position.offset + len(text))
