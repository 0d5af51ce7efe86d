"""The example of a training type of one's own, on a real built-in cluster: data alone become a trained model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Site

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom-type"


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARAVAN_TRAINING_TYPES", str(EXAMPLE))
    return Path(shutil.copytree(EXAMPLE / "texts", tmp_path / "texts"))


def test_data_alone_become_a_model(site: Site, texts: Path) -> None:
    ended = site.run(texts, "--type", "bigrams", "--set", "training.epochs=12").succeeded()
    assert ended.plan.training.type == "bigrams"
    outputs = Path(ended.document["outputs"]["location"])
    rows = [json.loads(line) for line in (outputs / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert rows[-1]["eval_loss"] < rows[0]["eval_loss"]
    assert json.loads((outputs / "DONE.json").read_text()) == {"type": "bigrams", "step": 12}
    assert sorted(p.name for p in outputs.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-5"]
    assert ended.state.metrics["eval_loss"] == pytest.approx(rows[-1]["eval_loss"])
    kept = site.home / "runs" / ended.document["run_id"] / "training" / "caravan_train"
    assert (kept / "train.py").read_text() == (EXAMPLE / "bigrams" / "train.py").read_text()
    told = subprocess.run(
        [sys.executable, kept / "evaluate.py", outputs / "model", texts / "harbour.txt"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    judged = json.loads(told.stdout)
    assert judged["eval_loss"] < judged["base"]
    assert sorted(p.name for p in texts.iterdir()) == ["harbour.txt"]


def test_an_option_of_the_script_alone_is_set_like_any_other(site: Site, texts: Path) -> None:
    ended = site.run(
        texts, "--type", "bigrams", "--set", "training.epochs=4", "--set", "training.options.--save-steps=2"
    ).succeeded()
    outputs = Path(ended.document["outputs"]["location"])
    assert sorted(p.name for p in outputs.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_empty_data_are_found_before_the_launch(site: Site, texts: Path) -> None:
    (texts / "harbour.txt").write_text("")
    ended = site.run(texts, "--type", "bigrams", "--set", "dataset.path=harbour.txt")
    assert (ended.code, ended.attempts) == (3, [])
    assert "harbour.txt" in ended.document["detail"]
    assert ended.diagnosis.failure is not FailureClass.UNKNOWN
