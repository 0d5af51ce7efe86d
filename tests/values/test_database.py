"""Addresses of databases: what is taken, what is shown, and that no password is ever shown."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.database import parse_database_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:s3cret@db.example:5433/caravan", "postgresql://ada@db.example:5433/caravan"),
        ("postgres://db.example/caravan", "postgresql://db.example/caravan"),
        ("postgresql+psycopg://ada@[::1]:5432/c?sslmode=require", "postgresql://ada@[::1]:5432/c"),
        ("postgresql://ada@a.example:1,b.example:2/c", "postgresql://ada@a.example:1,b.example:2/c"),
        ("postgresql:///caravan?host=/var/run/postgresql", "postgresql:///caravan"),
        ("postgresql://db.example/c?user=ada&password=s3cret", "postgresql://db.example/c"),
    ],
)
def test_servers(text: str, shown: str) -> None:
    address = parse_database_url(text)
    assert (address.shown, address.path) == (shown, None)
    assert address.url.get_secret_value().startswith("postgresql://")
    assert address.secrets() == (("s3cret",) if "s3cret" in text else ())
    assert "s3cret" not in repr(address)


def test_files(tmp_path: Path) -> None:
    assert parse_database_url(f"sqlite:///{tmp_path}/c.db").path == tmp_path / "c.db"
    assert parse_database_url("sqlite:///c.db").path == Path("c.db").absolute()
    assert parse_database_url("sqlite:///~/c.db").path == Path("~/c.db").expanduser()


@pytest.mark.parametrize(
    "text",
    [
        *("", "caravan.db", "mysql://ada:s3cret@h/c", "sqlite://", "sqlite:///", "sqlite:///c.db?mode=ro"),
        *("postgresql://ada:s3#cret@h/c", "postgresql://ada:s3/cret@h/c", "postgresql://ada:s3?cret@h/c"),
        *("postgresql://ada:s3@cret@h/c", "postgresql://ada:s3%cret@h/c", "postgresql://ada:s3cret@h:port/c"),
        *("postgresql://ada:s3cret@[::1/c", "postgresql://ada:s3cret@h /c", "postgresql://ada:s3cret@h/c\x00"),
    ],
)
def test_what_is_refused_says_why_without_the_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"is|names|holds") as caught:
        parse_database_url(text)
    assert "cret" not in str(caught.value)
    assert "ada" not in str(caught.value)


@given(st.text(min_size=8, max_size=40).filter(lambda text: "\x00" not in text))
def test_no_password_is_shown(password: str) -> None:
    try:
        coded = quote(password, safe="")
    except UnicodeEncodeError:  # lone surrogates have no code
        return
    address = parse_database_url(f"postgresql://u:{coded}@h/n")
    assert address.shown == "postgresql://u@h/n"
    assert password in address.secrets()
    assert password not in shown_or_told(f"postgresql://u:{password}@h/n").removeprefix("postgresql://u@h/n")


def shown_or_told(text: str) -> str:
    try:
        return parse_database_url(text).shown
    except ValueError as error:
        return str(error)
