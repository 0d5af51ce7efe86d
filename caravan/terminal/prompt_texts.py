"""Versions of prompts for the commands: which a word means, which is in force, how two differ. It prints nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from caravan.values.amounts import duration
from caravan.values.errors import ServiceError, StateError, UsageError
from caravan.values.prompt_inputs import troubles
from caravan.values.prompts import Prompt, PromptOrigin

if TYPE_CHECKING:
    from caravan.ports import PromptShelf
    from caravan.values.prompts import GivenVersion, KeptVersion, PushedVersion

SHIPPED: Final = "shipped"
FORCE: Final = "force"
"""The word for the version that runs use."""
_REMOTE: Final = "langfuse"
_DIGITS: Final = re.compile(r"[0-9a-f]{6,12}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}")


class Found(NamedTuple):
    """A version, and the labels that it has where it comes from. `age_s`: how old the word is that it is in force."""

    prompt: Prompt
    labels: tuple[str, ...] = ()
    age_s: float | None = None

    def origin(self) -> str:
        """Where it comes from, for people."""
        if self.prompt.origin is PromptOrigin.LANGFUSE:
            labels = f" [{', '.join(self.labels)}]" if self.labels else ""
            return f"LangFuse {self.prompt.number}{labels}" + (
                f", given {duration(self.age_s)} ago" if self.age_s is not None else ""
            )
        return "kept here" if self.prompt.origin is PromptOrigin.KEPT else "shipped"

    def spoken(self) -> str:
        """The version, for people."""
        return f"{self.prompt.name} {self.prompt.version} ({self.origin()})"


Remote = Mapping[str, tuple[int, tuple[str, ...]]]
"""What LangFuse is known to have: the number of the newest version of each prompt, and all labels."""


def in_force(
    shelf: PromptShelf, name: str, *, remote: Remote | None, local: bool = False, anew: bool = False, down: bool = False
) -> tuple[Found, tuple[str, ...]]:
    """The version that a run takes which begins now, and a line for each that was passed over.

    `remote`: what LangFuse is known to have, where that was asked already; `local`: leave LangFuse's out; `anew`: what
    LangFuse has by now, also where runs take for some minutes what it gave before; `down`: it is known not to answer.
    """
    notes: list[str] = []
    if not local and (shelf.managed or (anew and shelf.langfuse)):
        managed = _managed(shelf, name, None if anew else shelf.given(name), remote, notes, down=down)
        if managed is not None:
            return managed, tuple(notes)
    try:
        kept = _labelled(shelf, name, shelf.label)
    except StateError as error:
        notes.append(error.line())
        kept = None
    if kept is not None:
        wrong = troubles(name, kept.prompt.text, kept.prompt.demos)
        if not wrong:
            return Found(kept.prompt, kept.labels), tuple(notes)
        notes.append(f"The kept version {kept.prompt.version} of {name} is not used: {'; '.join(wrong)}.")
    return Found(shelf.shipped(name)), tuple(notes)


def _managed(
    shelf: PromptShelf, name: str, given: GivenVersion | None, remote: Remote | None, notes: list[str], *, down: bool
) -> Found | None:
    """LangFuse's version: what it gave a moment ago, else what it has, else what it gave before that."""
    there: PushedVersion | None = None
    unusable = ""
    if not down and (remote is None or shelf.label in remote.get(name, (0, ()))[1]):
        try:
            there = shelf.remote(name, label=shelf.label)
        except ServiceError as error:
            down = True
            notes.append(error.line())
        except UsageError as error:
            unusable = error.line()
    wrong = troubles(name, there.prompt.text, there.prompt.demos) if there is not None else ()
    if there is not None and wrong:
        unusable = f"LangFuse's version {there.prompt.number} of {name} is not used: {'; '.join(wrong)}."
        there = None
    if unusable:
        notes.append(unusable)
    if given is not None and (down or given.left_s > 0):
        if given.trouble and given.trouble != unusable:
            notes.append(given.trouble)
        if not down:
            notes += _coming(shelf, name, given, there)
        return Found(given.prompt, (shelf.label,), given.age_s) if given.prompt is not None else None
    return Found(there.prompt, there.labels) if there is not None else None


