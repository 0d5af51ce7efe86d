"""Policies as files: what holds, what can't be relied on, and that nothing switches an administrator's off."""

from pathlib import Path

import pytest

from caravan.cluster.addresses import parse_address
from caravan.values.run import RunRequest
from config import Settings, load_settings
from policies import load_policies, policy_rows
from profiles import ProfileFile, load_profiles

PROD = "https://nomad.prod.example:4646"


def parse(address: str) -> str:
    return parse_address(address).shown


def request_to(address: str, profile: str = "") -> RunRequest:
    return RunRequest(prompt="p", source="s", cluster=address, profile=profile)


def put(path: Path, text: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def system(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    return folder


def told(monkeypatch: pytest.MonkeyPatch, policy: Path | None = None) -> Settings:
    if policy:
        monkeypatch.setenv("CARAVAN_POLICY", str(policy))
    return load_settings()


def test_without_files_there_is_no_policy(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_policies(request_to("local"), told(monkeypatch), ProfileFile(), parse, system=system)
    assert (found.files, found.trouble) == ((), "")
    gone = load_policies(request_to("local"), told(monkeypatch), ProfileFile(), parse, system=system / "not-there")
    assert (gone.files, gone.trouble) == ((), "")


def test_settings_add_to_the_administrators_policy_and_never_replace_it(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = put(system / "policy.toml", "[limits]\ngpus = 1")
    more = put(tmp_path / "mine" / "policy.toml", "[limits]\ngpus = 8")
    found = load_policies(request_to("local"), told(monkeypatch, more), ProfileFile(), parse, system=system)
    assert [f.path for f in found.files] == [str(own), str(more)]
    assert found.files[0].policy.limits.gpus == 1


def test_a_policy_of_this_cluster_holds_however_its_address_was_named(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(system / "caravan.toml", f'[clusters.prod]\naddress = "{PROD}"\npolicy = "prod.toml"')
    put(system / "prod.toml", "[limits]\ngpus = 1")
    mine = put(tmp_path / "u" / "caravan.toml", f'[clusters.mine]\naddress = "{PROD}/"\n')
    settings = told(monkeypatch)
    for profiles in (
        load_profiles(None, user=tmp_path / "none", system=system),
        load_profiles(mine, user=tmp_path / "none", system=system),
        ProfileFile(),
    ):
        for request in (request_to(PROD, "prod"), request_to(PROD, "mine"), request_to(PROD)):
            found = load_policies(request, settings, profiles, parse, system=system)
            assert [f.path for f in found.files] == [str(system / "prod.toml")]
        assert load_policies(request_to("http://other.example"), settings, profiles, parse, system=system).files == ()


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("[limits]\ngpus = 1", 0o664, "chmod go-w"),
        ("[limits]\ngpus = 1", 0o646, "chmod go-w"),
        ("[limits", 0o644, "TOML"),
        ("[limits]\ngpu = 1", 0o644, "[limits] gpu: there is no such key. Did you mean gpus?"),
        ("[limit]\ngpus = 1", 0o644, "limit: there is no such key. Did you mean limits?"),
        ("[limits]\ngpus = -1", 0o644, "[limits] gpus"),
        ("[mounts]\nbind = ['../x']", 0o644, "[mounts.bind] 0"),
    ],
)
def test_what_cannot_be_relied_on(
    system: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int, words: str
) -> None:
    path = put(system / "policy.toml", text, mode)
    found = load_policies(request_to("local"), told(monkeypatch), ProfileFile(), parse, system=system)
    assert str(path) in found.trouble
    assert words in found.trouble
    assert "\n" not in found.trouble


def test_more_that_cannot_be_relied_on(system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(monkeypatch, tmp_path / "not-there.toml")
    assert load_policies(request_to("local"), settings, ProfileFile(), parse, system=system).trouble
    monkeypatch.delenv("CARAVAN_POLICY")
    (system / "policy.toml").symlink_to(system / "nothing")  # a link that leads nowhere is a policy that is gone
    settings = told(monkeypatch)
    assert load_policies(request_to("local"), settings, ProfileFile(), parse, system=system).trouble
    (system / "policy.toml").unlink()
    (system / "policy.toml").mkdir()
    assert load_policies(request_to("local"), settings, ProfileFile(), parse, system=system).trouble
    (system / "policy.toml").rmdir()
    put(system / "policy.toml", "")
    system.chmod(0o777)
    assert "directory" in load_policies(request_to("local"), settings, ProfileFile(), parse, system=system).trouble
    system.chmod(0o755)
    put(system / "caravan.toml", "broken")
    assert load_policies(request_to(PROD), settings, ProfileFile(), parse, system=system).trouble


def test_what_config_shows_of_policies(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(monkeypatch)
    path = put(system / "policy.toml", "[limits]\ngpus = 1")
    assert policy_rows(settings, ProfileFile(), parse, system=system) == [("policy", "in force", str(path))]
    path.chmod(0o666)
    ((name, value, source),) = policy_rows(settings, ProfileFile(), parse, system=system)
    assert (name, source) == ("policy", "nothing is deployed")
    assert str(path) in value
