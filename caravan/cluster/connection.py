"""One HTTP connection to a Nomad API: the session, its time-outs, safe repeats, and foreign failures → our errors.

Every request of the client goes through here, python-nomad's too. Must not know what the requests are for. The token
stands in one place, the session's header; no message holds it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

from caravan.cluster.snapshots import one_line
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    JobConflict,
    JobNotFound,
    JobRefused,
    UsageError,
)
from caravan.values.masking import mask

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 5.0
ATTEMPTS: Final = 3  # of a request that is safe to repeat
_MAX_WORDS: Final = 4000  # characters of the cluster's own words in an error

_CHECK_ADDRESS: Final = "Check the address (NOMAD_ADDR or --cluster) and that the cluster is up."
_CHECK_TOKEN: Final = "Set NOMAD_TOKEN to a token that may do this (and NOMAD_NAMESPACE to its namespace)."
# Answers with status 500 after which the same request may well succeed: no leader, a server in between is away.
_PASSING: Final = re.compile(
    r"no cluster leader|no path to (?:region|node)|node (?:is )?not connected|rpc error|connection re(?:fused|set)"
    r"|i/o timeout|^eof$|rate limit|not ready to serve|shutting down",
    re.IGNORECASE,
)
_TOKEN_TROUBLE: Final = re.compile(r"invalid workload identity|failed to parse signed token|acl token not found", re.I)
_CONFLICT: Final = "Enforcing job modify index"
_INVALID: Final = re.compile(r"^\d+ errors? occurred:")


class TimedOut(ClusterUnreachable):
    """No answer within the time-out. Told apart because waiting as long once more rarely helps."""


class Connection:
    """A session that speaks to one address.

    `timeout` is how long an answer may take, in seconds. Redirects are refused: they would carry the token elsewhere.
    The environment (proxies, .netrc, CA bundles) is not read: what matters of it comes in through the settings.
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
    ) -> None:
        import requests

        if urlsplit(address).scheme not in {"http", "https"} or not urlsplit(address).hostname:
            raise UsageError(
                f"{mask(address)!r} is no address of a cluster.", hint="Give one like http://127.0.0.1:4646."
            )
        if token and not re.fullmatch(r"[!-~]+", token):
            # requests would quote such a token in its error.
            raise UsageError("The Nomad token holds spaces or unprintable characters.", hint="Set NOMAD_TOKEN anew.")
        self.address = address.rstrip("/")
        self.region = region
        self.timeouts = (min(CONNECT_TIMEOUT, timeout), timeout)
        self._token = token
        self._clock = clock
        self._shown = self.masked(self.address)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = verify
        self.session.cert = cert
        if verify is False:  # asked for by the user; a warning for each request would tell them nothing new
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.session.headers["User-Agent"] = "caravan"
        if token:
            self.session.headers["X-Nomad-Token"] = token
        self.session.hooks["response"] = [self._refuse_redirect]

    def __repr__(self) -> str:
        return f"Connection({self._shown!r})"

    def masked(self, text: str) -> str:
        """`text` without the token and other secrets."""
        return mask(text, [self._token] if self._token else [])

    def call(self, request: Callable[[], T], *, what: str, repeat: bool = False) -> T:
        """Run a request (python-nomad's or the session's), map its failures, repeat it where that is safe.

        `what` completes "The cluster … to" in messages. `repeat` only for requests without effects.
        """
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

        retrying = Retrying(
            sleep=self._clock.sleep,
            stop=stop_after_attempt(ATTEMPTS if repeat else 1),
            wait=wait_exponential(multiplier=0.2, max=2),
            retry=retry_if_exception(lambda e: isinstance(e, ClusterUnreachable) and not isinstance(e, TimedOut)),
            reraise=True,
        )
        result: T = retrying(self._once, request, what)
        return result

    def _once(self, request: Callable[[], T], what: str) -> T:
        import nomad
        import requests
        import urllib3

        try:
            return request()
        except nomad.api.exceptions.BaseNomadException as error:
            found = error.nomad_resp
            if isinstance(found, requests.Response):
                raise self._from_answer(found, what) from None  # its text is unmasked, ours holds it masked
            raise self._from_failure(found, what) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._from_failure(error, what) from error

    def send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        params: Mapping[str, str | int | list[str]] | None = None,
        json: Json = None,
        wait: float = 0.0,
        repeat: bool = False,
        silent: bool = False,
        stream: bool = False,
    ) -> "requests.Response":
        """A request by the session alone, with its whole answer. `wait`: seconds that the server may hold it.

        `silent`: answers hold secrets, so none of their words goes into an error. `stream`: the body is left to the
        caller, who reads it as it comes and closes the answer.
        """

        def request() -> "requests.Response":
            response = self.session.request(
                method,
                self.address + path,
                params=self._query(params),
                json=json,
                timeout=(self.timeouts[0], self.timeouts[1] + wait),
                headers={"Accept-Encoding": "identity"} if stream else None,  # a compressor would hold bytes back
                allow_redirects=False,
                stream=stream,
            )
            if response.status_code >= 400:
                self._refuse_page(response, what)
                raise self._from_answer(response, what, silent=silent)
            return response

        return self.call(request, what=what, repeat=repeat)

    def _refuse_page(self, response: "requests.Response", what: str) -> None:
        """A page for people is no answer of Nomad's, whatever its status."""
        if "html" in response.headers.get("content-type", "").lower() and response.status_code < 500:
            self.misshapen(what)

    def read(self, path: str, *, what: str, params: Mapping[str, str | int | list[str]], limit: int) -> bytes:
        """Up to `limit` bytes of a GET's body, whatever its length; the rest is not fetched."""

        def request() -> bytes:
            with self.session.get(
                self.address + path,
                params=self._query(params),
                timeout=self.timeouts,
                allow_redirects=False,
                stream=True,
            ) as response:
                if response.status_code >= 400:
                    raise self._from_answer(response, what)
                data = bytearray()
                for chunk in response.iter_content(1 << 16):
                    data += chunk
                    if len(data) >= limit:
                        break
                return bytes(data[:limit])

        return self.call(request, what=what, repeat=True)

    @contextmanager
    def stream(
        self, path: str, *, what: str, params: Mapping[str, str | int], idle: float
    ) -> Iterator[Iterator[bytes]]:
        """A GET whose body goes on: its bytes as they come, until the server ends it or the block is left.

        ClusterUnreachable when it is cut, or when no byte came for `idle` seconds. Never repeated.
        """

        def request() -> "requests.Response":
            response = self.session.get(
                self.address + path,
                params=self._query(params),
                timeout=(self.timeouts[0], idle),
                headers={"Accept-Encoding": "identity"},  # a compressor would hold the first bytes back
                allow_redirects=False,
                stream=True,
            )
            if response.status_code >= 400:
                with response:
                    raise self._from_answer(response, what)
            return response

        with self.call(request, what=what) as response:
            yield self._chunks(response, what)

    def _chunks(self, response: "requests.Response", what: str) -> Iterator[bytes]:
        while chunk := self.call(lambda: response.raw.read1(1 << 16, decode_content=True), what=what):
            yield chunk

    def _query(self, params: Mapping[str, str | int | list[str]] | None) -> dict[str, str | int | list[str]]:
        return ({"region": self.region} if self.region else {}) | dict(params or {})

    def shape(self, value: Json, kind: type, what: str) -> Json:
        """`value`, when it is of the JSON kind that the call promises (dict or list)."""
        if not isinstance(value, kind):
            self.misshapen(what)
        return value

    def alien(self, what: str) -> ClusterError:
        """The error for an answer that is not Nomad's."""
        return ClusterError(
            f"The answer of {self._shown} to the request to {what} is not Nomad's.",
            hint="Check that NOMAD_ADDR or --cluster is the address of a Nomad API.",
        )

    def misshapen(self, what: str, error: Exception | None = None) -> NoReturn:
        """Raise for an answer that is not Nomad's."""
        raise self.alien(what) from error

    def _refuse_redirect(self, response: "requests.Response", *_args: Any, **_kwargs: Any) -> None:
        if response.is_redirect:
            response.close()
            host = urlsplit(response.headers["location"]).hostname or "another path"
            raise ClusterError(
                f"{self._shown} redirects to {self.masked(host)}, and redirects are not followed.",
                hint="Set NOMAD_ADDR to the address of the Nomad API itself.",
            )

    def _from_failure(self, error: object, what: str) -> ClusterError:
        """What to say when no whole answer came."""
        import requests

        if isinstance(error, requests.exceptions.JSONDecodeError):
            return ClusterError(
                f"The answer of {self._shown} to the request to {what} is no JSON.",
                hint="Check that NOMAD_ADDR or --cluster is the address of a Nomad API.",
            )
        if isinstance(error, requests.exceptions.SSLError):
            return ClusterUnreachable(
                f"No trusted connection to {self._shown}: {self._cause(error)}.",
                hint="Set NOMAD_CACERT to the CA certificate of the cluster (and NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY).",
            )
        if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
            return TimedOut(
                f"The cluster at {self._shown} did not answer in time to the request to {what}.", hint=_CHECK_ADDRESS
            )
        if isinstance(error, requests.ConnectionError):
            return ClusterUnreachable(
                f"The cluster at {self._shown} can't be reached: {self._cause(error)}.", hint=_CHECK_ADDRESS
            )
        return ClusterUnreachable(
            f"The connection to {self._shown} broke during the request to {what}: {self._cause(error)}.",
            hint=_CHECK_ADDRESS,
        )

    def _cause(self, error: object) -> str:
        """The innermost reason in a few words."""
        text = str(error)
        said = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)|(certificate verify failed[^(']*)|(WRONG_VERSION_NUMBER)", text)
        words = next((g for g in said.groups() if g), "") if said else type(error).__name__
        return self.masked(one_line(words, 200)).rstrip(". ")

    def _from_answer(self, response: "requests.Response", what: str, *, silent: bool = False) -> ClusterError:
        """What an answer with a status of 400 or more means."""
        status = response.status_code
        words = "" if silent else self.masked(response.text[:_MAX_WORDS].strip())
        if status == 409:
            return JobConflict(
                f"Somebody else changed what Caravan was to {what}.", hint="Look at it and run the command again."
            )
        if status in {401, 403} or (status == 500 and _TOKEN_TROUBLE.search(words)):
            return ClusterDenied(
                f"The cluster at {self._shown} denies the request to {what}: {one_line(words, 200) or status}.",
                hint=_CHECK_TOKEN,
            )
        if _CONFLICT in words:
            return JobConflict(words, hint="A job of that id is registered already; look at it with `show` first.")
        if status == 404:
            return JobNotFound(one_line(words) or f"There is nothing to {what} at {self._shown}.")
        if status == 400 or _INVALID.match(words):
            return JobRefused(words or "400 Bad Request", hint="Mend the job where the cluster points to.")
        if status in {429, 502, 503, 504} or _PASSING.search(words):
            return ClusterUnreachable(
                f"The cluster at {self._shown} can't {what} now ({status}): {one_line(words, 200)}", hint=_CHECK_ADDRESS
            )
        return ClusterError(
            f"The cluster at {self._shown} failed to {what} ({status}): {one_line(words, 300) or 'no words'}",
            hint="Look into the logs of the Nomad servers.",
        )
