"""Which hosts are reached without a proxy: this machine, and what NO_PROXY means as Go's `httpproxy` reads it. Pure.

Nomad's command line is written in Go: what works there works here, for every service alike.
"""

import ipaddress


def is_here(host: str) -> bool:
    """Whether a host, without port and brackets, is this machine: `localhost` or a loopback address."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_direct(host: str, port: int, none_for: str) -> bool:
    """Whether no proxy is used: for this machine never, whatever `none_for` (NO_PROXY) says, else where it says so."""
    host = host.rstrip(".").lower()
    return is_here(host) or any(_matches(entry.strip().lower(), host, port) for entry in none_for.split(","))


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means this host: `*`, an IP, a CIDR block, a domain with its subdomains, a port."""
    if entry in {"", "*"}:
        return entry == "*"
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    if entry.count(":") == 1 or entry.startswith("["):
        entry, _, number = entry.rpartition(":")
        if number != str(port):
            return False
    entry = entry.strip("[]").removeprefix("*")
    return host.endswith(entry) if entry.startswith(".") else host == entry or host.endswith(f".{entry}")
