"""From a plan to an approved job: estimate, budget, specification, validation, approval."""

from collections.abc import Sequence

from langgraph.types import interrupt

from caravan.agent.approval import envelope, objections, total_cost
from caravan.agent.context import Context
from caravan.agent.state import RunState, Update, joined
from caravan.diagnosis.evidence import evidence_of
from caravan.hcl import mismatches, parse_hcl, read_back, render_hcl
from caravan.planning.budget import judge_budget
from caravan.planning.checks import check_image, check_job, check_plan
from caravan.planning.choose import choose
from caravan.planning.estimate import estimate as estimate_plan
from caravan.planning.jobspec import to_job_spec
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import JobRefused
from caravan.values.estimate import Verdict
from caravan.values.failure import Evidence, Stage
from caravan.values.job import ClusterFacts, DryRun, JobSpec
from caravan.values.plan import TrainingPlan, apply_changes
from caravan.values.run import Deployment, RunStatus


def estimate(state: RunState, context: Context) -> Update:
    """Estimate the plan; where it does not fit, take the chooser's cheapest that does."""
    plan, facts = state.need_plan(), context.facts()
    beyond = state.memory_beyond
    first = estimate_plan(plan, facts, prices=context.prices, profile=state.profile, beyond=beyond)
    chosen = apply_changes(plan, choose(_with_what_is_left(plan, state), first, facts, beyond))
    if chosen.digest() == plan.digest():
        return {"estimate": first}
    context.folder.save_plan(chosen)
    return {
        "plan": chosen,
        "estimate": estimate_plan(chosen, facts, prices=context.prices, profile=state.profile, beyond=beyond),
    }


def _with_what_is_left(plan: TrainingPlan, state: RunState) -> TrainingPlan:
    """The plan with the run's cost limit (its own, or `--budget`) less what earlier attempts have spent."""
    limit = _cost_limit(plan, state)
    if limit is None:
        return plan
    left = plan.limits.model_copy(update={"max_cost_usd": max(limit - state.spent_usd, 0.0)})
    return plan.model_copy(update={"limits": left})


def _cost_limit(plan: TrainingPlan, state: RunState) -> float | None:
    limits = [x for x in (plan.limits.max_cost_usd, state.request.budget_usd) if x is not None]
    return min(limits, default=None)


def budget_gate(state: RunState, context: Context) -> Update:
    """Hold the estimate, and what was spent already, against the limits."""
    verdict = judge_budget(
        state.need_estimate(),
        soft_usd=context.limits.soft_usd,
        hard_usd=context.limits.hard_usd,
        spent_usd=state.spent_usd,
        budget_usd=_cost_limit(state.need_plan(), state),
    )
    return {"budget": verdict}


def generate_spec(state: RunState, context: Context) -> Update:
    """Render the job of this sequence number and keep it in the run's folder."""
    spec = _job_spec(state, context)
    hcl = render_hcl(spec, templates=context.templates)
    different = mismatches(spec, parse_hcl(hcl))
    if different:
        message = f"the job reads back differently: {different[0]}"
        return {"failure": Evidence(stage=Stage.VALIDATE, message=message, validation_errors=different)}
    path = context.folder.save_job(state.sequence, hcl, None)
    deployment = Deployment(
        run_id=state.run_id,
        attempt=state.sequence,
        job_id=spec.id,
        namespace=spec.namespace or "default",
        spec_sha256=spec.digest(),
        plan_sha256=state.need_plan().digest(),
        hcl_path=str(path),
    )
    # A failure that the repair before this answered is over; what comes now is judged anew.
    return {"deployment": deployment, "failure": None, "outcome": None, "diagnosis": None}


def validate_spec(state: RunState, context: Context) -> Update:
    """Prove the job before anything is registered: by ourselves first, then by the cluster's parse, validate, plan."""
    if state.failure:
        return {}  # it was not rendered as it was meant
    problems = check_plan(state.need_plan(), context.facts())
    if problems:
        return {"failure": _impossible(problems, state, context)}
    hcl, _ = context.folder.load_job(state.sequence)
    try:
        job = context.cluster.parse(hcl)
    except JobRefused as error:
        return {"failure": Evidence(stage=Stage.VALIDATE, message=error.message, validation_errors=(error.message,))}
    different = mismatches(read_back(parse_hcl(hcl)), job)
    if different:
        message = f"the cluster reads the job differently: {different[0]}"
        return {"failure": Evidence(stage=Stage.VALIDATE, message=message, validation_errors=different)}
    answer = context.cluster.check(job)
    context.folder.save_job(state.sequence, hcl, job)
    failure = _refusal(answer)
    if failure:
        return {"failure": failure}
    warnings = [*answer.warnings, *(f"it will wait: {f.line()}" for f in answer.failures)]
    return {"warnings": joined(state.warnings, tuple(warnings))}


