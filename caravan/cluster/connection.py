"""One HTTP connection to a Nomad API: its sessions, time-outs, bounds and safe repeats.

Every request of the client goes through here, python-nomad's too. Must not know what the requests are for, nor what a
refusal means (`refusals` does), nor how bytes get there (`transports` does). The token stands in one place, the
sessions' header; no message holds it.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from caravan.cluster.addresses import Proxies, parse_address, proxy_for
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import ClusterError, ClusterUnreachable, UsageError
from caravan.values.masking import mask

if TYPE_CHECKING:
    import requests

T = TypeVar("T")
Params = Mapping[str, str | int | list[str]]

CONNECT_TIMEOUT: Final = 5.0
MAX_ANSWER: Final = 64 << 20  # bytes of an answer that is read whole, unpacked: a list of 2,000 nodes has about 20 MB
MAX_WORDS_READ: Final = 1 << 16  # bytes of a refusal that are read
LEAST_RATE: Final = 32 << 10  # bytes/s below which a file or log comes too slowly to wait for

# How often a request that is safe to repeat is tried: where nobody answers, and where the cluster answers that it can't
# now. Electing a leader takes some seconds: 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s are waited for one.
ATTEMPTS: Final = 3
PASSING_ATTEMPTS: Final = 6
MAX_RETRY_AFTER: Final = 30.0  # seconds that the cluster may ask for; when it wants more, the user decides


class NoSuchCall(ClusterError):
    """Status 404 without Nomad's words for what is not there: it has no such call, or something in between answered."""


