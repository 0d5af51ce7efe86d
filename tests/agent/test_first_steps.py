"""First steps in the whole graph over fakes: when a job has them, what they replace, and who is asked what."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.state import RunState
from caravan.planning.catalogue import Prices
from caravan.values.base import Json
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.failure import FailureClass
from caravan.values.plan import Author, PlanChange
from caravan.values.run import SMOKE_OVER, SMOKE_PATH, RunStatus
from tests.agent.test_loop import World
from tests.fakes.cluster import Script

LOG = b"loss=1\nloss=0.5\n"
SEEN: dict[str, Any] = {
    "steps": 10,
    "seconds_per_step": 1.2,
    "peak_gpu_gib": 21.4,
    "allocated_gib": 20.0,
    "gpu_total_gib": 24.0,
    "peak_host_mb": 9000.0,
    "seconds": 60.0,
    "total_steps": 9000,
    "projected_s": 10800.0,
    "usd": 5.4,
    "allowed_s": 14400.0,
    "ended": "steps",
}
OVER = {**SEEN, "verdict": "time", "allowed_s": 7200.0}


def told(**more: Any) -> dict[str, bytes]:
    return {SMOKE_PATH: json.dumps({**SEEN, **more}).encode()}


class Paid(World):
    """A world whose GPU costs 1.80 US dollars an hour."""

    def __init__(self, tmp: Path, *scripts: Script, usd: float | None = 1.8) -> None:
        self.scripts = scripts
        super().__init__(tmp, self._script, gpus=1)
        self.prices = Prices(usd_per_gpu_hour=usd) if usd is not None else Prices()

    def _script(self, job: Json) -> Script:
        number = int(str(job["ID"])[-2:])  # type: ignore[index, call-overload]
        return self.scripts[min(number, len(self.scripts)) - 1]

    def begin(self, **sets: Any) -> Any:
        values = {"resources.gpus": 1, **{path.replace("__", "."): value for path, value in sets.items()}}
        changes = tuple(PlanChange(path=p, value=v, by=Author.USER) for p, v in values.items())
        return self.start(sets=changes)

    def script_of(self, number: int) -> str:
        task = self.cluster.registrations[number]["TaskGroups"][0]["Tasks"][0]
        return str(next(t["EmbeddedTmpl"] for t in task["Templates"] if t["DestPath"] == "local/launch.sh"))

    def files_of(self, number: int) -> set[str]:
        task = self.cluster.registrations[number]["TaskGroups"][0]["Tasks"][0]
        return {str(t["DestPath"]) for t in task["Templates"]}


LIMIT = {"limits__max_run_s": 14400}


def test_what_is_measured_replaces_the_estimate_and_is_told(tmp_path: Path) -> None:
    world = Paid(tmp_path, Script(stdout=LOG, files=told()))
    record = world.begin(**LIMIT)
    done = world.drive(record)
    assert not isinstance(done, Ask)
    assert done.status is RunStatus.SUCCEEDED
    state: RunState = world.state(record)
    assert state.plan is not None
    assert (state.plan.smoke.on, state.plan.set_by("smoke.on")) == (True, Author.ESTIMATE)
    assert state.measured is not None
    known = state.estimate
    assert known is not None
    assert known.smoke is not None
    assert (known.gpu_memory_gib, known.host_memory_mb, known.fits) == (21.4, 9000, True)
    assert known.seconds is not None
    assert (known.seconds.likely, known.cost_usd and known.cost_usd.likely) == (10800, pytest.approx(5.4))
    assert any("measured" in text for text in known.assumptions)
    (event,) = [e for e in world.store.events(record.id) if e.kind == "smoke"]
    assert "10 steps; 1.2 s/step; peak 21.4 GiB; whole run about 3 h, 5.40 USD" in event.text
    assert any(note.startswith("First steps: 10 steps") for note in world.progress.notes)


@pytest.mark.parametrize(("usd", "sets"), [(1.8, {"smoke__on": False}), (0.0, {}), (None, {})])
def test_no_first_steps_where_nobody_wants_them_or_it_costs_nothing(
    tmp_path: Path, usd: float | None, sets: dict[str, Any]
) -> None:
    world = Paid(tmp_path, Script(stdout=LOG, files=told()), usd=usd)
    record = world.begin(**LIMIT, **sets)
    asked = world.drive(record)
    if isinstance(asked, Ask):  # the price is not known
        world.drive(record, Reply(approved=True))
    assert "local/smoke.py" not in world.files_of(0)
    assert "smoke.py" not in world.script_of(0)
    assert world.state(record).measured is None


def test_they_can_be_wished_for_where_it_costs_nothing(tmp_path: Path) -> None:
    world = Paid(tmp_path, Script(stdout=LOG, files=told()), usd=0.0)
    world.drive(world.begin(smoke__on=True))
    assert {"local/smoke.py", "local/smoke_hook.py", "local/smoke_seen.py"} <= world.files_of(0)
    assert '"allowed_s": null' in world.script_of(0)


def test_the_job_knows_what_is_approved_without_the_agent(tmp_path: Path) -> None:
    world = Paid(tmp_path, Script(stdout=LOG, files=told()))
    world.drive(world.begin(**LIMIT))
    assert '"allowed_s": 14400.0' in world.script_of(0)
    assert '"usd_per_hour": 1.8' in world.script_of(0)


def test_more_than_was_approved_is_asked_for_with_what_was_measured(tmp_path: Path) -> None:
    late = {**OVER, "projected_s": 36000.0, "total_steps": 30000, "usd": 18.0}
    first = Script(exit_code=SMOKE_OVER, files={SMOKE_PATH: json.dumps(late).encode()}, stdout=LOG)
    world = Paid(tmp_path, first, Script(stdout=LOG))
    record = world.begin(limits__max_run_s=7200)
    asked = world.drive(record)
    assert isinstance(asked, Ask)
    assert asked.kind is AskKind.APPROVAL
    assert "10 h (18.00 USD)" in asked.text
    state: RunState = world.state(record)
    (attempt,) = state.attempts
    assert attempt.diagnosis is not None
    assert attempt.diagnosis.failure is FailureClass.RUN_TOO_LONG
    assert attempt.changed["limits.max_run_s"] == (7200, 45000)
    assert asked.estimate is not None
    assert asked.estimate.smoke is not None
    assert asked.estimate.cost_usd is not None
    assert asked.estimate.cost_usd.likely == pytest.approx(18.0)
    done = world.drive(record, Reply(approved=True))
    assert not isinstance(done, Ask)
    assert done.status is RunStatus.SUCCEEDED
    assert "local/smoke.py" not in world.files_of(1)  # it was measured already
    assert "local/smoke.py" in world.files_of(0)


def test_a_no_to_that_ends_the_run(tmp_path: Path) -> None:
    world = Paid(tmp_path, Script(exit_code=SMOKE_OVER, files=told(**{**OVER, "projected_s": 36000.0})))
    record = world.begin(limits__max_run_s=7200)
    assert isinstance(world.drive(record), Ask)
    done = world.drive(record, Reply(approved=False))
    assert not isinstance(done, Ask)
    assert done.status is RunStatus.REJECTED
    assert len(world.cluster.registrations) == 1


def test_a_budget_that_the_whole_is_over_is_never_exceeded(tmp_path: Path) -> None:
    world = Paid(tmp_path, Script(exit_code=SMOKE_OVER, files=told(**{**OVER, "projected_s": 360000.0, "usd": 180.0})))
    sets = (PlanChange(path="resources.gpus", value=1, by=Author.USER),)
    record = world.start(sets=sets, budget_usd=5.0)
    done = world.drive(record)
    assert not isinstance(done, Ask)
    assert done.status is RunStatus.REJECTED
    assert "--budget" in done.detail
    assert len(world.cluster.registrations) == 1


def test_without_its_answer_the_cause_is_told_by_the_log(tmp_path: Path) -> None:
    said = b"caravan: smoke: over what was approved: the whole training would take about 10 h, and 2 h are approved\n"
    world = Paid(tmp_path, Script(exit_code=SMOKE_OVER, stderr=said))
    record = world.begin(limits__max_run_s=7200)
    world.drive(record)
    assert world.state(record).diagnosis.failure is FailureClass.RUN_TOO_LONG


def test_memory_that_all_processes_need_is_memory_that_ran_out(tmp_path: Path) -> None:
    world = Paid(tmp_path, Script(exit_code=SMOKE_OVER, files=told(verdict="memory", extra_gib=6.0)))
    record = world.begin(**LIMIT)
    world.drive(record)
    state: RunState = world.state(record)
    assert state.attempts[0].diagnosis is not None
    assert state.attempts[0].diagnosis.failure is FailureClass.CUDA_OOM
    assert state.attempts[0].diagnosis.details["total_gib"] == "24"


def test_a_failure_in_the_first_steps_is_a_failure_like_any_other(tmp_path: Path) -> None:
    broken = Script(exit_code=137, oom=True, files=told(ended="failed", exit_code=137, steps=0))
    world = Paid(tmp_path, broken, Script(stdout=LOG, files=told()))
    record = world.begin(**LIMIT)
    world.drive(record)
    state: RunState = world.state(record)
    assert state.attempts[0].diagnosis is not None
    assert state.attempts[0].diagnosis.failure is FailureClass.HOST_MEMORY_OOM
    assert next(e.text for e in world.store.events(record.id) if e.kind == "smoke").startswith("the training failed")
    assert "local/smoke.py" in world.files_of(1)  # nothing is measured yet


@pytest.mark.parametrize("data", [b"", b"[]", b'{"steps": -1}', b'{"steps": 1e400}', b"{" * 9000])
def test_what_is_no_answer_is_none(tmp_path: Path, data: bytes) -> None:
    world = Paid(tmp_path, Script(stdout=LOG, files={SMOKE_PATH: data}))
    record = world.begin(**LIMIT)
    done = world.drive(record)
    assert not isinstance(done, Ask)
    assert done.status is RunStatus.SUCCEEDED
    assert world.state(record).measured is None
