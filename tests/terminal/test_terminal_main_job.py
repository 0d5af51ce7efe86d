"""The main job from the command line: checked input, questions, approval, waiting, its document and exit codes."""

import json
from pathlib import Path

import pytest

from caravan.agent.state import RunState
from caravan.terminal.app import run
from caravan.terminal.streams import Terminal
from caravan.values.dialogue import Ask, AskKind, Question, Reply
from caravan.values.errors import ClusterUnreachable, Interrupted, ServiceError, UsageError
from caravan.values.estimate import BudgetVerdict, Envelope, Estimate, MemoryPart, Range, Verdict
from caravan.values.failure import Diagnosis, FailureClass, Wait
from caravan.values.plan import Author, OutputSink, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import SourceLine
from caravan.values.reports import RunReport
from caravan.values.run import (
    Attempt,
    Deployment,
    DeploymentState,
    Outcome,
    OutcomeKind,
    RunRecord,
    RunRequest,
    RunStatus,
)
from tests.fakes.wiring import FakeWiring, nobody, person, printed

EPOCHS = Question(
    id="epochs",
    text="How many epochs?",
    path="training.epochs",
    default=3,
    reason="the script has no default",
    evidence=(SourceLine(file="train.py", line=12),),
)
METHOD = Question(id="method", text="Which method?", path="training.method", default="lora", choices=("lora", "full"))
QUESTIONS = Ask(kind=AskKind.QUESTIONS, text="Please answer before I plan.", questions=(EPOCHS, METHOD))


def plan() -> TrainingPlan:
    bare = TrainingPlan(
        goal="train \x1b[31mit",
        command=("python", "train.py"),
        driver="raw_exec",
        outputs=OutputSink(kind="path", location="/o"),
    )
    change = PlanChange(path="training.epochs", value=2, by=Author.USER, why="--set training.epochs")
    return apply_changes(bare, [change])


def estimate() -> Estimate:
    return Estimate(
        gpu_memory_gib=10.5,
        gpu_total_gib=24.0,
        gpu="Fake 24GB",
        breakdown=(MemoryPart(name="weights", gib=8.0), MemoryPart(name="activations", gib=2.5)),
        seconds=Range(low=60, likely=600, high=7200),
        cost_usd=Range(low=0.5, likely=1, high=2),
        confidence=0.4,
        assumptions=("the price is the catalogue's",),
    )


def approval(hcl: Path, verdict: Verdict = Verdict.WITHIN) -> Ask:
    return Ask(
        kind=AskKind.APPROVAL,
        text="Deploy caravan-x-a01?",
        plan=plan(),
        estimate=estimate(),
        budget=BudgetVerdict(verdict=verdict, soft_usd=25, hard_usd=250, text="up to 2.00 USD of 25.00 USD"),
        envelope=Envelope(cost_usd=25),
        warnings=("it will wait: [red]no room",),
        job_id="caravan-x-a01",
        hcl_path=str(hcl),
    )


LOST = Ask(kind=AskKind.LOST_JOB, text="Job a01 is gone. Deploy it again?", job_id="a01")


@pytest.fixture
def hcl(tmp_path: Path) -> Path:
    path = tmp_path / "job.nomad.hcl"
    path.write_text('job "x" {\x1b[2J\n}\n')
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    path.mkdir()
    (path / "train.py").write_text("print('loss=1')\n")
    return path


@pytest.fixture
def job(repository: Path) -> list[str]:
    return ["--prompt", "train it", "--codebase-path", str(repository)]


def only_run(wiring: FakeWiring) -> str:
    (record,) = wiring.runs.runs()
    return record.id


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (RunStatus.SUCCEEDED, 0),
        (RunStatus.PLANNED, 0),
        (RunStatus.FAILED, 1),
        (RunStatus.ESCALATED, 3),
        (RunStatus.REJECTED, 3),
        (RunStatus.STOPPED, 130),
    ],
)
def test_exit_codes_and_the_document(status: RunStatus, code: int, job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [status]), nobody()
    assert run(wiring, [*job, "--json"], terminal) == code
    out, err = printed(terminal)
    document = json.loads(out)
    assert document["status"] == status.value
    assert document["run_id"] == only_run(wiring)
    names = {"attempts", "plan", "estimate", "outputs", "report_path", "trace_url", "question"}
    assert names <= document.keys()
    assert "analyze_codebase: 3 files read\n" in err


