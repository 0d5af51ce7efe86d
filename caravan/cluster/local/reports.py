"""What tasks report of themselves, stored in batches as Nomad's clients send it. Knows nothing of what they report.

A report that stands alone is stored at once. Where hundreds come, each would be a transaction of its own; so those that
come within a moment share one. What is not stored yet when the cluster dies is not lost: the next process reads it
from the tasks' supervisors.
"""

import asyncio
import sqlite3
from collections.abc import Callable

from caravan.cluster.local.state import AllocRecord, State

_MOMENT = 0.04

Report = Callable[[AllocRecord], AllocRecord]
"""The allocation as it now is, from what is stored of it."""


class Reports:
    """The reports of all allocations. `crashed` is told when they can't be stored."""

    def __init__(self, state: State, crashed: Callable[[BaseException], None]) -> None:
        self._state = state
        self._crashed = crashed
        self._new: dict[str, Report] = {}
        self._timer: asyncio.Handle | None = None
        self._stored = 0.0

    def add(self, alloc_id: str, report: Report) -> None:
        """Store what an allocation reports, soon; a later report of the same one takes its place."""
        self._new[alloc_id] = report
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._stored + _MOMENT), self._due)

    def _due(self) -> None:
        try:
            self.store()
        except sqlite3.Error as failure:  # the state can't be written: only a new start may help
            self._crashed(failure)

    def store(self) -> None:
        """Store now what has been reported. Raises sqlite3.Error."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._new:
            return
        new, self._new = self._new, {}
        with self._state.change("AllocationUpdated") as change:
            for alloc_id, report in new.items():
                change.put_alloc(report(self._state.allocs[alloc_id]))
        self._stored = asyncio.get_running_loop().time()
