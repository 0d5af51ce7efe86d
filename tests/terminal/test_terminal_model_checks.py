"""`doctor` on the language model: not set, well, down, a wrong key or name, too short, without schema or tools."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.model.access import ModelAccess
from caravan.agent.model.client import OpenAiModel
from caravan.terminal.app import run
from caravan.terminal.model_checks import model_findings
from caravan.values.checkup import Finding, Level
from caravan.values.errors import UsageError
from config import load_settings
from machine import SystemClock
from tests.fakes.openai_server import Asked, ScriptedOpenAi, Turn, calls, fails, says
from tests.fakes.wiring import FakeWiring, nobody, printed


def able(asked: Asked) -> Turn:
    """A server that can all that is asked for."""
    if asked.body.get("tools"):
        return calls(("read_file", {"path": "README.md"}))
    return says({"answer": 5} if asked.body.get("response_format") else "ready")


@contextmanager
def model(server: ScriptedOpenAi, **known: Any) -> Iterator[OpenAiModel]:
    known = {"name": "qwen3-8b", "timeout_s": 30.0, **known}
    with server, closing(OpenAiModel(ModelAccess.at(server.url, **known), clock=SystemClock())) as made:
        yield made


def found(server: ScriptedOpenAi, **known: Any) -> dict[str, Finding]:
    with model(server, **known) as made:
        return {finding.name: finding for finding in model_findings([made])}


def test_no_model_is_set() -> None:
    only = list(model_findings([]))
    assert [(f.level, "rules work alone" in f.text) for f in only] == [(Level.OK, True)]


def test_all_is_well() -> None:
    judged = found(ScriptedOpenAi(able))
    assert {name: f.level for name, f in judged.items()} == dict.fromkeys(
        ("model server", "model context", "model reply", "model structured", "model tools"), Level.OK
    )
    assert "qwen3-8b" in judged["model server"].text
    assert "32768 tokens" in judged["model context"].text


def test_a_second_model_is_looked_at_too() -> None:
    with model(ScriptedOpenAi(able)) as first, model(ScriptedOpenAi(able)) as second:
        names = [finding.name for finding in model_findings([first, second])]
    assert [n for n in names if n.startswith("second model")] == [f"second {n}" for n in names if n.startswith("model")]


def test_nobody_answers() -> None:
    server = ScriptedOpenAi(able)
    with server:
        url = server.url
    with closing(OpenAiModel(ModelAccess.at(url, name="x"), clock=SystemClock())) as gone:
        only = list(model_findings([gone]))
    assert [f.level for f in only] == [Level.WARNING]
    assert "Runs go on by the rules alone" in only[0].text
    assert only[0].hint


def test_a_key_that_is_refused() -> None:
    judged = found(ScriptedOpenAi(able, key="right"))
    assert list(judged) == ["model"]
    assert "401" in judged["model"].text


def test_a_model_that_is_not_offered() -> None:
    judged = found(ScriptedOpenAi(able), name="qwen3-32b")
    assert "offers no model qwen3-32b" in judged["model"].text
    assert "qwen3-8b" in judged["model"].hint


@pytest.mark.parametrize(
    ("served", "set_to", "level", "said"),
    [
        (32_768, None, Level.OK, "32768 tokens"),
        (32_768, 16_384, Level.OK, "16384 tokens"),
        (8192, 32_768, Level.WARNING, "CARAVAN_MODEL_WINDOW is 32768, and the server takes 8192"),
        (4096, None, Level.WARNING, "4096 tokens"),
        (None, None, Level.WARNING, "does not say"),
        (None, 32_768, Level.OK, "32768 tokens"),
    ],
)
def test_the_context(served: int | None, set_to: int | None, level: Level, said: str) -> None:
    judged = found(ScriptedOpenAi(able, models=(("qwen3-8b", served),)), window=set_to)
    assert (judged["model context"].level, said in judged["model context"].text) == (level, True)


@pytest.mark.parametrize(
    ("server", "name", "said"),
    [
        (ScriptedOpenAi(able, refuses=("response_format",)), "model structured", "takes no schema"),
        (
            ScriptedOpenAi([says("ready"), says("five"), calls(("read_file", {"path": "x"}))]),
            "model structured",
            "not JSON",
        ),
        (ScriptedOpenAi([says("ready"), says({"answer": 5}), says("I can't")]), "model tools", "called no tool"),
        (
            ScriptedOpenAi([says("ready"), says({"answer": 5}), calls(("read_file", "{"))]),
            "model tools",
            "can't be used",
        ),
        (ScriptedOpenAi([fails(500)], repeat=True), "model reply", "rules alone"),
    ],
)
def test_what_it_can_not(server: ScriptedOpenAi, name: str, said: str) -> None:
    judged = found(server)
    assert judged[name].level is Level.WARNING
    assert said in judged[name].text
    assert judged[name].hint


def test_doctor_tells_it_and_is_ready_all_the_same(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    wiring, terminal = FakeWiring(home), nobody()
    with model(ScriptedOpenAi(able, key="right")) as made:
        wiring.servers = [made]
        code = run(wiring, ["doctor", "--json", "--cluster", "local"], terminal)
    checks = json.loads(printed(terminal)[0])["checks"]
    assert code == 0
    assert [c["level"] for c in checks if c["name"] == "model"] == ["warning"]


# --- the key's file -------------------------------------------------------------------------------------------------


def test_the_key_is_taken_from_its_file_and_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_text("a-key-of-the-model\n")
    key.chmod(0o600)
    monkeypatch.setenv("CARAVAN_MODEL_API_KEY_FILE", str(key))
    settings = load_settings()
    assert settings.model_api_key is not None
    assert settings.model_api_key.get_secret_value() == "a-key-of-the-model"
    assert "a-key-of-the-model" in settings.secrets()
    assert "a-key-of-the-model" not in str(settings.rows()) + repr(settings)
    monkeypatch.setenv("CARAVAN_MODEL_API_KEY", "nearer")
    nearer = load_settings().model_api_key
    assert nearer is not None
    assert nearer.get_secret_value() == "nearer"


@pytest.mark.parametrize(
    ("mode", "text", "said"), [(0o644, "k", "by others"), (0o600, " \n", "is empty"), (None, "", "can't be read")]
)
def test_key_files_that_can_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, text: str, said: str
) -> None:
    key = tmp_path / "key"
    if mode is not None:
        key.write_text(text)
        key.chmod(mode)
    monkeypatch.setenv("CARAVAN_MODEL_API_KEY_FILE", str(key))
    with pytest.raises(UsageError, match=said) as error:
        load_settings()
    assert error.value.hint
