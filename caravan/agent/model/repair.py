"""What a model wrote → the JSON value that it meant: without thinking, fences and the text around it, mended. Pure.

Whatever the text is, a value comes back or a ValueError. Nothing is invented: what is mended is punctuation.
"""

import json
import re
from typing import Final

from caravan.values.base import Json

_OPEN, _CLOSE = "<think>", "</think>"
_FENCE: Final = re.compile(r"```[ \t]*(?:json[c5]?|JSON)?[ \t]*\r?\n(.*?)(?:\r?\n[ \t]*```|\Z)", re.DOTALL)
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
        rest = max(fences, key=len, default=rest)
        begin = min((i for i in (rest.find("{"), rest.find("[")) if i >= 0), default=-1)
        if begin < 0:
            raise ValueError("there is no JSON in it")
        found, how = _within(rest[begin:])
        done.append(how)
    return found, tuple(done)


def _within(text: str) -> tuple[Json, str]:
    """The value at the beginning of the text, as it stands or mended."""
    try:
        found, _ = json.JSONDecoder(parse_constant=_constant).raw_decode(text)
    except (ValueError, RecursionError):
        return _mended(text), "the JSON was mended"
    if not found:  # `[]` or `{}` in a sentence is no answer
        return _mended(text), "the JSON was mended"
    return found, "text around the JSON was left out"


def _loaded(text: str) -> Json:
    """The value of a text that is JSON, when it is an object or a list; else None."""
    try:
        found = json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _mended(text: str) -> Json:
    from json_repair import repair_json

    if len(text) > _LONGEST or _depth(text) > _DEEPEST:
        raise ValueError("it is too long or too deep to be mended")
    try:
        # the library's own number of a NaN would be no JSON
        found = json.loads(repair_json(text, skip_json_loads=True, ensure_ascii=False), parse_constant=_constant)
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
