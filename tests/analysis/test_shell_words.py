"""Words of a shell line: the quick way splits as the lexer does."""

import shlex

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.analysis.shell import _words

LINES = st.text(st.sampled_from("ab-=.<>#$*~?/{}()[]!%@,:é \t\u00a0\x0b'\"\\;&|"), max_size=40)


def slow(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split, lexer.commenters = True, ""
    return list(lexer)


@settings(max_examples=300)
@given(LINES)
def test_words_are_those_of_the_lexer(line):
    try:
        expected = slow(line)
    except ValueError:
        expected = line.replace("'", "").replace('"', "").split()
    assert _words(line) == expected


def test_quotes_and_joints():
    assert _words("a  b=1\t-c") == ["a", "b=1", "-c"]
    assert _words("a 'b c' && d|e") == ["a", "b c", "&&", "d", "|", "e"]
    assert _words("don't stop") == ["dont", "stop"]
