"""Watching a job: when its state is read anew, and how an outage of the cluster is ridden out.

Must not know what a snapshot says beyond its phase, nor how it is read.
"""

from collections.abc import Iterator
from typing import Final

from caravan.cluster.reading import JobReader
from caravan.ports import Clock
from caravan.values.errors import ClusterError, ClusterUnreachable
from caravan.values.run import Phase, Snapshot

WAIT: Final = 3.0  # seconds that a blocking query is held, so that a heartbeat comes every few seconds
PACE: Final = 0.2  # least seconds between two rounds without news, should a server not hold the query
MAX_BACKOFF: Final = 5.0  # seconds between two tries while the cluster is away: no longer than a heartbeat


class Watcher:
    """Watches jobs through a reader. `outage_limit`: seconds that an outage is ridden out."""

    def __init__(self, reader: JobReader, clock: Clock, *, outage_limit: float) -> None:
        self._reader = reader
        self._clock = clock
        self._outage_limit = outage_limit

    def watch(self, job_id: str, namespace: str) -> Iterator[Snapshot]:
        """Snapshots until the job has ended or is gone; the last one again as a heartbeat, in an outage too."""
        last: Snapshot | None = None
        index, yielded = 0, self._clock.monotonic()
        outage = Outage(self._clock, self._outage_limit)
        while True:
            began = self._clock.monotonic()
            try:
                snapshot, index = self._reader.snapshot(job_id, namespace, index=index, wait=WAIT, repeat=False)
            except ClusterError as error:
                outage.ride_out(error)
                index = 0
                if last is not None:
                    yield last
                continue
            outage.over()
            changed = last is None or last.model_copy(update={"at": snapshot.at}) != snapshot
            if changed or self._clock.monotonic() - yielded >= WAIT:
                last, yielded = snapshot, self._clock.monotonic()
                yield snapshot
            if snapshot.phase in {Phase.ENDED, Phase.GONE}:
                return
            if not changed:
                self._clock.sleep(max(0.0, PACE - (self._clock.monotonic() - began)))


class Outage:
    """How long the cluster has been away, as a watch sees it."""

    def __init__(self, clock: Clock, limit: float) -> None:
        self._clock = clock
        self._limit = limit
        self._since: float | None = None
        self._tries = 0

    def over(self) -> None:
        """The cluster has answered."""
        self._since, self._tries = None, 0

    def ride_out(self, error: ClusterError) -> None:
        """Wait before the next try, or raise: what no waiting mends at once, the rest after the limit.

        A plain ClusterError (status 500, an answer that is none of Nomad's) passes as an outage too: proxies and
        restarting servers give both.
        """
        if not isinstance(error, ClusterUnreachable) and type(error) is not ClusterError:
            raise error
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._limit:
            raise ClusterUnreachable(
                f"The cluster has been away for {self._limit:.0f} s: {error.message}",
                hint="The job may go on; resume the run when the cluster is back.",
            ) from error
        self._clock.sleep(min(MAX_BACKOFF, 0.5 * 2.0 ** min(self._tries, 6)))
        self._tries += 1
