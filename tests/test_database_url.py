"""Commands on the database that DATABASE_URL names: a real PostgreSQL, a file, and what can't be used."""

import json
from pathlib import Path

import pytest

from caravan.values.database import DatabaseAddress
from main import Application, main
from tests.fakes.postgres import PASSWORD


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


def test_a_file_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is not None
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "caravan-home" / "caravan.db").exists()
