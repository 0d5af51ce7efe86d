"""Words that a pattern needs: a text without them is never one that the pattern would have matched."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.diagnosis.needles import Sieve, needles
from caravan.diagnosis.sign import LOOKED_AT
from caravan.diagnosis.signs import SIEVE, SIGNS
from tests.diagnosis.cases.reading import CASES

LINES = sorted({line for case in CASES for line in case.text.splitlines()})


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"CUDA out of memory\. Tried", {"cuda out of memory. tried"}),
        (r"(?:CUDA|HIP) error", {" error"}),
        (r"abc?d*(?:efg|hijk)+", {"efg", "hijk"}),
        (r"\bone\b|two.*three", {"one", "three"}),
        (r"one|.*", set()),
        (r"[a-z]+(?!word)(?P<name>\w+)", set()),
        (r"x{0,3}yz{2}", {"y"}),
        (r"(?i:Not Found) here", {"not found"}),
        (r"(unclosed", set()),
    ],
)
def test_what_a_pattern_needs(pattern: str, words: set[str]) -> None:
    assert needles(pattern) == words


def test_no_sign_is_lost_by_its_words() -> None:
    for line in LINES:
        passing = SIEVE.passing(line)
        for number, sign in enumerate(SIGNS):
            if sign.pattern is not None and sign.pattern.search(line[:LOOKED_AT]):
                assert number in passing, (sign.pattern.pattern, line)
                assert not sign.needs or any(word in line.lower() for word in sign.needs)


PARTS = st.sampled_from(
    ["ab", "c+", "d?", "(?:ef|gh)", "[ij]", r"\d", ".", "(?P<n>kl)", "m{2}", "(?!no)", "|", "^", r"\.", "(op)*"]
)


@given(st.lists(PARTS, min_size=1, max_size=6), st.text("abcdefghijklmop1. ", max_size=20))
def test_a_text_that_matches_holds_a_word(parts: list[str], text: str) -> None:
    source = "".join(parts)
    try:
        pattern = re.compile(source)
    except re.error:  # a name twice
        return
    words = needles(source)
    if words and pattern.search(text):
        assert any(word in text for word in words)
        assert Sieve([words]).passing(text) == {0}


def test_nearly_all_signs_are_found_by_words() -> None:
    unknown = [sign for sign in SIGNS if sign.pattern is not None and not sign.needs]
    assert len(unknown) < 10
