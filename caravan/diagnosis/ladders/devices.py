"""Against GPUs that are broken, held by others, not seen, too few, or unable to do what is asked of them."""

from collections.abc import Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.placement import elsewhere
from caravan.values.base import Json
from caravan.values.failure import Repair, RetryElsewhere, Wait

_BUSY_S: Final = (300, 1800)
_SHARE_LEFT: Final = 0.9  # of what is free: the other process may grow
_MOST_GPUS: Final = 16


def broken_node(case: Case) -> Iterator[Repair]:
    """Another node; the broken one is named and avoided. Where there is none, an administrator must mend it."""
    name = case.diagnosis.node_name
    if not name:
        yield RetryElsewhere(why="the GPU of a node is at fault")
    elif case.others():
        yield RetryElsewhere(avoid_nodes=(name,), why=f"the GPU of node {name} is at fault")


def contended(case: Case) -> Iterator[Repair]:
    """Another node, the same after a while, the share of the memory that is free; then after a longer while."""
    name = case.diagnosis.node_name
    if case.others() or not name:
        why = f"another process holds the GPU of {f'node {name}' if name else 'the node'}"
        yield RetryElsewhere(avoid_nodes=(name,) if name else (), why=why)
    yield Wait(seconds=_BUSY_S[0], why="another process holds the GPU's memory")
    free, total = case.number("free_gib"), case.number("total_gib")
    if free and total and free < total:
        share = round(_SHARE_LEFT * free / total, 2)
        values = case.heard({"training.gpu_memory_share": share}) if share > 0 else {}
        yield from case.change(values, f"at most {share:.0%} of the GPU's memory, which another process shares")
    yield Wait(seconds=_BUSY_S[1], why="another process holds the GPU's memory")


def no_device(case: Case) -> Iterator[Repair]:
    """A GPU for the job where none was asked for, the runtime that hands it in, then another node."""
    plan = case.plan
    if plan.resources.gpus == 0:
        wanted = max(1, plan.launch.nproc)
        asked = case.tried({"resources.gpus": wanted})
        if asked is not None and case.outlook.gpus(asked):
            yield from case.change({"resources.gpus": wanted}, f"{wanted} GPU for the job, which asked for none")
        return
    runtimes = [d.runtimes for n in case.outlook.takers(plan) if (d := n.drivers.get("docker"))]
    if plan.driver == "docker" and plan.docker.runtime is None and any("nvidia" in names for names in runtimes):
        yield from case.change({"docker.runtime": "nvidia"}, "the nvidia runtime, by which a container sees its GPUs")
    if case.plan.env.get("CUDA_VISIBLE_DEVICES") is not None:
        yield from case.change({"env.CUDA_VISIBLE_DEVICES": None}, "the GPUs that the cluster gives, not a fixed list")
        return  # on another node the list would hide them as well
    yield from elsewhere(case)


def wrong_count(case: Case) -> Iterator[Repair]:
    """As many processes as GPUs; no fixed list of GPUs; as many GPUs as the program wants, where a node has them."""
    plan, wanted = case.plan, int(case.number("want") or 0)
    gpus, processes = plan.resources.gpus, plan.launch.nproc
    if 0 < gpus < processes:
        yield from case.change({"launch.nproc": gpus}, f"{gpus} processes for {gpus} GPUs instead of {processes}")
    if plan.env.get("CUDA_VISIBLE_DEVICES") is not None:
        yield from case.change({"env.CUDA_VISIBLE_DEVICES": None}, "the GPUs that the cluster gives, not a fixed list")
    more = min(max(wanted, processes), _MOST_GPUS)
    if more > max(gpus, 1) or (gpus == 0 and more >= 1):
        asked = case.tried({"resources.gpus": more})
        if asked is not None and case.outlook.gpus(asked):
            values: dict[str, Json] = {"resources.gpus": more}
            if plan.resources.gpu_model and not case.outlook.takers(asked):
                values["resources.gpu_model"] = None
            yield from case.change(values, f"{more} GPUs, as many as the program starts processes for")


def precision(case: Case) -> Iterator[Repair]:
    """Half precision as fp16, plain fp32 for tf32, by the field or the program's own switches; then GPUs that can."""
    dtype, plan = case.detail("dtype"), case.plan
    if dtype == "tf32" or plan.training.tf32:
        yield from case.change(case.heard({"training.tf32": False}), "without tf32, which the GPU can't do")
        yield from case.change(case.as_option(False, "tf32"), "without tf32, which the GPU can't do")
    if dtype != "tf32":
        yield from case.change(case.heard({"training.precision": "fp16"}), "fp16 instead of bf16, which the GPU can't")
        yield from case.change(_switched(case), "fp16 instead of bf16, which the GPU can't")
    yield from newer_gpus(case)


def _switched(case: Case) -> dict[str, Json]:
    """By the program's options for it, where the plan's field has none: `--bf16 False --fp16 True`."""
    off, on = case.option("bf16"), case.option("fp16")
    if off is None:
        return {}
    values: dict[str, Json] = {f"training.options.{off}": False}
    values |= {f"training.options.{on}": True} if on else {}
    return values if case.heard(values) else {}


def newer_gpus(case: Case) -> Iterator[Repair]:
    """Without the nodes whose GPUs are older than Ampere; then the cheapest type that is none of those."""
    plan = case.plan
    if not plan.resources.gpus or case.outlook.bf16(plan) is not False:
        return
    for offer in case.outlook.gpus(plan):
        values: dict[str, Json] = {"resources.gpu_model": offer.model}
        other = case.tried(values)
        if other is not None and case.outlook.bf16(other) is True and case.outlook.fits(other) is not False:
            yield from case.change(values, f"{offer.model}, because the GPU is older than Ampere")
            return
