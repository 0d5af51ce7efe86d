"""Whether a plan has a place, asked of the cluster before anything is registered, and the nearest plans that have one.

The finding is `caravan.planning.alternatives`' and pure; here it is given the cluster's dry run.
"""

from collections.abc import Callable, Sequence

from caravan.agent.context import Context
from caravan.agent.estimating import estimate_of
from caravan.agent.lawful import denials
from caravan.agent.nodes.commit import job_spec
from caravan.agent.state import RunState, joined
from caravan.hcl import render_hcl
from caravan.planning.alternatives import nearest
from caravan.planning.checks import check_plan
from caravan.planning.cluster_fit import takers
from caravan.planning.savings import cheaper
from caravan.values.dialogue import PlanChoice
from caravan.values.errors import JobRefused
from caravan.values.estimate import Estimate, Verdict
from caravan.values.failure import RetryElsewhere
from caravan.values.job import ClusterFacts, DryRun, PlacementFailure
from caravan.values.plan import TrainingPlan


def hopeless(answer: DryRun) -> tuple[PlacementFailure, ...]:
    """The dry run's failures that no waiting mends: of a group that no node was only too full for."""
    return tuple(f for f in answer.failures if f.nodes_exhausted == 0 and not f.quota_exhausted)


def dry_run(plan: TrainingPlan, state: RunState, context: Context) -> DryRun:
    """The cluster's validate and plan of the job that this plan would become; nothing is registered or kept."""
    spec = job_spec(state.model_copy(update={"plan": plan}), context)
    try:
        return context.cluster.check(context.cluster.parse(render_hcl(spec, templates=context.templates)))
    except JobRefused as error:
        return DryRun(errors=(error.message,))


def has_place(plan: TrainingPlan, state: RunState, context: Context, *, now: bool = False) -> bool:
    """Whether the cluster would take the plan's job; `now`: without waiting."""
    if check_plan(plan, context.facts()):
        return False
    answer = dry_run(plan, state, context)
    return not (answer.errors or (answer.failures if now else hopeless(answer)))


def cheaper_plans(plan: TrainingPlan, state: RunState, context: Context) -> tuple[PlanChoice, ...]:
    """Other plans for one whose cost is over a limit; empty where it is not, or none costs less."""
    verdict, estimated = state.budget, _estimator(state, context)
    if verdict is None or verdict.verdict is Verdict.WITHIN:
        return ()
    left = verdict.left_usd or 0.0
    if verdict.verdict is Verdict.OVER_SOFT:
        left = min(left, verdict.soft_usd - state.spent_usd)
    return cheaper(
        plan,
        state.need_estimate(),
        left,
        estimate=estimated,
        allowed=lambda trial: has_place(trial, state, context) and not denials(trial, estimated(trial), state, context),
    )


def _estimator(state: RunState, context: Context) -> Callable[[TrainingPlan], Estimate]:
    """Estimates plans of the run, each once."""
    known = dict[str, Estimate]()

    def estimated(candidate: TrainingPlan) -> Estimate:
        digest = candidate.digest()
        if digest not in known:
            known[digest] = estimate_of(candidate, state, context)
        return known[digest]

    return estimated


def other_plans(
    plan: TrainingPlan,
    state: RunState,
    context: Context,
    failures: Sequence[PlacementFailure],
    *,
    now: bool = False,
) -> tuple[PlanChoice, ...]:
    """The nearest plans that have a place and that the policies allow, for one that has no place (now).

    Where the plan would wait, waiting is the first, and the others have a place at once; with `now` they have that in
    any case.
    """
    facts, waits = context.facts(), now or (bool(failures) and not hopeless(DryRun(failures=tuple(failures))))
    estimated = _estimator(state, context)
    return nearest(
        plan,
        facts,
        estimate=estimated,
        prices=context.prices,
        failures=failures,
        placed=lambda candidate: has_place(candidate, state, context, now=waits),
        allowed=lambda candidate: not denials(candidate, estimated(candidate), state, context),
    )


def all_avoided(repair: RetryElsewhere, plan: TrainingPlan, state: RunState, facts: ClusterFacts) -> bool:
    """Whether the node that it leads away from is the last: it failed on each that could take the plan."""
    avoided, nodes = joined(state.avoid_nodes, repair.avoid_nodes), takers(plan, facts)
    led_away = bool(repair.avoid_nodes) and bool(state.avoid_nodes)
    return led_away and bool(nodes) and all(node.name in avoided for node in nodes)
