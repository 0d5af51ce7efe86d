"""First steps on the built-in cluster, with real processes and a price: measured, judged, repaired, left out."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.failure import FailureClass
from tests.failures.driving import Ended, Site, sets

pytestmark = pytest.mark.gpu_text

TRAIN = '''"""Counts down a loss. Standard library only."""

import argparse
import pathlib
import time


class SGD:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradient):
        self.weights["w"] -= self.lr * gradient


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="points.txt")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--output-dir", default="out")
    args = parser.parse_args()
    goal = float(pathlib.Path(args.data).read_text())
    out = pathlib.Path(args.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    optimizer = SGD({"w": 0.0}, args.learning_rate)
    for step in range(args.steps):
        time.sleep(0.02)
        error = optimizer.weights["w"] - goal
        optimizer.step(2 * error)
        print(f"step {step + 1}/{args.steps} loss={error * error:.6f}", flush=True)
        (out / "weights.txt").write_text(f"{step + 1} {optimizer.weights}")
    print("trained to the end", flush=True)


if __name__ == "__main__":
    main()
'''


@pytest.fixture(autouse=True)
def _price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_USD_PER_GPU_HOUR", "3.6")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "repository"
    place.mkdir()
    (place / "train.py").write_text(TRAIN)
    (place / "points.txt").write_text("1.5")
    (place / "README.md").write_text("# Training\n\n    python train.py --data points.txt\n")
    return place


def train(site: Site, repository: Path, *options: str, **more: Any) -> Ended:
    usual = {"node_pool": "cards", "resources.gpus": 1, "limits.max_run_s": 300, "smoke.steps": 6}
    return site.run(repository, *sets({**usual, **more}), *options)


def report(ended: Ended) -> str:
    return Path(ended.document["report_path"]).read_text()


def test_they_replace_the_estimate_and_nothing_of_them_is_left(site: Site, repository: Path) -> None:
    ended = train(site, repository).succeeded()
    assert ended.logs.count("trained to the end") == 2
    assert (ended.logs.count("step 3/6"), ended.logs.count("step 3/30")) == (1, 1)
    known = ended.document["estimate"]
    assert known["smoke"]["total_steps"] == 30
    assert known["smoke"]["peak_gpu_gib"] is None  # a declared card has none to look at
    assert "GPU memory was not seen" in known["smoke"]["note"]
    assert 0.5 < known["seconds"]["likely"] < 60
    assert known["cost_usd"]["likely"] == pytest.approx(known["seconds"]["likely"] * 3.6 / 3600)
    assert "| The whole training | up to 5 min |" in report(ended)
    assert "smoke" in report(ended)


def test_a_training_that_would_take_too_long_is_stopped_before_its_expensive_part(site: Site, repository: Path) -> None:
    ended = train(site, repository, **{"training.options.--steps": 9000, "limits.max_run_s": 60})
    ended.asks(FailureClass.RUN_TOO_LONG)
    assert "step 7/" not in ended.logs
    assert ended.attempts[0]["outcome"]["exit_code"] == 80
    asked = ended.document["question"]["text"]
    assert "are approved" in asked
    assert "USD" in asked
    ((path, (before, after)),) = ended.changed().items()
    assert (path, before) == ("limits.max_run_s", 60)
    assert after > 180


def test_a_failure_in_them_is_found_early_and_repaired(site: Site, repository: Path) -> None:
    (repository / "shared").mkdir()
    (repository / "points.txt").rename(repository / "shared" / "points.txt")
    ended = train(site, repository).succeeded(FailureClass.DATA_PATH_MISSING)
    assert ended.logs.count("FileNotFoundError") == 1
    assert "the training failed in its first steps" in ended.logs
    assert ended.document["estimate"]["smoke"]["steps"] >= 6


def test_without_them_where_nobody_wants_them(site: Site, repository: Path) -> None:
    ended = train(site, repository, "--no-smoke").succeeded()
    assert ended.logs.count("step 3/30") == 1
    assert ended.document["estimate"]["smoke"] is None


def test_they_can_be_asked_for_where_nothing_is_paid(site: Site, repository: Path) -> None:
    ended = site.run(repository, "--smoke", *sets({"smoke.steps": 6})).succeeded()
    assert ended.logs.count("step 3/") == 2
    assert ended.document["estimate"]["smoke"]["total_steps"] == 30
