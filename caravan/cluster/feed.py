"""One event stream of the cluster: a thread that reads it, and connects again when it breaks.

Holds when a stream counts as live, broken or refused. Must not know who waits for its events.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from caravan.cluster.connection import Connection, NoSuchCall
from caravan.cluster.events import TOPICS, Key, read_line
from caravan.cluster.gate import backoff
from caravan.cluster.streaming import Streaming
from caravan.ports import Clock
from caravan.values.errors import ClusterDenied, ClusterError, JobNotFound, JobRefused

SILENCE: Final = 75.0  # seconds; Nomad gives a sign of life every 30 (2.0.6, 1.10.5), so two may be missed
STABLE: Final = 30.0  # seconds after which a stream that breaks was a good one
MAX_PAUSE: Final = 300.0  # seconds between two tries of a stream that keeps breaking
RETRY: Final = 600.0  # seconds until a stream that was refused is asked for again: a token's policies may change
MAX_LINE: Final = 64 << 20  # bytes; Nomad's limit for a job is 1 MiB, and a line holds the events of one index

_WHAT: Final = "follow its events"


class FeedState(Enum):
    """Whether what happens is told."""

    OPENING = "opening"  # not yet, or not at the moment
    LIVE = "live"
    REFUSED = "refused"


@dataclass(frozen=True)
class Subscription:
    """What a stream tells of: one namespace or all (`*`), some jobs of it or all (None)."""

    namespace: str
    jobs: frozenset[str] | None = None

    def covers(self, key: Key) -> bool:
        """Whether it tells of that job."""
        return self.namespace in {"*", key[0]} and (self.jobs is None or key[1] in self.jobs)

    def params(self) -> dict[str, str | int | list[str]]:
        """The query of the request."""
        topics = [f"{t}:{j}" for t in TOPICS for j in sorted(self.jobs)] if self.jobs is not None else list(TOPICS)
        return {"namespace": self.namespace, "topic": topics}


class Listener(Protocol):
    """Who is told."""

    def heard(self, jobs: frozenset[Key]) -> None:
        """Something happened to these jobs."""

    def connected(self, feed: "Feed") -> None:
        """From now on everything is told; what happened before may not have been."""

    def refused(self, feed: "Feed") -> None:
        """The cluster does not give this stream."""


class Feed:
    """A stream that is followed in a thread from `start` to `stop`."""

    def __init__(self, connection: Connection, clock: Clock, subscription: Subscription, listener: Listener) -> None:
        self.subscription = subscription
        self.state = FeedState.OPENING
        self.since = clock.monotonic()  # when it came into this state
        self._connection = connection
        self._clock = clock
        self._listener = listener
        self._index = 0
        self._stopping = threading.Event()
        self._streaming: Streaming | None = None
        self._thread = threading.Thread(target=self._run, name="caravan-events", daemon=True)

    def start(self) -> None:
        """Begin. Nothing waits for the connection."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, without waiting for its end."""
        self._stopping.set()
        streaming = self._streaming
        if streaming is not None:
            streaming.break_off()

    def _be(self, state: FeedState) -> None:
        if state is not self.state:
            self.since = self._clock.monotonic()
        self.state = state

    def _run(self) -> None:
        try:
            self._keep_following()
        finally:
            self._be(FeedState.REFUSED)  # whatever ended this thread: nobody relies on it any more

    def _keep_following(self) -> None:
        breaks = misses = 0
        while not self._stopping.is_set():
            trouble: ClusterError | None = None
            try:
                self._follow()
            except ClusterError as error:
                trouble = error
            lived = self._clock.monotonic() - self.since if self.state is FeedState.LIVE else None
            if self._stopping.is_set():
                return
            if isinstance(trouble, (ClusterDenied, JobNotFound, JobRefused, NoSuchCall)):
                self._be(FeedState.REFUSED)
                self._listener.refused(self)
                self._clock.wait(self._stopping, RETRY)
                continue
            self._be(FeedState.OPENING)
            # A cluster that is away is looked for often; one whose streams break is better asked by other means.
            if lived is None:
                misses += 1
                pause = backoff(misses)
            else:
                misses, breaks = 0, 1 if lived >= STABLE else breaks + 1
                pause = backoff(breaks, cap=MAX_PAUSE)
            self._clock.wait(self._stopping, pause)

    def _follow(self) -> None:
        """Connect and read until the stream ends or breaks, which raises a ClusterError or just ends."""
        params = self.subscription.params() | ({"index": self._index} if self._index else {})
        self._streaming = streaming = Streaming(self._connection, "/v1/event/stream", what=_WHAT, params=params)
        if self._stopping.is_set():
            return
        try:
            streaming.open(silence=SILENCE)
            with suppress(ValueError):  # a line that is none: the server's last words, or something in between broke
                for line in _lines(streaming):
                    told = read_line(line)
                    self._index = told.index or self._index
                    if self.state is not FeedState.LIVE:
                        # Nomad subscribes before it sends the first byte, so nothing from here on is missed.
                        self._be(FeedState.LIVE)
                        self._listener.connected(self)
                    if told.jobs:
                        self._listener.heard(told.jobs)
        finally:
            streaming.close()


def _lines(streaming: Streaming) -> Iterator[bytes]:
    """The whole lines of a stream; what was cut off at its end is none."""
    parts: list[bytes] = []
    size = 0
    while data := streaming.read():
        *whole, rest = data.split(b"\n")
        for line in whole:
            parts.append(line)
            joined = b"".join(parts).strip()
            parts, size = [], 0
            if joined:
                yield joined
        parts.append(rest)
        size += len(rest)
        if size > MAX_LINE:
            raise ValueError("an endless line")
