"""The way to one server: an HTTP client that goes to no other host, and holds a call to its deadline and its bytes.

The deadline is counted below HTTP, at each operation of the socket, so that a server that sends a byte now and then,
in a header or in a body, does not outlast it. Names are looked up by the system, under its own time-out. It must not
know what is asked.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

import httpcore2
import httpx2

from caravan.agent.model.sse import events_of, is_done, joined
from caravan.values.errors import ModelError
from caravan.values.model import ModelFault

if TYPE_CHECKING:
    from caravan.agent.model.access import ModelAccess
    from caravan.ports import Clock

AGENT: Final = "caravan"
_END_S: Final = 0.2  # the wait for what ends a stream after its last event
_KEPT_S: Final = 4.0  # an idle connection is used again: shorter than servers keep one (uvicorn, vLLM's: 5 s)
_SENT: Final = frozenset({"host", "content-type", "content-length", "transfer-encoding", "accept", "authorization"})
"""The headers that go out. The OpenAI library adds others: organisation, project, operating system, own headers that
the environment names."""


class Call:
    """One call's deadline and bytes, while it goes on. `begun`: a sign of a reply was there; `over`: its last event."""

    def __init__(self, access: ModelAccess, clock: Clock) -> None:
        self._clock, self._access = clock, access
        self._start = self._sent = clock.monotonic()
        self._bytes = 0
        self.begun = False
        self.over = False

    @property
    def seconds(self) -> float:
        """How long it has gone on."""
        return max(0.0, self._clock.monotonic() - self._start)

    def left(self) -> float:
        """Seconds that may still pass; always more than 0. Raises ModelError where none are left."""
        left = self._access.timeout_s - self.seconds
        if not self.begun:
            left = min(left, self._access.first_token_s - (self._clock.monotonic() - self._sent))
        if self.over:
            left = min(left, _END_S)
        if left <= 0:
            raise self.late()
        return left

    def left_in_all(self) -> float:
        """Seconds until the deadline, whatever has come; 0 or less: it has passed."""
        return self._access.timeout_s - self.seconds

    def again(self) -> None:
        """The request is sent once more: the wait for its first sign begins anew, the deadline does not."""
        self._bytes, self.begun, self.over, self._sent = 0, False, False, self._clock.monotonic()

    def count(self, size: int) -> None:
        """So many bytes came. Raises ModelError beyond the limit."""
        self._bytes += size
        if self._bytes > self._access.reply_bytes:
            most = self._access.reply_bytes / 1e6
            raise ModelError(f"The model's answer is longer than {most:g} MB.", fault=ModelFault.TOO_LONG)

    def late(self) -> ModelError:
        """What a call that has no time left raises."""
        if self.begun:
            said = f"The model's reply was not complete within {self._access.timeout_s:g} s."
        else:
            first = min(self._access.first_token_s, self._access.timeout_s)
            said = f"The model did not begin to reply within {first:g} s."
        return ModelError(said, fault=ModelFault.TIMED_OUT, hint="Raise CARAVAN_MODEL_TIMEOUT_S, or look at its load.")


_current: ContextVar[Call | None] = ContextVar("caravan_model_call", default=None)


