"""Single steps from a plan that has no place towards one that has: other nodes, GPUs, amounts, batch, method. Pure.

Each kind of step is tried from the nearest on; which steps together make a plan that fits is `alternatives`' to find.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from caravan.planning.catalogue import USABLE_SHARE, Prices, matches_model
from caravan.planning.cluster_fit import gpu_groups, gpu_offers, in_target, most_gpus, takers, with_driver
from caravan.planning.command import unpassed
from caravan.planning.standing import has_volumes
from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.estimate import Estimate
from caravan.values.job import ClusterFacts, NodeFacts, PlacementFailure
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes

Estimator = Callable[[TrainingPlan], Estimate]


class Kind(StrEnum):
    """What a step changes."""

    PLACE = "place"
    GPU = "gpu"
    COUNT = "count"
    ROOM = "room"
    BATCH = "batch"
    METHOD = "method"


@dataclass(frozen=True)
class Move:
    """A step: plan path → value, what it means in words, and what it loses (0 nothing, the more the worse)."""

    kind: Kind
    values: Mapping[str, Json]
    text: str
    loss: int = 0


SAME_BATCH: Final = 0
OTHER_BATCH: Final = 1
LESS_ROOM: Final = 1  # than was asked for, and nobody knows what is needed
OTHER_TERMS: Final = 2  # a constraint dropped, another driver
ADAPTERS: Final = 3
QUANTIZED: Final = 4

_USUAL: Final = (Author.DEFAULT, Author.CLUSTER)
_PER_GPU: Final = ("resources.memory_mb", "resources.cpu_mhz", "shm_mb")
_ROOM: Final = {
    "resources.memory_mb": ("memory_mb", "MB of memory"),
    "resources.cpu_mhz": ("cpu_mhz", "MHz of CPU"),
    "resources.cores": ("cores", "cores"),
    "resources.disk_mb": ("disk_mb", "MB of disk"),
}


def moved(plan: TrainingPlan, values: Mapping[str, Json], why: str = "") -> TrainingPlan | None:
    """The plan with these values as a person would set them, or None where they make no valid plan."""
    changes = [PlanChange(path=p, value=v, by=Author.USER, why=why[:300]) for p, v in values.items()]
    try:
        return apply_changes(plan, changes)
    except PlanError:
        return None


def places(plan: TrainingPlan, facts: ClusterFacts, failures: Sequence[PlacementFailure]) -> Iterator[Move]:
    """Other node pools and datacenters, nodes kept away from, a constraint that no node meets, another driver."""
    here = {n.id for n in in_target(plan, facts)}
    seen: set[tuple[str, str]] = set()
    for node in facts.usable_nodes():
        where = (node.node_pool, node.datacenter)
        if node.id in here or node.name in plan.exclude_nodes or where in seen:
            continue
        seen.add(where)
        yield _elsewhere(plan, facts, node)
    kept_away = [n.name for n in facts.usable_nodes() if n.name in plan.exclude_nodes]
    if kept_away:
        yield Move(Kind.PLACE, {"exclude_nodes": []}, f"also on {', '.join(kept_away)}, kept away from so far", 1)
    yield from _without_constraint(plan, failures)
    yield from _other_driver(plan, facts)


def _elsewhere(plan: TrainingPlan, facts: ClusterFacts, node: NodeFacts) -> Move:
    values: dict[str, Json] = {}
    if (plan.node_pool or "default") not in ("all", node.node_pool):
        values["node_pool"] = node.node_pool
    trial = moved(plan, values)
    if trial is None or node.id not in {n.id for n in in_target(trial, facts)}:
        values["datacenters"] = [node.datacenter]
    words = {"node_pool": f"node pool {node.node_pool}", "datacenters": f"datacenter {node.datacenter}"}
    before = {
        "node_pool": plan.node_pool or "default",
        "datacenters": ", ".join(plan.datacenters),
    }
    text = ", ".join(f"in {words[p]} instead of {before[p]}" for p in values)
    wasted = not plan.resources.gpus and bool(gpu_groups(node))
    return Move(Kind.PLACE, values, text + (" (on nodes with GPUs)" if wasted else ""), OTHER_BATCH if wasted else 0)


def _without_constraint(plan: TrainingPlan, failures: Sequence[PlacementFailure]) -> Iterator[Move]:
    """Nomad names a constraint as attribute, operator and value: the one of the plan is known again by all three."""
    named = [words for f in failures for words in f.constraint_filtered]
    for constraint in plan.constraints:
        parts = (constraint.attribute, constraint.operator, constraint.value)
        if any(all(part in words for part in parts if part) for words in named):
            left = [c.model_dump(mode="json") for c in plan.constraints if c != constraint]
            yield Move(Kind.PLACE, {"constraints": left}, f"without the constraint {' '.join(parts)}", OTHER_TERMS)


def _other_driver(plan: TrainingPlan, facts: ClusterFacts) -> Iterator[Move]:
    """Another driver where no node has the plan's. Never raw_exec: it would take the job's isolation away."""
    nodes = in_target(plan, facts)
    if with_driver(nodes, plan.driver):
        return
    if plan.image and with_driver(nodes, "docker"):
        yield Move(Kind.PLACE, {"driver": "docker"}, f"with driver docker instead of {plan.driver}", OTHER_TERMS)
    if plan.code.kind != "image" and not plan.setup.apt and with_driver(nodes, "exec"):
        yield Move(Kind.PLACE, {"driver": "exec"}, f"with driver exec instead of {plan.driver}", OTHER_TERMS)


def gpu_types(plan: TrainingPlan, facts: ClusterFacts, prices: Prices) -> Iterator[Move]:
    """Other GPU types of the plan's vendor than the one it names that nodes of its target have, the cheapest first."""
    asked = plan.resources
    if not asked.gpus or asked.gpu_model is None:
        return  # any type would do already
    free = plan.model_copy(update={"resources": asked.model_copy(update={"gpu_model": None, "gpus": 1})})
    for offer in gpu_offers(free, facts, prices):
        if not matches_model(asked.gpu_model, offer.model):
            text = f"{offer.model} instead of {asked.gpu_model}"
            yield Move(Kind.GPU, {"resources.gpu_model": offer.model}, text)


