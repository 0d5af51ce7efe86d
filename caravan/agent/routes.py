"""The routes: which node comes next, as pure functions of the state. Limits are enforced here and nowhere else."""

from typing import Literal

from caravan.agent.delivery import is_needed
from caravan.agent.nodes.mend import INTERRUPTION_LIMIT
from caravan.agent.state import RunState
from caravan.values.evaluation import GateVerdict
from caravan.values.run import RunStatus


def after_answers(state: RunState) -> Literal["recall", "collect_responses"]:
    """What is required and still open is asked again, and what contradicts something is asked back."""
    answered = {a.question_id for a in state.answers}
    open_ones = (q for q in state.questions if q.id not in answered)
    return "collect_responses" if any(q.required or q.id in state.asked_back for q in open_ones) else "recall"


def after_recall(state: RunState) -> Literal["make_plan", "fix_iteration"]:
    """Memory is asked before the first plan and after each failure."""
    return "fix_iteration" if state.diagnosis else "make_plan"


def after_validate(state: RunState) -> Literal["diagnose", "report", "approve"]:
    """A refused job is diagnosed; a dry run ends here; else a person sees it."""
    if state.failure:
        return "diagnose"
    return "report" if state.request.dry_run else "approve"


def after_approve(
    state: RunState,
) -> Literal["deliver", "deploy_job", "generate_spec", "estimate", "approve", "remember"]:
    """Approved: send what must be sent, then deploy. Refused: the end. Another plan: estimate it. More to ask: ask.

    A lost job that is deployed anew needs a specification with a new id.
    """
    if state.status is RunStatus.REJECTED:
        return "remember"
    if state.turn != "deploy":
        return state.turn
    if state.deployment is None or state.deployment.attempt != state.sequence:
        return "generate_spec"
    return "deliver" if is_needed(state.need_plan()) and not state.lost else "deploy_job"


def after_deliver(state: RunState) -> Literal["deploy_job", "generate_spec", "diagnose", "remember"]:
    """Sent: deploy. The image got its digest: the job names it. It could not be built: the end. Denied: diagnose."""
    if state.status is RunStatus.ESCALATED:
        return "remember"
    if state.failure:
        return "diagnose"
    deployment = state.need_deployment()
    return "deploy_job" if deployment.plan_sha256 == state.need_plan().digest() else "generate_spec"


def after_deploy(
    state: RunState,
) -> Literal["verify_deployment", "diagnose", "approve", "estimate", "remember", "report"]:
    """Registered: watch. Refused: diagnose. Lost: ask. No money left of what runs share: the end, or once more."""
    if state.status is RunStatus.REJECTED:
        return "remember"
    if state.turn == "estimate":
        return "estimate"
    if state.status is RunStatus.STOPPED:
        return "report"
    if state.lost:
        return "approve"
    return "diagnose" if state.failure else "verify_deployment"


def after_verify(state: RunState) -> Literal["evaluate", "diagnose", "approve", "remember"]:
    """Finished: evaluate. Stopped by the user: no repair. Lost: ask. Failed: diagnose."""
    if state.lost:
        return "approve"
    if state.status is RunStatus.STOPPED:
        return "remember"
    return "diagnose" if state.failure else "evaluate"


def after_evaluate(state: RunState) -> Literal["evaluate", "diagnose", "register", "remember"]:
    """A model that does not pass is a failure like any other; one that does is registered."""
    if state.status is RunStatus.STOPPED:
        return "remember"
    if state.failure:
        return "diagnose"
    if state.gate is None:  # an evaluation job is prepared, or must be deployed once more
        return "evaluate"
    passed = state.gate is not None and state.gate.verdict is GateVerdict.PASS
    return "register" if passed else "remember"


def after_diagnose(state: RunState) -> Literal["recall", "escalate"]:
    """Repair only what is ours to mend, within three attempts, eight fixes and the allowance for interruptions."""
    diagnosis, limits = state.diagnosis, state.need_plan().limits
    if diagnosis is None or diagnosis.escalate:
        return "escalate"
    exhausted = (
        state.counted_attempts() >= limits.attempts
        or state.fixes >= limits.fixes
        or state.interruptions > INTERRUPTION_LIMIT
    )
    return "escalate" if exhausted else "recall"


def after_fix(state: RunState) -> Literal["estimate", "escalate", "remember"]:
    """A repair was taken, or none was left; stopped while it waited: the end."""
    if state.status is RunStatus.STOPPED:
        return "remember"
    return "escalate" if state.status is RunStatus.ESCALATED else "estimate"
