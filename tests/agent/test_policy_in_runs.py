"""The policy over whole runs: nothing outside of it is ever registered, repairs stay inside, money is counted."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.context import Context
from caravan.values.errors import StateError
from caravan.values.failure import ChangePlan, FailureClass
from caravan.values.plan import Author, PlanChange
from caravan.values.policy import Policies, Policy, PolicyFile
from caravan.values.run import RunRecord, RunRequest, RunStatus
from tests.agent.test_loop import Ladder, World, ended
from tests.fakes.cluster import Script

PATH = "/etc/caravan/policy.toml"


def policies(**tables: Any) -> Policies:
    return Policies(files=(PolicyFile(path=PATH, policy=Policy.model_validate(tables)),))


def change(path: str, value: Any, by: Author = Author.USER) -> PlanChange:
    return PlanChange(path=path, value=value, by=by)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_the_policy_allows_runs(world: World) -> None:
    record = world.start()
    rules = policies(jobs={"drivers": ["raw_exec"]}, limits={"memory_mb": 100_000, "max_run_s": 600})
    assert ended(world.drive(record, policies=rules)).status is RunStatus.SUCCEEDED
    (job,) = world.cluster.registrations
    assert job["TaskGroups"][0]["MaxRunDuration"] == 600 * 10**9  # named because the policy wants it named


@pytest.mark.parametrize(
    ("tables", "sets", "words"),
    [
        ({"jobs": {"drivers": ["exec"]}}, [], "driver = raw_exec is not allowed by jobs.drivers"),
        ({"limits": {"memory_mb": 512}}, [], "resources.memory_mb = 2048 is not allowed by limits.memory_mb"),
        ({"limits": {"priority": 50}}, [("priority", 80)], "The nearest allowed: 50."),
        ({"jobs": {"namespaces": ["ml-*"]}}, [], "namespace = default"),
        ({"money": {"per_run_usd": 0}}, [("limits.max_run_s", 60)], ""),
    ],
)
def test_what_it_denies_is_never_registered_and_says_why(
    world: World, tables: Any, sets: list[Any], words: str
) -> None:
    record = world.start(sets=tuple(change(*s) for s in sets))
    result = ended(world.drive(record, policies=policies(**tables)))
    if not words:  # a run that costs nothing is within any budget
        assert result.status is RunStatus.SUCCEEDED
        return
    assert result.status is RunStatus.ESCALATED
    assert words in result.detail
    assert PATH in result.detail
    assert world.cluster.registrations == []
    state = world.state(record)
    assert state.diagnosis.failure is FailureClass.POLICY_DENIED
    assert state.tried == ()  # there is nothing to try around it


def test_a_dry_run_says_it_too(world: World) -> None:
    result = ended(world.drive(world.start(dry_run=True), policies=policies(jobs={"drivers": ["exec"]})))
    assert "jobs.drivers" in result.detail


def test_a_repair_beyond_the_policy_is_passed_over_for_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(exit_code=0 if job["ID"].endswith("a02") else 1))
    world.reasoner = Ladder(
        world.reasoner.prices,
        ladder=tuple(
            ChangePlan(changes=(change("resources.memory_mb", mb, Author.REPAIR),), why=str(mb)) for mb in (9000, 4000)
        ),
    )
    record = world.start()
    result = ended(world.drive(record, policies=policies(limits={"memory_mb": 5000})))
    assert result.status is RunStatus.SUCCEEDED
    needs = [j["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] for j in world.cluster.registrations]
    assert needs == [2048, 4000]


def test_a_policy_that_cannot_be_relied_on_stops_deployments_but_no_dry_run(world: World) -> None:
    broken = Policies(trouble="the policy file /etc/caravan/policy.toml may be changed by others.")
    result = ended(world.drive(world.start(dry_run=True), policies=broken))
    assert result.status is RunStatus.PLANNED
    record = world.start()
    with pytest.raises(StateError, match="may be changed by others"):
        world.drive(record, policies=broken)
    assert world.cluster.registrations == []
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED  # once it is mended, the run goes on


class Tampered:
    """A run's folder in which the job is another one than was validated."""

    def __init__(self, folder: Any, world: World) -> None:
        self._folder, self._world = folder, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._folder, name)

    def load_job(self, attempt: int) -> tuple[str, Any]:
        hcl, job = self._folder.load_job(attempt)
        if job is not None and self._world.progress.nodes[-1] == "deploy_job":
            task = job["TaskGroups"][0]["Tasks"][0]
            task["Config"] = {**task["Config"], "privileged": True}
        return hcl, job


def test_the_job_itself_is_judged_once_more_before_it_is_registered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = world.context

    def context(run_id: str) -> Context:
        made = make(run_id)
        return replace(made, folder=Tampered(made.folder, world))

    monkeypatch.setattr(world, "context", context)
    record = world.start()
    result = ended(world.drive(record, policies=policies()))
    assert "privileged" in result.detail
    assert world.cluster.registrations == []


def test_nobody_else_registers_jobs() -> None:
    """Whoever registers a job asks the policy first; wrappers of the port only pass on what they are given."""
    room = Path(__file__).resolve().parents[2] / "caravan"
    calls = {p.relative_to(room).as_posix() for p in room.rglob("*.py") if "cluster.register(" in p.read_text()}
    asking = {"agent/deploying.py", "agent/ferry.py", "agent/station.py", "agent/serving.py"}
    assert calls <= asking | {"agent/traced.py", "agent/masked.py"}
    # `deploy_once` asks its callers what hinders a job; each of them has the policy say it.
    callers = [p.read_text() for p in room.rglob("*.py") if re.search(r"\bdeploy_once\(\n?", p.read_text())]
    given = [text for text in callers if "def deploy_once" not in text]
    assert len(given) == 2
    assert all("hindered=" in text and "denied(" in text for text in given)


def other_run(world: World, run_id: str, *, spent: float, usd: float | None) -> None:
    now = world.clock.now()
    request = RunRequest(prompt="p", source="s")
    world.store.create_run(RunRecord(id=run_id, created_at=now, updated_at=now, request=request, cost_usd=spent))
    if usd is not None:
        world.store.reserve(run_id, need_usd=usd, want_usd=usd, caps=())


@pytest.mark.parametrize(("spent", "running", "allowed"), [(4.0, 4.0, True), (7.0, 4.0, False), (4.0, 7.0, False)])
def test_money_of_all_runs_counts_that_of_running_ones_too(
    tmp_path: Path, spent: float, running: float, *, allowed: bool
) -> None:
    world = World(tmp_path, gpus=1)
    other_run(world, "aaaa", spent=spent, usd=None)
    other_run(world, "bbbb", spent=0.0, usd=running)
    from caravan.planning.catalogue import Prices

    world.prices = Prices(usd_per_gpu_hour=2.0)
    record = world.start(sets=(change("limits.max_run_s", 1800), change("resources.gpus", 1)))
    result = ended(world.drive(record, policies=policies(money={"per_day_usd": 10.0})))
    assert (result.status is RunStatus.SUCCEEDED) is allowed, result.detail
    assert allowed or "today's cost" in result.detail
