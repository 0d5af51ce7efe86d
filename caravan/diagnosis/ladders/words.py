"""Editing a command's words: where an option stands, taking it away, naming it anew. Pure text work."""

from collections.abc import Sequence

from caravan.diagnosis.ladders.case import same_name


def place(words: Sequence[str], option: str) -> tuple[int, int] | None:
    """Where an option stands with its value, as a range of indexes; None where it doesn't."""
    for index, word in enumerate(words):
        name, joined, _ = word.partition("=")
        if not same_name(name, option) or not (word.startswith("-") or joined):
            continue
        has_value = not joined and index + 1 < len(words) and not words[index + 1].startswith("-")
        return index, index + 1 + has_value
    return None


def without(words: Sequence[str], option: str) -> tuple[str, ...]:
    """The words without the option and its value."""
    where = place(words, option)
    return tuple(words) if where is None else (*words[: where[0]], *words[where[1] :])


def renamed(words: Sequence[str], option: str, new: str) -> tuple[str, ...]:
    """The words with the option under another name and the same value."""
    where = place(words, option)
    if where is None:
        return tuple(words)
    _, joined, value = words[where[0]].partition("=")
    return (*words[: where[0]], new + joined + value, *words[where[0] + 1 :])
