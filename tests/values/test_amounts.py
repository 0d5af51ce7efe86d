"""Figures in words: one function for bytes, one for seconds, one for money."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.amounts import duration, money, part_text, size_text


@pytest.mark.parametrize(
    ("seconds", "roughly", "exactly"),
    [
        (None, "not known", "not known"),
        (0, "0 s", "0 s"),
        (0.0001, "0 s", "0 s"),
        (0.04, "0.04 s", "0.04 s"),
        (5, "5 s", "5 s"),
        (9.97, "10 s", "10 s"),
        (12.3, "12 s", "12 s"),
        (59.6, "60 s", "1 min"),
        (75, "75 s", "1 min 15 s"),
        (89.6, "90 s", "1 min 30 s"),
        (90, "2 min", "1 min 30 s"),
        (305, "5 min", "5 min 05 s"),
        (600, "10 min", "10 min"),
        (3599.6, "1 h", "1 h"),
        (3 * 3600 + 300, "3 h 05 min", "3 h 05 min"),
        (52 * 3600, "2 d 4 h", "2 d 4 h"),
        (72 * 3600, "3 d", "3 d"),
    ],
)
def test_a_time_in_words(seconds: float | None, roughly: str, exactly: str) -> None:
    assert (duration(seconds), duration(seconds, exact=True)) == (roughly, exactly)


_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@given(st.floats(0, 1e8), st.booleans())
def test_the_words_say_the_time(seconds: float, exact: bool) -> None:
    parts = re.findall(r"([\d.]+) (s|min|h|d)", duration(seconds, exact=exact))
    told = sum(float(number) * _UNITS[unit] for number, unit in parts)
    assert told == pytest.approx(seconds, rel=0.02 if exact else 0.34, abs=0.06)


def test_bytes_in_words() -> None:
    assert [size_text(n) for n in (0, 1, 999, 12_628, 999_900, 539_100_000, 5.4e9, 999.7e9, 3e15)] == [
        *("0 bytes", "1 byte", "999 bytes", "12.6 kB", "1 MB", "539 MB", "5.4 GB", "1 TB", "3000 TB"),
    ]
    assert part_text(800, 12_628) == "0.8 of 12.6 kB"
    assert part_text(4, 12) == "4 of 12 bytes"


@given(st.floats(0, 1e16))
def test_no_amount_of_bytes_reads_as_nothing_but_nothing(amount: float) -> None:
    number, unit = size_text(amount).split()
    least = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}.get(unit, 1)
    assert float(number) * least == pytest.approx(amount, rel=0.006, abs=0.5)


def test_money_in_words() -> None:
    assert (money(1.5), money(None)) == ("1.50 USD", "not known")
