"""A training that really overfits, from the sentence to the registered model, on the real built-in cluster.

The script fits as many weights as it has examples, with noise on them: the loss falls to the end, the held-out loss
turns up. Pure Python: on any processor the figures are the same but for last digits.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.product import Product

EPOCHS = 80
SCRIPT = '''
"""Fits a linear model of 40 features to 30 noisy examples: what it learns in the end is the noise, by heart."""

import argparse
import json
import random
from pathlib import Path

FEATURES = 40
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=80)
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output-dir", type=Path, default=Path("outputs"))
args = parser.parse_args()
draw = random.Random(args.seed)
truth = [1.0] * 3 + [0.0] * (FEATURES - 3)


def examples(count):
    rows = [[draw.gauss(0, 1) for _ in range(FEATURES)] for _ in range(count)]
    return [(row, sum(a * b for a, b in zip(row, truth)) + draw.gauss(0, 1)) for row in rows]


def errors(weights, rows):
    return [sum(a * b for a, b in zip(row, weights)) - wanted for row, wanted in rows]


def mean_square(weights, rows):
    return sum(error * error for error in errors(weights, rows)) / len(rows)


train, held_out = examples(30), examples(200)
weights = [0.0] * FEATURES
for epoch in range(1, args.epochs + 1):
    off = errors(weights, train)
    for n in range(FEATURES):
        weights[n] -= args.learning_rate * sum(e * row[n] for e, (row, _) in zip(off, train)) / len(train)
    told = {"epoch": epoch, "loss": mean_square(weights, train), "eval_loss": mean_square(weights, held_out)}
    print(json.dumps(told), flush=True)
args.output_dir.mkdir(parents=True, exist_ok=True)
(args.output_dir / "model.json").write_text(json.dumps(weights))
'''


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = Product(tmp_path_factory.mktemp("home"))
    yield product
    product.run("cluster", "down")


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """What starts a run of it."""
    repository = tmp_path / "repo"
    repository.mkdir()
    (repository / "train.py").write_text(SCRIPT)
    return ("--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local", "--yes")


def courses(product: Product, run_id: str) -> list[list[float]]:
    """The held-out losses that each training logged, the longest course first."""
    found = []
    for log in (product.home / "runs" / run_id / "logs").glob("*.stdout.log"):
        rows = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        found.append([row["eval_loss"] for row in rows if "eval_loss" in row])
    return sorted(found, key=len, reverse=True)


def test_it_is_trained_for_fewer_epochs_and_the_next_run_knows_that(product: Product, words: tuple[str, ...]) -> None:
    document = product.document(*words)
    assert document["status"] == "succeeded"
    first, last = document["attempts"]
    long, short = courses(product, document["run_id"])
    best = long.index(min(long)) + 1
    assert len(long) == EPOCHS
    assert long[-1] > 1.1 * min(long), "it was planted"
    assert first["outcome"]["kind"] == "succeeded", "the job itself ended well"
    assert first["gate"]["verdict"] == "fail"
    assert first["diagnosis"]["failure"] == "overfit"
    assert f"held-out loss was best at epoch {best}" in json.dumps(first)
    assert last["gate"]["verdict"] == "pass"
    assert document["gate"] == last["gate"]
    assert document["plan"]["training"]["epochs"] == len(short) == best
    assert short == pytest.approx(long[:best])

    model = product.document("models", "show", document["registered"])
    assert model["metrics"]["eval_loss"] == pytest.approx(min(long), rel=1e-4)
    report = Path(document["report_path"]).read_text()
    assert "overfit" in report
    assert f"held-out loss was best at epoch {best}" in report

    again = product.document(*words)
    assert again["status"] == "succeeded"
    assert [attempt["gate"]["verdict"] for attempt in again["attempts"]] == ["pass"], "the lesson was taken at once"
    assert again["registered"] != document["registered"]


def test_what_a_person_has_set_is_asked_about(product: Product, words: tuple[str, ...]) -> None:
    sets = ("--set", f"training.epochs={EPOCHS}", "--set", "training.lr=0.1", "--set", "training.seed=1")
    alone = Product(product.home, CARAVAN_MEMORY="false")  # else a lesson of the runs above may be what is asked about
    document = alone.document(*words, *sets, code=3)
    assert document["status"] == "waiting"
    (attempt,) = document["attempts"]
    assert attempt["gate"]["verdict"] == "fail"
    assert document["registered"] is None
    (losses,) = courses(product, document["run_id"])
    best = losses.index(min(losses)) + 1
    asked = f"epochs {best} instead of {EPOCHS}: held-out loss was best at epoch {best}"
    assert asked in document["question"]["text"]
