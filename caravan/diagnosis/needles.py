"""Which plain words a text must hold for a pattern to match it: what makes hundreds of patterns cheap. Pure.

`needles` reads a pattern's source; `Sieve` says which of many patterns may match a text. Both err on the side of
"may match": a pattern of which nothing is known is always tried.
"""

import re
from collections.abc import Sequence
from typing import Final

_GRAM: Final = 4  # letters by which words are looked up
_QUANTIFIER: Final = re.compile(r"[?*+][?+]?|\{\d*,?\d*\}[?+]?")
_OPENING: Final = re.compile(r"\((?:\?(?:P<\w+>|[aiLmsux-]*:|:|>))?")
_AROUND: Final = re.compile(r"\(\?<?[=!]")
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]")

Words = frozenset[str]
"""Small letters, of which a text must hold one; empty where nothing is known."""


def needles(pattern: str) -> Words:
    """Words in small letters, one of which every text that the pattern matches holds; empty where none is known."""
    found, end = _alternatives(pattern, 0)
    return found if end == len(pattern) else frozenset()


def _alternatives(text: str, at: int) -> tuple[Words, int]:
    """Of branches up to the closing bracket or the end: a word of each; nothing where one branch has none."""
    known: set[str] = set()
    all_known = True
    while True:
        words, at = _branch(text, at)
        all_known = all_known and bool(words)
        known |= words
        if at >= len(text) or text[at] != "|":
            return frozenset(known) if all_known else frozenset(), at
        at += 1


def _branch(text: str, at: int) -> tuple[Words, int]:
    """Of a sequence its most telling part: the longest run of letters, or a group's words."""
    parts: list[Words] = []
    run = ""
    while at < len(text) and text[at] not in "|)":
        words, letter, at = _item(text, at)
        quantifier = _QUANTIFIER.match(text, at)
        if quantifier is not None:
            at = quantifier.end()
            optional = quantifier[0][0] in "?*" or quantifier[0].startswith(("{0", "{,"))
            words, run, letter = (frozenset() if optional else words), _ended(parts, run), ""
        elif not letter:
            run = _ended(parts, run)
        run += letter
        if words:
            parts.append(words)
    _ended(parts, run)
    return max(parts, key=lambda some: min(len(word) for word in some), default=frozenset()), at


def _ended(parts: list[Words], run: str) -> str:
    if run:
        parts.append(frozenset({run.lower()}))
    return ""


def _item(text: str, at: int) -> tuple[Words, str, int]:
    """The next part of a sequence: a group's words, or one letter, or neither; and where it ends."""
    if around := _AROUND.match(text, at):
        _, end = _alternatives(text, around.end())
        return frozenset(), "", end + 1
    if opening := _OPENING.match(text, at):
        words, end = _alternatives(text, opening.end())
        return words, "", end + 1
    if found := _CLASS.match(text, at):
        return frozenset(), "", found.end()
    if text[at] == "\\":
        letter = text[at + 1 : at + 2]
        plain = bool(letter) and not letter.isalnum()
        return frozenset(), letter if plain else "", at + 2
    return frozenset(), "" if text[at] in ".^$" else text[at], at + 1


class Sieve:
    """Which of many patterns may match a text, by the words that they need."""

    def __init__(self, needed: Sequence[Words]) -> None:
        self._always: list[int] = []
        self._grams: dict[str, list[tuple[str, int]]] = {}
        for number, words in enumerate(needed):
            if not words or min(len(word) for word in words) < _GRAM:
                self._always.append(number)
                continue
            for word in words:
                middle = (len(word) - _GRAM) // 2
                self._grams.setdefault(word[middle : middle + _GRAM], []).append((word, number))

    def passing(self, text: str) -> set[int]:
        """The numbers of the patterns that may match the text, which may be of several lines."""
        small = text.lower()
        found = set(self._always)
        held = {small[at : at + _GRAM] for at in range(len(small) - _GRAM + 1)}
        for gram in held & self._grams.keys():
            found.update(number for word, number in self._grams[gram] if number not in found and word in small)
        return found
