"""What every test starts from: an environment without the user's settings, and strict checkpoints."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Read by LangGraph when it is imported: a type that checkpoints don't know is an error, not a warning.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

# How long an example takes says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_OURS = ("CARAVAN_", "NOMAD_", "QDRANT_", "LANGFUSE_", "LANGSMITH_", "LANGCHAIN_", "HF_", "OPENAI_", "MEM0_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def _scrubbed_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them, and nothing is written to their state directory."""
    for name in list(os.environ):
        if name.startswith(_OURS) or name == "DATABASE_URL" or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("CARAVAN_HOME", str(tmp_path / "caravan-home"))
    monkeypatch.setenv("CARAVAN_LOOK_UP", "0")  # no index and no registry is asked but those that a test makes
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
