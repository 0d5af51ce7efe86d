"""The SQLite store: its file, its schema, its errors, and several processes at once."""

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from caravan.runs import migrating
from caravan.runs.database import open_database
from caravan.runs.sqlite_file import SqliteFile
from caravan.runs.store import SqlStore
from caravan.runs.tables import metadata
from caravan.values.errors import StateError
from caravan.values.run import RunEvent, RunRecord, RunRequest

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class FixedClock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        pass

    def wait(self, event: Event, seconds: float) -> bool:
        return event.is_set()


def make(path: Path, busy_s: float = 15.0) -> SqlStore:
    return SqlStore(path, FixedClock(), busy_s=busy_s)


def record(run_id: str = "r-1") -> RunRecord:
    return RunRecord(id=run_id, created_at=NOW, updated_at=NOW, request=RunRequest(prompt="p", source="s"))


def test_the_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    engine = SqliteFile(tmp_path / "c.db", 15).engine()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    folder = Path(migrating.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder), version_locations=[str(folder / "versions")]).get_heads() == [migrating.HEAD]


def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    store = make(home / "caravan.db")
    store.create_run(record())
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {f.name: oct(stat.S_IMODE(f.stat().st_mode)) for f in home.iterdir()} == dict.fromkeys(
        ("caravan.db", "caravan.db-wal", "caravan.db-shm", "caravan.db.lock"), "0o600"
    )
    store.close()


def test_what_is_stored_outlives_the_store(tmp_path: Path) -> None:
    first = make(tmp_path / "c.db")
    first.create_run(record())
    first.close()
    second = make(tmp_path / "c.db")
    assert second.run("r-") == record()
    second.close()


def test_at_head_alembic_is_not_imported(tmp_path: Path) -> None:
    make(tmp_path / "c.db").close()
    script = (
        "import sys; from pathlib import Path; from caravan.runs.database import open_database;"
        "open_database(Path(sys.argv[1]), None).close();"
        "assert not {'alembic', 'psycopg', 'tenacity', 'sqlalchemy.dialects.postgresql'} & set(sys.modules)"
    )
    root = Path(migrating.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "c.db")], check=True, cwd=root, timeout=60)


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    make(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num='9999'")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"schema 9999.*") as caught:
        make(path)
    assert "Update" in caught.value.hint
    assert path.read_bytes() == before


def test_a_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StateError, match="damaged") as caught:
        make(path)
    assert "Move it away" in caught.value.hint


def test_an_unusable_place_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.db").mkdir()
    for path in (tmp_path / "file" / "c.db", tmp_path / "folder.db"):
        with pytest.raises(StateError, match="can't be used") as caught:
            make(path)
        assert "CARAVAN_HOME" in caught.value.line()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("attempt to write a readonly database", "writable"),
        ("unable to open database file", "writable"),
        ("database or disk is full", "Make room"),
        ("database disk image is malformed", "Move it away"),
        ("database is locked", "Try again"),
    ],
)
def test_each_error_of_the_database_says_what_to_do(tmp_path: Path, words: str, hint: str) -> None:
    database = open_database(tmp_path / "c.db", FixedClock())

    def fails(_connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError(words))

    for work in (database.read, database.write):
        with pytest.raises(StateError) as caught:
            work(fails)
        assert hint in caught.value.hint
        assert "SELECT" not in caught.value.line()
    database.close()


def test_a_database_that_stays_locked_is_an_error_of_its_own(tmp_path: Path) -> None:
    store = make(tmp_path / "c.db", busy_s=0.01)
    holder = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match="in use"):
        store.create_run(record())
    holder.execute("ROLLBACK")
    holder.close()
    store.create_run(record())
    store.close()


def test_what_another_version_wrote_is_no_traceback(tmp_path: Path) -> None:
    store = make(tmp_path / "c.db")
    store.create_run(record())
    with sqlite3.connect(tmp_path / "c.db") as raw:
        raw.execute("""UPDATE runs SET request='{"prompt": "p", "source": "s", "later_field": 1}'""")
    raw.close()
    with pytest.raises(StateError, match="does not fit"):
        store.run("r-1")
    store.close()


WRITER = """
import sys
from datetime import datetime, timedelta, UTC
from pathlib import Path
from caravan.runs.store import SqlStore
from caravan.values.run import RunEvent, RunRecord, RunRequest
class Clock:
    def now(self): return datetime(2026, 11, 21, tzinfo=UTC)
    def monotonic(self): return 0.0
    def sleep(self, seconds): pass
store = SqlStore(Path(sys.argv[1]), Clock(), busy_s=60)
now = Clock().now()
store.create_run(RunRecord(id="r-1", created_at=now, updated_at=now, request=RunRequest(prompt="p", source="s")))
for n in range(20):
    store.add_event("r-1", RunEvent(at=now + timedelta(seconds=n), kind=sys.argv[2]))
    store.update_run("r-1", node=f"{sys.argv[2]}{n}")
store.close()
"""


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    root = Path(migrating.__file__).parents[2]
    arguments = [sys.executable, "-c", WRITER, str(tmp_path / "c.db")]
    writers = [subprocess.Popen([*arguments, name], cwd=root) for name in ("a", "b", "c")]
    assert [w.wait(timeout=120) for w in writers] == [0, 0, 0]
    store = make(tmp_path / "c.db")
    assert len(store.events("r-1")) == 60
    store.close()


def test_long_and_odd_texts_survive(tmp_path: Path) -> None:
    store = make(tmp_path / "c.db")
    store.create_run(record())
    long = RunEvent(at=NOW, kind="k", text="ü\x00'" * 50_000)
    store.add_event("r-1", long)
    store.add_event("r-1", long)
    assert store.events("r-1") == (long,)
    store.update_run("r-1", detail="file \udcff name")
    assert store.run("r-1").detail == "file ? name"
    store.close()


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = make(tmp_path / "c.db")
    store.create_run(record())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.add_event("r-1", RunEvent(at=NOW, kind=f"k{n}")), range(64)))
    assert len(store.events("r-1")) == 64
    store.close()
