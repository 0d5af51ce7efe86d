"""What of a cluster a plan could use: nodes, GPU types, drivers. Pure questions on `ClusterFacts`.

Totals, not what is free now: Nomad's own plan call knows that. It knows no repository.
"""

import fnmatch
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from caravan.planning.catalogue import Prices, matches_model
from caravan.planning.prices import Price, usd_per_hour
from caravan.values.job import ClusterFacts, DeviceGroup, NodeFacts
from caravan.values.plan import Constraint, TrainingPlan


class GpuOffer(NamedTuple):
    """A GPU type that one node has enough of. Memory in MiB (None: not known), US dollars a GPU hour (None too).

    Where nodes with it have different prices it is the highest: which one takes the job is the cluster's to say.
    """

    model: str
    memory_mib: int | None
    usd_per_hour: float | None
    most_on_a_node: int
    declared: bool
    price_source: str = ""


def in_target(plan: TrainingPlan, facts: ClusterFacts) -> tuple[NodeFacts, ...]:
    """The usable nodes in the plan's node pool and datacenters that it doesn't exclude."""
    pool = plan.node_pool or "default"
    return tuple(
        n
        for n in facts.usable_nodes()
        if pool in ("all", n.node_pool)
        and any(fnmatch.fnmatchcase(n.datacenter, d) for d in plan.datacenters)
        and n.name not in plan.exclude_nodes
    )


def with_driver(nodes: Iterable[NodeFacts], driver: str) -> tuple[NodeFacts, ...]:
    """The nodes on which that driver is healthy."""
    return tuple(n for n in nodes if driver in n.drivers and n.drivers[driver].healthy)


def gpu_groups(node: NodeFacts, vendor: str | None = None) -> tuple[DeviceGroup, ...]:
    """The node's GPUs, of one vendor or of all."""
    return tuple(d for d in node.devices if d.type == "gpu" and d.count and vendor in (None, d.vendor))


def most_gpus(nodes: Iterable[NodeFacts], vendor: str | None = None, model: str | None = None) -> int:
    """The largest number of equal GPUs on one node, of one model or of any."""
    counts = (d.count for n in nodes for d in gpu_groups(n, vendor) if model is None or matches_model(model, d.model))
    return max(counts, default=0)


def with_gpus(nodes: Iterable[NodeFacts], plan: TrainingPlan) -> tuple[NodeFacts, ...]:
    """The nodes that have the GPUs that the plan asks for; all where it asks for none. Unknown memory is no lack."""
    need = plan.resources
    return tuple(
        n
        for n in nodes
        if not need.gpus
        or any(
            g.count >= need.gpus
            and (need.gpu_model is None or matches_model(need.gpu_model, g.model))
            and not driver_too_old(n, g, need.gpu_driver)
            and (need.gpu_memory_mib is None or g.memory_mib is None or g.memory_mib >= need.gpu_memory_mib)
            for g in gpu_groups(n, need.gpu_vendor)
        )
    )


_NODE_DRIVER: Final = "driver.nvidia.version"
"""The node's attribute where no device tells its driver, as inventories of the built-in cluster have it."""


def driver_of(node: NodeFacts, group: DeviceGroup) -> str | None:
    """The driver of those GPUs as the node reports it; None: not known."""
    told = group.driver or (node.attributes.get(_NODE_DRIVER, "") if group.vendor == "nvidia" else "")
    return told if re.fullmatch(r"\d+(?:\.\d+)*", told.strip()) else None


def driver_too_old(node: NodeFacts, group: DeviceGroup, oldest: str | None) -> bool:
    """Whether the GPUs' driver is known to be older than that."""
    have = driver_of(node, group)
    return have is not None and oldest is not None and _numbers(have) < _numbers(oldest)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in version.strip().split("."))


