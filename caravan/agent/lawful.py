"""The administrator's policies over a run: what they deny of a plan, of the job in its folder, and of its money.

The judging is `caravan.planning.policy`'s and pure; here it is given what the run and the store know.
"""

from collections.abc import Sequence
from typing import Literal

from caravan.agent.context import Context
from caravan.agent.state import RunState
from caravan.planning.jobspec import knows_max_run
from caravan.planning.policy import job_denials, plan_denials, spending_denials
from caravan.values.base import Json
from caravan.values.errors import StateError
from caravan.values.estimate import Estimate
from caravan.values.failure import Evidence, Stage
from caravan.values.plan import TrainingPlan
from caravan.values.policy import Denial, Spending
from caravan.values.spending import SharedLimit

_TOLD = 8  # denials that are told at once


def require_policies(context: Context) -> None:
    """Raise StateError while a policy that there is can't be relied on: nothing is deployed then."""
    if context.policies.trouble:
        raise StateError(
            f"Nothing is deployed: {context.policies.trouble}",
            hint="Ask whoever administers the policy to mend it, then resume the run.",
        )


def denials(plan: TrainingPlan, estimate: Estimate | None, state: RunState, context: Context) -> tuple[Denial, ...]:
    """What the policies deny of a plan and of what it may cost."""
    if not context.policies.files:
        return ()
    found = plan_denials(plan, context.facts(), context.policies, own=_own(context))
    return (*_due(found, plan), *_over_budget(estimate, state, context))


def _due(found: Sequence[Denial], plan: TrainingPlan) -> tuple[Denial, ...]:
    """The denials, but for that of a digest which an image gets only when it is built: the job is judged once more."""
    pending = plan.build is not None and plan.image == plan.build.tag
    return tuple(d for d in found if not (pending and d.rule == "images.require_digest"))


def denied(state: RunState, context: Context, stage: Stage, job: Json = None) -> Evidence | None:
    """Evidence of what the policies deny of the run's plan, its cost and, where it is given, its job; None: nothing."""
    if not context.policies.files:
        return None
    found = list(denials(state.need_plan(), state.estimate, state, context))
    if job is not None and not found:
        timed = knows_max_run(context.facts().version)
        found += _due(job_denials(job, context.policies, own=_own(context), timed=timed), state.need_plan())
    return _evidence(found, stage) if found else None


def _evidence(found: Sequence[Denial], stage: Stage) -> Evidence:
    lines = [denial.line() for denial in found]
    told = tuple(lines[:_TOLD]) + ((f"Policy: {len(lines) - _TOLD} more are denied.",) if len(lines) > _TOLD else ())
    return Evidence(stage=stage, message=" ".join(told), validation_errors=told)


def _own(context: Context) -> str:
    """The run's own directory, where the job sees it: what is in there Caravan has put there."""
    return (context.own or str(context.folder.path)) if context.facts().shared_files else ""


def _over_budget(estimate: Estimate | None, state: RunState, context: Context) -> tuple[Denial, ...]:
    rules = [file.policy.money for file in context.policies.files]
    if all(rule is None for r in rules for rule in r.model_dump().values()):
        return ()
    ahead = estimate.cost_usd.high if estimate is not None and estimate.cost_usd is not None else None
    spending = Spending(
        run_usd=None if ahead is None else state.spent_usd + ahead,
        ahead_usd=ahead,
        day_usd=_spent("day", state, context),
        month_usd=_spent("month", state, context),
        user_month_usd=_spent("month", state, context, per_user=True),
    )
    return spending_denials(spending, context.policies)


def _spent(span: Literal["day", "month"], state: RunState, context: Context, *, per_user: bool = False) -> float:
    """What all runs, or those of the run's user, have cost today or this month, and what running ones may still."""
    limit = SharedLimit(usd=0, span=span, per_user=per_user, name="")
    cap = limit.cap(context.store.run(state.run_id).user, context.clock.now())
    (room,) = context.store.rooms(state.run_id, (cap,))
    return room.spent_usd + room.reserved_usd
