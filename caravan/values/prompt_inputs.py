"""What each prompt is filled with, in one place, and whether a text may be used for it. Pure.

Texts come from whoever manages the prompts: shipped, kept here, from LangFuse. Whatever they say, what fills them is
data: a text is used only where every place that holds what others wrote stands inside a `<data>` block. What a model
may do by its answer is not decided here, and no text changes it.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from caravan.values.base import Value
from caravan.values.filling import fields
from caravan.values.prompts import Demo

MOST_TEXT: Final = 24_000
"""Characters of a prompt's text: about four times the longest that is shipped, and half of a small window."""
MOST_DEMOS: Final = 16
MOST_IN_ALL: Final = 256_000
"""Characters of a text with its examples."""


class PromptInput(Value):
    """A place of a prompt: what fills it, whether the text must have it, whether others wrote what is put there."""

    name: str
    meaning: str
    needed: bool = True
    foreign: bool = True


def _input(name: str, meaning: str, *, needed: bool = True, foreign: bool = True) -> PromptInput:
    return PromptInput(name=name, meaning=meaning, needed=needed, foreign=foreign)


_WISH: Final = _input("prompt", "what the user asks for, in their words")
_PROFILE: Final = _input("profile", "what the repository trains and how, as JSON")
_FACTS: Final = _input("facts", "what the cluster offers, as JSON", needed=False)
_CASES: Final = _input("cases", "earlier cases from the memory, as JSON", needed=False)
_PLAN: Final = _input("plan", "the plan and who set its fields, as JSON")
_EVIDENCE: Final = _input("evidence", "what is known of the failure: log lines, exit code, events, as JSON")
_DIAGNOSIS: Final = _input("diagnosis", "the failure's class with its evidence, as JSON")

INPUTS: Final[dict[str, tuple[PromptInput, ...]]] = {
    "refine_profile": (_WISH, _PROFILE),
    "questions": (
        _WISH,
        _input("questions", "the questions that the rules ask, one in a line, as JSON"),
        _PROFILE,
        _FACTS,
        _CASES,
        _input("limit", "how many questions there may be", foreign=False),
    ),
    "plan": (_PLAN, _PROFILE, _FACTS, _CASES),
    "diagnose": (
        _input("classes", "the classes of failure, with commas between", foreign=False),
        _EVIDENCE,
        _PLAN.model_copy(update={"needed": False}),
        _CASES,
    ),
    "repair": (
        _DIAGNOSIS,
        _input("tried", "the repairs that were tried in this run, as JSON"),
        _PLAN,
        _PROFILE.model_copy(update={"needed": False}),
        _CASES,
        _FACTS,
    ),
    "patch": (_DIAGNOSIS, _EVIDENCE, _input("files", "the lines around the error")),
    "report_summary": (_input("report", "the run's report, in Markdown"),),
}
"""The prompts by name, each with its places."""

_OPENING: Final = re.compile(r'<data name="[A-Za-z0-9_-]{1,60}">')
_CLOSING: Final = "</data>"
_ANY_TAG: Final = re.compile(r"<(\s*/?\s*)data(?![\w-])[^>]*>?", re.IGNORECASE)
_ANY_PLACE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_REFERENCE: Final = re.compile(r"@@@langfuse", re.IGNORECASE)  # LangFuse puts another prompt's text there


def troubles(name: str, text: str, demos: tuple[Demo, ...] = ()) -> tuple[str, ...]:
    """Why the content can't be used as the prompt of that name; nothing where it can. Each is a clause for a line."""
    return tuple(dict.fromkeys((*_of_size(text, demos), *_of_places(name, text), *_of_demos(demos))))


def _of_size(text: str, demos: tuple[Demo, ...]) -> Iterator[str]:
    if not text.strip():
        yield "it is empty"
    if len(text) > MOST_TEXT:
        yield f"its text has {len(text)} characters, {MOST_TEXT} are the most"
    if len(demos) > MOST_DEMOS:
        yield f"it has {len(demos)} examples, {MOST_DEMOS} are the most"
    if len(text) + sum(len(d.given) + len(d.answer) for d in demos) > MOST_IN_ALL:
        yield f"with its examples it has more than {MOST_IN_ALL} characters"


def _of_places(name: str, text: str) -> Iterator[str]:
    declared = {place.name: place for place in INPUTS.get(name, ())}
    if not declared:
        yield f"no step has a prompt {name!r}"
        return
    found = set(fields(text))
    for unknown in sorted(found - set(declared)):
        yield f"nothing fills its place {{{{{unknown[:40]}}}}}"
    for missing in [place.name for place in declared.values() if place.needed and place.name not in found]:
        yield f"it lacks the place {{{{{missing}}}}}"
    if any(not fields(whole[0]) for whole in _ANY_PLACE.finditer(text)):
        yield "it has a place in double braces that is no name"
    if _REFERENCE.search(text):
        yield "it refers to another prompt, which LangFuse has not put in its place"
    if _unseen(text):
        yield "it holds characters that nobody sees"
    yield from _of_fences(text, declared)


def _of_fences(text: str, declared: dict[str, PromptInput]) -> Iterator[str]:
    inside = _blocks(text)
    if inside is None:
        yield 'its <data name="…"> … </data> blocks are not paired one by one'
        return
    for place in declared.values():
        spots = [m.start() for m in re.finditer(rf"\{{\{{\s*{place.name}\s*\}}\}}", text)]
        if place.foreign and any(not any(a <= spot < b for a, b in inside) for spot in spots):
            yield f"its place {{{{{place.name}}}}} stands outside of a <data> block"


def _blocks(text: str) -> list[tuple[int, int]] | None:
    """Where blocks of data are, as positions in the text; None where they are not closed one by one, or written so
    that a model and this program could disagree on where they end."""
    found, begun = [], -1
    for tag in _ANY_TAG.finditer(text):
        if "/" in tag[1]:
            if tag[0] != _CLOSING or begun < 0:
                return None
            found.append((begun, tag.start()))
            begun = -1
        elif begun >= 0 or tag[0] == "<data>":  # data, or prose that speaks of the blocks
            continue
        elif _OPENING.fullmatch(tag[0]):
            begun = tag.end()
        else:
            return None
    return found if begun < 0 else None


def _of_demos(demos: tuple[Demo, ...]) -> Iterator[str]:
    for number, demo in enumerate(demos, 1):
        try:
            answer = json.loads(demo.answer)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            yield f"the answer of its example {number} is no JSON object"
        if not demo.given.strip():
            yield f"its example {number} is empty"
        if _blocks(demo.given) is None:
            yield f'the <data name="…"> blocks of its example {number} are not closed one by one'
        if _REFERENCE.search(demo.given + demo.answer):
            yield f"its example {number} refers to another prompt"
        if _unseen(demo.given + demo.answer):
            yield f"its example {number} holds characters that nobody sees"


def _unseen(text: str) -> bool:
    """Whether there are characters that a person does not see and a model may: controls, directions, tags."""
    return any(c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") for c in text)
