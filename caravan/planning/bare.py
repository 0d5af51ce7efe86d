"""A training described by bare fields, as a person types them: checked, completed, with what was assumed. Pure.

The fields are those of the `estimate --jsonl` contract. Where a line of a file is taken as it is (`rows`), a person
is told of every value that can't be meant.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from caravan.planning.memory import Setting
from caravan.planning.memory.families import FOR_IMAGES, image_side
from caravan.planning.memory_plan import ALL_TARGETS, DEFAULT_RANK, DEFAULT_SEQ, default_length, optimizer_kind
from caravan.planning.model_shape import too_long
from caravan.planning.rows import setting_of, shape_in
from caravan.planning.shapes import guessed_shape, shape_of
from caravan.values.base import Json
from caravan.values.errors import UsageError
from caravan.values.shape import MOST_PARAMS_B, Family, ModelShape

METHODS: Final = ("full", "lora", "qlora", "dora", "freeze")
PARALLEL: Final = ("none", "ddp", "zero1", "zero2", "zero3", "fsdp")
DTYPES: Final = ("bf16", "fp16", "fp32", "fp8")
_TARGETS: Final = ("q", "k", "v", "o", "gate", "up", "down", "embed", "head", "all")
_SPELLED: Final = {"all-linear": "all", "all_linear": "all"} | {
    f"{name}_proj": name for name in ("q", "k", "v", "o", "gate", "up", "down")
}
_NUMBERS: Final = {
    "params_b": (1e-6, MOST_PARAMS_B),
    "hidden": (1, 1e6),
    "layers": (1, 1e4),
    "heads": (1, 1e5),
    "kv_heads": (1, 1e5),
    "head_dim": (1, 1e5),
    "intermediate": (1, 1e7),
    "vocab": (1, 1e8),
    "moe_experts": (0, 1e4),
    "moe_topk": (0, 1e4),
    "lora_rank": (1, 65536),
    "trainable_params": (1, MOST_PARAMS_B * 1e9),
    "micro_batch": (1, 1e6),
    "grad_accum": (1, 1e7),
    "seq_len": (1, 1e8),
    "gpus": (1, 1e5),
    "image_size": (1, 1e5),
}
"""Field → the least and the most that can be meant."""
_WHOLE: Final = frozenset(_NUMBERS) - {"params_b", "trainable_params"}
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "method": METHODS,
    "parallel": PARALLEL,
    "weights_dtype": DTYPES,
    "compute_dtype": DTYPES,
    "metric": ("allocated", "active", "reserved", "nvml"),
    "arch_family": tuple(f.value for f in Family),
    "seq_kind": ("exact", "max_cap", "dataset_max", "dataset_typical", "avg"),
    "quant_type": ("nf4", "bnb-nf4", "nf4-dq", "fp4", "gptq", "awq", "int8"),
}
_SWITCHES: Final = (
    "grad_checkpointing",
    "flash_attention",
    "fused_ce",
    "master_fp32",
    "offload",
    "compiled",
    "tied",
    "mlp_gated",
)
FIELDS: Final = (*_NUMBERS, *_WORDS, *_SWITCHES, "model", "optimizer", "quant_bits", "lora_targets")
"""All fields that a training can be described by."""
_OPTIMIZERS: Final = ("adam", "sgd", "lion", "adafactor", "galore", "apollo", "muon", "lomo", "lamb")
_ASSUMED: Final = (
    ("method", "method taken as full fine-tuning, the costliest"),
    ("micro_batch", "micro batch taken as 1"),
    ("optimizer", "optimizer taken as AdamW"),
    ("grad_checkpointing", "no gradient checkpointing"),
    ("flash_attention", "attention computed blockwise (SDPA or flash)"),
    ("compute_dtype", "weights and computation taken as bf16"),
)


_ADAPTERS: Final = ("lora", "qlora", "dora")
_ALIKE: Final = 0.1
"""By how much of its size a model's parameters, as a person gives them, may differ: names and cards round them."""


class Described(NamedTuple):
    """A training that bare fields describe: what memory needs of it, and notes for a person."""

    shape: ModelShape
    setting: Setting
    notes: tuple[str, ...]


