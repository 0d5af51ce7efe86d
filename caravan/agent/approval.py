"""What a person has allowed, and what a plan would do beyond it: the envelope seen from the run's state.

It decides nothing about repairs and deploys nothing.
"""

from collections.abc import Iterator

from caravan.agent.context import Context
from caravan.agent.rules import looks_of
from caravan.agent.state import RunState, joined
from caravan.agent.training import source_of
from caravan.analysis.several_nodes import shares_its_work
from caravan.diagnosis.ladders.packages import trusted
from caravan.diagnosis.ladders.remembered import WORKED
from caravan.planning.command import unpassed
from caravan.planning.outputs import vanishing
from caravan.planning.whose import UNSUPPORTED
from caravan.values.errors import UsageError
from caravan.values.estimate import Envelope, Estimate, beyond_held, held_fields, largest, lengths, method_of
from caravan.values.failure import PastCase
from caravan.values.guarded import kept_fields
from caravan.values.lesson_fields import UNASKED, name_of
from caravan.values.outward import unasked
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.repo import Launcher, RepoProfile


def objections(state: RunState, context: Context, plan: TrainingPlan, estimate: Estimate) -> tuple[str, ...]:
    """Why the plan is not approved already: what it does outside the envelope, or against what was asked for."""
    granted, unheard = state.envelope, not_followed(plan, state.need_profile())
    ended = (f"it was ended though it was well: {state.exhausted}",) if state.exhausted else ()
    foreign = tuple(text for case_id, text in _of_others(state, plan) if case_id not in _lessons(granted))
    foreign += tuple(
        f"the job would wait in vain for {name}, which nobody has put where it looks for it"
        for name in _lacking(state, plan)
        if granted is None or name not in granted.lacking
    )
    if granted is None:
        told = [*ended, *foreign, *vanishing(plan, context.facts()), *each_by_itself(plan, state, context)]
        told += list(beyond_held(plan, state.wished))
        told += [f"{o.path} would be {o.value}, by {plan.set_by(o.source).value}" for o in unasked(plan)]
        told += [
            f"{path} = {plan.get(path)} would not be followed: the program has no option for it" for path in unheard
        ]
        unknown = () if plan.set_by("setup.pip") in _OURS else _untrusted(state, context, plan.setup.pip)
        told += [f"package {line} is neither well known nor the repository's own" for line in unknown]
        return tuple(told)
    added = tuple(line for line in plan.setup.pip if line not in granted.packages)
    safe = set(added) - set(_untrusted(state, context, added))
    return (*ended, *foreign, *granted.objections(plan, total_cost(state, estimate), trusted=safe, unheard=unheard))


def each_by_itself(plan: TrainingPlan, state: RunState, context: Context) -> tuple[str, ...]:
    """That several nodes would each train the whole, where nothing in the code asks which of them it is on."""
    launch = plan.launch
    if launch.nodes == 1 or launch.launcher not in _TOLD_NOTHING:
        return ()
    words = (*plan.command, *plan.launch.args, *plan.env.values())
    try:
        if shares_its_work(source_of(state, context), words):
            return ()
    except UsageError:  # it may be gone since it was packed
        return ()
    return (
        f"launch.nodes is {launch.nodes}, but nothing in the code reads which node it is on (RANK, MASTER_ADDR, "
        f"init_process_group, ...): each node would train all of it by itself, for {launch.nodes} times the price",
    )


_TOLD_NOTHING = frozenset({Launcher.PYTHON, Launcher.BASH, Launcher.CLI})
"""Launchers that only start the program: what is to be done with several nodes is its own matter."""


def _lacking(state: RunState, plan: TrainingPlan) -> tuple[str, ...]:
    """Secrets that the cluster lacks after a person has said no to sending them."""
    offer = state.offer
    if offer is None or not offer.settled:
        return ()
    return tuple(name for name in offer.here if name in plan.secrets)


def _of_others(state: RunState, plan: TrainingPlan) -> Iterator[tuple[str, str]]:
    """Lessons that worked in no run of this tenant and that set more than what needs no question."""
    for case in {c.id: c for c in (*state.remembered, *state.cases)}.values():
        told = [f"{c.path} = {c.value}" for c in case.changes if _follows(plan, case, c)]
        if told and not case.own:
            yield case.id, f"{', '.join(told)} is by lesson {case.id[:8]}, which no run here has taught"


def _follows(plan: TrainingPlan, case: PastCase, change: PlanChange) -> bool:
    """Whether the plan has a field by this lesson, and it is none of those that a lesson may set without a question."""
    origin = plan.provenance.get(change.path)
    if origin is None or change.path in UNASKED:
        return False
    if origin.by is not Author.MEMORY and not (origin.by is Author.REPAIR and origin.why.startswith(WORKED)):
        return False
    now = plan.get(change.path)
    if name_of(case) in origin.why:
        return True
    if isinstance(now, list) and isinstance(change.value, list):
        return any(item in now for item in change.value)
    return now is not None and now == change.value


def _lessons(granted: Envelope | None) -> tuple[str, ...]:
    return granted.lessons if granted else ()


_OURS = frozenset({Author.DEFAULT, Author.REPOSITORY, Author.CLUSTER, Author.ANSWER, Author.USER})
"""Authors whose packages need no question in a first plan; a model's and memory's are looked at."""


def _untrusted(state: RunState, context: Context, lines: tuple[str, ...]) -> tuple[str, ...]:
    looks = looks_of(lambda: context.toolbox(source_of(state, context)), state.need_profile())
    return tuple(line for line in lines if not trusted(line, looks))


def not_followed(plan: TrainingPlan, profile: RepoProfile) -> tuple[str, ...]:
    """Fields that a person asked for and the training would not follow; what it does anyway needs no option."""
    anyway = {"training.method": profile.method, "model.id": profile.base_model, "dataset.path": profile.dataset}
    return tuple(
        path
        for path in unpassed(plan)
        if plan.set_by(path) in (Author.USER, Author.ANSWER)
        and (plan.get(path) != anyway.get(path) or _unsupported(plan, path))
    )


def _unsupported(plan: TrainingPlan, path: str) -> bool:
    origin = plan.provenance.get(path)
    return origin is not None and origin.why.endswith(UNSUPPORTED)


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
        kept=kept_fields(plan),
        run_s=plan.limits.max_run_s,
        most=largest(plan, granted),
        lengths=lengths(plan),
        secrets=joined(granted.secrets, plan.secrets),
        lacking=joined(granted.lacking, _lacking(state, plan)),
        lessons=joined(granted.lessons, (case_id for case_id, _ in _of_others(state, plan))),
    )
