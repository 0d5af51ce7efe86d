"""Long-term memory: lessons in Mem0 over Qdrant, embedded in a folder or on a server. The only user of either library.

What is stored, what counts as equal and what fits best is decided in `caravan.lessons`; this module carries it to the
store and back. It knows nothing of runs. Before Mem0 is imported, `config.prepare_third_party_environment` must have
been called: Mem0 reads its settings from the environment on import.

The libraries take seconds to import, so they are imported on the first call that needs them; a store that was never
written answers without them.
"""

import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from caravan.lessons import (
    Candidate,
    Sought,
    StoredLesson,
    as_case,
    first,
    from_metadata,
    from_record,
    lesson_key,
    marks,
    masked,
    merge,
    merge_stored,
    prepared,
    rank,
    search_text,
    to_metadata,
    to_record,
)
from caravan.ports import Clock, Memory
from caravan.values.base import Json, sha256_text
from caravan.values.errors import ServiceError, UsageError
from caravan.values.failure import Diagnosis, Exported, Lesson, PastCase
from caravan.vectors import notes
from caravan.vectors.engine import FOREIGN, InUse, library_errors, likeness, locked, open_engine, release, scrub

SCOPE: Final = "caravan"  # Mem0 wants a user for everything; all lessons are one user's

_WAIT_S: Final = 2.5  # for another process's lock: agents hold it for moments, so waiting mostly helps
_LOOK_S: Final = 0.1  # between two looks at it
_AWAY_S: Final = 30.0  # after a failure lessons are kept at once, without trying each one
_EVERYTHING: Final = 100_000  # more lessons than a store will hold: Mem0 lists only with a bound
_STRUCTURED: Final = 500  # cases of one cause, fingerprint, code or model that are looked at
_ALIKE: Final = 50  # cases that are looked at for the likeness of their text alone
_QUERY_LIMIT: Final = 4000  # characters of a query that are embedded


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
        self._notes = folder / "exports" if folder is not None else None
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
            found = _candidates(engine, sought, query, limit) if engine is not None else []
        return rank(found, sought, self._clock.now(), limit=limit)

    def remember(self, lesson: Lesson) -> str:
        """Store a lesson, or merge it into the equal one that is there; the id comes back."""
        lesson, now = prepared(lesson, self._secrets), self._clock.now()
        return self._put(lesson, lambda there: merge(there, lesson, now) if there else first(lesson, now))[0]

    def _put(self, lesson: Lesson, becomes: Callable[[StoredLesson | None], StoredLesson]) -> tuple[str, bool]:
        """Store what an equal lesson that is there (None: there is none) becomes: its id, and whether it is new."""
        key = lesson_key(lesson)
        with self._store() as engine:
            for found in _marked(engine, {"lesson_key": key})[:1]:
                stored = from_metadata(found.get("metadata") or {})
                if stored is None:
                    continue
                merged = becomes(stored)
                if merged != stored:
                    engine.update(found["id"], metadata=to_metadata(merged, key))
                return str(found["id"]), False
            metadata = to_metadata(becomes(None), key)
            added = engine.add(search_text(lesson), user_id=SCOPE, metadata=metadata, infer=False)
            return str(added["results"][0]["id"]), True

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """What is stored, the last seen first."""
        found, now = self._everything(), self._clock.now()
        found.sort(key=lambda c: (c.stored.last_seen, c.id), reverse=True)
        return tuple(as_case(candidate, now) for candidate in found[: max(limit, 0)])

    def _everything(self) -> list[Candidate]:
        with self._store(read_only=True) as engine:
            if engine is None:
                return []
            rows = engine.get_all(filters={"user_id": SCOPE}, top_k=_EVERYTHING, show_expired=True)["results"]
        return list(_readable(rows))

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
            if self._path is not None:
                scrub(self._path)
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
            try:
                if read_only and self._path is not None and not self._path.is_dir():
                    yield None
                    return
                if self._engine is None:
                    self._open()
                yield self._engine
            except InUse as error:
                raise ServiceError(
                    f"The memory at {self._path} is in use by another process.",
                    hint="Wait until it has ended, or share a Qdrant server between agents (QDRANT_URL).",
                ) from error
            except FOREIGN as error:
                raise self._refused(error) from error
            except library_errors() as error:
                raise self._refused(error) from error

    def _open(self) -> None:
        lock = self._waited_for(self._path) if self._path is not None else None
        try:
            self._engine = open_engine(self._path, self._url, self._api_key, self._timeout_s)
        except BaseException:
            if lock is not None:
                lock.close()
            raise
        # Closing at the interpreter's very end would be too late for Qdrant's client.
        self._closer = weakref.finalize(self, release, self._engine, lock)

    def _waited_for(self, path: Path) -> IO[str]:
        """The store's lock, once whoever holds it has let go. Raises InUse after a short while."""
        end = self._clock.monotonic() + _WAIT_S
        while True:
            try:
                return locked(path)
            except InUse:
                if self._clock.monotonic() >= end:
                    raise
                self._clock.sleep(_LOOK_S)

    def _refused(self, error: BaseException) -> ServiceError:
        where = self._url or str(self._path)
        reason = str(masked("", f"{type(error).__name__}: {error}", (*self._secrets, self._api_key or "")))[:300]
        hint = "Is QDRANT_URL right and the server up?" if self._url else "Move the folder away to start afresh."
        return ServiceError(
            f"The memory at {where} can't be used ({reason}).", hint=f"{hint} CARAVAN_MEMORY=0 goes on without it."
        )


