"""The application: all routes behind the guard, errors as Nomad words them, the event stream."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from caravan.cluster.local import trouble
from caravan.cluster.local.api_actions import Actions
from caravan.cluster.local.api_cluster import Cluster, Identity
from caravan.cluster.local.api_jobs import Jobs
from caravan.cluster.local.api_variables import VariableCalls
from caravan.cluster.local.broker import Broker, Refused
from caravan.cluster.local.canonical import ShapeError
from caravan.cluster.local.encoding import encoded
from caravan.cluster.local.files import Files
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.state import Event, State
from caravan.cluster.local.variables import Variables
from caravan.cluster.local.web import Guard
from caravan.cluster.local.words import JsonDict

_BEAT_SECONDS = 10.0


_TOO_SLOW = b"subscription closed by server, client should resubscribe\n"
"""Nomad's last words to a reader who is further behind than events are kept."""


class Stream:
    """`/v1/event/stream`: what changes, one JSON object to a line, `{}` now and then."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def read(self, request: Request) -> Response:
        """GET /v1/event/stream; `topic=Job:id` (more than once), `namespace`, `index` to begin with older events.

        An index that was never reached begins with what comes next, as in Nomad: the server may be another one.
        """
        topics = [t.partition(":") for t in request.query_params.getlist("topic")] or [("*", ":", "*")]
        wanted = [(topic, key or "*") for topic, _, key in topics]
        first = request.query_params.get("index") or "0"
        if not first.isdigit():
            raise Refused("Invalid index", 400)
        after = min(int(first) - 1, self._state.index) if int(first) else self._state.index
        if request.query_params.get("namespace", "default") not in ("default", "*"):
            wanted = []  # all that happens is in the one namespace
        return StreamingResponse(self._lines(wanted, after), media_type="application/json")

    async def _lines(self, wanted: Sequence[tuple[str, str]], after: int) -> AsyncIterator[bytes]:
        yield b"{}\n"
        behind = False  # whether this reader has to find the place where it left off
        while True:
            lines: dict[tuple[int, int], list[Event]] = {}
            kept = list(self._state.events)
            if behind and len(kept) == self._state.events.maxlen and kept[0].index > after + 1:
                yield _TOO_SLOW
                return
            behind = True
            for event in kept:
                if event.index > after and _matches(event, wanted):
                    lines.setdefault((event.index, event.line), []).append(event)
            after = max(after, self._state.index)
            for (index, _), events in lines.items():
                line = {"Events": [e.shown() for e in events], "Index": index}
                yield encoded(line) + b"\n"
            if self._state.index > after:
                continue
            before = self._state.index
            await self._state.moved(_BEAT_SECONDS)
            if self._state.index == before:
                yield b"{}\n"


def _matches(event: Event, wanted: Sequence[tuple[str, str]]) -> bool:
    keys = (event.key, *event.filter_keys, "*")
    return any(topic in ("*", event.topic) and key in keys for topic, key in wanted)


async def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return PlainTextResponse(error.text, error.status)
    return PlainTextResponse(str(error), 400)


def _unwritten(path: Path) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The answer to a request whose change could not be stored; the cluster goes on."""

    async def refuse(_: Request, error: Exception) -> Response:
        if not isinstance(error, sqlite3.Error):
            raise error
        return PlainTextResponse(trouble.unwritable(path, error), 500)

    return refuse


async def _http_error(_: Request, error: Exception) -> Response:
    """Nomad answers an unknown path with an empty body."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return PlainTextResponse("" if status == 404 else "Invalid method", status)


def build_app(
    state: State,
    broker: Broker,
    machines: Sequence[Node],
    identity: Identity,
    *,
    allocs: Path,
    variables: Variables,
    token: str,
    checks: Mapping[str, Mapping[str, JsonDict]] | None = None,
) -> Starlette:
    """The application over its parts; `allocs` is the directory of all allocations, `checks` what checks say."""
    routes: list[Route] = [
        *Cluster(state, broker, machines, identity).routes(),
        *Actions(state, broker).routes(),
        *Jobs(state, broker).routes(),
        *Files(state, allocs, {} if checks is None else checks).routes(),
        *VariableCalls(variables).routes(),
        Route("/v1/event/stream", Stream(state).read, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={
            Refused: _refused,
            ShapeError: _refused,
            HTTPException: _http_error,
            sqlite3.Error: _unwritten(state.path),
        },
    )
