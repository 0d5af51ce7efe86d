"""Against a job that no node takes, and one that was ended from outside."""

from collections.abc import Iterable, Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.values.base import Json
from caravan.values.failure import Repair, RetryElsewhere, Wait
from caravan.values.job import NodeFacts
from caravan.values.plan import Author, TrainingPlan

_WAITS_S: Final = (60, 300, 900)  # growing, so that a busy cluster is not asked all the time
_USUAL: Final = (Author.DEFAULT, Author.CLUSTER)
_ROOM: Final = {
    "memory": ("resources.memory_mb", "memory_mb", "MB of memory"),
    "cpu": ("resources.cpu_mhz", "cpu_mhz", "MHz of CPU"),
    "cores": ("resources.cores", "cores", "cores"),
    "disk": ("resources.disk_mb", "disk_mb", "MB of disk"),
}
"""Nomad's dimensions → plan path, node field, unit."""


def elsewhere(case: Case) -> Iterator[Repair]:
    """The same plan again, on another node where there is one."""
    name = case.diagnosis.node_name
    others = [node for node in case.outlook.takers(case.plan) if node.name != name]
    avoid = (name,) if name and others else ()
    yield RetryElsewhere(avoid_nodes=avoid, why="the job was ended from outside")


def wait_for_room(case: Case) -> Iterator[Repair]:
    """Wait while nodes that are large enough are busy. Where none is, waiting can't help."""
    if any(case.outlook.holds(node, case.plan) for node in case.outlook.takers(case.plan)):
        yield from (Wait(seconds=seconds, why="the nodes that can take the job are busy") for seconds in _WAITS_S)


def gpu_unavailable(case: Case) -> Iterator[Repair]:
    """Wait while they are busy; another model; fewer of them."""
    yield from wait_for_room(case)
    yield from _another_model(case)
    yield from _fewer_gpus(case)


def _another_model(case: Case) -> Iterator[Repair]:
    """The cheapest type first, those that the estimate holds to be too small at the end: the batch may be smaller."""
    asked = case.plan.resources
    if asked.gpu_model is None or case.mended("resources.gpu_model"):
        return
    late = [
        (case.outlook.fits(_with_model(case, o.model)) is False, n, o)
        for n, o in enumerate(case.outlook.gpus(case.plan))
    ]
    for _, _, offer in sorted(late):
        values: dict[str, Json] = {"resources.gpu_model": offer.model}
        if asked.gpu_memory_mib and offer.gib is not None and offer.gib * 1024 < asked.gpu_memory_mib:
            continue  # the need for memory is the training's, whatever the model
        if not case.outlook.matches(asked.gpu_model, offer.model):
            yield from case.change(values, f"no node gives {asked.gpus} × {asked.gpu_model}; one has {offer.model}")


def _with_model(case: Case, model: str) -> TrainingPlan:
    return case.tried({"resources.gpu_model": model}) or case.plan


def _fewer_gpus(case: Case) -> Iterable[Repair]:
    """As many as one node has of one model, with the accumulation that keeps the effective batch."""
    plan, asked = case.plan, case.plan.resources
    fewer = case.tried({"resources.gpus": 1})
    most = max((_most(node, case) for node in case.outlook.takers(fewer or plan)), default=0)
    if not 0 < most < asked.gpus:
        return ()
    values: dict[str, Json] = {"resources.gpus": most}
    if plan.launch.nproc == asked.gpus:
        values["launch.nproc"] = most
    for path in ("resources.memory_mb", "resources.cpu_mhz", "shm_mb"):  # the usual amounts are so much for each GPU
        amount = plan.get(path)
        if isinstance(amount, int) and path in plan.provenance and plan.set_by(path) in _USUAL:
            values[path] = amount * most // asked.gpus
    accumulated = (plan.training.grad_accum or 1) * asked.gpus
    if accumulated % most == 0:
        values |= case.heard({"training.grad_accum": accumulated // most})
    return case.change(values, f"no node has more than {most} such GPUs")


def _most(node: NodeFacts, case: Case) -> int:
    asked = case.plan.resources
    groups = [d for d in node.devices if d.type == "gpu" and d.vendor == asked.gpu_vendor]
    wanted = [d for d in groups if asked.gpu_model is None or case.outlook.matches(asked.gpu_model, d.model)]
    least = asked.gpu_memory_mib or 0
    return max((d.count for d in wanted if d.memory_mib is None or d.memory_mib >= least), default=0)


def resources_exhausted(case: Case) -> Iterator[Repair]:
    """Wait while nodes that are large enough are busy, else ask for what the largest one has."""
    yield from wait_for_room(case)
    yield from _what_there_is(case)


def _what_there_is(case: Case) -> Iterable[Repair]:
    """Less of what no node has, as far as no estimate and no failure before said that it is needed."""
    plan, values, told = case.plan, {}, []
    named = case.detail("dimension")
    need_mb = case.outlook.host_need_mb(plan) or 0
    for dimension, (path, field, unit) in _ROOM.items():
        largest = max((getattr(node, field) for node in case.outlook.takers(plan)), default=0)
        asked = plan.get(path)
        other_unit = (dimension == "cpu") == (plan.resources.cores is not None) and dimension in ("cpu", "cores")
        if not isinstance(asked, int) or not 0 < largest < asked or named not in ("", dimension) or other_unit:
            continue
        if plan.set_by(path) is Author.REPAIR or (dimension == "memory" and need_mb > largest):
            return ()  # less was too little already, or is known to be
        values[path] = largest
        told.append(f"{largest} {unit} instead of {asked}")
    return case.change(values, f"the largest node has {', '.join(told)}")
