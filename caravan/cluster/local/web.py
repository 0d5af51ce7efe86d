"""What all answers have in common: the guard at the door, JSON with Nomad's headers, blocking queries."""

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from caravan.cluster.local.broker import Refused
from caravan.cluster.local.encoding import encoded
from caravan.cluster.local.state import State
from caravan.cluster.local.words import SECOND, parse_duration

MAX_BODY = 32 * 1024 * 1024
"""Bytes of a request's body that are read; a job with its templates is far smaller."""

_DEFAULT_WAIT = 300.0  # as Nomad's blocking queries
_MAX_WAIT = 600.0
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Lets in requests that are addressed to the loopback and carry the token.

    The Host header is checked so that a web page whose name is rebound to the loopback can't speak to the cluster.
    """

    def __init__(self, app: ASGIApp, *, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 413, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refused = self._refusal(headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: dict[bytes, bytes]) -> Response | None:
        if host_of(headers.get(b"host", b"").decode("latin-1")) not in _LOOPBACK:
            return PlainTextResponse("Host must be the loopback", 403)
        given = headers.get(b"x-nomad-token") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if not secrets.compare_digest(given, self._token):
            return PlainTextResponse("Permission denied", 403)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return PlainTextResponse("http: request body too large", 413)
        return None


def host_of(header: str) -> str:
    """The host in a Host header, without its port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


async def body_of(request: Request) -> dict[str, Any]:
    """The request's JSON object. Raises Refused for anything else."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BODY:
            raise Refused("http: request body too large", 413)
    try:
        value = json.loads(raw or b"{}")
        if _HALF.search(raw):
            value = _whole(value)
    except (ValueError, RecursionError) as error:
        raise Refused(f"json: {error}", 400) from error
    if not isinstance(value, dict):
        raise Refused("json: the body must be an object", 400)
    return value


def _whole(value: Any) -> Any:
    """The value with U+FFFD for each half of a character, as Go reads it: no text with one can be stored."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(inner) for key, inner in value.items()}
    return value


def answer(value: Any, *, index: int | None = None, status: int = 200) -> Response:
    """JSON with the headers of a query where there is an index. Bytes are JSON already."""
    headers = {}
    if index is not None:
        headers = {"X-Nomad-Index": str(index), "X-Nomad-KnownLeader": "true", "X-Nomad-LastContact": "0"}
    text = value if isinstance(value, bytes) else encoded(value)
    return Response(text, status_code=status, headers=headers, media_type="application/json")


async def settle(request: Request, state: State, index: Callable[[], int], job_id: str = "") -> int:
    """Wait as a blocking query does, until `index` is above the request's; then that index.

    With a job's id only changes of that job, its evaluations and allocations are looked at while it waits, as in
    Nomad: those of others wake nobody, though they move the index.
    """
    query = request.query_params
    try:
        known = int(query.get("index") or 0)
    except ValueError as error:
        raise Refused("Invalid index", 400) from error
    try:
        wait = parse_duration(query["wait"]) / SECOND if query.get("wait") else _DEFAULT_WAIT
    except ValueError as error:
        raise Refused("Invalid wait time", 400) from error
    rest = min(wait, _MAX_WAIT)
    loop = asyncio.get_running_loop()
    end = loop.time() + rest
    while known and index() <= known and loop.time() < end:
        await state.moved(end - loop.time(), job_id)
    return index()


def flag(request: Request, name: str) -> bool:
    """Whether a query parameter says yes."""
    return request.query_params.get(name, "").lower() in ("1", "t", "true")
