"""What a run that waits, was refused or repaired itself says without a person: why it asks, what it would change."""

import io
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.state import RunState
from caravan.runs.report.content import content
from caravan.runs.report.markdown import as_markdown
from caravan.runs.report.material import Material
from caravan.terminal.endings import attempt_line
from caravan.terminal.picture import Glyphs
from caravan.terminal.results import Result, how_to_answer, print_line, result_lines
from caravan.terminal.sheet import attempt_told
from caravan.terminal.show import attempt_block
from caravan.terminal.streams import Terminal
from caravan.terminal.summary import wrapped
from caravan.values.dialogue import Ask, AskKind, Question
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass
from caravan.values.plan import Author, PlanChange
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
from tests.fakes.clock import FakeClock

CHANGE = PlanChange(path="training.lr", value=0.01, by=Author.REPAIR)
DIAGNOSIS = Diagnosis(
    failure=FailureClass.NUMERIC_DIVERGENCE, confidence=0.9, cause="The training diverged.", advice="Lower the rate."
)
EXAMPLE = Question(id="entry_point", text="Which command?", path="command", required=True)


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def attempt(kind: OutcomeKind = OutcomeKind.SUCCEEDED, **more: Any) -> Attempt:
    values: dict[str, Any] = {
        "number": 1,
        "job_id": "caravan-x-a01",
        "hcl_path": "/runs/a01.hcl",
        "plan_sha256": "1",
        "outcome": Outcome(kind=kind, node_name="vm"),
        "diagnosis": DIAGNOSIS,
        "repair": ChangePlan(changes=(CHANGE,), why="a lower rate"),
        "changed": {"training.lr": (0.03, 0.01)},
    }
    return Attempt(**(values | more))


def result(status: RunStatus, ask: Ask | None = None, deployed: DeploymentState = DeploymentState.INTENDED) -> Result:
    now = FakeClock().now()
    request = RunRequest(prompt="train", source="/repo")
    record = RunRecord(id="x", created_at=now, updated_at=now, status=status, request=request)
    deployment = Deployment(
        run_id="x", attempt=2, job_id="a02", spec_sha256="2", plan_sha256="2", state=deployed, hcl_path="/runs/a02.hcl"
    )
    state = RunState(run_id="x", request=record.request, attempts=(attempt(),), deployment=deployment)
    return Result(record, state, ask, Path("/nowhere"), None)


def test_the_reason_of_a_question_and_what_would_change_are_told_without_a_person() -> None:
    ask = Ask(kind=AskKind.APPROVAL, text="Deploy?", objections=("package moon is unknown",), hcl_path="/runs/a02.hcl")
    told = result_lines(result(RunStatus.WAITING, ask))
    assert "  asked because  package moon is unknown" in told
    assert "  would change   training.lr 0.03 → 0.01" in told
    assert "  job file       /runs/a02.hcl" in told


def test_a_repair_that_was_refused_is_not_told_as_made() -> None:
    told = "\n".join(result_lines(result(RunStatus.REJECTED)))
    assert "repair proposed, not approved: a lower rate; would change: training.lr" in told
    assert "job file   /runs/a01.hcl" in told
    assert "a02.hcl" not in told


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.REJECTED, RunStatus.STOPPED])
def test_a_repair_that_was_deployed_is_told_as_made(status: RunStatus) -> None:
    told = "\n".join(result_lines(result(status, deployed=DeploymentState.REGISTERED)))
    assert "; repair: a lower rate; changed: training.lr" in told
    assert "job file   /runs/a02.hcl" in told


def test_a_training_that_diverged_has_not_succeeded() -> None:
    line = attempt_line(attempt())
    assert "succeeded" not in line
    assert "ended with exit code 0, but its result did not pass; cause: The training diverged" in line
    block = "\n".join(row.plain for row in attempt_block(attempt_told(attempt()), 100, Glyphs(ascii_only=True)))
    assert "succeeded" not in block
    assert "ended with exit code 0 on vm, but its result did not pass" in block


def test_advice_is_for_an_attempt_without_a_repair() -> None:
    def shown(one: Attempt) -> str:
        return "\n".join(row.plain for row in attempt_block(attempt_told(one), 100, Glyphs(ascii_only=True)))

    assert "Advice" not in shown(attempt())
    assert "Advice: Lower the rate." in shown(attempt(repair=None, changed={}))


def test_yes_is_named_only_where_every_question_has_a_default() -> None:
    told = how_to_answer("x", Ask(kind=AskKind.QUESTIONS, text="?", questions=(EXAMPLE,)))
    assert "--yes" not in told
    assert '{"entry_point": "python train.py"}' in told
    epochs = Question(id="epochs", text="How many?", path="training.epochs", default=3)
    told = how_to_answer("x", Ask(kind=AskKind.QUESTIONS, text="?", questions=(epochs,)))
    assert "--yes" in told
    assert '{"epochs": 3}' in told


def test_a_question_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    screen = Screen()
    text = f"Run x: waiting; {'word ' * 11}Deploy caravan-0123abcd-a02 with this repair: {'more ' * 9}?"
    print_line(Terminal(io.StringIO(), screen, io.StringIO()), text)
    lines = screen.getvalue().splitlines()
    assert len(lines) > 1
    assert all(len(line) < 80 for line in lines)
    assert " ".join(lines).split() == text.split()
    assert " ".join(wrapped(screen, text).split()) == " ".join(text.split())
    assert max(map(len, wrapped(screen, text).splitlines())) < 80


def test_the_report_tells_an_exit_code_once() -> None:
    failed = Outcome(kind=OutcomeKind.FAILED, reason="train: exit code 1", exit_code=1)
    text = as_markdown(content(Material(record=result(RunStatus.FAILED).record, attempts=(attempt(outcome=failed),))))
    assert text.count("exit code 1") == 1
