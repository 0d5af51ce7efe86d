"""Student's t: against published tables, by its own definition, and Welch's test on a worked example."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.runs.student import (
    EXACT,
    ONE_RUN,
    WELCH,
    beta_share,
    deviation,
    difference,
    holm,
    mean,
    quantile,
    seeds_that_tell,
    shown_with,
    two_sided,
)

# NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, upper critical values of Student's t.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 8: 2.306, 10: 2.228, 30: 2.042, 100: 1.984}
HARDER = {1: 63.657, 2: 9.925, 3: 5.841, 5: 4.032, 10: 3.169}


@pytest.mark.parametrize(("df", "value"), TABLE.items())
def test_the_quantiles_are_those_of_the_table(df: int, value: float) -> None:
    assert quantile(0.95, df) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize(("df", "value"), HARDER.items())
def test_those_of_99_percent_too(df: int, value: float) -> None:
    assert quantile(0.99, df) == pytest.approx(value, abs=6e-4)


def test_with_many_degrees_of_freedom_it_is_the_normal_distribution() -> None:
    assert quantile(0.95, 1e7) == pytest.approx(1.959964, abs=1e-5)


def test_closed_forms_of_one_and_two_degrees_of_freedom() -> None:
    for t in (0.1, 1.0, 3.0, 40.0):
        assert two_sided(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-10)
        assert two_sided(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)


@given(st.floats(0.5, 60), st.floats(0.5, 60), st.floats(0.001, 0.999))
def test_the_beta_function_is_symmetric_and_a_share(a: float, b: float, x: float) -> None:
    found = beta_share(a, b, x)
    assert -1e-12 <= found <= 1 + 1e-12
    assert found == pytest.approx(1 - beta_share(b, a, 1 - x), abs=1e-10)


@given(st.floats(0.6, 0.999), st.floats(1, 200))
def test_the_quantile_is_where_the_share_is_left(confidence: float, df: float) -> None:
    assert two_sided(quantile(confidence, df), df) == pytest.approx(1 - confidence, rel=1e-6)


def test_welch_on_a_worked_example() -> None:
    # By hand: means 20.8 and 23, variances 6.7 and 2 of five and four values.
    first, second = [18.0, 20.0, 24.0, 19.0, 23.0], [21.0, 23.0, 24.0, 24.0]
    found = difference(first, second)
    assert found is not None
    one, other = 6.7 / 5, 2.0 / 4
    assert found.value == pytest.approx(23.0 - 20.8)
    assert found.df == pytest.approx((one + other) ** 2 / (one**2 / 4 + other**2 / 3))
    assert found.high - found.value == pytest.approx(quantile(0.95, found.df) * math.sqrt(one + other))
    assert found.method == WELCH


def test_one_run_beside_several_takes_their_spread() -> None:
    found = difference([1.0, 2.0, 3.0], [7.0])
    assert found is not None
    assert (found.method, found.df) == (ONE_RUN, 2)
    assert found.high - found.value == pytest.approx(quantile(0.95, 2) * 1.0 * math.sqrt(4 / 3))
    other = difference([7.0], [1.0, 2.0, 3.0])
    assert other is not None
    assert other.value == -found.value
    assert other.p == pytest.approx(found.p)


def test_one_run_each_tells_no_spread() -> None:
    assert difference([1.0], [2.0]) is None


def test_runs_that_are_the_same_to_the_bit_have_no_noise() -> None:
    found = difference([0.1, 0.1, 0.1], [0.3, 0.3])
    assert found is not None
    assert (found.method, found.p) == (EXACT, 0.0)
    same = difference([0.1, 0.1], [0.1, 0.1])
    assert same is not None
    assert same.p == 1.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
def test_the_interval_holds_zero_just_where_p_is_above_five_percent(a: list[float], b: list[float]) -> None:
    found = difference(a, b)
    assert found is not None
    if abs(found.p - 0.05) > 1e-9:
        assert (found.low <= 0 <= found.high) == (found.p > 0.05)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6))
def test_mean_and_deviation_are_the_sample_s(values: list[float]) -> None:
    import statistics

    found = deviation(values)
    assert found is not None
    assert found == pytest.approx(statistics.stdev(values), abs=1e-9)
    assert mean(values) == pytest.approx(statistics.fmean(values), abs=1e-9)


def test_how_many_seeds_would_tell() -> None:
    assert shown_with(2) == pytest.approx(4.303, abs=1e-3)
    assert shown_with(5) == pytest.approx(2.306 * math.sqrt(2 / 5), abs=1e-3)
    assert seeds_that_tell(4.4, 1.0) == 2
    assert seeds_that_tell(1.0, 1.0) == 9
    assert seeds_that_tell(0.0, 1.0, most=5) is None


def test_holm_is_never_below_what_it_was() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()
