"""Databases that an earlier version wrote are brought to this one on both kinds, and keep what stood in them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from caravan.runs import migrating
from caravan.runs.database import Kind, open_database
from caravan.runs.migrations.versions import r0003_results
from caravan.runs.model_registry import SqlModelRegistry
from caravan.runs.sqlite_file import SqliteFile
from caravan.runs.store import SqlStore
from caravan.values.database import DatabaseAddress
from caravan.values.errors import StateError
from caravan.values.run import RunEvent, RunRequest
from caravan.values.spending import Cap
from tests.fakes.clock import FakeClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BEGAN, CHANGED = datetime(2026, 11, 20, 23), datetime(2026, 11, 21, 1)  # noqa: DTZ001 (as the tables keep them)
RUN = {"id": "r-old", "created_at": BEGAN, "updated_at": CHANGED, "status": "succeeded", "node": "report", "detail": ""}
RUN |= {"cost_usd": 12.5, "request": {"prompt": "p", "source": "/r"}}
EVENT = {"run_id": "r-old", "at": CHANGED, "kind": "k", "text": "placed", "text_sha256": "0" * 64, "data": {"n": [1]}}

Place = Path | DatabaseAddress


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where there is no database yet."""
    return request.getfixturevalue("empty_postgres") if request.param == "postgresql" else tmp_path / "caravan.db"


def kind(place: Place) -> Kind:
    if isinstance(place, Path):
        return SqliteFile(place, 15)
    from caravan.runs.postgres import Server

    return Server(place, 15)


def written(place: Place, revision: str, monkeypatch: pytest.MonkeyPatch, rows: dict[str, dict[str, Any]]) -> None:
    """A database of that revision with these rows, written through its own tables."""
    with monkeypatch.context() as earlier:
        earlier.setattr(migrating, "HEAD", revision)
        engine = kind(place).engine()
    with engine.begin() as connection:
        there = sa.MetaData()
        there.reflect(connection)
        for table, row in rows.items():
            connection.execute(sa.insert(there.tables[table]).values(row))
    engine.dispose()


@pytest.fixture
def before(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A database of revision 0001 with a run that has cost something."""
    written(place, "0001", monkeypatch, {"runs": RUN, "events": EVENT})
    return place


def opened(place: Place) -> SqlStore:
    return SqlStore(open_database(place, FakeClock(NOW)), FakeClock(NOW))


def test_runs_of_the_oldest_revision_are_kept_and_their_cost_counts(before: Place) -> None:
    store = opened(before)
    run = store.run("r-old")
    assert (run.user, run.cost_usd, run.request) == ("", 12.5, RunRequest(prompt="p", source="/r"))
    assert run.created_at == BEGAN.replace(tzinfo=UTC)
    assert [(e.text, e.data) for e in store.events("r-old")] == [("placed", {"n": [1]})]
    store.add_event("r-old", RunEvent(at=NOW, kind="k"))
    month = Cap(usd=20, since=NOW.replace(day=1), name="x")
    assert store.rooms("r-new", (month,))[0].left_usd == 7.5
    assert store.rooms("r-new", (month.model_copy(update={"user": "ada"}),))[0].left_usd == 20
    assert [(row.month, row.spent_usd) for row in store.spending()] == [("2026-11", 12.5)]
    assert store.measurements(model="m", family="f", method="lora") == ()
    assert store.result("r-old") is None
    store.close()


def test_it_is_migrated_once(before: Place) -> None:
    for _ in range(2):
        store = opened(before)
        assert store.spending()[0].spent_usd == 12.5
        store.close()


def test_money_of_the_second_revision_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = {"run_id": "r-gone", "day": "2026-11-19", "user": "ada", "usd": 3.5, "until": CHANGED}
    reserved = {"run_id": "r-old", "usd": 40.0, "at": CHANGED}
    running = {**RUN, "user": "ada", "status": "running"}
    written(place, "0002", monkeypatch, {"runs": running, "spending": spent, "reservations": reserved})
    store = opened(place)
    row = store.spending()[0]
    assert (row.user, row.spent_usd, row.reserved_usd) == ("ada", 3.5, 27.5)
    assert store.run("r-old").user == "ada"
    database = open_database(place, FakeClock(NOW))
    assert SqlModelRegistry(database, FakeClock(NOW)).models() == ()
    database.close()
    store.close()


def test_two_that_migrate_at_once_do_it_once(before: Place) -> None:
    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(opened, [before] * 3))
    for store in stores:
        assert store.spending()[0].spent_usd == 12.5
        store.close()


@pytest.mark.parametrize("calls", [1, 6])
def test_an_upgrade_that_is_cut_short_leaves_what_was_there(
    before: Place, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    class Cut(Exception):
        """The process dies here."""

    left = [calls]

    def until(work: Callable[..., Any]) -> Callable[..., Any]:
        def one(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Cut
            return work(*args, **more)

        return one

    with monkeypatch.context() as dying:
        dying.setattr("alembic.op.create_table", until(r0003_results.op.create_table))
        with pytest.raises(Cut):
            kind(before).engine()
    with monkeypatch.context() as earlier:
        earlier.setattr(migrating, "HEAD", "0001")
        engine = kind(before).engine()  # it is the old one still: nothing is to be done
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
    engine.dispose()
    assert tables == {"runs", "deployments", "events", "alembic_version"}
    store = opened(before)
    assert store.spending()[0].spent_usd == 12.5
    store.close()


def test_a_database_of_a_newer_version_is_refused(before: Place) -> None:
    opened(before).close()
    engine = kind(before).engine()
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StateError, match="schema 9999") as caught:
        opened(before)
    assert "Update Caravan" in caught.value.hint
