"""An allocation's files and logs over Nomad's `/v1/client/fs`: read whole, in parts, and followed as they are written.

Holds what is asked and what the answers mean. Must not know what the files are for. All by the session: python-nomad
decodes logs to text, has no limits, and holds a followed log back until it ends.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from caravan.cluster.connection import Connection
from caravan.cluster.snapshots import one_line
from caravan.cluster.watcher import Outage
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import ClusterDenied, ClusterError, ClusterUnreachable, JobNotFound, JobRefused
from caravan.values.job import FileEntry

MAX_FILE: Final = 16 << 20  # bytes of a file that is read whole; results that we read are small
MAX_FRAME: Final = 1 << 20  # bytes of one frame of a followed log; Nomad's hold at most 64 KiB of the log
IDLE: Final = 4.0  # seconds without a byte after which a followed log is cut; Nomad sends an empty frame every second
LOOK: Final = 2.0  # least seconds between two looks whether a quiet task is over
PAUSE: Final = 0.5  # seconds before a log that ended early, or that is not there yet, is asked for again

_NO_FILE: Final = (
    "no such file",
    "file does not exist",
    "cannot find the file",
    "alloc not found",
    "unknown allocation",
    "not a directory",
    "is a directory",
)
_NO_LOG_YET: Final = ("not started yet", "no logs available", "no such file")
_OVER: Final = frozenset({"complete", "failed", "lost"})


class FileTooLarge(ClusterError):
    """A file that is there, but is too large to be read whole."""


class AllocFiles:
    """Reads allocations' files. `outage_limit`: seconds of an outage that following a log rides out."""

    def __init__(self, connection: Connection, clock: Clock, *, namespace: str, outage_limit: float) -> None:
        self._connection = connection
        self._clock = clock
        self._namespace = namespace
        self._outage_limit = outage_limit

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int, limit: int) -> bytes:
        """Bytes of a task's log from `offset` on. JobNotFound when allocation or task are not there.

        The offset counts from the oldest log file that the client still keeps.
        """
        params = self._log_params(task, stream, offset) | {"plain": "true"}
        try:
            return self._connection.read(_log_path(alloc_id), what="read a log", params=params, limit=limit)
        except JobNotFound as error:
            if any(words in error.message.lower() for words in _NO_LOG_YET):
                return b""
            raise
        except JobRefused as refusal:
            raise JobNotFound(f"No such log: {one_line(refusal.message)}.") from refusal

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        """A file, whole, or None where there is none or a directory. More than 16 MiB raise FileTooLarge."""
        data = self._read("cat", alloc_id, path, limit=MAX_FILE + 1)
        if data is not None and len(data) > MAX_FILE:
            raise FileTooLarge(
                f"{path} of the allocation has more than {MAX_FILE >> 20} MiB.", hint="Fetch it with `pull`."
            )
        return data

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        """A part of a file; JobNotFound when it is not there."""
        data = self._read("readat", alloc_id, path, limit=limit, offset=offset)
        if data is None:
            raise JobNotFound(f"{path} of the allocation {alloc_id[:8]} is not there.")
        return data

    def _read(self, call: str, alloc_id: str, path: str, *, limit: int, offset: int | None = None) -> bytes | None:
        params: dict[str, str | int] = {"path": path, "namespace": self._namespace}
        if offset is not None:
            params |= {"offset": offset, "limit": limit}
        try:
            return self._connection.read(
                f"/v1/client/fs/{call}/{quote(alloc_id, safe='')}",
                what=f"read {path} of the allocation",
                params=params,
                limit=limit,
            )
        except ClusterError as error:
            if _is_absent(error):
                return None
            raise

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        """A directory's entries by name, or None."""
        what = f"list {path} of the allocation"
        params: dict[str, str | int] = {"path": path, "namespace": self._namespace}
        try:
            answer = self._connection.send(
                "GET", f"/v1/client/fs/ls/{quote(alloc_id, safe='')}", what=what, params=params, repeat=True
            )
        except ClusterError as error:
            if _is_absent(error):
                return None
            raise
        listed = self._connection.call(answer.json, what=what)
        with self._connection.reading(what):
            # Nomad says null for an empty directory.
            found = [_entry(f) for f in listed or ()]
        return tuple(sorted(found, key=lambda f: f.name))

    def follow_log(self, alloc_id: str, task: str, stream: str, *, offset: int) -> Iterator[bytes]:
        """Bytes as they are written, until the task is over; empty bytes every few seconds.

        A connection that is cut, silent or refused is opened anew where it ended. Nomad goes on following a log whose
        task has ended, so that is asked for while the log is quiet.
        """
        outage = Outage(self._clock, self._outage_limit)
        while True:
            before = offset
            try:
                # Asked first: what the task wrote before is then all there.
                if self._is_over(alloc_id, task):
                    for data in self._rest(alloc_id, task, stream, offset):
                        offset += len(data)
                        yield data
                    return
                for data in self._followed(alloc_id, task, stream, offset):
                    outage.over()
                    offset += len(data)
                    yield data
            except JobNotFound:
                if before > 0:
                    return  # collected as garbage meanwhile: nothing more can come
                raise
            except ClusterError as error:
                yield b""
                outage.ride_out(error)
                continue
            if offset == before:
                yield b""
                self._clock.sleep(PAUSE)

    def _followed(self, alloc_id: str, task: str, stream: str, offset: int) -> Iterator[bytes]:
        """What one connection brings; it ends when the log does, or when it is quiet and the task is over."""
        params = self._log_params(task, stream, offset) | {"follow": "true"}
        looked = self._clock.monotonic()
        try:
            with self._connection.stream(_log_path(alloc_id), what="follow a log", params=params, idle=IDLE) as chunks:
                for data in self._frames(chunks):
                    yield data
                    if not data and self._clock.monotonic() - looked >= LOOK:
                        looked = self._clock.monotonic()
                        if self._is_over(alloc_id, task):
                            return
        except JobNotFound as error:
            if not any(words in error.message.lower() for words in _NO_LOG_YET):
                raise
        except JobRefused as refusal:
            raise JobNotFound(f"No such log: {one_line(refusal.message)}.") from refusal

    def _frames(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The data of each frame (`{"Data": base64, "File": …, "Offset": …}` after one another; `{}`: a heartbeat)."""
        held, decoder = "", json.JSONDecoder()
        for chunk in chunks:
            held += chunk.decode("utf-8", "replace").lstrip()
            while "}" in held:
                try:
                    frame, end = decoder.raw_decode(held)
                except (ValueError, RecursionError):
                    break  # its end has not come yet, or never will
                held = held[end:].lstrip()
                yield self._data(frame)
            if len(held) > MAX_FRAME or (held and held[0] != "{"):
                self._connection.misshapen("follow a log")

    def _data(self, frame: Any) -> bytes:
        try:
            return base64.b64decode(frame.get("Data") or "", validate=True)
        except (AttributeError, TypeError, binascii.Error, ValueError) as error:
            self._connection.misshapen("follow a log", error)

    def _rest(self, alloc_id: str, task: str, stream: str, offset: int) -> Iterator[bytes]:
        """What is left of a log whose task is over. Looked for twice: Nomad's log collector ends after the task."""
        for last in (False, True):
            while data := self.logs(alloc_id, task, stream, offset=offset, limit=1 << 20):
                offset += len(data)
                yield data
            if not last:
                self._clock.sleep(PAUSE)

    def _is_over(self, alloc_id: str, task: str) -> bool:
        """Whether the task writes no more. JobNotFound when there is no such allocation."""
        what = "read the allocation"
        answer = self._connection.send(
            "GET",
            f"/v1/allocation/{quote(alloc_id, safe='')}",
            what=what,
            params={"namespace": self._namespace},
            repeat=True,
        )
        alloc: Json = self._connection.shape(self._connection.call(answer.json, what=what), dict, what)
        with self._connection.reading(what):
            state = (alloc.get("TaskStates") or {}).get(task) or {}
            return alloc.get("ClientStatus") in _OVER or state.get("State") == "dead"

    def _log_params(self, task: str, stream: str, offset: int) -> dict[str, str | int]:
        return {"task": task, "type": stream, "origin": "start", "offset": offset, "namespace": self._namespace}


def _log_path(alloc_id: str) -> str:
    return f"/v1/client/fs/logs/{quote(alloc_id, safe='')}"


def _entry(found: Json) -> FileEntry:
    mode = str(found.get("FileMode") or "-")
    return FileEntry(name=found["Name"], is_dir=bool(found["IsDir"]), is_link=mode[0] in "lL", size=found["Size"])


def _is_absent(error: ClusterError) -> bool:
    """Whether an error means that a file is not there: Nomad's client answers 404, 400 or 500 for that, by version.

    What a gateway says of its own troubles, or a denial of the namespace, is no word about a file.
    """
    if isinstance(error, (ClusterUnreachable, ClusterDenied)):
        return False
    return isinstance(error, JobNotFound) or any(words in error.message.lower() for words in _NO_FILE)
