"""The embedded store: Qdrant's engine in this process (qdrant-edge), over one folder that one process owns at a time.

What can be asked of it is plain JSON, so that another process may ask, too (`shared`). It knows nothing of lessons and
of Mem0. A generation of the store is a folder of its own, and the file `current` names the one that holds, so that a
whole store is replaced by one rename: after a deletion everything is written anew, because the engine leaves deleted
text in its segments and in its log.
"""

import shutil
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from caravan.values.base import Json

DIMENSION: Final = 256  # of the embedding model that wordllama's package brings
FIELDS: Final = (
    *("user_id", "lesson_key", "only", "failure", "fingerprint"),
    *("code", "model", "repository", "subject", "family", "kin", "gpu", "framework", "gpus"),
)
"""Fields of a point by which it is found; the engine keeps an index of each. Asked for by a field without one, it reads
every point: 100 ms among 10,000."""

_CURRENT: Final = "current"
_FORGETTING: Final = "forgetting"  # there while deleted text may still be in the files
_BATCH: Final = 500  # points written at once
_PAGE: Final = 1000  # points read at once
# No graph is built over the vectors: looking at all of 10,000 takes 4 ms, building the graph took 16 s.
_NEVER_INDEXED_KB: Final = 1 << 30
_SEARCH_THREADS: Final = 1  # there is one segment, and an agent is no server


class EngineError(Exception):
    """The embedded engine could not do what it was asked."""


