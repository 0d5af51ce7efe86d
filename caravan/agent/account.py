"""Spending tracked while a job runs: what it has cost so far is told to the store, and limits shared with others hold.

Other agents see it there and count with it, and an agent that takes over knows what was spent before it came.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from caravan.agent.context import Context
from caravan.agent.elapsed import Age
from caravan.agent.money import reserve_more, rooms
from caravan.agent.purse import Purse
from caravan.agent.state import RunState
from caravan.values.run import Snapshot

TELL_S: Final = 30.0
"""Seconds between two times at which the store is told: of a job that vanishes at most so much goes uncounted."""

_DUST: Final = 0.005
"""US dollars: less than that buys nothing worth asking for."""


@dataclass
class Account:
    """A purse that keeps the store up to date and looks there for what others have spent. `state` as it was deployed,
    at `since`: to the days from then on the spending is counted.

    What goes wrong with the store is raised: a run whose money can't be counted is not to go on unwatched.
    """

    purse: Purse
    state: RunState
    context: Context
    since: datetime | None = None
    _told: float | None = field(default=None)
    _shared: str = field(default="")

    def over(self, snapshot: Snapshot, age: Age) -> str:
        """Why the job is to be ended now, in words; empty while there is money left."""
        self._tell(snapshot, age)
        return self._over(snapshot, age) or self._shared

    def _over(self, snapshot: Snapshot, age: Age) -> str:
        """The purse's word, once no more of what is approved can be reserved."""
        why = self.purse.over(snapshot, age)
        while why:
            more = reserve_more(self.state, self.context, self.purse.approved_usd)
            if more <= self.purse.approved_usd + _DUST:
                return why
            self.purse = replace(self.purse, approved_usd=more)
            why = self.purse.over(snapshot, age)
        return ""

    def _tell(self, snapshot: Snapshot, age: Age) -> None:
        if self._told is not None and age.seconds - self._told < TELL_S:
            return
        self._told, cost = age.seconds, self.purse.cost(snapshot, age)
        store, run_id = self.context.store, self.state.run_id
        # A snapshot without the allocations that were seen before tells nothing of what they cost.
        if cost > store.run(run_id).cost_usd:
            store.update_run(run_id, cost_usd=cost, spent_since=self.since)
        self._shared = self.purse.over_shared(rooms(self.state, self.context), cost)