def typed(name: str, text: str) -> Json:
    """A field's value as typed after `name=`. Raises UsageError for an unknown field or what is no value of it."""
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        meant = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(FIELDS))}."
        raise UsageError(f"--set {name}: a training has no such field here.", hint=meant)
    if name == "lora_targets":
        return [word.strip() for word in text.split(",") if word.strip()]
    if name in _SWITCHES:
        return _switch(name, text)
    if name in _NUMBERS or name == "quant_bits":
        try:
            return float(text.replace("_", ""))
        except ValueError as error:
            raise UsageError(f"{name} = {text!r} is no number.", hint="Give one, as 4096 or 7.6.") from error
    return text


def _switch(name: str, text: str) -> bool:
    found = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    value = found.get(text.strip().lower())
    if value is None:
        raise UsageError(f"{name} = {text!r} is neither true nor false.", hint="Give one of them.")
    return value


def described(fields: Mapping[str, Json], known: ModelShape | None = None) -> Described:
    """The training that the fields describe; `known` is the model's shape, where more than its name is known of it.

    Raises UsageError for a value that can't be meant, and where the model's size is not known.
    """
    given = {name: _checked(name, value) for name, value in fields.items() if value is not None}
    notes = [*_method_meant(given)]
    if given.get("method") == "qlora":
        given.setdefault("quant_bits", 4)
    elif given.get("quant_bits") in (4, 8) and given.get("method") == "lora":
        given["method"] = "qlora"
    if given.get("quant_bits") and given.get("method") in (None, "full", "freeze"):
        raise UsageError(
            "Weights in 4 or 8 bits can't be trained themselves.", hint="Give --method qlora, or leave quant_bits out."
        )
    notes += _spread_meant(given)
    shape = _shape(given, known)
    setting = setting_of(given | _defaults(given, shape))
    notes = [shape.source and f"shape of the model: {shape.source}", *notes, *_assumed(given, setting, shape)]
    return Described(shape, setting, tuple(n for n in (*notes, *too_long(setting.seq_len, shape)) if n))


def _method_meant(given: dict[str, Json]) -> list[str]:
    """Adapters are meant where their rank or place is given, and no method; that is said.

    Raises UsageError where the method has none.
    """
    told = [name for name in ("lora_rank", "lora_targets") if name in given]
    if not told or given.get("method") in _ADAPTERS:
        return []
    spelled = " and ".join(f"--{name.replace('_', '-')}" for name in told)
    if given.get("method") is not None:
        raise UsageError(
            f"{spelled}: training with --method {given['method']} has no adapters.",
            hint="Give --method lora, qlora or dora, or leave it out.",
        )
    given["method"] = "lora"
    return [f"method taken as lora, by {spelled}"]


def _spread_meant(given: dict[str, Json]) -> list[str]:
    """Several GPUs without a word hold the model each. Raises UsageError for sharding over nobody says how many."""
    gpus, parallel = given.get("gpus"), given.get("parallel")
    if isinstance(gpus, int) and gpus > 1:
        given.setdefault("parallel", "ddp")
    elif parallel not in (None, "none") and not given.get("offload"):
        if gpus is None:
            raise UsageError(f"--parallel {parallel}: over how many GPUs isn't said.", hint="Give --gpus N.")
        return [f"one GPU alone: {parallel} spreads nothing"]
    return []


def _defaults(given: Mapping[str, Json], shape: ModelShape) -> dict[str, Json]:
    """What a person leaves open, where a model's own size or this command's habit says it."""
    found: dict[str, Json] = {"lora_rank": DEFAULT_RANK, "lora_targets": [*ALL_TARGETS]}
    found["seq_len"] = default_length(shape)
    if shape.family in FOR_IMAGES and shape.image_size:
        found["image_size"] = shape.image_size
    return {name: value for name, value in found.items() if name not in given}


