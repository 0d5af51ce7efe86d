"""Whether a candidate is better than the current prompt: the difference on the same held-out cases, with its interval.

Two witnesses, both over groups of like cases, because cases of a group are no independent ones: a percentile bootstrap
(B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979) says how large the
difference is; a sign-flip test (R. A. Fisher, "The Design of Experiments", 1935, section 21) how often chance alone
gives as much. The first is too sure with few groups, the second is exact with any number. Pure.
"""

import random
from collections.abc import Sequence
from typing import Final

from caravan.values.optimization import Interval

RESAMPLES: Final = 10_000
CHANCE: Final = 0.025
"""Chance alone may give a difference that counts as better so often: the tail above a 95 % interval."""
_CONFIDENCE: Final = 0.95
_EXACT: Final = 16  # groups that differ: up to here all 2**n signs are gone through, beyond it signs are drawn
_SAME: Final = 1e-9  # sums of scores that differ by less are equal


def compared(current: Sequence[float], candidate: Sequence[float], groups: Sequence[str], *, seed: int) -> Interval:
    """The mean difference of scores on the same cases, the interval that holds 95 % of the resampled ones, and chance.

    All three in the cases' order; a case's group is one of `groups`.
    """
    by_group: dict[str, list[float]] = {}
    for before, after, group in zip(current, candidate, groups, strict=True):
        by_group.setdefault(group, []).append(after - before)
    rows = list(by_group.values())
    difference = _mean_of(rows)
    drawn = random.Random(f"compare:{seed}")  # noqa: S311
    found = sorted(_mean_of(drawn.choices(rows, k=len(rows))) for _ in range(RESAMPLES))
    tail = (1 - _CONFIDENCE) / 2
    return Interval(
        difference=round(difference, 6),
        low=round(found[int(tail * RESAMPLES)], 6),
        high=round(found[int((1 - tail) * RESAMPLES) - 1], 6),
        confidence=_CONFIDENCE,
        chance=chance([sum(row) for row in rows], seed=seed),
    )


def chance(sums: Sequence[float], *, seed: int) -> float:
    """How often the sum is as high as it is, or higher, where nothing but chance gives each of `sums` its sign.

    Where both prompts are as good, their scores of a group could as well be exchanged: each sign is as likely as the
    other. Exact up to 16 sums that are not zero; beyond, by 10 000 drawn signs, with what was seen counted as one of
    them, so that it is never too low.
    """
    flipped = [size for size in map(abs, sums) if size > _SAME]
    least = sum(sums) - _SAME
    if len(flipped) <= _EXACT:
        every = [0.0]
        for size in flipped:
            every = [total + signed for total in every for signed in (size, -size)]
        return sum(total >= least for total in every) / len(every)
    drawn = random.Random(f"chance:{seed}")  # noqa: S311
    totals = (sum(size if drawn.random() < 0.5 else -size for size in flipped) for _ in range(RESAMPLES))
    return (1 + sum(total >= least for total in totals)) / (1 + RESAMPLES)


def is_better(interval: Interval) -> bool:
    """Whether the candidate is better: the whole interval is above nothing at all, and chance seldom gives as much."""
    return interval.low > 0 and interval.chance <= CHANCE


def _mean_of(rows: Sequence[Sequence[float]]) -> float:
    return sum(sum(row) for row in rows) / sum(len(row) for row in rows)
