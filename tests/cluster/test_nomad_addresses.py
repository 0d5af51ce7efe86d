"""Addresses, proxies and versions as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.cluster.addresses import Proxies, parse_address, proxy_for
from caravan.cluster.versions import Feature, Version, features, left_out, parse_version, require
from caravan.values.errors import ClusterError, UsageError


@pytest.mark.parametrize(
    ("text", "shown", "base"),
    [
        ("http://127.0.0.1:4646", "http://127.0.0.1:4646", "http://127.0.0.1:4646"),
        (" https://nomad.example/ ", "https://nomad.example", "https://nomad.example"),
        ("https://gateway/nomad/", "https://gateway/nomad", "https://gateway/nomad"),
        ("https://gateway/nomad/v1", "https://gateway/nomad", "https://gateway/nomad"),
        ("http://[::1]:4646", "http://[::1]:4646", "http://[::1]:4646"),
        ("unix:///run/nomad.sock", "unix:///run/nomad.sock", "http://localhost"),
    ],
)
def test_addresses(text: str, shown: str, base: str) -> None:
    address = parse_address(text)
    assert (address.shown, address.base) == (shown, base)
    assert address.socket == ("/run/nomad.sock" if text.startswith("unix") else None)
    assert parse_address(address.shown) == address


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HTTP://LOCALHOST:4646", "http://localhost:4646"),
        ("http://localhost.:4646", "http://localhost:4646"),
        ("http://localhost:04646", "http://localhost:4646"),
        ("http://localhost:", "http://localhost"),
        ("http://localhost:80/x", "http://localhost/x"),
        ("https://nomad.example:443", "https://nomad.example"),
        ("https://nomad.example:80", "https://nomad.example:80"),
        ("https://Bücher.example.", "https://xn--bcher-kva.example"),
        ("https://a。example", "https://a.example"),
        ("http://[0:0:0:0:0:0:0:1]:4646", "http://[::1]:4646"),
        ("http://[FD00::A]", "http://[fd00::a]"),
    ],
)
def test_one_cluster_has_one_address(text: str, shown: str) -> None:
    assert parse_address(text).shown == shown
    assert parse_address(shown).shown == shown


@pytest.mark.parametrize(
    "text",
    [
        *("http://%6cocalhost", "http://a..b"),
        *("", "nomad", "127.0.0.1:4646", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://[::1"),
        *("http://a b", "unix://", "unix:///", "unix://host/x", "http://x?token=1", "http://x#y", "http://."),
    ],
)
def test_texts_that_are_no_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "http://127.0.0.1:4646" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "http://u:hush@h",
        "https://u:hush@h/n",
        "http://hush@h:4646",
        "u:hush@h:4646",
        "http://u:hush@[::1",
        "//u:hush@h",
    ],
)
def test_an_address_with_a_password_is_refused_unseen(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert "NOMAD_HTTP_AUTH" in caught.value.hint
    assert "hush" not in caught.value.line()


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError:
        return
    assert address.base.startswith(("http://", "https://"))
    assert not address.base.endswith("/")
    assert parse_address(address.shown) == address


PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("address", "none_for", "used"),
    [
        ("http://nomad.example:4646", "", True),
        ("https://nomad.example", "", True),
        ("http://localhost:4646", "", False),
        ("http://127.0.0.1:4646", "", False),
        ("http://[::1]:4646", "", False),
        ("unix:///run/nomad.sock", "", False),
        ("http://nomad.example:4646", "*", False),
        ("http://nomad.example:4646", "other, example", False),
        ("http://nomad.example:4646", ".nomad.example", True),
        ("http://nomad.example:4646", "nomad.example:4646", False),
        ("http://nomad.example:4646", "nomad.example:4647", True),
        ("http://badexample:4646", "example", True),
        ("http://10.1.2.3:4646", "10.0.0.0/8", False),
        ("http://10.1.2.3:4646", "10.1.2.3", False),
        ("http://[fd00::1]:4646", "fd00::/8", False),
        ("http://nomad.example:4646", "10.0.0.0/8,[", True),
    ],
)
def test_proxies_as_nomads_own_command_line(address: str, none_for: str, used: bool) -> None:
    found = proxy_for(parse_address(address), Proxies(PROXY, PROXY, none_for))
    assert found == (PROXY if used else None)


def test_each_scheme_has_its_proxy() -> None:
    proxies = Proxies(http="plain:1", https="http://tls:2")
    assert proxy_for(parse_address("http://a"), proxies) == "http://plain:1"
    assert proxy_for(parse_address("https://a"), proxies) == "http://tls:2"
    with pytest.raises(UsageError, match="HTTP_PROXY") as caught:
        proxy_for(parse_address("http://a"), Proxies(http="socks5://u:hush@p"))
    assert "hush" not in caught.value.line()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.0.6", Version(2, 0, 6)),
        ("2.0.6-dev", Version(2, 0, 6)),
        ("1.10.5+ent", Version(1, 10, 5)),
        ("v1.6.0-rc.1+ent.hsm", Version(1, 6, 0)),
        ("1.6", Version(1, 6, 0)),
        ("", None),
        ("dev", None),
        ("1", None),
        ("1.x", None),
        ("٣.٣.٣", None),
    ],
)
def test_versions(text: str, version: Version | None) -> None:
    assert parse_version(text) == version


def test_what_a_version_has() -> None:
    assert features(Version(2, 0, 2)) == frozenset(Feature)
    assert features(Version(2, 0, 1)) == {Feature.DYNAMIC_HOST_VOLUMES}
    assert features(Version(1, 6, 0)) == features(None) == frozenset()
    assert left_out(Version(2, 0, 6)) == ()
    assert "2.0.2" in left_out(Version(1, 10, 5))[0]


def test_a_nomad_too_old_is_refused() -> None:
    assert require("1.6.0-beta.1") == Version(1, 6, 0)
    assert require("from somewhere") is None
    with pytest.raises(ClusterError, match=r"needs 1\.6\.0 or later") as caught:
        require("1.5.17+ent")
    assert "upgrade" in caught.value.hint
