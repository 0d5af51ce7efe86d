"""Long-term memory: lessons in Mem0 over Qdrant, embedded in a folder or on a server. The only user of either library.

What is stored, what counts as equal and what fits best is decided in `caravan.lessons`; this module carries it to the
store and back. It knows nothing of runs. Before Mem0 is imported, `config.prepare_third_party_environment` must have
been called: Mem0 reads its settings from the environment on import.

The libraries take seconds to import, so they are imported on the first call that needs them; a store that was never
written answers without them.
"""

import functools
import logging
import pickle
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from caravan.lessons import (
    Candidate,
    Sought,
    as_case,
    first,
    from_metadata,
    lesson_key,
    masked,
    merge,
    prepared,
    rank,
    search_text,
    to_metadata,
)
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import ServiceError, UsageError
from caravan.values.failure import Diagnosis, Lesson, PastCase

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

SCOPE: Final = "caravan"  # Mem0 wants a user for everything; all lessons are one user's
COLLECTION: Final = "lessons"
DIMENSION: Final = 256  # of the embedding model that wordllama's package brings

_EVERYTHING: Final = 100_000  # more lessons than a store will hold: Mem0 lists only with a bound
_STRUCTURED: Final = 500  # cases of one cause or fingerprint that are looked at
_ALIKE: Final = 200  # cases that are looked at for the likeness of their text
_QUERY_LIMIT: Final = 4000  # characters of a query that are embedded

# What Mem0, Qdrant's embedded store and the HTTP client raise for a broken, locked or unreachable store, beside their
# own exceptions: pickled points and SQLite files that are damaged may raise nearly anything of these.
_FOREIGN: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.PickleError,
    sqlite3.Error,
)


class _InUse(Exception):
    """Another process holds the embedded store."""


