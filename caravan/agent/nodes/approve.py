"""Approval: what a person is asked before a job is deployed, and where their reply leads."""

from langgraph.types import interrupt

from caravan.agent.approval import envelope, objections, total_cost
from caravan.agent.context import Context
from caravan.agent.granting import DECIDED, granted_more, has_begun, more_money, sum_needed
from caravan.agent.secrets import offer_secrets
from caravan.agent.state import RunState, Update, joined
from caravan.planning.evaluation_job import told_words
from caravan.planning.resume import starts_anew
from caravan.values.dialogue import Ask, AskKind, PlanChoice, Reply
from caravan.values.estimate import BudgetVerdict, Envelope, Verdict
from caravan.values.failure import ChangePlan
from caravan.values.plan import Author, TrainingPlan, apply_changes, plan_diff
from caravan.values.run import DeploymentState, RunStatus


def approve(state: RunState, context: Context) -> Update:
    """Ask once, with plan, estimate, cost and job in view (the second interrupt); go on inside what was granted.

    What is asked is decided in one step and kept in the state, and asked in the next: a node runs again from its top
    when the reply is there, and the reply must be to what was shown, whatever has changed meanwhile. An update with
    `turn` "approve" comes back here for that, "estimate" goes on with the plan that a person chose.
    """
    return {"turn": "deploy", **_next_step(state, context)}


def _next_step(state: RunState, context: Context) -> Update:
    if state.asking is not None:
        return {"asking": None, **_answered(state, context, state.asking)}
    if context.store.run(state.run_id).status is RunStatus.STOPPED:
        return {"lost": False}  # nobody is asked any more: the deployment ends the run
    if state.lost:
        return _taken_over(state, context) or _asked(_lost_job(state))
    offered = offer_secrets(state, context)
    if offered is not None:
        return {"turn": "approve", **offered}
    return _decide(state, context)


def _asked(ask: Ask) -> Update:
    return {"turn": "approve", "asking": ask}


def _decide(state: RunState, context: Context) -> Update:
    """What was granted already or by `--yes`, else what a person is asked."""
    plan, verdict, granted = state.need_plan(), state.budget, state.envelope
    cost = total_cost(state, state.need_estimate())
    if verdict and _beyond(verdict, state) and (state.request.yes or not any(c.changes for c in state.choices)):
        return _rejected(state, verdict.text)
    against = objections(state, context, plan, state.need_estimate())
    if granted and not against:
        return DECIDED
    limit = state.request.budget_usd if state.request.budget_usd is not None else context.limits.soft_usd
    grants = envelope(state, plan, cost, limit)
    if granted is None and not against and state.request.yes and verdict and verdict.verdict is Verdict.WITHIN:
        context.progress.note(f"Approved by --yes: {verdict.text}")
        return {"envelope": grants, **DECIDED}
    return _asked(_ask(state, context, verdict, grants, against))


def _answered(state: RunState, context: Context, ask: Ask) -> Update:
    """Where the reply to what was shown leads; with nothing looked at before it is read."""
    reply = Reply.model_validate(interrupt(ask.model_dump(mode="json")))
    if ask.kind is AskKind.LOST_JOB:
        return _after_lost_job(state, context, reply)
    if reply.choice is not None:
        if reply.choice > len(ask.choices):
            return _asked(ask)  # there is no such choice
        return _chosen(state, context, ask.choices[reply.choice - 1], ask.envelope)
    if not reply.approved:
        return _rejected(state, reply.why or "the job was not approved")
    if ask.budget is not None and _beyond(ask.budget, state) and (ask.budget.shared or reply.budget_usd is None):
        return _asked(_not_by_a_yes(ask, ask.budget))
    if has_begun(state) or reply.budget_usd is not None:
        return granted_more(state, ask, reply, hard_usd=context.limits.hard_usd) or _asked(sum_needed(ask))
    return {"envelope": ask.envelope, **DECIDED}


def _beyond(verdict: BudgetVerdict, state: RunState) -> bool:
    """Whether it is over a hard limit and nothing was begun that could go on: then no yes deploys it as it is."""
    return verdict.verdict is Verdict.OVER_HARD and not has_begun(state)


def _not_by_a_yes(ask: Ask, verdict: BudgetVerdict) -> Ask:
    """The same question once more, after a yes to what is over a hard limit."""
    more = "" if verdict.shared else ", say with --budget what the whole run may cost"
    said = f"A yes is not enough over a hard limit: take another plan by its number{more}, or cancel it."
    return ask if ask.text.startswith(said) else ask.model_copy(update={"text": f"{said} {ask.text}"})


