"""`reproduce` as its users start it: real processes, the real built-in cluster, trainings of a few numbers."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_main import Product

SCRIPT = """
import argparse
import random

parser = argparse.ArgumentParser()
parser.add_argument("--data", default="numbers.txt", help="text to learn from")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--epochs", type=int, default=2)
args = parser.parse_args()
{seeding}
numbers = [float(line) for line in open(args.data)]
loss = 10.0
for epoch in range(args.epochs):
    for number in numbers:
        loss *= 1 - 0.1 * random.random()
    print(f"epoch {{epoch}} loss {{loss:.9f}}", flush=True)
print(f"eval_loss {{loss + sum(numbers) / 1000:.9f}}")
"""
SEEDED = SCRIPT.format(seeding="random.seed(args.seed)")
PLANTED = SCRIPT.format(seeding="import time\nrandom.seed(time.time_ns())")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    product = Product(tmp_path_factory.mktemp("home"))
    yield product
    product.run("cluster", "down")


def repository(tmp_path: Path, script: str) -> Path:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "train.py").write_text(script)
    (repo / "numbers.txt").write_text("1\n2\n3\n")
    return repo


def trained(product: Product, repo: Path, *more: str) -> Any:
    options = ("--cluster", "local", "--yes", "--set", "evaluation.on=false", *more)
    return product.document("--prompt", "Train it", "--codebase-path", str(repo), *options)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_comes_to_the_same_though_its_repository_has_changed_and_then_gone(
    product: Product, tmp_path: Path
) -> None:
    repo = repository(tmp_path, SEEDED)
    first = trained(product, repo, "--set", "training.seed=3", "--set", "training.epochs=4")
    kept = product.home / "runs" / first["run_id"]
    before = files(kept)
    (repo / "train.py").write_text(SEEDED.replace("loss = 10.0", "loss = 99.0"))
    (repo / "numbers.txt").write_text("4\n")
    again = product.document("reproduce", first["run_id"], "--yes")
    assert again["status"] == "succeeded"
    assert again["run_id"] != first["run_id"]
    assert again["reproduces"] == first["run_id"]
    assert again["reproduced"]["verdict"] == "agrees"
    assert "equal to the last digit" in again["reproduced"]["text"]
    assert again["metrics"]["eval_loss"] == first["metrics"]["eval_loss"]
    assert again["plan"]["training"]["seed"] == 3
    assert files(kept) == before, "the original is never changed"
    shutil.rmtree(repo)
    once_more = product.document("reproduce", first["run_id"], "--yes", "--tolerance", "0")
    assert once_more["reproduced"]["verdict"] == "agrees"

    table = product.run("compare", first["run_id"], again["run_id"])
    assert table.returncode == 0, table.stderr
    assert "chance alone" in table.stdout
    assert f"made again: {again['run_id']}" in table.stdout

    (kept / "code.tar.gz").unlink()
    gone = product.run("reproduce", first["run_id"], "--yes")
    assert gone.returncode == 2
    assert "can't be had as it was" in gone.stderr


def test_a_planted_draw_is_found_not_to_agree(product: Product, tmp_path: Path) -> None:
    first = trained(product, repository(tmp_path, PLANTED), "--set", "training.seed=3")
    done = product.run("reproduce", first["run_id"], "--yes", "--tolerance", "0", "--json")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "succeeded"
    assert document["reproduced"]["verdict"] == "does not agree"
    resumed = product.run("resume", document["run_id"], "--json")
    assert resumed.returncode == 1, "looked at later it says the same"


def test_changed_data_are_refused_before_anything_is_launched(product: Product, tmp_path: Path) -> None:
    repo, data = repository(tmp_path, SEEDED), tmp_path / "elsewhere.txt"
    data.write_text("1\n2\n")
    first = trained(product, repo, "--set", f"dataset.path={data}")
    data.write_text("1\n2\n3\n4\n")
    refused = product.run("reproduce", first["run_id"], "--yes")
    assert refused.returncode == 2, refused.stderr
    assert "are others than run" in refused.stderr
    assert "--anyway" in refused.stderr
    anyway = product.run("reproduce", first["run_id"], "--yes", "--anyway", "--json")
    assert anyway.returncode == 1, anyway.stderr
    document = json.loads(anyway.stdout)
    assert any(reason.startswith("other data") for reason in document["reproduced"]["reasons"])


def test_without_a_terminal_the_approval_is_the_one_question(product: Product, tmp_path: Path) -> None:
    first = trained(product, repository(tmp_path, SEEDED))
    asked = product.document("reproduce", first["run_id"], code=3)
    assert asked["question"]["kind"] == "approval"
    assert asked["attempts"] == []
    ended = product.document("resume", asked["run_id"], "--approve")
    assert ended["reproduced"]["verdict"] == "agrees", "a resumed reproduction goes on being one"
