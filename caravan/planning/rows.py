"""Estimates for bare descriptions of a training: one row of fields in, memory per GPU out.

The row's fields are those of the `estimate --jsonl` contract. A field that is missing or null takes the commonest
habit: see `setting_of`. Pure; it knows neither plan nor cluster.
"""

import math
from collections.abc import Mapping
from typing import Final

from caravan.planning.memory import FITTED, Fitted, Setting, memory_parts
from caravan.planning.memory.kernels import kernels_named
from caravan.planning.memory.names import method_kind, optimizer_kind, parallel_kind
from caravan.planning.shapes import guessed_shape, shape_of
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.shape import MOST_PARAMS_B, Family, ModelShape

_FAMILIES: Final = {"cnn-detector": Family.CNN, "cnn": Family.CNN} | {f.value: f for f in Family}
_MOST: Final = 10**12
_BESIDE: Final = (
    *("id", "oom", "measured", "core", "peak_gib", "peak_nvml_gib", "peak_reserved_gib", "unit_note", "gpu", "note"),
    *("throughput", "throughput_unit", "source", "source_group", "series", "quality"),
)
_READ: Final = (
    *("model", "params_b", "hidden", "layers", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "tied"),
    *("mlp_gated", "moe_experts", "moe_topk", "arch_family", "image_size", "method", "lora_rank", "lora_targets"),
    *("trainable_params", "optimizer", "weights_dtype", "compute_dtype", "quant_bits", "quant_type", "master_fp32"),
    *("grad_checkpointing", "flash_attention", "fused_ce", "compiled", "micro_batch", "grad_accum", "seq_len"),
    *("seq_kind", "gpus", "parallel", "offload", "metric", "framework"),
)
ROW_FIELDS: Final = (*_READ, *_BESIDE)
"""All fields of the contract: those that the estimate goes by, and those that say where a row is from."""
_VARYING: Final = ("max_cap", "avg", "dataset_typical")


def estimate_row(fields: Mapping[str, Json], fitted: Fitted = FITTED) -> tuple[float, dict[str, float]]:
    """Peak memory of one GPU in GiB and its parts, which sum to it.

    Needs `params_b`, or a `model` whose shape or size is known; every other field has a default. Raises UsageError
    when the model can't be sized or a field is of the wrong type or no possible number.
    """
    parts = memory_parts(shape_in(fields), setting_of(fields, fitted), fitted)
    breakdown = {p.name: p.gib for p in parts}
    return round(sum(breakdown.values()), 4), breakdown


def shape_in(fields: Mapping[str, Json], known: ModelShape | None = None) -> ModelShape:
    """The shape: what the row says, then `known` or what the name is known for, then a usual one of its size."""
    named = known or shape_of(str(fields.get("model") or ""))
    params = _number(fields, "params_b") or (named.params_b if named else None)
    if params is None:
        raise UsageError(
            f"Row {fields.get('id', '?')}: the size of model {fields.get('model')!r} isn't known.",
            hint="Give params_b, its parameters in billions.",
        )
    if params > MOST_PARAMS_B:
        raise _bad(fields, "params_b", "is larger than any model")
    base = named or guessed_shape(params)
    changed: dict[str, object] = {"params_b": params}
    for field, name in _SHAPE_FIELDS.items():
        number = _count(fields, field)
        if number is not None:
            changed[name] = number
    if fields.get("tied") is not None:
        changed["tied"] = bool(fields["tied"])
    if fields.get("mlp_gated") is not None:
        changed["gated"] = bool(fields["mlp_gated"])
    family = _FAMILIES.get(str(fields.get("arch_family") or ""))
    if family:
        changed["family"] = family
    return base.model_copy(update=changed | _heads(base, changed))


_SHAPE_FIELDS: Final = {name: name for name in ("hidden", "layers", "heads", "kv_heads", "intermediate", "vocab")} | {
    "moe_experts": "experts",
    "moe_topk": "experts_per_token",
    "head_dim": "head_dim",
}


