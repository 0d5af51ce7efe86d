"""Usual trainings of the shipped types, and what is varied on them for the manual's tables. Plain data."""

from collections.abc import Iterable
from typing import Final

from caravan.planning.knob_effects import Changes, Reference, Variation
from caravan.values.base import Json

_OPTIONS: Final = "training.options."


def _each(knob: str, path: str, *values: Json) -> tuple[Variation, ...]:
    """The knob with each value, at its field of the plan."""
    return tuple(Variation(knob, _said(value), {path: value}) for value in values)


def _said(value: Json) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else str(value)


def _spread(which: str, kind: str, option: str, counts: Iterable[int]) -> tuple[Variation, ...]:
    """The training over several GPUs, each with the micro batch of before."""
    changes: Changes = {f"{_OPTIONS}{option}": kind} if option else {}
    knob = option.removeprefix("--") or "GPUs"
    return tuple(Variation(knob, f"{which}, {n} GPUs", {**changes, "resources.gpus": n}) for n in counts)


_COMMON: Final[Changes] = {"training.precision": "bf16", "training.grad_accum": 1}
_LORA: Final[Changes] = {"training.method": "lora", "training.lora_rank": 16}
_QLORA: Final[Changes] = {"training.method": "qlora", "training.quant_bits": 4}
_TARGETS: Final = f"{_OPTIONS}--lora-targets"
_PACKED: Final[Changes] = {f"{_OPTIONS}--packing": True}
_SFT: Final[Changes] = {
    **_COMMON,
    "training.micro_batch": 4,
    "training.max_len": 2048,
    "training.grad_checkpointing": True,
}
_SMALL: Final[Changes] = {**_COMMON, "training.method": "full", "training.micro_batch": 32}

REFERENCES: Final = (
    Reference(
        "sft",
        "Qwen2.5-7B on one GPU of 80 GB: LoRA of rank 16 on all matrices, bf16, micro batch 4, 2,048 tokens, "
        "checkpointing, padded",
        "Qwen/Qwen2.5-7B",
        {**_SFT, **_LORA},
        (
            Variation("method", "qlora (4 bit)", _QLORA),
            Variation("method", "full", {"training.method": "full"}),
            *_each("micro-batch", "training.micro_batch", 1, 2, 8, 16),
            *_each("max-len", "training.max_len", 512, 1024, 4096, 8192),
            *_each("grad-checkpointing", "training.grad_checkpointing", False),
            *_each("lora-rank", "training.lora_rank", 8, 64, 256),
            Variation("lora-targets", "q_proj,v_proj", {_TARGETS: "q_proj,v_proj"}),
            *_each("precision", "training.precision", "fp32"),
            *_each("attn", "training.attn", "eager"),
            Variation("packing", "true", _PACKED),
            *_spread("each with the whole model", "", "", (2, 8)),
            *_spread("full_shard", "full_shard", "--fsdp", (2, 4, 8)),
        ),
    ),
    Reference(
        "sft",
        "The same with all weights trained (full), kept in 32 bit, over 8 GPUs by FSDP (full_shard)",
        "Qwen/Qwen2.5-7B",
        {**_SFT, "training.method": "full", f"{_OPTIONS}--fsdp": "full_shard", "resources.gpus": 8},
        (
            *_spread("full_shard", "full_shard", "--fsdp", (2, 4)),
            Variation("deepspeed", "zero2, 8 GPUs", {f"{_OPTIONS}--fsdp": "off", f"{_OPTIONS}--deepspeed": "zero2"}),
            Variation("deepspeed", "zero3, 8 GPUs", {f"{_OPTIONS}--fsdp": "off", f"{_OPTIONS}--deepspeed": "zero3"}),
            Variation("optimizer", "adafactor", {"training.optimizer": "adafactor"}),
            Variation("optimizer", "adamw_8bit", {"training.optimizer": "adamw_8bit"}),
            *_each("micro-batch", "training.micro_batch", 1, 8),
            *_each("grad-checkpointing", "training.grad_checkpointing", False),
        ),
    ),
    Reference(
        "text-classification",
        "BERT base on one GPU of 80 GB: all weights, bf16, micro batch 32, 256 tokens, padded",
        "google-bert/bert-base-uncased",
        {**_SMALL, "training.max_len": 256},
        (
            Variation("method", "lora (rank 16)", _LORA),
            *_each("micro-batch", "training.micro_batch", 8, 128),
            *_each("max-len", "training.max_len", 128, 512),
            *_each("grad-checkpointing", "training.grad_checkpointing", True),
            *_each("precision", "training.precision", "fp32"),
            *_each("attn", "training.attn", "eager"),
            *_spread("each with the whole model", "", "", (2, 4)),
        ),
    ),
    Reference(
        "embeddings",
        "E5 base on one GPU of 80 GB: all weights, bf16, micro batch 128 (256 texts: anchors and positives), "
        "128 tokens, padded",
        "intfloat/e5-base-v2",
        {**_SMALL, "training.micro_batch": 128, "training.max_len": 128},
        (
            Variation("method", "lora (rank 16)", _LORA),
            Variation("micro-batch", "32 (64 texts)", {"training.micro_batch": 32}),
            Variation("micro-batch", "512 (1,024 texts)", {"training.micro_batch": 512}),
            *_each("max-len", "training.max_len", 64, 512),
            *_each("grad-checkpointing", "training.grad_checkpointing", True),
            *_each("precision", "training.precision", "fp32"),
            *_spread("each with the whole model", "", "", (2, 4)),
        ),
    ),
    Reference(
        "image-classification",
        "ViT base (patches of 16, images of 224 pixels) on one GPU of 80 GB: all weights, bf16, micro batch 64",
        "google/vit-base-patch16-224",
        {**_SMALL, "training.micro_batch": 64},
        (
            Variation("method", "lora (rank 16)", _LORA),
            *_each("micro-batch", "training.micro_batch", 16, 256),
            *_each("grad-checkpointing", "training.grad_checkpointing", True),
            *_each("precision", "training.precision", "fp32"),
            *_spread("each with the whole model", "", "", (2, 4)),
        ),
        images=True,
    ),
)
