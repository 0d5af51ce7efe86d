"""What a template of Nomad's does, as claims: which secrets it reads, what it calls, which variables it sets.

Read as Go's `text/template` reads it: a comment is a whole action, and what stands in quotes is text, whatever it says.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from caravan.planning.claim import NEVER, Claim
from caravan.planning.claims import secret
from caravan.planning.environment_claims import UNKNOWN, Pair, pairs_in

_TOKEN: Final = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|\'(?:[^\'\\\n]|\\.)*\'|[.$]?[A-Za-z_][\w.]*|\d[\w.]*|\s+|.', re.DOTALL
)
_TEXT: Final = ('"', "`", "'", ".", "$")  # what begins with one of them calls no function
# Functions of templates that read nothing but what they are given. Those that read secrets are judged by their path.
_PLAIN: Final = frozenset(
    {"with", "end", "if", "else", "range", "index", "and", "or", "not", "eq", "ne", "len", "printf", "print"}
    | {"toJSON", "toUnescapedJSON", "trimSpace", "trim", "toLower", "toUpper", "join", "replaceAll", "base64Encode"}
    | {"true", "false", "nil"}
)
_PRINT_NOTHING: Final = frozenset({"with", "end", "if", "else", "range"})
_READS: Final = {"nomadVar": "secrets.nomad", "nomadVarExists": "secrets.nomad", "secret": "secrets.vault"}


class Action(NamedTuple):
    """One action of a template: where it stands with its delimiters, and its words; a comment has none."""

    start: int
    end: int
    words: tuple[str, ...]


def actions(text: str, left: str, right: str) -> Iterator[Action]:
    """The actions of a template between its delimiters. One without its end goes to the end of the text."""
    at = 0
    while (start := text.find(left, at)) >= 0:
        at = start + len(left)
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] in (" ", "\t", "\r", "\n"):
            at += 2
        if text.startswith("/*", at):
            over = text.find("*/", at + 2) + 2
            end = _closing(text, over, right) if over > 1 else None
            if end is not None:
                yield Action(start, end, ())
                at = end
                continue
        words = []
        while (end := _closing(text, at, right)) is None and at < len(text):
            token = _TOKEN.match(text, at)
            assert token is not None  # noqa: S101 (the last choice takes any character)
            at = token.end()
            words += [token[0]] if token[0].strip() else []
        at = len(text) if end is None else end
        yield Action(start, at, tuple(words))


def _closing(text: str, at: int, right: str) -> int | None:
    """Where the delimiter that stands at `at` ends, with what trims blanks before it; None: there is none."""
    trimmed = text[at : at + 1] in (" ", "\t", "\r", "\n") and text.startswith(f"-{right}", at + 1)
    if trimmed:
        return at + 2 + len(right)
    return at + len(right) if text.startswith(right, at) else None


def template_claims(text: str, left: str, right: str, field: str) -> Iterator[Claim]:
    """Claims of what a template reads and calls."""
    for action in actions(text, left, right):
        for n, word in enumerate(action.words):
            if word.startswith(_TEXT) or not (word[0].isalpha() or word[0] == "_") or word in _PLAIN:
                continue
            if word in _READS:
                yield _reading(action.words, n, field)
            else:
                yield Claim("privileges.options", field, word)


def _reading(words: tuple[str, ...], n: int, field: str) -> Claim:
    """A claim on the secret that is read. With more than its path the function does something else, like writing."""
    piped = n > 0 and words[n - 1] == "|"
    after = words[n + 2] if n + 2 < len(words) else ")"
    if piped or n + 1 >= len(words) or after not in (")", "|"):
        return Claim(NEVER, field, " ".join(words[n:]))
    path = words[n + 1]
    if path[0] not in ('"', "`") or "\\" in path:
        return Claim(_READS[words[n]], field, f"${{{path}}}")  # only known on the node
    return secret(_READS[words[n]], field, path[1:-1])


def template_pairs(text: str, left: str, right: str) -> Iterator[Pair]:
    """The variables that a template sets when it is environment; what its actions print isn't known."""
    plain, at = [], 0
    for action in actions(text, left, right):
        silent = not action.words or action.words[0] in _PRINT_NOTHING
        plain += [text[at : action.start], "" if silent else UNKNOWN]
        at = action.end
    yield from pairs_in("".join([*plain, text[at:]]))
