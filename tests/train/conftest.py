"""Tests that train for real, with the libraries of requirements-train.txt on the CPU: `make test-train` runs them.

`make test` leaves out those that are marked `train`: it needs none of those libraries. They run where a marker
expression asks for them (`-m train`), with the Python that CARAVAN_TRAIN_PYTHON names.
"""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from caravan.training.loading import load_types
from caravan.training.rendering import FOLDER, render

ROOT = Path(__file__).resolve().parents[2]
TYPES = ROOT / "templates" / "train"
PYTHON = os.environ.get("CARAVAN_TRAIN_PYTHON", "")  # read before the tests scrub the environment
QUIET = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that train, unless they are asked for."""
    if "train" in config.getoption("markexpr"):
        return
    kept = [item for item in items if item.get_closest_marker("train") is None]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("train")])
        items[:] = kept


@pytest.fixture(scope="session")
def train_python() -> Path:
    """The interpreter that has what a training needs."""
    if not PYTHON:
        pytest.fail("CARAVAN_TRAIN_PYTHON is not set: `make test-train` makes the environment and names it.")
    return Path(PYTHON)


def environment(**more: str) -> dict[str, str]:
    """What a training's process is given: nothing of the user's but the place of programs and a home."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, **QUIET, **more}


@pytest.fixture(scope="session")
def tiny_model(train_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with random weights, made by examples/tiny-qwen. Not to be written to."""
    folder = tmp_path_factory.mktemp("model") / "tiny-model"
    words = [train_python, ROOT / "examples" / "tiny-qwen" / "make_model.py", "--output", folder]
    subprocess.run([str(w) for w in words], env=environment(), check=True, capture_output=True, timeout=1200)
    return folder


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a training type → the folder of its scripts, as a job has them."""
    known: dict[str, Path] = {}

    def scripts(name: str) -> Path:
        if name not in known:
            folder = tmp_path_factory.mktemp(f"scripts-{name}")
            written(folder, render(load_types(TYPES).get(name)))
            known[name] = folder / FOLDER
        return known[name]

    return scripts


def written(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files into the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
