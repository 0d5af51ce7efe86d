"""What a person is told before they approve and at an end: nodes, who set what, one line per cause, the job file."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.state import RunState
from caravan.planning.delivery import nearby_notes
from caravan.terminal.app import run
from caravan.terminal.jobfile import folded
from caravan.terminal.results import Result, result_lines
from caravan.terminal.summary import Scene, plan_table
from caravan.values.dialogue import Ask, AskKind
from caravan.values.errors import ServiceError, StateError
from caravan.values.estimate import BudgetVerdict, Envelope, Estimate, Range, Verdict
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.job import META_SHA, ClusterFacts, ClusterKind
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.run import (
    IN_EVALUATION,
    Attempt,
    Deployment,
    DeploymentState,
    Outcome,
    OutcomeKind,
    RunRecord,
    RunRequest,
    RunStatus,
)
from tests.fakes.clock import FakeClock
from tests.fakes.wiring import FakeWiring, nobody, person, printed

CODE = {"kind": "archive", "location": "s3::https://s3.example/code.tar.gz", "files": 7, "uncommitted": ["train.py"]}
DATA = {"kind": "upload", "local": "/data/corpus", "location": "https://files.example/data", "destination": "/d"}


def plan(**more: Any) -> TrainingPlan:
    fields: dict[str, Any] = {"goal": "train it", "command": ("train.py",), "code": CODE, "data": DATA}
    return TrainingPlan.model_validate({**fields, **more})


def rows(shown: TrainingPlan) -> dict[str, tuple[str, str]]:
    """The table's rows: name → value and who set it."""
    table = plan_table(shown, Scene("/repo", "Nomad"))
    columns = [[str(c) for c in column.cells] for column in table.columns]
    return {name: (value, by) for name, value, by in zip(*columns, strict=True)}


def test_many_nodes_are_told_with_their_sum() -> None:
    launch = {"launcher": "torchrun", "nodes": 2, "nproc": 4}
    shown = rows(plan(launch=launch, resources={"gpus": 4, "memory_mb": 8000, "disk_mb": 9000, "cores": 8}))
    assert shown["nodes"][0] == "2, started by torchrun, 4 processes on each"
    assert shown["GPUs"][0] == "8 × nvidia (2 nodes with 4 each)"
    assert [shown[name][0] for name in ("memory", "CPU", "disk")] == ["8000 MB each", "8 cores each", "9000 MB each"]
    one = rows(plan(resources={"gpus": 4}))
    assert "nodes" not in one
    assert one["GPUs"][0] == "4 × nvidia"
    assert "each" not in one["memory"][0]


def test_whoever_set_a_part_of_a_block_has_set_it() -> None:
    bare = plan()
    assert rows(bare)["code"][1] == "by default"
    ours = apply_changes(bare, [PlanChange(path="data.kind", value="upload", by=Author.CLUSTER)])
    said = [PlanChange(path=p, value=v, by=Author.USER) for p, v in (("code.kind", "archive"), ("data.local", "/x"))]
    shown = rows(apply_changes(ours, said))
    assert (shown["code"][1], shown["data"][1]) == ("by user", "by user")


def asked(**more: Any) -> Ask:
    values: dict[str, Any] = {
        "kind": AskKind.APPROVAL,
        "text": "Deploy caravan-x-a01?",
        "plan": plan(launch={"nodes": 2}, resources={"gpus": 1}),
        "estimate": Estimate(cost_usd=Range(low=1, likely=40, high=90), seconds=Range(low=60, likely=60, high=60)),
        "budget": BudgetVerdict(verdict=Verdict.OVER_SOFT, soft_usd=25, hard_usd=250, text="over 25.00 USD"),
        "envelope": Envelope(cost_usd=90),
        "hcl_path": "/runs/a01.hcl",
    }
    return Ask(**(values | more))


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "train.py").write_text("print(1)\n")
    return ["--prompt", "train it", "--codebase-path", str(repository), "--cluster", "local", "--yes"]


def test_without_a_terminal_all_that_is_asked_about_is_shown(job: list[str], tmp_path: Path) -> None:
    terminal = nobody()
    assert run(FakeWiring(tmp_path, [asked()]), job, terminal) == 3
    out, _ = printed(terminal)
    for text in (
        "archive, s3::https://s3.example/code.tar.gz, 7 files",
        "not committed",
        "/data/corpus, sent once to https://files.example/data, then at /d",
        "2 × nvidia (2 nodes with 1 each)",
        "40.00 USD (1.00 USD to 90.00 USD)",
        "60 s",
        "built-in, for trying",
        "up to 90.00 USD for the whole run",
        "--approve",
    ):
        assert text in " ".join(out.split()), text


