"""PostgreSQL: how the server is reached, its transactions and locks, and its errors in our words.

psycopg is imported here alone. Passwords are in no error: libpq puts none there, and what it says is masked as well.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from caravan.runs import migrating
from caravan.values.errors import CaravanError, ServiceError, StateError
from caravan.values.masking import mask
from caravan.values.proxies import is_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from caravan.ports import Clock
    from caravan.runs.database import Hold
    from caravan.values.database import DatabaseAddress

Found = TypeVar("Found")

_MIGRATION_KEY: Final = 16000  # of the advisory lock; those of `Hold` follow it
_MIGRATION_WAIT_S: Final = 60
_ATTEMPTS: Final = 15  # with the waits between them about a minute: a server restarts, a standby takes over
_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "application_name": "caravan",
    "client_encoding": "utf8",
    # A server that is gone without a word is noticed within half a minute, not within hours.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# Classes and codes of SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOST: Final = ("08", "57P01", "57P02", "57P03", "53300")
_COLLIDED: Final = ("40001", "40P01")  # one of two transactions that met must begin again
# What a server says to a connection that it refuses; libpq gives no code for it.
_REFUSED: Final = (
    ("authentication failed", "User name or password is wrong", "Correct it in DATABASE_URL, or set PGPASSWORD."),
    ("no password supplied", "It wants a password", "Put it into DATABASE_URL, or set PGPASSWORD."),
    ("does not exist", "It refuses", "Make it: `createuser NAME` and `createdb -O NAME caravan` on the server."),
    ("no pg_hba.conf entry", "It lets nobody in from here", "Whoever runs the server allows it in pg_hba.conf."),
    ("permission denied for database", "It refuses", "Ask for the right to connect: GRANT CONNECT ON DATABASE."),
    ("certificate", "Its certificate is not trusted", "Set sslrootcert= and sslmode= in DATABASE_URL."),
    ("ssl", "There is no encrypted connection", "Set sslmode= in DATABASE_URL as the server has it."),
)


class Server:
    """A database on a PostgreSQL server. `busy_s`: seconds to wait for another process's write."""

    def __init__(self, address: DatabaseAddress, busy_s: float) -> None:
        self._address = address
        self._busy_s = busy_s

    @property
    def shown(self) -> str:
        """The address without its password."""
        return self._address.shown

    def engine(self) -> sa.Engine:
        """Connect; the schema is made or brought to the newest where needed."""
        engine = sa.create_engine(
            "postgresql+psycopg://", creator=self._connect, pool_pre_ping=True, pool_size=2, max_overflow=14
        )
        try:
            if self._version(engine) != migrating.HEAD:
                self._migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def reading(self, engine: sa.Engine) -> sa.Engine:
        """All queries of a transaction see the moment of the first; the server keeps it from writing."""
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def writing(self, engine: sa.Engine) -> sa.Engine:
        """Each query sees what was committed before it, so also what the one that was waited for has written."""
        return engine.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)

    def hold(self, connection: sa.Connection, hold: Hold) -> None:
        """An advisory lock until the transaction ends."""
        key, shared = hold.value
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock{shared}(:key)"), {"key": key})

    def again(self, work: Callable[[], Found], clock: Clock) -> Found:
        """The work, done again with growing waits where the connection was lost or two transactions met."""
        try:
            return work()
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError) as error:
            if not self._passes(error):
                raise
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            sleep=clock.sleep,
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=10),
            retry=retry_if_exception(self._passes),
            reraise=True,
        )
        return retrying(work)

    def _passes(self, error: BaseException) -> bool:
        """Whether an error may be gone the next time, and nothing was committed or doing it again does no harm."""
        if not isinstance(error, sa.exc.DBAPIError):
            return False
        code = getattr(error.orig, "sqlstate", None) or ""
        if code.startswith((*_LOST, *_COLLIDED)) or error.connection_invalidated:
            return True
        return not code and isinstance(error.orig, psycopg.OperationalError) and self._refusal(str(error.orig)) is None

    def facts(self, connection: sa.Connection) -> tuple[str, bool | None]:
        """The server's version, and whether the connection is encrypted; None: it does not leave this machine."""
        version = connection.execute(sa.text("SHOW server_version")).scalar_one()
        driver = connection.connection.driver_connection
        host = driver.info.host if isinstance(driver, psycopg.Connection) else ""
        here = host.startswith("/") or is_here(host)
        encrypted = isinstance(driver, psycopg.Connection) and bool(driver.pgconn.ssl_in_use)
        return f"PostgreSQL {str(version).split()[0]}", True if encrypted else None if here else False

    def explained(self, error: Exception) -> CaravanError:
        """The error as one that says what to do."""
        if isinstance(error, sa.exc.TimeoutError):
            return StateError(f"All connections to {self.shown} are busy.", hint="Try again later.")
        if not isinstance(error, sa.exc.DBAPIError):
            words = error.strerror if isinstance(error, OSError) else str(error)
            return StateError(f"The database {self.shown} can't be used: {self._safe(words or '')}.")
        words = self._safe(str(error.orig))
        code = getattr(error.orig, "sqlstate", None) or ""
        if code:
            return _told(self.shown, code, words)
        refusal = self._refusal(words)
        if refusal is not None:
            return ServiceError(f"The database {self.shown} can't be used. {refusal[1]} ({words}).", hint=refusal[2])
        return _unreachable(self.shown, words)

    def _refusal(self, words: str) -> tuple[str, str, str] | None:
        low = words.lower()
        if "fatal:" not in low and "certificate" not in low and "ssl" not in low:
            return None
        if "starting up" in low or "shutting down" in low or "too many" in low or "remaining connection slots" in low:
            return None  # it will be gone
        return next((row for row in _REFUSED if row[0] in low), None)

    def _safe(self, words: str) -> str:
        """The driver's words in one line, without hints and without secrets."""
        return mask(" ".join(words.split())[:300], self._address.secrets()).rstrip(".")

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        try:
            given = conninfo_to_dict(self._address.url.get_secret_value())
        except psycopg.Error as error:
            raise ServiceError(
                f"DATABASE_URL ({self.shown}) is refused: {self._safe(str(error))}.",
                hint="Its parameters are libpq's: https://www.postgresql.org/docs/current/libpq-connect.html.",
            ) from None  # the driver's error may quote the address
        return {**_DEFAULTS, **given}

    def _connect(self) -> psycopg.Connection[Any]:
        # Statements are not prepared on the server: poolers between us and it would not find them again.
        connection = psycopg.connect(**self._parameters, prepare_threshold=None, autocommit=True)
        try:
            wait = f"{max(1, round(self._busy_s * 1000))}ms"
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [wait])
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self, engine: sa.Engine) -> str | None:
        """The schema's revision, or None for an empty database."""
        with engine.connect() as connection:
            try:
                return migrating.revision_of(connection)
            except sa.exc.ProgrammingError as error:
                if getattr(error.orig, "sqlstate", "") == "42P01":  # undefined_table
                    return None
                raise

    def _migrate(self, engine: sa.Engine) -> None:
        """Bring the schema to HEAD in one transaction, which others wait for."""
        with self.writing(engine).begin() as connection:
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_MIGRATION_WAIT_S}s'"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_KEY})
            encoding = connection.execute(sa.text("SHOW server_encoding")).scalar()
            if encoding != "UTF8":
                raise StateError(
                    f"The database {self.shown} keeps its text as {encoding}.",
                    hint="Make one that keeps all signs: createdb --encoding UTF8 --template template0 caravan",
                )
            migrating.upgrade(connection, self.shown)


