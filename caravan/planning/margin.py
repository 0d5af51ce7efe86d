"""How much more than its likely figure a training may need on a GPU: what a plan is held against before it is launched.

One function, used by whatever says that a plan fits. The shares hold over published figures (`bench/vram.py` prints
how many of them would have run out of memory on the GPU that they lead to). It knows no plan and no cluster.
"""

from typing import Final

from caravan.planning.catalogue import USABLE_SHARE

KNOWN: Final = 0.20
"""Share on top where the model's shape is known."""
GUESSED: Final = 0.50
"""The same where only the number of its parameters is."""


def high_gib(gib: float, *, exact: bool = True) -> float:
    """The high end of a peak in GiB that a formula gives; `exact`: the model's shape is known."""
    return gib * (1 + (KNOWN if exact else GUESSED))


def holds(memory_gib: float, high: float) -> bool:
    """Whether a GPU of that memory in GiB holds a peak whose high end is `high`."""
    return high <= memory_gib * USABLE_SHARE
