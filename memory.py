"""Long-term memory: lessons in Mem0 over Qdrant, embedded in a folder or on a server. The only user of either library.

What is stored, what counts as equal and what fits best is decided in `caravan.lessons`; this module carries it to the
store and back. It knows nothing of runs. Before Mem0 is imported, `config.prepare_third_party_environment` must have
been called: Mem0 reads its settings from the environment on import.

The libraries take seconds to import, so they are imported on the first call that needs them; a store that was never
written answers without them.
"""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from caravan.lessons import (
    Candidate,
    Sought,
    StoredLesson,
    as_case,
    asked_text,
    first,
    from_metadata,
    from_record,
    lesson_key,
    masked,
    merge,
    merge_stored,
    prepared,
    rank,
    search_text,
    to_metadata,
    to_record,
)
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import ServiceError, UsageError
from caravan.values.failure import Diagnosis, Exported, Lesson, PastCase, Scope
from caravan.vectors import notes
from caravan.vectors.engine import FOREIGN, library_errors, open_engine, release
from caravan.vectors.finding import Rows, found_for
from caravan.vectors.shard import Shard
from caravan.vectors.shared import InUse, SharedShard, turn
from caravan.vectors.takeover import take_over

EARLIER_TENANT: Final = "caravan"
"""Whose lessons all were before there were tenants. In an embedded store they belong to whoever opens it."""

_QUERY_LIMIT: Final = 4000  # characters of a query that are embedded
_EVERYONE: Final = "*"  # the mark of lessons that speak to all of the tenant's runs


