"""What of a prompt an optimiser may word anew, and what stays: places, data blocks, the form of the answer. Pure.

A text falls into its head, the instructions, and its frame: from the words that lead to the first data block on. Only
the head is worded anew, and its lines that have places, or that say that data is no instruction, come back if lost.
"""

import re
from typing import Final

from caravan.values.errors import UsageError
from caravan.values.filling import fields
from caravan.values.prompts import Prompt

_BLOCK: Final = re.compile(r"<\s*data\s+name\s*=", re.IGNORECASE)
_MARKUP: Final = re.compile(r"<\s*/\s*data|<\s*data\s+\w", re.IGNORECASE)
_LONGEST: Final = 3  # times the current head, and at least
_ROOM: Final = 4000  # characters: a head may grow to the larger of both


def head_and_frame(text: str) -> tuple[str, str]:
    """The instructions, and all behind them."""
    first = _BLOCK.search(text)
    if first is None:
        return text.rstrip("\n"), ""
    begin = text.rfind("\n\n", 0, first.start())
    return (text[:begin].rstrip("\n"), text[begin:]) if begin >= 0 else ("", text)


def reworded(current: str, head: str) -> str:
    """The current text with another head. Raises UsageError for a head that no prompt may have."""
    now, frame = head_and_frame(current)
    plain = head.replace("\r\n", "\n").strip()
    if not plain or not all(c.isprintable() or c in "\n\t" for c in plain):
        raise UsageError("The instructions are empty, or hold signs that nobody sees.")
    foreign = sorted(set(fields(plain)) - set(fields(now)))
    if foreign:
        raise UsageError(f"The instructions have places that are not theirs: {', '.join(foreign)}.")
    if _MARKUP.search(plain):
        raise UsageError("The instructions open or close a data block.")
    if len(plain) > max(_ROOM, _LONGEST * len(now)):
        raise UsageError(f"The instructions are too long: {len(plain)} characters.")
    lines = plain.split("\n")
    lost = [line for line in now.split("\n") if _stays(line) and line not in lines and not _covered(line, plain)]
    return "\n".join([*lines, *lost]) + frame


def _stays(line: str) -> bool:
    return bool(fields(line)) or "<data>" in line


def _covered(line: str, text: str) -> bool:
    """Whether the text has the line's places; words that guard have to stand as they are."""
    return "<data>" not in line and set(fields(line)) <= set(fields(text))


def changed(prompt: Prompt, head: str) -> Prompt:
    """The prompt with another head. Raises UsageError as `reworded` does."""
    text = reworded(prompt.text, head)
    return prompt.model_copy(update={"text": text, "fields": fields(text), "number": None, "label": None})
