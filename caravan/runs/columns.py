"""Types of columns that hold the same on SQLite and PostgreSQL."""

import re
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

_CODED: Final = re.compile("\x01(.)", re.DOTALL)


class AnyText(sa.types.TypeDecorator[str]):
    """Any text of Python's. Lone surrogates, as file names and arguments may hold them, become question marks.

    PostgreSQL takes no NUL: there it is kept as two signs, and comes back as it was. Its texts are sorted and compared
    by their code points, as SQLite's are, and not as the server's language has it.
    """

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """The dialect's own type."""
        return sa.TEXT(collation="C" if dialect.name == "postgresql" else None)

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """The text as the database keeps it."""
        if value is None:
            return None
        text = value.encode("utf-8", "replace").decode("utf-8")
        return coded(text) if dialect.name == "postgresql" else text

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """The text as it was given."""
        return decoded(value) if value and dialect.name == "postgresql" else value


def coded(text: str) -> str:
    """The text without NUL; `decoded` gives it back."""
    return text.replace("\x01", "\x01\x01").replace("\x00", "\x010")


def decoded(text: str) -> str:
    """What `coded` was given."""
    return _CODED.sub(lambda m: "\x00" if m[1] == "0" else m[1], text) if "\x01" in text else text


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware time in UTC. It is kept without a zone, which is taken off on the way in and put back on the way out."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        """The time without its zone, in UTC. Raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """The stored time, aware again."""
        return None if value is None else value.replace(tzinfo=UTC)
