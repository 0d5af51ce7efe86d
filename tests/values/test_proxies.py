"""NO_PROXY as Go's `httpproxy` reads it (golang.org/x/net/http/httpproxy, its own tests' cases among these)."""

import pytest

from caravan.values.proxies import is_direct, is_here


@pytest.mark.parametrize(
    ("host", "port", "none_for", "direct"),
    [
        ("hub.example", 443, "", False),
        ("hub.example", 443, "*", True),
        ("hub.example", 443, "other.example, hub.example", True),
        ("a.hub.example", 443, "hub.example", True),
        ("hub.example", 443, ".hub.example", False),
        ("a.hub.example", 443, ".hub.example", True),
        ("a.hub.example", 443, "*.hub.example", True),
        ("myhub.example", 443, "hub.example", False),
        ("HUB.example.", 443, "hub.EXAMPLE", True),
        ("hub.example", 5000, "hub.example:5000", True),
        ("hub.example", 443, "hub.example:5000", False),
        ("10.1.2.3", 5000, "10.0.0.0/8", True),
        ("11.1.2.3", 5000, "10.0.0.0/8", False),
        ("fd00::1", 443, "[fd00::1]", True),
        ("localhost", 80, "", True),
        ("127.9.9.9", 80, "", True),
        ("::1", 80, "", True),
    ],
)
def test_who_is_reached_without_a_proxy(host: str, port: int, none_for: str, direct: bool) -> None:
    assert is_direct(host, port, none_for) is direct


@pytest.mark.parametrize("host", ["127.evil.example", "localhost.evil.example", "0.0.0.0", "", "127.1"])
def test_what_only_looks_like_this_machine(host: str) -> None:
    assert not is_here(host)
