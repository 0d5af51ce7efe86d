"""SQLite: the database's file, its connection settings, and its errors in our words."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa

from caravan.runs import migrating
from caravan.runs.files import make_folder
from caravan.values.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from caravan.ports import Clock
    from caravan.runs.database import Hold

Found = TypeVar("Found")

_WRITES: Final = "caravan_writes"  # option of a connection whose transactions take the write lock at their start
_MIGRATION_WAIT_S: Final = 60.0


class SqliteFile:
    """The database in the file at `path`. `busy_s`: seconds to wait for another process's write."""

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path = path
        self._busy_s = busy_s

    @property
    def shown(self) -> str:
        """The file."""
        return str(self._path)

    def engine(self) -> sa.Engine:
        """Open it, made or brought to the newest schema where needed."""
        _make_file(self._path)
        engine = _engine(self._path, self._busy_s)
        try:
            if _version(engine) != migrating.HEAD:
                _migrate(engine, self._path)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def reading(self, engine: sa.Engine) -> sa.Engine:
        """Transactions that see one moment, as all of SQLite's do."""
        return engine

    def writing(self, engine: sa.Engine) -> sa.Engine:
        """Transactions that hold the write lock from their start: what they read still holds when they write."""
        return engine.execution_options(**{_WRITES: True})

    def hold(self, connection: sa.Connection, hold: Hold) -> None:
        """The write lock is held already."""

    def again(self, work: Callable[[], Found], clock: Clock) -> Found:  # noqa: ARG002
        """The work, once: a file is not lost in between, and SQLite itself waits for other writers."""
        return work()

    def facts(self, connection: sa.Connection) -> tuple[str, bool | None]:  # noqa: ARG002
        """SQLite's version; a file is not encrypted on its way."""
        return f"SQLite {sqlite3.sqlite_version}", None

    def explained(self, error: Exception) -> Exception:
        """The error as one that says what to do."""
        if isinstance(error, OSError):
            return StateError(
                f"The database {self._path} can't be used: {error.strerror or error}.", hint=_os_hint(error)
            )
        if isinstance(error, sa.exc.DBAPIError):
            return _explained(self._path, str(error.orig))
        if isinstance(error, sa.exc.TimeoutError):
            return _explained(self._path, "all of its connections are busy")
        return StateError(
            f"The database {self._path} holds what can't be read ({error}).",
            hint="Move it away and a new one is made; the folders of the runs are not touched.",
        )


def _os_hint(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room on that disk."
    return "Make it writable, or set CARAVAN_HOME to another directory."


def _explained(path: Path, words: str) -> StateError:
    low = words.lower()
    if "locked" in low or "busy" in low:
        return StateError(f"The database {path} is in use by another process ({words}).", hint="Try again later.")
    if "readonly" in low or "unable to open" in low:
        return StateError(
            f"The database {path} can't be opened for writing ({words}).",
            hint="Make it and its directory writable, or set CARAVAN_HOME to another directory.",
        )
    if "full" in low or "disk i/o" in low:  # the shared-memory file of a full disk is an I/O error
        return StateError(f"The database {path} can't be written ({words}).", hint="Make room on that disk.")
    if "not a database" in low or "malformed" in low:
        return StateError(
            f"The database {path} is damaged ({words}).",
            hint="Move it away and a new one is made; the folders of the runs are not touched.",
        )
    return StateError(f"The database {path} failed: {words}.", hint="Move it away to start with a new one.")


def _make_file(path: Path) -> None:
    """The file with mode 0600 before SQLite opens it; its journal files take over that mode."""
    make_folder(path.parent)
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and journal.stat().st_size and path.exists() and not path.stat().st_size:
        # SQLite would take it for a new one and throw the journal away.
        raise _explained(path, "database disk image is malformed: it is empty and its journal is not")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _engine(path: Path, busy_s: float) -> sa.Engine:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": busy_s})

    # The driver's own transaction control starts transactions late, without the write lock; two processes that both
    # read first and then write would then fail at once instead of waiting. So transactions are begun here.
    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _version(engine: sa.Engine) -> str | None:
    """The schema's revision, or None for an empty database. One query, without Alembic."""
    with engine.connect() as connection:
        try:
            return migrating.revision_of(connection)
        except sa.exc.OperationalError as error:
            if "no such table" in str(error.orig):
                return None
            raise


def _migrate(engine: sa.Engine, path: Path) -> None:
    """Bring the schema to HEAD, one process at a time; all of it or nothing."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(f"{path}.lock", timeout=_MIGRATION_WAIT_S, mode=0o600):
            with closing(engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA journal_mode=WAL")  # stays with the file; not possible in a transaction
            with engine.execution_options(**{_WRITES: True}).begin() as connection:
                migrating.upgrade(connection, str(path))
    except Timeout as error:
        raise StateError(f"Another process is upgrading the database {path}.", hint="Try again later.") from error
    except sqlite3.Error as error:  # of the raw connection, which SQLAlchemy does not wrap
        raise _explained(path, str(error)) from error
