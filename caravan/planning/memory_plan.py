"""From a plan to what the memory estimate needs of it, with what had to be assumed. Pure; it knows no cluster."""

import re
from typing import Final

from caravan.planning.adapter_targets import ALL_TARGETS, rank_told, targets_told
from caravan.planning.command import DISTRIBUTED
from caravan.planning.memory import Setting
from caravan.planning.memory.families import FOR_IMAGES, image_side
from caravan.planning.memory.kernels import kernels_named
from caravan.planning.memory.names import method_kind, optimizer_kind
from caravan.values.plan import TrainingPlan
from caravan.values.repo import Launcher, RepoProfile
from caravan.values.shape import ModelShape
from caravan.values.training import DataFormat

__all__ = ["ALL_TARGETS", "DEFAULT_RANK", "DEFAULT_SEQ", "optimizer_kind", "setting_of_plan"]

DEFAULT_SEQ: Final = 1024
DEFAULT_RANK: Final = 16
_ALL: Final = "all matrices"
_ADAPTERS: Final = ("lora", "qlora", "dora")
_POOLED: Final = {
    "text-classification": DataFormat.CLASSIFICATION,
    "embeddings": DataFormat.PAIRS,
    "image-classification": DataFormat.IMAGES,
}
"""Data from which a small head is learned, and the shipped type whose data they are where no format is said."""
_PAIR: Final = 2
_STAGE: Final = re.compile(r"zero[-_ ]?(?:stage)?[-_ =]?([123])|\bstage[\"']?\s*[:=]\s*([123])")


def setting_of_plan(
    plan: TrainingPlan, shape: ModelShape, profile: RepoProfile | None = None
) -> tuple[Setting, list[str]]:
    """The plan's training as memory sees it, and a line for everything that nobody said."""
    training = plan.training
    notes = list(_assumed(plan, shape))
    method = method_kind(training.method)
    quant = training.quant_bits or (4 if method == "qlora" else None)
    precision = training.precision or "bf16"
    compute = "fp32" if precision == "tf32" else precision
    # A library that is there is not yet a loss that is computed in chunks: that takes an option.
    words, libraries = _words(plan), " ".join(profile.libraries if profile else ())
    kernels = kernels_named(f"{libraries} {words}")._replace(fused_ce=kernels_named(words).fused_ce)
    adapter = method in _ADAPTERS
    gpus = max(1, plan.resources.gpus * plan.launch.nodes)
    parallel, offload = _spread(plan, profile) if gpus > 1 or _words(plan).count("zero") else ("none", False)
    if parallel == "ddp":
        notes.append("every GPU holds the whole model (no sharding found)")
    if training.max_len is not None and shape.max_positions and training.max_len > shape.max_positions:
        notes.append(f"{training.max_len} tokens a sequence is more than the {shape.max_positions} it was made for")
    side = shape.image_size or None if shape.family in FOR_IMAGES else None
    if shape.family in FOR_IMAGES:
        notes.append(f"image side taken as {image_side(Setting(image_size=side), shape)} pixels")
    targets: tuple[str, ...] = ()
    rank, by = rank_told(profile)
    if adapter:
        if training.lora_rank is None:
            notes.append(f"LoRA rank {rank} ({by})" if rank else f"LoRA rank taken as {DEFAULT_RANK}")
        targets, where = targets_told(plan, profile)
        notes.append(f"adapters are on {', '.join(targets)} ({where})" if where else f"adapters taken to be on {_ALL}")
    texts = texts_of(plan)
    if texts > 1:
        notes.append(f"{texts} texts a sample: anchor, positive{' and negative' if texts > _PAIR else ''}")
    if not shape.gated and shape.exact:
        notes.append("MLP without a gate")
    return (
        Setting(
            method="qlora" if adapter and quant else method,
            weights_dtype=_weights_dtype(plan, compute, parallel, adapter=adapter),
            compute_dtype=compute,
            quant_bits=quant,
            optimizer=optimizer_kind(training.optimizer),
            micro_batch=training.micro_batch or 1,
            seq_len=training.max_len or default_length(shape),
            lora_rank=training.lora_rank or rank or DEFAULT_RANK,
            lora_targets=targets,
            grad_checkpointing=bool(training.grad_checkpointing),
            fused_ce=kernels.fused_ce,
            in_place_ce=kernels.in_place_ce,
            narrow=kernels.narrow,
            gathered_load=kernels.gathered_load,
            own_adapters=kernels.own_adapters,
            flash_attention=training.attn != "eager",
            gpus=gpus,
            parallel=parallel,
            grad_accum=training.grad_accum,
            offload=offload,
            varying=not _packed(plan),
            image_size=side,
            texts=texts,
            pooled=_learns(plan) is not None and shape.family not in FOR_IMAGES,
        ),
        notes,
    )


