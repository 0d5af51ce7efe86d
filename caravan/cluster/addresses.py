"""A cluster's address, and the proxy on the way to it: text → parts. Pure: opens nothing, reads no environment.

The rules are those of Nomad's own command line (Go's `net/http` and `httpproxy`), so that what works there works here.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from caravan.values.errors import UsageError
from caravan.values.masking import mask
from caravan.values.proxies import is_direct

UNIX_BASE: Final = "http://localhost"
"""What requests over a unix socket are addressed to: HTTP needs a host, and Nomad ignores it there."""

_PORTS: Final = {"http": 80, "https": 443}
_FORMS: Final = (
    "Give `local` or an address like http://127.0.0.1:4646, https://gateway/nomad or unix:///run/nomad.sock."
)


@dataclass(frozen=True)
class Address:
    """Where a Nomad API is. `base`: what the calls' paths are appended to; `socket`: a unix socket's path, or None."""

    shown: str
    base: str
    socket: str | None = None

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken there."""
        return self.base.startswith("https://")


@dataclass(frozen=True)
class Proxies:
    """The proxies of the environment (`HTTP_PROXY`, `HTTPS_PROXY`) and the hosts that need none (`NO_PROXY`)."""

    http: str | None = None
    https: str | None = None
    none_for: str = ""


def parse_address(text: str) -> Address:
    """The address of a cluster: http, https (both with any path before `/v1`) or a unix socket.

    Raises UsageError for anything else, and for one with a user or password in it: addresses are stored and shown.
    """
    text = text.strip()
    parts = _split(text)
    where = "" if parts is not None and parts.scheme == "unix" else text.partition("?")[0]
    if "@" in where:  # first of all, so that no message quotes it
        raise UsageError(
            "The cluster's address holds a user name or password.",
            hint="Take it out, and set NOMAD_HTTP_AUTH=user:password.",
        )
    if parts is None or any(c.isspace() or not c.isprintable() for c in text):
        raise _no_address(text)
    if parts.query or parts.fragment:
        raise UsageError("The cluster's address goes on after its path.", hint=_FORMS)
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or len(parts.path) < 2:
            raise _no_address(text)
        return Address(shown=f"unix://{parts.path}", base=UNIX_BASE, socket=unquote(parts.path))
    if parts.scheme not in {"http", "https"} or not _has_host(parts):
        raise _no_address(text)
    path = parts.path.rstrip("/")
    if path.endswith("/v1"):  # as people copy it from the manual; every call appends it
        path = path[: -len("/v1")].rstrip("/")
    base = f"{parts.scheme}://{_place(parts)}{path}"
    return Address(shown=base, base=base)


def _place(parts: SplitResult) -> str:
    """Host and port in their one form, by which a cluster is known again: lower case, IDNA, no default port."""
    said = parts.hostname or ""
    host = _six(said) if ":" in said else said.encode("idna").decode("ascii").lower().removesuffix(".")
    port = None if parts.port == _PORTS[parts.scheme] else parts.port
    return host if port is None else f"{host}:{port}"


def _six(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    except ValueError:
        return f"[{host}]"


def _split(text: str) -> SplitResult | None:
    try:
        return urlsplit(text)
    except ValueError:  # an IPv6 address without its end
        return None


def _has_host(parts: SplitResult) -> bool:
    try:
        host = parts.hostname or ""
        if ":" not in host:
            host.encode("idna")  # raises for a label that is empty or too long
            if "%" in host:  # an encoded name: what it means, not every program agrees on
                return False
        return bool(host) and parts.port != 0  # raises for what is no port
    except ValueError:
        return False


def _no_address(text: str) -> UsageError:
    return UsageError(f"{mask(text[:200])!r} is no cluster.", hint=_FORMS)


def proxy_for(address: Address, proxies: Proxies) -> str | None:
    """The proxy to use for an address, or None. Raises UsageError for a proxy that is no http(s) address.

    As Go does: none for a unix socket, for localhost and for a loopback address, whatever NO_PROXY says.
    """
    parts = urlsplit(address.base)
    proxy = proxies.https if address.is_tls else proxies.http
    port = parts.port or _PORTS[parts.scheme]
    if not proxy or address.socket or is_direct(parts.hostname or "", port, proxies.none_for):
        return None
    url = proxy if "://" in proxy else f"http://{proxy}"
    split = _split(url)
    if split is None or split.scheme not in {"http", "https"} or not _has_host(split):
        name = "HTTPS_PROXY" if address.is_tls else "HTTP_PROXY"
        raise UsageError(f"{name} is no address of an http proxy.", hint=f"Set {name} to one like http://proxy:3128.")
    return url
