"""Watching jobs: when a job's state is read anew, and how an outage is ridden out.

Events wake, reads tell: an event of the cluster's stream only makes the job's watcher read its whole state, so one
that comes twice, late or never can't lie. Where there is no stream, blocking queries take its place. Must not know
what a snapshot says beyond its phase, nor how it is read.
"""

from collections.abc import Iterator
from typing import Final

from caravan.cluster.connection import Connection
from caravan.cluster.gate import backoff
from caravan.cluster.hub import GRACE, Hub, Reviver, Seat, Told
from caravan.cluster.reading import JobReader, Seen
from caravan.ports import Clock
from caravan.values.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    JobConflict,
    JobNotFound,
    JobRefused,
)
from caravan.values.run import Phase, Snapshot

WAIT: Final = 3.0  # seconds for which a blocking query is held
HEARTBEAT: Final = 1.0  # seconds between two heartbeats: they ask nothing, and with them logs are looked at
PACE: Final = 0.1  # least seconds between two reads of a job: events come in bursts
DENIALS: Final = 3  # in a row, until a watch that was allowed so far believes them

CONFIRM: Final = 1.0  # seconds after which a job that is not there is looked for once more

UNHELD: Final = 1.0  # least seconds from one blocking query to the next

_JOB_GOES_ON: Final = "The job goes on; `resume` the run to watch it again."


class Watcher:
    """The watches of one connection.

    `outage_limit`: seconds that an outage is ridden out. `reviver` starts a cluster again that is ours to start.
    """

    def __init__(
        self,
        connection: Connection,
        reader: JobReader,
        clock: Clock,
        *,
        outage_limit: float,
        reviver: Reviver | None = None,
    ) -> None:
        self._hub = Hub(connection, clock, reviver)
        self._reader = reader
        self._clock = clock
        self._outage_limit = outage_limit

    def watch(self, job_id: str, namespace: str) -> Iterator[Snapshot]:
        """Snapshots until the job has ended or is gone; the last one again as a heartbeat, in an outage too."""
        return _Watch(self._hub, self._reader, self._clock, self._outage_limit, (namespace, job_id)).snapshots()

    def close(self) -> None:
        """End the streams."""
        self._hub.close()


