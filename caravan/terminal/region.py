"""Rows at the bottom of a terminal that are drawn anew in their place, and lines that go up into the scrollback.

Only rows that changed are written, and nothing is erased before it is written over, so nothing flickers. (rich's Live
erases all rows before each picture, and loses count of them when the terminal is resized.) Rows never wrap: wrapping is
switched off while they are written, because a terminal may take a character to be wider than we do.

It knows nothing of runs; it writes ready rows and asks nobody for the size of the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

_HIDE: Final = "\x1b[?25l"
_SHOW: Final = "\x1b[?25h"
_WRAP_OFF: Final = "\x1b[?7l"
_WRAP_ON: Final = "\x1b[?7h"
_TO_END: Final = "\x1b[K"  # erase to the end of the line
_BELOW: Final = "\x1b[J"  # erase what is below


@dataclass(frozen=True)
class Row:
    """A row ready for the terminal: its text with colours, and its width in columns."""

    text: str
    cells: int


class Region:
    """The rows. The cursor rests, hidden, at the beginning of the last one."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._rows: list[Row] = []
        self._width = 0
        self._open = False

    def open(self) -> None:
        """Take the place below the cursor."""
        self._open = True
        self._rows = []
        self._write(_HIDE)

    def close(self) -> None:
        """Leave the terminal as it was: the rows are gone, the cursor can be seen."""
        if self._open:
            self._open = False
            up = self._height_above(self._width)
            self._rows = []
            self._write(f"\r{_up(up)}{_BELOW}{_WRAP_ON}{_SHOW}")

    def draw(self, rows: Sequence[Row], width: int, above: Sequence[str] = ()) -> None:
        """Show `rows` in place of those shown; `above` are lines that stay above them for good."""
        rows = list(rows)
        if above or width != self._width or len(rows) != len(self._rows):
            self._write(self._anew(rows, width, above))
        elif changed := self._changes(rows):
            self._write(changed)
        self._rows, self._width = rows, width

    def _anew(self, rows: list[Row], width: int, above: Sequence[str]) -> str:
        parts = ["\r", _up(self._height_above(width))]
        parts += [f"{line}{_TO_END}\r\n" for line in above]
        parts += [_WRAP_OFF, f"{_TO_END}\r\n".join(row.text for row in rows), _TO_END, _BELOW, _WRAP_ON, "\r"]
        return "".join(parts)

    def _changes(self, rows: list[Row]) -> str:
        parts = []
        at = last = len(rows) - 1
        for number, (old, new) in enumerate(zip(self._rows, rows, strict=True)):
            if old != new:
                parts.append(f"{_move(number - at)}\r{new.text}{_TO_END}")
                at = number
        return f"{_WRAP_OFF}{''.join(parts)}{_move(last - at)}{_WRAP_ON}\r" if parts else ""

    def _height_above(self, width: int) -> int:
        """Lines of the terminal between the first row and the last one's beginning.

        A terminal that became narrower has wrapped the rows that are now too long, as nearly all of them do.
        """
        narrower = 0 < width < self._width
        return sum(max(1, -(-row.cells // width)) if narrower else 1 for row in self._rows[:-1])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _up(lines: int) -> str:
    return f"\x1b[{lines}A" if lines else ""


def _move(lines: int) -> str:
    return f"\x1b[{lines}B" if lines > 0 else _up(-lines)
