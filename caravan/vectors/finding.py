"""Which stored lessons may fit: by structure first, each kind of likeness with its nearest by words.

Few rows of each kind are read, however many lessons there are: which of them fits best is ranked by `caravan.lessons`.
All questions of one recall go to the store at once: asked one by one, most of the time went into asking.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from caravan.lessons import Sought, marks
from caravan.lessons.records import DECIDING
from caravan.lessons.weights import deciding

Ask = tuple[Mapping[str, Any], int]
"""Filters, and how many of the rows that pass are wanted."""

_SURE: Final = 0.9  # from here on a diagnosis says its cause in so many words
_NARROW: Final = 15  # rows that share a cause and something of the context
_BROAD: Final = 25  # rows that share the cause alone
_EVERYTHING: Final = 100_000  # more lessons than a store will hold: Mem0 lists only with a bound
_READ: Final = ("record",)  # of a point's fields


class Rows:
    """What the open Mem0 finds within `scope` (filters that always hold), as its dictionaries."""

    def __init__(self, engine: Any, scope: Mapping[str, Any]) -> None:
        self._engine = engine
        self._scope = dict(scope)

    def listed(self, filters: Mapping[str, Any], most: int = _EVERYTHING) -> list[dict[str, Any]]:
        """Rows that pass, in no order that means anything."""
        asked = {**filters, **self._scope}
        rows: list[dict[str, Any]] = self._engine.get_all(filters=asked, top_k=most, show_expired=True)["results"]
        return rows

    def near(self, query: str, asks: Sequence[Ask]) -> dict[str, dict[str, Any]]:
        """By id the rows that pass and whose words are nearest, with their likeness; none is left out for its words.

        Without words any that pass, without likeness. Mem0's own search would read 60 rows for each question.
        """
        vector = self._engine.embedding_model.embed(query, "search") if query else None
        asked = [({**filters, **self._scope}, most) for filters, most in asks]
        store = self._engine.vector_store
        points = store.find(vector, asked, _READ) if hasattr(store, "find") else _each(store, query, vector, asked)
        return {str(p.id): {"id": str(p.id), "metadata": p.payload, "score": _likeness(p, vector)} for p in points}


def found_for(rows: Rows, sought: Sought, query: str, limit: int) -> list[dict[str, Any]]:
    """Rows that may fit what is sought, each once."""
    found = rows.near(query, _asks(sought))
    unsure = sought.failure is not None and (sought.confidence < _SURE or len(found) < limit)
    if query and (unsure or not found):
        found = rows.near(query, [({}, _BROAD)]) | found
    if not found:
        found = rows.near("", [({}, _BROAD)])
    return list(found.values())


def _asks(sought: Sought) -> list[Ask]:
    """What is asked by structure. Each by one mark: by any of several at once the engine looks at every lesson."""
    named = marks(None, "", sought.context)
    asked = {*named} - {*DECIDING} | {*deciding(sought.failure, DECIDING)}
    about = [{name: mark} for name, mark in named.items() if name in asked]
    known = marks(sought.failure, sought.fingerprint, {})
    if not known:
        return [(one, _NARROW) for one in about]
    cause = {name: mark for name, mark in known.items() if name == "failure"}
    asks: list[Ask] = [(known, _NARROW)]
    if cause and cause != known:
        asks.append((cause, _BROAD))
    # Of a cause that many lessons have, those of the same context may not be missing.
    asks += [({**cause, **one}, _NARROW) for one in about]
    if "subject" in named:  # the same failure may have been read as another cause
        asks.append(({"subject": named["subject"]}, _NARROW))
    return asks


def _each(store: Any, query: str, vector: Any, asks: Sequence[Ask]) -> Iterator[Any]:
    """The same of a server: Mem0's adapter asks one question at a time."""
    for filters, most in asks:
        if vector is None:
            yield from store.list(filters=filters, top_k=most)[0]
        else:
            yield from store.search(query=query, vectors=vector, top_k=most, filters=filters)


def _likeness(point: Any, vector: Any) -> float | None:
    return None if vector is None else max(float(point.score or 0.0), 0.0)