def _unreachable(shown: str, words: str) -> ServiceError:
    return ServiceError(
        f"The database {shown} can't be reached ({words}).",
        hint="Start it, or correct DATABASE_URL (unset, runs are kept in a file of your own).",
    )


def _told(shown: str, code: str, words: str) -> CaravanError:
    """An error with a code, https://www.postgresql.org/docs/current/errcodes-appendix.html."""
    if code.startswith(_LOST):
        return _unreachable(shown, words)
    if code == "42501":
        hint = "Its owner grants them: GRANT ALL ON SCHEMA public TO you, and on the tables in it."
        return StateError(f"The database {shown} refuses: rights are missing ({words}).", hint=hint)
    if code in ("25006", "57014") or code.startswith("53"):
        hints = {"25006": "It is a copy, or set to be read only: use the one that may be written."}
        hint = hints.get(code, "Make room, or allow it more time or memory.")
        return StateError(f"The database {shown} can't be written ({words}).", hint=hint)
    if code == "55P03" or code in _COLLIDED:
        return StateError(f"The database {shown} is in use by another process ({words}).", hint="Try again later.")
    if code.startswith("42"):
        hint = "Its tables are not those of this version: update Caravan, or use a database of its own."
        return StateError(f"The database {shown} does not fit ({words}).", hint=hint)
    return StateError(f"The database {shown} failed: {words}.", hint="Try again; its own log says more.")
