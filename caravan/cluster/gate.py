"""Who may ask the cluster now: so that 500 watchers don't ask at once, least of all a cluster that is in trouble.

Must not know what is asked.
"""

import math
import random
from collections import deque
from threading import Event, Lock
from typing import Final

from caravan.ports import Clock
from caravan.values.errors import ClusterUnreachable

READS: Final = 6  # jobs that are read at the same time
HOLDS: Final = 3  # blocking queries at the same time; with the reads and a stream they fit into one pool of connections
PROBE: Final = 1.0  # seconds between two looks whether the one who asks for all has got an answer
MAX_BACKOFF: Final = 5.0  # seconds between two tries while the cluster is away


def backoff(tries: int, *, cap: float = MAX_BACKOFF) -> float:
    """Seconds before the next try after so many failed ones (at least 1): doubling, jittered, at most `cap`."""
    return min(cap, 0.25 * 2.0 ** min(tries, 16)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class Gate:
    """Places for requests. Whoever gets none waits for their event, which is set when there is one.

    While the cluster is away (`trouble`), one asks now and then for all; as soon as it answers, all go on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._reading = 0
        self._holding = 0
        self._waiting: deque[Event] = deque()
        self._called: set[Event] = set()
        self._tries = 0
        self._next = 0.0
        self.trouble: ClusterUnreachable | None = None
        """Why the cluster counts as away, None while it answers."""

    def enter(self, event: Event) -> bool:
        """Take a place. False: none is free; `event` will be set when one is kept for its owner."""
        with self._lock:
            if event in self._called:
                self._called.discard(event)
                return True
            free = 1 if self.trouble else READS
            early = self.trouble is not None and self._clock.monotonic() < self._next
            if early or self._reading >= free:
                if event not in self._waiting:
                    self._waiting.append(event)
                return False
            if event in self._waiting:
                self._waiting.remove(event)
            self._reading += 1
            return True

    def hold(self) -> bool:
        """Take a place for a request that the server holds. False: ask for an answer at once instead."""
        with self._lock:
            if self.trouble or self._holding >= HOLDS:
                return False
            self._holding += 1
            return True

    def leave(self, trouble: ClusterUnreachable | None, *, held: bool = False) -> None:
        """Give the place back, and tell whether the cluster was there."""
        with self._lock:
            if held:
                self._holding -= 1
            else:
                self._reading -= 1
            self.trouble = trouble
            self._tries = self._tries + 1 if trouble else 0
            if trouble:
                self._next = self._clock.monotonic() + backoff(self._tries)
            self._call()

    def forget(self, event: Event) -> None:
        """Its owner needs no place any more."""
        with self._lock:
            if event in self._waiting:
                self._waiting.remove(event)
            if event in self._called:
                self._called.discard(event)
                self._reading -= 1
                self._call()

    def pause(self) -> float:
        """Seconds until it is worth while to ask for a place again; infinite where the event will tell."""
        with self._lock:
            if not self.trouble:
                return math.inf
            return max(PROBE if self._reading else 0.05, self._next - self._clock.monotonic())

    def _call(self) -> None:
        while self._waiting and not self.trouble and self._reading < READS:
            event = self._waiting.popleft()
            self._reading += 1
            self._called.add(event)
            event.set()
