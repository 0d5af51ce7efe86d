"""The database of a store: opened, migrated, read and written, on SQLite or PostgreSQL.

It must not know what the tables mean; `store.py` and `model_registry.py` do. What differs between the two kinds is
told by a `Kind` (`sqlite_file.py`, `postgres.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import sqlalchemy as sa

from caravan.runs import migrating
from caravan.runs.sqlite_file import SqliteFile
from caravan.values.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.dialects.sqlite import Insert

    from caravan.ports import Clock
    from caravan.values.database import DatabaseAddress, DatabaseFacts

Found = TypeVar("Found")


class Hold(Enum):
    """What a writer keeps others from while it works; SQLite's one writer keeps off all of them.

    MONEY: whoever looks what is left under a limit and reserves of it. MONEY_CHANGES: whoever changes what such a look
    adds up; many may at once. MODELS: whoever counts versions or moves stages.
    """

    MONEY = (16001, "")
    MONEY_CHANGES = (16001, "_shared")
    MODELS = (16002, "")


class Kind(Protocol):
    """What differs between SQLite and PostgreSQL."""

    @property
    def shown(self) -> str:
        """The database's name for people, without a password."""

    def engine(self) -> sa.Engine:
        """Open it, made or brought to the newest schema where needed."""

    def reading(self, engine: sa.Engine) -> sa.Engine:
        """The engine for transactions that see one moment of the database."""

    def writing(self, engine: sa.Engine) -> sa.Engine:
        """The engine for transactions that write."""

    def hold(self, connection: sa.Connection, hold: Hold) -> None:
        """Keep off the other writers of that kind until the transaction ends."""

    def facts(self, connection: sa.Connection) -> tuple[str, bool | None]:
        """What the software is called, and whether the connection is encrypted; None: there is none to encrypt."""

    def explained(self, error: Exception) -> Exception:
        """An error of the file system, the driver or SQLAlchemy in our words."""

    def again(self, work: Callable[[], Found], clock: Clock) -> Found:
        """The work, done again where the connection was lost and that does no harm."""


class CommitUnknown(Exception):
    """The connection was lost while a transaction was committed: it may have been, or not."""


class Database:
    """A database that is open. Every method raises StateError or ServiceError for what the database does."""

    def __init__(self, kind: Kind, clock: Clock) -> None:
        self._kind = kind
        self._clock = clock
        with self._explained():
            self._engine = kind.engine()
        self._reading, self._writing = kind.reading(self._engine), kind.writing(self._engine)

    @property
    def shown(self) -> str:
        """Its name for people, without a password."""
        return self._kind.shown

    def facts(self) -> DatabaseFacts:
        """What the database says of itself."""
        from caravan.values.database import DatabaseFacts

        def work(connection: sa.Connection) -> DatabaseFacts:
            software, encrypted = self._kind.facts(connection)
            began = self._clock.monotonic()
            revision = migrating.revision_of(connection)
            taken = self._clock.monotonic() - began
            told = {"software": software, "encrypted": encrypted, "schema_version": revision or "none"}
            return DatabaseFacts(shown=self.shown, answer_ms=1000 * max(taken, 0.0), **told)

        return self.read(work)

    def read(self, work: Callable[[sa.Connection], Found]) -> Found:
        """What `work` finds, in one transaction that sees one moment of the database."""

        def once() -> Found:
            with self._reading.begin() as connection:
                return work(connection)

        with self._explained():
            return self._kind.again(once, self._clock)

    def write(
        self, work: Callable[[sa.Connection], Found], *, hold: Hold | None = None, repeatable: bool = True
    ) -> Found:
        """What `work` finds, in one transaction that is all of it or nothing.

        It is done again where the connection was lost; where that happened at its very end, only if it is `repeatable`.
        """

        def once() -> Found:
            worked = False
            try:
                with self._writing.begin() as connection:
                    if hold is not None:
                        self._kind.hold(connection, hold)
                    found = work(connection)
                    worked = True
                return found
            except sa.exc.DBAPIError as error:
                if worked and not repeatable and error.connection_invalidated:
                    raise CommitUnknown from error
                raise

        with self._explained():
            return self._kind.again(once, self._clock)

    def close(self) -> None:
        """Let go of it; a later call opens it again."""
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except CommitUnknown as error:
            raise StateError(
                f"The connection to {self.shown} was lost: whether it was stored is not known.",
                hint="Look what is there, then try again.",
            ) from error
        except (OSError, sa.exc.DBAPIError, sa.exc.TimeoutError, ValueError) as error:
            told = self._kind.explained(error)
            raise told from error


def open_database(place: Path | DatabaseAddress, clock: Clock, *, busy_s: float = 15.0) -> Database:
    """The database at a path or address. `busy_s`: seconds to wait for another process's write.

    Raises StateError when it can't be made, read or written, is damaged, or was written by a newer version;
    ServiceError when its server can't be reached or refuses.
    """
    path = place if isinstance(place, Path) else place.path
    if path is not None:
        return Database(SqliteFile(path, busy_s), clock)
    from caravan.runs.postgres import Server

    return Database(Server(cast("DatabaseAddress", place), busy_s), clock)


def insert(connection: sa.Connection, table: sa.Table) -> Insert:
    """An INSERT that may say what happens on a conflict; the two kinds say it with the same words."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return cast("Insert", cast("Any", postgresql).insert(table))
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)
