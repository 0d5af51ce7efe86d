"""Which parts of much data are looked at: all of little; of more the beginning, the end and parts between. Pure.

The plan goes by offsets in bytes alone, so that the same bytes are always looked at in the same places.
"""

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20
BLOCK: Final = 256 * 1024
"""Bytes that are read at once."""


@dataclass(frozen=True)
class Budget:
    """How much is looked at row by row. Up to `whole` bytes: everything."""

    whole: int = 48 * MIB
    head: int = 16 * MIB
    tail: int = 4 * MIB
    parts: int = 48
    rows: int = 300_000
    array: int = 256 * MIB  # of a list of rows in one JSON document, which has to be read from its beginning
    unpacked: int = 4096 * MIB  # of a compressed file


@dataclass(frozen=True)
class Plan:
    """What of `total` bytes is looked at; None: how many there are is not known, as in compressed files."""

    budget: Budget
    total: int | None

    def wants(self, offset: int) -> bool:
        """Whether the block at an offset is looked at."""
        budget, block = self.budget, offset // BLOCK
        if self.total is None:
            every = max(1, budget.whole // BLOCK)
            return offset < budget.head + budget.tail or block % every == 0
        if self.total <= budget.whole or offset < budget.head or offset >= self.total - budget.tail:
            return True
        between = (self.total - budget.head - budget.tail) // BLOCK
        step = max(1, between // budget.parts)
        return (block - budget.head // BLOCK) % step == 0
