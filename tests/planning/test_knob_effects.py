"""What knobs of training types do by the estimate: every row is of a knob that there is, and goes the right way."""

from pathlib import Path

import pytest

from caravan.planning.knob_effects import Effect, Reference, effects
from caravan.planning.knob_references import REFERENCES
from caravan.planning.memory_plan import setting_of_plan
from caravan.planning.shapes import shape_of
from caravan.training.loading import load_types
from caravan.values.plan import Launch, Resources, Training, TrainingPlan
from caravan.values.repo import Launcher

TYPES = load_types(Path(__file__).resolve().parents[2] / "templates" / "train")


def row(found: tuple[Effect, ...], knob: str, value: str) -> Effect:
    return next(effect for effect in found if (effect.knob, effect.value) == (knob, value))


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: f"{r.type}: {r.title[:20]}")
def test_each_row_is_of_a_knob_that_the_type_has(reference: Reference) -> None:
    flags = {knob.flag for knob in TYPES.get(reference.type).type.knobs}
    for variation in reference.variations:
        assert variation.knob == "GPUs" or f"--{variation.knob}" in flags
    for effect in effects(reference):
        assert 0 < effect.gib <= effect.high
        assert effect.samples_per_s is not None
        assert effect.samples_per_s > 0


def test_the_rows_go_the_way_that_people_know() -> None:
    found = effects(REFERENCES[0])
    first = found[0]
    assert row(found, "micro-batch", "1").gib < first.gib < row(found, "micro-batch", "8").gib
    assert row(found, "grad-checkpointing", "false").gib > first.gib
    assert (row(found, "grad-checkpointing", "false").samples_per_s or 0) > (first.samples_per_s or 0)
    assert not row(found, "method", "full").fits
    assert row(found, "packing", "true").high < first.high
    spread = [row(found, "fsdp", f"full_shard, {n} GPUs").gib for n in (2, 4, 8)]
    assert spread == sorted(spread, reverse=True)


def test_our_scripts_keep_what_they_train_in_32_bit() -> None:
    shape = shape_of("Qwen/Qwen2.5-7B")
    assert shape is not None
    training = {"method": "full", "precision": "bf16"}
    plan = TrainingPlan(goal="", command=("train.py",), resources=Resources(gpus=1), training=Training(**training))
    ours = plan.model_copy(update={"training": Training(type="sft", **training)})
    adapter = plan.model_copy(update={"training": Training(type="sft", method="lora", precision="bf16")})
    kept = [setting_of_plan(p, shape)[0].weights_dtype for p in (plan, ours, adapter)]
    assert kept == ["bf16", "fp32", "bf16"]


@pytest.mark.parametrize(
    ("options", "parallel"),
    [
        ({"--fsdp": "off", "--deepspeed": "off"}, "ddp"),
        ({"--fsdp": "full_shard", "--deepspeed": "off"}, "fsdp"),
        ({"--fsdp": "off", "--deepspeed": "zero3"}, "zero3"),
        ({"--deepspeed": "zero2_offload"}, "zero2"),
    ],
)
def test_what_is_off_spreads_nothing(options: dict[str, str], parallel: str) -> None:
    shape = shape_of("Qwen/Qwen2.5-7B")
    assert shape is not None
    plan = TrainingPlan(
        goal="",
        command=("train.py",),
        launch=Launch(launcher=Launcher.TORCHRUN, nproc=4),
        resources=Resources(gpus=4),
        training=Training(type="sft", options=options),
    )
    setting = setting_of_plan(plan, shape)[0]
    assert setting.parallel == parallel
    assert setting.offload == ("offload" in str(options))
