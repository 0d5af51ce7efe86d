"""`resume`, `stop`, `delete` and `logs` on runs in every state."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from caravan.terminal.app import run
from caravan.terminal.results import how_to_answer
from caravan.values.dialogue import Ask, AskKind, Question, Reply
from caravan.values.errors import ClusterUnreachable
from caravan.values.estimate import BudgetVerdict, Verdict
from caravan.values.job import META_SHA
from caravan.values.reports import RunReport
from caravan.values.run import Deployment, DeploymentState, RunRecord, RunRequest, RunStatus
from tests.fakes.folder import PlainFolder
from tests.fakes.wiring import FakeWiring, nobody, person, printed

RUN = "abc12345"
QUESTIONS = Ask(
    kind=AskKind.QUESTIONS,
    text="Please answer.",
    questions=(
        Question(id="epochs", text="How many epochs?", path="training.epochs", default=3),
        Question(id="seed", text="Which seed?", path="training.seed", default=1),
    ),
)
LOST = Ask(kind=AskKind.LOST_JOB, text="Job a01 is gone. Deploy it again?", job_id="a01")
JOB = f"caravan-{RUN}-a01"


def approval(verdict: Verdict = Verdict.WITHIN, objections: tuple[str, ...] = ()) -> Ask:
    budget = BudgetVerdict(verdict=verdict, soft_usd=25, hard_usd=250, text="2.00 USD")
    return Ask(kind=AskKind.APPROVAL, text="Deploy?", budget=budget, objections=objections)


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    return FakeWiring(tmp_path)


def put(
    wiring: FakeWiring, status: RunStatus = RunStatus.RUNNING, ask: Ask | None = None, cluster: str = "http://x"
) -> None:
    now = wiring.clock.now()
    request = RunRequest(prompt="p", source="/repo", cluster=cluster)
    wiring.runs.create_run(RunRecord(id=RUN, created_at=now, updated_at=now, status=status, request=request))
    if ask:
        wiring.scripted.questions[RUN] = ask


def deploy(wiring: FakeWiring, state: DeploymentState = DeploymentState.REGISTERED, sha: str = "1") -> None:
    deployment = Deployment(run_id=RUN, attempt=1, job_id=JOB, spec_sha256="1", plan_sha256="2", state=state)
    wiring.runs.intend(deployment)
    group = {"Name": "train", "Count": 1, "Tasks": [{"Name": "train", "Driver": "raw_exec", "Resources": {}}]}
    wiring.nomad.register({"ID": JOB, "Type": "batch", "Meta": {META_SHA: sha}, "TaskGroups": [group]})


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return tmp_path / "answers.yaml"


def test_answers_from_a_file(wiring: FakeWiring, answers: Path) -> None:
    put(wiring, RunStatus.WAITING, QUESTIONS)
    wiring.scripted.steps = [RunStatus.SUCCEEDED]
    answers.write_text("epochs: 5\ntraining.seed: 7\n")  # by question id and by plan field
    assert run(wiring, ["resume", "abc", "--answers", str(answers)], nobody()) == 0
    reply = wiring.scripted.replies[-1]
    assert reply is not None
    assert {a.question_id: a.value for a in reply.answers} == {"epochs": 5, "seed": 7}


def test_answers_that_leave_a_question_open(wiring: FakeWiring, answers: Path) -> None:
    put(wiring, RunStatus.WAITING, QUESTIONS)
    answers.write_text("epochs: 5\n")
    argv = ["resume", RUN, "--answers", str(answers)]
    terminal = nobody()
    assert run(wiring, [*argv, "--json"], terminal) == 3
    assert json.loads(printed(terminal)[0])["question"]["questions"][1]["id"] == "seed"
    assert wiring.scripted.replies == [None]

    wiring.scripted.steps = [RunStatus.SUCCEEDED]
    terminal = person("9")  # only what is still open is asked
    assert run(wiring, argv, terminal) == 0
    reply = wiring.scripted.replies[-1]
    assert reply is not None
    assert {a.question_id: a.value for a in reply.answers} == {"epochs": 5, "seed": 9}
    assert "epochs?" not in printed(terminal)[1]

    wiring.runs.delete_run(RUN)
    put(wiring, RunStatus.WAITING, QUESTIONS)
    wiring.scripted.questions[RUN], wiring.scripted.steps = QUESTIONS, [RunStatus.SUCCEEDED]
    assert run(wiring, [*argv, "--yes"], nobody()) == 0
    reply = wiring.scripted.replies[-1]
    assert reply is not None
    assert [(a.value, a.by_user) for a in reply.answers] == [(5, True), (1, False)]


@pytest.mark.parametrize(("option", "approved"), [("--approve", True), ("--reject", False)])
@pytest.mark.parametrize("ask", [approval(), approval(Verdict.OVER_SOFT), LOST])
def test_yes_or_no_as_an_option(wiring: FakeWiring, option: str, approved: bool, ask: Ask) -> None:
    put(wiring, RunStatus.WAITING, ask)
    wiring.scripted.steps = [RunStatus.SUCCEEDED]
    assert run(wiring, ["resume", RUN, option], nobody()) == 0
    assert wiring.scripted.replies[-1] == Reply(approved=approved, why="" if approved else "the user said no")


def test_what_is_given_answers_one_question_alone(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.WAITING, approval())
    wiring.scripted.steps = [approval(), RunStatus.SUCCEEDED]
    assert run(wiring, ["resume", RUN, "--approve"], nobody()) == 3
    assert len(wiring.scripted.steps) == 1


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (approval(), 0),
        (approval(Verdict.OVER_SOFT), 3),
        (approval(objections=("image x was not approved",)), 3),
        (LOST, 3),
        (QUESTIONS, 0),
    ],
)
def test_yes_grants_no_more_than_the_soft_limit(wiring: FakeWiring, ask: Ask, code: int) -> None:
    put(wiring, RunStatus.WAITING, ask)
    wiring.scripted.steps = [RunStatus.SUCCEEDED]
    assert run(wiring, ["resume", RUN, "--yes"], nobody()) == code


@pytest.mark.parametrize(
    ("ask", "status", "argv", "says"),
    [
        (approval(), RunStatus.WAITING, ["--answers", "FILE"], "yes or no"),
        (QUESTIONS, RunStatus.WAITING, ["--approve"], "answers, not for approval"),
        (None, RunStatus.RUNNING, ["--approve"], "waits for no answer"),
        (None, RunStatus.SUCCEEDED, ["--reject"], "has ended"),
        (approval(), RunStatus.WAITING, ["--approve", "--reject"], "exclude each other"),
        (QUESTIONS, RunStatus.WAITING, ["--answers", "OTHER"], "isn't asked: dataset"),
        (QUESTIONS, RunStatus.WAITING, ["--answers", "/none"], "/none"),
    ],
)
def test_replies_that_fit_nothing(
    wiring: FakeWiring, answers: Path, ask: Ask | None, status: RunStatus, argv: list[str], says: str
) -> None:
    put(wiring, status, ask)
    answers.write_text("dataset: x\n" if "OTHER" in argv else "epochs: 2\n")
    terminal = nobody()
    argv = [str(answers) if a in ("FILE", "OTHER") else a for a in argv]
    assert run(wiring, ["resume", RUN, *argv], terminal) == 2
    assert says in printed(terminal)[1].splitlines()[-1]
    assert wiring.runs.run(RUN).status is status


def test_an_interrupted_run_goes_on(wiring: FakeWiring) -> None:
    put(wiring)
    wiring.scripted.steps = [RunStatus.FAILED]
    assert run(wiring, ["resume", RUN], nobody()) == 1


def test_show_says_that_a_running_run_has_lost_its_agent(wiring: FakeWiring) -> None:
    put(wiring)
    lost, driven, ended = nobody(), nobody(), nobody()
    assert run(wiring, ["show", RUN], lost) == 0
    with wiring.folder(RUN).lock():
        assert run(wiring, ["show", RUN], driven) == 0
    wiring.runs.update_run(RUN, status=RunStatus.SUCCEEDED)
    assert run(wiring, ["show", RUN], ended) == 0
    line = f"  agent      none: its process has ended; `main.py resume {RUN}` goes on\n"
    assert [line in printed(terminal)[0] for terminal in (lost, driven, ended)] == [True, False, False]


def test_which_run_it_is_is_said_before_what_drives_it_is_loaded(
    wiring: FakeWiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(wiring)
    terminal = nobody()
    wiring.scripted.steps = [RunStatus.SUCCEEDED]
    said: list[str] = []
    driver = wiring.driver

    def loading() -> AbstractContextManager[Any]:
        said.append(printed(terminal)[1])
        return driver()

    monkeypatch.setattr(wiring, "driver", loading)
    assert run(wiring, ["resume", RUN], terminal) == 0
    assert [text.splitlines()[0].startswith(f"Run {RUN}") for text in said] == [True]


@pytest.mark.parametrize(
    ("status", "code"), [(RunStatus.SUCCEEDED, 0), (RunStatus.FAILED, 1), (RunStatus.STOPPED, 130)]
)
def test_an_ended_run_says_its_result_again(wiring: FakeWiring, status: RunStatus, code: int) -> None:
    put(wiring, status)
    terminal = nobody()
    assert run(wiring, ["resume", RUN, "--json"], terminal) == code
    assert json.loads(printed(terminal)[0])["status"] == status.value
    assert wiring.scripted.replies == []


def test_stop(wiring: FakeWiring) -> None:
    put(wiring)
    deploy(wiring)
    for says in (f"Its job {JOB} was told to end", "No job of it was left to end"):
        terminal = nobody()
        assert run(wiring, ["stop", "abc"], terminal) == 0
        assert says in printed(terminal)[0]
    assert wiring.runs.run(RUN).status is RunStatus.STOPPED
    assert set(wiring.clusters) == {"http://x"}
    assert [e.kind for e in wiring.runs.events(RUN)] == ["stopped"]
    assert wiring.nomad.calls.count("stop") == 1


def test_stop_when_the_cluster_is_silent_can_be_repeated(wiring: FakeWiring) -> None:
    put(wiring)
    deploy(wiring)
    wiring.nomad.fail("stop", ClusterUnreachable("No answer."))
    assert run(wiring, ["stop", RUN], nobody()) == 4
    assert wiring.runs.run(RUN).status is RunStatus.STOPPED
    assert run(wiring, ["stop", RUN], nobody()) == 0
    found = wiring.nomad.find(JOB)
    assert found is not None
    assert found.stopped


def test_resume_ends_a_job_that_was_registered_while_its_run_was_stopped(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.STOPPED)
    deploy(wiring, DeploymentState.INTENDED)
    for says in (True, False):
        terminal = nobody()
        assert run(wiring, ["resume", RUN], terminal) == 130
        assert (f"its job {JOB} still ran: it was told to end" in printed(terminal)[1]) is says
    found = wiring.nomad.find(JOB)
    assert found is not None
    assert found.stopped


def test_the_example_of_an_answer_is_one_that_would_do() -> None:
    money = Question(id="max_cost", text="How much?", path="limits.max_cost_usd", required=True)
    told = how_to_answer(RUN, Ask(kind=AskKind.QUESTIONS, text="Please answer.", questions=(money,)))
    assert '{"max_cost": 10}' in told


def test_stop_leaves_ended_runs_and_other_jobs_alone(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.SUCCEEDED)
    terminal = nobody()
    assert run(wiring, ["stop", RUN], terminal) == 0
    assert "had ended already" in printed(terminal)[0]
    assert wiring.runs.run(RUN).status is RunStatus.SUCCEEDED
    wiring.runs.update_run(RUN, status=RunStatus.RUNNING)
    deploy(wiring, sha="somebody else's")
    terminal = nobody()
    assert run(wiring, ["stop", RUN], terminal) == 0
    assert f"`nomad job stop {JOB}` ends it" in printed(terminal)[0]
    assert "stop" not in wiring.nomad.calls


def test_stop_of_an_ended_run_ends_its_job_that_still_runs(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.ESCALATED)
    deploy(wiring, DeploymentState.FINISHED)
    terminal = nobody()
    assert run(wiring, ["stop", RUN], terminal) == 0
    assert f"had ended already (escalated). Its job {JOB} still ran and was told to end." in printed(terminal)[0]
    assert wiring.nomad.calls.count("stop") == 1
    assert run(wiring, ["stop", RUN], nobody()) == 0
    assert wiring.nomad.calls.count("stop") == 1


def test_stop_of_an_ended_run_starts_no_cluster(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.SUCCEEDED, cluster="local")
    deploy(wiring, DeploymentState.FINISHED)
    assert run(wiring, ["stop", RUN], nobody()) == 0
    assert wiring.clusters == []


@pytest.mark.parametrize("status", [RunStatus.ESCALATED, RunStatus.RUNNING])
def test_stop_names_a_job_that_somebody_changed_and_leaves_it(wiring: FakeWiring, status: RunStatus) -> None:
    put(wiring, status)
    deploy(wiring, DeploymentState.FINISHED if status is RunStatus.ESCALATED else DeploymentState.REGISTERED)
    wiring.nomad.change(JOB, Priority=80)  # an edited copy keeps the meta
    terminal = nobody()
    assert run(wiring, ["stop", RUN], terminal) == 0
    assert f"`nomad job stop {JOB}` ends it" in printed(terminal)[0]
    assert "stop" not in wiring.nomad.calls


def test_delete_removes_everything(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.FAILED)
    deploy(wiring, DeploymentState.FINISHED)
    folder = wiring.folder(RUN)
    folder.save_report(RunReport(markdown="# Report\n"))
    wiring.trace_path(RUN).parent.mkdir()
    wiring.trace_path(RUN).write_text("")
    wiring.scripted.states[RUN] = "state"
    assert run(wiring, ["delete", RUN], nobody()) == 0
    assert wiring.runs.runs() == ()
    assert not folder.path.exists()
    assert not wiring.trace_path(RUN).exists()
    assert wiring.scripted.states == {}
    assert wiring.clusters == []  # the job was judged: no cluster is needed
    assert run(wiring, ["delete", RUN], nobody()) == 2


def test_delete_asks_a_person(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.FAILED)
    for typed in (("n",), ("",), ()):
        assert run(wiring, ["delete", RUN], person(*typed)) == 0
        assert wiring.runs.runs()
    assert run(wiring, ["delete", RUN], person(KeyboardInterrupt())) == 130
    assert run(wiring, ["delete", RUN], person("y")) == 0
    assert wiring.runs.runs() == ()


def test_delete_with_a_running_job(wiring: FakeWiring) -> None:
    put(wiring)
    deploy(wiring, DeploymentState.INTENDED)  # registered, but the agent died before it wrote that down
    terminal = nobody()
    assert run(wiring, ["delete", RUN], terminal) == 2
    assert f"main.py stop {RUN}" in printed(terminal)[1]
    assert wiring.runs.runs()
    assert run(wiring, ["delete", RUN, "--yes"], nobody()) == 0
    found = wiring.nomad.find(JOB)
    assert found is not None
    assert found.stopped
    assert wiring.runs.runs() == ()


def test_delete_of_a_driven_run(wiring: FakeWiring) -> None:
    put(wiring)
    with wiring.folder(RUN).lock():
        wiring.folders.clear()
        assert run(wiring, ["delete", RUN, "--yes"], nobody()) == 2
    assert wiring.runs.runs()


def test_logs(wiring: FakeWiring) -> None:
    put(wiring, RunStatus.FAILED)
    folder = wiring.folder(RUN)
    terminal = nobody()
    assert run(wiring, ["logs", RUN], terminal) == 0
    assert "no stdout yet" in printed(terminal)[1]
    folder.append_log("11111111-1", "train", "stdout", b"\x1b[31mloss=1\x1b[0m\n10%\r99%\r\nlast \xff")
    folder.append_log("11111111-1", "train", "stderr", b"warning\n")
    folder.append_log("22222222-2", "train", "stdout", b"second\n")
    terminal = nobody()
    assert run(wiring, ["logs", RUN], terminal) == 0
    out, err = printed(terminal)
    assert sorted(out.splitlines()) == sorted(["loss=1", "99%", "last \ufffd", "second"])
    assert "==> train stdout (allocation 11111111)" in err
    terminal = nobody()
    assert run(wiring, ["logs", RUN, "--stderr"], terminal) == 0
    assert printed(terminal)[0] == "warning\n"


def test_logs_are_followed_to_the_end_of_the_run(wiring: FakeWiring) -> None:
    put(wiring)
    folder = wiring.folder(RUN)
    folder.append_log("11111111-1", "train", "stdout", b"one\ntw")
    pieces = [b"o\nthr", b"", b"ee\n"]
    sleep = wiring.clock.sleep

    def later(seconds: float) -> None:
        sleep(seconds)
        folder.append_log("11111111-1", "train", "stdout", pieces.pop(0))
        if not pieces:
            wiring.runs.update_run(RUN, status=RunStatus.SUCCEEDED)

    wiring.clock.sleep = later  # type: ignore[method-assign]
    terminal = nobody()
    with PlainFolder(wiring.home, RUN).lock():  # an agent works on it
        assert run(wiring, ["logs", RUN, "-f"], terminal) == 0
    assert printed(terminal)[0] == "one\ntwo\nthree\n"


def test_logs_of_a_run_without_an_agent_are_not_waited_for(wiring: FakeWiring) -> None:
    put(wiring)
    wiring.folder(RUN).append_log("11111111-1", "train", "stdout", b"one\n")
    terminal = nobody()
    assert run(wiring, ["logs", RUN, "-f"], terminal) == 0
    out, err = printed(terminal)
    assert out == "one\n"
    assert f"resume {RUN}" in err
    assert run(wiring, ["runs"], terminal) == 0
    assert "interrupted" in printed(terminal)[0]
