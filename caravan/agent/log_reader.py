"""Reading on in a task's log, though the cluster keeps only its end: it knows the bytes before, not what they mean.

A cluster counts offsets from the oldest byte that it still keeps. When it drops the oldest file of a log, the offset
of everything else moves: read on blindly, the copy would miss a part or stand still for ever.
"""

from typing import Final

from caravan.ports import Cluster
from caravan.values.errors import ClusterError, ClusterUnreachable

Source = tuple[str, str, str]
"""Allocation, task, stream."""

LOGS: Final = "alloc/logs"
"""Where an allocation's log files are, named by task, stream and number."""

_REMEMBERED: Final = 4096
"""Bytes before the place where reading goes on; they must be there again, or the offsets have moved."""

_TRIES: Final = 4  # files that may be dropped one after the other while one piece is read

Files = dict[int, int]
"""A log's files that are kept: number and size in bytes. All but the newest are whole, and their sizes are final."""

Place = tuple[int, int]
"""Where reading goes on: a file's number, and bytes of it that are read. No drop of another file moves it."""


class LogReader:
    """Reads what follows in logs. Every method may raise a ClusterError; then reading goes on with the next call.

    Where the cluster lists a log's files, the place in it is known to the byte. Where a token may not list them, the
    bytes before the place are looked for: in a log that repeats itself they may be found elsewhere too.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before: dict[Source, bytes] = {}
        self._dropped: dict[Source, int] = {}
        self._kept: dict[Source, Files] = {}
        self._places: dict[Source, Place] = {}

    def read(self, source: Source, copied: int) -> tuple[bytes, str]:
        """What follows after `copied` bytes, empty when nothing does (yet), and a remark where bytes are missing."""
        if source in self._places:
            return self._by_files(source, copied)
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

    def _by_files(self, source: Source, copied: int) -> tuple[bytes, str]:
        """What follows the place, which is looked up anew when a file was dropped."""
        place, before = self._places[source], self._before[source]
        for _ in range(_TRIES):
            kept = self._kept[source]
            at = _offset(kept, place)
            tail = before[len(before) - min(at or 0, len(before)) :]
            data = self._cluster.logs(*source, offset=(at or 0) - len(tail))
            if at is not None and data == tail and not _repeats(tail):
                return b"", ""  # nothing new, and nothing has moved: the files need no look
            after = self._files(source)
            if not after:  # collected, or not to be listed any more
                self._places.pop(source)
                self._dropped[source], self._before[source] = copied - (at or 0), tail
                return self.read(source, copied)
            self._kept[source] = after
            if min(after) == min(kept):  # nothing was dropped between the two looks: the offset was right
                break
        else:
            return b"", ""
        remark = "" if at is not None else f"{_dropped(source)} A part was not copied."
        if data.startswith(tail):
            data = data[len(tail) :]
        else:  # it is another log than it was
            data, remark = self._found_again(source, copied, before)
            at = copied - self._dropped.get(source, copied)
        self._places[source] = _place(after, (at or 0) + len(data))
        self._before[source] = ((b"" if remark else before) + data)[-_REMEMBERED:]
        return data, remark

    def _files(self, source: Source) -> Files:
        """The files that are kept; none where that can't be told."""
        alloc_id, task, stream = source
        try:
            listed = self._cluster.list_files(alloc_id, LOGS) or ()
        except ClusterUnreachable:
            raise
        except ClusterError:
            return {}  # a token may read logs, and not list files
        named = {
            f.name.removeprefix(f"{task}.{stream}."): f.size for f in listed if f.name.startswith(f"{task}.{stream}.")
        }
        return {int(number): size for number, size in named.items() if number.isascii() and number.isdigit()}

    def _begin(self, source: Source, copied: int, kept: Files) -> tuple[bytes, str]:
        """The first look at a log whose files are listed: they are numbered from 0 on."""
        oldest, remark, at = min(kept), "", copied
        if oldest and copied:
            # How many bytes the dropped ones had is known to nobody any more.
            remark = f"{_dropped(source)} What stands twice in its copy or is missing there can't be told."
        elif oldest:
            remark = f"{_dropped(source)} Files of it that had gone before the first look and are not copied: {oldest}."
        if oldest or copied > sum(kept.values()):
            at = 0
        self._kept[source], self._places[source], self._before[source] = kept, _place(kept, at), b""
        data, more = self._by_files(source, copied)
        if remark and not data:  # told with the first bytes
            self._places.pop(source, None)
            self._before.pop(source, None)
            return b"", ""
        return data, remark or more

    def _first(self, source: Source, copied: int) -> tuple[bytes, str]:
        """What follows after the place where an earlier agent stopped; if there is no such place, all that is kept."""
        kept = self._files(source)
        if kept:
            return self._begin(source, copied, kept)
        back = min(copied, _REMEMBERED)
        data, at, remark = self._cluster.logs(*source, offset=copied - back), back, ""
        if len(data) < back:
            data, at = self._cluster.logs(*source), 0
            if not data:
                return b"", ""  # nothing is kept any more
            self._dropped[source] = copied
            remark = f"{_dropped(source)} What stands twice in its copy or is missing there can't be told."
        if not data:
            return b"", ""  # nothing is written yet, nor a file there to list
        self._before[source] = data[-_REMEMBERED:]
        return data[at:], remark

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


def _offset(kept: Files, place: Place) -> int | None:
    """Where a place is, counted from the oldest byte that is kept; None where its file was dropped."""
    number, read = place
    return None if number < min(kept) else sum(size for n, size in kept.items() if n < number) + read


def _repeats(tail: bytes) -> bool:
    """Whether the bytes may stand elsewhere in the log too, so that finding them again proves no place."""
    return tail[: len(tail) // 2] in tail[1:]


def _place(kept: Files, at: int) -> Place:
    """The place so many bytes after the oldest that is kept."""
    *whole, newest = sorted(kept)
    for number in whole:
        if at < kept[number]:
            return number, at
        at -= kept[number]
    return newest, at
