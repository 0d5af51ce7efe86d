"""`serve-model` as users run it, on the real built-in cluster: deployed, healthy, looked at by `doctor`, in use, ended.

A program plays vLLM: it takes vLLM's arguments, has its open /health and its key from the environment, and no model.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from adapters import model_access
from caravan.agent.model.ask import ask_for
from caravan.agent.model.client import OpenAiModel
from caravan.terminal.app import run
from caravan.values.model import Message
from config import load_settings
from machine import LocalControl, SystemClock
from main import Application
from tests.fakes.wiring import nobody, printed

STANDS_IN = Path(__file__).parent / "fakes" / "served_model.py"


class Verdict(BaseModel):
    """What the model is asked for."""

    cause: str
    sure: bool


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("CARAVAN_HOME", str(tmp_path / "home"))
    try:
        yield tmp_path / "home"
    finally:
        LocalControl(tmp_path / "home" / "cluster").down()


def said(*words: str) -> tuple[int, dict[str, Any]]:
    terminal = nobody()
    code = run(Application(), [*words, "--json"], terminal)
    out, err = printed(terminal)
    assert out, err
    return code, json.loads(out)


def serve(*more: str, program: str = "") -> tuple[int, dict[str, Any]]:
    command = f"command={sys.executable} {STANDS_IN}{program}"
    words = ["--cluster", "local", "--gpus", "0", "--set", "driver=raw_exec", "--set", command, "--yes"]
    return said("serve-model", "my/model", *words, *more)


def test_from_nothing_to_a_model_in_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, served = serve("--set", "start_s=300", "--context", "16384")
    assert (code, served["healthy"]) == (0, True), served
    assert serve("--set", "start_s=300", "--context", "16384")[1]["url"] == served["url"]  # it is the very same
    for name, value in served["environment"].items():
        monkeypatch.setenv(name, value)

    code, found = said("doctor", "--cluster", "local")
    checks = {c["name"]: c["level"] for c in found["checks"] if c["name"].startswith("model")}
    assert checks == dict.fromkeys(
        ("model server", "model context", "model reply", "model structured", "model tools"), "ok"
    )
    key = Path(served["key_file"]).read_text().strip()
    assert key not in json.dumps(found)

    model = OpenAiModel(model_access(load_settings())[0], clock=SystemClock())
    try:
        verdict = ask_for(model, Verdict, (Message(role="user", text="Why did it fail?"),), step="diagnose")
        assert (model.name, model.window, verdict) == ("my/model", 16_384, Verdict(cause="ok", sure=True))
    finally:
        model.close()

    # another key: the server starts anew with it, and the old one opens nothing any more
    code, again = serve("--set", "start_s=300", "--context", "16384", "--new-key")
    assert (code, again["healthy"]) == (0, True), again
    monkeypatch.setenv("CARAVAN_MODEL_URL", again["url"])
    monkeypatch.setenv("CARAVAN_MODEL_API_KEY", key)
    refused = next(c for c in said("doctor", "--cluster", "local")[1]["checks"] if c["name"] == "model")
    assert (refused["level"], "refuses the key" in refused["text"]) == ("warning", True)

    assert said("serve-model", "--stop", "--forget-key", "--cluster", "local")[1]["stopped"]
    assert said("serve-model", "--status", "--cluster", "local")[0] == 1
    assert not Path(served["key_file"]).exists()


def test_a_server_that_does_not_come_up_says_why_and_is_ended(home: Path) -> None:
    words = "torch.OutOfMemoryError: CUDA out of memory."
    code, served = serve("--set", "start_s=300", "--set", f"args=--fails '{words}'")
    assert (code, served["healthy"]) == (1, False)
    assert "the weights do not fit into the GPU's memory" in served["reason"]
    assert words in served["reason"]
    assert said("serve-model", "--status", "--cluster", "local")[1]["phase"] == "ended"
