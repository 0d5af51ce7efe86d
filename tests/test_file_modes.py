"""What a run leaves is its user's alone: 0700 for folders, 0600 for all else, whatever umask it was started with."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRAIN = """
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--output_dir", default="out")
parser.add_argument("--fail", type=int, default=0)
args = parser.parse_args()
out = pathlib.Path(args.output_dir)
out.mkdir(parents=True, exist_ok=True)
for epoch in range(args.epochs):
    print(json.dumps({"epoch": epoch, "loss": 2.0 / (epoch + 1)}), flush=True)
if args.fail:
    print("MemoryError: Unable to allocate 9.00 GiB for an array", file=sys.stderr)
    raise MemoryError
(out / "weights.txt").write_text("1")
"""


class Careless:
    """The product as somebody starts it whose umask is 000."""

    def __init__(self, root: Path) -> None:
        self.home, self.repository = root / "home", root / "repository"
        self.repository.mkdir()
        (self.repository / "train.py").write_text(TRAIN)

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            [sys.executable, "main.py", *words],
            cwd=ROOT,
            env={**os.environ, "CARAVAN_HOME": str(self.home)},
            umask=0,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in codes, done.stderr
        return done.stdout

    def train(self, *more: str, codes: tuple[int, ...] = (0,)) -> str:
        words = ("--prompt", "Train it", "--codebase-path", str(self.repository), "--cluster", "local", "--yes")
        found = json.loads(self.run(*words, "--json", *more, codes=codes))
        return str(found["run_id"])

    def wide(self) -> list[str]:
        """What others may read, write or enter in the state directory, but for what tasks wrote in their own folders,
        which stand behind one that nobody else enters."""
        tasks = {self.home / "cluster" / "allocs", *self.home.glob("runs/*/outputs")}
        mine = [self.home, *(path for path in self.home.rglob("*") if not tasks & set(path.parents))]
        modes = [(path, path.lstat().st_mode) for path in mine]
        return [
            f"{path.relative_to(self.home)} {stat.filemode(mode)}"
            for path, mode in modes
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077
        ]


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Careless]:
    made = Careless(tmp_path_factory.mktemp("modes"))
    yield made
    made.run("cluster", "down")


def test_the_search_finds_what_is_there(careless: Careless) -> None:
    careless.run("runs")
    leak = careless.home / "leak"
    leak.write_text("x")
    leak.chmod(0o604)
    assert careless.wide() == ["leak -rw----r--"]
    leak.unlink()


def test_runs_lessons_models_traces_and_the_cluster_leave_nothing_that_others_read(careless: Careless) -> None:
    run_id = careless.train()
    failed = careless.train("--set", 'command=["train.py", "--fail", "1"]', codes=(0, 1, 3))
    assert failed != run_id
    careless.run("report", run_id, "--html")
    careless.run("models", "register", run_id, "--name", "kept", "--why", "to look at", codes=(0, 2))
    assert careless.wide() == []
    kinds = {path.suffix or path.name for path in careless.home.rglob("*") if path.is_file()}
    # The cluster still runs, so its database has its journal beside it.
    assert {".db", ".log", ".yaml", ".hcl", ".gz", ".md", ".json"} <= kinds, sorted(kinds)
    assert (careless.home / "memory").is_dir()


def test_what_tasks_wrote_stands_behind_a_folder_that_nobody_else_enters(careless: Careless) -> None:
    allocs, outputs = careless.home / "cluster" / "allocs", list(careless.home.glob("runs/*/outputs"))
    assert any(allocs.iterdir())
    assert outputs
    assert {stat.S_IMODE(path.stat().st_mode) for path in (allocs, *outputs)} == {0o700}


def test_a_state_directory_that_was_there_is_not_made_wider(careless: Careless, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    careless.home, before = home, careless.home
    try:
        careless.run("runs")
        assert [entry for entry in careless.wide() if not entry.startswith(". ")] == []
    finally:
        careless.home = before