class _Watch:
    """One job's watch."""

    def __init__(self, hub: Hub, reader: JobReader, clock: Clock, outage_limit: float, key: tuple[str, str]) -> None:
        self._hub = hub
        self._reader = reader
        self._clock = clock
        self._seat = Seat(key)
        self._outage = Outage(clock, outage_limit)
        self._seen = Seen()
        self._index = 0
        self._last: Snapshot | None = None
        self._yielded = clock.monotonic()
        self._read_at = clock.monotonic() - PACE
        self._not_before = 0.0
        self._next = 0.0
        self._wanted = True  # something happened, or nothing is known yet
        self._missed = False  # the last read did not find the job
        self._safety = hub.safety()

    def snapshots(self) -> Iterator[Snapshot]:
        """What `Watcher.watch` promises."""
        try:
            while True:
                found = self._look()
                changed = found is not None and (
                    self._last is None or self._last.model_copy(update={"at": found.at}) != found
                )
                self._last = found or self._last
                if self._last is not None and (changed or self._clock.monotonic() >= self._yielded + HEARTBEAT):
                    self._yielded = self._clock.monotonic()
                    yield self._last
                if found is not None and found.phase in {Phase.ENDED, Phase.GONE}:
                    return
                if self._last is not None:
                    self._hub.join(self._seat)  # only now: a job that has ended takes no stream
                self._rest()
        finally:
            self._hub.leave(self._seat)

    def _look(self) -> Snapshot | None:
        """The job's state, where it is time to read it, the cluster can be asked, and it answers."""
        if self._seat.event.is_set():
            self._seat.event.clear()
            self._wanted = True
        gate, told, now = self._hub.gate, self._hub.told(self._seat), self._clock.monotonic()
        self._next = self._due(told)
        if now < self._next:
            return None
        held = told is Told.NOT and self._index > 0 and gate.hold()
        if told is Told.NOT and not held and not self._wanted and now < self._read_at + self._hub.poll():
            self._next = self._read_at + self._hub.poll()
            return None
        if not held and not gate.enter(self._seat.event):
            self._wanted = True
            self._next = now + gate.pause()
            if gate.trouble is not None:
                self._outage.see(gate.trouble, ours=False)
            return None
        return self._read(held)

    def _due(self, told: Told) -> float:
        """When the job should be read, as far as is known now."""
        pause = {Told.LIVE: self._safety, Told.SOON: GRACE, Told.NOT: PACE if self._index else self._hub.poll()}[told]
        return max(self._read_at + (PACE if self._wanted else pause), self._not_before)

    def _read(self, held: bool) -> Snapshot | None:
        began = self._read_at = self._clock.monotonic()
        trouble: ClusterUnreachable | None = None
        index = self._index if held else 0
        self._wanted = False
        try:
            found, self._index = self._reader.snapshot(
                self._seat.key[1], self._seat.key[0], seen=self._seen, index=index, wait=WAIT, repeat=False
            )
        except ClusterError as error:
            trouble = error if isinstance(error, ClusterUnreachable) else None
            self._index, self._wanted = 0, True
            self._not_before = self._next = self._clock.monotonic() + self._outage.see(error)
            if trouble is not None:
                self._hub.revive()
            return None
        finally:
            self._hub.gate.leave(trouble, held=held)
        self._outage.over()
        self._safety = self._hub.safety()
        now = self._clock.monotonic()
        if found.phase is Phase.GONE and not self._missed:
            # A run of a job that is gone ends for good, so one answer does not decide on that.
            self._missed, self._wanted, self._index = True, True, 0
            self._not_before = self._next = now + CONFIRM
            return None
        self._missed = found.phase is Phase.GONE
        # A server that does not hold the query, or counts what is none of this job's, is not asked on and on.
        self._not_before = began + UNHELD if held and now - began < UNHELD else 0.0
        self._next = self._due(self._hub.told(self._seat))
        return found

    def _rest(self) -> None:
        """Wait for an event, the next read or the next heartbeat, whatever comes first."""
        now = self._clock.monotonic()
        heartbeat = now + WAIT if self._last is None else self._yielded + HEARTBEAT
        self._clock.wait(self._seat.event, max(0.0, min(heartbeat, self._next) - now))


class Outage:
    """How long the cluster has been away, as a watch sees it."""

    def __init__(self, clock: Clock, limit: float) -> None:
        self._clock = clock
        self._limit = limit
        self._since: float | None = None
        self._tries = 0
        self._denials = 0
        self._answered = False

    def over(self) -> None:
        """The cluster has answered."""
        self._since, self._tries, self._denials, self._answered = None, 0, 0, True

    def ride_out(self, error: ClusterError) -> None:
        """Wait before the next try, or raise as `see` does."""
        self._clock.sleep(self.see(error))

    def see(self, error: ClusterError, *, ours: bool = True) -> float:
        """Seconds to wait before the next try. Raises what no waiting mends at once, the rest after the limit.

        Any other ClusterError (status 500, an answer that is none of Nomad's) passes as an outage too: proxies and
        restarting servers give both. So does a denial after good answers, for some tries: a server that comes up may
        not know the token yet. `ours`: this watch asked; else others did, and it was held back.
        """
        if isinstance(error, ClusterDenied) and self._answered:
            self._denials += 1
            if self._denials >= DENIALS:
                raise ClusterDenied(error.message, hint=f"{error.hint} {_JOB_GOES_ON}") from error
        elif isinstance(error, (ClusterDenied, JobConflict, JobNotFound, JobRefused)):
            raise error
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._limit:
            raise ClusterUnreachable(
                f"The cluster has been away for {self._limit:.0f} s: {error.message}", hint=_JOB_GOES_ON
            ) from error
        self._tries += ours
        return backoff(self._tries)
