"""Opening the database: its file, its connection settings, its schema version, and its errors in our words.

It must not know what the tables mean; `store.py` does.
"""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from caravan.runs.files import make_folder
from caravan.values.errors import StateError

HEAD: Final = "0003"
"""The newest revision in `migrations/versions/`; a test holds the two equal. At head Alembic is never imported."""

WRITES: Final = "caravan_writes"
"""Execution option of a connection whose transactions take the write lock at their start."""

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_MIGRATION_WAIT_S: Final = 60.0


def open_database(path: Path, *, busy_s: float = 15.0) -> sa.Engine:
    """The SQLite database at `path`, made or brought to the newest schema where needed.

    `busy_s`: seconds to wait for another process's write. Raises StateError when the file can't be made, read or
    written, is damaged, or was written by a newer version.
    """
    with state_errors(path):
        _make_file(path)
        engine = _engine(path, busy_s)
        try:
            if _version(engine) != HEAD:
                _migrate(engine, path)
        except BaseException:
            engine.dispose()
            raise
        return engine


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    """Errors of the file system and of the database inside the block, as StateErrors that say what to do."""
    try:
        yield
    except OSError as error:
        raise StateError(
            f"The database {path} can't be used: {error.strerror or error}.", hint=_os_hint(error)
        ) from error
    except sa.exc.DBAPIError as error:
        raise _explained(path, str(error.orig)) from error
    except sqlite3.Error as error:
        raise _explained(path, str(error)) from error
    except ValueError as error:  # a stored time, number or document that can't be read
        raise StateError(
            f"The database {path} holds what can't be read ({error}).",
            hint="Move it away and a new one is made; the folders of the runs are not touched.",
        ) from error


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
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _version(engine: sa.Engine) -> str | None:
    """The schema's revision, or None for an empty database. One query, without Alembic."""
    with engine.connect() as connection:
        try:
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
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
            with engine.execution_options(**{WRITES: True}).begin() as connection:
                _upgrade(connection, path)
    except Timeout as error:
        raise StateError(f"Another process is upgrading the database {path}.", hint="Try again later.") from error


def _upgrade(connection: sa.Connection, path: Path) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory
    from alembic.script.revision import RevisionError

    scripts = ScriptDirectory(str(_MIGRATIONS), version_locations=[str(_MIGRATIONS / "versions")])
    context = MigrationContext.configure(connection)
    current = context.get_current_revision()
    try:
        missing = list(scripts.iterate_revisions(HEAD, current or "base"))
    except RevisionError as error:
        raise StateError(
            f"The database {path} has schema {current}, which this version does not know.",
            hint="Update Caravan, or set CARAVAN_HOME to another directory.",
        ) from error
    with Operations.context(context):
        for revision in reversed(missing):
            revision.module.upgrade()
            context.stamp(scripts, revision.revision)
