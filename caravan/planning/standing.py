"""Whether a plan has a place on a cluster: never, not as things are, not now, or yes. Pure questions on facts.

Totals are the inventory's; what is free now is the cluster's dry run's to say. It knows no repository and no price.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from caravan.planning.cluster_fit import holds, members_on, takers
from caravan.values.job import ClusterFacts, NodeFacts, PlacementFailure
from caravan.values.plan import TrainingPlan


class Standing(StrEnum):
    """How a plan stands to the nodes."""

    FREE = "free"  # nothing speaks against it
    NOT_NOW = "not now"  # the nodes that could take it are occupied: waiting helps
    NOT_AS_THINGS_ARE = "not as things are"  # nodes that would do are drained, ineligible or down
    NEVER = "never"  # there is no such node


class Place(NamedTuple):
    """A plan's standing, the nodes that it rests on, and both in a line."""

    standing: Standing
    nodes: tuple[str, ...]
    text: str


def could_take(plan: TrainingPlan, facts: ClusterFacts) -> tuple[NodeFacts, ...]:
    """The usable nodes that would take the plan were they empty: each for itself has all that is asked for.

    What is not known of a node (and constraints, which only the cluster can judge) speaks for it. Images don't count:
    no scheduler looks at them, and one that no node has is said apart (`check_image`).
    """
    return tuple(n for n in takers(plan, facts) if holds(n, plan) and has_volumes(n, plan))


def members_placed(plan: TrainingPlan, facts: ClusterFacts) -> int:
    """How many members of the plan's group have room at the same time, were the nodes empty: no more than it has."""
    return min(plan.launch.nodes, sum(members_on(node, plan) for node in could_take(plan, facts)))


def has_volumes(node: NodeFacts, plan: TrainingPlan) -> bool:
    """Whether the node has the plan's host volumes, writable where that is asked for."""
    wanted = [m for m in plan.mounts if m.kind == "host"]
    have = node.host_volumes
    return all(m.source in have and (m.read_only or not have[m.source].read_only) for m in wanted)


def would_do(plan: TrainingPlan, facts: ClusterFacts) -> tuple[NodeFacts, ...]:
    """The nodes that take no new work now and would take the plan if they did.

    Of a node that is down a real cluster tells no resources: it is not counted.
    """
    away = [n for n in facts.nodes if not (n.ready and n.eligible) and n.drivers]
    woken = tuple(n.model_copy(update={"ready": True, "eligible": True}) for n in away)
    found = {n.id for n in could_take(plan, facts.model_copy(update={"nodes": woken}))}
    return tuple(n for n in away if n.id in found)


def place_of(plan: TrainingPlan, facts: ClusterFacts, failures: Sequence[PlacementFailure] = ()) -> Place:
    """How the plan stands. `failures` are the dry run's; with none it is held to be free where a node could take it."""
    able = could_take(plan, facts) if members_placed(plan, facts) == plan.launch.nodes else ()
    hopeless = any(not f.nodes_exhausted and not f.quota_exhausted for f in failures)
    if able and not hopeless:
        if not failures:
            return Place(Standing.FREE, _names(able), "")
        return Place(Standing.NOT_NOW, _names(able), f"not now: {behind(failures)} on {_listed(_names(able))}")
    sleeping = would_do(plan, facts)
    if sleeping and not able:
        states = "; ".join(f"{n.name} is {_state(n)}" for n in sleeping[:_SHOWN])
        more = f" and {len(sleeping) - _SHOWN} more" if len(sleeping) > _SHOWN else ""
        return Place(
            Standing.NOT_AS_THINGS_ARE, _names(sleeping), f"not as things are: {states}{more}, and would take it"
        )
    reasons = "; ".join(f.line() for f in failures)
    return Place(Standing.NEVER, (), "never: no node has all that is asked for" + (f" ({reasons})" if reasons else ""))


def behind(failures: Iterable[PlacementFailure]) -> str:
    """What others hold, from the dry run's dimensions: `GPUs are in use`, `memory is in use`, a used-up quota."""
    dimensions = dict.fromkeys(d.split(":")[0].strip() for f in failures for d in f.dimension_exhausted)
    quotas = dict.fromkeys(q for f in failures for q in f.quota_exhausted)
    names = [_NAMES.get(d, d) for d in dimensions if d]
    said = [f"{_listed(names)} {'are' if len(names) > 1 or names == ['GPUs'] else 'is'} in use"] if names else []
    said += [f"quota {q} is used up" for q in quotas]
    return ", ".join(said) or "the room is in use"


_NAMES = {"devices": "GPUs", "cpu": "CPU"}
_SHOWN = 3


def _names(nodes: Iterable[NodeFacts]) -> tuple[str, ...]:
    return tuple(n.name for n in nodes)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _state(node: NodeFacts) -> str:
    return "down" if not node.ready else "drained or not eligible"
