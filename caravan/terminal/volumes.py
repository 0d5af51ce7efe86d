"""Reading a run's outputs out of a volume, by a small job that a person allows first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from caravan.values.errors import ClusterError, NeedsPerson

if TYPE_CHECKING:
    from collections.abc import Callable

    from caravan.agent.ferry import Load
    from caravan.ports import Cluster
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.plan import TrainingPlan
    from caravan.values.run import RunRecord


class Ferried(NamedTuple):
    """Where the copy is: below `root` of an allocation. `afterwards` removes the job."""

    cluster: Cluster
    alloc_id: str
    root: str
    afterwards: Callable[[], None]


def ferried(
    wiring: Wiring,
    terminal: Terminal,
    record: RunRecord,
    plan: TrainingPlan,
    node: str,
    alloc_id: str,
    *,
    yes: bool,
) -> Ferried:
    """The outputs of a run in a volume, copied by a job into its allocation. A person is asked for it first.

    `node` and `alloc_id` are those of the attempt that wrote them. Raises NeedsPerson where nobody allows it.
    """
    from caravan import TEMPLATES
    from caravan.agent.ferry import ROOT, Ferry, load_of

    cluster = wiring.cluster(record.request)
    load = load_of(plan, record.id, node, _size_of(cluster, alloc_id))
    ferry = Ferry(cluster, plan, load, wiring.policies(record.request), TEMPLATES)
    job_id = ferry.there()
    if job_id is None:
        _allow(terminal, load, yes=yes)
        job_id = ferry.register()
    terminal.err(f"The job {job_id} copies the outputs; its end is waited for.")
    copied = ferry.follow(job_id)
    job = job_id
    return Ferried(cluster, copied, ROOT, lambda: ferry.remove(job))


def _allow(terminal: Terminal, load: Load, *, yes: bool) -> None:
    """Ask whether the job may be deployed. Raises NeedsPerson where nobody is there to ask."""
    from caravan.terminal.dialogue import confirm

    where = f" on {load.node}" if load.mount.kind == "host" else ""
    text = f"a job that mounts the volume {load.mount.source} read-only{where} and takes {load.disk_mb} MB of disk"
    if yes:
        return
    if not terminal.interactive:
        raise NeedsPerson(f"To read the volume, {text} is needed.", hint="Allow it with --yes.")
    if not confirm(terminal, f"Deploy {text}, for as long as it is fetched from?"):
        raise NeedsPerson("The outputs were not fetched: no job was deployed.")


def _size_of(cluster: Cluster, alloc_id: str) -> int | None:
    """How many bytes of outputs the job counted at its end, where its allocation still tells."""
    from caravan.values.outputs import SUMMARY_PATH, parse_summary

    try:
        data = cluster.read_file(alloc_id, SUMMARY_PATH)
    except ClusterError:
        return None
    summary = parse_summary(data) if data is not None else None
    return summary.bytes if summary else None
