"""A training that was killed: for memory, or nobody knows for what."""

import pytest

from caravan.diagnosis.rules import diagnose
from caravan.values.failure import Evidence, FailureClass, RetryElsewhere, Stage
from caravan.values.plan import TrainingPlan
from tests.diagnosis.repair_scenes import facts, node, plan, rungs

F = FailureClass
PLAN = TrainingPlan(goal="g", command=("train.py",))
SHELL = "/local/launch.sh: line 4:   118 Killed                  python train.py"


def told(*log: str, **fields: object) -> tuple[FailureClass, float]:
    evidence = Evidence.model_validate({"stage": Stage.VERIFY, "exit_code": 137, "log_lines": log, **fields})
    found = diagnose(evidence, PLAN, ())
    return found.failure, found.confidence


@pytest.mark.parametrize(
    "line",
    ["Killed", SHELL, "died with <Signals.SIGKILL: 9>", "exitcode  : -9 (pid: 4)", "exited on signal 9 (Killed)"],
)
def test_a_kill_counts_for_memory_only_where_nobody_would_have_told(line: str) -> None:
    assert told(line)[0] is F.HOST_MEMORY_OOM
    found, confidence = told(line, memory_told=True)
    assert found is F.INTERRUPTED_EXTERNALLY
    assert confidence < 0.7


def test_an_exit_code_alone_says_that_it_was_killed_where_memory_is_told_of() -> None:
    assert told()[0] is F.UNKNOWN
    assert told(memory_told=True)[0] is F.INTERRUPTED_EXTERNALLY
    assert told(memory_told=True, exit_code=1)[0] is F.UNKNOWN


@pytest.mark.parametrize(
    ("log", "fields", "expected"),
    [
        (("Killed",), {"oom_killed": True}, F.HOST_MEMORY_OOM),
        (("MemoryError: x", "Killed"), {}, F.HOST_MEMORY_OOM),
        (("torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "Killed"), {}, F.CUDA_OOM),
    ],
)
def test_what_says_more_than_a_kill_counts(log: tuple[str, ...], fields: dict[str, object], expected: F) -> None:
    assert told(*log, memory_told=True, **fields)[0] is expected


def test_the_same_plan_goes_on() -> None:
    evidence = Evidence(stage=Stage.VERIFY, exit_code=137, log_lines=("Killed",), memory_told=True)
    found = diagnose(evidence, PLAN, ())
    assert found.cause.endswith("which of both is not known.")
    assert not found.escalate
    (repair,) = rungs(found.failure, plan(), facts(node()), details=found.details)
    assert isinstance(repair, RetryElsewhere)
    assert repair.why.startswith("the training was killed")
