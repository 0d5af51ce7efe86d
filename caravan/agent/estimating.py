"""The estimate of a run's plan, whichever node asks: one place that says what of the run's state it is made of."""

from caravan.agent.context import Context
from caravan.agent.learning import learned
from caravan.agent.state import RunState
from caravan.planning.estimate import estimate
from caravan.values.estimate import Estimate
from caravan.values.plan import TrainingPlan


def estimate_of(plan: TrainingPlan, state: RunState, context: Context, *, as_seen: bool = True) -> Estimate:
    """What the plan will need, in the light of what attempts and earlier runs were seen to need.

    `as_seen` False: without what this run's own first steps were measured to take, as a plan is chosen by.
    """
    return estimate(
        plan,
        context.facts(),
        prices=context.prices,
        profile=state.profile,
        beyond=state.memory_beyond,
        measured=state.measured if as_seen else None,
        learned=learned(state, context, plan),
    )