class Connection:
    """Sessions that speak to one address.

    `timeout` is how long an answer may take from beginning to end, in seconds. `http_auth` is `user:password` for a
    gateway before the cluster, `server_name` what its certificate must be for. Redirects are refused: they would carry
    the token elsewhere. The environment (proxies, .netrc, CA bundles) is not read: what matters of it comes in here.
    Raises UsageError for settings that can't be used; nothing is sent yet.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | None,
        region: str | None,
        verify: bool | str,
        cert: tuple[str, str] | None,
        clock: Clock,
        timeout: float,
        server_name: str | None = None,
        http_auth: str | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        from caravan.cluster import refusals, transports

        where = parse_address(address)
        proxy = proxy_for(where, proxies or Proxies())
        if token and not re.fullmatch(r"[!-~]+", token):
            # requests would quote such a token in its error.
            raise UsageError("The Nomad token holds spaces or unprintable characters.", hint="Set NOMAD_TOKEN anew.")
        self.address = where.base
        self.shown = where.shown
        self.region = region
        self.timeouts = (min(CONNECT_TIMEOUT, timeout), timeout)
        self._secrets = [s for s in (token, http_auth, http_auth and http_auth.partition(":")[2]) if s]
        self._clock = clock
        self._refusals = refusals.Refusals(self.shown, self.masked, has_token=bool(token), proxy=proxy)
        tls = transports.tls_context(verify, cert) if where.is_tls else None
        self.session = transports.make_session(where, tls, server_name=server_name, whole=True)
        self.streaming = transports.make_session(where, tls, server_name=server_name, whole=False)
        for session in (self.session, self.streaming):
            session.proxies = {"http": proxy, "https": proxy} if proxy else {}
            session.headers["User-Agent"] = "caravan"
            if http_auth:
                user, _, password = http_auth.partition(":")
                session.auth = (user.encode(), password.encode())
            if token:
                session.headers["X-Nomad-Token"] = token
            session.hooks["response"] = [self._refuse_redirect, self._take_whole]
        if verify is False:  # asked for by the user; a warning for each request would tell them nothing new
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def __repr__(self) -> str:
        return f"Connection({self.shown!r})"

    def close(self) -> None:
        """Let go of the sockets."""
        self.session.close()
        self.streaming.close()

    def masked(self, text: str) -> str:
        """`text` without the token and other secrets."""
        return mask(text, self._secrets)

    def call(self, request: Callable[[], T], *, what: str, repeat: bool = False) -> T:
        """Run a request (python-nomad's or a session's), map its failures, repeat it where that is safe.

        `what` completes "The cluster … to" in messages. `repeat` only for requests that may take effect twice.
        """
        from caravan.cluster.refusals import Passing, TimedOut

        tries = 0
        while True:
            try:
                return self._once(request, what)
            except ClusterUnreachable as error:
                tries += 1
                most = PASSING_ATTEMPTS if isinstance(error, Passing) else ATTEMPTS
                asked = error.wait_s if isinstance(error, Passing) else 0.0
                if not repeat or tries >= most or asked > MAX_RETRY_AFTER or isinstance(error, TimedOut):
                    raise
            self._clock.sleep(max(asked, 0.1 * 2.0**tries))

    def _once(self, request: Callable[[], T], what: str) -> T:
        import nomad
        import requests
        import urllib3

        try:
            return request()
        except nomad.api.exceptions.BaseNomadException as error:
            found = error.nomad_resp
            if isinstance(found, requests.Response):
                raise self._refusals.from_answer(found, what) from None  # its text is unmasked, ours holds it masked
            raise self._refusals.from_failure(found, what) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._refusals.from_failure(error, what) from error
        except (ValueError, RecursionError) as error:  # a number of ten thousand digits, brackets without end
            raise self.alien(what) from error

    def send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        params: Params | None = None,
        json: Json = None,
        wait: float = 0.0,
        repeat: bool = False,
        silent: bool = False,
        stream: bool = False,
    ) -> "requests.Response":
        """A request by the session alone, with its whole answer. `wait`: seconds that the server may hold it.

        `silent`: answers hold secrets, so none of their words goes into an error. `stream`: the body is left to the
        caller, who reads it as it comes and closes the answer; the time-out then counts for each read.
        """
        timeouts = (self.timeouts[0], self.timeouts[1] + wait)
        return self.call(
            lambda: self._request(method, path, what, params, timeouts, silent=silent, stream=stream, json=json),
            what=what,
            repeat=repeat,
        )

    def _request(
        self,
        method: str,
        path: str,
        what: str,
        params: Params | None,
        timeouts: tuple[float, float],
        *,
        stream: bool,
        silent: bool = False,
        json: Json = None,
    ) -> "requests.Response":
        response: requests.Response = (self.streaming if stream else self.session).request(
            method,
            self.address + path,
            params=self._query(params),
            json=json,
            # A compressor would hold back the first bytes of what is read as it comes.
            headers={"Accept-Encoding": "identity"} if stream else {},
            timeout=timeouts,
            allow_redirects=False,
            stream=stream,
        )
        if response.status_code >= 400:
            raise self._refusals.from_answer(response, what, silent=silent)
        return response

    def read(self, path: str, *, what: str, params: Params, limit: int) -> bytes:
        """Up to `limit` bytes of a GET's body, whatever its length; the rest is not fetched."""

        def request() -> bytes:
            began, data = self._clock.monotonic(), bytearray()
            with self._request("GET", path, what, params, self.timeouts, stream=True) as response:
                while len(data) < limit and (chunk := response.raw.read1(1 << 16, decode_content=True)):
                    data += chunk
                    if self._clock.monotonic() - began > self.timeouts[1] + len(data) / LEAST_RATE:
                        raise self._refusals.from_failure("timed out", what)
            return bytes(data[:limit])

        return self.call(request, what=what, repeat=True)

    @contextmanager
    def stream(self, path: str, *, what: str, params: Params, idle: float) -> Iterator[Iterator[bytes]]:
        """A GET whose body goes on: its bytes as they come, until the server ends it or the block is left.

        ClusterUnreachable when it is cut, or when no byte came for `idle` seconds. Never repeated.
        """
        timeouts = (self.timeouts[0], idle)
        with self.call(lambda: self._request("GET", path, what, params, timeouts, stream=True), what=what) as response:
            yield self._chunks(response, what)

    def _chunks(self, response: "requests.Response", what: str) -> Iterator[bytes]:
        while chunk := self.call(lambda: response.raw.read1(1 << 16, decode_content=True), what=what):
            yield chunk

    def _query(self, params: Params | None) -> dict[str, str | int | list[str]]:
        return ({"region": self.region} if self.region else {}) | dict(params or {})

    def shape(self, value: Json, kind: type, what: str) -> Json:
        """`value`, when it is of the JSON kind that the call promises (dict or list)."""
        if not isinstance(value, kind):
            self.misshapen(what)
        return value

    def alien(self, what: str) -> ClusterError:
        """The error for an answer that is not Nomad's."""
        return self._refusals.alien(what)

    def misshapen(self, what: str, error: Exception | None = None) -> NoReturn:
        """Raise for an answer that is not Nomad's."""
        raise self.alien(what) from error

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Answers whose JSON is well-formed but not Nomad's become a ClusterError: wrong kinds, numbers beyond all."""
        try:
            yield
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            self.misshapen(what, error)

    def _refuse_redirect(self, response: "requests.Response", *_args: Any, **_more: Any) -> None:
        if response.is_redirect:
            response.close()
            raise self._refusals.redirect(response.headers["location"])

    def _take_whole(self, response: "requests.Response", *_args: Any, stream: bool = False, **_more: Any) -> None:
        """Read an answer's body, unpacked, within bounds. python-nomad and `requests` would read one without end.

        A refusal to a streamed request is read too, up to its first words: its reader only wants those.
        """
        refused = response.status_code >= 400
        if stream and not refused:
            return
        limit = MAX_WORDS_READ if refused else MAX_ANSWER
        data, began, at_end = bytearray(), self._clock.monotonic(), False
        while len(data) <= limit and not at_end:
            chunk = response.raw.read1(1 << 16, decode_content=True)
            data += chunk
            at_end = not chunk
            if stream and self._clock.monotonic() - began > self.timeouts[1]:
                break
        if at_end:
            response.raw.release_conn()
        else:
            response.raw.close()
        if len(data) > limit and not refused:
            raise self._refusals.too_big("answer", limit)
        response.raw = io.BytesIO(bytes(data[:limit]))
