"""JSON as bytes: fast where it is plain, and kept for objects that do not change. Knows nothing of what it encodes."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import orjson


def encoded(value: Any) -> bytes:
    """A value as JSON without blanks."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a number beyond 64 bits, half a character: what JSON may hold and few have
        return json.dumps(value, separators=(",", ":")).encode()


def listed(pieces: Iterable[bytes]) -> bytes:
    """A JSON list of what is encoded already."""
    given = list(pieces)
    if not given:
        return b"[]"
    given[0] = b"[" + given[0]  # at the ends, for the whole may be megabytes, and is then copied once
    given[-1] += b"]"
    return b",".join(given)


class Kept:
    """What was encoded from objects, by key, until the key has another object: lists are long, and little moves."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, bytes]] = {}

    def of(self, key: str, source: Any, make: Callable[[], Any], *, room: int) -> bytes:
        """The encoded `make()`, made anew when `source` is another object (or number) than the last time.

        `room`: how many keys there are; when far more are known, most are gone and all are forgotten.
        """
        known = self._known.get(key)
        if known is not None and known[0] is source:
            return known[1]
        if len(self._known) > 2 * room + 100:
            self._known.clear()
        made = encoded(make())
        self._known[key] = source, made
        return made
