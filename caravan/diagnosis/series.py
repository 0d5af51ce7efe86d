"""Losses as a training prints them: one line's values, and what of a long series is worth keeping. Pure.

Shared by what boils a log down (`logtext.py`) and by the looks that judge a series (`looks.py`).
"""

import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from caravan.values.metric_names import QUALIFIED, joined

_NUMBER: Final = r"[-+]?(?:\d+(?:\.\d*)?(?:e[-+]?\d+)?|nan|inf(?:inity)?)"
# What follows the word: `loss=1.2`, `loss': nan`, `loss: 2.1E+00`, `loss/train 8.1`, `loss: tensor(nan, ...)`.
_VALUE: Final = re.compile(
    rf"(?P<rest>(?:es)?(?:[/_][\w/]{{0,60}})?)[\"']?\s{{0,40}}+[=:]?\s{{0,40}}+(?:tensor\(|[\"'])?(?P<value>{_NUMBER})(?![\w/%]|\s{{0,9}}->)"
)
_WORD: Final = "loss"
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_./-")
# What stands at infinity until something better comes, and what is a setting and no measurement.
_NO_MEASUREMENT: Final = re.compile(
    r"best|lowest|prev|(?<![a-z])min|init|thresh|scal|weight|coef|lambda|max|improved from", re.IGNORECASE
)
_BEFORE: Final = re.compile(rf"(?<![\w/-]){QUALIFIED}{{1,3}}\Z")
_LONGEST: Final = 4096  # characters of a line that are read
_NAME: Final = 60  # characters before the word that belong to a loss's name
_NAMES: Final = 3  # series that are followed; a program logs a few losses
HELD_OUT: Final = re.compile(r"val|eval|test|dev(?!i)", re.IGNORECASE)
"""Names of losses over data that is not trained on: where there is none, programs log a value that is no number."""
STRETCH: Final = 3  # values that make a level: one alone is noise


def losses(line: str) -> Iterator[tuple[str, float]]:
    """The losses of a line in small letters, as (name, value); a value may be nan or infinite."""
    line = line[:_LONGEST]
    place = line.find(_WORD)
    if "improved from" in line:
        return
    while place >= 0:
        match = _VALUE.match(line, place + len(_WORD))
        if match is not None and not line[place - 1 : place].isalpha():
            start = place
            while start and place - start < _NAME and line[start - 1] in _LETTERS:
                start -= 1
            name = line[start:place].lstrip("0123456789./-") + _WORD + match["rest"]
            if (said := _BEFORE.search(line, max(0, start - _NAME), start)) is not None:
                name = joined(said[0], name)  # `val loss` and `train loss` are two
            if name == _WORD or not _NO_MEASUREMENT.search(name):
                yield name, float(match["value"])
        place = line.find(_WORD, place + 1)


@dataclass
class _Track:
    """One loss: its lowest stretch, the first line that is no number, its last stretch."""

    lowest: tuple[tuple[float, int, str], ...] = ()
    level: float = math.inf
    lost: tuple[int, str] | None = None
    last: deque[tuple[float, int, str]] = field(default_factory=lambda: deque(maxlen=STRETCH))

    def add(self, value: float, number: int, line: str) -> None:
        """Take the next value."""
        self.last.append((value, number, line))
        if not math.isfinite(value):
            self.lost = self.lost or (number, line)
        elif len(self.last) == STRETCH and value < self.level:
            level = max(one[0] for one in self.last)
            if level < self.level:  # false where one of them is no number
                self.level = level
                self.lowest = tuple(self.last)


@dataclass
class Series:
    """What is kept of all losses while a log is read. `seen` counts the lines that held one."""

    seen: int = 0
    _tracks: dict[str, _Track] = field(default_factory=dict)

    def read(self, number: int, line: str, small: str) -> bool:
        """Take a line, also in small letters; whether it held a loss."""
        held = False
        for name, value in losses(small):
            held = True
            track = self._tracks.get(name)
            if track is None:
                if len(self._tracks) >= _NAMES:
                    continue
                track = self._tracks[name] = _Track()
            track.add(value, number, line)
        self.seen += held
        return held

    def lines(self) -> list[tuple[int, str]]:
        """The lines that tell how the losses went, by number and in order."""
        kept: dict[int, str] = {}
        for track in self._tracks.values():
            kept |= {number: line for _, number, line in (*track.lowest, *track.last)}
            if track.lost is not None:
                kept[track.lost[0]] = track.lost[1]
        return sorted(kept.items())
