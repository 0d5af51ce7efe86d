"""Student's t for a handful of runs: its distribution, Welch's test, and one run beside several.

Written out because this is all that would be used of SciPy. Checked in the tests against published tables.
Sources: the incomplete beta function by its continued fraction (DLMF 8.17.22, evaluated by Lentz's method, Numerical
Recipes 3rd ed. 6.4); Welch (1947) Biometrika 34:28 with Satterthwaite's (1946) degrees of freedom; one value beside a
sample: Sokal and Rohlf (1995), Crawford and Howell (1998) The Clinical Neuropsychologist 12:482; Holm (1979) Scand. J.
Statist. 6:65.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

_TINY: Final = 1e-300
_STEPS: Final = 500
_CLOSE: Final = 1e-15


class Difference(NamedTuple):
    """The difference of two means: its confidence interval, degrees of freedom and two-sided p-value."""

    value: float
    low: float
    high: float
    df: float
    p: float
    method: str


WELCH: Final = "Welch's t-test"
ONE_RUN: Final = "t-test of one run beside several, whose spread it is taken to have"
EXACT: Final = "no spread at all over seeds"


def beta_share(a: float, b: float, x: float) -> float:
    """The regularized incomplete beta function I_x(a, b), 0 ≤ x ≤ 1, a, b > 0."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )  # symmetric in (a, x) and (b, 1 - x)
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    h = d
    for m in range(1, _STEPS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = 1 + term / c
            c = c if abs(c) > _TINY else _TINY
            h *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return h


def two_sided(t: float, df: float) -> float:
    """The probability that |T| is at least |t|, for Student's T with `df` > 0 degrees of freedom."""
    if math.isinf(t):
        return 0.0
    return beta_share(df / 2, 0.5, df / (df + t * t))


def quantile(confidence: float, df: float) -> float:
    """The t that |T| stays below with the given probability (0.95: 12.706 at one degree of freedom)."""
    low, high = 0.0, 1.0
    while two_sided(high, df) > 1 - confidence:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if two_sided(middle, df) > 1 - confidence else (low, middle)
    return (low + high) / 2


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample (n - 1); None of fewer than two values. Equal values have exactly 0."""
    if len(values) < 2:
        return None
    if min(values) == max(values):
        return 0.0
    middle = mean(values)
    return math.sqrt(math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1))


def difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference | None:
    """How far the second's mean is from the first's; None where neither has two values: then no spread is known."""
    a, b = deviation(first), deviation(second)
    n, m = len(first), len(second)
    value = mean(second) - mean(first)
    if a is not None and b is not None:
        one, other = a * a / n, b * b / m
        error, method = math.sqrt(one + other), WELCH
        share = one / (one + other) if error else 0.5
        df = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (m - 1))
    elif a is not None or b is not None:
        spread, count = (a, n) if a is not None else (b, m)
        error, df, method = (spread or 0.0) * math.sqrt(1 + 1 / count), float(count - 1), ONE_RUN
    else:
        return None
    if error == 0:  # a computer that repeats itself to the bit: any difference is one
        return Difference(value, value, value, df, 1.0 if value == 0 else 0.0, EXACT)
    reach = quantile(confidence, df) * error
    return Difference(value, value - reach, value + reach, df, two_sided(value / error, df), method)


def seeds_that_tell(value: float, spread: float, confidence: float = 0.95, most: int = 1000) -> int | None:
    """How many seeds each of two groups needs for a difference to be outside of the noise, if it and the spread stay.

    The smallest n with t(2n - 2) · spread · √(2/n) below the difference; None: more than `most`.
    """
    for n in range(2, most + 1):
        if quantile(confidence, 2 * n - 2) * spread * math.sqrt(2 / n) < abs(value):
            return n
    return None


def shown_with(n: int, confidence: float = 0.95) -> float:
    """The smallest difference that `n` ≥ 2 seeds each show, as a multiple of the spread over seeds."""
    return quantile(confidence, 2 * n - 2) * math.sqrt(2 / n)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """The p-values as they count where so many differences are looked at together, in their order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        found[index] = highest
    return tuple(found)
