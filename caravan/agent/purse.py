"""The money of a run while its job is watched: when the job must be told to end, so that what was approved suffices.

It counts what the job has cost so far and what it will cost until it has written its last checkpoint. Pure.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from caravan.agent.costs import held_s
from caravan.values.run import Snapshot

_MOST: Final = 0.1  # of the approved money is kept for the end at most: a small budget must buy some training


@dataclass(frozen=True)
class Purse:
    """What was approved for the run and what its earlier attempts have spent, in US dollars.

    `usd_per_hour` is the price of all `nodes` of the job together. `end_s`: seconds that its task has to end in. Times
    as `held_s` takes them.
    """

    approved_usd: float
    spent_usd: float
    usd_per_hour: float
    nodes: int
    end_s: float
    created_at: datetime
    registered_at: datetime

    def over(self, snapshot: Snapshot, now: datetime) -> str:
        """Why the job is to be ended now, in words; empty while there is money left."""
        held = held_s(snapshot, created_at=self.created_at, registered_at=self.registered_at, now=now)
        cost = self.spent_usd + self.usd_per_hour * held / 3600 / self.nodes
        kept = min(self.usd_per_hour * self.end_s / 3600, self.approved_usd * _MOST)
        if held == 0 or cost + kept < self.approved_usd:
            return ""
        return f"the run has cost {_usd(cost)} of the approved {_usd(self.approved_usd)}"


def _usd(amount: float) -> str:
    return f"{amount:.2f} USD" if amount >= 0.1 else f"{amount:.4f} USD"
