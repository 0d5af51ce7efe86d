"""What fits a model's window: parts of a context by their worth, and the conversation of a tool loop. Pure.

Tokens are estimated (`tokens.py`), rather too many than too few.
"""

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from pydantic import Field

from caravan.agent.model.tokens import message_tokens, tokens
from caravan.ports import ChatModel
from caravan.values.base import Value
from caravan.values.model import Message

UNKNOWN: Final = 16_384
"""The window that is counted on where nobody says one, in tokens: half of Qwen3's own 32 768 without extension."""
_LEAST: Final = 40  # tokens of a part that are worth showing
_NOTE: Final = 16  # tokens of the note that a part was cut
_LEFT_OUT: Final = "(Left out: there was no room for it any more.)"


class Part(Value):
    """A piece of context: what it is called, its text, and what it is worth beside the others (the more the better).

    `whole`: it is left out rather than cut.
    """

    name: str
    text: str
    worth: float = 1.0
    whole: bool = False


class Fitted(Value):
    """The parts that fit, in the order in which they were given; names of what was cut and of what was left out."""

    parts: tuple[Part, ...] = ()
    cut: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    tokens: int = Field(default=0, ge=0)

    def text(self) -> str:
        """The parts one after the other, an empty line between them."""
        return "\n\n".join(part.text for part in self.parts)


@runtime_checkable
class HasWindow(Protocol):
    """A model that knows its window."""

    @property
    def window(self) -> int | None:
        """Tokens of prompt and reply together; None: unknown."""


@runtime_checkable
class HasConnections(Protocol):
    """A model that holds connections open."""

    def close(self) -> None:
        """Let go of them; a later call opens them again."""


def window_of(chat: ChatModel) -> int:
    """The model's window in tokens, or what is counted on where it is unknown."""
    known = chat.window if isinstance(chat, HasWindow) else None
    return known or UNKNOWN


def room(window: int, *, reply: int = 4096) -> int:
    """Tokens of a window that a prompt may take: a reply has its own, but never more than a third."""
    return window - min(reply, window // 3)


def fitted(parts: Sequence[Part], window: int) -> Fitted:
    """The parts that fit `window` tokens, the most worth first; of equal worth, the earlier.

    A part that does not fit whole is cut at the end of a line, with a note; later parts may still fit.
    """
    left = max(0, window)
    kept: dict[int, Part] = {}
    cut: list[str] = []
    for index in sorted(range(len(parts)), key=lambda i: (-parts[i].worth, i)):
        part = parts[index]
        size = tokens(part.text) + 1
        if size > left:
            shown = "" if part.whole or left < _LEAST + _NOTE else shortened(part.text, left - 1)
            if not shown:
                continue
            part = part.model_copy(update={"text": shown})
            size = tokens(shown) + 1
            cut.append(part.name)
        kept[index] = part
        left -= size
    return Fitted(
        parts=tuple(kept[i] for i in sorted(kept)),
        cut=tuple(cut),
        left_out=tuple(p.name for i, p in enumerate(parts) if i not in kept),
        tokens=max(0, window) - left,
    )


def shortened(text: str, most: int) -> str:
    """The first whole lines of a text that take at most `most` tokens together with the note that follows them.

    Empty when not one line fits; a text that fits comes back as it is.
    """
    if tokens(text) <= most:
        return text
    lines = text.splitlines(keepends=True)
    low, high = 0, len(lines)
    while low < high:  # the most lines that fit
        middle = (low + high + 1) // 2
        if tokens("".join(lines[:middle])) + _NOTE <= most:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        return ""
    shown = "".join(lines[:low])
    end = "" if shown.endswith("\n") else "\n"
    return f"{shown}{end}(Cut here: {len(lines) - low} more lines.)"


def cut_bytes(text: str, most: int) -> str:
    """A text of at most about `most` bytes of UTF-8: cut at the end of a line where there is one, with a note."""
    data = text.encode("utf-8", "replace")
    if len(data) <= most:
        return text
    shown = data[: max(0, most)].decode("utf-8", "ignore")
    line = shown.rfind("\n")
    shown = shown[: line + 1] if line > len(shown) // 2 else shown
    return f"{shown}{'' if shown.endswith(chr(10)) else chr(10)}(Cut here: {len(data)} bytes in all.)"


def bounded(messages: Sequence[Message], most: int) -> tuple[Message, ...]:
    """A conversation of at most `most` tokens, as far as leaving out tools' answers, the oldest first, makes it so."""
    found = list(messages)
    size = sum(message_tokens(m) for m in found)
    for index, message in enumerate(found):
        if size <= most:
            break
        if message.role == "tool" and len(message.text) > len(_LEFT_OUT):
            found[index] = message.model_copy(update={"text": _LEFT_OUT})
            size += message_tokens(found[index]) - message_tokens(message)
    return tuple(found)
