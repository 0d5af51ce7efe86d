"""Commands on the database that DATABASE_URL names: a real PostgreSQL, a file, and what can't be used."""

import json
from pathlib import Path

import pytest

from caravan.runs.migrating import HEAD
from caravan.values.database import DatabaseAddress
from main import Application, main
from tests.fakes.postgres import PASSWORD, PostgresServer


def test_commands_work_on_a_server_and_never_show_its_password(
    postgres: DatabaseAddress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.url.get_secret_value())
    application = Application()
    facts = application.database()
    application.store().close()
    assert facts.software.startswith("PostgreSQL ")
    assert facts.shown == postgres.shown
    assert facts.encrypted is None  # it does not leave this machine
    assert PASSWORD in application.secrets()
    assert main(["runs", "--json"]) == 0
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert postgres.shown.removeprefix("postgresql://") in out.replace("\n", "")
    assert not (tmp_path / "caravan-home" / "caravan.db").exists()
    for form in postgres.secrets():
        assert form not in out


def _line(out: str) -> dict[str, str]:
    """What `doctor --json` says of the database."""
    (line,) = [c for c in json.loads(out)["checks"] if c["name"] == "database"]
    return {str(key): str(value) for key, value in line.items()}


def test_doctor_looks_at_the_server(
    postgres: DatabaseAddress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres.url.get_secret_value())
    main(["doctor", "--json"])  # its exit code is that of all checks
    line = _line(capsys.readouterr().out)
    assert (line["area"], line["level"]) == ("settings", "ok")
    assert "0 runs" in line["text"]
    assert f"{postgres.shown}: PostgreSQL 1" in line["text"]
    assert f"schema {HEAD}, answers in " in line["text"]
    assert "not encrypted" not in line["text"], "it does not leave this machine"


def test_doctor_says_what_is_wrong_with_the_server(
    postgres: DatabaseAddress,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = postgres.url.get_secret_value().rpartition("/")[2]
    wrong = {
        "is wrong": postgres_server.url(name, password="s3cret99"),
        "refuses": postgres_server.url("there-is-none"),
        "can't be reached": "postgresql://ada:s3cret99@127.0.0.1:1/caravan",
    }
    for words, url in wrong.items():
        monkeypatch.setenv("DATABASE_URL", url)
        code = main(["doctor", "--json"])
        out = capsys.readouterr().out
        line = _line(out)
        assert (line["area"], line["level"]) == ("service", "failure")
        assert words in line["text"]
        assert line["hint"]
        assert code in (4, 5), "the cluster's comes first where that fails too"
        assert "s3cret99" not in out


def test_a_server_that_is_away_is_an_error_of_a_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("DATABASE_URL", "postgresql://ada:s3cret99@127.0.0.1:1/caravan")
    assert main(["runs"]) == 5
    told = capsys.readouterr().err
    assert "can't be reached" in told
    assert "DATABASE_URL" in told
    assert "s3cret99" not in told


@pytest.mark.parametrize("url", ["mysql://ada:s3cret99@h/c", "postgresql://ada:s3#cret99@h/c", "caravan.db"])
def test_an_address_that_is_none_is_wrong_use(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(["runs"]) == 2
    told = capsys.readouterr().err
    assert "DATABASE_URL" in told
    assert "cret99" not in told


REFUSED = (
    "postgresql://alice:s3cr3tpw@127.0.0.1:port/db",
    "postgresql://alice:s3cr3tpw@[::1/db",
    "postgresql://alice:s3cr3tpw@h:1:2/db",
    "postgresql://alice:s3cr3tpw@rest@h/db",
    "postgresql://alice:rest/s3cr3tpw@h/db",
    "postgresql://alice:rest@s3cr3tpw@h/db",
    "postgresql://alice:s3cr3tpw%zz@h/db",
    "postgresql://alice:s3cr3tpw#@h/db",
    "postgresql://alice:s3cr3tpw @h/db",
    "postgresql://h:port/db?password=s3cr3tpw",
    "mysql://alice:s3cr3tpw@h/db",
    "alice:s3cr3tpw@h/db",
    "sqlite://s3cr3tpw",
    "s3cr3tpw",
)


@pytest.mark.parametrize("command", [["runs"], ["models", "list"], ["runs", "--json"]])
@pytest.mark.parametrize("url", REFUSED)
def test_a_refusal_never_holds_the_password_nor_does_its_traceback(
    url: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    for words in (command, ["--debug", *command]):
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert "s3cr3tpw" not in out + err
        assert "DATABASE_URL" in err
        assert ("Traceback" in err) is ("--debug" in words)


@pytest.mark.parametrize("url", ["mysql://alice:s3cr3tpw@h/db", "postgresql+asyncpg://alice:s3cr3tpw@h/db"])
def test_a_refusal_says_how_an_address_is_written(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(["runs"]) == 2
    assert "postgresql://USER:PASSWORD@HOST:PORT/NAME" in capsys.readouterr().err


def test_a_traceback_holds_no_secret_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://alice:s3cr3tpw@127.0.0.1:1/db")
    monkeypatch.setenv("CARAVAN_HARD_LIMIT_USD", "s3cr3tpw")  # another setting is what is wrong
    assert main(["--debug", "runs"]) == 2
    assert "s3cr3tpw" not in "".join(capsys.readouterr())


def test_a_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is not None
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "caravan-home" / "caravan.db").exists()
