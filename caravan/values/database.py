"""Where the database is, as `DATABASE_URL` says it: a file for SQLite, or a PostgreSQL server.

What is shown of an address never holds its password, and neither does an error about one. Nothing is opened here.
"""

import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from caravan.values.base import Value

_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")
_KNOWN: Final = "write postgresql://USER:PASSWORD@HOST:PORT/NAME or sqlite:///PATH"
_PLACE: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^\[\]:/]*)(?::[0-9]*)?")
_SECRET: Final = ("password", "sslpassword")  # parameters of a connection that may stand behind the `?`


class DatabaseAddress(Value):
    """A database: `path` of SQLite's file, or `url` as libpq takes it. `shown` may be written anywhere."""

    shown: str
    path: Path | None = None
    url: SecretStr = SecretStr("")
    passwords: tuple[SecretStr, ...] = ()

    def secrets(self) -> tuple[str, ...]:
        """What of it may be written nowhere."""
        return tuple(dict.fromkeys(one.get_secret_value() for one in self.passwords if one.get_secret_value()))


class DatabaseFacts(Value):
    """What a database that is open says of itself. `shown` holds no password; `answer_ms`: until a query's answer."""

    shown: str
    software: str
    schema_version: str
    answer_ms: float
    encrypted: bool | None = None

    def sentence(self) -> str:
        """The facts for people."""
        open_to_all = "; the connection is not encrypted" if self.encrypted is False else ""
        what = f"{self.software}, schema {self.schema_version}, answers in {self.answer_ms:.1f} ms{open_to_all}"
        return f"{self.shown}: {what}."


def parse_database_url(text: str) -> DatabaseAddress:
    """The address. Raises ValueError, which never holds the text, for what is none."""
    text = text.strip()
    scheme, colon, rest = text.partition("://")
    if not colon or any(sign.isspace() or not sign.isprintable() for sign in text):
        raise ValueError(f"is no address of a database; {_KNOWN}")
    if scheme.lower() == "sqlite":
        return _file(rest)
    if scheme.lower() not in _POSTGRESQL:
        raise ValueError(f"is an address of a kind that Caravan does not know; {_KNOWN}")
    return _server(rest)


def _file(rest: str) -> DatabaseAddress:
    if not rest.startswith("/") or not rest.strip("/") or "?" in rest:
        raise ValueError("names no file; write sqlite:///PATH, with four strokes for one from the root")
    path = Path(rest[1:])
    try:
        path = path.expanduser().absolute()
    except (RuntimeError, OSError) as error:  # ~nobody; a working directory that was removed
        raise ValueError("names a file that can't be found") from error
    return DatabaseAddress(shown=str(path), path=path)


def _server(rest: str) -> DatabaseAddress:
    # A password with one of these signs in it would be cut in two, and its rest be taken for a host or a name.
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if "#" in rest or rest.count("@") > authority.count("@") or authority.count("@") > 1:
        raise ValueError("holds a sign that must be written as a code: %40 for @, %2F for /, %3F for ?, %23 for #")
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", rest):
        raise ValueError("holds a % that begins no code; write %25 for it")
    try:
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError as error:
        raise ValueError("names a host that is none") from error
    login, _, place = parts.netloc.rpartition("@")
    if not all(_PLACE.fullmatch(one) for one in place.split(",")):
        raise ValueError("names a host or port that is none")
    user, _, password = login.partition(":")
    told = [password, *(value for key, value in _query(parts.query) if key in _SECRET)]
    kept = [SecretStr(form) for value in told for form in (value, unquote(value)) if form]
    name = f"{user}@{place}" if user else place
    return DatabaseAddress(
        shown=f"postgresql://{name}{parts.path}", url=SecretStr(f"postgresql://{rest}"), passwords=tuple(kept)
    )


def _query(query: str) -> list[tuple[str, str]]:
    return [*parse_qsl(query, keep_blank_values=True), *(_pair(part) for part in query.split("&") if "=" in part)]


def _pair(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    return unquote(key), value
