"""Texts for the terminal: nothing harmful gets through, figures read well."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.terminal.sheet import metrics_line
from caravan.terminal.text import clean, one_line, span, words
from caravan.values.amounts import money

_FORBIDDEN_CATEGORIES = {"Cc", "Cs"}


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_no_control_character_survives(text: str) -> None:
    cleaned = clean(text)
    left = [c for c in cleaned if unicodedata.category(c) in _FORBIDDEN_CATEGORIES and c not in "\n\t"]
    assert left == []
    assert clean(cleaned) == cleaned
    cleaned.encode()


@given(st.text(), st.integers(1, 50))
def test_one_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jwiped", "wiped"),
        ("bell\x07", "bell\\x07"),
        ("10%\r50%\r100%\n", "100%\n"),
        ("done\r\nnext\r\n", "done\nnext\n"),
        ("rm \u202ex", "rm \\u202ex"),
        ("\udcff", "\\udcff"),
        ("tab\tkept", "tab\tkept"),
        ("[bold]not markup[/bold]", "[bold]not markup[/bold]"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_figures_and_values() -> None:
    assert span(1, 2, money) == "1.00 USD to 2.00 USD"
    assert span(1, 1.001, money) == "1.00 USD"
    assert words([1, "a", True, None]) == "1, a, yes, -"
    assert words({"lr": 0.0001}) == "lr=0.0001"


def test_metrics_that_tell_of_the_model_come_first_and_the_others_not() -> None:
    logged = {"loss": 1.56991, "eval_loss": 1.66626, "tokens/s": 112735.0, "lr": 0.0004, "step": 370.0}
    assert metrics_line(logged) == "eval_loss 1.666, loss 1.57"
    assert metrics_line({"step": 3.0}) == "step 3"
    assert metrics_line({}) == ""