def driver_constraints(
    plan: TrainingPlan, facts: ClusterFacts
) -> tuple[tuple[Constraint, ...], tuple[Constraint, ...]]:
    """Constraints of the device and of the job that keep it from GPUs with too old a driver.

    On the attribute where each node that could take the job tells it, else on the names of the nodes that are too old.
    """
    oldest = plan.resources.gpu_driver
    if oldest is None or not plan.resources.gpus:
        return (), ()
    free = plan.model_copy(update={"resources": plan.resources.model_copy(update={"gpu_driver": None})})
    groups = [(n, g) for n in takers(free, facts) for g in gpu_groups(n, plan.resources.gpu_vendor)]
    if groups and all(g.driver for _, g in groups):
        return (Constraint(attribute="${device.attr.driver_version}", operator="version", value=f">= {oldest}"),), ()
    if groups and all(not g.driver and n.attributes.get(_NODE_DRIVER) for n, g in groups):
        return (), (Constraint(attribute=f"${{attr.{_NODE_DRIVER}}}", operator="version", value=f">= {oldest}"),)
    old = dict.fromkeys(n.name for n, g in groups if driver_too_old(n, g, oldest))
    return (), tuple(Constraint(attribute="${node.unique.name}", operator="!=", value=name) for name in old)


def takers(plan: TrainingPlan, facts: ClusterFacts) -> tuple[NodeFacts, ...]:
    """The nodes that could take the plan were they large enough: in its target, with its driver and its GPUs."""
    return with_gpus(with_driver(in_target(plan, facts), plan.driver), plan)


def holds(node: NodeFacts, plan: TrainingPlan) -> bool:
    """Whether the node, were it empty, has the CPU, memory and disk asked for. What is not known speaks for it."""
    need = plan.resources
    cpu = (need.cpu_mhz, node.cpu_mhz) if need.cores is None else (need.cores, node.cores)
    pairs = (cpu, (need.memory_mb, node.memory_mb), (need.disk_mb, node.disk_mb))
    return all(asked <= has or not has for asked, has in pairs)


def members_on(node: NodeFacts, plan: TrainingPlan) -> int:
    """How many members of the plan's group the node has room for, were it empty. What is not known is room enough."""
    need, most = plan.resources, plan.launch.nodes
    cpu = (need.cpu_mhz, node.cpu_mhz) if need.cores is None else (need.cores, node.cores)
    rooms = [
        has // asked for asked, has in (cpu, (need.memory_mb, node.memory_mb), (need.disk_mb, node.disk_mb)) if has
    ]
    if need.gpus:
        alone = plan.model_copy(update={"resources": need.model_copy(update={"gpus": 1})})
        kinds = (
            g
            for g in gpu_groups(node, need.gpu_vendor)
            if with_gpus((node.model_copy(update={"devices": (g,)}),), alone)
        )
        rooms.append(sum(g.count // need.gpus for g in kinds))
    if any(port.static for port in plan.ports) or plan.launch.master_port:
        rooms.append(1)  # a port has one owner on a node
    return min([most, *rooms])


def gpu_offers(plan: TrainingPlan, facts: ClusterFacts, prices: Prices) -> tuple[GpuOffer, ...]:
    """The GPU types of which one node in the plan's target has as many as it asks for, the cheapest first.

    Without a price the smaller memory counts as the cheaper; priced types come before types without a price.
    """
    found: dict[str, GpuOffer] = {}
    wanted = plan.resources.gpu_model
    for node in with_driver(in_target(plan, facts), plan.driver):
        for group in gpu_groups(node, plan.resources.gpu_vendor):
            if group.count < plan.resources.gpus or (wanted and not matches_model(wanted, group.model)):
                continue
            before = found.get(group.model)
            price = usd_per_hour(group.model, prices, node)
            if before and (price.usd is None or (before.usd_per_hour or 0.0) > price.usd):
                price = Price(before.usd_per_hour, before.price_source)
            most = max(group.count, before.most_on_a_node if before else 0)
            memory = min((m for m in (group.memory_mib, before and before.memory_mib) if m), default=None)
            found[group.model] = GpuOffer(group.model, memory, price.usd, most, group.declared, price.source)
    return tuple(sorted(found.values(), key=_cheapness))


def _cheapness(offer: GpuOffer) -> tuple[bool, float, int, str]:
    return offer.usd_per_hour is None, offer.usd_per_hour or 0.0, offer.memory_mib or 0, offer.model
