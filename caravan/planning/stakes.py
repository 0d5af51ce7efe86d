"""What a wrong guess costs: the probability that it is wrong times what is lost then.

The loss is counted in runs: 1 is the whole training's GPU hours, to be spent again. Runs differ in size, but questions
are ranked within one, so that the size falls out. It knows no question.
"""

import math
from collections.abc import Sequence
from typing import Final

STUCK: Final = 2.0
"""There is no plan at all without an answer: more than any guess can cost."""
FAILED_START: Final = 0.15
"""The job fails in its first minutes: one of three attempts, the wait for room and the set-up once more."""
WASTED: Final = 1.0
"""It runs to its end and trains something else than was wanted: an unusable model, all GPU hours again."""
LOST: Final = 1.2
"""The model was right and is gone: all GPU hours again, after somebody has missed it."""
REDONE: Final = 0.5
"""Too short or too long: about half of the hours is for nothing, the rest is gone on from a checkpoint."""
DEARER: Final = 0.3
"""The right model for more time or money than need be: a third, as between neighbouring GPU types and counts."""
MOVED: Final = 0.1
"""Right and in the wrong place, or judged by the wrong number: mended in minutes, without a GPU."""

ASKED_ABOVE: Final = 0.02
"""What costs less on average isn't worth a person's minute."""


def cost(doubt: float, loss: float) -> float:
    """What a wrong guess costs on average, in runs. `doubt`: the probability that it is wrong, 0 to 1."""
    return round(min(1.0, max(0.0, doubt)) * loss, 4)


def doubt_of(confidence: float | None, otherwise: float) -> float:
    """The probability that what was found is wrong; `otherwise` where nobody says how sure it is."""
    return otherwise if confidence is None else 1.0 - confidence


def doubt_among(count: int) -> float:
    """The probability that one of several equally likely choices is the wrong one."""
    return 1.0 - 1.0 / max(1, count)


def doubt_by_score(scores: Sequence[float]) -> float:
    """The probability that the first of these is the wrong one; points of a score are taken as log-odds."""
    return 1.0 - 1.0 / sum(math.exp(min(0.0, score - scores[0])) for score in scores) if scores else 0.0
