"""What several processes say where they fail together, and what is read off it."""

import pytest

from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.plan import TrainingPlan

PLAN = TrainingPlan(goal="g", command=("train.py",))
LATE = (
    "[rank0]:[E ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, "
    "OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600083 milliseconds before timing out."
)


def told(text: str) -> Diagnosis:
    return diagnose(evidence_of_text(text.encode(), TextKind.TASK_STDERR), PLAN, ())


def test_a_rank_that_still_worked_is_quoted_beside_the_timeout() -> None:
    bar = "Map:  60%|######    | 600/1000 examples"
    found = told(f"{bar}\n[rank1]: waiting\n{LATE}\n")
    assert found.failure is FailureClass.NCCL_TIMEOUT
    assert bar in found.lines
    assert bar not in told(f"{LATE}\n").lines


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("Call to ibv_create_qp failed with error Cannot allocate memory errno 12", FailureClass.NCCL_ERROR),
        (
            "caravan: this member of 2 can't begin: can't listen at port 20000: [Errno 98] Address already in use",
            FailureClass.RENDEZVOUS_PORT_IN_USE,
        ),
    ],
)
def test_words_of_the_network_are_told_apart(line: str, failure: FailureClass) -> None:
    assert told(f"{line}\n").failure is failure