def fewer_gpus(plan: TrainingPlan, facts: ClusterFacts) -> Iterator[Move]:
    """Fewer GPUs, as many as one node has first, with the accumulation that keeps the effective batch.

    None at all only where the whole cluster has none.
    """
    asked = plan.resources.gpus
    if asked and not any(gpu_groups(n) for n in facts.nodes):
        values: dict[str, Json] = {"resources.gpus": 0, "resources.gpu_model": None, "resources.gpu_memory_mib": None}
        yield Move(Kind.COUNT, values, "on the CPU: no node has a GPU", OTHER_TERMS)
    nodes = with_driver(in_target(plan, facts), plan.driver)
    most = min(most_gpus(nodes, plan.resources.gpu_vendor, plan.resources.gpu_model), asked - 1)
    for count in range(most, 0, -1):
        yield _with_gpus(plan, count)


def _with_gpus(plan: TrainingPlan, count: int) -> Move:
    asked = plan.resources.gpus
    values: dict[str, Json] = {"resources.gpus": count}
    if plan.launch.nproc == asked:
        values["launch.nproc"] = count
    return _with_fewer(plan, values | per_gpu(plan, count), count, asked, "GPUs")


def per_gpu(plan: TrainingPlan, count: int) -> dict[str, Json]:
    """The usual amounts, which are so much for each GPU, for another number of them."""
    values: dict[str, Json] = {}
    for path in _PER_GPU:
        amount = plan.get(path)
        if isinstance(amount, int) and path in plan.provenance and plan.set_by(path) in _USUAL:
            values[path] = max(64, amount * count // plan.resources.gpus)
    return values


def fewer_nodes(plan: TrainingPlan) -> Iterator[Move]:
    """Fewer nodes, as many as there may be first, with the accumulation that keeps the effective batch."""
    asked = plan.launch.nodes
    for count in range(asked - 1, 0, -1):
        yield _with_fewer(plan, {"launch.nodes": count}, count, asked, "nodes")


def _with_fewer(plan: TrainingPlan, values: dict[str, Json], count: int, asked: int, what: str) -> Move:
    before = plan.training.grad_accum or 1
    after = before * asked // count
    kept = before * asked % count == 0 and heard(plan, {"training.grad_accum": after})
    if kept:
        values["training.grad_accum"] = after
    batch = f"effective batch kept by accumulation {before} → {after}" if kept else _smaller(count, asked)
    text = f"{count} instead of {asked} {what}, {batch}"
    return Move(Kind.COUNT, values, text, SAME_BATCH if kept else OTHER_BATCH)


def _smaller(count: int, asked: int) -> str:
    shared = math.gcd(count, asked)
    return f"the effective batch becomes {count // shared}/{asked // shared}"


def room(plan: TrainingPlan, facts: ClusterFacts, estimate: Estimator) -> Iterator[Move]:
    """What the node that comes nearest has, where no node has all. Never less than is known to be needed."""
    need_mb = estimate(plan).host_memory_mb or 0
    found: list[tuple[float, str, dict[str, Json], str, bool]] = []
    for node in takers(plan, facts):
        values, told, lost = dict[str, Json](), [], 0.0
        for path, (field, unit) in _ROOM.items():
            asked, has = plan.get(path), getattr(node, field)
            instead = path == "resources.cpu_mhz" and plan.resources.cores is not None
            if instead or not isinstance(asked, int) or not 0 < has < asked:
                continue
            values[path] = has
            told.append(f"{has} instead of {asked} {unit}")
            lost += 1 - has / asked
        too_little = need_mb > values.get("resources.memory_mb", need_mb)
        if values and has_volumes(node, plan) and not too_little:
            guessed = not need_mb and "resources.memory_mb" in values
            found.append((lost, node.name, values, ", ".join(told), guessed))
    for _, _, values, text, guessed in sorted(found, key=lambda item: item[:2]):
        unknown = " (what it needs isn't known)" if guessed else ""
        yield Move(Kind.ROOM, values, text + unknown, LESS_ROOM if guessed else SAME_BATCH)


def smaller_steps(plan: TrainingPlan) -> Iterator[Move]:
    """Less GPU memory for the same training: halve the micro batch; recompute activations; both."""
    training = plan.training
    batch, accumulated = training.micro_batch or 1, training.grad_accum or 1
    recompute: dict[str, Json] = {"training.grad_checkpointing": True}
    halves: list[tuple[dict[str, Json], str, int]] = []
    while batch > 1 and batch % 2 == 0:
        batch, accumulated = batch // 2, accumulated * 2
        values: dict[str, Json] = {"training.micro_batch": batch}
        if not heard(plan, values):
            break
        kept = heard(plan, {"training.grad_accum": accumulated})
        values |= {"training.grad_accum": accumulated} if kept else {}
        told = f"micro batch {batch}, " + (f"accumulation {accumulated}" if kept else "no option for accumulation")
        halves.append((values, told, SAME_BATCH if kept else OTHER_BATCH))
        yield Move(Kind.BATCH, *halves[-1])
    if not training.grad_checkpointing and heard(plan, recompute):
        yield Move(Kind.BATCH, recompute, "activations recomputed (about a third slower)")
        if halves:
            values, told, loss = halves[-1]
            yield Move(Kind.BATCH, {**values, **recompute}, f"{told}, activations recomputed", loss)


def adapters(plan: TrainingPlan) -> Iterator[Move]:
    """Adapters instead of the whole model, the last resort: what is trained is another thing."""
    method = (plan.training.method or "full").lower()
    if method == "full":
        yield from _heard_moves(plan, {"training.method": "lora"}, "LoRA instead of full fine-tuning", ADAPTERS)
    if method in ("full", "lora", "dora") and plan.training.quant_bits != 4:
        text = f"QLoRA instead of {'full fine-tuning' if method == 'full' else method}"
        yield from _heard_moves(plan, {"training.method": "qlora"}, text, QUANTIZED)
        if method != "full":
            yield from _heard_moves(plan, {"training.quant_bits": 4}, f"{text} (4 bits)", QUANTIZED)


def _heard_moves(plan: TrainingPlan, values: Mapping[str, Json], text: str, loss: int) -> Iterator[Move]:
    if heard(plan, values):
        yield Move(Kind.METHOD, values, text, loss)


def heard(plan: TrainingPlan, values: Mapping[str, Json]) -> bool:
    """Whether options of the program take the values."""
    trial = moved(plan, values)
    return trial is not None and not set(values) & set(unpassed(trial))


def fitted_memory(plan: TrainingPlan, facts: ClusterFacts, estimate: Estimator) -> dict[str, Json]:
    """The least GPU memory to ask for after a step: what the estimate says, where it was no person's wish.

    A wish stays as long as a node meets it or the need is not known.
    """
    asked = plan.resources.gpu_memory_mib
    if asked is None or not plan.resources.gpus:
        return {}
    need = estimate(plan).gpu_memory_gib
    least = None if need is None else math.ceil(need * 1024 / USABLE_SHARE)
    if plan.set_by("resources.gpu_memory_mib") in STANDING:
        sizes = [g.memory_mib or asked for n in in_target(plan, facts) for g in gpu_groups(n)]
        if least is None or least >= asked or max(sizes, default=0) >= asked:
            return {}
    return {} if least == asked else {"resources.gpu_memory_mib": least}
