"""A stream of server-sent events → the same with runs of small pieces joined, before the client library reads it.

A reply comes as one event for each token, and the library spends most of a millisecond on each; nobody looks at the
pieces. What is no plain piece of text or of a call's arguments is passed on as it came, so that what is wrong with a
stream stays wrong. Pure.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from caravan.values.base import Json

_TEXTS: Final = frozenset({"content", "reasoning_content", "reasoning"})
_LONGEST: Final = 64 * 1024  # characters that are joined into one piece


class _Joined:
    """Pieces that are joined so far: the first one's event and the texts by where they stand."""

    def __init__(self, chunk: dict[str, Json], key: tuple[object, ...], text: str) -> None:
        self.chunk, self.key, self.texts, self.size = chunk, key, [text], len(text)

    def add(self, text: str) -> None:
        self.texts.append(text)
        self.size += len(text)

    def event(self) -> bytes:
        delta = self.chunk["choices"][0]["delta"]
        text = "".join(self.texts)
        if self.key[0] == "call":
            delta["tool_calls"][0]["function"]["arguments"] = text
        else:
            delta[self.key[0]] = text
        return b"data: " + json.dumps(self.chunk).encode() + b"\n\n"


def joined(pieces: Iterable[bytes], saw: Callable[[], None]) -> Iterator[bytes]:
    """The stream's bytes, fewer of them. `saw` is called at each event; what is held back comes out at its end.

    An exception of the stream passes through, after what was held back.
    """
    held: _Joined | None = None
    try:
        for event in _events(pieces):
            saw()
            found = _piece(event)
            if found is None:
                if held is not None:
                    yield held.event()
                    held = None
                yield event
                continue
            chunk, key, text = found
            if held is not None and held.key == key and held.size < _LONGEST:
                held.add(text)
                continue
            if held is not None:
                yield held.event()
            held = _Joined(chunk, key, text)
    except Exception:
        if held is not None:
            yield held.event()
        raise
    if held is not None:
        yield held.event()


def _events(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Whole events with the empty line that ends each; the rest of a stream that breaks off within one comes last.

    A stream whose lines end otherwise than in a line feed comes in one.
    """
    rest: list[bytes] = []
    for piece in pieces:
        if b"\n" not in piece:
            rest.append(piece)
            continue
        data = b"".join((*rest, piece)) if rest else piece
        *events, last = data.replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            yield event + b"\n\n"
        rest = [last] if last else []
    if rest:
        yield b"".join(rest)


def _piece(event: bytes) -> tuple[dict[str, Json], tuple[object, ...], str] | None:
    """The event's object, what it is a piece of, and its text; None for what must be passed on as it is."""
    if not event.startswith(b"data:") or event.count(b"\n") != 2:
        return None
    try:
        chunk = json.loads(event[5:])
        (choice,) = chunk["choices"]
        if chunk.get("usage") or choice.get("finish_reason") or choice.get("index"):
            return None
        delta = {key: value for key, value in choice["delta"].items() if value not in (None, "", [])}
        if delta.get("role") == "assistant":
            del delta["role"]  # some servers repeat it in each event
        ((name, value),) = delta.items()
        if name in _TEXTS and isinstance(value, str):
            return chunk, (name,), value
        if name != "tool_calls":
            return None
        (call,) = value
        function = call["function"]
        if call.get("id") or function.get("name") or not isinstance(function["arguments"], str):
            return None
        return chunk, ("call", call["index"]), function["arguments"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
