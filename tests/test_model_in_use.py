"""`main.py` with a language model, as users run it: real processes, the real built-in cluster, a model behind HTTP.

What the model says is scripted; the repository's failure is one that no rule knows.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.values.prompts import content_version, remote_name
from machine import LocalControl
from tests.fakes.langfuse_server import LangfuseServer
from tests.fakes.openai_server import Asked, ScriptedOpenAi, Turn, says
from tests.fakes.product import Product

ROOT = Path(__file__).resolve().parent.parent
SHELF = """
import argparse
import json
import pathlib
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--output-dir", default="out")
args = parser.parse_args()
if args.batch_size > 4:
    sys.exit(f"WidgetFault: the widgets of {args.batch_size} do not fit the shelf")
for epoch in range(args.epochs):
    print(json.dumps({"epoch": epoch, "loss": 1 / (1 + epoch)}), flush=True)
pathlib.Path(args.output_dir).mkdir(parents=True, exist_ok=True)
pathlib.Path(args.output_dir, "model.json").write_text("{}")
"""
CAUSE = {
    "failure": "training_config_invalid",
    "confidence": 0.9,
    "cause": "The batch does not fit the shelf",
    "lines": ["WidgetFault: the widgets of 8 do not fit the shelf"],
}
SMALLER = {
    "kind": "change_plan",
    "changes": [{"path": "training.options.--batch-size", "value": 4, "why": "four fit"}],
    "why": "a smaller batch fits",
}
STEPS = {
    "diagnose": ("fixed rules are not sure of the cause", CAUSE),
    "repairs": ("No repair of the fixed rules is left", {"repairs": [SMALLER]}),
}


def step(asked: Asked) -> str:
    """The step that a request is of; empty for those before and after the failure."""
    text = json.dumps(asked.body)
    return next((name for name, (words, _) in STEPS.items() if words in text), "")


def answers(asked: Asked) -> Turn:
    """What the stand-in for a model says."""
    name = step(asked)
    return says(f"<think>The shelf...</think>\n```json\n{json.dumps(STEPS[name][1])}\n```") if name else says("{}")


def with_model(home: Path, url: str) -> Product:
    """The product with a model at `url`."""
    return Product(home, CARAVAN_LOOK_UP="0", CARAVAN_MODEL_URL=url)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    try:
        yield tmp_path / "home"
    finally:
        LocalControl(tmp_path / "home" / "cluster").down()


@pytest.fixture
def job(tmp_path: Path) -> tuple[str, ...]:
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "train.py").write_text(SHELF)
    (repository / "README.md").write_text("# Shelf\n\n    python train.py --epochs 2\n")
    return "--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local"


def test_what_no_rule_knows_is_mended_by_the_model_and_told(home: Path, job: tuple[str, ...]) -> None:
    with ScriptedOpenAi(answers, models=[("qwen3-8b", 32768)]) as server:
        document, told = with_model(home, server.url).told(*job, "--yes", code=0)
        host = server.url.split("/")[2]
    first, second = document["attempts"]
    assert document["status"] == "succeeded"
    assert (first["diagnosis"]["failure"], first["diagnosis"]["by"]) == ("training_config_invalid", "qwen3-8b")
    assert first["repair"]["why"] == "by qwen3-8b: a smaller batch fits"
    assert second["diagnosis"] is None
    used = document["model"]
    assert used["calls"] == len(server.chats)
    assert {row["step"] for row in used["steps"]} >= {"refine_profile", "questions", "propose", "diagnose", "repairs"}
    assert not any(row["failed"] for row in used["steps"])

    assert told.count(f"A language model is asked too: {host}.") == 1
    assert "Cause: The batch does not fit the shelf. (by qwen3-8b)" in told
    assert "By qwen3-8b: change_plan training.options.--batch-size = 4: a smaller batch fits" in told
    report = Path(document["report_path"]).read_text()
    assert "| The language model |" in report
    assert "| diagnose | qwen3-8b |" in report
    assert "by qwen3-8b: four fit" in report
    trace = (home / "traces" / f"{document['run_id']}.jsonl").read_text()
    assert '"name":"step by model"' in trace
    assert '"by":"rules"' not in trace


def test_a_model_that_is_gone_when_a_run_goes_on_is_said_once(home: Path, job: tuple[str, ...]) -> None:
    with ScriptedOpenAi(answers, models=[("qwen3-8b", 32768)]) as server:
        product = with_model(home, server.url)
        open_run, _ = product.told(*job, code=3)
        asked = len(server.chats)
    assert open_run["question"]
    document, told = product.told("resume", open_run["run_id"], "--approve", code=3)
    assert document["status"] == "escalated"
    assert document["attempts"][0]["diagnosis"]["by"] == "rules"
    assert sum("Going on by the rules" in line for line in told.splitlines()) == 1
    steps = {row["step"]: row for row in document["model"]["steps"]}
    assert sum(row["calls"] for row in steps.values() if not row["failed"]) == asked  # none was asked twice
    assert set(steps) >= {"refine_profile", "diagnose"}
    assert steps["diagnose"]["failed"] == 1


def test_the_prompts_of_langfuse_are_used_and_a_run_that_goes_on_keeps_them(home: Path, job: tuple[str, ...]) -> None:
    plan = (ROOT / "templates" / "prompts" / "plan.md").read_text("utf-8")
    with ScriptedOpenAi(answers, models=[("qwen3-8b", 32768)]) as server, LangfuseServer() as langfuse:
        product = with_model(home, server.url)
        product.environment |= langfuse.environment() | {"CARAVAN_PROMPT_CACHE_S": "0"}
        for name in ("plan", "repair"):
            text = (ROOT / "templates" / "prompts" / f"{name}.md").read_text("utf-8")
            langfuse.put_prompt(remote_name(name), f"Of LangFuse.\n{text}", "production")
        open_run, _ = product.told(*job, code=3)
        langfuse.put_prompt(remote_name("plan"), plan, "production")
        langfuse.put_prompt(remote_name("repair"), "nothing", "production")
        document, told = product.told("resume", open_run["run_id"], "--approve", code=0)
        said = [asked.said() for asked in server.chats]
    used = {prompt for step in document["model"]["steps"] for prompt in step["prompts"]}
    version = content_version(f"Of LangFuse.\n{plan}")
    assert f"plan {version} (LangFuse 1)" in used
    assert any("Of LangFuse." in text for text in said)
    assert any(prompt.startswith("repair ") and prompt.endswith("(shipped)") for prompt in used)
    assert "LangFuse's version 2 of the prompt repair is not used" in told
    report = Path(document["report_path"]).read_text()
    assert f"plan {version}" in report
    trace = (home / "traces" / f"{document['run_id']}.jsonl").read_text()
    assert f'"prompt":"plan","prompt_version":"{version}","prompt_number":1,"prompt_origin":"langfuse"' in trace
    shown = product.run("show", document["run_id"]).stdout
    assert f"plan {version} (LangFuse 1)" in shown