def texts_of(plan: TrainingPlan) -> int:
    """Texts of a sample: of pairs for embeddings two, three where the plan speaks of negatives."""
    if _learns(plan) is not DataFormat.PAIRS:
        return 1
    named = " ".join((*plan.dataset.columns, str(plan.training.options.get("--columns", "")))).lower()
    return _PAIR + ("negative" in named)


def _learns(plan: TrainingPlan) -> DataFormat | None:
    """What a training type's data are, where a small head over the model's output learns from them."""
    if plan.training.type is None:
        return None
    form = next((f for f in _POOLED.values() if f == plan.dataset.format), None)
    return form or (_POOLED.get(plan.training.type) if plan.dataset.format in (None, "auto") else None)


def default_length(shape: ModelShape) -> int:
    """Tokens of a sequence where nobody says it: no more than the model was made for."""
    return min(DEFAULT_SEQ, shape.max_positions or DEFAULT_SEQ)


def _packed(plan: TrainingPlan) -> bool:
    """Whether sequences are packed to one length; trainers pad to a batch's longest unless told to."""
    return any(
        "packing" in name.lower() and str(value).lower() in ("true", "1")
        for name, value in plan.training.options.items()
    )


def _assumed(plan: TrainingPlan, shape: ModelShape) -> list[str]:
    training = plan.training
    said = (
        (training.max_len, None if shape.family in FOR_IMAGES else f"sequence length taken as {default_length(shape)}"),
        (training.micro_batch, "batch size taken as 1"),
        (training.method, "method taken as full fine-tuning, the costliest"),
        (training.grad_checkpointing, "no gradient checkpointing"),
        (training.attn, "attention computed blockwise (SDPA or flash)"),
        (training.precision, "weights and computation taken as bf16"),
    )
    return [text for value, text in said if value is None and text]


def _weights_dtype(plan: TrainingPlan, compute: str, parallel: str, *, adapter: bool) -> str:
    """Type of the weights at rest. FSDP in mixed precision keeps what is trained in 32 bit, as accelerate does.

    fp16 is trained with 32-bit weights under autocast, since its gradients could not be scaled otherwise.
    """
    if adapter or compute == "fp32":
        return compute
    if plan.training.type is not None:
        return "fp32"  # the scripts of training types keep what they train in 32 bit, under autocast
    return "fp32" if compute == "fp16" or (parallel == "fsdp" and plan.launch.launcher in DISTRIBUTED) else compute


def _words(plan: TrainingPlan) -> str:
    options = (f"{name}={value}" for name, value in plan.training.options.items() if str(value).lower() != "off")
    overlays = (str(overlay) for overlay in plan.config_overlays)
    return " ".join((*plan.launch.args, *plan.command, *options, *overlays)).lower()


def _spread(plan: TrainingPlan, profile: RepoProfile | None) -> tuple[str, bool]:
    """How the training is spread, by the words of command, launcher and configs, and whether states are offloaded."""
    words = _words(plan)
    offload = "offload" in words and "no_offload" not in words
    stage = _STAGE.search(words)
    deepspeed = plan.launch.launcher is Launcher.DEEPSPEED or "deepspeed" in words
    own = (profile.distributed or "") if profile else ""
    if stage and (deepspeed or "zero" in stage[0]):
        return f"zero{stage[1] or stage[2]}", offload
    if "fsdp" in words or (own == "fsdp" and not deepspeed):
        return "fsdp", offload
    if deepspeed or own == "deepspeed":
        return "zero2", offload  # what its examples and trainers' templates use most
    return ("ddp" if plan.launch.launcher in DISTRIBUTED or own == "ddp" else "none"), False
