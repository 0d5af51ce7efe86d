"""What a person is told at the end is true: of the log only what it says, of the plan only what stands in it."""

import pytest

from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.handover import handover
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import FailureClass, Stage
from caravan.values.plan import Author
from caravan.values.run import Outcome, OutcomeKind
from tests.diagnosis.repair_scenes import case, plan

F = FailureClass


def failed(log: bytes) -> Outcome:
    return Outcome(kind=OutcomeKind.FAILED, reason="train: exit code 1", exit_code=1)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (b"", "it ended with exit code 1 and its log names no cause"),
        (b"begin\nend\n", "it ended with exit code 1 and its log names no cause"),
        (b"ERROR: Frobnication of the widget\nbye\n", "ERROR: Frobnication of the widget"),
    ],
)
def test_an_unknown_cause_is_told_in_the_logs_words_or_as_none(log: bytes, said: str) -> None:
    found = diagnose(evidence_of(Stage.VERIFY, outcome=failed(log), log=log), plan(), ())
    assert found.failure is F.UNKNOWN
    assert said in found.cause
    assert "train: exit code 1" not in found.cause
    assert "RUN" not in found.advice  # of a log alone there is no run


@pytest.mark.parametrize(
    "line",
    [
        "step 429: pushing to https://huggingface.co/acme/model",
        "Step 401 | model card at https://huggingface.co/acme/model",
        "INFO worker evicted from cache",
    ],
)
def test_what_a_healthy_line_counts_is_no_cause(line: str) -> None:
    bug = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    x.shap\n'
    log = f"{line}\n{bug}AttributeError: 'T' object has no attribute 'shap'\n".encode()
    assert diagnose(evidence_of(Stage.VERIFY, outcome=failed(log), log=log), plan(), ()).failure is F.USER_CODE_BUG


def test_a_plan_that_can_be_no_job_is_told_without_the_command_that_follows() -> None:
    """The agent says itself how it is started again, behind the advice."""
    found = diagnose(evidence_of(Stage.VALIDATE, message="The volume data is not there."), plan(), ())
    assert found.failure is F.JOBSPEC_INVALID
    assert "tart again" not in found.advice


def test_a_question_that_nobody_can_answer_is_told_with_its_line() -> None:
    trace = 'Traceback (most recent call last):\n  File "local/code/train.py", line 7, in confirm\n    input("Go? ")\n'
    log = f"{trace}EOFError: EOF when reading a line\n".encode()
    found = diagnose(evidence_of(Stage.VERIFY, outcome=failed(log), log=log), plan(), ())
    assert found.failure is F.USER_CODE_BUG
    assert found.cause.startswith("The program asks a question at train.py, line 7")
    told = handover(case(F.USER_CODE_BUG, plan(), details={"exception": "EOFError", "file": "train.py", "line": "7"}))
    assert "option of the program" in told
    # What a truncated file says in the same exception is no question.
    torn = f"{trace}EOFError: Ran out of input\n".encode()
    assert "question" not in diagnose(evidence_of(Stage.VERIFY, outcome=failed(torn), log=torn), plan(), ()).cause


def test_a_divergence_is_told_with_the_rate_that_was_used() -> None:
    first = handover(case(F.NUMERIC_DIVERGENCE, plan({"training.lr": 0.5})))
    assert "with a learning rate of 0.5" in first
    assert "even" not in first
    assert "even with a learning rate of 0.001" in handover(
        case(F.NUMERIC_DIVERGENCE, plan({"training.lr": 0.001}, by=Author.REPAIR))
    )


@pytest.mark.parametrize(
    ("command", "flags", "said"),
    [
        (("train.py", "--corpus", "data/a.csv"), {}, "--set training.options.--corpus=PATH"),
        (("train.py", "--corpus=/d/data/a.csv"), {}, "--set training.options.--corpus=PATH"),
        (("train.py",), {"dataset.path": "--data"}, "--set dataset.path"),
        (("train.py", "--data", "data/a.csv"), {"dataset.path": "--data"}, "--set dataset.path"),
        (("train.py", "--name", "a"), {}, "correct the path in the repository"),
    ],
)
def test_a_missing_path_is_corrected_where_it_stands(
    command: tuple[str, ...], flags: dict[str, str], said: str
) -> None:
    told = handover(case(F.DATA_PATH_MISSING, plan(command=command, flags=flags), details={"path": "/d/data/a.csv"}))
    assert said in told


def test_the_options_of_a_shell_script_are_corrected_there() -> None:
    log = b"usage: train.py [-h] [--epochs N]\n                [--lr LR]\n"
    log += b"train.py: error: unrecognized arguments: --rate 1\n"
    start = plan(command=("bash", "run.sh"), flags={})
    found = diagnose(evidence_of(Stage.VERIFY, outcome=failed(log), log=log), start, ())
    assert found.details["usage"] == "--epochs --lr"
    told = handover(case(F.CLI_ARGS_INVALID, start, details=found.details))
    assert "run.sh" in told
    assert "--epochs --lr" in told
