"""The lines by which the launch script says in a task's log which of its phases begins or ends. Pure.

A training may print whatever it likes, such a line too, and may read all that its log holds so far. So each mark shows
a token that nobody knows before it stands there: the launch script draws a random one, the last mark's; each mark's
token is the digest of the next one's, and the digest of the first mark's token is printed as the script begins, before
any program of others. A mark counts when its token leads to that head, and when no later one was seen: tokens that
were printed once say nothing again.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

_DIGITS: Final = 32  # of a token: 128 bits
_HEX: Final = "[0-9a-f]" * _DIGITS


class Mark(StrEnum):
    """What a mark says, in the order in which marks can stand in a log."""

    STEPS_BEGIN = "first steps begin"
    STEPS_OVER = "first steps are over"
    EVALUATION_BEGINS = "evaluation begins"
    EVALUATION_OVER = "evaluation is over"

    @property
    def number(self) -> int:
        """Its place in the order, from 1 on: how often its token is digested to come to the head."""
        return _ORDER.index(self) + 1

    @property
    def begins(self) -> bool:
        """Whether what follows is no part of the training itself."""
        return self in (Mark.STEPS_BEGIN, Mark.EVALUATION_BEGINS)


_ORDER: Final = tuple(Mark)
_HEAD: Final = re.compile(rf"caravan: marks ({_HEX})\s*")
_MARK: Final = re.compile(rf"caravan: ({'|'.join(_ORDER)}) ({_HEX})\s*")
_EITHER: Final = re.compile(rf"caravan: (?:marks|{'|'.join(_ORDER)}) {_HEX}")
_HEAD_LINE: Final = re.compile(rb"^caravan: marks [0-9a-f]{32}\r?\n", re.MULTILINE)
_TOKEN: Final = re.compile(rf"^(caravan: (?:{'|'.join(_ORDER)})) {_HEX}(?=\r?$)".encode(), re.MULTILINE)


def digested(token: str) -> str:
    """The token of the mark before: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(token.encode("ascii")).hexdigest()[:_DIGITS]


def marks(last: str) -> tuple[str, dict[Mark, str]]:
    """The head's line and each mark's, made of the last mark's token, as the launch script makes them."""
    lines, token = {}, last
    for mark in reversed(_ORDER):
        lines[mark] = f"caravan: {mark} {token}"
        token = digested(token)
    return f"caravan: marks {token}", {mark: lines[mark] for mark in _ORDER}


def head_of(line: str) -> str:
    """The digest that a head's line tells; empty of any other line."""
    found = _HEAD.fullmatch(line)
    return found[1] if found else ""


def is_marked(line: str) -> bool:
    """Whether a line has the form of a head or of a mark, whoever wrote it. Such a line holds no secret."""
    return _EITHER.fullmatch(line) is not None


def plainly(line: str) -> str:
    """A line as a person is shown it: a mark without its token, and nothing of a head."""
    if not is_marked(line):
        return line
    return "" if head_of(line) else line.rpartition(" ")[0]


def without_tokens(log: bytes) -> bytes:
    """A log's text with its marks as a person is shown them, and without its head."""
    return _TOKEN.sub(rb"\1", _HEAD_LINE.sub(b"", log))


class Series:
    """The lines of one task's log, of one stream, that tell of the training itself: what its first steps on scratch
    wrote is left out, and what the evaluation behind it wrote, and the marks.

    `heads`: those of the logs that the lines are from, where they begin in the midst of one. Without any, the first
    head among the lines is it, and every later one is a program's own words. `last` is the last mark so far.
    """

    def __init__(self, heads: Iterable[str] = ()) -> None:
        self._heads = {head: 0 for head in heads if head}
        self._apart = False
        self.last: Mark | None = None

    def of(self, lines: Iterable[str]) -> Iterator[str]:
        """Those of the next lines that belong to the training."""
        for line in lines:
            if line.startswith("caravan: ") and self._is_ours(line):
                continue
            if not self._apart:
                yield line

    def _is_ours(self, line: str) -> bool:
        """Whether the launch script wrote that line; what it says is taken to heart."""
        if head := head_of(line):
            if not self._heads:
                self._heads[head] = 0
            return head in self._heads
        found = _MARK.fullmatch(line)
        if found is None:
            return False
        mark, token = Mark(found[1]), found[2]
        head = token
        for _ in range(mark.number):
            head = digested(head)
        if self._heads.get(head, mark.number) >= mark.number:
            return False
        self._heads[head] = mark.number
        self.last = mark
        self._apart = mark.begins
        return True
