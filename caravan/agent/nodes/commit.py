"""From a plan to a job: estimate, budget, specification. What follows is in `validate` and `approve`."""

from caravan.agent.context import Context
from caravan.agent.estimating import estimate_of
from caravan.agent.money import rooms
from caravan.agent.resuming import for_the_rest, left_of
from caravan.agent.smoke import gate
from caravan.agent.state import RunState, Update, joined
from caravan.agent.troubled import spared
from caravan.hcl import mismatches, parse_hcl, render_hcl
from caravan.planning.budget import judge_budget
from caravan.planning.choose import chosen as cheapest
from caravan.planning.evaluation_place import evaluation_changes
from caravan.planning.evaluation_time import with_evaluation
from caravan.planning.jobspec import to_job_spec
from caravan.planning.options import table
from caravan.planning.policy import fill, within
from caravan.planning.smoke import smoke_changes
from caravan.values.failure import Evidence, Stage
from caravan.values.job import JobSpec
from caravan.values.model_usage import used
from caravan.values.plan import TrainingPlan, apply_changes
from caravan.values.run import Deployment


def estimate(state: RunState, context: Context) -> Update:
    """Estimate the plan; where it does not fit, take the chooser's cheapest that does."""
    plan, facts = state.need_plan(), context.facts()
    first = estimate_of(plan, state, context, as_seen=False)
    if state.request.reproduces is not None:  # its plan stands, whatever would be cheaper or safer now
        return {"estimate": with_evaluation(for_the_rest(first, left_of(state, plan)), plan)}
    # Never less than the formula says: it is a choice of the GPU.
    more = max(state.memory_beyond, first.learned_ratio or 1.0)
    allowed = within(facts, context.policies)
    begun = apply_changes(plan, smoke_changes(plan, first, context.smoke))  # its first steps take time, too
    choice = cheapest(
        _with_what_is_left(begun, state),
        first,
        allowed,
        more,
        prices=context.prices,
        profile=state.profile,
        measured=state.measured,
    )
    chosen = apply_changes(plan, choice.changes)
    chosen = apply_changes(chosen, fill(chosen, facts, context.policies, gpu=first.gpu))
    chosen = apply_changes(chosen, smoke_changes(chosen, first, context.smoke))
    chosen = apply_changes(chosen, evaluation_changes(chosen))
    known = estimate_of(chosen, state, context).model_copy(update={"alternatives": table(choice)})
    known = with_evaluation(for_the_rest(known, left_of(state, chosen)), chosen)
    if chosen.digest() == plan.digest():
        return {"estimate": known}
    context.folder.save_plan(chosen)
    return {"plan": chosen, "estimate": known}


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
    """Hold the estimate, and what was spent already, against the limits: the run's own, and those that runs share."""
    verdict = judge_budget(
        state.need_estimate(),
        soft_usd=context.limits.soft_usd,
        hard_usd=context.limits.hard_usd,
        spent_usd=state.spent_usd + _asked_usd(state, context),
        budget_usd=_cost_limit(state.need_plan(), state),
        rooms=rooms(state, context),
    )
    return {"budget": verdict}


def _asked_usd(state: RunState, context: Context) -> float:
    """What the run has spent on language models: a part of its cost like the rest."""
    return used(context.store.events(state.run_id)).usd or 0.0


def generate_spec(state: RunState, context: Context) -> Update:
    """Render the job of this sequence number and keep it in the run's folder."""
    spec = job_spec(state, context)
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
    clean = ("failure", "outcome", "diagnosis", "gate", "evaluating")
    return {"deployment": deployment, **dict.fromkeys(clean)}


def job_spec(state: RunState, context: Context) -> JobSpec:
    """The job of this sequence number: a pure function of the state and the cluster's facts."""
    plan, facts = state.need_plan(), context.facts()
    # The newest trouble first, as far as that leaves nodes to run on.
    avoided = spared(plan, facts, tuple(reversed(state.avoid_nodes)))
    return to_job_spec(
        plan.model_copy(update={"exclude_nodes": joined(plan.exclude_nodes, avoided)}),
        facts,
        run_id=state.run_id,
        attempt=state.sequence,
        # Two digits, because Nomad's evaluations endpoint matches ids by prefix: a1 would also answer for a10.
        job_id=f"caravan-{state.run_id}-a{state.sequence:02d}",
        templates=context.templates,
        gate=gate(plan, state, context),
    )