def _chosen(state: RunState, context: Context, choice: PlanChoice, grants: Envelope | None) -> Update:
    """The plan that a person took instead, by their own word; one that changes nothing is a yes to what was asked."""
    if not choice.changes:
        return {"envelope": grants, **DECIDED}
    before = state.unplaced or state.need_plan()
    repair = ChangePlan(
        changes=tuple(c.model_copy(update={"by": Author.USER}) for c in choice.changes), why=choice.text
    )
    plan = apply_changes(before, repair.changes)
    context.folder.save_plan(plan)
    context.progress.note(f"Chosen instead: {choice.text}")
    held = {path: value for path, value in state.wished.items() if path not in {c.path for c in choice.changes}}
    update: Update = {"plan": plan, "wished": held, "turn": "estimate", **DECIDED}
    if state.written is False:  # another plan than the one whose time was over, and it begins anew
        update["exhausted"] = ""
    return update if state.unplaced is None else {**update, **_in_place_of_the_repair(repair, plan, state)}


def _in_place_of_the_repair(repair: ChangePlan, plan: TrainingPlan, state: RunState) -> Update:
    """What was asked about was a repair; what is tried now is the choice, and is told and remembered as that."""
    update: Update = {"tried": (*state.tried[:-1], repair), "answered": None}
    if state.attempts:
        changed = plan_diff(state.ran or plan, plan)
        last = state.attempts[-1].model_copy(update={"repair": repair, "changed": changed})
        update["attempts"] = (*state.attempts[:-1], last)
    return update


def _ask(
    state: RunState, context: Context, verdict: BudgetVerdict | None, grants: Envelope, against: tuple[str, ...]
) -> Ask:
    deployment = state.need_deployment()
    return Ask(
        kind=AskKind.APPROVAL,
        text=_question(state, deployment.job_id),
        plan=state.plan,
        estimate=state.estimate,
        budget=verdict,
        envelope=grants,
        objections=against,
        warnings=joined(state.warnings, _lost_if_interrupted(state, context)),
        choices=state.choices,
        attempt=state.sequence,
        job_id=deployment.job_id,
        hcl_path=deployment.hcl_path or "",
    )


def _lost_if_interrupted(state: RunState, context: Context) -> tuple[str, ...]:
    known = state.estimate.seconds if state.estimate else None
    return starts_anew(state.need_plan(), context.facts(), known.high if known else None)


def _question(state: RunState, job_id: str) -> str:
    """What is asked: of a repair, what failed and what would be done about it."""
    if state.exhausted:
        return more_money(state, job_id)
    if state.budget is not None and _beyond(state.budget, state):
        return f"{job_id} is over a hard limit: which of the other plans instead, or cancel it?"
    if state.answered is None or not state.tried:
        return f"Deploy {job_id}?{_then(state)}"
    repair = state.tried[-1]
    return f"{state.answered.cause} Deploy {job_id} with this repair: {repair.why or repair.kind}?{_then(state)}"


def _then(state: RunState) -> str:
    """The evaluation job behind the training, which a yes approves too."""
    told = told_words(state.need_plan())
    return f" {told}" if told else ""


def _rejected(state: RunState, why: str) -> Update:
    """The end by a no. After a failure it says what failed and what to do, for the repair would have been the way."""
    cause = state.answered
    if cause is None:
        return {"status": RunStatus.REJECTED, "detail": why}
    parts = (cause.cause, f"Not repaired: {why.rstrip('.')}.", cause.advice)
    return {"status": RunStatus.REJECTED, "detail": " ".join(part for part in parts if part)}


def _lost_job(state: RunState) -> Ask:
    deployment = state.need_deployment()
    return Ask(
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


def _after_lost_job(state: RunState, context: Context, reply: Reply) -> Update:
    """A person may take days to reply: a job that is there by now is watched, and no other deployed beside it."""
    there = _taken_over(state, context)
    if there is not None:
        return there
    if not reply.approved:
        detail = reply.why or f"job {state.need_deployment().job_id} is gone and was not deployed again"
        return {**_paid(state, context), "status": RunStatus.REJECTED, "detail": detail}
    return {**_paid(state, context), "sequence": state.sequence + 1}


def _paid(state: RunState, context: Context) -> Update:
    """The job is given up for lost: what it has cost counts. One that comes back after all is counted at its end."""
    spent = state.spent_usd + state.lost_usd
    context.store.update_run(state.run_id, cost_usd=spent)
    return {"lost": False, "lost_usd": 0.0, "spent_usd": spent}


def _taken_over(state: RunState, context: Context) -> Update | None:
    """The job that was held to be lost, where the cluster knows it after all; None where it does not."""
    deployment = state.need_deployment()
    job = context.cluster.find(deployment.job_id, deployment.namespace)
    if job is None or job.spec_sha256 != deployment.spec_sha256:
        return None
    context.progress.note(f"The cluster knows job {deployment.job_id} after all: it is watched on.")
    for stored in context.store.deployments(state.run_id):
        if stored.job_id == deployment.job_id:
            context.store.save_deployment(stored.model_copy(update={"state": DeploymentState.REGISTERED}))
    return {"lost": False, "lost_usd": 0.0}
