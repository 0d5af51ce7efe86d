"""A series without end in a bounded place: of each stretch its lowest and its highest value stay. Pure."""

import math
from typing import Final, Generic, TypeVar

_BUCKETS: Final = 1024  # stretches of a series; each keeps up to three points

At = TypeVar("At")
_Point = tuple[int, At, float]  # its number in the series, where it is, its value


class _Stretch(Generic[At]):
    """The lowest, the highest and the first lost value of some neighbours."""

    __slots__ = ("high", "lost", "low")

    def __init__(self) -> None:
        self.low: _Point[At] | None = None
        self.high: _Point[At] | None = None
        self.lost: _Point[At] | None = None

    def add(self, point: _Point[At]) -> None:
        if not math.isfinite(point[2]):
            self.lost = self.lost or point
            return
        if self.low is None or point[2] < self.low[2]:
            self.low = point
        if self.high is None or point[2] > self.high[2]:
            self.high = point

    def points(self) -> list[_Point[At]]:
        kept = {point[0]: point for point in (self.low, self.high, self.lost) if point is not None}
        return [kept[number] for number in sorted(kept)]


class Thinned(Generic[At]):
    """Takes (where, value) one after the other. `seen` counts them.

    The stretches are equally long and grow: when there are too many, neighbours become one. A value that is no finite
    number is kept as such, one for each stretch. The first and the last value stay.
    """

    def __init__(self, stretches: int = _BUCKETS) -> None:
        self.seen = 0
        self._most = max(2, stretches)
        self._each = 1
        self._kept: list[_Stretch[At]] = []
        self._first: _Point[At] | None = None
        self._last: _Point[At] | None = None

    def add(self, at: At, value: float) -> None:
        """Take the next value."""
        point = (self.seen, at, value)
        if self.seen // self._each >= self._most:
            self._halve()
        if self.seen // self._each >= len(self._kept):
            self._kept.append(_Stretch())
        self._kept[-1].add(point)
        self._first = self._first or point
        self._last = point
        self.seen += 1

    def _halve(self) -> None:
        self._each *= 2
        merged: list[_Stretch[At]] = []
        for number, stretch in enumerate(self._kept):
            if number % 2 == 0:
                merged.append(stretch)
            else:
                for point in stretch.points():
                    merged[-1].add(point)
        self._kept = merged

    def points(self) -> list[tuple[At, float]]:
        """What is kept, in order: at most three points of each stretch, and the first and the last."""
        kept = {point[0]: point for stretch in self._kept for point in stretch.points()}
        kept |= {point[0]: point for point in (self._first, self._last) if point is not None}
        return [kept[number][1:] for number in sorted(kept)]
