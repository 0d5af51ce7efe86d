"""`main.py optimize` as users run it: real processes, a model behind HTTP, LangFuse behind HTTP.

What the model says is scripted: it is right where its prompt holds worked examples or says a certain thing.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from machine import LocalControl
from main import main
from tests.fakes.langfuse_server import LangfuseServer
from tests.fakes.openai_server import Asked, ScriptedOpenAi, Turn, hangs
from tests.fakes.product import Product
from tests.offline.planted import WORDS, answers, write

ROOT = Path(__file__).resolve().parent.parent
EASY = WORDS[::3]
TRAINING = """
import sys
sys.exit("WidgetFault: the batch does not fit the shelf")
"""


class Optimizing(Product):
    """The product with a model at `url`, and cases to optimise over."""

    def __init__(self, folder: Path, url: str, **more: str) -> None:
        super().__init__(folder / "home", CARAVAN_LOOK_UP="0", CARAVAN_MODEL_URL=url, HOME=str(folder), **more)
        self.cases = write(folder / "cases.jsonl", EASY)

    def optimize(self, *words: str) -> tuple[str, ...]:
        given = ("--data", f"cases={self.cases}", "--only-data", "--max-cases", "20", "--demos", "1", "--seed", "3")
        return ("optimize", "diagnose", *given, *words)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    try:
        yield tmp_path
    finally:
        LocalControl(tmp_path / "home" / "cluster").down()


def test_what_is_found_is_pushed_promoted_and_used_by_the_next_run_without_dspy(folder: Path) -> None:
    repository, blocked = folder / "repo", folder / "blocked"
    repository.mkdir()
    blocked.mkdir()
    (repository / "train.py").write_text(TRAINING)
    (repository / "README.md").write_text("# Shelf\n\n    python train.py\n")
    (blocked / "dspy.py").write_text("raise ImportError('no DSPy here')\n")
    with ScriptedOpenAi(answers, models=[("qwen3-8b", 32768)]) as server, LangfuseServer() as langfuse:
        product = Optimizing(folder, server.url, **langfuse.environment())
        document, told = product.told(*product.optimize("--promote"), code=0)
        (step,) = document["steps"]
        asked = len(server.chats)
        assert "at most" in told
        assert f"never more than {document['request']['max_calls']} calls" in told
        assert (document["better"], step["ending"], step["promoted"]) == (True, "better", True)
        assert document["calls"] == document["asked"] == asked
        job = ("--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local", "--yes")
        product.environment["PYTHONPATH"] = str(blocked)
        run = product.start(*job, "--json")
        result = json.loads(run.communicate()[0])
        missing = product.start(*product.optimize())
        assert "pip install -r requirements-optimize.txt" in missing.communicate()[1]
        assert missing.returncode == 2
        used = [prompt for row in result["model"]["steps"] for prompt in row["prompts"] if "diagnose" in prompt]
        assert used
        assert step["candidate"] in used[0]
        question = next(a for a in server.chats[asked:] if "WidgetFault" in a.said())
        assert [m["role"] for m in question.body["messages"]][:4] == ["system", "user", "assistant", "user"]
        assert result["attempts"][0]["diagnosis"]["failure"] == "training_config_invalid"
        remote = json.dumps(langfuse.kept.prompts, default=str)
        assert "candidate" in remote
        assert "production" in remote
    assert sorted(path.name for path in folder.iterdir()) == ["blocked", "cases.jsonl", "home", "repo"]


def test_what_is_killed_goes_on_without_asking_again(folder: Path) -> None:
    reached, broken = Event(), [20]

    def script(asked: Asked) -> Turn:
        broken[0] -= 1
        if broken[0] == 0:
            reached.set()
            return hangs()
        return answers(asked)

    with ScriptedOpenAi(script, models=[("qwen3-8b", 32768)]) as server:
        product = Optimizing(folder, server.url)
        process = product.start(*product.optimize("--json"))
        assert reached.wait(240)
        process.kill()
        process.communicate()
        first = [json.dumps(asked.body["messages"]) for asked in server.chats[:-1]]
        (name,) = [path.name for path in (product.home / "optimize").iterdir() if path.is_dir()]
        document, _ = product.told("optimize", "--resume", name, code=0)
        again = [json.dumps(asked.body["messages"]) for asked in server.chats[len(first) + 1 :]]
    assert document["id"] == name
    assert document["steps"][0]["ending"] == "better"
    assert document["asked"] == len(again)
    assert document["calls"] == len(first) + len(again)
    twice = {text for text in first if text in again and first.count(text) + again.count(text) > 2}
    assert twice == set()


def command(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any, str]:
    """A command in this process: exit code, document, what it told."""
    code = main([*words, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


@pytest.fixture
def _umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
def test_no_improvement_is_said_in_exit_code_and_document_and_nothing_is_pushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(asked: Asked) -> Turn:
        asked.body["messages"] = [asked.body["messages"][0], asked.body["messages"][-1]]  # it heeds no examples
        return answers(asked)

    with ScriptedOpenAi(script, models=[("qwen3-8b", 32768)]) as server, LangfuseServer() as langfuse:
        product = Optimizing(tmp_path, server.url)
        for name, value in {"CARAVAN_MODEL_URL": server.url, **langfuse.environment()}.items():
            monkeypatch.setenv(name, value)
        code, document, _ = command(product.optimize("--promote"), capsys)
        assert langfuse.kept.prompts == {}
        assert command(("optimize", "--push-data", "mine", "repair"), capsys)[1]["items"] > 20
        given = ("optimize", "repair", "--data", "langfuse=mine", "--only-data", "--dry-run")
        _, dry, _ = command(given, capsys)
    assert (code, document["better"], document["steps"][0]["ending"]) == (1, False, "not_better")
    assert not (tmp_path / "caravan-home" / "prompts" / "kept").exists()
    assert sum(dry["steps"][0]["cases"].values()) > 20


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize(
    ("url", "words", "code", "said"),
    [
        ("", ("optimize",), 2, "Set CARAVAN_MODEL_URL"),
        ("http://127.0.0.1:9/v1", ("optimize",), 5, "can't be reached"),
        ("", ("optimize", "poetry"), 2, "There is no step 'poetry'"),
        ("", ("optimize", "--optimizer", "magic"), 2, "bootstrap, miprov2, gepa"),
        ("", ("optimize", "--resume", "x", "--seed", "2"), 2, "seed can't change"),
        ("", ("optimize", "--push-data", "x"), 2, "No LangFuse is set"),
    ],
)
def test_wrong_use_is_one_line(
    url: str,
    words: tuple[str, ...],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CARAVAN_MODEL_URL", url)
    found, document, told = command(words, capsys)
    assert found == document["exit_code"] == code
    assert said in told
    assert len([line for line in told.splitlines() if line.startswith("Error")]) == 1
