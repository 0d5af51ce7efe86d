"""Nodes that gave trouble to runs of this store not long ago, and ones that served since: a later plan prefers others.

A preference, never a bar: the trouble may be over, and a node that is preferred less is better than none. The store
keeps it as events of the run that saw it; nothing of it is a lesson, for it speaks of one cluster's machines alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from caravan.agent.context import Context
from caravan.agent.recalled import identities
from caravan.agent.state import RunState
from caravan.planning.cluster_fit import holds, members_on, takers
from caravan.values.base import Json
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan
from caravan.values.run import RunEvent

KIND: Final = "node_trouble"
"""Kind of the event; one with the failure `no_failure` says that a training ended well there."""
_WELL: Final = FailureClass.NO_FAILURE
_LASTS: Final = {
    FailureClass.GPU_NODE_BROKEN: timedelta(days=1),  # until somebody has seen to it
    FailureClass.CUDA_DRIVER_TOO_OLD: timedelta(days=7),  # drivers are renewed by plan
    FailureClass.GPU_MEMORY_CONTENDED: timedelta(hours=1),  # another's process: it ends by itself
}
"""How long a node is preferred less after each cause."""
_OF_THE_CODE: Final = frozenset({FailureClass.CUDA_DRIVER_TOO_OLD})
"""Causes that say nothing to other code: a node whose driver is too old for one may serve the next."""
_LOOKED_AT: Final = 40  # runs, the newest: each is one small query
_MOST: Final = 10  # nodes
_WEIGHT: Final = -100
_NAME: Final = "${node.unique.name}"


class Trouble(NamedTuple):
    """What a run saw of a node, and when."""

    node: str
    failure: FailureClass
    run_id: str
    at: datetime


def keep_trouble(state: RunState, context: Context, diagnosis: Diagnosis, at: datetime) -> None:
    """Store that a node gave trouble, where the cause is the node's; `at`: a time that is the same on a second call."""
    if diagnosis.failure in _LASTS and diagnosis.node_name:
        _keep(state, context, diagnosis.node_name, diagnosis.failure, at)


def keep_well(state: RunState, context: Context) -> None:
    """Store that a training on a GPU ended well on its node."""
    outcome = state.outcome
    if outcome is None or not outcome.node_name or not outcome.finished_at or not state.need_plan().resources.gpus:
        return
    _keep(state, context, outcome.node_name, _WELL, outcome.finished_at)


def _keep(state: RunState, context: Context, node: str, failure: FailureClass, at: datetime) -> None:
    where: list[Json] = list(identities(state))
    data: dict[str, Json] = {"node": node, "failure": failure.value, "cluster": state.request.cluster}
    text = f"{node}: {failure.value.replace('_', ' ')}"
    context.store.add_event(state.run_id, RunEvent(at=at, kind=KIND, text=text, data={**data, "repository": where}))


def preferring_others(plan: TrainingPlan, state: RunState, context: Context) -> tuple[PlanChange, ...]:
    """The wish for other nodes than those that gave trouble, as far as others could take the plan."""
    if not plan.resources.gpus or plan.set_by("affinities") in STANDING:
        return ()
    return wishes(plan, context.facts(), known_trouble(state, context))


def known_trouble(state: RunState, context: Context) -> tuple[Trouble, ...]:
    """The troubles of this cluster's nodes that still count, the newest first, one for each node."""
    found: dict[str, Trouble] = {}
    for seen in sorted(_events(state, context), key=lambda trouble: trouble.at, reverse=True):
        found.setdefault(seen.node, seen)
    now = context.clock.now()
    return tuple(t for t in found.values() if t.failure in _LASTS and now - t.at <= _LASTS[t.failure])[:_MOST]


def _events(state: RunState, context: Context) -> Iterator[Trouble]:
    ours = set(identities(state))
    causes = {failure.value: failure for failure in (*_LASTS, _WELL)}
    for run in context.store.runs(limit=_LOOKED_AT):
        if run.id == state.run_id or run.request.cluster != state.request.cluster:
            continue
        for event in context.store.events(run.id):
            failure, theirs = causes.get(str(event.data.get("failure"))), event.data.get("repository")
            if event.kind != KIND or failure is None or not isinstance(theirs, list):
                continue
            same = bool(ours & {str(t) for t in theirs})
            if same or failure not in _OF_THE_CODE:
                yield Trouble(str(event.data.get("node")), failure, run.id, event.at)


def wishes(plan: TrainingPlan, facts: ClusterFacts, troubles: Iterable[Trouble]) -> tuple[PlanChange, ...]:
    """An affinity against each of the nodes that can be spared."""
    known = {trouble.node: trouble for trouble in troubles}
    nodes = spared(plan, facts, tuple(known))
    if not nodes:
        return ()
    wished: list[Json] = [wish.model_dump(mode="json") for wish in plan.affinities]
    wished += [{"attribute": _NAME, "operator": "=", "value": name, "weight": _WEIGHT} for name in nodes]
    why = "; ".join(_told(known[name]) for name in nodes)
    return (PlanChange(path="affinities", value=wished, by=Author.MEMORY, why=f"rather another node: {why}"[:300]),)


def _told(trouble: Trouble) -> str:
    return f"{trouble.node} had {trouble.failure.replace('_', ' ')} in run {trouble.run_id} on {trouble.at:%Y-%m-%d}"


def spared(plan: TrainingPlan, facts: ClusterFacts, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names, the first ones first, without whose nodes the plan still has a place."""
    left, found = {node.name: node for node in takers(plan, facts)}, list[str]()
    for name in names:
        rest = {other: node for other, node in left.items() if other != name}
        if name in left and _enough(rest.values(), plan):
            left, found = rest, [*found, name]
    return tuple(found)


def _enough(nodes: Iterable[NodeFacts], plan: TrainingPlan) -> bool:
    """Whether these nodes, were they empty, have room for all members of the plan."""
    return sum(members_on(node, plan) for node in nodes if holds(node, plan)) >= plan.launch.nodes
