"""Policies as files: what holds, what can't be relied on, and that nothing switches an administrator's off."""

import stat
from pathlib import Path

import pytest

from caravan.cluster.addresses import parse_address
from caravan.values.errors import StateError
from caravan.values.run import RunRequest
from config import Settings, load_settings
from policies import Step, load_policies, policy_rows, read_policy, untrusted
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


FOLDER, STICKY, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFDIR | 0o1777, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("modes", "owners", "said"),
    [
        ([FOLDER, FOLDER, FILE], [0, 0, 0], ""),
        ([FOLDER, FOLDER, FILE], [0, 1000, 1000], ""),
        ([FOLDER, STICKY, FILE], [0, 0, 1000], ""),
        ([FOLDER, FOLDER, LINK, FILE], [0, 0, 0, 0], ""),
        ([FOLDER, FOLDER, FILE], [0, 0, 1234], "file /2 belongs to another user"),
        ([FOLDER, FOLDER, FILE], [0, 1234, 0], "directory /1 belongs to another user"),
        ([FOLDER, STICKY, FILE], [0, 0, 1234], "file /2 belongs to another user"),
        ([FOLDER, STICKY, LINK, FILE], [0, 0, 1234, 0], "link /2 belongs to another user"),
        ([FOLDER | 0o002, FOLDER, FILE], [0, 0, 0], "directory /0 can be written by others"),
        ([FOLDER | 0o020, FOLDER, FILE], [0, 0, 0], "directory /0 can be written by others"),
        ([FOLDER, FOLDER, FILE | stat.S_ISVTX | 0o020], [0, 0, 0], "file /2 can be written by others"),
    ],
)
def test_who_could_change_a_policy(modes: list[int], owners: list[int], said: str) -> None:
    way = [Step(Path(f"/{n}"), mode, owner) for n, (mode, owner) in enumerate(zip(modes, owners, strict=True))]
    assert (said in untrusted(way, 1000)) if said else untrusted(way, 1000) == ""


def test_the_whole_way_to_a_policy_counts(system: Path, tmp_path: Path) -> None:
    safe = put(system / "policy.toml", "[limits]\ngpus = 1")
    opened = tmp_path / "open"
    opened.mkdir()
    far = put(opened / "in" / "policy.toml", "[limits]\ngpus = 8")
    link = tmp_path / "link.toml"
    link.symlink_to(safe)
    assert read_policy(link).limits.gpus == 1
    for target, place in ((far, far), (far, link), (safe, opened / "link.toml"), (opened / "link.toml", link)):
        if place != far:
            place.unlink(missing_ok=True)
            place.symlink_to(target)
        opened.chmod(0o777)
        with pytest.raises(StateError, match=r"directory .*/open can be written by others"):
            read_policy(place)
        opened.chmod(0o755)
        assert read_policy(place).limits.gpus
    opened.chmod(0o1777)
    assert read_policy(far).limits.gpus == 8
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(StateError, match="can't be read"):
        read_policy(tmp_path / "round")


def test_a_cluster_by_another_spelling_has_the_same_policy(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(system / "caravan.toml", f'[clusters.prod]\naddress = "{PROD}"\npolicy = "prod.toml"')
    put(system / "prod.toml", "[limits]\ngpus = 1")
    for text in (PROD.upper().replace("HTTPS", "https"), PROD.replace(":4646", ".:04646")):
        found = load_policies(request_to(parse(text)), told(monkeypatch), ProfileFile(), parse, system=system)
        assert len(found.files) == 1


def test_what_config_shows_of_policies(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = told(monkeypatch)
    path = put(system / "policy.toml", "[limits]\ngpus = 1")
    (row,) = policy_rows(settings, ProfileFile(), parse, system=system)
    assert (row.name, row.value, row.where) == ("policy", "in force", str(path))
    path.chmod(0o666)
    (row,) = policy_rows(settings, ProfileFile(), parse, system=system)
    assert row.name == "policy"
    assert row.value.startswith("nothing is deployed")
    assert str(path) in row.value
