"""Where a key may be sent: over TLS anywhere, in the clear to this machine and to private networks alone. Pure."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

# Endings of names that no public name server answers for: RFC 6762, RFC 8375, RFC 9476 and ICANN's `internal`; Nomad
# services are looked up under Consul's.
_PRIVATE_NAMES: Final = ("local", "localhost", "internal", "lan", "home.arpa", "consul", "alt", "cluster.local")


def is_guarded(url: str) -> bool:
    """Whether a key may be sent there: over TLS, to this machine, or to an address or name of a private network."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme == "https":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or any(host.endswith(f".{ending}") for ending in _PRIVATE_NAMES)
    shared = isinstance(address, ipaddress.IPv4Address) and address in ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
    return address.is_loopback or (address.is_private and not address.is_unspecified) or shared
