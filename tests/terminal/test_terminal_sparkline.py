"""Sparklines and bounded series: any figures, any width."""

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from caravan.terminal.sparkline import ASCII_BARS, ASCII_LOST, BARS, LOST, Series, resample, sparkline

figures = st.lists(st.floats(width=64), max_size=200)
finite = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200)


def test_a_falling_loss() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == BARS[::-1]
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8, ascii_only=True) == ASCII_BARS[::-1]
    assert sparkline([4, 4, 2, 2], 2) == "█▁"


def test_what_is_no_number_is_marked() -> None:
    assert sparkline([1, 2, math.nan, math.inf], 8) == "▁█××"
    assert sparkline([math.nan] * 10, 3) == LOST * 3
    assert sparkline([math.nan], 3, ascii_only=True) == ASCII_LOST
    assert sparkline([1.0, 1.0, 3.0, math.nan], 2) == "▄×"


def test_nothing_and_no_room() -> None:
    assert sparkline([], 10) == ""
    assert sparkline([1, 2, 3], 0) == ""
    assert sparkline([1, 2, 3], -4) == ""
    assert sparkline([5, 5, 5], 10) == BARS[3] * 3


@settings(deadline=None)
@given(figures, st.integers(-5, 300), st.booleans())
def test_any_figures_fit_any_width(values: list[float], width: int, ascii_only: bool) -> None:
    line = sparkline(values, width, ascii_only=ascii_only)
    assert len(line) == max(0, min(width, len(values)))
    assert set(line) <= set(ASCII_BARS + ASCII_LOST if ascii_only else BARS + LOST)
    assert line.isascii() or not ascii_only


@settings(deadline=None)
@given(finite)
def test_the_extremes_have_the_extreme_bars(values: list[float]) -> None:
    line = sparkline(values, len(values))
    assert LOST not in line
    if len(set(line)) > 1:
        assert line[values.index(min(values))] == BARS[0]
        assert line[values.index(max(values))] == BARS[-1]


@settings(deadline=None)
@given(finite, st.integers(1, 50))
@example([5e-324, 5e-324, 5e-324], 1)
def test_resampling_stays_within_the_values(values: list[float], width: int) -> None:
    found = resample(values, width)
    slack = 1e-9 * max(abs(v) for v in values)
    assert all(min(values) - slack <= v <= max(values) + slack for v in found)
    assert resample(found, width) == found


@settings(deadline=None)
@given(figures, st.integers(2, 16))
def test_a_series_is_bounded_and_its_ends_are_exact(values: list[float], kept: int) -> None:
    series = Series(kept)
    for value in values:
        series.add(value)
    assert len(series.values()) <= kept + 1
    assert series.count == len(values)
    numbers = [v for v in values if math.isfinite(v)]
    assert (series.lowest, series.highest) == ((min(numbers), max(numbers)) if numbers else (None, None))
    if values:
        assert series.last == values[-1] or math.isnan(values[-1])
        assert series.values()
    else:
        assert series.values() == []


def test_a_long_series_keeps_its_shape() -> None:
    series = Series(8)
    for step in range(1000):
        series.add(1000 - step)
    kept = series.values()
    assert kept == sorted(kept, reverse=True)
    assert sparkline(kept, 4)[0] == BARS[-1]
