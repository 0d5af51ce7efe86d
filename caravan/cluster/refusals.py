"""What it means when the cluster refuses, fails or does not answer: statuses, words and exceptions → our errors.

Each says what the user should do. Must not know what the requests are for, nor send any. No secret passes: texts come
out masked, and with `silent` no word of an answer does.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import requests

from caravan.cluster.connection import NoSuchCall
from caravan.cluster.snapshots import one_line
from caravan.values.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    JobConflict,
    JobNotFound,
    JobRefused,
)

MAX_WORDS: Final = 4000  # characters of the cluster's own words in an error

_CHECK_ADDRESS: Final = "Check the address (NOMAD_ADDR or --cluster) and that the cluster is up."
_CHECK_API: Final = "Check that NOMAD_ADDR or --cluster is the address of a Nomad API."
_CHECK_TOKEN: Final = (
    "The token is unknown, or has no right to this: set NOMAD_TOKEN to one that has (and NOMAD_NAMESPACE to its"
    " namespace); `doctor` looks at its rights."
)
# Answers with status 500 after which the same request may well succeed: no leader, a server in between is away.
_PASSING: Final = re.compile(
    r"no cluster leader|no path to (?:region|node)|node (?:is )?not connected|rpc error|connection re(?:fused|set)"
    r"|i/o timeout|^eof$|rate limit|not ready to serve|shutting down|leadership lost|raft is already shutdown",
    re.IGNORECASE,
)
_NO_TOKEN: Final = re.compile(r"invalid workload identity|failed to parse signed token", re.IGNORECASE)
_UNKNOWN_TOKEN: Final = re.compile(r"acl token not found", re.IGNORECASE)
_EXPIRED_TOKEN: Final = re.compile(r"token (?:is |has )?expired", re.IGNORECASE)
# What Nomad says of what is not there, with a prefix where a server in between asked on. A call that it does not have
# gets an empty answer, and what stands before a cluster has its own words: neither tells that a job is gone.
_MISSING: Final = re.compile(
    r"(?:rpc error: )*(?:(?:job|job versions|alloc|allocation|eval|evaluation|node|deployment|variable|namespace)"
    r"(?: \"[^\"]*\"| with id \S+)? not found\b|unknown (?:job|allocation|alloc|evaluation|node|task)\b"
    r"|task \"[^\"]*\" not started yet|(?:open|stat|lstat) .*: (?:no such file|the system cannot find)"
    r"|no such file or directory|file does not exist)",
    re.IGNORECASE,
)
_CONFLICT: Final = "Enforcing job modify index"
_INVALID: Final = re.compile(r"^\d+ errors? occurred:")


class TimedOut(ClusterUnreachable):
    """No answer within the time-out. Told apart because waiting as long once more rarely helps."""


class Passing(ClusterUnreachable):
    """The cluster answered that it can't now. `wait_s`: for how long it asked to be left alone, in seconds."""

    def __init__(self, message: str, *, hint: str = "", wait_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.wait_s = wait_s


class Refusals:
    """Reads refusals of one address. `shown`: the address for messages; `masked` takes secrets out of a text."""

    def __init__(self, shown: str, masked: Callable[[str], str], *, has_token: bool, proxy: str | None) -> None:
        self._shown = shown
        self._masked = masked
        self._has_token = has_token
        self._proxy = urlsplit(proxy).hostname if proxy else None

    def alien(self, what: str) -> ClusterError:
        """An answer that is not Nomad's."""
        return ClusterError(f"The answer of {self._shown} to the request to {what} is not Nomad's.", hint=_CHECK_API)

    def redirect(self, location: str) -> ClusterError:
        """An answer that sends us elsewhere."""
        try:
            host = urlsplit(location).hostname or "another path"
        except ValueError:
            host = "nowhere"
        return ClusterError(
            f"{self._shown} redirects to {self._masked(host)}, and redirects are not followed.",
            hint="Set NOMAD_ADDR to the address of the Nomad API itself.",
        )

    def too_big(self, what: str, limit: int) -> ClusterError:
        """An answer that does not end in time or in size."""
        return ClusterError(
            f"The answer of {self._shown} to the request to {what} has more than {limit >> 20} MiB.", hint=_CHECK_API
        )

    def from_failure(self, error: object, what: str) -> ClusterError:
        """What to say when no whole answer came."""
        if isinstance(error, requests.exceptions.JSONDecodeError):
            return ClusterError(f"The answer of {self._shown} to the request to {what} is no JSON.", hint=_CHECK_API)
        if isinstance(error, requests.exceptions.ProxyError) or "407 Proxy" in str(error):
            return ClusterUnreachable(
                f"The proxy {self._proxy} does not let the request to {what} through: {self._cause(error)}.",
                hint="Correct HTTP_PROXY or HTTPS_PROXY, or name the cluster's host in NO_PROXY.",
            )
        if isinstance(error, requests.exceptions.SSLError):
            return self._from_tls(error)
        if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
            return TimedOut(
                f"The cluster at {self._shown} did not answer in time to the request to {what}.", hint=_CHECK_ADDRESS
            )
        if isinstance(error, requests.ConnectionError):
            return ClusterUnreachable(
                f"The cluster at {self._shown} can't be reached: {self._cause(error)}.", hint=_CHECK_ADDRESS
            )
        if isinstance(error, requests.exceptions.ContentDecodingError):
            return self.alien(what)
        return ClusterUnreachable(
            f"The connection to {self._shown} broke during the request to {what}: {self._cause(error)}.",
            hint=_CHECK_ADDRESS,
        )

    def _from_tls(self, error: Exception) -> ClusterError:
        text = str(error).lower()
        hint = "Set NOMAD_CACERT to the CA certificate of the cluster (and NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY)."
        if "hostname" in text or "ip address mismatch" in text:
            hint = "Set NOMAD_TLS_SERVER_NAME to a name in the server's certificate, such as server.global.nomad."
        elif "certificate required" in text or "certificate_required" in text or "handshake" in text:
            hint = "Set NOMAD_CLIENT_CERT and NOMAD_CLIENT_KEY to a certificate that the cluster's CA has signed."
        elif "wrong_version_number" in text or "wrong version number" in text:
            hint = "The server does not speak TLS there: check the address (http or https) and its port."
        return ClusterUnreachable(f"No trusted connection to {self._shown}: {self._cause(error)}.", hint=hint)

    def _cause(self, error: object) -> str:
        """The innermost reason in a few words."""
        text = str(error)
        said = re.search(
            r"\[Errno -?\d+\] ([^'\")\]]+)|(certificate verify failed[^(']*)|(WRONG_VERSION_NUMBER)"
            r"|Tunnel connection failed: ([^'\")]+)|alert ([a-z ]+)",
            text,
        )
        words = next((g for g in said.groups() if g), "") if said else type(error).__name__
        return self._masked(one_line(words, 200)).rstrip(". ")

    def from_answer(self, response: requests.Response, what: str, *, silent: bool = False) -> ClusterError:
        """What an answer with a status of 400 or more means."""
        status = response.status_code
        said = response.text[:MAX_WORDS].strip()
        words = "" if silent else self._masked(said)
        if status in {401, 403} or (status == 500 and _is_token_trouble(said)):
            return self._denied(status, said, one_line(words, 200), what)
        if status == 407:
            return self.from_failure("407 Proxy Authentication Required", what)
        if "html" in response.headers.get("content-type", "").lower() and status < 500 and status != 429:
            return self.alien(what)  # a page for people is no answer of Nomad's
        if _CONFLICT in said:
            return JobConflict(words, hint="A job of that id is registered already; look at it with `show` first.")
        if status == 409:
            return JobConflict(
                f"Somebody else changed what Caravan was to {what}.", hint="Look at it and run the command again."
            )
        if status == 404 and _MISSING.match(said):
            return JobNotFound(one_line(words) or f"There is nothing to {what} at {self._shown}.")
        if status in {429, 502, 503, 504} or _PASSING.search(said):
            return self._passing(response, one_line(words, 200), what)
        if status == 404:
            return NoSuchCall(self.alien(what).message, hint=_CHECK_API)
        if status == 400 or _INVALID.match(said):
            hint = "Mend the job where the cluster points to."
            return JobRefused(words or f"The cluster refuses to {what} ({status}).", hint=hint)
        return ClusterError(
            f"The cluster at {self._shown} failed to {what} ({status}): {one_line(words, 300) or 'no words'}",
            hint="Look into the logs of the Nomad servers.",
        )

    def _denied(self, status: int, said: str, words: str, what: str) -> ClusterDenied:
        reason, hint = words or str(status), _CHECK_TOKEN
        if _EXPIRED_TOKEN.search(said):
            reason, hint = "the token has expired", "Get a new token and set NOMAD_TOKEN to it."
        elif not self._has_token:
            hint = "No token was sent: set NOMAD_TOKEN to one that may do this."
        elif _NO_TOKEN.search(said):
            reason, hint = "the token is none of Nomad's", "Set NOMAD_TOKEN to a token's secret id, which is a UUID."
        elif _UNKNOWN_TOKEN.search(said):
            reason, hint = "it does not know the token", "Set NOMAD_TOKEN to a token of this cluster (and region)."
        elif status == 401:
            hint = "Something before the cluster asks who you are: set NOMAD_HTTP_AUTH=user:password (or NOMAD_TOKEN)."
        return ClusterDenied(f"The cluster at {self._shown} denies the request to {what}: {reason}.", hint=hint)

    def _passing(self, response: requests.Response, words: str, what: str) -> Passing:
        status, after = response.status_code, response.headers.get("Retry-After", "").strip()
        wait_s = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0
        hint = f"Try again in {wait_s:.0f} s." if wait_s else _CHECK_ADDRESS
        return Passing(f"The cluster at {self._shown} can't {what} now ({status}): {words}", hint=hint, wait_s=wait_s)


def _is_token_trouble(words: str) -> bool:
    return any(pattern.search(words) for pattern in (_NO_TOKEN, _UNKNOWN_TOKEN, _EXPIRED_TOKEN))
