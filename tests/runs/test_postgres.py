"""PostgreSQL: its errors in our words, lost connections, many processes at once, odd texts."""

import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from caravan.runs import migrating
from caravan.runs.columns import coded, decoded
from caravan.runs.database import Database, Hold, open_database
from caravan.runs.model_registry import SqlModelRegistry
from caravan.runs.postgres import Server
from caravan.runs.store import SqlStore
from caravan.runs.tables import metadata
from caravan.values.database import DatabaseAddress, parse_database_url
from caravan.values.errors import CaravanError, ServiceError, StateError
from caravan.values.registry import ModelStage
from caravan.values.run import RunEvent, RunRecord, RunRequest, RunStatus
from tests.fakes.clock import FakeClock
from tests.fakes.postgres import PASSWORD, PostgresServer

ROOT = Path(migrating.__file__).parents[2]
NOW = datetime(2026, 11, 21, tzinfo=UTC)


def record(run_id: str = "r-1", **more: Any) -> RunRecord:
    fields = {"created_at": NOW, "updated_at": NOW, "request": RunRequest(prompt="p", source="s")}
    return RunRecord(id=run_id, **{**fields, **more})


def opened(address: DatabaseAddress, busy_s: float = 15.0) -> Database:
    return open_database(address, FakeClock(NOW), busy_s=busy_s)


def refused(address: DatabaseAddress) -> CaravanError:
    with pytest.raises(CaravanError) as caught:
        opened(address)
    assert PASSWORD not in caught.value.line()
    return caught.value


def test_the_migrations_make_the_tables_that_the_code_uses(empty_postgres: DatabaseAddress) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = Server(empty_postgres, 15).engine()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_who_can_not_be_reached_or_refuses_says_what_to_do(postgres_server: PostgresServer) -> None:
    name = postgres_server.database()
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        nobody = parse_database_url(f"postgresql://ada:s3cret99@127.0.0.1:{taken.getsockname()[1]}/c")
        away = refused(nobody)
    assert isinstance(away, ServiceError)
    assert "can't be reached" in away.message
    wrong = refused(postgres_server.address(name, password="wrong-password"))
    assert isinstance(wrong, ServiceError)
    assert "password is wrong" in wrong.message
    assert "PGPASSWORD" in wrong.hint
    assert "wrong-password" not in wrong.line()
    gone = refused(postgres_server.address("no_such_database"))
    assert "createdb" in gone.hint
    assert "no_such_database" in gone.message
    odd = refused(postgres_server.address(name, more="?sslmod=x"))
    assert "libpq" in odd.hint
    postgres_server.drop(name)


def test_rights_that_are_missing_are_told(postgres_server: PostgresServer, postgres: DatabaseAddress) -> None:
    name = postgres.shown.rpartition("/")[2]
    empty = postgres_server.database()
    with postgres_server.admin() as admin:
        admin.execute("CREATE ROLE guest LOGIN PASSWORD 'guest-password'")
    try:
        for database in (empty, name):  # it may make no tables; it may not read those that are there
            told = refused(postgres_server.address(database, user="guest", password="guest-password"))
            assert isinstance(told, StateError)
            assert "rights are missing" in told.message
            assert "GRANT" in told.hint
    finally:
        postgres_server.drop(empty)
        with postgres_server.admin() as admin:
            admin.execute("DROP ROLE guest")


def test_a_database_that_may_only_be_read_is_read(postgres_server: PostgresServer, postgres: DatabaseAddress) -> None:
    store = SqlStore(opened(postgres), FakeClock(NOW))
    store.create_run(record())
    store.close()
    with postgres_server.admin() as admin:
        name = postgres.shown.rpartition("/")[2]
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert store.run("r-1") == record()
    store.close()


def test_tables_of_another_program_are_left_alone(postgres_server: PostgresServer) -> None:
    name = postgres_server.database()
    with postgres_server.admin(name) as admin:
        admin.execute("CREATE TABLE orders (id int)")
    assert "another program" in refused(postgres_server.address(name)).message
    with postgres_server.admin(name) as admin:
        admin.execute("CREATE TABLE alembic_version (version_num text)")
        admin.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO caravan")
    told = refused(postgres_server.address(name))
    assert "another program" in told.message
    assert "of its own" in told.hint
    postgres_server.drop(name)