def _impossible(problems: Sequence[str], state: RunState, context: Context) -> Evidence:
    """Our own words on a plan that can't run. Where all that is missing is a place, with the cluster's reasons too.

    Those tell the cause, and a cause may have a repair.
    """
    plan, facts = state.need_plan(), context.facts()
    said = Evidence(stage=Stage.VALIDATE, message=" ".join(problems))
    image, job = check_image(plan, facts), check_job(plan, facts)
    if job:
        return said if job != image or not plan.image else said.model_copy(update={"validation_errors": image})
    hcl, _ = context.folder.load_job(state.sequence)
    try:
        answer = context.cluster.check(context.cluster.parse(hcl))
    except JobRefused:
        return said
    return evidence_of(Stage.VALIDATE, check=answer, message=said.message)


def _job_spec(state: RunState, context: Context) -> JobSpec:
    """The job of this sequence number: a pure function of the state and the cluster's facts."""
    plan, facts = state.need_plan(), context.facts()
    return to_job_spec(
        plan.model_copy(update={"exclude_nodes": joined(plan.exclude_nodes, _avoidable(state, facts))}),
        facts,
        run_id=state.run_id,
        attempt=state.sequence,
        # Two digits, because Nomad's evaluations endpoint matches ids by prefix: a1 would also answer for a10.
        job_id=f"caravan-{state.run_id}-a{state.sequence:02d}",
        templates=context.templates,
    )


def _avoidable(state: RunState, facts: ClusterFacts) -> tuple[str, ...]:
    """The nodes to keep away from, the newest trouble first, as far as that leaves another node to run on."""
    excluded = state.need_plan().exclude_nodes
    left = {n.name for n in facts.usable_nodes() if n.name not in excluded}
    avoided = []
    for name in reversed(state.avoid_nodes):
        if left - {name}:
            left.discard(name)
            avoided.append(name)
    return tuple(avoided)


def _refusal(answer: DryRun) -> Evidence | None:
    """Evidence when the job is invalid or no node could ever take it; None when it can run now or has to wait."""
    if answer.errors:
        return evidence_of(Stage.VALIDATE, check=answer)
    hopeless = tuple(f for f in answer.failures if f.nodes_exhausted == 0 and not f.quota_exhausted)
    if hopeless:
        return evidence_of(
            Stage.VALIDATE, check=answer.model_copy(update={"failures": hopeless}), message=hopeless[0].line()
        )
    return None


def approve(state: RunState, context: Context) -> Update:
    """Ask once, with plan, estimate, cost and job in view (the second interrupt); go on inside what was granted."""
    if state.lost:
        return _ask_about_lost_job(state)
    if context.store.run(state.run_id).status is RunStatus.STOPPED:
        return {}  # nobody is asked any more: the deployment ends the run
    plan, verdict, granted = state.need_plan(), state.budget, state.envelope
    cost = total_cost(state, state.need_estimate())
    if verdict and verdict.verdict is Verdict.OVER_HARD:
        return _rejected(state, verdict.text)
    against = objections(state, context, plan, state.need_estimate())
    if granted and not against:
        return {}
    limit = state.request.budget_usd if state.request.budget_usd is not None else context.limits.soft_usd
    grants = envelope(state, context, plan, cost, limit)
    if granted is None and not against and state.request.yes and verdict and verdict.verdict is Verdict.WITHIN:
        context.progress.note(f"Approved by --yes: {verdict.text}")
        return {"envelope": grants}
    deployment = state.need_deployment()
    ask = Ask(
        kind=AskKind.APPROVAL,
        text=_question(state, deployment.job_id),
        plan=plan,
        estimate=state.estimate,
        budget=verdict,
        envelope=grants,
        objections=against,
        warnings=state.warnings,
        attempt=state.sequence,
        job_id=deployment.job_id,
        hcl_path=deployment.hcl_path or "",
    )
    reply = Reply.model_validate(interrupt(ask.model_dump(mode="json")))
    if not reply.approved:
        return _rejected(state, reply.why or "the job was not approved")
    return {"envelope": grants}


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