def _shape(given: Mapping[str, Json], known: ModelShape | None) -> ModelShape:
    named = known or shape_of(str(given.get("model") or ""))
    if named is None and "params_b" not in given:
        what = f"The model {given['model']} isn't known" if given.get("model") else "No model is given"
        raise UsageError(
            f"{what}, and nothing says its size.",
            hint="Give --model with a hub id that is known or tells its size (my-model-7b), or --params with billions "
            "of parameters; better also --set hidden=…, layers, heads, kv_heads, intermediate, vocab.",
        )
    told = {"hidden", "layers", "heads", "vocab"} & given.keys()
    params = given.get("params_b")
    if named is not None and isinstance(params, float) and abs(params / named.params_b - 1) > _ALIKE:
        if named.exact and not told:
            raise UsageError(
                f"{given['model']} has {named.params_b:.3g} B parameters ({named.source}), not {params:.3g} B.",
                hint="Leave --params out, or name the model of that size, or give --params without --model.",
            )
        if not named.exact:
            known = guessed_shape(params)
    shape = shape_in(given, known)
    if named is None and {"hidden", "layers"} <= told:
        shape = shape.model_copy(update={"exact": True, "source": "as you give it"})
    if shape.heads and shape.kv_heads > shape.heads and "kv_heads" not in given:
        shape = shape.model_copy(update={"kv_heads": shape.heads})
    return shape


def _assumed(given: Mapping[str, Json], setting: Setting, shape: ModelShape) -> list[str]:
    notes = [text for name, text in _ASSUMED if given.get(name) is None]
    if shape.family in FOR_IMAGES:
        if given.get("image_size") is None:
            notes.insert(0, f"image side taken as {image_side(setting, shape)} pixels")
    elif given.get("seq_len") is None:
        longest = ", the model's longest" if setting.seq_len < DEFAULT_SEQ else ""
        notes.insert(0, f"sequence length taken as {setting.seq_len} tokens{longest}")
    if not shape.exact:
        notes.insert(0, f"the model is sized by {shape.params_b:.3g} B parameters alone: the error may be 50 %")
    if setting.method in _ADAPTERS and setting.trainable_params is None:
        if given.get("lora_rank") is None:
            notes.append(f"LoRA rank taken as {setting.lora_rank}")
        if given.get("lora_targets") is None:
            notes.append("adapters taken to be on all matrices")
    if setting.parallel == "ddp":
        notes.append("every GPU holds the whole model (no sharding)")
    return notes


def _checked(name: str, value: Json) -> Json:
    """The value as the estimate takes it. Raises UsageError for one that can't be meant."""
    if name in _NUMBERS:
        return _number(name, value)
    if name == "quant_bits":
        if value not in (4, 8, 16):
            raise UsageError(f"quant_bits = {value} is not supported.", hint="Weights are quantised to 4 or 8 bits.")
        return None if value == 16 else int(str(value).partition(".")[0])
    if name in _WORDS:
        return _word(name, str(value))
    if name == "optimizer":
        plain = str(value).lower()
        if not any(word in plain for word in _OPTIMIZERS):
            raise UsageError(
                f"The optimizer {plain[:40]} isn't known.", hint=f"Give one of {', '.join(_OPTIMIZERS)}, adamw8bit, …"
            )
        return optimizer_kind(plain)
    if name == "lora_targets":
        return _targets(value)
    return value


def _number(name: str, value: Json) -> Json:
    least, most = _NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} = {value!r} is no number.", hint="Give one.")
    if not math.isfinite(value) or not least <= value <= most:
        raise UsageError(f"{name} = {value:g} can't be meant.", hint=f"Give a number from {least:g} to {most:g}.")
    if name in _WHOLE:
        if value != int(value):
            raise UsageError(f"{name} = {value:g} is no whole number.", hint="Give a whole one.")
        return int(value)
    return float(value)


def _word(name: str, value: str) -> str:
    plain = value.strip().lower()
    plain = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "tf32": "fp32"}.get(plain, plain)
    plain = plain.replace("zero-", "zero") if name == "parallel" else plain
    if plain not in _WORDS[name]:
        raise UsageError(f"{name} = {value[:40]} isn't known.", hint=f"Give one of {', '.join(_WORDS[name])}.")
    return plain


def _targets(value: Json) -> Json:
    names = [str(v).strip().lower() for v in (value if isinstance(value, list) else [value])]
    found = [_SPELLED.get(n, n) for n in names if n]
    unknown = next((n for n in found if n not in _TARGETS), None)
    if unknown is not None or not found:
        raise UsageError(f"lora_targets: {unknown or 'nothing'} isn't known.", hint=f"Give {', '.join(_TARGETS)}.")
    return list[Json](found)
