"""The API's view of an allocation's files: listings, contents and logs. Nothing outside its directory is shown."""

import asyncio
import base64
import json
import os
import stat
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from caravan.cluster.local.broker import Refused
from caravan.cluster.local.executor import numbered
from caravan.cluster.local.state import AllocRecord, State
from caravan.cluster.local.taskdir import EscapesDirectory, inside
from caravan.cluster.local.web import answer, flag
from caravan.cluster.local.words import JsonDict, go_quote, rfc3339

_CHUNK = 1 << 16
_FOLLOW_SECONDS = 0.1
_MOST_DIGITS = 18  # of a position: what a file's may have at most, in 64 bits
_BEAT_SECONDS = 1.0  # as Nomad's


class Files:
    """Handlers for `/v1/client/fs`, and for what checks say of an allocation."""

    def __init__(self, state: State, allocs: Path, checks: Mapping[str, Mapping[str, JsonDict]]) -> None:
        self._state = state
        self._allocs = allocs
        self._checks = checks

    def routes(self) -> list[Route]:
        """The routes."""
        get = partial(Route, methods=["GET"])
        return [
            get("/v1/client/fs/ls/{id}", self.listing),
            get("/v1/client/fs/stat/{id}", self.status),
            get("/v1/client/fs/cat/{id}", self.cat),
            get("/v1/client/fs/readat/{id}", self.read_at),
            get("/v1/client/fs/logs/{id}", self.logs),
            get("/v1/client/allocation/{id}/checks", self.checks),
            get("/v1/allocation/{id}/checks", self.checks),
        ]

    async def checks(self, request: Request) -> Response:
        """GET /v1/client/allocation/:id/checks."""
        return answer(dict(self._checks.get(self._record(request).id) or {}))

    def _record(self, request: Request) -> AllocRecord:
        found = self._state.allocs.get(request.path_params["id"])
        if found is None:
            raise Refused(f"Unknown allocation {go_quote(request.path_params['id'])}", 404)
        return found

    def _path(self, request: Request) -> Path:
        """The file that is asked for. Secrets are shown to nobody."""
        record = self._record(request)
        root = self._allocs / record.id
        try:
            found = inside(root, request.query_params.get("path") or "/")
        except (EscapesDirectory, ValueError) as error:
            raise Refused(str(error)) from error
        parts = found.relative_to(os.path.realpath(root)).parts
        if len(parts) > 1 and parts[1] == "secrets" and parts[0] != "alloc":
            raise Refused(f"Reading secret file prohibited: {'/'.join(parts)}", 403)
        return found

    @staticmethod
    def _shown(path: Path) -> JsonDict:
        info = path.lstat()
        return {
            "FileMode": stat.filemode(info.st_mode),
            "IsDir": stat.S_ISDIR(info.st_mode),
            "ModTime": rfc3339(info.st_mtime_ns),
            "Name": path.name,
            "Size": info.st_size,
        }

    async def listing(self, request: Request) -> Response:
        """GET /v1/client/fs/ls/:id."""
        path = self._path(request)
        try:
            return answer([self._shown(entry) for entry in sorted(path.iterdir())])
        except OSError as error:
            raise _missing(path, error) from error

    async def status(self, request: Request) -> Response:
        """GET /v1/client/fs/stat/:id."""
        path = self._path(request)
        try:
            return answer(self._shown(path))
        except OSError as error:
            raise _missing(path, error) from error

    async def cat(self, request: Request) -> Response:
        """GET /v1/client/fs/cat/:id."""
        path = self._path(request)
        return StreamingResponse(_chunks(_opened(path), 0, None), media_type="application/octet-stream")

    async def read_at(self, request: Request) -> Response:
        """GET /v1/client/fs/readat/:id."""
        offset, limit = _number(request, "offset"), _number(request, "limit")
        file = _opened(self._path(request))
        return StreamingResponse(_chunks(file, offset, limit), media_type="application/octet-stream")

    async def logs(self, request: Request) -> Response:
        """GET /v1/client/fs/logs/:id: the bytes with `plain`, else frames as JSON; `follow` until the task ends."""
        query = request.query_params
        task, kind = query.get("task", ""), query.get("type", "")
        if not task:
            raise Refused("must provide task name", 400)
        if kind not in ("stdout", "stderr"):
            raise Refused("must provide log type (stdout/stderr)", 400)
        if query.get("origin", "start") not in ("start", "end"):
            raise Refused("origin must be start or end", 400)
        record = self._record(request)
        if task not in record.body["AllocatedResources"]["Tasks"]:
            raise Refused(f"unknown task name {go_quote(task)}", 400)
        if not self._started(record.id, task):
            raise Refused(f"task {go_quote(task)} not started yet. No logs available", 404)
        log = Log(self._allocs / record.id / "alloc" / "logs", f"{task}.{kind}")
        offset = _number(request, "offset")
        at = max(log.start(), log.end() - offset) if query.get("origin") == "end" else log.start() + offset
        chunks = self._follow(log, at, record.id, task) if flag(request, "follow") else _once(log, at)
        if flag(request, "plain"):
            return StreamingResponse(_plain(chunks), media_type="text/plain")
        return StreamingResponse(_frames(chunks), media_type="application/json")

    def _started(self, alloc_id: str, task: str) -> bool:
        states = self._state.allocs[alloc_id].body.get("TaskStates") or {}
        return bool(states.get(task, {}).get("StartedAt"))

    def _over(self, alloc_id: str, task: str) -> bool:
        record = self._state.allocs.get(alloc_id)
        return record is None or (record.body.get("TaskStates") or {}).get(task, {}).get("State") == "dead"

    async def _follow(self, log: "Log", at: int, alloc_id: str, task: str) -> AsyncIterator["Piece | None"]:
        """What the log says from `at` on, until the task is over; None now and then, to show that we are here."""
        loop = asyncio.get_running_loop()
        beat = loop.time()
        while True:
            over = self._over(alloc_id, task)  # asked first: what it wrote before is then all there
            for piece in log.read(at):
                at, beat = piece.end, loop.time()
                yield piece
            if over:
                return
            if loop.time() - beat > _BEAT_SECONDS:
                beat = loop.time()
                yield None
            await asyncio.sleep(_FOLLOW_SECONDS)


