"""What is trained, and what that costs: adapters, gradients, optimizer states, master weights, the step's temporaries.

Sources: Hu et al. 2021 (arXiv 2106.09685) for r·(d_in + d_out) parameters of an adapted matrix; Liu et al. 2024
(arXiv 2402.09353) for DoRA's magnitude a column; torch.optim: states are made like their parameter, and the grouped
(foreach) AdamW builds one more list of the parameters' size for the denominators, the fused one none; bitsandbytes:
two 8-bit states with a 32-bit constant for each 256, 32-bit ones for embeddings; Shazeer and Stern 2018
(arXiv 1804.04235) for Adafactor's row and column sums; Zhao et al. 2024 (arXiv 2403.03507) for GaLore's projected
states; Chen et al. 2023 (arXiv 2302.06675) for Lion's single momentum; DeepSpeed and Megatron for 32-bit masters.
"""

from typing import Final, NamedTuple

from caravan.planning.memory.setting import (
    SHARDED_GRADIENTS,
    SHARDED_STATES,
    SHARDED_WEIGHTS,
    ZERO,
    Setting,
    adapters,
    width,
)
from caravan.planning.memory.weights import Parts, parts_of
from caravan.values.shape import ModelShape

_STATES: Final = {"adamw": 2.0, "adam": 2.0, "lamb": 2.0, "lion": 1.0, "sgd": 0.0, "sgd_momentum": 1.0, "muon": 1.0}
"""States of the parameter's own type for each parameter."""
_BYTES: Final = {"adafactor": 0.02, "apollo": 0.2, "lomo": 0.0}
"""Bytes for each parameter of optimizers that keep sums of rows and columns, or little at all."""
_EIGHT_BIT: Final = 2 * (1 + 4 / 256)
_GALORE_RANK: Final = 128
_FOREACH: Final = ("adamw", "adam", "lamb", "lion", "muon")
_WIDE_ADAPTERS: Final = 4.0
"""peft keeps adapters in 32 bit whatever the base model is in (`autocast_adapter_dtype`, since 0.12)."""
_NORMS: Final = 2
"""Norm vectors a block, which are what is trained where everything else is frozen."""


class Trained(NamedTuple):
    """Bytes on one GPU: copies beside the base model's weights, gradients, optimizer states, the step's temporaries."""

    copies: float
    gradients: float
    states: float
    temporaries: float
    params: float
    """Trained parameters in all, unsharded."""


def trained_params(shape: ModelShape, setting: Setting) -> float:
    """How many parameters are trained: all, or those of the adapters and of modules that are trained beside them."""
    if setting.trainable_params is not None:
        return setting.trainable_params
    if setting.method == "freeze":
        return float(_NORMS * shape.layers + 1) * shape.hidden
    if not adapters(setting):
        return shape.params_b * 1e9
    where = parts_of(shape)
    return _adapter_params(shape, setting, where) + _saved_modules(setting, where)


def _adapter_params(shape: ModelShape, setting: Setting, where: Parts) -> float:
    wanted = where.matrices if "all" in setting.lora_targets else setting.lora_targets
    in_block = 0.0
    for name in dict.fromkeys(wanted):
        if name in where.matrices:
            into, out = where.matrices[name]
            copies = max(1, shape.experts) if name in ("gate", "up", "down") else 1
            in_block += copies * (setting.lora_rank * (into + out) + (out if setting.method == "dora" else 0.0))
    on_head = setting.own_adapters and "head" in setting.lora_targets
    return shape.layers * in_block + (setting.lora_rank * (shape.hidden + shape.vocab) if on_head else 0.0)


def _saved_modules(setting: Setting, where: Parts) -> float:
    """Embedding and output matrix where they are trained whole beside the adapters (`modules_to_save`)."""
    if setting.own_adapters:  # such layers adapt the output matrix too
        return 0.0
    table = where.embedding if "embed" in setting.lora_targets else 0.0
    return table + ((where.head or where.embedding) if "head" in setting.lora_targets else 0.0)


def trained_bytes(shape: ModelShape, setting: Setting) -> Trained:
    """What training takes on one GPU on top of the base model's weights."""
    count, where = trained_params(shape, setting), parts_of(shape)
    if adapters(setting):
        whole = min(_saved_modules(setting, where), count)
        own = width(setting.weights_dtype) if setting.own_adapters else _WIDE_ADAPTERS
        groups = [(count - whole, own, 1.0), (whole, width(setting.weights_dtype), 1.0)]
    else:
        groups = [(count, width(setting.weights_dtype), 0.0)]
    of_gradients = float(setting.gpus if setting.parallel in SHARDED_GRADIENTS else 1)
    of_states = float(setting.gpus if setting.parallel in SHARDED_STATES else 1)
    copies = sum(n * each * copied for n, each, copied in groups)
    gradients = sum(n * _gradient_width(setting, each) for n, each, _ in groups) / of_gradients
    states = sum(n * _state_width(shape, setting, each, where) for n, each, _ in groups)
    step = sum(n * _step_width(setting, each) for n, each, _ in groups)
    if setting.parallel in SHARDED_WEIGHTS:
        copies /= setting.gpus
    if setting.optimizer == "lomo":  # each gradient is used and freed within the backward pass
        gradients = 0.0
    if setting.offload:  # gradients go to the host as they come, and the step is done there
        gradients = states = step = 0.0
    return Trained(copies, gradients, states / of_states, step / of_states, count)


def _gradient_width(setting: Setting, each: float) -> float:
    return min(each, 2.0) if _mastered(setting) else each


def _mastered(setting: Setting) -> bool:
    """Whether 32-bit master weights stand beside 16-bit ones; DeepSpeed's sharding always has them in 16 bit."""
    return width(setting.weights_dtype) < 4 and (setting.master_fp32 or setting.parallel in ZERO)


def _state_width(shape: ModelShape, setting: Setting, each: float, where: Parts) -> float:
    mastered = _mastered(setting)
    own = 4.0 if mastered else each
    return _optimizer_width(shape, setting.optimizer, own, where) + (4.0 if mastered else 0.0)


def _optimizer_width(shape: ModelShape, name: str, own: float, where: Parts) -> float:
    """Bytes of optimizer state for each parameter of `own` bytes."""
    total = shape.params_b * 1e9
    if name.startswith("paged"):
        return 0.0  # unified memory: moves to the host when the GPU is full, and torch does not count it
    if name.startswith("galore"):
        low = min(1.0, _GALORE_RANK / shape.hidden)
        return (3 * low * where.body + 2 * (total - where.body)) / total * own
    if "8bit" in name or "4bit" in name:
        states = _EIGHT_BIT if "8bit" in name else _EIGHT_BIT / 2
        body = states if "adam" in name else states / 2
        return (body * (total - where.embedding) + 8.0 * where.embedding) / total
    if name == "muon":
        return (where.body + 2 * (total - where.body)) / total * own
    return _BYTES[name] if name in _BYTES else _STATES.get(name, 2.0) * own


def _step_width(setting: Setting, each: float) -> float:
    """Temporaries of the step for each parameter: DeepSpeed's 32-bit gradients, or the grouped denominators."""
    if setting.parallel in ZERO:
        return 4.0
    if setting.optimizer not in _FOREACH or setting.compiled:  # who compiles takes the fused step too
        return 0.0
    return 4.0 if _mastered(setting) else each