class Mem0Memory:
    """The port Memory on Mem0 2 over Qdrant: embedded in `folder`, or on the server at `url`.

    Constructing it costs nothing and touches nothing. `close` lets go of the store; the next call opens it again. An
    embedded store belongs to one process at a time. Every method may raise ServiceError; callers go on without memory.
    `secrets` are values that must not be stored.
    """

    def __init__(
        self,
        folder: Path | None,
        url: str | None = None,
        *,
        clock: Clock,
        api_key: str | None = None,
        secrets: Sequence[str] = (),
        timeout_s: int = 5,
    ) -> None:
        if folder is None and url is None:
            raise UsageError("The memory needs a folder or the address of a Qdrant server.")
        self._path = None if url is not None or folder is None else folder / "qdrant"
        self._url = url
        self._api_key = api_key
        self._clock = clock
        self._secrets = tuple(secrets)
        self._timeout_s = timeout_s
        self._lock = threading.RLock()  # the embedded store loses writes when threads share it
        self._engine: Any = None
        self._closer: weakref.finalize[..., Mem0Memory] | None = None

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        """Cases like this one, the most fitting first: those of the same cause and shape before those of like words."""
        sought = Sought(
            failure=diagnosis.failure if diagnosis else None,
            fingerprint=diagnosis.fingerprint if diagnosis else "",
            context=context,
        )
        query = str(masked("", text.strip() or (diagnosis.cause if diagnosis else ""), self._secrets))[:_QUERY_LIMIT]
        with self._store(read_only=True) as engine:
            found = _candidates(engine, sought, query) if engine is not None else []
        return rank(found, sought, self._clock.now(), limit=limit)

    def remember(self, lesson: Lesson) -> str:
        """Store a lesson, or merge it into the equal one that is there; the id comes back."""
        lesson = prepared(lesson, self._secrets)
        key, now = lesson_key(lesson), self._clock.now()
        with self._store() as engine:
            filters = {"user_id": SCOPE, "lesson_key": key}
            for found in engine.get_all(filters=filters, top_k=1, show_expired=True)["results"]:
                stored = from_metadata(found.get("metadata") or {})
                if stored is None:
                    continue
                merged = merge(stored, lesson, now)
                if merged != stored:
                    engine.update(found["id"], metadata=to_metadata(merged, key))
                return str(found["id"])
            metadata = to_metadata(first(lesson, now), key)
            added = engine.add(search_text(lesson), user_id=SCOPE, metadata=metadata, infer=False)
            return str(added["results"][0]["id"])

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """What is stored, the last seen first."""
        with self._store(read_only=True) as engine:
            if engine is None:
                return ()
            rows = engine.get_all(filters={"user_id": SCOPE}, top_k=_EVERYTHING, show_expired=True)["results"]
        now = self._clock.now()
        found = sorted(_readable(rows), key=lambda c: (c.stored.last_seen, c.id), reverse=True)
        return tuple(as_case(candidate, now) for candidate in found[: max(limit, 0)])

    def forget(self, case_id: str) -> bool:
        """Remove a lesson, its vector and every trace of its text; False when there is none of that id."""
        if not _is_id(case_id):
            return False
        with self._store(read_only=True) as engine:
            found = engine.get(case_id) if engine is not None else None
            if not found or found.get("user_id") != SCOPE:
                return False
            engine.delete(case_id)
            # Mem0 writes what it deletes into its history. Ours lives in this process only, but it lives.
            engine.db.connection.execute("DELETE FROM history WHERE memory_id = ?", (case_id,))
            engine.db.connection.commit()
            self._scrub()
            return True

    def close(self) -> None:
        """Let go of the store, so that another process may have it. The next call opens it again."""
        with self._lock:
            self._engine = None
            if self._closer is not None:
                self._closer()
                self._closer = None

    @contextmanager
    def _store(self, *, read_only: bool = False) -> Iterator[Any]:
        """The open Mem0 under the lock, with foreign exceptions mapped; None when nothing was ever written."""
        with self._lock:
            if read_only and self._path is not None and not self._path.is_dir():
                yield None
                return
            try:
                if self._engine is None:
                    self._open()
                yield self._engine
            except _InUse as error:
                raise ServiceError(
                    f"The memory at {self._path} is in use by another process.",
                    hint="Wait until it has ended, or share a Qdrant server between agents (QDRANT_URL).",
                ) from error
            except _FOREIGN as error:
                raise self._refused(error) from error
            except _library_errors() as error:
                raise self._refused(error) from error

    def _open(self) -> None:
        lock = _locked(self._path) if self._path is not None else None
        try:
            self._engine = _engine(self._path, self._url, self._api_key, self._timeout_s)
        except BaseException:
            if lock is not None:
                lock.close()
            raise
        # Closing at the interpreter's very end would be too late for Qdrant's client.
        self._closer = weakref.finalize(self, _release, self._engine, lock)

    def _scrub(self) -> None:
        """Overwrite what a deletion left in the embedded store's file."""
        if self._path is None:
            return
        with closing(sqlite3.connect(self._path / "collection" / COLLECTION / "storage.sqlite")) as file:
            file.execute("VACUUM")

    def _refused(self, error: BaseException) -> ServiceError:
        where = self._url or str(self._path)
        reason = str(masked("", f"{type(error).__name__}: {error}", (*self._secrets, self._api_key or "")))[:300]
        hint = "Is QDRANT_URL right and the server up?" if self._url else "Move the folder away to start afresh."
        return ServiceError(
            f"The memory at {where} can't be used ({reason}).", hint=f"{hint} CARAVAN_MEMORY=0 goes on without it."
        )


class NullMemory:
    """Memory switched off: it knows nothing and keeps nothing."""

    def recall(
        self,
        *,
        text: str,  # noqa: ARG002
        diagnosis: Diagnosis | None,  # noqa: ARG002
        context: dict[str, Json],  # noqa: ARG002
        limit: int = 5,  # noqa: ARG002
    ) -> tuple[PastCase, ...]:
        """Nothing."""
        return ()

    def remember(self, lesson: Lesson) -> str:  # noqa: ARG002
        """Nothing is stored: the id is empty."""
        return ""

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    def forget(self, case_id: str) -> bool:  # noqa: ARG002
        """There is nothing to forget."""
        return False

    def close(self) -> None:
        """There is nothing to let go of."""


