"""Mem0's vector store over the embedded Qdrant: what Mem0 asks of a provider, in the embedded store's words.

Mem0 2.2.1 has no provider for the embedded engine; this is one, made by Mem0's own factory (`engine`). It is imported
with Mem0 only. It knows nothing of lessons.
"""

from types import SimpleNamespace
from typing import Any

from mem0.vector_stores.base import VectorStoreBase


class EmbeddedStore(VectorStoreBase):  # type: ignore[misc]
    """One collection in an embedded store. `shared` None: a collection that is empty and stays so.

    Mem0 makes a second collection for entities when a language-processing library is installed; lessons have none.
    """

    def __init__(self, collection_name: str, shared: Any = None, **_: Any) -> None:
        self.collection_name = collection_name
        self.shared = shared if not collection_name.endswith("_entities") else None

    def insert(self, vectors: Any, payloads: Any = None, ids: Any = None) -> None:
        """Store points."""
        payloads = payloads or [{} for _ in vectors]
        rows = zip(vectors, payloads, ids, strict=True)
        self._call("insert", points=[{"id": str(i), "vector": list(v), "payload": p} for v, p, i in rows])

    def search(self, query: str, vectors: Any, top_k: int = 5, filters: Any = None) -> Any:  # noqa: ARG002
        """The nearest points, with their cosines as scores."""
        return [_row(r) for r in self._call("search", vector=list(vectors), filters=filters, top_k=top_k) or ()]

    def find(self, vector: Any, asks: Any, fields: Any) -> Any:
        """The answers to several questions `(filters, top_k)` at once, every point once (`shard.Shard.find`).

        It is none of Mem0's: a recall asks ten questions, and Mem0 asks one at a time, each for 60 points or more.
        """
        asked = [{"filters": filters, "top_k": most} for filters, most in asks]
        vector = None if vector is None else list(vector)
        return [_row(row) for row in self._call("find", vector=vector, asks=asked, fields=list(fields)) or ()]

    def keyword_search(self, query: str, top_k: int = 5, filters: Any = None) -> None:
        """There is none: None tells Mem0 so."""

    def list(self, filters: Any = None, top_k: int | None = None) -> Any:
        """Points that pass, in the shape of Qdrant's scroll."""
        rows = self._call("rows", filters=filters, top_k=100 if top_k is None else top_k)
        return [_row(row) for row in rows or ()], None

    def get(self, vector_id: str) -> Any:
        """The point of that id, or None."""
        row = self._call("get", point=str(vector_id))
        return _row(row) if row else None

    def update(self, vector_id: str, vector: Any = None, payload: Any = None) -> None:
        """Replace a point, or a part of it."""
        self._call("update", point=str(vector_id), vector=None if vector is None else [*vector], payload=payload)

    def delete(self, vector_id: str) -> None:
        """Remove a point."""
        self._call("delete", point=str(vector_id))

    def create_col(self, name: Any = None, vector_size: Any = None, distance: Any = None) -> None:
        """The collection is there."""

    def list_cols(self) -> Any:
        """The one collection."""
        return [self.collection_name]

    def col_info(self) -> Any:
        """Its name, and how many points it has."""
        return {"name": self.collection_name, "points": self._call("count")}

    def delete_col(self) -> None:
        """Not offered: lessons are forgotten one by one."""
        raise NotImplementedError("A memory is not deleted as a whole from within.")

    def reset(self) -> None:
        """Not offered either."""
        self.delete_col()

    def _call(self, operation: str, **arguments: Any) -> Any:
        return self.shared.call(operation, **arguments) if self.shared is not None else None


def _row(row: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(id=row["id"], score=row.get("score", 0.0), payload=row["payload"])
