"""The product's command line in a process of its own, for a scenario whose repair is to wait: its waits are short.

    python -m bench.fault_child ARGUMENTS OF main.py

A wait of ten minutes takes a fortieth of that; the clock that the agent sees goes on by all of it.
"""

import sys
import time
from datetime import UTC, datetime, timedelta

import main
from machine import SystemClock

SHORTER = 40
_STEP_S = 5.0  # a sleep as long is a part of a repair's wait; shorter ones are between two looks at the cluster


class HurriedClock(SystemClock):
    """The real time, and what was left out of the waits."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.skipped)

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped

    def sleep(self, seconds: float) -> None:
        if seconds < _STEP_S:
            time.sleep(seconds)
            return
        time.sleep(seconds / SHORTER)
        self.skipped += seconds * (1 - 1 / SHORTER)


if __name__ == "__main__":
    main.Application.clock = HurriedClock()
    sys.exit(main.main())
