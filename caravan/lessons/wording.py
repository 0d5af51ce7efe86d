"""How alike two texts are by the words in them that are rare: names of options, functions, packages and errors.

Beside the cosine of embeddings, which knows that words mean the same but blurs what exactly a failure names.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]+")
_COMMON: Final = frozenset(
    {"a", "an", "the", "of", "to", "in", "is", "it", "on", "at", "by", "or", "and", "for", "as", "be", "was", "has"}
    | {"not", "no", "with", "this", "that", "from", "are", "can", "you", "your", "if", "but", "than", "which", "its"}
    | {"tried", "instead", "error", "file", "line", "caravan", "run", "job", "training", "failed"}
)
_MOST: Final = 4000  # characters of a text that are looked at


@functools.lru_cache(maxsize=20_000)
def words(text: str) -> frozenset[str]:
    """The words of a text in lower case; a joined name (`eval_strategy`, `OutOfMemoryError`) also in its parts."""
    found: set[str] = set()
    for word in _WORD.findall(text[:_MOST]):
        found.add(word.casefold())
        parts = re.findall(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}(?![a-z])", word)
        if len(parts) > 1:
            found.update(part.casefold() for part in parts)
    return frozenset(_stem(word) for word in found - _COMMON)


def _stem(word: str) -> str:
    """The word without the commonest endings, so that `allocated` and `allocating` are one."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def likeness(query: str, texts: Iterable[str]) -> list[float]:
    """The cosine between the words of a text and those of others, 0 to 1; words that many of them have count less."""
    wanted, others = words(query), [words(text) for text in texts]
    counts = Counter(word for found in others for word in found)
    total = len(others) + 1
    weight = {w: math.log((1 + total) / (1 + counts[w])) + 0.1 for w in {*wanted, *counts}}
    length = _length(wanted, weight)
    scores = []
    for found in others:
        shared = sum(weight[w] ** 2 for w in wanted & found)
        whole = length * _length(found, weight)
        scores.append(min(shared / whole, 1.0) if whole else 0.0)
    return scores


def _length(found: frozenset[str], weight: dict[str, float]) -> float:
    return math.sqrt(sum(weight[w] ** 2 for w in found))
