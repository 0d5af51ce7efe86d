"""What a person has allowed, and what a plan would do beyond it: the envelope seen from the run's state.

It decides nothing about repairs and deploys nothing.
"""

from caravan.agent.context import Context
from caravan.agent.rules import looks_of
from caravan.agent.state import RunState, joined
from caravan.diagnosis.ladders.packages import trusted
from caravan.planning.command import unpassed
from caravan.values.estimate import Envelope, Estimate, beyond_held, held_fields, method_of
from caravan.values.plan import Author, TrainingPlan
from caravan.values.repo import RepoProfile


def objections(state: RunState, context: Context, plan: TrainingPlan, estimate: Estimate) -> tuple[str, ...]:
    """Why the plan is not approved already: what it does outside the envelope, or against what was asked for."""
    granted, unheard = state.envelope, not_followed(plan, state.need_profile())
    if granted is None:
        told = list(beyond_held(plan, state.wished))
        told += [
            f"{path} = {plan.get(path)} would not be followed: the program has no option for it" for path in unheard
        ]
        unknown = () if plan.set_by("setup.pip") in _OURS else _untrusted(state, context, plan.setup.pip)
        told += [f"package {line} is neither well known nor the repository's own" for line in unknown]
        return tuple(told)
    added = tuple(line for line in plan.setup.pip if line not in granted.packages)
    safe = set(added) - set(_untrusted(state, context, added))
    return granted.objections(plan, total_cost(state, estimate), trusted=safe, unheard=unheard)


_OURS = frozenset({Author.DEFAULT, Author.REPOSITORY, Author.CLUSTER, Author.ANSWER, Author.USER})
"""Authors whose packages need no question in a first plan; a model's and memory's are looked at."""


def _untrusted(state: RunState, context: Context, lines: tuple[str, ...]) -> tuple[str, ...]:
    looks = looks_of(lambda: context.toolbox(context.open_tree(state.request.source)), state.need_profile())
    return tuple(line for line in lines if not trusted(line, looks))


def not_followed(plan: TrainingPlan, profile: RepoProfile) -> tuple[str, ...]:
    """Fields that a person asked for and the training would not follow; what it does anyway needs no option."""
    anyway = {"training.method": profile.method, "model.id": profile.base_model, "dataset.path": profile.dataset}
    return tuple(
        path
        for path in unpassed(plan)
        if plan.set_by(path) in (Author.USER, Author.ANSWER) and plan.get(path) != anyway.get(path)
    )


def total_cost(state: RunState, estimate: Estimate) -> float | None:
    """What was spent and the dearer end of the estimate, in US dollars; None when that is not known."""
    cost = estimate.cost_usd
    return None if cost is None else state.spent_usd + cost.high


def envelope(state: RunState, plan: TrainingPlan, cost_usd: float | None, limit_usd: float) -> Envelope:
    """What approving grants: this plan's choices beside those granted before."""
    granted = state.envelope or Envelope(cost_usd=0, held=state.wished)
    method = method_of(plan)
    return Envelope(
        cost_usd=max(cost_usd or 0.0, limit_usd, granted.cost_usd),
        unknown_cost=cost_usd is None or granted.unknown_cost,
        methods=joined(granted.methods, (method,) if method else ()),
        images=joined(granted.images, (plan.image,) if plan.image else ()),
        mounts=joined(granted.mounts, plan.mounts),
        datacenters=joined(granted.datacenters, plan.datacenters),
        packages=joined(granted.packages, plan.setup.pip),
        held=held_fields(plan, granted),
        unheard=joined(granted.unheard, not_followed(plan, state.need_profile())),
    )
