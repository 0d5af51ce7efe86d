"""Real fine-tunes through the agent: from a sentence to an adapter that loads, on the built-in cluster, on the CPU."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.conftest import environment
from tests.train.driving import EXAMPLE, Run, Site, end, once, repository, steps

pytestmark = pytest.mark.train

SAME = 1e-4
"""By how much, as a share, the losses of a training that was killed or reproduced and one that was not may differ: sums
in another order, no more."""


@pytest.fixture
def site(tmp_path: Path, train_python: Path) -> Iterator[Site]:
    site = Site(tmp_path / "home", train_python)
    yield site
    site.close()


@pytest.fixture
def source(tmp_path: Path, tiny_model: Path) -> Path:
    return repository(tmp_path / "tiny", tiny_model)


def loaded(python: Path, text: str, *words: Path) -> str:
    """What a program says that loads the results."""
    done = subprocess.run(
        [str(python), "-c", text, *map(str, words)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def falls(run: Run, name: str, to: float) -> None:
    """The metric's last value is at most so many times its first, in the script's own lines and in the run's."""
    values = run.series(name)
    assert values[-1] < to * values[0], values
    assert run.document["metrics"][name] == pytest.approx(values[-1], rel=1e-6)


ADAPTER = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = AutoTokenizer.from_pretrained(sys.argv[1])("Who", return_tensors="pt").input_ids
with torch.no_grad():
    before = base(ids).logits.clone()
    after = PeftModel.from_pretrained(base, sys.argv[2])(ids).logits
print(torch.isfinite(after).all().item(), (after - before).abs().max().item() > 1e-3)
"""

MODEL = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = AutoTokenizer.from_pretrained(sys.argv[1])("Who", return_tensors="pt").input_ids
print(torch.isfinite(model(ids).logits).all().item())
"""


def test_a_sentence_becomes_an_adapter_that_loads(site: Site, tiny_model: Path, train_python: Path) -> None:
    run = site.run(EXAMPLE, training__lr=0.02, training__epochs=2)
    assert (run.exit_code, run.document["status"]) == (0, "succeeded"), run.told()
    assert run.document["plan"]["training"]["type"] == "sft"
    falls(run, "loss", 0.8)
    falls(run, "eval_loss", 0.8)
    assert (run.outputs / "DONE.json").is_file()
    assert loaded(train_python, ADAPTER, tiny_model, run.outputs / "adapter").split() == ["True", "True"]
    used = run.document["resources"]
    assert 200 < used["host_peak_mb"] < used["host_allowed_mb"] * 1.1
    assert run.document["attempts"][-1]["uses"][0]["training_s"] > 0
    report = Path(run.document["report_path"]).read_text()
    assert "Used: host memory up to" in report

    gate = run.document["gate"]
    assert (gate["verdict"], gate["judged_by"]) == ("pass", "evaluation"), gate
    assert gate["metrics"]["loss"] < 0.8 * gate["base"]["loss"]
    assert run.document["registered"] in report
    verified = site.ended(site.start("models", "verify", run.document["registered"], "--json"))
    assert verified.exit_code == 0, verified.told()

    again = site.ended(site.start("reproduce", run.document["run_id"], "--yes", "--tolerance", str(SAME), "--json"))
    assert again.exit_code == 0, again.told()
    assert again.document["reproduced"]["verdict"] == "agrees"
    assert again.document["gate"]["metrics"]["loss"] == pytest.approx(gate["metrics"]["loss"], rel=SAME)


def test_all_weights_are_tuned(site: Site, source: Path, train_python: Path) -> None:
    run = site.run(source, training__method="full", training__lr=0.005, training__max_steps=20)
    assert (run.exit_code, run.document["status"]) == (0, "succeeded"), run.told()
    falls(run, "loss", 0.8)
    told = json.loads((run.outputs / "evaluation.json").read_text())
    assert told["tuned"]["loss"] < 0.8 * told["base"]["loss"]
    assert loaded(train_python, MODEL, run.outputs / "model").split() == ["True"]


def test_host_memory_that_is_too_small_is_raised(site: Site, source: Path) -> None:
    run = site.run(source, training__lr=0.02, training__max_steps=10, resources__memory_mb=320)
    assert (run.exit_code, run.document["status"]) == (0, "succeeded"), run.told()
    first, *_, last = run.document["attempts"]
    assert first["diagnosis"]["failure"] == "host_memory_oom"
    assert first["outcome"]["oom_killed"]
    assert run.document["plan"]["resources"]["memory_mb"] > 320
    assert last["outcome"]["kind"] == "succeeded"
    falls(run, "loss", 0.95)


def test_a_rate_that_is_too_high_is_lowered(site: Site, source: Path) -> None:
    asked = site.run(source, training__lr=1e20, training__epochs=3)
    # A person has set that rate: another one is proposed, and only a person can take it.
    assert (asked.exit_code, asked.document["status"]) == (3, "waiting"), asked.told()
    assert "training.lr would be 0.0002 instead of 1e+20" in json.dumps(asked.document["question"])
    run = site.ended(site.start("resume", asked.document["run_id"], "--approve", "--json"))
    assert (run.exit_code, run.document["status"]) == (0, "succeeded"), run.told()
    first = run.document["attempts"][0]
    assert first["diagnosis"]["failure"] == "numeric_divergence"
    assert first["changed"]["training.lr"] == [1e20, 2e-4]
    falls(run, "loss", 0.97)


STEPS = {"training__lr": 0.01, "training__max_steps": 30, "training__options.--save-steps": 10}


def test_what_was_killed_in_the_middle_ends_with_the_same_loss(site: Site, source: Path) -> None:
    """Kill -9 of the agent, then of the training; and the run is taken up again."""
    undisturbed = site.run(source, **STEPS)
    assert undisturbed.document["status"] == "succeeded", undisturbed.told()
    before = set(site.home.glob("runs/*"))

    def at(step: int) -> bool:
        return any(steps(path) >= step for path in set(site.home.glob("runs/*")) - before)

    process = site.begin(source, **STEPS)
    once(lambda: at(1), process)
    process.kill()
    process.communicate()
    once(lambda: at(13), None)
    killed = [end(pid) for pid, _ in site.trained()]
    assert killed, "the training had ended before it could be killed"
    (folder,) = set(site.home.glob("runs/*")) - before
    run = site.ended(site.start("resume", folder.name, "--json"))
    assert (run.exit_code, run.document["status"]) == (0, "succeeded"), run.told()
    assert len(run.document["attempts"]) == 2, run.told()
    assert "resumed from checkpoint-" in run.document["attempts"][1]["resumed"]
    same(run, undisturbed)


def same(run: Run, other: Run) -> None:
    """Both ended with the same losses."""
    for name in ("loss", "eval_loss"):
        assert run.series(name)[-1] == pytest.approx(other.series(name)[-1], rel=SAME)
        assert run.series(name)[-1] < 0.8 * other.series(name)[0]
