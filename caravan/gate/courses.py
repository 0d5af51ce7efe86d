"""How a figure went over a training: its values in order, what of them is noise, levels of parts. Pure arithmetic.

Rows are what a log's lines told, in order. Programs that began again in the same log tell some of it twice.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Final

_NORMAL: Final = 1.4826  # from a median absolute deviation to a standard deviation, of normal noise
MEDIAN_COST: Final = 1.2533  # a median's standard error over a mean's, sqrt(pi / 2), of normal noise
STEPS: Final = ("global_step", "step", "steps", "iteration", "iter")
_SUMMARY: Final = ("train_runtime", "training_time")
"""A row with one of these is told at the end: its training loss is a mean of the whole course."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value, with the step and the epoch that its row names; None where it names none."""

    value: float
    step: float | None = None
    epoch: float | None = None

    @property
    def place(self) -> str:
        """Where it was, in words; empty where that is not known."""
        if self.epoch is not None:
            return f"epoch {self.epoch:.4g}"
        return f"step {self.step:.0f}" if self.step is not None else ""


Course = tuple[Point, ...]


def course(rows: Iterable[Mapping[str, float]], name: str) -> Course:
    """The finite values of a figure. What a training told before it went back to an earlier place is left out."""
    points: list[Point] = []
    step: float | None = None
    epoch: float | None = None
    for row in rows:
        step = next((row[one] for one in STEPS if math.isfinite(row.get(one, math.nan))), step)
        epoch = row["epoch"] if math.isfinite(row.get("epoch", math.nan)) else epoch
        value = row.get(name, math.nan)
        if not math.isfinite(value) or any(one in row for one in _SUMMARY):
            continue
        now = Point(value, step, epoch)
        while points and _went_back(points[-1], now):
            points.pop()
        points.append(now)
    return tuple(points)


def of_the_training(rows: Sequence[Mapping[str, float]], name: str) -> Course:
    """The course of a training's own figure, without what was told before its first step: another loop's, such as the
    one that made the base model. Such rows name no step and no epoch, though most of the figure's later ones do; or
    they count steps of their own, and once, before most of the values, the count begins anew.
    """
    places = [n for n, row in enumerate(rows) if math.isfinite(row.get(name, math.nan))]
    named = [n for n in places if _names_its_place(rows[n])]
    points = course(rows[named[0] :] if len(named) > len(places) / 2 else rows, name)
    anew = [n for n, (a, b) in enumerate(pairwise(points), 1) if (b.step or 0) < (a.step or 0) and b.epoch is None]
    if len(anew) == 1 and anew[0] <= len(points) / _FEW and not begins_late(points[anew[0] :]):
        return points[anew[0] :]
    return points


_FEW: Final = 4
"""Values before the steps begin anew are another loop's where they are at most one in so many: of epochs that count
their steps anew, the first is no shorter than those that follow."""


def _names_its_place(row: Mapping[str, float]) -> bool:
    return any(math.isfinite(row.get(one, math.nan)) for one in (*STEPS, "epoch"))


def _went_back(before: Point, now: Point) -> bool:
    """Whether a training that began again stands before the place: by epochs, else by steps. Steps that are counted
    anew in each epoch go back as well, and only to the first ones: they are no new beginning where epochs are told.
    """
    if before.epoch is not None and now.epoch is not None and before.epoch != now.epoch:
        return now.epoch < before.epoch
    return before.step is not None and now.step is not None and before.epoch is not None and now.step < before.step


def begins_late(points: Course) -> bool:
    """Whether the first value is far behind what a beginning is: later than two of the usual distances and a step.

    So it is where a training went on from a checkpoint, or where the log's beginning was not read.
    """
    for places in ([p.step for p in points], [p.epoch for p in points]):
        known = [place for place in places if place is not None]
        ahead = [b - a for a, b in pairwise(known) if b > a]
        if len(known) == len(points) and ahead:
            return known[0] > 2 * median(ahead) + 1
    return False


def first_window(points: Course) -> float:
    """How many times as many steps as the first value the later ones may be means of; 1.0 where nothing says so.

    Programs that log every 50 steps log the first one as well: its value is of one batch, and noisier than means of 50.
    An epoch of 0.0 among fractions is one that was rounded to hundredths.
    """
    for places, least in (([p.step for p in points], 0.0), ([p.epoch for p in points], 0.005)):
        known = [place for place in places if place is not None]
        ahead = [b - a for a, b in pairwise(known) if b > a]
        if len(known) == len(points) and ahead:
            usual = median(ahead)
            first = known[0] or (least if usual < 1 else 0.0)
            return max(1.0, usual / first) if first > 0 else 1.0
    return 1.0


def noise(values: Sequence[float]) -> float:
    """The standard deviation of the noise around a trend: from how far each value lies off the line between its
    neighbours (T. Gasser, L. Sroka, C. Jennen-Steinmetz, Biometrika 73, 1986), by the median of these, so that jumps
    don't count. 0.0 of fewer than four values.
    """
    if len(values) < 4:
        return 0.0
    off = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return _NORMAL * median(off) / math.sqrt(6)


def above(values: Sequence[float], others: Sequence[float]) -> float:
    """By how many standard errors more of the values lie above the others than chance would have it, by their ranks
    alone (H. Mann, D. Whitney, Annals of Mathematical Statistics 18, 1947). 0.0 where there are none.
    """
    if not values or not others:
        return 0.0
    ordered, pairs = sorted(others), len(values) * len(others)
    larger = sum((bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in values)
    return (larger - pairs / 2) / math.sqrt(pairs * (len(values) + len(others) + 1) / 12)


def smooth(values: Sequence[float]) -> tuple[float, ...]:
    """Medians of three neighbours, and the last as it is where that is lower; fewer than eight values as they are.

    Lower is better: a figure of which more is better is given negated.
    """
    if len(values) < MANY:
        return tuple(values)
    inner = (median(values[n - 1 : n + 2]) for n in range(1, len(values) - 1))
    return (values[0], *inner, min(values[-1], median(values[-3:])))


MANY: Final = 8
"""Values from which on a single one is not taken as it is."""


def told(number: float) -> str:
    """A number for people."""
    return f"{number:.4g}"
