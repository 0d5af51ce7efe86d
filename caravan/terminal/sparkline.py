"""A series of figures as a line of bars, and the bounded memory of a long series. Pure, standard library only."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BARS: Final = "▁▂▃▄▅▆▇█"
ASCII_BARS: Final = "_.-~=+*#"
LOST: Final = "×"
ASCII_LOST: Final = "x"
"""Stands for a stretch in which a value was no finite number."""

_KEPT: Final = 4096  # values of a series that are kept; more than any terminal has columns


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """`values` as at most `width` characters: the lowest finite value the lowest bar, the highest the highest.

    A longer series is resampled: each column is the mean of an equal stretch, so that the line keeps its shape. A
    stretch with a value that is nan or infinite is marked as such and never drawn as a height. All values alike give
    a flat line in the middle. Nothing gives nothing.
    """
    bars, lost = (ASCII_BARS, ASCII_LOST) if ascii_only else (BARS, LOST)
    columns = resample(values, width)
    heights = [v for v in columns if math.isfinite(v)]
    if not heights:
        return lost * len(columns)
    low, high = min(heights), max(heights)
    return "".join(bars[_level(v, low, high, len(bars))] if math.isfinite(v) else lost for v in columns)


def resample(values: Sequence[float], width: int) -> list[float]:
    """At most `width` values: means of equal stretches, nan where a stretch has a value that is not finite."""
    if width <= 0:
        return []
    count = len(values)
    if count <= width:
        return list(values)
    edges = [i * count // width for i in range(width + 1)]
    return [_mean(values[a:b]) for a, b in itertools.pairwise(edges)]


def _mean(values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        return math.nan
    mean = sum(v / len(values) for v in values)  # divided first: the sum of large values would overflow
    return min(max(mean, min(values)), max(values))  # rounded parts, of tiny values above all, may lead out of them


def _level(value: float, low: float, high: float, levels: int) -> int:
    if high == low:
        return levels // 2 - 1
    half = high / 2 - low / 2  # halves, because the difference of large values would overflow
    if half == 0:
        return levels // 2 - 1
    share = (value / 2 - low / 2) / half
    return min(levels - 1, max(0, int(share * levels)))


class Series:
    """A series that may grow without end: when it is full, neighbours are joined to their mean.

    `last`, `lowest` and `highest` are exact; the last two are of the finite values, None before the first.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = max(2, kept - kept % 2)
        self._values: list[float] = []
        self._open: list[float] = []
        self._stride = 1
        self.count = 0
        self.last = math.nan
        self.lowest: float | None = None
        self.highest: float | None = None

    def add(self, value: float) -> None:
        """The next value; it may be nan or infinite."""
        self.count += 1
        self.last = value
        if math.isfinite(value):
            self.lowest = value if self.lowest is None else min(self.lowest, value)
            self.highest = value if self.highest is None else max(self.highest, value)
        self._open.append(value)
        if len(self._open) == self._stride:
            self._values.append(_mean(self._open))
            self._open = []
        if len(self._values) == self._kept:
            self._values = resample(self._values, self._kept // 2)
            self._stride *= 2

    def values(self) -> list[float]:
        """What is kept, oldest first; the last is the mean of what came since."""
        return [*self._values, _mean(self._open)] if self._open else list(self._values)
