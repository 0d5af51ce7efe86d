"""Stores that an earlier version wrote are brought to this one, and keep what stood in them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from caravan.runs import migrating
from caravan.runs.sqlite_file import SqliteFile
from caravan.runs.store import SqlStore
from caravan.values.run import RunEvent, RunRequest
from caravan.values.spending import Cap
from tests.fakes.clock import FakeClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of revision 0001 with a run that has cost something."""
    path = tmp_path / "caravan.db"
    with monkeypatch.context() as earlier:
        earlier.setattr(migrating, "HEAD", "0001")
        engine = SqliteFile(path, 15).engine()
    row = {"id": "r-old", "created_at": "2026-11-20 23:00:00.000000", "updated_at": "2026-11-21 01:00:00.000000"}
    row |= {"status": "succeeded", "node": "report", "detail": "", "request": '{"prompt": "p", "source": "/r"}'}
    with engine.begin() as connection:
        names = ", ".join((*row, "cost_usd"))
        places = ", ".join(f":{name}" for name in (*row, "cost_usd"))
        connection.execute(sa.text(f"INSERT INTO runs ({names}) VALUES ({places})"), {**row, "cost_usd": 12.5})
    engine.dispose()
    return path


def test_runs_of_the_revision_before_are_kept_and_their_cost_counts(before: Path) -> None:
    store = SqlStore(before, FakeClock(NOW))
    run = store.run("r-old")
    assert (run.user, run.cost_usd, run.request) == ("", 12.5, RunRequest(prompt="p", source="/r"))
    store.add_event("r-old", RunEvent(at=NOW, kind="k"))
    month = Cap(usd=20, since=NOW.replace(day=1), name="x")
    assert store.rooms("r-new", (month,))[0].left_usd == 7.5
    assert store.rooms("r-new", (month.model_copy(update={"user": "ada"}),))[0].left_usd == 20
    assert [(row.month, row.spent_usd) for row in store.spending()] == [("2026-11", 12.5)]
    assert store.measurements(model="m", family="f", method="lora") == ()
    store.close()


def test_it_is_migrated_once(before: Path) -> None:
    for _ in range(2):
        store = SqlStore(before, FakeClock(NOW))
        assert store.spending()[0].spent_usd == 12.5
        store.close()
