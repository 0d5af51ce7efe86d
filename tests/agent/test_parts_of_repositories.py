"""By which of its parts a repository is known again after an edit."""

import json
from pathlib import Path

import pytest

from caravan.agent.parts import known_by, with_parts
from caravan.analysis import analyze, open_source
from caravan.values.base import Json
from caravan.values.failure import PastCase
from caravan.values.lesson_fields import depends_on_nothing_else

TRAIN = '''"""Trains."""
import argparse

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()
model = torch.nn.Linear(1, 1)  # small
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(args.epochs):
    optimizer.step()
'''
ROOM, PACKAGES, OPTION = "resources.memory_mb", "setup.pip", "training.options.--epochs"


def known(root: Path, place: str = "here") -> dict[str, Json]:
    tree = open_source(str(root), cache=root.parent / "cache")
    return known_by(tree, analyze(tree, "Train it"), (place,))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "helper.py").write_text("X = 1\n")
    (tmp_path / "requirements.txt").write_text("torch\n")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "hold"),
    [
        ("helper.py", "X = 2\n", {ROOM, PACKAGES, OPTION}),
        (
            "train.py",
            TRAIN.replace('"""Trains."""', '"""Fits."""').replace("# small", "# tiny"),
            {ROOM, PACKAGES, OPTION},
        ),
        ("train.py", TRAIN.replace("default=3", "default=4"), {ROOM, PACKAGES}),
        ("train.py", TRAIN + "print(model)\n", {ROOM, PACKAGES}),
        ("requirements.txt", "torch\n# a remark\n".replace("# a remark", "\n"), {ROOM, PACKAGES, OPTION}),
        ("requirements.txt", "torch\neinops\n", {ROOM, OPTION}),
    ],
)
def test_what_a_lesson_says_holds_after_edits_of_what_it_does_not_depend_on(
    root: Path, file: str, text: str, hold: set[str]
) -> None:
    (case,) = with_parts([PastCase(id="1", text="t", context=known(root))], known(root))
    assert all(depends_on_nothing_else(case, path) for path in (ROOM, PACKAGES, OPTION))
    before = known(root)
    (root / file).write_text(text)
    (case,) = with_parts([PastCase(id="1", text="t", context=before)], known(root))
    assert {path for path in (ROOM, PACKAGES, OPTION) if depends_on_nothing_else(case, path)} == hold


def test_in_another_repository_the_same_parts_say_nothing(root: Path) -> None:
    (case,) = with_parts([PastCase(id="1", text="t", context=known(root))], known(root, "elsewhere"))
    assert not any(depends_on_nothing_else(case, path) for path in (ROOM, PACKAGES, OPTION))
    same_code = case.model_copy(update={"same": ("code_digest",)})
    assert all(depends_on_nothing_else(same_code, path) for path in (ROOM, PACKAGES, OPTION))


def test_a_notebook_that_was_run_is_the_same_program(tmp_path: Path) -> None:
    def write(outputs: list[str]) -> dict[str, Json]:
        cell = {"cell_type": "code", "source": [TRAIN], "outputs": outputs, "metadata": {}, "execution_count": None}
        text = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        (tmp_path / "train.ipynb").write_text(text)
        return known(tmp_path)

    assert write([]) == write(["loss 1"])
