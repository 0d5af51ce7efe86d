"""A job whose outputs could not be copied is known by the words of its own copier, whatever the store said."""

import pytest

from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import FailureClass, Stage
from caravan.values.outputs import NOT_COPIED
from caravan.values.plan import TrainingPlan
from caravan.values.run import Outcome, OutcomeKind


@pytest.mark.parametrize(
    "why",
    [
        "w: PermissionError: Forbidden",
        "ClientError: Connection timed out",
        "w: FileNotFoundError: [Errno 2] No such file or directory: '/mnt/data/w'",
        "there was no time left after the stop",
    ],
)
def test_it_is_handed_to_a_person(why: str) -> None:
    log = f"loss=1\ncaravan: the outputs could not be copied to s3://bucket/runs/r1/1: {why}\n".encode()
    outcome = Outcome(kind=OutcomeKind.FAILED, exit_code=NOT_COPIED)
    found = diagnose(
        evidence_of(Stage.VERIFY, outcome=outcome, log=log, driver="docker"),
        TrainingPlan(goal="g", command=("t.py",)),
        (),
    )
    assert (found.failure, found.escalate) == (FailureClass.OUTPUT_PERMISSION_DENIED, True)
    assert "the outputs could not be copied to s3://bucket/runs/r1/1" in " ".join((found.cause, *found.lines))


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("ended with exit code 137, twice", FailureClass.HOST_MEMORY_OOM),
        ("ended with exit code 139, twice", FailureClass.UNKNOWN),
    ],
)
def test_a_copier_that_was_killed_says_nothing_of_the_place(said: str, failure: FailureClass) -> None:
    log = f"loss=1\ncaravan: the copier of the outputs to s3://bucket/runs/r1/1 {said}\n".encode()
    outcome = Outcome(kind=OutcomeKind.FAILED, exit_code=NOT_COPIED)
    found = diagnose(
        evidence_of(Stage.VERIFY, outcome=outcome, log=log, driver="docker"),
        TrainingPlan(goal="g", command=("t.py",)),
        (),
    )
    assert found.failure is failure