def _heads(base: ModelShape, changed: Mapping[str, object]) -> dict[str, object]:
    """The width of a head where the row gives hidden or heads, and not it."""
    if "head_dim" in changed or not {"hidden", "heads"} & changed.keys():
        return {}
    hidden, heads = changed.get("hidden", base.hidden), changed.get("heads", base.heads)
    return {"head_dim": max(1, int(str(hidden)) // max(1, int(str(heads))))}


def setting_of(fields: Mapping[str, Json], fitted: Fitted = FITTED) -> Setting:
    """The training's setting. Not said: 16-bit weights, AdamW, batch 1, blockwise attention, no checkpointing."""
    default = Setting()
    compute = str(fields.get("compute_dtype") or default.compute_dtype)
    targets = fields.get("lora_targets")
    flash, fused = fields.get("flash_attention"), fields.get("fused_ce")
    kernels = kernels_named(_text(fields, "framework") or "")
    return Setting(
        method=method_kind(_text(fields, "method")),
        weights_dtype=str(fields.get("weights_dtype") or compute),
        compute_dtype=compute,
        quant_bits=_count(fields, "quant_bits"),
        optimizer=optimizer_kind(_text(fields, "optimizer")),
        micro_batch=_count(fields, "micro_batch") or 1,
        seq_len=_length(fields, fitted) or default.seq_len,
        lora_rank=_count(fields, "lora_rank") or default.lora_rank,
        lora_targets=tuple(str(t) for t in targets) if isinstance(targets, list | tuple) else default.lora_targets,
        trainable_params=_number(fields, "trainable_params"),
        grad_checkpointing=bool(fields.get("grad_checkpointing")),
        flash_attention=True if flash is None else bool(flash),
        fused_ce=bool(fused) if fused is not None else kernels.fused_ce,
        in_place_ce=kernels.in_place_ce,
        narrow=kernels.narrow,
        gathered_load=kernels.gathered_load,
        own_adapters=kernels.own_adapters,
        master_fp32=bool(fields.get("master_fp32")),
        gpus=_count(fields, "gpus") or 1,
        parallel=parallel_kind(_text(fields, "parallel")),
        quant_type=_text(fields, "quant_type"),
        grad_accum=_count(fields, "grad_accum"),
        offload=bool(fields.get("offload")),
        compiled=bool(fields.get("compiled")),
        varying=fields.get("seq_kind") in _VARYING,
        metric=_text(fields, "metric"),
        image_size=_count(fields, "image_size"),
    )


def _length(fields: Mapping[str, Json], fitted: Fitted) -> int | None:
    """Tokens of the longest sequence in a batch; a mere cap on it is seldom reached by all of a batch."""
    length = _count(fields, "seq_len")
    if length is not None and fields.get("seq_kind") == "max_cap":
        return max(1, round(length * fitted.cap_share))
    return length


def _count(fields: Mapping[str, Json], name: str) -> int | None:
    number = _number(fields, name)
    if number is not None and number != int(number):
        raise _bad(fields, name, "must be a whole number")
    return None if number is None else int(number)


def _number(fields: Mapping[str, Json], name: str) -> float | None:
    """A number of the row, above zero; None where it is missing, or zero where that means the same."""
    value = fields.get(name)
    if value is None or value is False:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(fields, name, "must be a number")
    if not math.isfinite(value) or value < 0 or value > _MOST:
        raise _bad(fields, name, f"must be between 0 and {_MOST:.0e}")
    return float(value) or None


def _text(fields: Mapping[str, Json], name: str) -> str | None:
    value = fields.get(name)
    return str(value) if value else None


def _bad(fields: Mapping[str, Json], name: str, why: str) -> UsageError:
    return UsageError(f"Row {fields.get('id', '?')}: {name} = {fields.get(name)!r} {why}.", hint="Correct the row.")