@contextmanager
def under(call: Call) -> Iterator[Call]:
    """What is read from the network inside the block counts for that call."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)


def left_over() -> float:
    """Seconds that the call under way has left; endless where none is. Raises ModelError where none are left."""
    call = _current.get()
    return math.inf if call is None else call.left()


def _bounded(timeout: float | None) -> float | None:
    call = _current.get()
    if call is None:
        return timeout
    return call.left() if timeout is None else min(timeout, call.left())


class _Stream(httpcore2.NetworkStream):
    """A connection whose every read and write is bounded by the call that is under way."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        call = _current.get()
        try:
            data = self._inner.read(max_bytes, _bounded(timeout))
        except httpcore2.ReadTimeout as error:
            if call is None:
                raise
            raise call.late() from error
        if call is not None:
            call.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _bounded(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _bounded(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.SyncBackend):
    """Opens connections that are bounded so."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(super().connect_tcp(host, port, _bounded(timeout), local_address, socket_options))


class _Transport(httpx2.HTTPTransport):
    """The library's transport over such connections; requests to another origin, and other headers, don't leave it."""

    def __init__(self, access: ModelAccess) -> None:
        super().__init__(verify=False, trust_env=False)  # its own pool is never used
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_certificates(access),
            proxy=_proxy(access.proxy.get_secret_value()) if access.proxy else None,
            max_connections=None,  # who waits for a free connection would wait for another run's reply
            max_keepalive_connections=4,
            keepalive_expiry=_KEPT_S,
            network_backend=_Backend(),
        )
        self._origin = _origin(httpx2.URL(access.url))
        self._has_key = access.key is not None

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if _origin(request.url) != self._origin:
            raise ModelError("A request would have gone to another host.", fault=ModelFault.UNREACHABLE)
        for name in list(request.headers):
            if name not in _SENT or (name == "authorization" and not self._has_key):
                del request.headers[name]
        request.headers["user-agent"] = AGENT
        request.headers["accept-encoding"] = "identity"  # what is packed has no length before it is unpacked
        response = super().handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise ModelError("The model's server packs its answers unasked.", fault=ModelFault.SERVER_ERROR)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return httpx2.Response(
                status_code=response.status_code,
                headers=response.headers,
                stream=_Events(cast(httpx2.SyncByteStream, response.stream)),
                extensions=response.extensions,
            )
        return response


class _Events(httpx2.SyncByteStream):
    """A reply's stream with its small pieces joined. A second event means that tokens are made."""

    def __init__(self, inner: httpx2.SyncByteStream) -> None:
        self._inner = inner
        self._seen = 0

    def __iter__(self) -> Iterator[bytes]:
        return joined(self._events(), self._saw)

    def _events(self) -> Iterator[bytes]:
        """The events; after the last of them the stream is read to its end.

        The library leaves there, and a connection whose answer was not read to its end is not used again.
        """
        events = events_of(self._inner)
        for event in events:
            if is_done(event):
                self._finish(events)
            yield event

    @staticmethod
    def _finish(events: Iterator[bytes]) -> None:
        call = _current.get()
        if call is None:
            return
        call.over = True
        with suppress(ModelError, httpx2.TransportError):
            next(events, None)  # a stream that goes on is left
        call.over = False

    def _saw(self) -> None:
        """The first event may say no more than that an assistant speaks."""
        self._seen += 1
        call = _current.get()
        if call is not None and self._seen > 1:
            call.begun = True

    def close(self) -> None:
        self._inner.close()


def _certificates(access: ModelAccess) -> ssl.SSLContext | None:
    """What the server is verified by; nothing for one that speaks no TLS: reading all certificates takes time."""
    if not access.url.startswith("https://") and access.proxy is None:
        return None
    return httpx2.create_ssl_context(verify=str(access.ca) if access.ca else True, trust_env=False)


class _Closed(httpx2.AsyncBaseTransport):
    """The way nowhere: the library makes a client for asynchronous calls as well, of which there are none."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("there are no asynchronous calls", request=request)


def no_async_client() -> httpx2.AsyncClient:
    """A client that goes nowhere."""
    return httpx2.AsyncClient(transport=_Closed(), trust_env=False)


def _proxy(text: str) -> httpcore2.Proxy:
    url = httpx2.Proxy(text)
    return httpcore2.Proxy(str(url.url), auth=url.raw_auth)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def http_client(access: ModelAccess) -> httpx2.Client:
    """An HTTP client for that server alone: no redirects, nothing taken from the environment."""
    limits = httpx2.Timeout(access.timeout_s, connect=min(access.connect_s, access.timeout_s))
    return httpx2.Client(transport=_Transport(access), timeout=limits, trust_env=False, follow_redirects=False)