class Piece:
    """Bytes of a log file: `end` is their end in the log, `offset` their end in the file."""

    def __init__(self, data: bytes, file: str, end: int, offset: int) -> None:
        self.data = data
        self.file = file
        self.end = end
        self.offset = offset


class Log:
    """A task's output over its rotated files. Positions count from the first byte that was ever written.

    Files that rotation has dropped had the same size as the oldest one that is left.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    def _files(self) -> list[tuple[Path, int, int]]:
        """The files with the position and the size of each, the oldest first."""
        found = [(number, path, _size(path)) for number, path in numbered(self._folder, self._name)]
        listed: list[tuple[Path, int, int]] = []
        at = found[0][0] * found[0][2] if found else 0
        for _, path, size in found:
            listed.append((path, at, size))
            at += size
        return listed

    def start(self) -> int:
        """The position of the first byte that is still there."""
        files = self._files()
        return files[0][1] if files else 0

    def end(self) -> int:
        """The position after the last byte."""
        files = self._files()
        return files[-1][1] + files[-1][2] if files else 0

    def read(self, at: int) -> "list[Piece]":
        """What there is from a position on, in pieces of bounded size and number."""
        pieces: list[Piece] = []
        for path, begin, size in self._files():
            if at >= begin + size:
                continue
            inner = max(0, at - begin)
            try:
                with path.open("rb") as file:
                    file.seek(inner)
                    data = file.read(_CHUNK)
            except FileNotFoundError:
                continue  # rotated away while we looked
            pieces.append(Piece(data, f"alloc/logs/{path.name}", begin + inner + len(data), inner + len(data)))
            if inner + len(data) < size:
                break
        return pieces


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # rotated away while we looked
        return 0


async def _once(log: Log, at: int) -> AsyncIterator[Piece | None]:
    end = log.end()
    while at < end:
        pieces = log.read(at)
        if not pieces:
            return
        for piece in pieces:
            at = piece.end
            yield piece


async def _plain(pieces: AsyncIterator[Piece | None]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if piece is not None:
            yield piece.data


async def _frames(pieces: AsyncIterator[Piece | None]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        frame = {}
        if piece is not None:
            data = base64.b64encode(piece.data).decode()
            frame = {"Data": data, "File": piece.file, "Offset": piece.offset}
        yield json.dumps(frame).encode()


def _missing(path: Path, error: OSError) -> Refused:
    kind = "no such file or directory" if isinstance(error, FileNotFoundError) else (error.strerror or str(error))
    return Refused(f"stat {path.name}: {kind}", 404 if isinstance(error, FileNotFoundError) else 500)


def _opened(path: Path) -> int:
    """The file's descriptor; a directory, a pipe or a device is refused."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _missing(path, error) from error
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise Refused(f"file {go_quote(path.name)} is a directory", 400)
    return opened


async def _chunks(opened: int, offset: int, limit: int | None) -> AsyncIterator[bytes]:
    with os.fdopen(opened, "rb") as file:
        file.seek(offset)
        while limit is None or limit > 0:
            data = file.read(_CHUNK if limit is None else min(limit, _CHUNK))
            if not data:
                return
            limit = None if limit is None else limit - len(data)
            yield data


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name) or "0"
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        raise Refused(f"error parsing {name}: invalid number {go_quote(text)}", 400)
    return int(text)
