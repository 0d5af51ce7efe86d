"""What every Store does: the real one and the fake pass the same tests."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest

from caravan.ports import Store
from caravan.runs.beside import StoreBeside
from caravan.runs.database import open_database
from caravan.runs.looking import LookingStore
from caravan.runs.store import SqlStore
from caravan.values.errors import StateError, UsageError
from caravan.values.evaluation import GateReport, GateVerdict
from caravan.values.plan import Author, PlanChange
from caravan.values.registry import RunResult
from caravan.values.run import Deployment, DeploymentState, RunEvent, RunRecord, RunRequest, RunStatus
from caravan.values.training import MetricSpec
from tests.fakes.store import MemoryStore

START = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


class StepClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


Make = Callable[[], Store]


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


class LookedAtAnew:
    """A store that each look finds as another process has left it, so that none asks the whole store."""

    def __init__(self, path: Path, clock: StepClock) -> None:
        self._path, self._clock = path, clock
        self._opened: list[SqlStore] = []

    def _whole(self) -> Store:
        self._opened.append(SqlStore(open_database(self._path, self._clock), self._clock))
        return self._opened[-1]

    def close(self) -> None:
        for store in self._opened:
            store.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(LookingStore(self._path, self._whole), name)


@pytest.fixture(params=["sql", "postgresql", "memory", "beside", "looking"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: StepClock) -> Iterator[Store]:
    made: Store = MemoryStore(clock)
    if request.param in ("sql", "postgresql"):
        place = request.getfixturevalue("postgres") if request.param == "postgresql" else tmp_path / "caravan.db"
        made = SqlStore(open_database(place, clock), clock)
    if request.param == "beside":
        made = StoreBeside(made, MemoryStore(clock))
    if request.param == "looking":
        made = cast("Store", LookedAtAnew(tmp_path / "caravan.db", clock))
    yield made
    made.close()


def record(run_id: str = "r-abc123", *, minutes: int = 0, cost: float = 0.0, prompt: str = "fine-tune it") -> RunRecord:
    at = START + timedelta(minutes=minutes)
    sets = (PlanChange(path="training.lr", value=1e-4, by=Author.USER, why="--set"),)
    request = RunRequest(prompt=prompt, source="/repo", answers={"q": [1, None, {"a": 0.5}]}, sets=sets, budget_usd=3.5)
    return RunRecord(id=run_id, created_at=at, updated_at=at, request=request, cost_usd=cost)


def deployment(attempt: int = 1, *, run_id: str = "r-abc123", sha: str = "s" * 64) -> Deployment:
    return Deployment(
        run_id=run_id, attempt=attempt, job_id=f"{run_id}-{attempt}", spec_sha256=sha, plan_sha256="p" * 64
    )


def event(text: str = "placed", *, seconds: float = 0, kind: str = "node") -> RunEvent:
    return RunEvent(at=START + timedelta(seconds=seconds), kind=kind, text=text, data={"n": 1, "deep": [None, 1.5]})


def test_a_run_comes_back_as_it_was_stored(store: Store) -> None:
    store.create_run(record())
    assert store.run("r-abc123") == record()
    assert store.run("r-abc123").created_at.utcoffset() == timedelta(0)


def test_times_of_other_zones_are_the_same_moment(store: Store) -> None:
    east = timezone(timedelta(hours=8))
    store.create_run(record().model_copy(update={"created_at": START.astimezone(east)}))
    assert store.run("r-abc123").created_at == START


def test_creating_twice_keeps_what_became_of_it(store: Store) -> None:
    store.create_run(record())
    store.update_run("r-abc123", status=RunStatus.SUCCEEDED)
    store.create_run(record())
    assert store.run("r-abc123").status is RunStatus.SUCCEEDED


def test_an_id_is_not_given_to_two_requests(store: Store) -> None:
    store.create_run(record())
    with pytest.raises(StateError, match="taken"):
        store.create_run(record(prompt="something else"))


def test_a_unique_beginning_finds_the_run(store: Store) -> None:
    for run_id in ("r-abc123", "r-abd456", "r-ab"):
        store.create_run(record(run_id))
    assert store.run("r-abd").id == "r-abd456"
    assert store.run("r-ab").id == "r-ab"  # an exact id is not ambiguous, though others begin with it


@pytest.mark.parametrize("prefix", ["", "x", "R-ABC", "%", "r_abc", "r-abc1234", "\udc80", "r-abc\x00"])
def test_no_run_is_found_by_what_it_does_not_begin_with(store: Store, prefix: str) -> None:
    store.create_run(record())
    with pytest.raises(UsageError):
        store.run(prefix)


def test_an_ambiguous_beginning_names_the_runs(store: Store) -> None:
    store.create_run(record("r-abc1"))
    store.create_run(record("r-abc2"))
    with pytest.raises(UsageError, match="r-abc1, r-abc2"):
        store.run("r-a")


def test_runs_come_newest_first_up_to_the_limit(store: Store) -> None:
    for n in (2, 0, 1):
        store.create_run(record(f"r-{n}", minutes=n))
    assert [r.id for r in store.runs()] == ["r-2", "r-1", "r-0"]
    assert [r.id for r in store.runs(limit=1)] == ["r-2"]


def test_an_update_changes_only_what_is_given(store: Store, clock: StepClock) -> None:
    store.create_run(record())
    clock.sleep(60)
    store.update_run("r-abc123", status=RunStatus.WAITING, detail="asks")
    store.update_run("r-abc123", node="approve", cost_usd=1.25)
    store.update_run("r-abc123", detail="")
    expected = {
        "status": RunStatus.WAITING,
        "detail": "",
        "node": "approve",
        "cost_usd": 1.25,
        "updated_at": START + timedelta(seconds=60),
    }
    assert store.run("r-abc123") == record().model_copy(update=expected)


def test_only_a_run_that_failed_or_was_handed_over_runs_again(store: Store) -> None:
    for n, status in enumerate(RunStatus):
        store.create_run(record(f"r-{n}"))
        store.update_run(f"r-{n}", status=status, detail="so it ended")
        if status in (RunStatus.FAILED, RunStatus.ESCALATED):
            store.reopen_run(f"r-{n}")
            assert (store.run(f"r-{n}").status, store.run(f"r-{n}").detail) == (RunStatus.RUNNING, "")
        else:
            with pytest.raises(UsageError):
                store.reopen_run(f"r-{n}")
    with pytest.raises(UsageError):
        store.reopen_run("nobody")


def test_a_run_that_has_ended_keeps_its_status_whoever_ended_it(store: Store) -> None:
    store.create_run(record())
    store.update_run("r-abc123", status=RunStatus.STOPPED, detail="stopped by the user")
    store.update_run("r-abc123", status=RunStatus.WAITING, detail="deploy?")
    store.update_run("r-abc123", status=RunStatus.SUCCEEDED, node="report", cost_usd=1.5)
    found = store.run("r-abc123")
    assert (found.status, found.detail) == (RunStatus.STOPPED, "stopped by the user")
    assert (found.node, found.cost_usd) == ("report", 1.5)


def test_what_belongs_to_no_run_is_refused(store: Store) -> None:
    for write in (
        lambda: store.update_run("r-abc123", node="x"),
        lambda: store.add_event("r-abc123", event()),
        lambda: store.intend(deployment()),
    ):
        with pytest.raises(UsageError, match="no run"):
            write()
    assert store.deployments("r-abc123") == ()
    assert store.events("r-abc123") == ()


def test_an_intent_repeated_gives_what_is_stored(store: Store) -> None:
    store.create_run(record())
    assert store.intend(deployment()) == deployment()
    update = {"state": DeploymentState.REGISTERED, "eval_id": "e1", "job_modify_index": 7, "hcl_path": "/x"}
    further = deployment().model_copy(update=update)
    store.save_deployment(further)
    assert store.intend(deployment()) == further
    assert store.deployments("r-abc123") == (further,)


def test_an_intent_with_another_spec_is_refused(store: Store) -> None:
    store.create_run(record())
    store.intend(deployment())
    with pytest.raises(StateError, match="another spec"):
        store.intend(deployment(sha="t" * 64))
    assert store.deployments("r-abc123") == (deployment(),)


def test_a_job_of_another_run_is_not_taken_over(store: Store) -> None:
    store.create_run(record())
    store.create_run(record("r-other"))
    store.intend(deployment())
    with pytest.raises(StateError):
        store.intend(deployment().model_copy(update={"run_id": "r-other"}))


def test_only_an_intended_deployment_is_replaced(store: Store) -> None:
    store.create_run(record())
    with pytest.raises(StateError, match="never"):
        store.save_deployment(deployment())


def test_deployments_come_in_the_order_of_attempts(store: Store) -> None:
    store.create_run(record())
    for n in (2, 10, 1):
        store.intend(deployment(n))
    assert [d.attempt for d in store.deployments("r-abc123")] == [1, 2, 10]


def test_events_come_in_order_of_time_and_once_each(store: Store) -> None:
    store.create_run(record())
    for e in (event("b", seconds=2), event("a", seconds=1), event("b", seconds=2), event("b", seconds=2, kind="other")):
        store.add_event("r-abc123", e)
    seen = [(e.kind, e.text) for e in store.events("r-abc123")]
    assert seen == [("node", "a"), ("node", "b"), ("other", "b")]
    assert store.events("r-abc123")[0] == event("a", seconds=1)


def test_spending_counts_runs_since_then(store: Store) -> None:
    assert store.spent_usd() == 0.0
    store.create_run(record("r-1", minutes=0, cost=1.5))
    store.create_run(record("r-2", minutes=10, cost=2.0))
    assert store.spent_usd() == pytest.approx(3.5)
    assert store.spent_usd(since=START + timedelta(minutes=10)) == pytest.approx(2.0)
    assert store.spent_usd(since=START + timedelta(hours=1)) == 0.0


def test_deleting_takes_all_of_the_run_and_nothing_else(store: Store) -> None:
    for run_id in ("r-1", "r-2"):
        store.create_run(record(run_id))
        store.intend(deployment(run_id=run_id))
        store.add_event(run_id, event())
    store.delete_run("r-1")
    store.delete_run("r-1")
    assert store.deployments("r-1") == ()
    assert store.events("r-1") == ()
    assert [r.id for r in store.runs()] == ["r-2"]
    assert store.deployments("r-2")
    assert store.events("r-2")


def result(run_id: str = "r-1", *, family: str = "f", minutes: int = 0, **metrics: float) -> RunResult:
    return RunResult(
        run_id=run_id,
        ended_at=START + timedelta(minutes=minutes),
        status=RunStatus.SUCCEEDED,
        plan={"training": {"lr": 1e-4, "why": "a\x00b"}, "n": [1, None, 0.1 + 0.2]},
        plan_sha256="1" * 64,
        family=family[0] * 64,
        metrics=metrics,
        gate=GateReport(
            verdict=GateVerdict.PASS,
            metrics=metrics,
            definitions=tuple(MetricSpec(name=name, direction="max") for name in metrics),
        ),
    )


def test_a_result_comes_back_as_it_was_stored_last(store: Store) -> None:
    store.create_run(record("r-1"))
    assert store.result("r-1") is None
    store.save_result(result(eval_loss=1.5, accuracy=0.1 + 0.2))
    assert store.result("r-1") == result(eval_loss=1.5, accuracy=0.1 + 0.2)
    for _ in range(2):
        store.save_result(result(eval_loss=1.25))
        assert store.result("r-1") == result(eval_loss=1.25)
    assert store.results() == (result(eval_loss=1.25),)


def test_results_come_newest_first_and_by_family(store: Store) -> None:
    for n, family in enumerate("aba"):
        store.create_run(record(f"r-{n}"))
        store.save_result(result(f"r-{n}", family=family, minutes=n))
    assert [r.run_id for r in store.results()] == ["r-2", "r-1", "r-0"]
    assert [r.run_id for r in store.results(limit=2)] == ["r-2", "r-1"]
    assert [r.run_id for r in store.results(family="a" * 64)] == ["r-2", "r-0"]
    assert store.results(family="c" * 64) == ()


def test_a_result_belongs_to_a_run_and_goes_with_it(store: Store) -> None:
    with pytest.raises(UsageError, match="no run"):
        store.save_result(result())
    store.create_run(record("r-1"))
    store.save_result(result(loss=1.0))
    store.delete_run("r-1")
    assert store.result("r-1") is None
    assert store.results() == ()


def test_a_store_beside_another_knows_its_runs_and_leaves_them_alone(clock: StepClock) -> None:
    own, earlier = MemoryStore(clock), MemoryStore(clock)
    earlier.create_run(record("r-earlier1", cost=3.0))
    earlier.add_event("r-earlier1", RunEvent(at=START, kind="answered", text="epochs"))
    store = StoreBeside(own, earlier)
    store.create_run(record("r-own00001", minutes=1))
    store.update_run("r-own00001", detail="here")
    assert [run.id for run in store.runs()] == ["r-own00001", "r-earlier1"]
    assert [event.kind for event in store.events("r-earlier1")] == ["answered"]
    assert store.deployments("r-earlier1") == ()
    assert store.spent_usd() == earlier.spent_usd()
    assert [run.id for run in earlier.runs()] == ["r-earlier1"]
    store.delete_run("r-own00001")
    assert [run.id for run in store.runs(limit=1)] == ["r-earlier1"]
