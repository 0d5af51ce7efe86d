"""The money of all runs as one run sees it: which limits it shares, what is left, what it reserves, what it has cost.

The judging is `caravan.planning.budget`'s and pure; here it is given what the store knows.
"""

from typing import Final, NamedTuple

from caravan.agent.context import Context
from caravan.agent.costs import held_s
from caravan.agent.elapsed import Age
from caravan.agent.state import RunState
from caravan.planning.budget import shared_of
from caravan.planning.catalogue import CATALOGUE
from caravan.values.estimate import Estimate
from caravan.values.plan import TrainingPlan
from caravan.values.run import Snapshot
from caravan.values.spending import Cap, Reservation, Room

_SOMETHING: Final = 0.01
"""US dollars that must be left for a job whose cost is not known."""
_MARGIN: Final = 0.25
"""Of an estimate's dearer end what is reserved beside it, and so much of a reservation is asked for when it ends."""
_DEAREST: Final = max(gpu.usd_per_hour or 0.0 for gpu in CATALOGUE)


class Rate(NamedTuple):
    """US dollars an hour of all nodes of a job; `assumed`: nobody says its price, the dearest known one is taken."""

    usd_per_hour: float
    assumed: bool = False


def rate_of(plan: TrainingPlan, estimate: Estimate) -> Rate:
    """What an hour of the plan's job counts for. Without a price it is not nothing: limits must hold all the same."""
    if estimate.usd_per_hour is not None:
        return Rate(estimate.usd_per_hour)
    return Rate(_DEAREST * plan.resources.gpus * plan.launch.nodes, assumed=plan.resources.gpus > 0)


def caps(state: RunState, context: Context) -> tuple[Cap, ...]:
    """The limits that the run shares with others: those of settings and profile, and those of every policy."""
    user, now = context.store.run(state.run_id).user, context.clock.now()
    return tuple(limit.cap(user, now) for limit in (*context.limits.shared, *shared_of(context.policies)))


def rooms(state: RunState, context: Context) -> tuple[Room, ...]:
    """What those limits leave for the run."""
    held = caps(state, context)
    return context.store.rooms(state.run_id, held) if held else ()


def approved_usd(state: RunState, context: Context) -> float | None:
    """What the run may spend in all by its own limits, as it was approved; None before that."""
    granted = state.envelope
    if granted is None:
        return None
    said = [x for x in (state.request.budget_usd, state.need_plan().limits.max_cost_usd) if x is not None]
    approved = context.limits.hard_usd if granted.unknown_cost and not said else granted.cost_usd
    return min((approved, *said))


def reserve(state: RunState, context: Context) -> Reservation:
    """Reserve the attempt's dearest end and a margin, of what is approved; one step over the store.

    What is left is taken if the dearest end fits in. Where the cost is not known, it is all that is approved.
    """
    estimate, approved = state.need_estimate(), approved_usd(state, context) or 0.0
    known = estimate.cost_usd
    need = state.spent_usd + (known.high if known is not None else _SOMETHING)
    margin = need + _MARGIN * known.high if known is not None else approved
    want = max(need, min(approved, margin))
    if rate_of(state.need_plan(), estimate).usd_per_hour == 0:
        need = want = state.spent_usd  # it costs nothing: others need not wait for its money
    return context.store.reserve(state.run_id, need_usd=need, want_usd=want, caps=caps(state, context))


def reserve_more(state: RunState, context: Context, reserved: float) -> float:
    """What the running job may spend in all after more of what is approved was asked for: no less than `reserved`.

    Others come first to what they have reserved: nothing is added that a shared limit does not leave.
    """
    want = min(reserved * (1 + _MARGIN), approved_usd(state, context) or reserved)
    if want <= reserved:
        return reserved
    answer = context.store.reserve(state.run_id, need_usd=reserved, want_usd=want, caps=caps(state, context))
    return max(reserved, answer.usd or 0.0)


def cost_usd(state: RunState, context: Context, last: Snapshot, age: Age) -> float:
    """What the job of that age has cost as far as it was seen: at least what it had cost when an earlier agent looked.

    The price is for all nodes of the plan together, and each has its allocation.
    """
    plan, held = state.need_plan(), held_s(last, since=age.since, now=age.now)
    cost = rate_of(plan, state.need_estimate()).usd_per_hour * held / 3600 / plan.launch.nodes
    return cost if last.allocations else max(cost, seen_usd(state, context))


def seen_usd(state: RunState, context: Context) -> float:
    """What the running attempt had cost when it was last seen alive, by this agent or one before it."""
    return max(0.0, context.store.run(state.run_id).cost_usd - state.spent_usd)
