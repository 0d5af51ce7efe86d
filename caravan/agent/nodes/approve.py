"""Approval: what a person is asked before a job is deployed, and where their reply leads."""

from langgraph.types import interrupt

from caravan.agent.approval import envelope, objections, total_cost
from caravan.agent.context import Context
from caravan.agent.secrets import offer_secrets
from caravan.agent.state import RunState, Update
from caravan.values.dialogue import Ask, AskKind, PlanChoice, Reply
from caravan.values.estimate import BudgetVerdict, Envelope, Verdict
from caravan.values.failure import ChangePlan
from caravan.values.plan import Author, TrainingPlan, apply_changes, plan_diff
from caravan.values.run import RunStatus


def approve(state: RunState, context: Context) -> Update:
    """Ask once, with plan, estimate, cost and job in view (the second interrupt); go on inside what was granted.

    One question at a time: what runs again after an interrupt must come to the same one. An update with `turn`
    "approve" comes back here for the next question, "estimate" goes on with the plan that a person chose.
    """
    return {"turn": "deploy", **_next_step(state, context)}


def _next_step(state: RunState, context: Context) -> Update:
    if state.lost:
        return _ask_about_lost_job(state)
    if context.store.run(state.run_id).status is RunStatus.STOPPED:
        return {}  # nobody is asked any more: the deployment ends the run
    offered = offer_secrets(state, context)
    if offered is not None:
        return {"turn": "approve", **offered}
    return _decide(state, context)


def _decide(state: RunState, context: Context) -> Update:
    """What was granted already or by `--yes`, else what a person says."""
    plan, verdict, granted = state.need_plan(), state.budget, state.envelope
    cost = total_cost(state, state.need_estimate())
    if verdict and verdict.verdict is Verdict.OVER_HARD:
        return _rejected(state, verdict.text)
    against = objections(state, context, plan, state.need_estimate())
    if granted and not against:
        return _DECIDED
    limit = state.request.budget_usd if state.request.budget_usd is not None else context.limits.soft_usd
    grants = envelope(state, context, plan, cost, limit)
    if granted is None and not against and state.request.yes and verdict and verdict.verdict is Verdict.WITHIN:
        context.progress.note(f"Approved by --yes: {verdict.text}")
        return {"envelope": grants, **_DECIDED}
    reply = Reply.model_validate(interrupt(_ask(state, verdict, grants, against).model_dump(mode="json")))
    if reply.choice is not None:
        if reply.choice > len(state.choices):
            return {"turn": "approve"}  # there is no such choice: asked again
        return _chosen(state, context, state.choices[reply.choice - 1], grants)
    if not reply.approved:
        return _rejected(state, reply.why or "the job was not approved")
    return {"envelope": grants, **_DECIDED}


_DECIDED: Update = {"choices": (), "unplaced": None}
"""No other plan is on offer any more."""


def _chosen(state: RunState, context: Context, choice: PlanChoice, grants: Envelope) -> Update:
    """The plan that a person took instead, by their own word; one that changes nothing is a yes to what was asked."""
    if not choice.changes:
        return {"envelope": grants, **_DECIDED}
    before = state.unplaced or state.need_plan()
    repair = ChangePlan(
        changes=tuple(c.model_copy(update={"by": Author.USER}) for c in choice.changes), why=choice.text
    )
    plan = apply_changes(before, repair.changes)
    context.folder.save_plan(plan)
    context.progress.note(f"Chosen instead: {choice.text}")
    held = {path: value for path, value in state.wished.items() if path not in {c.path for c in choice.changes}}
    update: Update = {"plan": plan, "wished": held, "turn": "estimate", **_DECIDED}
    return update if state.unplaced is None else {**update, **_in_place_of_the_repair(repair, plan, state)}


def _in_place_of_the_repair(repair: ChangePlan, plan: TrainingPlan, state: RunState) -> Update:
    """What was asked about was a repair; what is tried now is the choice, and is told and remembered as that."""
    update: Update = {"tried": (*state.tried[:-1], repair), "answered": None}
    if state.attempts:
        changed = plan_diff(state.ran or plan, plan)
        last = state.attempts[-1].model_copy(update={"repair": repair, "changed": changed})
        update["attempts"] = (*state.attempts[:-1], last)
    return update


def _ask(state: RunState, verdict: BudgetVerdict | None, grants: Envelope, against: tuple[str, ...]) -> Ask:
    deployment = state.need_deployment()
    return Ask(
        kind=AskKind.APPROVAL,
        text=_question(state, deployment.job_id),
        plan=state.plan,
        estimate=state.estimate,
        budget=verdict,
        envelope=grants,
        objections=against,
        warnings=state.warnings,
        choices=state.choices,
        attempt=state.sequence,
        job_id=deployment.job_id,
        hcl_path=deployment.hcl_path or "",
    )


def _question(state: RunState, job_id: str) -> str:
    """What is asked: of a repair, what failed and what would be done about it."""
    if state.answered is None or not state.tried:
        return f"Deploy {job_id}?"
    repair = state.tried[-1]
    return f"{state.answered.cause} Deploy {job_id} with this repair: {repair.why or repair.kind}?"


def _rejected(state: RunState, why: str) -> Update:
    """The end by a no. After a failure it says what failed and what to do, for the repair would have been the way."""
    cause = state.answered
    if cause is None:
        return {"status": RunStatus.REJECTED, "detail": why}
    parts = (cause.cause, f"Not repaired: {why.rstrip('.')}.", cause.advice)
    return {"status": RunStatus.REJECTED, "detail": " ".join(part for part in parts if part)}


def _ask_about_lost_job(state: RunState) -> Update:
    deployment = state.need_deployment()
    ask = Ask(
        kind=AskKind.LOST_JOB,
        text=(
            f"Job {deployment.job_id} was registered but the cluster does not know it any more. It may have been "
            "purged while it ran or after its end. Deploy the plan again, under a new id?"
        ),
        plan=state.plan,
        estimate=state.estimate,
        attempt=state.sequence,
        job_id=deployment.job_id,
    )
    reply = Reply.model_validate(interrupt(ask.model_dump(mode="json")))
    if not reply.approved:
        detail = reply.why or f"job {deployment.job_id} is gone and was not deployed again"
        return {"lost": False, "status": RunStatus.REJECTED, "detail": detail}
    return {"lost": False, "sequence": state.sequence + 1}
