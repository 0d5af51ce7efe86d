"""How many tokens a text may be, without a tokenizer: none is downloaded, and each model has its own.

Qwen's tokenizer is a byte-level BPE with 151 646 entries; its authors measure about 1.5 to 1.8 characters of Chinese
and 3 to 4 characters of English for a token, and code, logs and JSON lie below prose: digits are single tokens, and
signs seldom join. Counted here: a token for 3 bytes of letters and spaces, one for each digit and each two signs,
one for two bytes beyond ASCII. That is meant to be too many rather than too few.
"""

import re
from collections.abc import Sequence
from typing import Final

from caravan.values.base import Json, canonical_json
from caravan.values.model import Message, ToolSpec

_DIGITS: Final = re.compile(rb"[0-9]")
_SIGNS: Final = re.compile(rb"[!-/:-@\[-`{-~]")
_WIDE: Final = re.compile(rb"[\x80-\xff]")
PER_MESSAGE: Final = 8
"""Tokens of a message's frame in ChatML: `<|im_start|>`, role, line break, `<|im_end|>`, line break, and some room."""


def tokens(text: str) -> int:
    """An estimate of the text's tokens, meant to be too high; 0 for an empty text."""
    data = text.encode("utf-8", "replace")
    digits, signs, wide = (len(p.findall(data)) for p in (_DIGITS, _SIGNS, _WIDE))
    rest = len(data) - digits - signs - wide
    return -(-(2 * rest + 6 * digits + 3 * signs + 3 * wide) // 6)


def message_tokens(message: Message) -> int:
    """An estimate of what a message takes of the window."""
    calls = sum(tokens(f"{c.name}{canonical_json(c.arguments)}{c.broken}") + PER_MESSAGE for c in message.calls)
    return PER_MESSAGE + tokens(message.text) + calls


def prompt_tokens(messages: Sequence[Message], *, schema: Json = None, tools: Sequence[ToolSpec] = ()) -> int:
    """An estimate of what a request takes of the window. A schema is held by the server outside of the prompt."""
    described = sum(tokens(canonical_json(tool.model_dump(mode="json"))) + PER_MESSAGE for tool in tools)
    return sum(message_tokens(m) for m in messages) + described + (0 if schema is None else PER_MESSAGE)
