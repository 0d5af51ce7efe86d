"""What a model wrote → the JSON value that it meant: without thinking, fences and the text around it, mended. Pure.

Whatever the text is, a value comes back or a ValueError. Nothing is invented: what is mended is punctuation.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Final

from caravan.values.base import Json

_OPEN, _CLOSE = "<think>", "</think>"
_FENCE: Final = re.compile(r"```[ \t]*(?:json[c5]?|JSON)?[ \t]*\r?\n(.*?)(?:\r?\n[ \t]*```|\Z)", re.DOTALL)
_SIGNS: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\]]')
_MOST_SPANS: Final = 40
_LONGEST: Final = 400_000  # characters that are mended; a longer text is parsed as it stands or not at all
_DEEPEST: Final = 60


def without_thinking(text: str) -> str:
    """The text after its thinking, stripped. A thinking that was never closed leaves nothing.

    A chat template may have opened it in the prompt: then the reply only closes it. Where the reply begins like JSON,
    such a mark is a part of the value.
    """
    rest = text.strip()
    while rest.startswith(_OPEN):
        _, closed, after = rest.partition(_CLOSE)
        rest = after.strip() if closed else ""
    before, closed, after = rest.partition(_CLOSE)
    if closed and _OPEN not in before and not rest.startswith(("{", "[", "```")):
        return after.strip()
    return rest


def parsed(text: str) -> tuple[Json, tuple[str, ...]]:
    """The JSON object or list in a reply, and what was done to get at it. Raises ValueError where there is none."""
    done: list[str] = []
    rest = without_thinking(text)
    if rest != text.strip():
        done.append("thinking before the JSON was left out")
    found = _loaded(rest)
    if found is None:
        fences = _FENCE.findall(rest)
        for inner in fences:
            if (found := _loaded(inner)) is not None:
                return found, (*done, "a fence around the JSON was left out")
        found, how = _within(max(fences, key=len, default=rest))
        done.append(how)
    return found, tuple(done)


def _within(text: str) -> tuple[Json, str]:
    """The value inside a text: the longest that stands there as JSON, else the longest stretch in brackets, mended."""
    spans = sorted(_spans(text), key=lambda span: span[0] - span[1])
    if not spans:
        raise ValueError("there is no JSON in it")
    for begin, end in spans[:_MOST_SPANS]:
        if found := _loaded(text[begin:end]):  # `[]` or `{}` in a sentence is no answer
            return found, "text around the JSON was left out"
    begin, end = spans[0]
    return _mended(text[begin:end]), "the JSON was mended"


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where brackets open and close again, brackets within others and within strings not counted; an open one last."""
    begin = depth = 0
    for match in _SIGNS.finditer(text):
        sign = match[0]
        if sign[0] == '"':
            continue
        if sign in "{[":
            begin = begin if depth else match.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                yield begin, match.end()
    if depth:
        yield begin, len(text)


def _loaded(text: str) -> Json:
    """The value of a text that is JSON, when it is an object or a list; else None."""
    try:
        found = json.loads(text, parse_constant=_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _mended(text: str) -> Json:
    from json_repair import repair_json

    if len(text) > _LONGEST or _depth(text) > _DEEPEST:
        raise ValueError("it is too long or too deep to be mended")
    try:
        mended = repair_json(text, skip_json_loads=True, ensure_ascii=False)
        found = json.loads(mended, parse_constant=_constant, parse_float=_finite)
    except (RecursionError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("it can't be mended") from error
    if not isinstance(found, dict | list) or not found:
        raise ValueError("there is no JSON in it")
    return found


def _depth(text: str) -> int:
    """The most brackets that are open at once, strings not looked at: at least as many as are nested."""
    depth = most = 0
    for sign in text:
        if sign in "{[":
            depth += 1
            most = max(most, depth)
        elif sign in "}]":
            depth -= 1
    return most


def _constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number