def test_the_request_is_what_was_said(
    job: list[str], tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text("epochs: 2\n")
    wiring = FakeWiring(tmp_path, [RunStatus.PLANNED])
    monkeypatch.chdir(tmp_path)
    argv = ["--prompt", " train it ", "--codebase-path", "repo", "--set", "training.lr=1e-4", "--budget", "5", "--yes"]
    assert run(wiring, [*argv, "--dry-run", "--cluster", "local", "--answers", str(answers)], nobody()) == 0
    request = wiring.runs.runs()[0].request
    assert request.prompt == "train it"
    assert request.source == str(repository.resolve())
    assert request.sets[0].path == "training.lr"
    assert request.sets[0].value == pytest.approx(1e-4)
    assert (request.budget_usd, request.yes, request.dry_run, request.cluster) == (5.0, True, True, "local")
    assert request.answers == {"epochs": 2}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--prompt", ""], "The prompt is empty."),
        (["--prompt", " \n\t"], "The prompt is empty."),
        (["--codebase-path", "/does/not/exist"], "/does/not/exist is no repository"),
        (["--codebase-path", "x" * 5000], "can't be opened (File name too long)"),
        (["--codebase-path", ""], "Name the repository"),
        (["--set", "training.lr"], "isn't field=value"),
        (["--set", "training.rate=1"], "training.rate"),
        (["--set", "training.lr=fast"], "training.lr"),
        (["--budget", "-1"], "--budget -1"),
        (["--budget", "nan"], "--budget nan"),
        (["--budget", "inf"], "--budget inf"),
        (["--answers", "/none.yaml"], "/none.yaml"),
        (["--answers", "."], "can't be read"),
    ],
)
def test_bad_input_writes_nothing(argv: list[str], says: str, job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.SUCCEEDED]), nobody()
    before = sorted(tmp_path.rglob("*"))
    assert run(wiring, [*job, *argv], terminal) == 2
    out, err = printed(terminal)
    assert out == ""
    assert err.count("\n") == 1
    assert says in err
    assert wiring.runs.runs() == ()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"epochs: [", "neither YAML nor JSON"),
        (b"- epochs", "mapping"),
        (b"epocks: 3", "epocks"),
        (b"epochs: many", "epochs"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"x" * (1 << 21), "too large"),
    ],
)
def test_broken_answers_file(text: bytes, says: str, job: list[str], tmp_path: Path) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_bytes(text)
    wiring, terminal = FakeWiring(tmp_path), nobody()
    assert run(wiring, [*job, "--answers", str(answers)], terminal) == 2
    out, err = printed(terminal)
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert wiring.runs.runs() == ()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (["--answers", "training_type: sft"], 0),
        (["--answers", "training.type: sft"], 0),
        (["--answers", "dataset: org/data"], 0),
        (["--set", "dataset.path=org/data"], 0),
        (["--set", "training.type=sft"], 0),
        (["--answers", "epochs: 2"], 2),
        (["--answers", "training_type: rlhf"], 2),
        ([], 2),
    ],
)
def test_an_empty_directory_will_do_where_data_or_a_type_are_named(said: list[str], code: int, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    if said[:1] == ["--answers"]:
        (tmp_path / "answers.yaml").write_text(said[1])
        said = ["--answers", str(tmp_path / "answers.yaml")]
    wiring = FakeWiring(tmp_path, [RunStatus.PLANNED])
    argv = ["--prompt", "Teach it", "--codebase-path", str(tmp_path / "empty"), "--dry-run", "--yes", *said]
    assert run(wiring, argv, nobody()) == code
    assert bool(wiring.runs.runs()) == (code == 0)


def test_a_profile_whose_secrets_can_not_be_had_leaves_no_run(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, []), nobody()
    wiring.no_access = UsageError("The profile prod takes its token from PROD, which is not set.", hint="Set PROD.")
    assert run(wiring, job, terminal) == 2
    assert "which is not set" in printed(terminal)[1]
    assert wiring.runs.runs() == ()


def test_questions_in_person(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [QUESTIONS, RunStatus.SUCCEEDED]), person("many", "", "all", "FULL")
    assert run(wiring, job, terminal) == 0
    _, err = printed(terminal)
    assert "1/2  How many epochs?" in err
    assert "why: the script has no default (train.py:12)" in err
    assert "choices: 1) lora, 2) full" in err
    assert "[3] > " in err
    assert err.count("[lora] > ") == 2  # the wrong answer is asked again
    assert "one of lora, full" in err
    reply = wiring.scripted.replies[1]
    assert reply is not None
    assert [(a.question_id, a.value, a.by_user) for a in reply.answers] == [
        ("epochs", 3, False),
        ("method", "full", True),
    ]


def test_approval_in_person(job: list[str], tmp_path: Path, hcl: Path) -> None:
    terminal = person("perhaps", "show", "yes")
    wiring = FakeWiring(tmp_path, [approval(hcl), RunStatus.SUCCEEDED])
    assert run(wiring, job, terminal) == 0
    _, err = printed(terminal)
    for text in (
        "raw_exec",
        "python train.py",
        "by user",
        "10.5 GiB of 24.0 GiB (Fake 24GB)",
        "weights 8.00, activations 2.50",
        "40%",
        "up to 2.00 USD of 25.00 USD",
        "it will wait: [red]no room",
        "built-in, for trying",
        str(hcl)[-20:],
        'job "x" {\n}',
        "Please answer yes, no or show",
    ):
        assert text in err, text
    assert "\x1b" not in err
    assert wiring.scripted.replies[1] == Reply(approved=True)


@pytest.mark.parametrize("ask", ["approval", "lost"])
def test_no_in_person(ask: str, job: list[str], tmp_path: Path, hcl: Path) -> None:
    wiring = FakeWiring(tmp_path, [approval(hcl) if ask == "approval" else LOST, RunStatus.REJECTED])
    assert run(wiring, job, person("no")) == 3
    assert wiring.scripted.replies[1] == Reply(approved=False, why="the user said no")


def test_approval_when_the_cluster_is_silent(job: list[str], tmp_path: Path, hcl: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [approval(hcl), RunStatus.SUCCEEDED]), person("y")
    wiring.nomad.fail("facts", ClusterUnreachable("No answer."))
    assert run(wiring, job, terminal) == 0
    assert "does not answer now" in printed(terminal)[1]


@pytest.mark.parametrize("terminal", [person(KeyboardInterrupt()), person("2", KeyboardInterrupt()), person()])
def test_leaving_a_question_leaves_the_run_waiting(terminal: Terminal, job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [QUESTIONS])
    assert run(wiring, job, terminal) == 130
    run_id = only_run(wiring)
    assert wiring.runs.run(run_id).status is RunStatus.WAITING
    assert f"main.py resume {run_id}" in printed(terminal)[1]
    with wiring.folder(run_id).lock():
        pass  # it was let go of


def test_the_run_is_held_while_a_person_is_asked(job: list[str], tmp_path: Path) -> None:
    wiring = FakeWiring(tmp_path, [QUESTIONS, RunStatus.SUCCEEDED])
    terminal = person("1", "lora")
    readline, codes = terminal.stdin.readline, []

    def other_agent(size: int = -1) -> str:
        wiring.folders.clear()  # as another process sees it
        second = nobody()
        codes.append(run(wiring, ["resume", only_run(wiring), "--yes"], second))
        assert "another agent" in printed(second)[1]
        return readline(size)

    terminal.stdin.readline = other_agent  # type: ignore[method-assign]
    assert run(wiring, job, terminal) == 0
    assert codes == [2, 2]


def test_without_a_person_it_waits(job: list[str], tmp_path: Path, hcl: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [QUESTIONS]), nobody()
    assert run(wiring, job, terminal) == 3
    out, _ = printed(terminal)
    assert "How many epochs?" in out
    assert "id: epochs, default: 3" in out
    assert f"resume {only_run(wiring)} --answers FILE" in out

    wiring, terminal = (
        FakeWiring(tmp_path, [approval(hcl)]),
        person("yes"),
    )  # --json is for programs, whoever sits there
    assert run(wiring, [*job, "--json"], terminal) == 3
    out, err = printed(terminal)
    document = json.loads(out)
    assert document["status"] == "waiting"
    assert document["question"]["kind"] == "approval"
    assert "--approve" in err


def test_interrupted_while_the_job_runs(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [Interrupted("The run was interrupted.")]), nobody()
    create = wiring.runs.create_run

    def with_job(record: RunRecord) -> None:
        create(record)
        deployment = Deployment(
            run_id=only_run(wiring),
            attempt=1,
            job_id="caravan-x-a01",
            spec_sha256="1",
            plan_sha256="2",
            state=DeploymentState.REGISTERED,
        )
        wiring.runs.intend(deployment)

    wiring.runs.create_run = with_job  # type: ignore[method-assign,assignment]
    assert run(wiring, [*job, "--json"], terminal) == 130
    out, err = printed(terminal)
    last = err.splitlines()[-1]
    assert "caravan-x-a01 keeps running" in last
    assert f"main.py resume {only_run(wiring)}" in last
    assert f"main.py stop {only_run(wiring)}" in last
    document = json.loads(out)
    assert (document["exit_code"], document["run_id"]) == (130, only_run(wiring))


def test_an_error_on_the_way_names_the_run(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [ClusterUnreachable("No answer.", hint="Start it.")]), nobody()
    assert run(wiring, [*job, "--json"], terminal) == 4
    assert json.loads(printed(terminal)[0])["run_id"] == only_run(wiring)


def test_a_service_that_goes_away_on_the_way_says_how_the_run_goes_on(job: list[str], tmp_path: Path) -> None:
    away = ServiceError("The database can't be reached.", hint="Start it.")
    wiring, terminal = FakeWiring(tmp_path, [away]), nobody()
    assert run(wiring, job, terminal) == 5
    run_id = only_run(wiring)
    assert (
        "Error: The database can't be reached. Start it. "
        f"Then go on with `main.py resume {run_id}`; a job that is deployed keeps running meanwhile."
    ) in printed(terminal)[1]


def test_the_result_for_a_person(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.SUCCEEDED]), nobody()
    create = wiring.runs.create_run

    def with_state(record: RunRecord) -> None:
        create(record)
        run_id = only_run(wiring)
        wiring.folder(run_id).save_report(RunReport(markdown="# Report\n", page="<!doctype html>"))
        wiring.scripted.states[run_id] = RunState(
            run_id=run_id,
            request=RunRequest(prompt="p", source="s"),
            plan=plan(),
            estimate=estimate(),
            metrics={"loss": 0.5},
            attempts=(
                Attempt(
                    number=1,
                    job_id="a01",
                    hcl_path="/h",
                    plan_sha256="2",
                    outcome=Outcome(kind=OutcomeKind.FAILED, reason="exit code 1\x07"),
                    diagnosis=Diagnosis(failure=FailureClass.UNKNOWN, confidence=0.1, cause="Nobody knows."),
                    repair=Wait(seconds=1, why="wait a little"),
                    changed={"training.micro_batch": (8, 4)},
                ),
            ),
        )

    wiring.runs.create_run = with_state  # type: ignore[method-assign,assignment]
    assert run(wiring, job, terminal) == 0
    out, _ = printed(terminal)
    for text in (
        "succeeded",
        "exit code 1\\x07",
        "cause: Nobody knows",
        "repair: wait a little",
        "training.micro_batch 8 → 4",
        "loss 0.5",
        "path: /o",
        "REPORT.md",
    ):
        assert text in out, text

    terminal = nobody()
    assert run(wiring, ["show", only_run(wiring)], terminal) == 0
    out, _ = printed(terminal)
    assert "--set training.epochs" in out
    terminal = nobody()
    assert run(wiring, ["resume", only_run(wiring), "--json"], terminal) == 0
    document = json.loads(printed(terminal)[0])
    assert document["attempts"][0]["diagnosis"]["cause"] == "Nobody knows."
    assert document["outputs"] == {"kind": "path", "location": "/o"}
    assert document["report_path"].endswith("REPORT.md")
    assert document["report_html_path"].endswith("report.html")


def test_a_dry_run_shows_the_plan(job: list[str], tmp_path: Path) -> None:
    wiring, terminal = FakeWiring(tmp_path, [RunStatus.PLANNED]), nobody()
    create = wiring.runs.create_run

    def with_plan(record: RunRecord) -> None:
        create(record)
        run_id = only_run(wiring)
        request = RunRequest(prompt="p", source="s")
        wiring.scripted.states[run_id] = RunState(run_id=run_id, request=request, plan=plan(), estimate=estimate())

    wiring.runs.create_run = with_plan  # type: ignore[method-assign,assignment]
    assert run(wiring, [*job, "--dry-run"], terminal) == 0
    out, _ = printed(terminal)
    assert "python train.py" in out
    assert "built-in, for trying" in out
