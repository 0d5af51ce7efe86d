"""The job that evaluates a model, as the commands that look at a run tell of it: its log, its watch, its end."""

from pathlib import Path
from typing import Any, cast

import pytest

from caravan.terminal.app import run
from caravan.terminal.following import Follower
from caravan.values.job import META_SHA
from caravan.values.run import (
    EVALUATION_PLACED,
    Deployment,
    DeploymentState,
    Purpose,
    RunEvent,
    RunRecord,
    RunStatus,
)
from tests.fakes.cluster import Script
from tests.fakes.wiring import FakeWiring, nobody, printed
from tests.terminal.test_terminal_looking import ALLOCS, Rows, attempt, deployed, record, state, then

EVALUATES = "99999999-eeee"
JOB_ID = "x-eval-01"
TRAINED = [f"loss {9 - n}" for n in range(3)]
SAID = ["loss 77", "accuracy 0.9"]
POINTS = (
    "This is the training's log; the model's evaluation (x-eval-01) has its own: `main.py logs abc12345 --evaluation"
)


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def evaluated(
    wiring: FakeWiring, made: RunRecord, status: DeploymentState = DeploymentState.REGISTERED, *, placed: bool = True
) -> None:
    """The evaluation job of the first attempt, with its log."""
    sha = {"spec_sha256": "e", "plan_sha256": "p"}
    deployment = Deployment(run_id=made.id, attempt=1, purpose=Purpose.EVALUATE, job_id=JOB_ID, state=status, **sha)
    wiring.runs.intend(deployment)
    wiring.runs.save_deployment(deployment)
    if placed:
        data = {"alloc_id": EVALUATES, "attempt": 1, "node": "node-9"}
        event = RunEvent(at=wiring.clock.now(), kind=EVALUATION_PLACED, text="placed", data=data)
        wiring.runs.add_event(made.id, event)
        wiring.folder(made.id).append_log(EVALUATES, "train", "stdout", text(SAID))


def text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def trained(wiring: FakeWiring, status: RunStatus = RunStatus.RUNNING) -> RunRecord:
    made = record(wiring, status=status, node="evaluate")
    deployed(wiring, made, 1, DeploymentState.FINISHED)
    wiring.folder(made.id).append_log(ALLOCS[0], "train", "stdout", text(TRAINED))
    wiring.scripted.states[made.id] = state(made, attempt(1, good=True))
    return made


def hangs(wiring: FakeWiring) -> None:
    wiring.nomad._script = lambda _: Script(hangs=True, stdout=text(SAID) * 2)  # half of it is written
    group = {"Name": "g", "Count": 1, "Tasks": [{"Name": "train", "Driver": "raw_exec"}]}
    wiring.nomad.register({"ID": JOB_ID, "Type": "batch", "TaskGroups": [group], "Meta": {META_SHA: "e"}})