class _engine_errors(AbstractContextManager[None]):  # noqa: N801 - it reads as a with-statement's block
    """Turns what the engine raises into EngineError. It raises bare Exceptions, so that only the type can be asked."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # PyO3's own: a panic of the engine is a BaseException of this name.
        if kind is Exception or (kind is not None and kind.__name__ == "PanicException"):
            raise EngineError(str(error).splitlines()[0] if str(error) else "no reason given") from error


class Shard:
    """One open store. Threads may share it. Every method may raise EngineError or OSError.

    `renewed` gives the fields of a point as they are written now: points of a store that has not an index of each of
    `FIELDS` were written before there was that field.
    """

    def __init__(
        self, folder: Path, renewed: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields
    ) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._name, self._open = self._opened()
        try:
            if not set(FIELDS) <= self._open.info().payload_schema.keys():
                self._renew(renewed)
            if (folder / _FORGETTING).exists():  # whoever forgot was killed before the files were clean
                self.scrub()
        except BaseException:
            self._open.close()
            raise

    def run(self, operation: str, arguments: dict[str, Any]) -> Json:
        """The answer to one request. Raises ValueError for what is none."""
        act = _OPERATIONS.get(operation)
        if act is None:
            raise ValueError(f"The store has no operation {operation!r}.")
        with self._lock, _engine_errors():
            return act(self, **arguments)

    def insert(self, points: Sequence[dict[str, Any]]) -> None:
        """Store points `{id, vector, payload}`; those of the same id are replaced."""
        _fill(self._open, points)

    def search(self, vector: Sequence[float], filters: dict[str, Any] | None, top_k: int) -> list[dict[str, Any]]:
        """The points nearest by cosine among those that pass, the nearest first, with their score."""
        import qdrant_edge as edge

        asked = edge.QueryRequest(
            limit=top_k, query=edge.Query.Nearest(list(vector)), filter=_filter(filters), with_payload=True
        )
        return [{"id": str(p.id), "score": p.score, "payload": p.payload or {}} for p in self._open.query(asked)]

    def find(
        self, vector: Sequence[float] | None, asks: Sequence[dict[str, Any]], fields: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The answers to several questions `{filters, top_k}` at once: every point once, with those fields.

        With a vector the nearest that pass, with their cosine as score; without one any that pass, without score. The
        engine finds points in a fraction of the time that it takes to read them, so each is read once.
        """
        import qdrant_edge as edge

        found: dict[str, float | None] = {}
        for ask in asks:
            passing, most = _filter(ask["filters"]), ask["top_k"]
            if vector is None:
                scroll = edge.ScrollRequest(limit=most, filter=passing, with_payload=False)
                found |= {str(record.id): None for record in self._open.scroll(scroll)[0]}
            else:
                nearest = edge.Query.Nearest(list(vector))
                asked = edge.QueryRequest(limit=most, query=nearest, filter=passing, with_payload=False)
                found |= {str(point.id): point.score for point in self._open.query(asked)}
        read = self._open.retrieve(list(found), with_payload=list(fields), with_vector=False) if found else ()
        payloads = {str(record.id): record.payload or {} for record in read}
        return [{"id": i, "score": score, "payload": payloads[i]} for i, score in found.items() if i in payloads]

    def rows(self, filters: dict[str, Any] | None, top_k: int) -> list[dict[str, Any]]:
        """Points that pass, in no order that means anything."""
        return _read(self._open, _filter(filters), top_k)

    def get(self, point: str) -> dict[str, Any] | None:
        """The point of that id, or None."""
        found = self._open.retrieve([point], with_payload=True, with_vector=False)
        return {"id": str(found[0].id), "payload": found[0].payload or {}} if found else None

    def update(self, point: str, vector: Sequence[float] | None = None, payload: dict[str, Any] | None = None) -> None:
        """Replace a point, or give it another vector, or set fields of its payload."""
        import qdrant_edge as edge

        if vector is not None and payload is not None:
            self.insert([{"id": point, "vector": vector, "payload": payload}])
        elif payload is not None:
            self._open.update(edge.UpdateOperation.set_payload([point], payload))
        elif vector is not None:
            self._open.update(edge.UpdateOperation.update_vectors([edge.PointVectors(point, list(vector))]))

    def delete(self, point: str) -> None:
        """Remove a point. What it left in the files goes with the next `scrub`, at the latest at the next opening."""
        import qdrant_edge as edge

        (self._folder / _FORGETTING).touch(mode=0o600)
        self._open.update(edge.UpdateOperation.delete_points([point]))

    def count(self) -> int:
        """How many points there are."""
        import qdrant_edge as edge

        return int(self._open.count(edge.CountRequest(exact=True)))

    def scrub(self) -> None:
        """Write everything anew, so that nothing of deleted points is left in the files."""
        with self._lock, _engine_errors():
            if (self._folder / _FORGETTING).exists():
                self._replace(_read(self._open, None, None, with_vector=True))
                (self._folder / _FORGETTING).unlink(missing_ok=True)

    def take_in(self, points: Iterable[dict[str, Any]]) -> None:
        """Store points beside those that are there: all of them, or, after a crash, none."""
        with self._lock, _engine_errors():
            there = {row["id"]: row for row in _read(self._open, None, None, with_vector=True)}
            self._replace([*({row["id"]: row for row in points} | there).values()])

    def _renew(self, renewed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        with self._lock, _engine_errors():
            rows = _read(self._open, None, None, with_vector=True)
            self._replace([{**row, "payload": renewed(row["payload"])} for row in rows])

    def close(self) -> None:
        """Write out and let go of the files."""
        with self._lock, _engine_errors():
            self._open.close()

    def _opened(self) -> tuple[str, Any]:
        """The generation that holds, or a new empty one; what an interrupted replacement left is removed."""
        import qdrant_edge as edge

        named = self._folder / _CURRENT
        name = named.read_text(encoding="utf-8", errors="replace").strip() if named.exists() else ""
        if named.exists() and not (name.startswith("gen-") and (self._folder / name).is_dir()):
            raise EngineError(f"{named} names no store")  # before anything is removed for it
        for other in self._folder.glob("gen-*"):
            if other.name != name:
                shutil.rmtree(other)
        with _engine_errors():
            if name:
                return name, edge.EdgeShard.load(str(self._folder / name))
            return self._generation(())

    def _generation(self, points: Iterable[dict[str, Any]]) -> tuple[str, Any]:
        """A new generation with those points, whole on disk, and the one that holds from now on."""
        import qdrant_edge as edge

        name = f"gen-{uuid.uuid4().hex}"
        place = self._folder / name
        place.mkdir(mode=0o700)
        vectors = edge.EdgeVectorParams(size=DIMENSION, distance=edge.Distance.Cosine)
        optimizers = edge.EdgeOptimizersConfig(indexing_threshold=_NEVER_INDEXED_KB, default_segment_number=1)
        config = edge.EdgeConfig(vectors=vectors, optimizers=optimizers, max_search_threads=_SEARCH_THREADS)
        shard = edge.EdgeShard.create(str(place), config)
        for field in FIELDS:
            shard.update(edge.UpdateOperation.create_field_index(field, edge.PayloadSchemaType.Keyword))
        _fill(shard, points)
        shard.flush()
        partly = self._folder / f"{_CURRENT}.partly"
        partly.write_text(name, encoding="ascii")
        partly.replace(self._folder / _CURRENT)
        return name, shard

    def _replace(self, points: Iterable[dict[str, Any]]) -> None:
        old, before = self._name, self._open
        self._name, self._open = self._generation(points)
        before.close()
        shutil.rmtree(self._folder / old)


_OPERATIONS: Final[dict[str, Callable[..., Json]]] = {
    name: getattr(Shard, name)
    for name in ("insert", "search", "find", "rows", "get", "update", "delete", "count", "scrub")
}


def _fill(shard: Any, points: Iterable[dict[str, Any]]) -> None:
    import qdrant_edge as edge

    made = [edge.Point(p["id"], list(p["vector"]), p.get("payload") or {}) for p in points]
    for begin in range(0, len(made), _BATCH):
        shard.update(edge.UpdateOperation.upsert_points(made[begin : begin + _BATCH]))


def _read(shard: Any, passing: Any, most: int | None, *, with_vector: bool = False) -> list[dict[str, Any]]:
    """Points that pass, page by page; with their vectors as the engine keeps them: of length 1."""
    import qdrant_edge as edge

    rows: list[dict[str, Any]] = []
    offset = None
    while most is None or len(rows) < most:
        limit = _PAGE if most is None else min(_PAGE, most - len(rows))
        asked = edge.ScrollRequest(
            offset=offset, limit=limit, filter=passing, with_payload=True, with_vector=with_vector
        )
        found, offset = shard.scroll(asked)
        for record in found:
            row = {"id": str(record.id), "payload": record.payload or {}}
            rows.append({**row, "vector": record.vector} if with_vector else row)
        if offset is None:
            break
    return rows


def _filter(filters: dict[str, Any] | None) -> Any:
    """Mem0's filters as the engine's. Raises ValueError for an operator that is not known here."""
    import qdrant_edge as edge

    if not filters:
        return None
    parts: dict[str, list[Any]] = {"must": [], "should": [], "must_not": []}
    for key, value in filters.items():
        logical = {"AND": "must", "OR": "should", "NOT": "must_not"}.get(key.replace("$", "").upper())
        if logical is None:
            parts["must"].append(_condition(key, value))
        else:
            parts[logical] += [_filter(each) for each in value]
    must, should, must_not = (parts[name] or None for name in ("must", "should", "must_not"))
    return edge.Filter(must=must, should=should, must_not=must_not)


def _condition(key: str, value: Any) -> Any:
    import qdrant_edge as edge

    operator, operand = next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else ("eq", value)
    operator = "in" if operator == "eq" and isinstance(operand, list) else operator
    match: Any
    if operator == "eq" and isinstance(operand, str | int):
        match = edge.MatchValue(operand)
    elif operator == "in":
        match = edge.MatchAny(operand)
    elif operator in ("nin", "ne"):
        match = edge.MatchExcept(operand if operator == "nin" else [operand])
    else:
        raise ValueError(f"The embedded store can't filter {key} by {operator!r}.")
    return edge.FieldCondition(key=key, match=match)
