"""Ranges and the rows of the plan table: sums, parts, and what stays unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.estimate import Alternative, Range

ROW = Alternative(text="a", gpu="L4", gpus=1, gpu_memory_gib=1.0, gpu_memory_high_gib=2.0, gpu_total_gib=22.0)
HOUR = Range(low=1800, likely=3600, high=7200)


def test_a_range_is_added_and_multiplied_figure_by_figure() -> None:
    assert HOUR.plus(Range(low=1, likely=2, high=3)) == Range(low=1801, likely=3602, high=7203)
    assert HOUR.times(0.5) == Range(low=900, likely=1800, high=3600)
    assert HOUR.priced(2.0) == Range(low=1, likely=2, high=4)


@given(st.integers(1, 100_000), st.integers(1, 50_000))
def test_a_time_that_a_sum_bounds_costs_no_more_than_it(cents: int, mills: int) -> None:
    usd, per_hour = cents / 100, mills / 1000
    seconds = int(usd / per_hour * 3600)
    assert Range(low=0, likely=0, high=seconds).priced(per_hour).high <= usd


def test_what_is_not_known_of_a_row_stays_unknown() -> None:
    assert ROW.part(0.5) == ROW
    assert ROW.plus(HOUR, HOUR) == ROW


@pytest.mark.parametrize(("money", "cost"), [(Range(low=1, likely=2, high=3), 12.0), (None, 10.0)])
def test_a_row_is_of_the_whole_and_of_a_part(money: Range | None, cost: float) -> None:
    row = ROW.model_copy(update={"seconds": 100.0, "cost_usd": 10.0})
    assert (row.part(0.25).seconds, row.part(0.25).cost_usd) == (25.0, 2.5)
    more = row.plus(HOUR, money)
    assert (more.seconds, more.cost_usd) == (3700.0, cost)
