"""A stream of server-sent events → the same with what belongs together joined, before the client library reads it.

A reply comes as one event for each token, and the library spends most of a millisecond on each; nobody looks at the
pieces. Its opening (who speaks), its end and its usage go into the event of its text. What is no plain piece of that
is passed on as it came, so that what is wrong with a stream stays wrong. Pure.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from caravan.values.base import Json

_TEXTS: Final = frozenset({"content", "reasoning_content", "reasoning"})
_LONGEST: Final = 64 * 1024  # characters that are joined into one piece


class _Piece(NamedTuple):
    """One plain event: its object, and what it is a piece of with its text, or how the reply ended, or its usage.

    Without any of these it is an opening, which only says who speaks.
    """

    chunk: dict[str, Json]
    key: tuple[object, ...] = ()
    text: str = ""
    finish: str = ""
    usage: Json = None

    @property
    def opens(self) -> bool:
        return not self.key and not self.finish and self.usage is None


class _Joined:
    """Pieces that are joined so far: the first one's object, and the texts by where they stand."""

    def __init__(self, first: _Piece) -> None:
        self._chunk, self._key, self._texts, self._size = first.chunk, first.key, [first.text], len(first.text)

    def takes(self, piece: _Piece) -> bool:
        """Join the piece where it belongs: more of the same before the end, the end once, then the usage once."""
        choice = self._chunk["choices"][0]
        ended = bool(choice.get("finish_reason"))
        if piece.key:
            if ended or piece.key != self._key or self._size >= _LONGEST:
                return False
            self._texts.append(piece.text)
            self._size += len(piece.text)
        elif piece.finish:
            if ended:
                return False
            choice["finish_reason"] = piece.finish
        else:
            if not ended or self._chunk.get("usage") or piece.usage is None:
                return False
            self._chunk["usage"] = piece.usage
        return True

    def event(self) -> bytes:
        delta = self._chunk["choices"][0]["delta"]
        text = "".join(self._texts)
        if self._key[0] == "call":
            delta["tool_calls"][0]["function"]["arguments"] = text
        else:
            delta[self._key[0]] = text
        return b"data: " + json.dumps(self._chunk).encode() + b"\n\n"


def joined(events: Iterable[bytes], saw: Callable[[], None]) -> Iterator[bytes]:
    """The events, fewer of them. `saw` is called at each; what is held back comes out at the end.

    An exception of the stream passes through, after what was held back.
    """
    opening, held = b"", None
    try:
        for event in events:
            saw()
            piece = _piece(event)
            if piece is not None and held is not None and held.takes(piece):
                continue
            if held is not None:
                yield held.event()
                held = None
            if piece is not None and piece.key:
                held, opening = _Joined(piece), b""
                continue
            if opening:
                yield opening
            opening = event if piece is not None and piece.opens else b""
            if not opening:
                yield event
    except Exception:
        yield from _rest(opening, held)
        raise
    yield from _rest(opening, held)


def _rest(opening: bytes, held: _Joined | None) -> Iterator[bytes]:
    if opening:
        yield opening
    if held is not None:
        yield held.event()


def events_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
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


def is_done(event: bytes) -> bool:
    """Whether nothing comes after this event."""
    return event.startswith(b"data:") and event[5:].strip() == b"[DONE]"


def _piece(event: bytes) -> _Piece | None:
    """A plain event; None for what must be passed on as it is."""
    if not event.startswith(b"data:") or event.count(b"\n") != 2:
        return None
    try:
        chunk = json.loads(event[5:])
        usage = chunk.get("usage") or None
        if usage is not None:
            return _Piece(chunk, usage=usage) if chunk["choices"] == [] and isinstance(usage, dict) else None
        (choice,) = chunk["choices"]
        if choice.get("index"):
            return None
        delta = {key: value for key, value in choice["delta"].items() if value not in (None, "", [])}
        if delta.get("role") == "assistant":
            del delta["role"]  # some servers repeat it in each event
        return _of_choice(chunk, choice.get("finish_reason"), delta)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _of_choice(chunk: dict[str, Json], finish: Json, delta: dict[str, Json]) -> _Piece | None:
    if finish:
        return _Piece(chunk, finish=finish) if not delta and isinstance(finish, str) else None
    if not delta:
        return _Piece(chunk)
    ((name, value),) = delta.items()
    if name in _TEXTS and isinstance(value, str):
        return _Piece(chunk, (name,), value)
    if name != "tool_calls":
        return None
    (call,) = value
    function = call["function"]
    if call.get("id") or function.get("name") or not isinstance(function["arguments"], str):
        return None
    return _Piece(chunk, ("call", call["index"]), function["arguments"])