class KeepingMemory:
    """A memory that loses no lesson: what can't be stored now is kept as a file in `folder`, and stored later.

    The next call that reaches the memory, of whichever agent, takes the files in. Kept or stored twice is once,
    because a lesson says which run told it.
    """

    def __init__(self, memory: Memory, folder: Path, *, clock: Clock, secrets: Sequence[str] = ()) -> None:
        self._memory = memory
        self._folder = folder
        self._clock = clock
        self._secrets = tuple(secrets)
        self._away: tuple[float, ServiceError] | None = None  # since when it is away, on the monotonic clock, and why

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        """As the memory does."""
        self._take_in()
        cases = self._memory.recall(text=text, diagnosis=diagnosis, context=context, limit=limit)
        self._away = None
        return cases

    def remember(self, lesson: Lesson) -> str:
        """As the memory does. Where it can't, the lesson is kept, and the ServiceError says so."""
        now = self._clock.monotonic()
        away = self._away if self._away and now - self._away[0] < _AWAY_S else None
        try:
            if away:
                raise away[1]
            return self._memory.remember(lesson)
        except ServiceError as error:
            self._away = away or (now, error)
            self._keep(lesson, error)
            message = f"{error.message.rstrip('.')}; lessons are kept in {self._folder} until it can be used."
            raise ServiceError(message, hint=error.hint) from error

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """As the memory does."""
        self._take_in()
        return self._memory.all(limit=limit)

    def forget(self, case_id: str) -> bool:
        """As the memory does."""
        self._take_in()
        return self._memory.forget(case_id)

    def export(self) -> tuple[dict[str, Json], ...]:
        """As the memory does."""
        self._take_in()
        return self._memory.export()

    def note_export(self, path: Path) -> None:
        """As the memory does."""
        self._memory.note_export(path)

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:
        """As the memory does."""
        return self._memory.exports_of(case_id)

    def restore(self, record: Json) -> bool:
        """As the memory does."""
        return self._memory.restore(record)

    def close(self) -> None:
        """As the memory does."""
        self._memory.close()

    def _keep(self, lesson: Lesson, why: ServiceError) -> None:
        text = prepared(lesson, self._secrets).canonical()
        path = self._folder / f"{sha256_text(text)[:32]}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            partly = path.with_suffix(f".{uuid.uuid4().hex}")
            partly.touch(mode=0o600, exist_ok=False)
            partly.write_text(text, encoding="utf-8")
            partly.replace(path)
        except OSError as error:
            raise ServiceError(
                f"{why.message.rstrip('.')}, and {self._folder} takes no lessons ({error.strerror}): they are lost.",
                hint=why.hint,
            ) from error

    def _take_in(self) -> None:
        """Store what was kept. Raises ServiceError while the memory still can't be used; then the files stay."""
        for path in self._kept():
            try:
                lesson = Lesson.model_validate_json(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # gone, because another agent took it, or of a later version: left alone
                continue
            self._memory.remember(lesson)
            with suppress(OSError):  # it stays, and is merged into itself the next time
                path.unlink(missing_ok=True)

    def _kept(self) -> list[Path]:
        try:
            return sorted(self._folder.glob("*.json"))
        except OSError as error:
            raise ServiceError(f"Lessons kept in {self._folder} can't be read ({error.strerror}).") from error


class NullMemory:
    """Memory switched off: it knows nothing and keeps nothing."""

    def recall(self, **_: object) -> tuple[PastCase, ...]:
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

    def export(self) -> tuple[dict[str, Json], ...]:
        """Nothing."""
        return ()

    def note_export(self, path: Path) -> None:
        """Nothing is exported."""

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:  # noqa: ARG002
        """None."""
        return ()

    def restore(self, record: Json) -> bool:  # noqa: ARG002
        """Nothing is stored."""
        return False

    def close(self) -> None:
        """There is nothing to let go of."""


@contextmanager
def _noting() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServiceError(
            f"The notes of exports in the memory's folder can't be used ({error.strerror}).",
            hint="Make CARAVAN_HOME/memory readable and writable.",
        ) from error


def _candidates(engine: Any, sought: Sought, query: str, limit: int) -> list[Candidate]:
    """What may fit, each lesson once: those with a mark in common, then, where these are few, those of like words.

    As few questions to the store as will do, because the embedded one looks at every lesson for each of them.
    """
    found: dict[str, Candidate] = {}
    if sought.failure or sought.fingerprint:
        known = marks(sought.failure, sought.fingerprint, {})
        # Equal fingerprints have equal causes, so one mark finds both.
        rows = _marked(engine, {"failure": known["failure"]} if sought.failure else known)
        if len(rows) >= _STRUCTURED:  # more than are looked at: of the most telling none may be missing
            rows += _marked(engine, known)
    else:
        # Two questions are quicker than one with an "or", which asks for both marks of every lesson.
        rows = [row for name, mark in marks(None, "", sought.context).items() for row in _marked(engine, {name: mark})]
    found = {candidate.id: candidate for candidate in _readable(_with_likeness(rows, query))}
    if query.strip() and len(found) < (limit if sought.failure else 1):
        # No threshold: what is structured alike stands first whatever its words.
        alike = {"filters": {"user_id": SCOPE}, "top_k": _ALIKE, "threshold": 0.0, "show_expired": True}
        rows = engine.search(query, **alike)["results"]
        found = {candidate.id: candidate for candidate in _readable(rows)} | found
    elif not found:
        rows = engine.get_all(filters={"user_id": SCOPE}, top_k=_STRUCTURED, show_expired=True)["results"]
        found = {candidate.id: candidate for candidate in _readable(rows)}
    return list(found.values())


def _marked(engine: Any, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    # The user last: the embedded store tries one condition after the other, and every lesson is this user's.
    filters = {**wanted, "user_id": SCOPE}
    rows: list[dict[str, Any]] = engine.get_all(filters=filters, top_k=_STRUCTURED, show_expired=True)["results"]
    return rows


def _with_likeness(rows: list[dict[str, Any]], query: str) -> list[dict[str, Any]]:
    """The rows with the likeness of their texts, where there is a text to compare with."""
    if not query.strip():
        return rows
    return [
        {**row, "score": score}
        for row, score in zip(rows, likeness(query, [str(row["memory"]) for row in rows]), strict=True)
    ]


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