class Mem0Memory:
    """The port Memory on Mem0 2 over Qdrant: embedded in `folder`, or on the server at `url`.

    Constructing it costs nothing and touches nothing. `close` lets go of the store; the next call opens it again. An
    embedded store has one owner at a time, which answers other processes. With a `url`, `folder` holds the notes of
    exports only. Lessons of other tenants are neither seen nor touched. Every method may raise ServiceError; callers go
    on without memory. `secrets` are values that must not be stored.
    """

    def __init__(
        self,
        folder: Path | None,
        url: str | None = None,
        *,
        clock: Clock,
        tenant: str = EARLIER_TENANT,
        api_key: str | None = None,
        secrets: Sequence[str] = (),
        timeout_s: int = 5,
    ) -> None:
        if folder is None and url is None:
            raise UsageError("The memory needs a folder or the address of a Qdrant server.")
        self._folder = folder
        self._path = None if url is not None or folder is None else folder / "edge"
        self._earlier = None if folder is None else folder / "qdrant"
        self._notes = folder / "exports" if folder is not None else None
        self._url = url
        self._api_key = api_key
        self._clock = clock
        self._tenant = quote(tenant, safe="@+")  # Mem0 takes no white space in a user's name
        self._secrets = tuple(secrets)
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._engine: Any = None
        self._shared: SharedShard | None = None
        self._closer: weakref.finalize[..., Mem0Memory] | None = None
        self._forgot = False  # and the files are not clean yet

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        """Cases like this one, the most fitting first: those of the same cause and shape before those of like words."""
        query = str(masked("", text.strip() or (diagnosis.cause if diagnosis else ""), self._secrets))[:_QUERY_LIMIT]
        sought = Sought(
            failure=diagnosis.failure if diagnosis else None,
            fingerprint=diagnosis.fingerprint if diagnosis else "",
            context=context,
            text=query,
            confidence=diagnosis.confidence if diagnosis else 1.0,
        )
        query = asked_text(query, context)[:_QUERY_LIMIT]
        with self._store(read_only=True) as engine:
            if engine is None:
                return ()
            # Only what speaks to this repository: a point that says nothing of it was stored before there were scopes.
            here = [_EVERYONE, *(str(context[k]).casefold() for k in ("repository",) if context.get(k))]
            rows = Rows(engine, {"user_id": self._tenant, "NOT": [{"only": {"nin": here}}]})
            found = list(_readable(found_for(rows, sought, query.strip(), limit)))
        return rank(found, sought, self._clock.now(), limit=limit)

    def remember(self, lesson: Lesson) -> str:
        """Store a lesson, or merge it into the equal one that is there; the id comes back."""
        lesson, now = prepared(lesson, self._secrets), self._clock.now()
        return self._put(lesson, lambda there: merge(there, lesson, now) if there else first(lesson, now))[0]

    def _put(self, lesson: Lesson, becomes: Callable[[StoredLesson | None], StoredLesson]) -> tuple[str, bool]:
        """Store what an equal lesson that is there (None: there is none) becomes: its id, and whether it is new."""
        key = lesson_key(lesson)
        with self._store() as engine, self._turn():
            there = self._equal(engine, key)
            if there is not None:
                merged = becomes(there.stored)
                if merged != there.stored:
                    engine.update(there.id, metadata=fields_of(merged, key))
                return there.id, False
            metadata = fields_of(becomes(None), key)
            added = engine.add(search_text(lesson), user_id=self._tenant, metadata=metadata, infer=False)
            # An agent on another machine may have stored an equal one at the same moment.
            equal = self._equal(engine, key) if self._url is not None else None
            return equal.id if equal is not None else str(added["results"][0]["id"]), True

    def _equal(self, engine: Any, key: str) -> Candidate | None:
        """The stored lesson of that key. Several, stored at the same moment from several machines, become one."""
        rows = Rows(engine, {"user_id": self._tenant, "lesson_key": key}).listed({}, 20)
        found = sorted(_readable(rows), key=lambda c: c.id)
        if not found:
            return None
        kept, stored = found[0], found[0].stored
        for other in found[1:]:
            stored = merge_stored(stored, other.stored)
        if len(found) > 1:
            engine.update(kept.id, metadata=fields_of(stored, key))
            for other in found[1:]:
                engine.delete(other.id)
            self._forgot = self._path is not None
        return kept.model_copy(update={"stored": stored})

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """What is stored, the last seen first."""
        found, now = self._everything(), self._clock.now()
        found.sort(key=lambda c: (c.stored.last_seen, c.id), reverse=True)
        return tuple(as_case(candidate, now) for candidate in found[: max(limit, 0)])

    def _everything(self) -> list[Candidate]:
        with self._store(read_only=True) as engine:
            return list(_readable(Rows(engine, {"user_id": self._tenant}).listed({}))) if engine is not None else []

    def export(self) -> tuple[dict[str, Json], ...]:
        """Every lesson as a record, the oldest first. What is known to be secret now is masked, too."""
        found = sorted(self._everything(), key=lambda c: (c.stored.first_seen, c.id))
        return tuple(masked("", to_record(candidate.stored), self._secrets) for candidate in found)

    def note_export(self, path: Path) -> None:
        """Note that every lesson is in the file at `path` now. Without a folder nothing is noted."""
        ids = [candidate.id for candidate in self._everything()]
        with _noting():
            if self._notes is not None and ids:
                notes.write_note(self._notes, path, ids, self._clock.now())

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:
        """The files to which the lesson was exported from here, the oldest first."""
        with _noting():
            return notes.exports_of(self._notes, case_id) if self._notes is not None else ()

    def restore(self, record: Json) -> bool:
        """Store an exported lesson or merge it into the equal one that is there; whether it is new comes back."""
        lesson = from_record(record, self._secrets, now=self._clock.now())
        return self._put(lesson.lesson, lambda there: merge_stored(there, lesson) if there else lesson)[1]

    def forget(self, case_id: str) -> bool:
        """Remove a lesson with its vector; False when there is none of that id.

        What it left in the embedded store's files goes when the memory is closed, at the latest when it is opened
        next: the store is then written anew, once for all lessons that were forgotten.
        """
        if not _is_id(case_id):
            return False
        with self._store(read_only=True) as engine:
            if engine is None:
                return False
            with self._turn():
                found = engine.get(case_id)
                if not found or found.get("user_id") != self._tenant:
                    return False
                self._forgot = self._path is not None
                engine.delete(case_id)
            return True

    def close(self) -> None:
        """Let go of the store, so that another process may have it. The next call opens it again."""
        with self._lock:
            try:
                if self._forgot and self._shared is not None:
                    with self._mapped():
                        self._shared.call("scrub")
                    self._forgot = False
            finally:
                self._engine = self._shared = None
                if self._closer is not None:
                    self._closer()
                    self._closer = None

    @contextmanager
    def _store(self, *, read_only: bool = False) -> Iterator[Any]:
        """The open Mem0 under the lock, with foreign exceptions mapped; None when nothing was ever written."""
        with self._lock, self._mapped():
            places = [place for place in (self._path, self._earlier) if place is not None]
            if read_only and self._path is not None and not any(place.is_dir() for place in places):
                yield None
                return
            if self._engine is None:
                self._open()
            try:
                yield self._engine
            finally:
                # Mem0 writes every text into its history. Ours lives in this process only, but it lives.
                if self._engine is not None:
                    self._engine.db.connection.execute("DELETE FROM history")
                    self._engine.db.connection.commit()

    def _open(self) -> None:
        if self._path is not None and self._earlier is not None:
            self._shared = SharedShard(
                self._path, self._clock, partial(_opened, self._path, self._earlier, self._tenant)
            )
        self._engine = open_engine(self._shared, self._url, self._api_key, self._timeout_s)
        # Closing at the interpreter's very end would be too late for threads and clients.
        self._closer = weakref.finalize(self, release, self._engine, self._shared)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """No other process on this machine reads and then writes meanwhile."""
        with turn(self._folder, self._clock) if self._folder is not None else nullcontext():
            yield

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except InUse as error:
            raise ServiceError(
                f"The memory at {self._folder} is in use by another process that does not answer.",
                hint="End that process, or share a Qdrant server between machines (QDRANT_URL).",
            ) from error
        except FOREIGN as error:
            raise self._refused(error) from error
        except library_errors() as error:
            raise self._refused(error) from error

    def _refused(self, error: BaseException) -> ServiceError:
        where = self._url or str(self._folder)
        said = " ".join(f"{type(error).__name__}: {error}".split())
        reason = str(masked("", said, (*self._secrets, self._api_key or "")))[:300]
        hint = "Are QDRANT_URL and QDRANT_API_KEY right, and is the server up?" if self._url else _MOVE_AWAY
        return ServiceError(
            f"The memory at {where} can't be used ({reason}).", hint=f"{hint} CARAVAN_MEMORY=0 goes on without it."
        )


