"""The peak: the moments of a training step at which memory can be highest, and the parts at the highest of them.

Moments: the load, where it gathers all weights, the loss (everything that was kept, and the logits), the backward pass
of the last block (the first one to be walked back) and of the first block (all gradients are there by then), and the
optimizer's step. Gradients are there all along only if they are accumulated over micro batches; else they are freed
before the next forward pass.
"""

from typing import Final

from caravan.planning.memory.activations import activation_bytes
from caravan.planning.memory.constants import FITTED, Fitted
from caravan.planning.memory.families import FOR_IMAGES, average_bytes, image_activation_bytes
from caravan.planning.memory.logits import logits_bytes
from caravan.planning.memory.runtime import Sizes, runtime_gib
from caravan.planning.memory.setting import GIB, Setting, adapters, held, quantised, width
from caravan.planning.memory.sharding import spread
from caravan.planning.memory.trained import Trained, trained_bytes
from caravan.planning.memory.weights import dequantised_bytes, parts_of, weights_bytes
from caravan.values.estimate import MemoryPart
from caravan.values.shape import ModelShape

PASSING: Final = ("gradients", "optimizer temporaries", "activations", "logits", "gathered weights", "cast weights")
"""Parts that come and go within a step."""


def memory_parts(shape: ModelShape, setting: Setting, fitted: Fitted = FITTED) -> tuple[MemoryPart, ...]:
    """The parts of one GPU's memory at the peak of a step, in GiB; their sum is the estimate."""
    setting = held(setting)
    moments = _moments(shape, setting, fitted)
    peak = max(moments.values(), key=lambda parts: sum(parts.values()))
    passing = max(parts.get("activations", 0.0) for parts in moments.values())
    logits = 0.0 if setting.fused_ce else moments["loss"].get("logits", 0.0)
    staying = sum(size for name, size in peak.items() if name not in PASSING)
    parts = {name: size / GIB for name, size in peak.items() if size > 0}
    parts["other tensors"] = fitted.other * sum(parts.values())
    parts |= runtime_gib(setting, Sizes(staying, passing, logits, moments["loss"]["gathered weights"]), fitted)
    return tuple(MemoryPart(name=name, gib=round(size, 4)) for name, size in parts.items())


def _moments(shape: ModelShape, setting: Setting, fitted: Fitted) -> dict[str, dict[str, float]]:
    trained = trained_bytes(shape, setting)
    spreading = spread(shape, setting, trained)
    staying = {
        "weights": spreading.weights,
        "adapter": trained.copies,
        "optimizer states": trained.states,
        "averaged weights": average_bytes(shape, setting),
        "buckets": spreading.buckets,
    }
    if shape.family in FOR_IMAGES:
        kept = first = last = image_activation_bytes(shape, setting)
    else:
        kept, first, last = activation_bytes(shape, setting, fitted)
    accumulating = setting.grad_accum is None or setting.grad_accum > 1
    early = trained.gradients if accumulating else 0.0
    of_block = min(trained.gradients, _head_and_block(shape, setting, trained))
    cast = _cast_bytes(shape, setting)
    gathered = spreading.gathered + dequantised_bytes(shape, setting)
    walked = {"gathered weights": gathered}
    load = weights_bytes(shape, setting) if setting.gathered_load and setting.parallel == "fsdp" else 0.0
    first_cast = 0.0 if setting.grad_checkpointing else cast
    return {
        "load": {"weights": spreading.weights, "gathered weights": load + spreading.gathered},
        "loss": staying
        | walked
        | {
            "gradients": early,
            "activations": kept,
            "logits": logits_bytes(shape, setting, fitted),
            "cast weights": cast,
        },
        "last block": staying
        | walked
        | {
            "gradients": max(early, of_block) + spreading.whole_gradients,
            "activations": first,
            "cast weights": first_cast,
        },
        "first block": staying
        | walked
        | {"gradients": trained.gradients + spreading.whole_gradients, "activations": last},
        "step": staying | {"gradients": trained.gradients, "optimizer temporaries": trained.temporaries},
    }


def _head_and_block(shape: ModelShape, setting: Setting, trained: Trained) -> float:
    """Gradients that are there when the last block is walked back: the output matrix's and the block's."""
    if adapters(setting) or trained.params <= 0:
        return trained.gradients
    where = parts_of(shape)
    share = min(1.0, (where.head + where.block) / (shape.params_b * 1e9))
    return trained.gradients * share


def _cast_bytes(shape: ModelShape, setting: Setting) -> float:
    """Copies of 32-bit weights in the compute type that autocast makes and keeps until the forward pass ends."""
    mixed = width(setting.weights_dtype) > width(setting.compute_dtype)
    if not mixed or setting.parallel not in ("none", "ddp") or quantised(setting):
        return 0.0
    if adapters(setting) or setting.method == "freeze":
        return 0.0  # only what needs a gradient is cached
    return shape.params_b * 1e9 * width(setting.compute_dtype)
