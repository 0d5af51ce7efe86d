"""The money of a run while its job is watched: when the job must be told to end, so that what was approved suffices.

It counts what the job has cost so far and what it will cost until it has written its last checkpoint. Pure.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from caravan.agent.costs import held_s
from caravan.agent.elapsed import Age
from caravan.values.run import Snapshot
from caravan.values.spending import Room

_MOST: Final = 0.1  # of the approved money is kept for the end at most: a small budget must buy some training


class Money(Protocol):
    """Says when a job must end for its money."""

    def over(self, snapshot: Snapshot, age: Age) -> str:
        """Why the job is to be ended now, in words; empty while there is money left."""


@dataclass(frozen=True)
class Purse:
    """What was approved for the run and what its earlier attempts have spent, in US dollars.

    `usd_per_hour` is the price of all `nodes` of the job together; `assumed`: nobody said it. `end_s`: seconds that its
    task has to end in.
    """

    approved_usd: float
    spent_usd: float
    usd_per_hour: float
    nodes: int
    end_s: float
    assumed: bool = False

    def cost(self, snapshot: Snapshot, age: Age) -> float:
        """What the run has cost by now, all its attempts."""
        held = held_s(snapshot, since=age.since, now=age.now)
        return self.spent_usd + self.usd_per_hour * held / 3600 / self.nodes

    def over(self, snapshot: Snapshot, age: Age) -> str:
        """Why the job is to be ended now, in words; empty while there is money left."""
        cost = self.cost(snapshot, age)
        if cost <= self.spent_usd or cost + self._kept(self.approved_usd) < self.approved_usd:
            return ""
        return f"the run has cost {_usd(cost)} of the approved {_usd(self.approved_usd)}{self._price()}"

    def over_shared(self, rooms: tuple[Room, ...], cost: float) -> str:
        """The same by limits over several runs, once their money is spent; what the others may still spend counts not.

        The job's own cost of now (`cost`, as `cost` says it) must be in the rooms' sums already.
        """
        if cost <= self.spent_usd:
            return ""
        for room in rooms:
            if room.spent_usd + self._kept(room.cap.usd) >= room.cap.usd:
                spent, all_of_it = _usd(room.spent_usd), _usd(room.cap.usd)
                return f"{spent} of {all_of_it} are spent, which is the limit by {room.cap.name}{self._price()}"
        return ""

    def _kept(self, limit: float) -> float:
        """What is kept back for the job's end."""
        return min(self.usd_per_hour * self.end_s / 3600, limit * _MOST)

    def _price(self) -> str:
        if not self.assumed:
            return ""
        return f" (its price isn't known: counted at {self.usd_per_hour:.2f} USD an hour, the dearest that is known)"


def _usd(amount: float) -> str:
    return f"{amount:.2f} USD" if amount >= 0.1 else f"{amount:.4f} USD"