def test_a_database_that_can_not_keep_all_signs_is_refused(postgres_server: PostgresServer) -> None:
    name = postgres_server.database(encoding="LATIN1", locale="C")
    assert "template0" in refused(postgres_server.address(name)).hint
    postgres_server.drop(name)


def test_another_writer_that_stays_is_told(postgres: DatabaseAddress) -> None:
    database, waiting = opened(postgres), opened(postgres, busy_s=0.05)
    store = SqlStore(waiting, FakeClock(NOW))

    def held(_connection: sa.Connection) -> None:
        with pytest.raises(StateError, match="in use by another process") as caught:
            store.create_run(record())
        assert "later" in caught.value.hint

    database.write(held, hold=Hold.MONEY)
    store.create_run(record())
    waiting.close()
    database.close()


def test_connections_that_were_cut_are_made_anew(postgres_server: PostgresServer, postgres: DatabaseAddress) -> None:
    store = SqlStore(opened(postgres), FakeClock(NOW))
    store.create_run(record())
    name, cuts = postgres.shown.rpartition("/")[2], []

    def cut_once(connection: sa.Connection) -> int:
        found = connection.execute(sa.text("SELECT count(*) FROM runs")).scalar_one()
        if not cuts:
            cuts.append(postgres_server.end_connections(name))
        return found + connection.execute(sa.text("SELECT 0")).scalar_one()

    database = opened(postgres)
    for work in (database.read, database.write):
        cuts.clear()
        assert work(cut_once) == 1
        assert cuts[0] >= 1
    assert store.run("r-1") == record()
    database.close()
    store.close()