def _candidates(engine: Any, sought: Sought, query: str) -> list[Candidate]:
    """What may fit: by likeness of text, and by cause or fingerprint. Each lesson once, with its likeness where known.

    Two questions to the store, because the embedded one looks at every lesson for each of them.
    """
    rows: list[dict[str, Any]] = []
    if query.strip():
        # No threshold: the cause decides, not the words.
        alike = {"filters": {"user_id": SCOPE}, "top_k": _ALIKE, "threshold": 0.0, "show_expired": True}
        rows += engine.search(query, **alike)["results"]
    structure = {"failure": sought.failure and str(sought.failure), "fingerprint": sought.fingerprint}
    either = [{name: value} for name, value in structure.items() if value]
    filters = {"user_id": SCOPE, "OR": either} if either else {"user_id": SCOPE}
    if either or not rows:
        rows += engine.get_all(filters=filters, top_k=_STRUCTURED, show_expired=True)["results"]
    found: dict[str, Candidate] = {}
    for candidate in _readable(rows):
        found.setdefault(candidate.id, candidate)
    return list(found.values())


def _readable(rows: Sequence[dict[str, Any]]) -> Iterator[Candidate]:
    for row in rows:
        stored = from_metadata(row.get("metadata") or {})
        if stored is not None:
            yield Candidate(id=str(row["id"]), stored=stored, similarity=row.get("score"))


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _library_errors() -> tuple[type[Exception], ...]:
    """The exceptions of Mem0, Qdrant and httpx that are not built-in ones. By now they are imported, or nothing is."""
    from httpx import HTTPError, InvalidURL
    from mem0.exceptions import MemoryError as Mem0Error
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    return HTTPError, InvalidURL, Mem0Error, ApiException, QdrantException


def _engine(path: Path | None, url: str | None, api_key: str | None, timeout_s: int) -> Any:
    """An open Mem0 without telemetry and without a language model that could be called."""
    with _quiet_imports():
        from langchain_core.language_models.fake_chat_models import FakeListChatModel
        from mem0 import Memory
        from mem0.memory import telemetry
    if telemetry.MEM0_TELEMETRY:
        raise ServiceError("Mem0 was imported with its telemetry on.", hint="CARAVAN_MEMORY=0 goes on without it.")
    vectors: dict[str, Any] = {"collection_name": COLLECTION, "embedding_model_dims": DIMENSION, "path": str(path)}
    if url is not None:
        vectors["client"] = _server(url, api_key, timeout_s)  # then the path, which Mem0 insists on, is not used
    else:
        vectors["on_disk"] = True
    config = {
        "vector_store": {"provider": "qdrant", "config": vectors},
        "embedder": {"provider": "langchain", "config": {"model": _embeddings(), "embedding_dims": DIMENSION}},
        # Mem0 wants a model even where none is used (infer=False); this one can't answer.
        "llm": {"provider": "langchain", "config": {"model": FakeListChatModel(responses=[])}},
        "history_db_path": ":memory:",  # a file would keep the texts of forgotten lessons
    }
    return Memory.from_config(config)


def _server(url: str, api_key: str | None, timeout_s: int) -> Any:
    from qdrant_client import QdrantClient

    return QdrantClient(url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False)


def _locked(path: Path) -> IO[str]:
    """The embedded store's lock, held while the file that comes back is open. Raises _InUse.

    Qdrant has a lock of its own, but reads the points before it takes it: what another process adds meanwhile would
    be missing here.
    """
    import portalocker

    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (path / "owner.lock").open("a", encoding="utf-8")
    try:
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.exceptions.LockException as error:
        file.close()
        raise _InUse from error
    return file


def _release(engine: Any, lock: IO[str] | None) -> None:
    engine.close()
    engine.vector_store.client.close()  # Mem0's own close leaves it open
    if lock is not None:
        lock.close()


@functools.cache
def _embeddings() -> "Embeddings":
    """Sentence embeddings from wordllama's own package folder: no download, 0.05 ms each."""
    with _quiet_imports():
        import wordllama
        from langchain_core.embeddings import Embeddings

    model = wordllama.WordLlama.load(dim=DIMENSION, cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    class BundledEmbeddings(Embeddings):
        """LangChain's face of the bundled model."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [self.embed_query(text) for text in texts]

        def embed_query(self, text: str) -> list[float]:
            vector: list[float] = model.embed(text)[0].tolist()
            return vector

    return BundledEmbeddings()


@contextmanager
def _quiet_imports() -> Iterator[None]:
    """Keep wordllama from configuring the root logger on import, and Mem0 from advertising its extras."""
    logging.getLogger("mem0").setLevel(logging.ERROR)
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)  # with a handler in place, logging.basicConfig does nothing
    try:
        yield
    finally:
        root.removeHandler(placeholder)
