"""A failure is diagnosed and repaired within the limits, or handed to a person."""

from datetime import datetime

from caravan.agent.context import Context
from caravan.agent.state import RunState, Update, joined
from caravan.planning.checks import check_plan
from caravan.planning.estimate import estimate as estimate_plan
from caravan.values.errors import PlanError
from caravan.values.failure import ChangePlan, Evidence, Repair, Requery, RetryElsewhere, Stage, Wait
from caravan.values.plan import TrainingPlan, apply_changes, plan_diff
from caravan.values.run import Attempt, OutcomeKind, RunEvent, RunStatus

INTERRUPTION_LIMIT = 5
"""Deployments that may end by an interruption from outside (preemption, node loss) without counting as attempts."""


def diagnose(state: RunState, context: Context) -> Update:
    """Say why it failed, from the evidence alone."""
    evidence, plan = _evidence(state), state.need_plan()
    diagnosis = context.reasoner.diagnose(evidence, plan, state.cases)
    if state.outcome is not None and state.outcome.kind is OutcomeKind.NOT_PLACED:
        # It has waited as long as the user lets it wait: waiting again would be to ignore that.
        diagnosis = diagnosis.model_copy(update={"escalate": True})
    context.progress.note(f"Cause: {diagnosis.cause}")
    update: Update = {"diagnosis": diagnosis}
    if evidence.stage in (Stage.VERIFY, Stage.EVALUATE) and state.attempts:
        last = state.attempts[-1].model_copy(update={"diagnosis": diagnosis})
        update["attempts"] = (*state.attempts[:-1], last)
    if evidence.interrupted:
        update["interruptions"] = state.interruptions + 1
    return update


def fix_iteration(state: RunState, context: Context) -> Update:
    """Take the first repair of the ladder that gives something new to try; none: the run is escalated."""
    plan, facts = state.need_plan(), context.facts()
    diagnosis = state.diagnosis
    if diagnosis is None:
        raise AssertionError("no diagnosis yet")
    toolbox = context.toolbox(context.open_tree(state.request.source))
    for repair in context.reasoner.repairs(diagnosis, plan, state.need_profile(), state.cases, facts, toolbox):
        mended = _mended(repair, state)
        if mended is None:
            continue
        if isinstance(repair, ChangePlan) and (check_plan(mended, facts) or not _fits(mended, context)):
            continue
        return _take(repair, mended, state, context)
    detail = f"{diagnosis.cause} No repair is left to try. {diagnosis.advice}".strip()
    return {"status": RunStatus.ESCALATED, "detail": detail}


def _mended(repair: Repair, state: RunState) -> TrainingPlan | None:
    """The plan after the repair, or None when it is nothing new: an invalid change, or a plan deployed before."""
    plan = state.need_plan()
    if isinstance(repair, ChangePlan):
        try:
            mended = apply_changes(plan, repair.changes)
        except PlanError:
            return None
        known = {*state.deployed_plans, plan.digest()}
        return None if mended.digest() in known else mended
    interrupted = state.failure is not None and state.failure.interrupted  # has an allowance of its own
    return None if state.tried.count(repair) >= _REPEATS and not interrupted else plan


_REPEATS = 3  # how often the same wait or retry is worth taking in one run


def _fits(plan: TrainingPlan, context: Context) -> bool:
    """False only when the estimate is sure that the plan does not fit."""
    return estimate_plan(plan, context.facts(), prices=context.prices).fits is not False


def _take(repair: Repair, mended: TrainingPlan, state: RunState, context: Context) -> Update:
    if isinstance(repair, Wait):
        context.progress.note(f"Waiting {repair.seconds} s: {repair.why}")
        context.clock.sleep(repair.seconds)
    avoid = repair.avoid_nodes if isinstance(repair, RetryElsewhere) else ()
    evidence, attempts = _evidence(state), state.attempts
    if evidence.stage in (Stage.VERIFY, Stage.EVALUATE) and attempts:
        changed = plan_diff(state.need_plan(), mended)
        attempts = (*attempts[:-1], attempts[-1].model_copy(update={"repair": repair, "changed": changed}))
    context.folder.save_plan(mended)
    cause = state.diagnosis.cause if state.diagnosis else ""
    context.progress.repair(cause, repair.why or repair.kind, plan_diff(state.need_plan(), mended))
    return {
        "plan": mended,
        "attempts": attempts,
        "tried": (*state.tried, repair),
        "fixes": state.fixes + (0 if evidence.interrupted else 1),
        "avoid_nodes": joined(state.avoid_nodes, avoid),
        "sequence": state.sequence + (0 if _same_id(repair, evidence) else 1),
    }


def _same_id(repair: Repair, evidence: Evidence) -> bool:
    """Whether the job id stays: one that validation caught is still free, and asking again means the same job.

    An id whose intent was stored is never used for another specification.
    """
    return evidence.stage is Stage.VALIDATE or isinstance(repair, Requery)


def escalate(state: RunState, context: Context) -> Update:
    """Hand over to a person: the cause, and what to do."""
    diagnosis = state.diagnosis
    status: RunStatus = RunStatus.ESCALATED
    if state.status is RunStatus.ESCALATED:  # no repair was left
        detail = state.detail
    elif diagnosis is None:
        detail = _evidence(state).message
    elif diagnosis.escalate:
        detail = f"{diagnosis.cause} {diagnosis.advice}".strip()
    else:
        status, detail = RunStatus.FAILED, f"{diagnosis.cause} No attempt is left."
    context.progress.note(detail)
    context.store.add_event(
        state.run_id, RunEvent(at=_when(state, context), kind="escalated", text=detail, data={"status": status.value})
    )
    return {"status": status, "detail": detail}


def _when(state: RunState, context: Context) -> datetime:
    """A time that is the same when the node runs twice: the end of the last attempt, where there was one."""
    last: Attempt | None = state.attempts[-1] if state.attempts else None
    ended = last.outcome.finished_at if last and last.outcome else None
    return ended or context.store.run(state.run_id).created_at


def _evidence(state: RunState) -> Evidence:
    if state.failure is None:
        raise AssertionError("no failure to diagnose")
    return state.failure
