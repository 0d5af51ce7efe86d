"""Estimates for bare descriptions of a training: one row of fields in, memory per GPU out.

The row's fields are those of the `estimate --jsonl` contract. Pure; it knows neither plan nor cluster.
"""

from collections.abc import Mapping

from caravan.planning.memory_model import Setting, memory_parts
from caravan.planning.shapes import Shape, guessed_shape, shape_of
from caravan.values.base import Json
from caravan.values.errors import UsageError


def estimate_row(fields: Mapping[str, Json]) -> tuple[float, dict[str, float]]:
    """Peak memory of one GPU in GiB and its parts, which sum to it.

    Needs `params_b`, or a `model` whose shape or size is known; every other field has a default. Raises UsageError
    when the model can't be sized or a field is of the wrong type.
    """
    try:
        shape = _shape(fields)
        setting = _setting(fields)
        parts = memory_parts(shape, setting)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Row {fields.get('id', '?')}: {error}.", hint="Numbers must be numbers.") from error
    breakdown = {p.name: p.gib for p in parts}
    return round(sum(breakdown.values()), 4), breakdown


def _shape(fields: Mapping[str, Json]) -> Shape:
    named = shape_of(str(fields.get("model") or ""))
    params = fields.get("params_b") or (named.params_b if named else None)
    if not isinstance(params, int | float) or params <= 0:
        raise UsageError(
            f"Row {fields.get('id', '?')}: the size of model {fields.get('model')!r} isn't known.",
            hint="Give params_b, its parameters in billions.",
        )
    base = named or guessed_shape(float(params))
    return Shape(
        params_b=float(params),
        hidden=int(fields.get("hidden") or base.hidden),
        layers=int(fields.get("layers") or base.layers),
        heads=int(fields.get("heads") or base.heads),
        kv_heads=int(fields.get("kv_heads") or base.kv_heads),
        intermediate=int(fields.get("intermediate") or base.intermediate),
        vocab=int(fields.get("vocab") or base.vocab),
        gated=base.gated if fields.get("mlp_gated") is None else bool(fields.get("mlp_gated")),
        exact=base.exact,
    )


def _setting(fields: Mapping[str, Json]) -> Setting:
    default = Setting()
    compute = str(fields.get("compute_dtype") or default.compute_dtype)
    return Setting(
        method=str(fields.get("method") or default.method),
        weights_dtype=str(fields.get("weights_dtype") or compute),
        compute_dtype=compute,
        quant_bits=fields.get("quant_bits"),
        optimizer=str(fields.get("optimizer") or default.optimizer),
        micro_batch=int(fields.get("micro_batch") or 1),
        seq_len=int(fields.get("seq_len") or default.seq_len),
        lora_rank=int(fields.get("lora_rank") or default.lora_rank),
        lora_targets=tuple(fields.get("lora_targets") or default.lora_targets),
        trainable_params=fields.get("trainable_params"),
        grad_checkpointing=bool(fields.get("grad_checkpointing")),
        flash_attention=bool(fields.get("flash_attention")),
        fused_ce=bool(fields.get("fused_ce")),
        master_fp32=bool(fields.get("master_fp32")),
        gpus=int(fields.get("gpus") or 1),
        parallel=str(fields.get("parallel") or "none"),
    )