def test_the_document_has_all_that_is_asked_about(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [asked()]), nobody()
    create = wiring.runs.create_run

    def with_state(record: RunRecord) -> None:
        create(record)
        state = RunState(run_id=record.id, request=record.request, plan=asked().plan, estimate=asked().estimate)
        wiring.scripted.states[record.id] = state

    wiring.runs.create_run = with_state  # type: ignore[method-assign]
    assert run(wiring, [*job, "--json"], terminal) == 3
    told = json.loads(printed(terminal)[0])
    assert (told["cluster"], told["source"]) == ("local", job[3])
    assert (told["plan"]["code"]["uncommitted"], told["plan"]["data"]["local"]) == (["train.py"], "/data/corpus")
    assert (told["plan"]["launch"]["nodes"], told["plan"]["resources"]["gpus"]) == (2, 1)
    assert (told["estimate"]["cost_usd"]["likely"], told["estimate"]["seconds"]["likely"]) == (40, 60)
    assert (told["question"]["envelope"]["cost_usd"], told["question"]["hcl_path"]) == (90, "/runs/a01.hcl")


def ended(
    detail: str,
    *attempts: Attempt,
    status: RunStatus = RunStatus.ESCALATED,
    planned: TrainingPlan | None = None,
) -> str:
    now = FakeClock().now()
    request = RunRequest(prompt="train", source="/repo")
    record = RunRecord(id="x", created_at=now, updated_at=now, status=status, request=request, detail=detail)
    state = RunState(run_id="x", request=request, attempts=attempts, plan=planned)
    return "\n".join(result_lines(Result(record, state, None, Path("/nowhere"), None)))


def test_a_stop_is_told_as_ones_own_with_time_and_what_is_kept() -> None:
    at = datetime(2026, 11, 23, 0, 40, tzinfo=UTC)
    outcome = Outcome(kind=OutcomeKind.INTERRUPTED, reason="ended from outside (stop): by request", finished_at=at)
    made = Attempt(number=1, job_id="a01", hcl_path="/h", plan_sha256="1", outcome=outcome)
    told = ended("stopped by the user", made, status=RunStatus.STOPPED, planned=plan())
    assert told.splitlines()[0] == "Run x: stopped by you at 2026-11-23 00:40 UTC"
    assert "a01 stopped by you" in told
    assert "interrupted" not in told
    assert "ended from outside" not in told
    assert "what it had written by then" in told
    assert "`main.py reproduce x --anyway`" in told
    elsewhere = ended("the node was lost", made, status=RunStatus.FAILED)
    assert "interrupted; ended from outside (stop)" in elsewhere


def test_a_stop_behind_the_training_says_that_the_training_ended_well() -> None:
    outcome = Outcome(kind=OutcomeKind.INTERRUPTED, reason=f"ended from outside (stop) {IN_EVALUATION}")
    made = Attempt(number=1, job_id="a01", hcl_path="/h", plan_sha256="1", outcome=outcome)
    told = ended(f"stopped by the user {IN_EVALUATION}", made, status=RunStatus.STOPPED)
    head, row, *_ = told.splitlines()
    assert head.startswith("Run x: stopped by you at ")
    assert head.endswith("UTC while its model was evaluated: the training had ended well")
    assert row.endswith("a01 stopped by you while its model was evaluated: the training had ended well")


def test_a_cause_is_told_once() -> None:
    cause = "The volume is not there."
    known = Diagnosis(failure=FailureClass.UNKNOWN, confidence=0.9, cause=cause)
    outcome = Outcome(kind=OutcomeKind.FAILED, reason="exit code 1")
    made = Attempt(number=1, job_id="a01", hcl_path="/h", plan_sha256="1", outcome=outcome, diagnosis=known)
    told = ended(f"{cause} No repair is left to try.", made)
    assert told.count(cause.rstrip(".")) == 1
    assert "Run x: escalated; The volume" in told
    other = made.model_copy(update={"number": 2, "diagnosis": known.model_copy(update={"cause": "It is full."})})
    assert "cause: It is full" in ended(cause, made, other)


def test_what_was_never_deployed_is_no_failed_run() -> None:
    assert ended("No node has 4 GPUs.").startswith("Run x: nothing was deployed; No node has 4 GPUs.")


LONG = "\n".join(f"print({n})" for n in range(40))
JOB = f"""job "x" {{
      template {{
        destination     = "local/launch.sh"
        data            = <<EOT
#!/bin/sh
{LONG}
EOT
      }}
      template {{
        destination     = "local/smoke.py"
        data            = <<EOT1
{LONG}
EOT1
      }}
      template {{
        destination     = "local/mine.yaml"
        data            = <<EOT
a: 1
EOT
      }}
}}
"""