def test_what_was_cut_at_its_end_is_done_again_only_where_that_does_no_harm(
    postgres_server: PostgresServer, postgres: DatabaseAddress
) -> None:
    database, name, tries = opened(postgres), postgres.shown.rpartition("/")[2], []

    def cut_before_the_commit(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT 1"))
        tries.append(1)
        if len(tries) == 1:
            postgres_server.end_connections(name)

    with pytest.raises(StateError, match="not known"):
        database.write(cut_before_the_commit, repeatable=False)
    assert len(tries) == 1
    tries.clear()
    database.write(cut_before_the_commit)
    assert len(tries) == 2
    database.close()


def test_a_server_that_restarts_is_waited_for_and_one_that_stays_away_is_told(postgres_server: PostgresServer) -> None:
    name = postgres_server.database()
    clock = FakeClock(NOW)
    store = SqlStore(open_database(postgres_server.address(name), clock), clock)
    store.create_run(record())
    postgres_server.stop()
    with pytest.raises(ServiceError, match="can't be reached"):
        store.run("r-1")
    assert clock.now() > NOW + timedelta(seconds=5)  # it was patient, on a clock that need not wait
    postgres_server.start()
    assert store.run("r-1") == record()
    store.close()
    postgres_server.drop(name)


WORKER = """
import sys
from datetime import datetime, timedelta, UTC
from caravan.runs.database import open_database
from caravan.runs.model_registry import SqlModelRegistry
from caravan.runs.store import SqlStore
from caravan.values.database import parse_database_url
from caravan.values.registry import ModelFiles, ModelStage, ModelVersion
from caravan.values.run import RunRecord, RunRequest
from caravan.values.spending import Cap
from machine import SystemClock
now = datetime(2026, 11, 21, tzinfo=UTC)
class Clock(SystemClock):
    def now(self): return now
clock, who = Clock(), sys.argv[1]
address = parse_database_url(sys.stdin.readline())
database = open_database(address.path or address, clock, busy_s=120)
store, registry = SqlStore(database, clock), SqlModelRegistry(database, clock)
cap = Cap(usd=100, since=now.replace(day=1), name="m")
def begin(run, user=""):
    request = RunRequest(prompt="p", source="s")
    store.create_run(RunRecord(id=run, created_at=now, updated_at=now, request=request, user=user))
for n in range(5):
    run = f"r-{who}-{n}"
    begin("r-shared")
    begin(run, "u")
    got = store.reserve(run, need_usd=9, want_usd=9, caps=(cap,)).usd
    store.update_run("r-shared", cost_usd=5.0)
    store.update_run(run, cost_usd=got or 0.0)
    if n % 2:
        store.update_run(run, cost_usd=(got or 0.0) / 2)
        store.update_run(run, cost_usd=got or 0.0)
    model = ModelVersion(name="tiny", run_id=run, created_at=now, files=ModelFiles(address="/m"), plan_sha256="a" * 64)
    added = registry.register(model)
    assert registry.register(model).ref == added.ref
    registry.move(added.ref, ModelStage.PRODUCTION, by=who, why="", at=now)
database.close()
"""


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_processes_at_once_count_nothing_twice(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """They open and migrate an empty database together, then reserve, charge, register and promote."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    if kind == "postgresql":
        url = request.getfixturevalue("empty_postgres").url.get_secret_value()
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(n)], cwd=ROOT, stdin=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(url + "\n")
        worker.stdin.close()
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0, 0]
    address, clock = parse_database_url(url), FakeClock(NOW)
    database = open_database(address.path or address, clock)
    store, registry = SqlStore(database, clock), SqlModelRegistry(database, clock)
    spent = {run.id: run.cost_usd for run in store.runs()}
    assert len(spent) == 16
    paid = [usd for run, usd in spent.items() if run != "r-shared"]
    # Under a limit of 100 there is room for 5 of the shared run and 10 times 9; more would be money counted twice.
    assert sorted(paid) == [0.0] * 5 + [9.0] * 10 or sorted(paid) == [0.0] * 4 + [9.0] * 11
    assert sum(row.spent_usd for row in store.spending()) == pytest.approx(sum(spent.values()))
    models = registry.models(limit=100)
    assert sorted(model.version for model in models) == list(range(1, 16))
    assert [model.stage for model in models].count(ModelStage.PRODUCTION) == 1
    assert all(model.stage in (ModelStage.PRODUCTION, ModelStage.ARCHIVED) for model in models)
    moves = [move for model in models for move in registry.moves(model.ref)]
    assert len(moves) == 15 + 15 + 14  # registered, promoted, and all but the last archived
    database.close()


def test_long_and_odd_texts_survive(postgres: DatabaseAddress) -> None:
    database = opened(postgres)
    store = SqlStore(database, FakeClock(NOW))
    store.create_run(record())
    long = RunEvent(at=NOW, kind="k", text="ü\x00'\x01\x010" * 5_000, data={"a\x00b": ["\x00", 1e308]})
    store.add_event("r-1", long)
    store.add_event("r-1", long)
    assert store.events("r-1") == (long,)
    store.update_run("r-1", detail="file \udcff\x00 name", status=RunStatus.WAITING)
    assert store.run("r-1").detail == "file ?\x00 name"
    database.close()


@given(st.text(st.characters(codec="utf-8")))
def test_a_text_without_nul_gives_back_the_one_with(text: str) -> None:
    assert "\x00" not in coded(text)
    assert decoded(coded(text)) == text


def test_ids_are_sorted_by_their_code_points(postgres: DatabaseAddress) -> None:
    database = opened(postgres)
    store = SqlStore(database, FakeClock(NOW))
    for run_id in ("r-a", "r-B", "r_a", "r-10", "r-9"):
        store.create_run(record(run_id))
    assert [run.id for run in store.runs()] == sorted(("r-a", "r-B", "r_a", "r-10", "r-9"), reverse=True)
    database.close()


def test_the_registry_alone_opens_the_database_too(postgres: DatabaseAddress) -> None:
    registry = SqlModelRegistry(opened(postgres), FakeClock(NOW))
    assert registry.models() == ()
    registry.close()
