"""A plan's training as the memory estimate sees it."""

from typing import Any

import pytest

from caravan.planning.memory.names import method_kind, optimizer_kind, parallel_kind
from caravan.planning.memory_plan import setting_of_plan
from caravan.values.plan import TrainingPlan
from caravan.values.repo import Launcher
from caravan.values.shape import ModelShape

TOY = ModelShape(
    params_b=1.0, hidden=1000, layers=10, heads=10, kv_heads=10, intermediate=4000, vocab=10_000, max_positions=4096
)


def plan_of(
    training: dict[str, Any], gpus: int = 1, launch: dict[str, Any] | None = None, **fields: Any
) -> TrainingPlan:
    plan = TrainingPlan(goal="train", command=("python", "train.py"))
    return plan.model_copy(
        update={
            "training": plan.training.model_copy(update=training),
            "resources": plan.resources.model_copy(update={"gpus": gpus}),
            "launch": plan.launch.model_copy(update=launch or {}),
            **fields,
        }
    )


def parallel(launcher: Launcher, *args: str, gpus: int = 4, command: tuple[str, ...] = ()) -> tuple[str, bool]:
    plan = plan_of({}, gpus, {"launcher": launcher, "args": args}, command=command)
    setting, _ = setting_of_plan(plan, TOY)
    return setting.parallel, setting.offload


def test_what_nobody_said_is_named() -> None:
    setting, notes = setting_of_plan(plan_of({}), TOY)
    assert (setting.method, setting.micro_batch, setting.seq_len, setting.varying) == ("full", 1, 1024, True)
    assert len(notes) == 6
    said = {"method": "lora", "micro_batch": 2, "max_len": 512, "grad_checkpointing": True, "attn": "sdpa"}
    _, notes = setting_of_plan(plan_of(said | {"precision": "bf16"}), TOY)
    assert notes == ["LoRA rank taken as 16", "adapters taken to be on all matrices"]


def test_a_sequence_longer_than_the_models_is_told() -> None:
    _, notes = setting_of_plan(plan_of({"max_len": 8192}), TOY)
    assert any("8192 tokens a sequence is more than the 4096" in note for note in notes)


def test_adapters_on_quantised_weights_are_qlora() -> None:
    setting, _ = setting_of_plan(plan_of({"method": "lora", "quant_bits": 4}), TOY)
    assert (setting.method, setting.quant_bits) == ("qlora", 4)
    setting, _ = setting_of_plan(plan_of({"method": "qlora"}), TOY)
    assert setting.quant_bits == 4


@pytest.mark.parametrize(
    ("training", "weights", "compute"),
    [
        ({"precision": "fp16"}, "fp32", "fp16"),  # autocast with scaled gradients needs 32-bit weights
        ({"precision": "fp16", "method": "lora"}, "fp16", "fp16"),
        ({"precision": "bf16"}, "bf16", "bf16"),
        ({"precision": "tf32"}, "fp32", "fp32"),
    ],
)
def test_types_of_numbers(training: dict[str, Any], weights: str, compute: str) -> None:
    setting, _ = setting_of_plan(plan_of(training), TOY)
    assert (setting.weights_dtype, setting.compute_dtype) == (weights, compute)


def test_how_a_training_is_spread() -> None:
    assert parallel(Launcher.TORCHRUN) == ("ddp", False)
    assert parallel(Launcher.PYTHON) == ("none", False)
    assert parallel(Launcher.ACCELERATE, "--use_fsdp") == ("fsdp", False)
    assert parallel(Launcher.TORCHRUN, command=("train.py", "--deepspeed", "ds_zero3.json")) == ("zero3", False)
    assert parallel(Launcher.DEEPSPEED) == ("zero2", False)
    assert parallel(Launcher.DEEPSPEED, "ds_zero2_offload.json") == ("zero2", True)
    assert parallel(Launcher.ACCELERATE, "--use_fsdp", gpus=1) == ("none", False)


def test_what_fsdp_trains_under_a_launcher_is_in_32_bit() -> None:
    plan = plan_of({"precision": "bf16"}, 4, {"launcher": Launcher.ACCELERATE, "args": ("--use_fsdp",)})
    setting, _ = setting_of_plan(plan, TOY)
    assert (setting.weights_dtype, setting.compute_dtype, setting.gpus) == ("fp32", "bf16", 4)


def test_packed_sequences_do_not_differ_in_length() -> None:
    setting, _ = setting_of_plan(plan_of({"options": {"--packing": True}}), TOY)
    assert not setting.varying


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (None, "adamw"),
        ("adamw_torch", "adamw"),
        ("adamw_torch_fused", "adamw_fused"),
        ("paged_adamw_8bit", "paged_adamw8bit"),
        ("adamw_bnb_8bit", "adamw8bit"),
        ("AdamW8bit", "adamw8bit"),
        ("paged_lion_8bit", "paged_lion8bit"),
        ("galore_adamw", "galore"),
        ("SGD", "sgd"),
        ("adafactor", "adafactor"),
    ],
)
def test_kinds_of_optimizers(name: str | None, kind: str) -> None:
    assert optimizer_kind(name) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (None, "full"),
        ("QLoRA", "qlora"),
        ("adalora", "lora"),
        ("prompt_tuning", "freeze"),
        ("galore", "full"),
        ("pre-training", "full"),
    ],
)
def test_kinds_of_methods(name: str | None, kind: str) -> None:
    assert method_kind(name) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (None, "none"),
        ("DeepSpeed ZeRO-3", "zero3"),
        ("zero_1", "zero1"),
        ("FSDP2", "fsdp"),
        ("ddp", "ddp"),
        ("tp", "split"),
        ("tensor_parallel", "split"),
        ("https", "none"),
    ],
)
def test_kinds_of_spreading(name: str | None, kind: str) -> None:
    assert parallel_kind(name) == kind


def test_an_option_for_fused_losses_counts() -> None:
    setting, _ = setting_of_plan(plan_of({"options": {"--use_liger_kernel": "true"}}), TOY)
    assert setting.fused_ce
    setting, _ = setting_of_plan(plan_of({"options": {"--use_liger_kernel": "false"}}), TOY)
    assert not setting.fused_ce