_MOVE_AWAY: Final = "Move the folder away to start afresh."


@contextmanager
def _noting() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServiceError(
            f"The notes of exports in the memory's folder can't be used ({error.strerror}).",
            hint="Make CARAVAN_HOME/memory readable and writable.",
        ) from error


def _opened(path: Path, earlier: Path, tenant: str) -> Shard:
    """The embedded store, with what an earlier version stored."""
    renewed = partial(_renewed, tenant)
    shard = Shard(path, renewed)
    try:
        take_over(shard, path, earlier, renewed)
    except BaseException:
        shard.close()
        raise
    return shard


def _renewed(tenant: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The fields of a point as they are written now."""
    user = payload.get("user_id")
    payload = {**payload, "user_id": tenant if user == EARLIER_TENANT else user}
    stored = from_metadata(payload)
    return payload if stored is None else {**payload, **fields_of(stored, lesson_key(stored.lesson))}


def fields_of(stored: StoredLesson, key: str) -> dict[str, Json]:
    """The fields beside a stored lesson's text: its key and record, the marks to find it by, whom it speaks to."""
    lesson = stored.lesson
    of = str(lesson.context.get("repository") or "").casefold() if lesson.scope is Scope.REPOSITORY else _EVERYONE
    return {**to_metadata(stored, key), "only": of}


def _readable(rows: Sequence[dict[str, Any]]) -> Iterator[Candidate]:
    for row in rows:
        stored = _read(str((row.get("metadata") or {}).get("record") or ""))
        if stored is not None:
            yield Candidate(id=str(row["id"]), stored=stored, similarity=row.get("score"))


@lru_cache(maxsize=2048)
def _read(record: str) -> StoredLesson | None:
    """The stored lesson: reading one takes longer than finding it, and the same ones are found again and again."""
    return from_metadata({"record": record})


def _is_id(text: str) -> bool:
    import uuid

    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
