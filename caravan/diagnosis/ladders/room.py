"""Against room that is too small or may not be written to: shared memory, disk, and directories of somebody else's."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.placement import elsewhere
from caravan.values.base import Json
from caravan.values.failure import Repair

_SHM_MB: Final = 8192  # what loaders and NCCL of one node commonly need; docker's own is 64 MB
_KEPT: Final = 2
HERE: Final = "${NOMAD_ALLOC_DIR}/data"
"""The allocation's own directory, as the job sees it: it counts as the disk that the plan asks for."""
_CACHES: Final = {"HF_HOME": f"{HERE}/huggingface", "TORCH_HOME": f"{HERE}/torch", "TRITON_CACHE_DIR": f"{HERE}/triton"}
_CACHED: Final = (".cache", "huggingface", "/torch", "triton", "hub/", "xet", "datasets")


def shared_memory(case: Case) -> Iterator[Repair]:
    """A larger /dev/shm for the container; where it can't be given one, loaders in the training's own process."""
    plan, now = case.plan, case.plan.shm_mb or 0
    if plan.driver == "docker":
        half = max(plan.resources.memory_mb, plan.resources.memory_max_mb or 0) // 2
        wanted = max(_SHM_MB, half, 4 * now if case.mended("shm_mb") else 0)
        if wanted > now:
            yield from case.change({"shm_mb": wanted}, f"{wanted} MB of shared memory instead of {now or 64} MB")
    if case.says(r"\bnccl\b"):
        yield from case.change({"env.NCCL_SHM_DISABLE": "1"}, "NCCL without shared memory, by the network or the bus")
    yield from case.change(case.heard({"training.num_workers": 0}), "no data-loader processes, which share memory")
    if plan.driver != "docker":
        yield from _next_node(case, "its shared memory is too small, and only a container could be given more")


def disk_full(case: Case) -> Iterator[Repair]:
    """More disk within the largest node, caches in the allocation, fewer checkpoints, another node.

    Where more disk did not help, it may be another place that is full: then fewer checkpoints come before still more.
    Where the full place is one that the plan names for its outputs, more disk for the allocation can't help.
    """
    if case.detail("kind") == "pull":
        yield from elsewhere(case)
        return
    in_vain, own = case.mended("resources.disk_mb"), place_of_outputs(case)
    if not (in_vain or own):
        yield from _more_disk(case)
    if case.plan.driver == "docker" or "HF_HOME" in case.plan.env:
        yield from _caches_here(case)
    yield from _fewer_checkpoints(case)
    if in_vain and not own:
        yield from _more_disk(case)
    yield from _next_node(case, "its disk is full")


def place_of_outputs(case: Case) -> bool:
    """Whether what is full is a place for outputs that the plan names by its path: no disk of an allocation."""
    plan, path = case.plan, case.detail("path")
    sink = plan.outputs.location if plan.outputs.kind == "path" else ""
    named = [each for each in (plan.training.output_dir or "", sink) if each.startswith("/")]
    return bool(path) and any(_below(path, each) for each in named)


def _more_disk(case: Case) -> Iterable[Repair]:
    """Three times the disk, or what the largest node has; it counts for the allocation, not for other places."""
    now = case.plan.resources.disk_mb
    largest = max((n.disk_mb for n in case.outlook.takers(case.plan)), default=0)
    wanted = min(3 * now, largest)
    if wanted <= now:
        return ()
    return case.change({"resources.disk_mb": wanted}, f"{wanted} MB of disk instead of {now} MB")


def _caches_here(case: Case) -> Iterable[Repair]:
    """Models and data that are downloaded go to the allocation, unless somebody has said where they go."""
    if not any(sign in case.detail("path") for sign in _CACHED) and case.detail("path"):
        return ()
    values: dict[str, Json] = {
        f"env.{name}": place
        for name, place in _CACHES.items()
        if case.plan.env.get(name) != place and not case.said(f"env.{name}")
    }
    return case.change(values, "what is downloaded is kept in the allocation, on the disk that was asked for")


def _fewer_checkpoints(case: Case) -> Iterable[Repair]:
    kept = case.plan.training.save_total_limit
    fewer = 1 if kept == _KEPT or case.mended("training.save_total_limit") else _KEPT
    if kept is not None and kept <= fewer:
        return ()
    return case.change(case.heard({"training.save_total_limit": fewer}), f"only the last {fewer} checkpoints are kept")


def not_writable(case: Case) -> Iterator[Repair]:
    """A place of the allocation for what may not be written; then the image's own user instead of the plan's."""
    plan, path = case.plan, case.detail("path")
    out = plan.training.output_dir
    if out and (not path or _below(path, out) or _below(path, posixpath.dirname(out))):
        yield from case.change({"training.output_dir": f"{HERE}/outputs"}, f"{out} may not be written")
    cached = any(sign in path for sign in _CACHED)
    if cached or not path:
        yield from _caches_here(case)
    if path.startswith(("/root", "/home", "/.", "~")) and not case.said("env.HOME"):
        home: dict[str, Json] = {"env.HOME": HERE, "env.MPLCONFIGDIR": f"{HERE}/matplotlib"}
        yield from case.change(home, f"a home that can be written, because {path} can't")
    if plan.user is not None:
        yield from case.change({"user": None}, f"the image's own user instead of {plan.user}")


def _below(path: str, folder: str) -> bool:
    inside = folder.rstrip("/")
    return bool(inside) and (path == inside or path.startswith(f"{inside}/"))


def _next_node(case: Case, why: str) -> Iterable[Repair]:
    return case.change(case.avoiding(), f"another node than {case.diagnosis.node_name}: {why}")
