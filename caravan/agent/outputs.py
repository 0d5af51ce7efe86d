"""What is known of a job's outputs once it has ended: from its own summary, from the disk, from its allocation.

It judges nothing; what can't be seen from here is not known, and said so.
"""

import posixpath
from pathlib import Path
from typing import Final, NamedTuple

from caravan.agent.context import Context
from caravan.planning.command import sink_dir
from caravan.planning.outputs import goes_with_job
from caravan.planning.resume import checkpoint_pattern
from caravan.values.amounts import size_text
from caravan.values.errors import ClusterError
from caravan.values.job import ClusterKind
from caravan.values.masked import masked_value
from caravan.values.outputs import SUMMARY_PATH, Kept, OutputSummary, parse_summary
from caravan.values.plan import TrainingPlan

IN_ALLOCATION: Final = "alloc/data/outputs"
"""The allocation's own place for outputs, as the cluster's file calls name it."""

_ALLOC: Final = "${NOMAD_ALLOC_DIR}/"
_OURS: Final = ".caravan"
"""Folder in the outputs that says what their checkpoints are bound to: no output."""


class Seen(NamedTuple):
    """`empty` None: not known. `summary` None: the job left none, or it can't be read any more."""

    empty: bool | None
    summary: OutputSummary | None


def look(plan: TrainingPlan, context: Context, alloc_id: str | None) -> Seen:
    """What there is of outputs."""
    summary = _summary(context, alloc_id) if alloc_id else None
    if plan.outputs.kind == "path" and context.facts().shared_files:
        return Seen(_empty_here(Path(plan.outputs.location)), summary)
    if summary is not None:
        return Seen(summary.files == 0, summary)
    if alloc_id and plan.outputs.kind == "allocation" and plan.training.output_dir is None:
        return Seen(_empty_there(context, alloc_id), None)
    return Seen(None, None)


def checkpoint_there(plan: TrainingPlan, context: Context, alloc_id: str | None) -> bool | None:
    """Whether the outputs hold what the training could go on from; None: that can't be seen from here."""
    resume = plan.resume
    if resume is None:
        return False
    if plan.outputs.kind == "path" and plan.training.output_dir is None and context.facts().shared_files:
        pattern = checkpoint_pattern(plan) or "*"
        place = Path(plan.outputs.location)
        try:
            return any(_OURS not in found.relative_to(place).parts for found in place.rglob(pattern))
        except (OSError, ValueError, NotImplementedError):  # not ours to read, or no pattern for paths
            return None
    summary = _summary(context, alloc_id) if alloc_id else None
    return False if summary is not None and summary.files == 0 else None


def place_of(plan: TrainingPlan, run_id: str) -> str:
    """The outputs' place in words."""
    sink = plan.outputs
    if sink.kind == "allocation":
        return "the outputs' directory of its allocation"
    if sink.kind == "volume":
        name = next((m.source for m in plan.mounts if m.destination == sink.location), sink.location)
        return f"the directory {run_id} of the volume {name}"
    return f"{sink.location}/{run_id}" if sink.kind == "url" else sink_dir(sink)


def in_allocation(plan: TrainingPlan) -> str | None:
    """The directory that the training was given, as the cluster's file calls name it; None: they don't show it."""
    own = plan.training.output_dir
    if own is None:
        return IN_ALLOCATION
    if own.startswith(_ALLOC):
        root = posixpath.normpath(f"alloc/{own.removeprefix(_ALLOC)}")
    elif own.startswith(("/", "${")) or plan.code.kind == "image" or plan.workdir.startswith("/"):
        return None
    else:
        root = posixpath.normpath(f"train/local/code/{plan.workdir}/{own}")
    return root if root.startswith(("alloc/", "train/local/code/")) else None


def unkept(plan: TrainingPlan, place: str, seen: Seen) -> str:
    """What the training left beside its code and would be lost with the job, in words; empty where nothing is."""
    summary = seen.summary
    if summary is None:
        return ""
    kept = summary.kept or Kept()
    if kept.left:
        names = ", ".join(kept.largest[:3])
        why = f" ({kept.error})" if kept.error else ""
        lost = (
            f"{kept.left} of {kept.files + kept.left} files beside its code ({names}) could not be brought there{why}"
        )
    elif summary.files == 0 and summary.elsewhere.files and goes_with_job(plan):
        lost = f"it left {', '.join(f.name for f in summary.elsewhere.largest[:3])} beside its code"
    else:
        return ""
    return f"the training ended well but wrote nothing to {place}: {lost}"


def told(plan: TrainingPlan, context: Context, seen: Seen, run_id: str) -> tuple[str, ...]:
    """What a person should know of outputs that are not where they last."""
    found = []
    summary = seen.summary
    kept = summary.kept if summary is not None else None
    if kept is not None and kept.files:
        found.append(
            f"nothing told the program where to write: what it left beside its code ({_counted(kept)}) "
            f"is kept in {place_of(plan, run_id)}"
        )
    elif summary is not None and summary.elsewhere.files:
        names = ", ".join(f.name for f in summary.elsewhere.largest[:3])
        count, size = summary.elsewhere.files, size_text(summary.elsewhere.bytes)
        beside = f"{count} large file{'s' if count > 1 else ''} ({size}) written beside the code and not to"
        found.append(f"{beside} {place_of(plan, run_id)}: {names}; they go with the job")
    if seen.empty is None:
        found.append(
            f"whether anything was written to {place_of(plan, run_id)} is not known: it can't be seen from here"
        )
    elif not seen.empty and plan.outputs.kind == "allocation" and context.facts().kind is ClusterKind.NOMAD:
        found.append(
            "the outputs are in the job's allocation, which the cluster collects: "
            f"`main.py pull {run_id}` fetches them before that"
        )
    return tuple(found)


def _counted(kept: Kept) -> str:
    """How many files were kept, and the largest by name."""
    more = ", …" if kept.files > len(kept.largest[:3]) else ""
    return f"{kept.files} file{'s' if kept.files > 1 else ''}: {', '.join(kept.largest[:3])}{more}"


def _summary(context: Context, alloc_id: str) -> OutputSummary | None:
    try:
        data = context.cluster.read_file(alloc_id, SUMMARY_PATH)
    except ClusterError:  # collected, denied, not reached: then it is not known
        return None
    summary = parse_summary(data) if data is not None else None
    # Names of files are the job's words; what is kept and told of them holds no secrets. On the disk they stay.
    return masked_value(summary, context.secrets) if summary is not None else None


def _empty_here(place: Path) -> bool | None:
    try:
        return not any(path.is_file() and _OURS not in path.relative_to(place).parts for path in place.rglob("*"))
    except OSError:  # somebody else's files: not ours to judge
        return None


def _empty_there(context: Context, alloc_id: str) -> bool | None:
    try:
        return not context.cluster.list_files(alloc_id, IN_ALLOCATION)
    except ClusterError:
        return None
