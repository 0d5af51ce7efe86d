"""The ladders: for each cause the repairs worth trying, in order. A rung is built from the plan and what is known.

No rung repeats what the plan already says, none asks for more than the cluster has, and each ladder ends: what grows
is bounded by the largest node. A cause without a row here has no repair yet.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, PastCase, Repair, RetryElsewhere, Wait
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes

Fits = Callable[[TrainingPlan], bool | None]
"""Whether a plan fits the hardware, by the estimate: None where that is not known."""

_WAITS_S: Final = (60, 300, 900)  # growing, so that a busy cluster is not asked all the time


@dataclass(frozen=True)
class _Case:
    """What a rung is built from."""

    diagnosis: Diagnosis
    plan: TrainingPlan
    facts: ClusterFacts


Rung = Callable[[_Case], Iterable[Repair]]


def ladder(
    diagnosis: Diagnosis, plan: TrainingPlan, cases: Sequence[PastCase], facts: ClusterFacts, fits: Fits
) -> tuple[Repair, ...]:
    """The repairs to try against a cause, the most promising first; empty where nothing can be mended here.

    A plan change is left out when it changes nothing, makes no valid plan, or is known not to fit. One that failed
    before under the same fingerprint comes last.
    """
    if diagnosis.escalate:
        return ()
    case = _Case(diagnosis, plan, facts)
    rungs = [r for build in LADDERS.get(diagnosis.failure, ()) for r in build(case) if _sound(r, plan, fits)]
    failed = [_changed(c.changes) for c in cases if c.worked is False and c.fingerprint == diagnosis.fingerprint]
    return tuple(sorted(rungs, key=lambda r: isinstance(r, ChangePlan) and _changed(r.changes) in failed))


def mendable(failure: FailureClass) -> bool:
    """Whether there is a ladder against this cause at all."""
    return failure in LADDERS


def _sound(repair: Repair, plan: TrainingPlan, fits: Fits) -> bool:
    if not isinstance(repair, ChangePlan):
        return True
    try:
        mended = apply_changes(plan, repair.changes)
    except PlanError:
        return False
    return mended.digest() != plan.digest() and fits(mended) is not False


def _changed(changes: Iterable[PlanChange]) -> list[tuple[str, Json]]:
    return [(change.path, change.value) for change in changes]


def _more_memory(case: _Case) -> Iterator[Repair]:
    """Twice the memory, at most what the largest node that may take the job has."""
    resources = case.plan.resources
    limit = max(resources.memory_mb, resources.memory_max_mb or 0)
    largest = max((node.memory_mb for node in _candidates(case)), default=0)
    wanted = min(2 * limit, largest)
    if wanted <= limit:
        return
    why = f"killed at {limit} MB; the largest node has {largest} MB"
    changes = [PlanChange(path="resources.memory_mb", value=wanted, by=Author.REPAIR, why=why)]
    if resources.memory_max_mb is not None:  # reserved memory is sure, oversubscribed memory is not
        changes.insert(0, PlanChange(path="resources.memory_max_mb", value=None, by=Author.REPAIR, why=why))
    yield ChangePlan(changes=tuple(changes), why=f"{wanted} MB of memory instead of {limit}")


def _elsewhere(case: _Case) -> Iterator[Repair]:
    """The same plan again, on another node where there is one."""
    name = case.diagnosis.node_name
    others = [node for node in _candidates(case) if node.name != name]
    avoid = (name,) if name and others else ()
    yield RetryElsewhere(avoid_nodes=avoid, why="the job was ended from outside")


def _wait_for_room(case: _Case) -> Iterator[Repair]:
    """Wait while nodes that are large enough are busy. Where none is, waiting can't help."""
    if any(_holds(node, case.plan) for node in _candidates(case)):
        yield from (Wait(seconds=seconds, why="the nodes that can take the job are busy") for seconds in _WAITS_S)


def _candidates(case: _Case) -> list[NodeFacts]:
    """The nodes that the job may run on, by pool, datacenter, driver and exclusion; constraints are not looked at."""
    plan = case.plan
    return [
        node
        for node in case.facts.usable_nodes()
        if node.name not in plan.exclude_nodes
        and node.id not in plan.exclude_nodes
        and (plan.node_pool in (None, "all", node.node_pool))
        and ("*" in plan.datacenters or node.datacenter in plan.datacenters)
        and (not node.drivers or (plan.driver in node.drivers and node.drivers[plan.driver].healthy))
    ]


def _holds(node: NodeFacts, plan: TrainingPlan) -> bool:
    """Whether the node, were it empty, has what the job asks for. What is not known of it does not speak against."""
    asked = plan.resources
    models = [d for d in node.devices if d.type == "gpu" and d.vendor == asked.gpu_vendor]
    if asked.gpu_model is not None:
        models = [d for d in models if d.model == asked.gpu_model]
    if asked.gpu_memory_mib is not None:
        models = [d for d in models if d.memory_mib is None or d.memory_mib >= asked.gpu_memory_mib]
    enough_gpus = asked.gpus == 0 or max((d.count for d in models), default=0) >= asked.gpus
    cpu = (node.cpu_mhz == 0 or asked.cpu_mhz <= node.cpu_mhz) if asked.cores is None else asked.cores <= node.cores
    return (
        enough_gpus and cpu and asked.memory_mb <= node.memory_mb and asked.disk_mb <= (node.disk_mb or asked.disk_mb)
    )


LADDERS: Final[dict[FailureClass, tuple[Rung, ...]]] = {
    FailureClass.HOST_MEMORY_OOM: (_more_memory,),
    FailureClass.INTERRUPTED_EXTERNALLY: (_elsewhere,),
    FailureClass.PLACEMENT_RESOURCES_EXHAUSTED: (_wait_for_room,),
    FailureClass.PLACEMENT_GPU_UNAVAILABLE: (_wait_for_room,),
}
"""The rungs against each cause, in order. A rung gives any number of repairs, or none where it does not apply."""
