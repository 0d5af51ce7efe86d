"""Settings: from their own variables only, secrets that don't print, errors that name the variable."""

from pathlib import Path

import pytest

from caravan.values.errors import UsageError
from caravan.values.masking import MASK
from config import load_settings, prepare_third_party_environment, process_environment


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARAVAN_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("IMAGE", "not-ours")  # a field is called so, its variable is not
    monkeypatch.setenv("MEMORY", "0")
    settings = load_settings()
    assert settings.home.name == "caravan"
    assert settings.image is None
    assert settings.memory is True
    assert settings.nomad_addr is None


def test_values_and_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_SOFT_LIMIT_USD", "3.5")
    monkeypatch.setenv("NOMAD_TOKEN", "11111111-secret")
    settings = load_settings()
    assert settings.soft_limit_usd == 3.5
    assert settings.secrets() == ("11111111-secret",)
    rows = {row.name: (row.value, row.source, row.where) for row in settings.rows()}
    assert rows["soft_limit_usd"] == ("3.5", "environment", "CARAVAN_SOFT_LIMIT_USD")
    assert rows["nomad_token"] == (MASK, "environment", "NOMAD_TOKEN")
    assert rows["hard_limit_usd"] == ("250.0", "default", "")
    assert "11111111-secret" not in repr(settings)


@pytest.mark.parametrize(("variable", "value"), [("CARAVAN_SOFT_LIMIT_USD", "much"), ("NOMAD_SKIP_VERIFY", "perhaps")])
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert variable in refused.value.line()


def test_a_wrong_secret_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_TOKEN", "hush-hush-hush")
    monkeypatch.setenv("CARAVAN_MEMORY", "what")
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert "hush" not in refused.value.line()


def test_libraries_are_told_to_stay_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MEM0_TELEMETRY", "MEM0_DIR", "LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    prepare_third_party_environment(tmp_path)
    environment = process_environment()
    assert environment["MEM0_TELEMETRY"] == "False"
    assert environment["LANGSMITH_TRACING"] == environment["LANGCHAIN_TRACING_V2"] == "false"
    assert environment["MEM0_DIR"].startswith(str(tmp_path))
