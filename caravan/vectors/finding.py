"""Which stored lessons may fit: by structure first, each kind of likeness with its nearest by words.

Few rows of each kind are read, however many lessons there are: which of them fits best is ranked by `caravan.lessons`.
"""

from collections.abc import Mapping
from typing import Any, Final

from caravan.lessons import Sought, marks

_NARROW: Final = 15  # rows that share a cause and something of the context: Mem0 reads four times as many, 60 at least
_BROAD: Final = 25  # rows that share the cause alone
_EVERYTHING: Final = 100_000  # more lessons than a store will hold: Mem0 lists only with a bound


class Rows:
    """What Mem0 finds within `scope` (filters that always hold), as its dictionaries."""

    def __init__(self, engine: Any, scope: Mapping[str, Any]) -> None:
        self._engine = engine
        self._scope = dict(scope)

    def listed(self, filters: Mapping[str, Any], most: int = _EVERYTHING) -> list[dict[str, Any]]:
        """Rows that pass, in no order that means anything."""
        asked = {**filters, **self._scope}
        rows: list[dict[str, Any]] = self._engine.get_all(filters=asked, top_k=most, show_expired=True)["results"]
        return rows

    def near(self, query: str, filters: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """The rows that pass whose words are nearest, with their likeness; none of few is left out for its words."""
        rows: list[dict[str, Any]] = []
        if query:
            asked = {**filters, **self._scope}
            found = self._engine.search(query, filters=asked, top_k=most, threshold=0.0, show_expired=True)
            rows = found["results"]
        if len(rows) < most and filters:
            known = {row["id"] for row in rows}
            unlike = {"score": 0.0} if query else {}
            rows += [{**row, **unlike} for row in self.listed(filters, most) if row["id"] not in known]
        return rows


def found_for(rows: Rows, sought: Sought, query: str, limit: int) -> list[dict[str, Any]]:
    """Rows that may fit what is sought; one may come several times."""
    found: dict[str, dict[str, Any]] = {}

    def take(filters: Mapping[str, Any], most: int) -> None:
        found.update({row["id"]: row for row in rows.near(query, filters, most) if row["id"] not in found})

    about = [{name: mark} for name, mark in marks(None, "", sought.context).items()]
    known = marks(sought.failure, sought.fingerprint, {})
    if known:
        cause = {name: mark for name, mark in known.items() if name == "failure"}
        take(known, _NARROW)
        if cause != known and cause:
            take(cause, _BROAD)
        if len(found) >= _NARROW:  # more than were read: those of the same context may not be missing
            for one in about:
                take({**cause, **one}, _NARROW)
    else:
        # One by one: asked for any of them at once, the engine looks at every lesson (90 ms among 10,000).
        for one in about:
            take(one, _NARROW)
    if query and len(found) < (limit if sought.failure else 1):
        take({}, _BROAD)
    elif not found:
        found.update({row["id"]: row for row in rows.listed({}, _BROAD)})
    return list(found.values())
