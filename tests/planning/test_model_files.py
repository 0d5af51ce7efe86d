"""Which files of a training's outputs are listed as its model: what `templates/model_files.py` finds."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from caravan.planning.resume import checkpoint_pattern
from caravan.values.plan import Resume, TrainingPlan

TEMPLATES = Path(__file__).parents[2] / "templates"


@pytest.fixture(scope="module")
def helper() -> ModuleType:
    told = importlib.util.spec_from_file_location("model_files_helper", TEMPLATES / "model_files.py")
    assert told is not None
    assert told.loader is not None
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    return module


def listed(helper: ModuleType, root: Path, names: list[str], pattern: str = "", *, links: bool = True) -> list[str]:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        os.utime(root / name, (number, number))
    found = helper.listed(root, checkpoints=pattern, links=links)
    return [file["path"] for file in found["files"]] if found is not None else []


LORA = ["adapter.npz", "checkpoint-000100.npz", "checkpoint-000200.npz", "config.json", "metrics.jsonl"]


@pytest.mark.parametrize(
    ("names", "pattern", "model"),
    [
        (LORA, "", ["adapter.npz", "config.json"]),
        (LORA, "checkpoint-*.npz", ["adapter.npz", "config.json"]),
        (["model.pt", "state_1.pt", "state_2.pt"], "state_*.pt", ["model.pt"]),
        (["model.pt", "state_1.pt", "train.log"], "", ["model.pt", "state_1.pt"]),  # nothing says that it is one
        (["model.pt", "vocab.txt"], "model.pt", ["model.pt", "vocab.txt"]),  # it is written over, to the end
        (["model.pt", "a.bin"], "*", ["a.bin", "model.pt"]),
        (["epoch_9.pt", "epoch_10.pt", "vocab.json"], "", ["epoch_10.pt", "vocab.json"]),  # nothing else is a model
        (["step-5/w.pt", "step-5/config.json", "step-10/w.pt", "config.json"], "", ["config.json", "step-10/w.pt"]),
        (["best/w.pt", "ckpt/7/w.pt", "ckpt/8/w.pt"], "ckpt/*", ["best/w.pt"]),
        (["epoch=1.ckpt", "last.ckpt"], "*.ckpt", ["last.ckpt"]),
        (["checkpoint-1/model.safetensors", "checkpoint-1/config.json", "loss.png"], "", ["config.json"]),
        (["run.log", "metrics.json", "logs/w.pt"], "", []),
    ],
)
def test_without_checkpoints_and_logs(
    helper: ModuleType, tmp_path: Path, names: list[str], pattern: str, model: list[str]
) -> None:
    found = listed(helper, tmp_path, names, pattern)
    assert found == ([*model, "model.safetensors"] if "checkpoint-1/model.safetensors" in names else model)


def test_a_known_format_keeps_all_its_files_but_a_trainer_s(helper: ModuleType, tmp_path: Path) -> None:
    names = ["config.json", "model.safetensors", "merges.jsonl", "optimizer.pt", "checkpoint-3/model.safetensors"]
    assert listed(helper, tmp_path, names, "*.safetensors") == ["config.json", "merges.jsonl", "model.safetensors"]


def test_links_are_left_out_where_they_are_not_followed(helper: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("not ours")
    root = tmp_path / "out"
    root.mkdir()
    (root / "w.pt").symlink_to(tmp_path / "other")
    assert listed(helper, root, ["model.pt"], links=False) == ["model.pt"]
    assert listed(helper, root, []) == ["model.pt", "w.pt"]


def test_the_pattern_of_a_plan() -> None:
    plan = TrainingPlan(goal="", command=("train.py",))
    assert checkpoint_pattern(plan) == ""
    for resume, pattern in (
        (Resume(kind="files", pattern="step_*.pt"), "step_*.pt"),
        (Resume(kind="trainer"), "checkpoint-*"),
        (Resume(kind="lightning"), "*.ckpt"),
        (Resume(kind="files"), ""),
    ):
        assert checkpoint_pattern(plan.model_copy(update={"resume": resume})) == pattern
