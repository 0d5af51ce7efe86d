"""Money and measurements in every Store: the ledger by day, what is left under a limit, reservations, peaks."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.ports import Store
from caravan.runs.beside import StoreBeside
from caravan.runs.database import open_database
from caravan.runs.ledger import shares
from caravan.runs.store import SqlStore
from caravan.values.measurement import Measurement
from caravan.values.run import RunRecord, RunRequest, RunStatus
from caravan.values.spending import Cap, month_of, next_month
from tests.fakes.clock import FakeClock
from tests.fakes.store import MemoryStore

START = datetime(2026, 11, 30, 18, tzinfo=UTC)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture(params=["sql", "postgresql", "memory", "beside"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Store]:
    made: Store = MemoryStore(clock)
    if request.param in ("sql", "postgresql"):
        place = request.getfixturevalue("postgres") if request.param == "postgresql" else tmp_path / "caravan.db"
        made = SqlStore(open_database(place, clock), clock)
    if request.param == "beside":
        made = StoreBeside(made, MemoryStore(clock))
    yield made
    made.close()


def begin(store: Store, run_id: str, user: str = "ada", *, at: datetime = START, cost: float = 0.0) -> None:
    request = RunRequest(prompt="p", source="/repo")
    store.create_run(RunRecord(id=run_id, created_at=at, updated_at=at, request=request, user=user, cost_usd=cost))


def cap(usd: float = 100.0, *, user: str | None = None, since: datetime = START) -> Cap:
    return Cap(usd=usd, since=month_of(since), user=user, name="CARAVAN_MONTHLY_USD")


def test_money_counts_for_the_day_on_which_it_was_spent(store: Store, clock: FakeClock) -> None:
    begin(store, "r-1")
    clock.sleep(8 * 3600)  # to 2 o'clock of December
    store.update_run("r-1", cost_usd=8.0, spent_since=START)
    clock.sleep(3600)
    store.update_run("r-1", cost_usd=9.0, spent_since=START)
    store.update_run("r-1", cost_usd=9.0, spent_since=START)
    assert [(row.month, row.user, row.runs) for row in store.spending()] == [
        ("2026-12", "ada", 1),
        ("2026-11", "ada", 1),
    ]
    assert [row.spent_usd for row in store.spending()] == pytest.approx([3.0, 6.0])
    assert store.run("r-1").cost_usd == 9.0


def test_a_total_that_was_too_high_is_taken_back(store: Store, clock: FakeClock) -> None:
    begin(store, "r-1", cost=1.0)
    clock.sleep(86400)
    store.update_run("r-1", cost_usd=4.0)
    store.update_run("r-1", cost_usd=0.5)
    assert sum(row.spent_usd for row in store.spending()) == pytest.approx(0.5)


def test_what_is_left_is_less_what_others_spent_and_reserved(store: Store) -> None:
    for run_id, user in (("r-1", "ada"), ("r-2", "ada"), ("r-3", "bob")):
        begin(store, run_id, user)
    store.update_run("r-1", cost_usd=10.0)
    assert store.reserve("r-1", need_usd=20, want_usd=30, caps=()).usd == 30
    assert store.reserve("r-3", need_usd=5, want_usd=5, caps=()).usd == 5
    own, all_of_them = store.rooms("r-2", (cap(user="ada"), cap()))
    assert (own.spent_usd, own.reserved_usd, own.left_usd) == pytest.approx((10, 20, 70))
    assert (all_of_them.spent_usd, all_of_them.reserved_usd) == pytest.approx((10, 25))
    mine = store.rooms("r-1", (cap(user="ada"),))[0]
    assert mine.left_usd == pytest.approx(90)  # its own reservation does not stand against it


def test_money_of_another_month_is_not_counted(store: Store, clock: FakeClock) -> None:
    begin(store, "r-1", cost=50.0)
    clock.sleep(86400)
    assert store.rooms("r-1", (cap(since=clock.now()),))[0].left_usd == 100
    assert store.rooms("r-1", (cap(),))[0].left_usd == 50


def test_a_reservation_gives_what_is_left_or_nothing_and_names_the_tightest_limit(store: Store) -> None:
    begin(store, "r-1")
    begin(store, "r-2")
    caps = (cap(100), cap(40, user="ada"))
    assert store.reserve("r-1", need_usd=10, want_usd=25, caps=caps).usd == 25
    assert store.reserve("r-2", need_usd=10, want_usd=25, caps=caps).usd == pytest.approx(15)
    begin(store, "r-3")
    refused = store.reserve("r-3", need_usd=0.01, want_usd=25, caps=caps)
    assert refused.usd is None
    assert refused.short is not None
    assert (refused.short.cap.usd, refused.short.left_usd) == (40, 0)
    assert store.reserve("r-3", need_usd=0, want_usd=25, caps=caps).usd == 0  # what costs nothing needs nothing
    begin(store, "r-4", "bob")
    assert store.reserve("r-4", need_usd=10, want_usd=100, caps=(cap(100), cap(40, user="bob"))).usd == 40


def test_only_running_runs_hold_what_they_reserved(store: Store) -> None:
    begin(store, "r-1")
    store.reserve("r-1", need_usd=1, want_usd=60, caps=(cap(),))
    assert store.reserved_usd("r-1") == 60
    assert store.spending()[0].reserved_usd == 60
    for status in (RunStatus.WAITING, RunStatus.SUCCEEDED):
        store.update_run("r-1", status=status)
        assert store.rooms("r-2", (cap(),))[0].left_usd == 100
    assert store.reserved_usd("r-2") is None
    assert all(row.reserved_usd == 0 for row in store.spending())


def test_deleting_a_run_gives_no_money_back(store: Store) -> None:
    begin(store, "r-1")
    store.reserve("r-1", need_usd=1, want_usd=60, caps=())
    store.update_run("r-1", cost_usd=7.0)
    store.delete_run("r-1")
    room = store.rooms("r-2", (cap(),))[0]
    assert (room.spent_usd, room.reserved_usd) == (7, 0)


def test_of_runs_that_ask_at_once_one_gets_the_last_money(tmp_path: Path, clock: FakeClock) -> None:
    stores = [SqlStore(tmp_path / "c.db", clock) for _ in range(4)]
    for number, store in enumerate(stores):
        begin(store, f"r-{number}")

    def ask(number: int) -> float | None:
        return stores[number].reserve(f"r-{number}", need_usd=60, want_usd=60, caps=(cap(),)).usd

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert sorted(a or 0 for a in answers) == [0, 0, 0, 60]
    for store in stores:
        store.close()


def measurement(name: str, **more: object) -> Measurement:
    fields: dict[str, object] = {"id": name, "run_id": "r-1", "attempt": 1, "at": START, "kind": "run", "key": "k"}
    return Measurement.model_validate({**fields, "model": "m", "family": "decoder", "method": "lora", **more})


def test_a_measurement_is_stored_once_and_found_by_model_or_by_family_and_method(store: Store) -> None:
    begin(store, "r-1")
    same = measurement("a", peak_gib=31.2)
    store.add_measurement(same)
    store.add_measurement(same.model_copy(update={"peak_gib": 5.0}))
    store.add_measurement(measurement("b", model="other", at=START + timedelta(hours=1)))
    store.add_measurement(measurement("c", model="other", method="full"))
    store.add_measurement(measurement("d", method="full", at=START - timedelta(hours=1)))
    found = store.measurements(model="m", family="decoder", method="lora")
    assert [one.id for one in found] == ["d", "a", "b"]
    assert found[1] == same
    store.delete_run("r-1")
    assert len(store.measurements(model="m", family="decoder", method="lora")) == 3


@given(st.datetimes(timezones=st.just(UTC)), st.floats(0, 40 * 86400))
def test_the_shares_of_days_add_up(begin: datetime, seconds: float) -> None:
    first = begin.replace(year=2024 + begin.year % 3, day=min(begin.day, 28))
    days = list(shares(first, first + timedelta(seconds=seconds)))
    assert sum(share for _, share in days) == pytest.approx(1)
    assert [day for day, _ in days] == sorted({day for day, _ in days})


def test_months_begin_and_end_in_utc() -> None:
    assert month_of(datetime(2026, 12, 31, 23, tzinfo=UTC)) == datetime(2026, 12, 1, tzinfo=UTC)
    assert next_month(datetime(2026, 12, 31, 23, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