def _coming(shelf: PromptShelf, name: str, given: GivenVersion, there: PushedVersion | None) -> list[str]:
    """A line where what LangFuse has under the label is another version than the one that runs take for a while."""
    now, soon = (found.prompt.number if found is not None and found.prompt else None for found in (given, there))
    if now == soon:
        return []
    taken, comes = (f"LangFuse's version {n}" if n is not None else "none of LangFuse's" for n in (now, soon))
    return [
        f"{name}: for {duration(given.left_s)} more runs here take {taken}, as it was {duration(given.age_s)} ago; "
        f"under {shelf.label} it has changed, and then they take {comes}."
    ]


def latest_known(shelf: PromptShelf, name: str) -> Found:
    """The version that runs take now, whatever was passed over."""
    return in_force(shelf, name, remote=None)[0]


def find(shelf: PromptShelf, name: str, word: str) -> Found:
    """The version that a word means: `shipped`, `force`, digits of a kept one, LangFuse's number, or a label.

    A label is first one of those here, then one of LangFuse's; `langfuse:LABEL` and `langfuse:NUMBER` mean its own.
    Raises UsageError where there is none, ServiceError where LangFuse must be asked and does not answer.
    """
    if word == SHIPPED:
        return Found(shelf.shipped(name))
    if word == FORCE:
        return latest_known(shelf, name)
    if word == _REMOTE or word.startswith(f"{_REMOTE}:"):
        return _remote(shelf, name, word.partition(":")[2] or shelf.label)
    if _NUMBER.fullmatch(word) and shelf.langfuse:
        return _remote(shelf, name, word)
    found = _by_digits(shelf, name, word) or _labelled(shelf, name, word)
    if found is not None:
        return Found(found.prompt, found.labels)
    if shelf.langfuse:
        return _remote(shelf, name, word)
    shelf.shipped(name)
    raise _none(name, word)


def _by_digits(shelf: PromptShelf, name: str, word: str) -> KeptVersion | None:
    if not _DIGITS.fullmatch(word):
        return None
    found = [kept for kept in shelf.kept(name) if kept.prompt.version.startswith(word)]
    if len(found) > 1:
        raise UsageError(f"{len(found)} kept versions of {name} begin with {word}.", hint="Give more digits.")
    return found[0] if found else None


def _labelled(shelf: PromptShelf, name: str, label: str) -> KeptVersion | None:
    return next((kept for kept in shelf.kept(name) if label in kept.labels), None)


def _remote(shelf: PromptShelf, name: str, word: str) -> Found:
    number = int(word) if _NUMBER.fullmatch(word) else None
    found = shelf.remote(name, number=number) if number is not None else shelf.remote(name, label=word)
    if found is None:
        raise _none(name, word)
    return Found(found.prompt, found.labels)


def _none(name: str, word: str) -> UsageError:
    return UsageError(
        f"There is no version {word[:60]} of the prompt {name}.",
        hint=f"`main.py prompts show {name}` names those kept.",
    )


def text_lines(prompt: Prompt) -> list[str]:
    """The text, and each example under a heading, as lines."""
    lines = prompt.text.rstrip("\n").split("\n")
    for number, demo in enumerate(prompt.demos, 1):
        lines += ["", f"=== example {number}: given", *demo.given.rstrip("\n").split("\n")]
        lines += [f"=== example {number}: answered", *demo.answer.rstrip("\n").split("\n")]
    return lines


def difference(before: Found, after: Found) -> list[str]:
    """How two versions differ, as a unified diff; no lines where they are the same."""
    if before.prompt.version == after.prompt.version:
        return []
    found = list(
        difflib.unified_diff(
            text_lines(before.prompt), text_lines(after.prompt), before.spoken(), after.spoken(), lineterm="", n=2
        )
    )
    return found or [f"{before.spoken()} and {after.spoken()} differ in blanks at the end alone."]
