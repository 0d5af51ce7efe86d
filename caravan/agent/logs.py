"""Copying a job's logs into the run's folder as they grow, and showing the new lines."""

from caravan.agent.context import Context
from caravan.values.errors import ClusterError
from caravan.values.masking import mask
from caravan.values.run import Snapshot

STREAMS = ("stdout", "stderr")
_SHOWN_LINES = 20  # of one piece: a person can't read more at once, and the copy has them all


def copy_logs(context: Context, snapshot: Snapshot) -> None:
    """Append what is new in every task's stdout and stderr.

    Logs that can't be had now are skipped: not there yet, collected, or the node or the cluster does not answer. What
    was missed is copied by the next round, because the offset only moves with what was copied.
    """
    for allocation in snapshot.allocations:
        for task in allocation.tasks:
            if task.started_at is None:
                continue
            for stream in STREAMS:
                _copy(context, allocation.id, task.name, stream)


def _copy(context: Context, alloc_id: str, task: str, stream: str) -> None:
    while True:
        offset = context.folder.log_size(alloc_id, task, stream)
        try:
            data = context.cluster.logs(alloc_id, task, stream, offset=offset)
        except ClusterError:
            return
        if not data:
            return
        context.folder.append_log(alloc_id, task, stream, data)
        lines = [line.rstrip() for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
        context.progress.log(stream, [mask(line, context.secrets) for line in lines[-_SHOWN_LINES:]])


def log_tail(context: Context, alloc_id: str, limit: int = 1 << 20) -> bytes:
    """The last `limit` bytes of the copied logs of an allocation, stdout first.

    The copies are masked already. Stderr comes last because what ended a task stands there as a rule.
    """
    files = [f for f in context.folder.log_files() if f.name.startswith(alloc_id[:8])]
    pieces = []
    for file in sorted(files, key=lambda f: (".stderr." in f.name, f.name)):
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - limit // max(len(files), 1)))
            pieces.append(stream.read())
    return b"\n".join(pieces)
