"""Cluster profiles: what is read and refused, where a run goes, and to which address which secret is sent."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.cluster.addresses import parse_address
from caravan.values.errors import UsageError
from caravan.values.run import RunRequest
from config import Settings, load_settings
from profiles import (
    ProfileFile,
    find_access,
    find_site,
    find_target,
    limits_usd,
    load_profiles,
    prices_by_model,
    profile_rows,
    profile_secrets,
)

PROD, OTHER = "https://nomad.prod.example:4646", "https://other.example:4646"
P = '[clusters.p]\naddress = "http://a:1"\n'
FILE = f"""
default_cluster = "prod"

[clusters.prod]
address = "{PROD}/"
namespace = "ml"
region = "eu"
token_env = "PROD_TOKEN"
cacert = "ca.pem"
soft_limit_usd = 5
[clusters.prod.prices]
"NVIDIA L4" = 0.5

[clusters.open]
address = "http://open.example:4646"
"""


def parse(address: str) -> str:
    return parse_address(address).shown


def write(folder: Path, text: str = FILE) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "caravan.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


@pytest.fixture
def profiles(tmp_path: Path) -> ProfileFile:
    return load_profiles(write(tmp_path), user=tmp_path / "u", system=tmp_path / "s")


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def request_to(address: str, profile: str = "", namespace: str = "default") -> RunRequest:
    return RunRequest(prompt="p", source="s", cluster=address, profile=profile, namespace=namespace)


def test_one_file_is_in_force(tmp_path: Path) -> None:
    user, system = tmp_path / "user", tmp_path / "system"
    assert load_profiles(None, user=user, system=system) == ProfileFile()
    write(system, '[clusters.a]\naddress = "http://a:1"')
    assert list(load_profiles(None, user=user, system=system).content.clusters) == ["a"]
    write(user, '[clusters.b]\naddress = "http://b:1"')
    assert list(load_profiles(None, user=user, system=system).content.clusters) == ["b"]
    named = tmp_path / "other.toml"
    named.write_text('[clusters.c]\naddress = "http://c:1"')
    found = load_profiles(named, user=user, system=system)
    assert (list(found.content.clusters), found.path) == (["c"], named)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[clusters.p", "TOML"),
        ('[clusters.p]\nadress = "http://a:1"', "[clusters.p] a"),
        (P + 'namspace = "x"', "namspace: there is no such key. Did you mean namespace?"),
        (P + '[clusters.p.prices]\nL4 = "cheap"', "[clusters.p.prices] L4"),
        (P + '[clusters.p.volumes]\nd = "data"', "[clusters.p.volumes.d] destination"),
        (P + '[clusters.p.volumes]\nd = {read_only = 7}', "[clusters.p.volumes.d]"),
        ('[clusters.local]\naddress = "http://a:1"', "'local'"),
        ('[clusters."http://a"]\naddress = "http://a:1"', "'http://a'"),
        ('[clusters."unix:///x"]\naddress = "http://a:1"', "'unix:///x'"),
        ('default_cluster = "prd"\n[clusters.prod]\naddress = "http://a:1"', "Did you mean prod?"),
        (P + 'token = "s3cr3t-value"', "token_env"),
        (P + 'env = {A_TOKEN = "hf_abcdefghijklmnopqrst"}', "secret"),
        ("unknown = 1", "unknown: there is no such key"),
        ("clusters = 3", "clusters"),
        (P + 'soft_limit_usd = -1', "[clusters.p] soft_limit_usd"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_file_table_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        load_profiles(path, user=tmp_path, system=tmp_path)
    line = refused.value.line()
    assert str(path) in line
    assert words in line
    assert "s3cr3t" not in line
    assert "hf_abc" not in line


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "caravan.toml"
    path.write_bytes(data)
    with contextlib.suppress(UsageError):
        load_profiles(path, user=path.parent, system=path.parent)


def test_a_file_that_everybody_can_write_or_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.chmod(0o666)
    for wrong in (path, tmp_path, tmp_path / "not-there"):
        with pytest.raises(UsageError):
            load_profiles(wrong, user=tmp_path / "u", system=tmp_path / "s")


def test_where_a_run_goes(profiles: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    none = settings(monkeypatch)
    assert find_target(None, none, profiles, parse) == (PROD, "ml", "prod")  # default_cluster
    assert find_target("local", none, profiles, parse) == ("local", "default", "")
    assert find_target("open", none, profiles, parse) == ("http://open.example:4646", "default", "open")
    assert find_target(OTHER, none, profiles, parse) == (OTHER, "default", "")
    assert find_target(None, none, ProfileFile(), parse) == ("local", "default", "")
    with pytest.raises(UsageError, match="no cluster profile prd"):
        find_target("prd", none, profiles, parse)
    with pytest.raises(UsageError):
        find_target("ftp://x", none, profiles, parse)


def test_the_environment_stands_over_the_profile_but_speaks_of_its_own_cluster(
    profiles: ProfileFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = settings(monkeypatch, NOMAD_NAMESPACE="mine", NOMAD_REGION="us")
    assert find_target("prod", named, profiles, parse).namespace == "mine"
    environment = {"PROD_TOKEN": "t"}
    assert find_access(request_to(PROD, "prod"), named, profiles, environment, parse).region == "us"
    elsewhere = settings(monkeypatch, NOMAD_ADDR=OTHER)
    assert find_target(None, elsewhere, profiles, parse) == (OTHER, "mine", "")  # NOMAD_ADDR over default_cluster
    assert find_target("prod", elsewhere, profiles, parse) == (PROD, "ml", "prod")  # --cluster over NOMAD_ADDR
    assert find_access(request_to(PROD, "prod"), elsewhere, profiles, environment, parse).region == "eu"


TOKEN = "the-token-of-NOMAD_ADDR"


@pytest.mark.parametrize(
    ("address", "request_", "sent"),
    [
        (None, request_to(OTHER), TOKEN),  # there is no other address that it could belong to
        (OTHER, request_to(OTHER), TOKEN),
        (f"{OTHER}/v1", request_to(OTHER), TOKEN),
        (PROD, request_to(OTHER), None),  # --cluster URL, or a run that was started there
        (None, request_to(PROD, "prod"), "of-prod"),
        (OTHER, request_to(PROD, "prod"), "of-prod"),
        (PROD, request_to(PROD, "prod"), TOKEN),  # the environment stands over the profile
        (None, request_to("http://open.example:4646", "open"), None),
        (OTHER, request_to("http://open.example:4646", "open"), None),
        ("http://open.example:4646", request_to("http://open.example:4646", "open"), TOKEN),
    ],
)
def test_a_token_goes_to_its_own_address_alone(
    profiles: ProfileFile, monkeypatch: pytest.MonkeyPatch, address: str | None, request_: RunRequest, sent: str | None
) -> None:
    variables = {"NOMAD_TOKEN": TOKEN, "NOMAD_HTTP_AUTH": "user:password"}
    told = settings(monkeypatch, **variables, **({"NOMAD_ADDR": address} if address else {}))
    access = find_access(request_, told, profiles, {"PROD_TOKEN": "of-prod"}, parse)
    assert access.token == sent
    assert bool(access.note) is (sent is None)
    if access.note and not request_.profile:
        assert f"it belongs to NOMAD_ADDR={address}; unset that, or use a profile with token_env" in access.note
    assert access.http_auth == ("user:password" if sent == TOKEN else None)
    assert "of-prod" not in repr(access)
    assert TOKEN not in repr(access)


def test_what_weakens_or_proves_goes_to_no_other_cluster(
    profiles: ProfileFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"NOMAD_SKIP_VERIFY": "1", "NOMAD_CLIENT_CERT": "/c", "NOMAD_CLIENT_KEY": "/k"}
    told = settings(monkeypatch, NOMAD_ADDR=OTHER, NOMAD_TLS_SERVER_NAME="x", **variables)
    own = find_access(request_to(OTHER), told, profiles, {}, parse)
    assert (own.verify, own.client_cert, own.tls_server_name) == (False, Path("/c"), "x")
    for request in (request_to(PROD, "prod"), request_to("https://third.example")):
        access = find_access(request, told, profiles, {"PROD_TOKEN": "t"}, parse)
        assert access.verify is not False
        assert (access.client_cert, access.client_key, access.tls_server_name) == (None, None, None)


def test_paths_count_from_the_file(profiles: ProfileFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = find_access(request_to(PROD, "prod"), settings(monkeypatch), profiles, {"PROD_TOKEN": "t"}, parse)
    assert access.verify == str(tmp_path / "ca.pem")


def test_a_token_from_a_file_that_others_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, f'[clusters.p]\naddress = "{PROD}"\ntoken_file = "token"')
    found = load_profiles(path, user=tmp_path, system=tmp_path)
    token = tmp_path / "token"

    def ask() -> Any:
        return find_access(request_to(PROD, "p"), settings(monkeypatch), found, {}, parse).token

    with pytest.raises(UsageError, match="can't be read"):
        ask()
    token.write_text("hidden-token\n")
    token.chmod(0o644)
    with pytest.raises(UsageError, match="by others"):
        ask()
    assert profile_secrets(found, {}) == ()
    token.chmod(0o600)
    assert ask() == "hidden-token"
    assert profile_secrets(found, {}) == ("hidden-token",)
    token.write_text("\n")
    with pytest.raises(UsageError, match="empty"):
        ask()


def test_a_variable_that_is_not_set(profiles: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="PROD_TOKEN"):
        find_access(request_to(PROD, "prod"), settings(monkeypatch), profiles, {}, parse)


def test_a_profile_that_moved_takes_its_secrets_nowhere(profiles: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    old, environment = "https://old.example:4646", {"PROD_TOKEN": "of-prod"}
    for profile in ("prod", "gone"):
        with pytest.raises(UsageError, match=f"started on {old}"):
            find_access(request_to(old, profile), settings(monkeypatch), profiles, environment, parse)
    # Without secrets of its own the run still goes to the address that it was started on.
    assert find_access(request_to(old, "open"), settings(monkeypatch), profiles, {}, parse).address == old
    told = settings(monkeypatch, NOMAD_ADDR=old, NOMAD_TOKEN=TOKEN)
    for profile in ("prod", "gone"):
        access = find_access(request_to(old, profile), told, profiles, environment, parse)
        assert (access.address, access.token) == (old, TOKEN)


def test_limits_and_prices(profiles: ProfileFile, monkeypatch: pytest.MonkeyPatch) -> None:
    site = find_site(request_to(PROD, "prod"), profiles)
    assert find_site(request_to(OTHER), profiles) is None
    none = settings(monkeypatch)
    assert limits_usd(none, site) == (5.0, 250.0)
    assert limits_usd(none, None) == (25.0, 250.0)
    assert prices_by_model(none, site) == {"NVIDIA L4": 0.5}
    told = settings(monkeypatch, CARAVAN_SOFT_LIMIT_USD="7", CARAVAN_USD_PER_GPU_HOUR="1")
    assert limits_usd(told, site) == (7.0, 250.0)
    assert prices_by_model(told, site) == {}


def test_what_config_shows(profiles: ProfileFile, tmp_path: Path) -> None:
    rows = {row.name: (row.value, row.where) for row in profile_rows(profiles)}
    line = (tmp_path / "caravan.toml").read_text().splitlines().index('token_env = "PROD_TOKEN"') + 1
    assert rows["clusters.prod.token_env"] == ("PROD_TOKEN", f"{tmp_path / 'caravan.toml'}:{line}")
    assert rows["clusters.prod.prices.NVIDIA L4"][0] == "0.5"
    assert rows["default_cluster"][0] == "prod"
