"""Reading on in a task's log, though the cluster keeps only its end: it knows the bytes before, not what they mean.

A cluster counts offsets from the oldest byte that it still keeps. When it drops the oldest file of a log, the offset
of everything else moves: read on blindly, the copy would miss a part or stand still for ever.
"""

from typing import Final

from caravan.ports import Cluster
from caravan.values.errors import ClusterError

Source = tuple[str, str, str]
"""Allocation, task, stream."""

LOGS: Final = "alloc/logs"
"""Where an allocation's log files are, named by task, stream and number."""

_REMEMBERED: Final = 4096
"""Bytes before the place where reading goes on; they must be there again, or the offsets have moved."""


class LogReader:
    """Reads what follows in logs. Every method may raise a ClusterError; then reading goes on with the next call."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before: dict[Source, bytes] = {}
        self._dropped: dict[Source, int] = {}

    def read(self, source: Source, copied: int) -> tuple[bytes, str]:
        """What follows after `copied` bytes, empty when nothing does (yet), and a remark where bytes are missing."""
        if source not in self._before:
            return self._first(source, copied)
        before = self._before[source]
        at = copied - self._dropped.get(source, 0) - len(before)
        data = self._cluster.logs(*source, offset=at)
        remark = ""
        if data.startswith(before):
            data = data[len(before) :]
        else:
            data, remark = self._found_again(source, copied, before)
            before = b"" if remark else before
        self._before[source] = (before + data)[-_REMEMBERED:]
        return data, remark

    def _first(self, source: Source, copied: int) -> tuple[bytes, str]:
        """What follows after the place where an earlier agent stopped; if there is no such place, all that is kept."""
        back = min(copied, _REMEMBERED)
        data, at, remark = self._cluster.logs(*source, offset=copied - back), back, ""
        if len(data) < back:
            data, at = self._cluster.logs(*source), 0
            if not data:
                return b"", ""  # nothing is kept any more
            self._dropped[source] = copied
            remark = f"{_dropped(source)} What stands twice in its copy or is missing there can't be told."
        elif data and not copied:
            remark = self._lost_beginning(source)
        self._before[source] = data[-_REMEMBERED:]
        return data[at:], remark

    def _lost_beginning(self, source: Source) -> str:
        """A remark where the cluster has dropped files of a log before the first look: it numbers them from 0 on."""
        alloc_id, task, stream = source
        try:
            files = self._cluster.list_files(alloc_id, LOGS) or ()
        except ClusterError:
            return ""  # a token may read logs, and not list files: then nobody can tell
        parts = [f.name.removeprefix(f"{task}.{stream}.") for f in files if f.name.startswith(f"{task}.{stream}.")]
        oldest = min((int(part) for part in parts if part.isdecimal()), default=0)
        if not oldest:
            return ""
        return f"{_dropped(source)} Files of it that had gone before the first look and are not copied: {oldest}."

    def _found_again(self, source: Source, copied: int, before: bytes) -> tuple[bytes, str]:
        """What follows the last place in the log that holds the bytes before; all of the log where none does."""
        at, position, held = 0, 0, b""
        while piece := self._cluster.logs(*source, offset=position):
            window = held + piece
            found = window.rfind(before)
            if found >= 0:
                at = position - len(held) + found + len(before)
            held = window[-len(before) :]
            position += len(piece)
        if not position:
            return b"", ""  # nothing is kept any more
        self._dropped[source] = copied - at
        remark = "" if at else f"{_dropped(source)} A part was not copied."
        return self._cluster.logs(*source, offset=at), remark


def _dropped(source: Source) -> str:
    _, task, stream = source
    return f"The cluster keeps only the end of the {stream} of {task}."
