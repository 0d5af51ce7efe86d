"""Which matrices have adapters, as a plan or code says it literally."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.planning.adapter_targets import ALL_TARGETS, rank_told, targets_told
from caravan.values.base import Json
from caravan.values.plan import TrainingPlan
from tests.analysis.repositories import profile_of

CODE = """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-7B")
config = LoraConfig(
    r=4,
    target_modules=["q_proj", "v_proj"],
)
Trainer(model=get_peft_model(model, config)).train()
"""


def plan_of(value: Json) -> TrainingPlan:
    plan = TrainingPlan(goal="x", command=("train.py",))
    return plan.model_copy(update={"training": plan.training.model_copy(update={"options": {"lora_target": value}})})


@pytest.mark.parametrize(
    ("value", "matrices"),
    [
        (["q_proj", "v_proj"], ("q", "v")),
        ("q_proj,k_proj", ("q", "k")),
        ("all-linear", ALL_TARGETS),
        (["query_key_value"], ("q", "k", "v")),
        (["self_attn.q_proj"], ("q",)),
        (["q_proj", "something"], ALL_TARGETS),  # it may be any
        (None, ALL_TARGETS),
    ],
)
def test_literal_names_count(value: Json, matrices: tuple[str, ...]) -> None:
    assert targets_told(plan_of(value))[0] == matrices


@given(st.none() | st.text(max_size=30) | st.lists(st.text(max_size=8), max_size=4) | st.integers())
def test_anything_else_is_all_of_them(value: Json) -> None:
    found, where = targets_told(plan_of(value))
    assert found
    assert set(found) <= set(ALL_TARGETS)
    assert bool(where) or found == ALL_TARGETS


@pytest.mark.parametrize("sentence", ["LoRA on Qwen/Qwen2.5-7B", "fine-tune it"])
def test_the_repositorys_own_call_counts(tmp_path: Path, sentence: str) -> None:
    found = profile_of(tmp_path, {"train.py": CODE, "requirements.txt": "torch\ntransformers\npeft\n"}, sentence)
    plan = TrainingPlan(goal="x", command=("train.py",))
    assert targets_told(plan, found) == (("q", "v"), "train.py:6")
    assert rank_told(found) == (4, "train.py:6")
