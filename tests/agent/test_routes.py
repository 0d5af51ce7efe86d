"""The routes and the limits that they hold."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.agent import routes
from caravan.agent.lessons import lessons_of
from caravan.agent.nodes.mend import INTERRUPTION_LIMIT
from caravan.agent.state import RunState
from caravan.values.failure import ChangePlan, Diagnosis, Evidence, FailureClass, Stage
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.run import Attempt, Deployment, Outcome, OutcomeKind, RunRequest, RunStatus

PLAN = TrainingPlan(goal="x", command=("train.py",))
MENDABLE = Diagnosis(failure=FailureClass.HOST_MEMORY_OOM, confidence=1, cause="memory")
FAILED = Evidence(stage=Stage.VERIFY)


def state(**values: object) -> RunState:
    return RunState.model_validate(
        {"run_id": "r", "request": RunRequest(prompt="p", source="."), "plan": PLAN, **values}
    )


def attempt(number: int, kind: OutcomeKind = OutcomeKind.FAILED, **values: object) -> Attempt:
    return Attempt.model_validate(
        {
            "number": number,
            "job_id": f"j{number}",
            "hcl_path": "",
            "plan_sha256": str(number),
            "counts": kind is not OutcomeKind.INTERRUPTED,
            "outcome": Outcome(kind=kind, finished_at=datetime.now(UTC)),
            **values,
        }
    )


def test_memory_is_asked_before_the_plan_and_after_a_failure() -> None:
    assert routes.after_recall(state()) == "make_plan"
    assert routes.after_recall(state(diagnosis=MENDABLE)) == "fix_iteration"


def test_a_dry_run_ends_after_validation_but_a_refused_job_is_diagnosed() -> None:
    dry = RunRequest(prompt="p", source=".", dry_run=True)
    assert routes.after_validate(state(request=dry)) == "report"
    assert routes.after_validate(state(request=dry, failure=FAILED)) == "diagnose"
    assert routes.after_validate(state()) == "approve"


def test_a_lost_job_is_deployed_only_under_a_new_id() -> None:
    deployment = Deployment(run_id="r", attempt=1, job_id="j", spec_sha256="s", plan_sha256="p")
    assert routes.after_deploy(state(lost=True, deployment=deployment)) == "approve"
    assert routes.after_approve(state(deployment=deployment, sequence=2)) == "generate_spec"
    assert routes.after_approve(state(deployment=deployment)) == "deploy_job"
    assert routes.after_approve(state(deployment=deployment, status=RunStatus.REJECTED)) == "remember"
    assert routes.after_verify(state(lost=True, deployment=deployment)) == "approve"


def test_approval_leads_on_to_its_next_question_or_to_the_chosen_plan() -> None:
    deployment = Deployment(run_id="r", attempt=1, job_id="j", spec_sha256="s", plan_sha256="p")
    assert routes.after_approve(state(deployment=deployment, turn="deploy")) == "deploy_job"
    assert routes.after_approve(state(deployment=deployment, turn="approve")) == "approve"
    assert routes.after_approve(state(deployment=deployment, turn="estimate")) == "estimate"
    assert routes.after_approve(state(turn="approve", status=RunStatus.REJECTED)) == "remember"


def test_a_stopped_run_is_not_repaired() -> None:
    assert routes.after_verify(state(failure=FAILED, status=RunStatus.STOPPED)) == "remember"
    assert routes.after_deploy(state(failure=FAILED, status=RunStatus.STOPPED)) == "report"
    assert routes.after_fix(state(status=RunStatus.STOPPED)) == "remember"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "recall"),
        ({"attempts": (attempt(1), attempt(2))}, "recall"),
        ({"attempts": (attempt(1), attempt(2), attempt(3))}, "escalate"),
        ({"attempts": tuple(attempt(n, OutcomeKind.INTERRUPTED) for n in range(1, 5))}, "recall"),
        ({"fixes": 7}, "recall"),
        ({"fixes": 8}, "escalate"),
        ({"interruptions": INTERRUPTION_LIMIT}, "recall"),
        ({"interruptions": INTERRUPTION_LIMIT + 1}, "escalate"),
        ({"diagnosis": MENDABLE.model_copy(update={"escalate": True})}, "escalate"),
        ({"diagnosis": None}, "escalate"),
    ],
)
def test_limits(values: dict[str, object], expected: str) -> None:
    assert routes.after_diagnose(state(**{"diagnosis": MENDABLE, "failure": FAILED, **values})) == expected


@given(st.lists(st.sampled_from(OutcomeKind), max_size=12), st.integers(0, 12))
def test_no_fourth_counted_attempt_whatever_came_before(kinds: list[OutcomeKind], fixes: int) -> None:
    attempts = tuple(attempt(n, kind) for n, kind in enumerate(kinds, 1))
    counted = sum(a.counts for a in attempts)
    route = routes.after_diagnose(state(diagnosis=MENDABLE, attempts=attempts, fixes=fixes))
    if counted >= 3 or fixes >= 8:
        assert route == "escalate"


def test_a_lesson_for_each_diagnosed_attempt_with_whether_its_repair_worked() -> None:
    repair = ChangePlan(changes=(PlanChange(path="resources.memory_mb", value=4096, by=Author.REPAIR),), why="more")
    profile = RepoProfile(root=".", tree_digest="d", is_training_repo=True)
    first = attempt(1, diagnosis=MENDABLE, repair=repair, changed={"resources.memory_mb": (2048, 4096)})
    worked = state(profile=profile, attempts=(first, attempt(2, OutcomeKind.SUCCEEDED)))
    same_again = state(profile=profile, attempts=(first, attempt(2, diagnosis=MENDABLE)))
    open_end = state(profile=profile, attempts=(first,))
    assert [lesson.worked for lesson in lessons_of(worked)] == [True]
    assert [lesson.worked for lesson in lessons_of(same_again)] == [False, None]
    assert [lesson.worked for lesson in lessons_of(open_end)] == [None]
    assert lessons_of(worked)[0].changes == repair.changes
    assert lessons_of(worked)[0].source == "r/1"
