"""Looking at a store without SQLAlchemy: what the whole store would find, and nothing of it where that must speak."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from caravan.ports import Store
from caravan.runs import tables
from caravan.runs.columns import UtcTime
from caravan.runs.looking import COLUMNS, DOCUMENTS, TIMES, LookingStore
from caravan.runs.store import SqlStore
from caravan.values.errors import StateError, UsageError
from caravan.values.run import Deployment, RunEvent, RunRecord, RunRequest
from tests.fakes.clock import FakeClock

NOW = datetime(2026, 11, 22, 9, 0, 0, 250, tzinfo=UTC)
RUN = RunRecord(
    id="0a1b2c3d", created_at=NOW, updated_at=NOW, user="ada", cost_usd=1.5,
    request=RunRequest(prompt="fine-tune it", source="/repo", cluster="local"),
)  # fmt: skip


def nobody() -> Store:
    raise AssertionError("the whole store was opened")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = SqlStore(tmp_path / "caravan.db", FakeClock(NOW))
    store.create_run(RUN)
    store.intend(Deployment(run_id=RUN.id, attempt=1, job_id="j-1", spec_sha256="0" * 64, plan_sha256="1" * 64))
    store.add_event(RUN.id, RunEvent(at=NOW, kind="placed", text="on node 1", data={"node": "n", "deep": [None, 0.5]}))
    store.reserve(RUN.id, need_usd=2.0, want_usd=3.0, caps=())
    store.close()
    return tmp_path / "caravan.db"


def test_what_runs_and_show_ask_is_found_without_the_whole_store(path: Path) -> None:
    looking, whole = LookingStore(path, nobody), SqlStore(path, FakeClock(NOW))
    assert looking.runs() == whole.runs() == (RUN,)
    assert looking.run("0a1b") == RUN
    assert looking.deployments(RUN.id) == whole.deployments(RUN.id) != ()
    assert looking.events(RUN.id) == whole.events(RUN.id) != ()
    assert looking.reserved_usd(RUN.id) == whole.reserved_usd(RUN.id) == 3.0
    assert looking.reserved_usd("other") is None
    with pytest.raises(UsageError, match="There is no run 'ff'"):
        looking.run("ff")
    looking.close()
    whole.close()


def test_what_is_read_stands_in_the_tables_as_it_is_taken() -> None:
    for name, columns in COLUMNS.items():
        table = tables.metadata.tables[name]
        assert set(columns) <= set(table.columns.keys())
        for column in columns:
            assert isinstance(table.columns[column].type, UtcTime) == (column in TIMES)
            assert isinstance(table.columns[column].type, sa.JSON) == (column in DOCUMENTS)
    assert set(COLUMNS["runs"]) == set(tables.runs.columns.keys())


@pytest.mark.parametrize("revision", ["0001", "9999"])
def test_another_schema_is_for_the_whole_store(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with pytest.raises(AssertionError, match="was opened"):
        LookingStore(path, nobody).runs()


def test_what_is_none_of_ours_is_explained_by_the_whole_store(tmp_path: Path) -> None:
    path = tmp_path / "caravan.db"
    path.write_bytes(b"no database at all, but long enough to be read as the head of one" * 20)
    with pytest.raises(StateError, match="is damaged"):
        LookingStore(path, lambda: SqlStore(path, FakeClock(NOW))).run("0a1b2c3d")


def test_a_store_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "caravan.db"
    looking = LookingStore(path, lambda: SqlStore(path, FakeClock(NOW)))
    assert looking.runs() == ()
    assert path.is_file()
    looking.close()


def test_a_row_of_another_version_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE runs SET request = '{\"unknown\": 1}'")
    with pytest.raises(StateError, match="0a1b2c3d does not fit this version"):
        LookingStore(path, nobody).runs()


def test_once_it_is_open_the_whole_store_is_asked(path: Path) -> None:
    looking = LookingStore(path, lambda: SqlStore(path, FakeClock(NOW)))
    looking.update_run(RUN.id, cost_usd=2.5)
    path.rename(path.with_name("moved.db"))  # another look at the path would find nothing
    assert looking.run(RUN.id).cost_usd == 2.5
    looking.close()


@pytest.mark.parametrize("words", [["runs"], ["runs", "--json"], ["show", "0a1b"], ["show", "0a1b", "--json"]])
def test_runs_and_show_import_no_sqlalchemy(path: Path, words: list[str]) -> None:
    child = f"import main, sys; code = main.main({words!r}); assert 'sqlalchemy' not in sys.modules; sys.exit(code)"
    environment = {"CARAVAN_HOME": str(path.parent), "PATH": ""}
    root = Path(tables.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", child], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "0a1b2c3d" in done.stdout
