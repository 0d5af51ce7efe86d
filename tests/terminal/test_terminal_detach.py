"""`--detach`: what is asked before, what is said, what goes wrong; and who is told of an end."""

import json
from pathlib import Path

import pytest

from caravan.terminal.app import run
from caravan.values.dialogue import Ask, AskKind
from caravan.values.errors import Interrupted
from caravan.values.run import Deployment, DeploymentState, RunRecord, RunStatus
from tests.fakes.folder import PlainFolder
from tests.fakes.wiring import FakeAgents, FakeNotifier, FakeWiring, nobody, person, printed

APPROVAL = Ask(kind=AskKind.APPROVAL, text="Deploy x-a01?")


@pytest.fixture
def job(tmp_path: Path) -> list[str]:
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "train.py").write_text("print(1)")
    return ["--prompt", "p", "--codebase-path", str(repository)]


@pytest.fixture(autouse=True)
def _nothing_is_held() -> None:
    PlainFolder.held.clear()


def test_it_goes_on_in_the_background_once_it_is_deployed(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.RUNNING]), nobody()
    assert run(wiring, [*job, "--yes", "--detach"], terminal) == 0
    (record,) = wiring.runs.runs()
    assert wiring.scripted.until == "verify_deployment"
    assert wiring.agents.started == [record.id]
    assert wiring.agents.left
    out, _ = printed(terminal)
    assert f"Run {record.id} goes on in the background (agent process 4711)." in out
    for command in ("watch", "logs", "stop"):
        assert f"main.py {command} {record.id}" in out


def test_a_program_gets_the_agent_in_the_document(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.RUNNING]), nobody()
    assert run(wiring, [*job, "--yes", "--detach", "--json"], terminal) == 0
    document = json.loads(printed(terminal)[0])
    assert document["status"] == "running"
    assert document["exit_code"] == 0
    assert document["agent"]["pid"] == 4711


def test_without_it_everything_is_driven_here(job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [RunStatus.SUCCEEDED])
    assert run(wiring, [*job, "--yes"], nobody()) == 0
    assert wiring.scripted.until is None
    assert wiring.agents.started == []


def test_a_question_is_asked_before(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [APPROVAL]), nobody()
    assert run(wiring, [*job, "--detach"], terminal) == 3
    assert wiring.agents.started == []


def test_a_run_that_ends_before_it_is_deployed_starts_no_agent(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.ESCALATED]), nobody()
    assert run(wiring, [*job, "--detach", "--yes"], terminal) == 3
    assert wiring.agents.started == []


def test_an_agent_that_does_not_come_up_is_said(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.RUNNING]), nobody()
    wiring.agents = FakeAgents(dies="Error: the disk is full.")
    assert run(wiring, [*job, "--detach", "--yes"], terminal) == 2
    (record,) = wiring.runs.runs()
    last = printed(terminal)[1].splitlines()[-1]
    assert "Error: the disk is full." in last
    assert f"main.py resume {record.id}" in last


def test_another_agent_may_be_quicker(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.RUNNING]), nobody()
    wiring.agents = FakeAgents(dies="step 5 of another agent's", other=99)
    assert run(wiring, [*job, "--detach", "--yes"], terminal) != 0
    (record,) = wiring.runs.runs()
    last = printed(terminal)[1].splitlines()[-1]
    assert f"The run {record.id} is driven by another agent (process 99)." in last
    assert f"main.py watch {record.id}" in last
    assert wiring.folder(record.id).agent() is None


def test_the_agent_that_holds_the_run_is_written_down(job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [RunStatus.RUNNING])
    assert run(wiring, [*job, "--yes", "--detach"], nobody()) == 0
    (record,) = wiring.runs.runs()
    written = wiring.folder(record.id).agent()
    assert isinstance(written, dict)
    assert written["pid"] == 4711


def test_ctrl_c_offers_it_too(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [Interrupted("Interrupted.")]), person("b")
    create = wiring.runs.create_run

    def create_with_job(record: RunRecord) -> None:
        create(record)
        made = Deployment(
            run_id=record.id,
            attempt=1,
            job_id="x-a01",
            spec_sha256="1",
            plan_sha256="2",
            state=DeploymentState.REGISTERED,
        )
        wiring.runs.intend(made)

    wiring.runs.create_run = create_with_job  # type: ignore[method-assign]
    assert run(wiring, [*job, "--yes"], terminal) == 0
    (record,) = wiring.runs.runs()
    assert wiring.agents.started == [record.id]
    assert record.status is RunStatus.RUNNING
    assert record.detail == ""


def test_the_agent_asks_nobody_and_writes_with_times(job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [APPROVAL])
    assert run(wiring, job, nobody()) == 3
    (record,) = wiring.runs.runs()
    terminal = person("y")
    assert run(wiring, ["resume", record.id, "--agent"], terminal) == 3
    assert terminal.read("") == "y", "nothing was read"
    wiring.scripted.questions.clear()
    wiring.runs.update_run(record.id, status=RunStatus.RUNNING)
    wiring.scripted.steps.append(RunStatus.SUCCEEDED)
    terminal = nobody()
    assert run(wiring, ["resume", record.id, "--agent"], terminal) == 0
    day = f"{wiring.clock.now():%Y-%m-%d}"
    lines = printed(terminal)[1].splitlines()
    assert lines[0] == f"Run {record.id}"
    assert all(line.startswith(day) for line in lines[1:])


# ---- who is told


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.ESCALATED, RunStatus.STOPPED])
def test_an_end_is_told_once(status: RunStatus, job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [status])
    wiring.notifier = FakeNotifier()
    run(wiring, [*job, "--yes"], nobody())
    (record,) = wiring.runs.runs()
    (told,) = wiring.notifier.told
    assert told["run_id"] == record.id
    assert told["status"] == status.value
    assert record.id in str(told["text"])
    run(wiring, ["resume", record.id], nobody())
    assert len(wiring.notifier.told) == 1


def test_a_question_that_nobody_answers_is_told(job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [APPROVAL])
    wiring.notifier = FakeNotifier()
    run(wiring, job, nobody())
    assert [t["status"] for t in wiring.notifier.told] == ["waiting"]
    assert "Deploy x-a01?" in str(wiring.notifier.told[0]["text"])


@pytest.mark.parametrize("status", [RunStatus.PLANNED, RunStatus.REJECTED, RunStatus.RUNNING])
def test_what_a_person_has_just_seen_is_not(status: RunStatus, job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [status])
    wiring.notifier = FakeNotifier()
    run(wiring, [*job, "--yes", *(["--detach"] if status is RunStatus.RUNNING else [])], nobody())
    assert wiring.notifier.told == []


def test_what_was_not_told_is_said_and_told_again(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [APPROVAL]), nobody()
    wiring.notifier = FakeNotifier("the webhook was not told: it answered 500")
    assert run(wiring, job, terminal) == 3
    assert "Nobody was told of it: the webhook was not told: it answered 500." in printed(terminal)[1]
    (record,) = wiring.runs.runs()
    run(wiring, ["resume", record.id], nobody())
    assert len(wiring.notifier.told) == 2


def test_no_secret_is_told(job: list[str], tmp_path: Path) -> None:
    ask = Ask(kind=AskKind.APPROVAL, text="The token s3cr3t-of-ours is wrong?")
    wiring = FakeWiring(tmp_path, [ask])
    wiring.known = ("s3cr3t-of-ours",)
    wiring.notifier = FakeNotifier()
    run(wiring, job, nobody())
    assert "s3cr3t" not in json.dumps(wiring.notifier.told)
