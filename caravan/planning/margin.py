"""How much more than its likely figure a training may need on a GPU: what a plan is held against before it is launched.

Used by whatever says that a plan fits. What stays through a step (weights, states) is known well; what comes and goes
(activations, logits, gathered weights) less, most so where batches differ in length, GPUs exchange shards, or a model
is sized by its parameters alone. The shares hold over 361 published figures: `python -m bench.vram` prints how many of
them would have run out of memory on the GPU that they lead to, and how much larger than needed it is. It knows no plan
and no cluster.
"""

from collections.abc import Iterable
from typing import Final

from caravan.planning.catalogue import USABLE_SHARE
from caravan.planning.memory import PASSING, Setting
from caravan.planning.memory.families import FOR_IMAGES
from caravan.values.estimate import MemoryPart
from caravan.values.shape import ModelShape

KNOWN: Final = 0.20
"""Share on top of a total of which no parts are known, where the model's shape is known."""
GUESSED: Final = 0.50
"""The same where only the number of its parameters is."""
_STAYING: Final = 0.04
_PASSING: Final = 0.10
_VARYING: Final = 1.0
"""On top for what passes, where batches differ in length: the longest one, and blocks that are freed and don't fit."""
_SPREAD: Final = 0.05
"""Of everything, where GPUs exchange shards or gradients."""
_IMAGES: Final = 0.50
"""Of everything, for models of images, whose activations are estimated coarsely."""
_SHAPELESS: Final = 0.25
"""Of everything, where only the number of parameters is known."""


def high_of(parts: Iterable[MemoryPart], shape: ModelShape, setting: Setting) -> float:
    """The high end in GiB of a peak of these parts: what a GPU must hold."""
    staying = passing = 0.0
    for part in parts:
        if part.name in PASSING or part.name == "allocator slack":
            passing += part.gib
        else:
            staying += part.gib
    more = (_SPREAD if setting.gpus > 1 and setting.parallel != "none" else 0.0) + (
        _IMAGES if shape.family in FOR_IMAGES else 0.0 if shape.exact else _SHAPELESS
    )
    widened = _PASSING + (_VARYING if setting.varying else 0.0)
    return (staying * (1 + _STAYING) + passing * (1 + widened)) * (1 + more)


def high_gib(gib: float, *, exact: bool = True) -> float:
    """The same for a total in GiB of which no parts are known; `exact`: the model's shape is."""
    return gib * (1 + (KNOWN if exact else GUESSED))


def holds(memory_gib: float, high: float) -> bool:
    """Whether a GPU of that memory in GiB holds a peak whose high end is `high`."""
    return high <= memory_gib * USABLE_SHARE