# ---- logs


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.SUCCEEDED])
@pytest.mark.parametrize("more", [[], ["--attempt", "1"]])
def test_logs_are_the_trainings_and_say_where_the_evaluations_is(
    status: RunStatus, more: list[str], wiring: FakeWiring
) -> None:
    evaluated(wiring, trained(wiring, status))
    terminal = nobody()
    assert run(wiring, ["logs", "abc", *more], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines() == TRAINED
    assert err.splitlines()[0] == "==> attempt 1, train stdout on node-1 (allocation 11111111)"
    assert err.splitlines()[-1] == f"{POINTS}{' --attempt 1' if more else ''}`."


@pytest.mark.parametrize("more", [[], ["--attempt", "1"], ["--tail", "9"], ["-f"]])
def test_the_evaluations_log_alone(more: list[str], wiring: FakeWiring) -> None:
    evaluated(wiring, trained(wiring, RunStatus.SUCCEEDED), DeploymentState.FINISHED)
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--evaluation", *more], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines() == SAID
    assert err.splitlines() == ["==> evaluation of attempt 1, train stdout on node-9 (allocation 99999999)"]


def test_the_other_stream_is_of_the_same_job(wiring: FakeWiring) -> None:
    made = trained(wiring, RunStatus.SUCCEEDED)
    evaluated(wiring, made)
    wiring.folder(made.id).append_log(ALLOCS[0], "train", "stderr", b"of the training\n")
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--evaluation", "--stderr"], terminal) == 0
    err = printed(terminal)[1]
    assert err == "The evaluation of run abc12345 has no stderr yet; its stdout has lines (without --stderr).\n"


@pytest.mark.parametrize("more", [[], ["-f"], ["--attempt", "1"]])
def test_a_run_without_an_evaluation_job(more: list[str], wiring: FakeWiring) -> None:
    trained(wiring, RunStatus.SUCCEEDED)
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--evaluation", *more], terminal) == 2
    whose = "Attempt 1 of run abc12345" if "--attempt" in more else "Run abc12345"
    err = printed(terminal)[1]
    assert f"{whose} has no evaluation job. What its training evaluates itself is in the training's log." in err


def test_following_tells_of_the_evaluation_once_and_goes_on(wiring: FakeWiring) -> None:
    made = trained(wiring)

    def ends() -> None:
        wiring.runs.update_run(made.id, status=RunStatus.SUCCEEDED)

    then(wiring, lambda: evaluated(wiring, made), lambda: None, ends)
    terminal = nobody()
    with wiring.folder(made.id).lock():
        assert run(wiring, ["logs", "abc", "-f"], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines() == TRAINED
    assert err.count(POINTS) == 1


def test_following_the_evaluation_waits_for_it(wiring: FakeWiring) -> None:
    made = trained(wiring)

    def ends() -> None:
        wiring.runs.update_run(made.id, status=RunStatus.SUCCEEDED)

    then(wiring, lambda: None, lambda: evaluated(wiring, made), ends)
    terminal = nobody()
    with wiring.folder(made.id).lock():
        assert run(wiring, ["logs", "abc", "-f", "--evaluation"], terminal) == 0
    assert printed(terminal)[0].splitlines() == SAID


@pytest.mark.parametrize("more", [[], ["--attempt", "1"]])
def test_without_an_agent_it_comes_from_the_cluster(more: list[str], wiring: FakeWiring) -> None:
    evaluated(wiring, trained(wiring), placed=False)
    hangs(wiring)
    for _ in range(3):
        wiring.nomad.snapshot(JOB_ID)
    terminal = nobody()
    assert run(wiring, ["logs", "abc", "--evaluation", *more], terminal) == 0
    out, err = printed(terminal)
    assert out.splitlines() == SAID
    assert err.startswith("==> evaluation of attempt 1, train stdout on fake-1 (allocation ")


# ---- watch, show, stop


def test_a_watch_names_it_and_takes_no_metric_from_it(wiring: FakeWiring) -> None:
    made = trained(wiring)
    evaluated(wiring, made)
    hangs(wiring)
    view = Rows(wiring)
    follower = Follower(wiring, cast(Any, wiring.scripted), made.id, view)
    with wiring.folder(made.id).lock():
        assert follower.look() is None
    assert view.rows == [{"loss": 9 - n} for n in range(3)]
    err = printed(view._terminal)[1]
    assert "The model of attempt 1 is evaluated by x-eval-01" in err
    assert "x-eval-01 starting" in err
    assert "Attempt 1 of" not in err
    assert "| accuracy 0.9" in err


def test_show_names_it(wiring: FakeWiring) -> None:
    evaluated(wiring, trained(wiring))
    terminal = nobody()
    assert run(wiring, ["show", "abc"], terminal) == 0
    assert "Evaluation of attempt 1: x-eval-01 registered" in printed(terminal)[0]


def test_stop_ends_it(wiring: FakeWiring) -> None:
    made = trained(wiring)
    evaluated(wiring, made)
    hangs(wiring)
    terminal = nobody()
    assert run(wiring, ["stop", "abc"], terminal) == 0
    assert JOB_ID in "".join(printed(terminal))
    job = wiring.nomad.find(JOB_ID)
    assert job is not None
    assert job.stopped
    assert wiring.runs.run(made.id).status is RunStatus.STOPPED
