"""All watches of one client share their streams here: who watches what, and which streams that takes.

Must not know what a watcher does when it is woken.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from threading import Event, Lock, RLock
from typing import Final

from caravan.cluster.connection import Connection
from caravan.cluster.events import Key
from caravan.cluster.feed import Feed, FeedState, Subscription
from caravan.cluster.gate import Gate
from caravan.ports import Clock
from caravan.values.errors import CaravanError, ClusterUnreachable

FEW: Final = 4  # watched jobs up to which a stream tells of them alone; it is opened anew when one is added
GRACE: Final = 2.0  # seconds that a stream may need to connect before its watchers ask for themselves
SAFETY: Final = 60.0  # seconds after which a job is read although nothing was told
SAFETY_RATE: Final = 4.0  # such reads a second, at most, over all watched jobs
POLL: Final = 5.0  # seconds between two reads of a job where nothing tells of it and no blocking query is free
POLL_RATE: Final = 20.0  # such reads a second, at most, over all watched jobs


REVIVAL: Final = 15.0  # seconds between two tries to start the cluster again

Reviver = Callable[[], bool]
"""Starts a cluster again whose process died. False: it was ended on purpose. May raise a CaravanError."""


class ClusterDown(ClusterUnreachable):
    """Somebody ended the cluster: waiting for it is no use."""


class Told(Enum):
    """Whether a watcher is told what happens to its job."""

    LIVE = "live"
    SOON = "soon"  # a stream is about to connect
    NOT = "not"


@dataclass(eq=False)
class Seat:
    """A watcher's place: `event` is set when its job should be read."""

    key: Key
    event: Event = field(default_factory=Event)


class Hub:
    """The watchers of one connection and their streams: none without a watcher, one for most, however many."""

    def __init__(self, connection: Connection, clock: Clock, reviver: Reviver | None = None) -> None:
        self.gate = Gate(clock)
        self._reviver = reviver
        self._reviving = Lock()
        self._revived: float | None = None
        self._connection = connection
        self._clock = clock
        self._lock = RLock()
        self._seats: dict[Key, set[Seat]] = {}
        self._feeds: list[Feed] = []
        self._closed = False
        self._wide = False  # more than a few jobs are, or were, watched
        self._each = False  # a stream of all namespaces was refused

    def join(self, seat: Seat) -> None:
        """Wake this seat from now on. Joining twice is joining once; nobody joins what is closed."""
        with self._lock:
            if self._closed or seat in self._seats.get(seat.key, ()):
                return
            self._seats.setdefault(seat.key, set()).add(seat)
            self._arrange()
            if self.told(seat) is Told.LIVE:
                seat.event.set()  # what happened between its last read and this moment was told to nobody

    def leave(self, seat: Seat) -> None:
        """Its watcher has ended. The last one ends the streams."""
        self.gate.forget(seat.event)
        with self._lock:
            seats = self._seats.get(seat.key, set())
            seats.discard(seat)
            if not seats and self._seats.pop(seat.key, None) is not None:
                self._arrange()

    def close(self) -> None:
        """End the streams; watchers that are left ask for themselves."""
        with self._lock:
            self._closed = True
            self._seats.clear()
            self._arrange()

    def told(self, seat: Seat) -> Told:
        """Whether that seat is told what happens to its job."""
        with self._lock:
            feeds = [f for f in self._feeds if f.subscription.covers(seat.key)]
        if any(f.state is FeedState.LIVE for f in feeds):
            return Told.LIVE
        now = self._clock.monotonic()
        return Told.SOON if any(f.state is FeedState.OPENING and now - f.since < GRACE for f in feeds) else Told.NOT

    def safety(self) -> float:
        """Seconds until a job should be read although nothing was told: longer, the more are watched; jittered."""
        return max(SAFETY, len(self._seats) / SAFETY_RATE) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret

    def poll(self) -> float:
        """Seconds between two reads of a job that nothing tells of: longer, the more are watched."""
        return max(POLL, len(self._seats) / POLL_RATE)

    def revive(self) -> None:
        """Start a cluster again that is ours to start, now and then. Raises ClusterDown when it shall not be."""
        if self._reviver is None or not self._reviving.acquire(blocking=False):
            return
        try:
            now = self._clock.monotonic()
            if self._revived is not None and now < self._revived + REVIVAL:
                return
            self._revived = now
            if not self._reviver():
                raise ClusterDown(
                    "The built-in cluster was ended while a job was watched.",
                    hint="Bring it up (`cluster up`), then `resume` the run.",
                )
        except ClusterDown:
            raise
        except CaravanError:
            return  # it does not come up now; the outage's limit counts on
        finally:
            self._reviving.release()

    def heard(self, jobs: frozenset[Key]) -> None:
        """Wake who watches these jobs."""
        with self._lock:
            for namespace, job_id in jobs:
                keys = [(namespace, job_id)] if namespace else [k for k in self._seats if k[1] == job_id]
                self._wake(keys)

    def connected(self, feed: Feed) -> None:
        """Wake who is told by this stream: something may have happened before it was there."""
        with self._lock:
            self._wake([key for key in self._seats if feed.subscription.covers(key)])

    def refused(self, feed: Feed) -> None:
        """Where all namespaces are too many, a stream for each may do."""
        with self._lock:
            if feed.subscription.namespace == "*" and feed in self._feeds:
                self._each = True
                self._arrange()

    def _wake(self, keys: list[Key]) -> None:
        for key in keys:
            for seat in self._seats.get(key, ()):
                seat.event.set()

    def _arrange(self) -> None:
        """Have the streams that the watched jobs take, and no others."""
        keys = set(self._seats)
        self._wide = bool(keys) and (self._wide or len(keys) > FEW)
        wanted = self._wanted(keys)
        useful = [f for f in self._feeds if f.subscription in wanted]
        for feed in [f for f in self._feeds if f not in useful]:
            feed.stop()
        have = {f.subscription for f in useful}
        fresh = [Feed(self._connection, self._clock, s, self) for s in wanted if s not in have]
        self._feeds = useful + fresh
        for feed in fresh:
            feed.start()

    def _wanted(self, keys: set[Key]) -> list[Subscription]:
        spaces = sorted({namespace for namespace, _ in keys})
        old = [f.subscription for f in self._feeds]
        if len(spaces) > 1 and not self._each:
            spaces = ["*"]
        found = []
        for space in spaces:
            own = {key for key in keys if space in {"*", key[0]}}
            # A stream that tells of more than is watched now is kept: opening another one would gain nothing.
            kept = next((s for s in old if s.namespace == space and all(s.covers(k) for k in own)), None)
            jobs = None if self._wide else frozenset(job_id for _, job_id in own)
            found.append(kept if kept and (kept.jobs is None) == self._wide else Subscription(space, jobs))
        return found