def test_helpers_of_the_script_are_folded_and_short_texts_stay() -> None:
    shown = folded(JOB)
    assert 'data            = "… the launch script, 41 lines …"' in shown
    assert 'data            = "… a helper of the script, as it is, 40 lines …"' in shown
    assert "a: 1\nEOT" in shown
    assert "print" not in shown


def test_the_job_file_at_the_prompt_names_the_whole(job: list[str], tmp_path: Path) -> None:
    file = tmp_path / "job.nomad.hcl"
    file.write_text(JOB)
    terminal = person("show", "no")
    assert run(FakeWiring(tmp_path, [asked(hcl_path=str(file)), RunStatus.REJECTED]), job, terminal) == 3
    err = printed(terminal)[1]
    assert "print(3)" not in err
    assert f"The whole file: {file}" in err


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("http://127.0.0.1:9000/code.tar.gz", True),
        ("git::http://localhost:3000/team/train.git", True),
        ("http://user@[::1]:80/x", True),
        ("https://localhost.example/x", False),
        ("s3::https://s3.example/x", False),
    ],
)
def test_a_store_of_this_machine_alone_is_warned_of(place: str, near: bool) -> None:
    shown = plan(code={**CODE, "location": place})
    real = ClusterFacts(kind=ClusterKind.NOMAD, address="https://nomad.example")
    assert bool(list(nearby_notes(shown, real))) is near
    ours = real.model_copy(update={"kind": ClusterKind.BUILTIN})
    assert not list(nearby_notes(shown, ours))


def test_stop_names_the_job_that_an_agent_ended_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = FakeWiring(tmp_path)
    now, request = wiring.clock.now(), RunRequest(prompt="p", source="/repo", cluster="http://x")
    wiring.runs.create_run(RunRecord(id="abc", created_at=now, updated_at=now, request=request))
    state = DeploymentState.REGISTERED
    wiring.runs.intend(Deployment(run_id="abc", attempt=1, job_id="a01", spec_sha256="1", plan_sha256="2", state=state))
    group = {"Name": "train", "Count": 1, "Tasks": [{"Name": "train", "Driver": "raw_exec", "Resources": {}}]}
    wiring.nomad.register({"ID": "a01", "Type": "batch", "Meta": {META_SHA: "1"}, "TaskGroups": [group]})
    add_event = wiring.runs.add_event

    def agent_is_first(*args: Any) -> None:
        add_event(*args)
        wiring.nomad.stop("a01")

    monkeypatch.setattr(wiring.runs, "add_event", agent_is_first)
    terminal = nobody()
    assert run(wiring, ["stop", "abc"], terminal) == 0
    assert "Its job a01 was told to end." in printed(terminal)[0]


def test_the_memory_of_an_agent_that_leaves_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring, held = FakeWiring(tmp_path), ["busy"] * 3
    whole = wiring.lessons.all

    def busy(**more: Any) -> Any:
        if held:
            held.pop()
            raise ServiceError("The memory at /m is in use by another process.", hint="Wait.")
        return whole(**more)

    monkeypatch.setattr(wiring.lessons, "all", busy)
    assert run(wiring, ["memory", "list"], nobody()) == 0
    held.extend(["busy"] * 1000)
    terminal = nobody()
    assert run(wiring, ["memory", "list"], terminal) == 5
    assert "in use by another process" in printed(terminal)[1]


def test_a_home_in_use_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = FakeWiring(tmp_path)

    def busy() -> Any:
        raise StateError("The database /d is in use by another process (locked).", hint="Try again later.")

    monkeypatch.setattr(wiring, "store", busy)
    terminal = nobody()
    run(wiring, ["doctor", "--json"], terminal)
    found = {c["name"]: c for c in json.loads(printed(terminal)[0])["checks"]}
    assert found["database"]["level"] == "warning"


def test_what_hangs_beside_a_run_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    from caravan.terminal import doctor

    wiring, never = FakeWiring(tmp_path), Event()

    def hangs() -> Any:
        never.wait(30)
        raise StateError("Too late.")

    monkeypatch.setattr(doctor, "_SHORT_S", 0.05)
    monkeypatch.setattr(wiring, "store", hangs)
    folder = wiring.folder("abc")
    folder.path.mkdir(parents=True)
    terminal = nobody()
    try:
        with folder.lock():
            run(wiring, ["doctor", "--json"], terminal)
    finally:
        never.set()
    found = {c["name"]: c for c in json.loads(printed(terminal)[0])["checks"]}
    assert (found["database"]["level"], "abc" in found["database"]["text"]) == ("warning", True)
