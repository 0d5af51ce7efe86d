"""The stand-in of a card: its need follows from its arguments, and what it prints is diagnosed as what it plays."""

import json
from types import ModuleType
from typing import Any

import pytest

from bench.scenarios import gpu_cards, gpu_controls, gpu_many, gpu_memory, gpu_numbers
from bench.scenarios.stand_in import card_id, gpu_node, runtime
from caravan.cluster.local.inventory import Inventory, parse_inventory
from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import FailureClass
from caravan.values.plan import TrainingPlan

NODE = gpu_node("desk", "Tesla T4", 15360)
SCENARIOS = [s for m in (gpu_cards, gpu_controls, gpu_many, gpu_memory, gpu_numbers) for s in m.SCENARIOS]
PLAN = TrainingPlan(goal="g", command=("python", "train.py"))


def played(monkeypatch: pytest.MonkeyPatch, seen: str = "all", **facts: Any) -> Any:
    module = ModuleType("runtime")
    exec(runtime([NODE], {"desk": facts}, torch=str(facts.pop("torch", "2.4.1+cu121"))), module.__dict__)
    if seen == "all":
        monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", card_id("desk", "Tesla T4", 0))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return module


def needed(module: Any, **more: Any) -> float:
    """The peak of a step in GiB, on a card without an end."""
    card = module.Card("desk", 0, "any", 10**7)
    peaks: list[float] = []
    take = card.take

    def watched(size: float) -> None:
        take(size)
        peaks.append(card.used)

    card.take = watched
    usual = {"batch": 4, "length": 1024, "precision": "fp16"}
    module.occupy(card, module.shape_of("gpt2-medium"), **{**usual, **more})
    return float(max(peaks) / module.GIB)


@pytest.mark.parametrize(
    "less",
    [
        {"batch": 1},
        {"length": 256},
        {"checkpointing": True},
        {"optimizer": "adamw_bnb_8bit"},
        {"lora_rank": 8, "loaded": "bf16"},
        {"lora_rank": 8, "bits": 4},
        {"shards": 4},
    ],
)
def test_the_need_follows_from_the_arguments(monkeypatch: pytest.MonkeyPatch, less: dict[str, Any]) -> None:
    module = played(monkeypatch)
    assert needed(module, **less) < needed(module) < needed(module, attention="eager")


def said(failure: pytest.ExceptionInfo[BaseException]) -> FailureClass:
    kind = type(failure.value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    text = (
        f'Traceback (most recent call last):\n  File "/w/train.py", line 9, in main\n    x()\n{name}: {failure.value}\n'
    )
    return diagnose(evidence_of_text(text.encode(), TextKind.TASK_STDERR), PLAN, ()).failure


@pytest.mark.parametrize(
    ("facts", "seen", "failure"),
    [
        ({}, "none", FailureClass.CUDA_DEVICE_UNAVAILABLE),
        ({"torch": "2.4.1+cpu"}, "all", FailureClass.TORCH_BUILD_MISMATCH),
        ({"driver": "470.82.01"}, "all", FailureClass.CUDA_DRIVER_TOO_OLD),
        ({"broken": "ecc"}, "all", FailureClass.GPU_NODE_BROKEN),
        ({"broken": "unknown"}, "all", FailureClass.GPU_NODE_BROKEN),
    ],
)
def test_what_it_prints_is_what_it_plays(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], seen: str, failure: FailureClass
) -> None:
    module = played(monkeypatch, seen, **facts)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the kinds of real libraries differ
        module.start()
    assert said(raised) is failure


def test_memory_that_another_process_holds_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    module = played(monkeypatch, held_mib=14_000)
    with pytest.raises(module.OutOfMemoryError) as raised:
        module.occupy(module.start(), module.shape_of("gpt2-medium"), batch=1, length=256)
    assert said(raised) is FailureClass.GPU_MEMORY_CONTENDED
    with pytest.raises(RuntimeError, match="out of memory") as alone:
        module.occupy(played(monkeypatch).start(), module.shape_of("gpt2-xl"), batch=8, length=1024)
    assert said(alone) is FailureClass.CUDA_OOM


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_a_scenarios_files_are_programs_and_its_machines_an_inventory(scenario: Any) -> None:
    assert scenario.stand_in
    assert isinstance(parse_inventory(json.loads(json.dumps(scenario.inventory)), scenario.name), Inventory)
    for path, text in scenario.files.items():
        assert "attempt" not in text.lower()
        assert not [word for word in text.split("@") if word.isupper() and word.isalpha()], path
        if path.endswith(".py"):
            compile(text, path, "exec")
