"""Conversations as a model's chat template writes them, by a program of its own with bounded time and memory."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

WAIT_S: Final = 20.0
_CHILD: Final = Path(__file__).with_name("chat_child.py")
_MOST: Final = 8_000_000  # characters of conversations that are written; the rest goes by what these came to


class TemplateBroken(Exception):
    """The template is none, or does not end."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Refused(str):
    """In place of a text: why the template does not take a conversation."""

    __slots__ = ()


def written(
    template: str, special: Mapping[str, str], conversations: Sequence[Sequence[Mapping[str, str]]]
) -> list[str]:
    """The text of each conversation, `Refused` for one that the template does not take. Raises TemplateBroken.

    Fewer are given back where they are very long.
    """
    size = 0
    chosen: list[list[dict[str, str]]] = []
    for messages in conversations:
        size += sum(len(m["content"]) for m in messages)
        if size > _MOST and chosen:
            break
        chosen.append([dict(m) for m in messages])
    asked = json.dumps({"template": template, "special": dict(special), "conversations": chosen})
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_CHILD)],
            input=asked.encode("utf-8", "replace"),
            capture_output=True,
            timeout=WAIT_S,
            check=False,
            env={},
        )
    except subprocess.TimeoutExpired as error:
        raise TemplateBroken("it does not end") from error
    except OSError as error:
        raise TemplateBroken(f"it can't be tried ({error.strerror})") from error
    try:
        told = json.loads(done.stdout)
    except ValueError as error:
        raise TemplateBroken("it takes too much time or memory") from error
    if "broken" in told:
        raise TemplateBroken(f"it is no template ({told['broken']})")
    return [_one(each, template) for each in told["written"]]


def _one(each: Mapping[str, str], template: str) -> str:
    if "text" in each:
        return each["text"]
    said = each.get("refused", "")
    literal = bool(said) and said in template  # its own words, not a row's
    return Refused(said if literal else each.get("error", "it refuses it"))
