"""One job's whole state, read anew: its document, allocations and evaluations → `Snapshot`.

Holds the three reads, the index that comes with them, and what was seen of allocations that the cluster has forgotten.
Must not know when a job is read: what wakes a reader is `caravan.cluster.watcher`'s.
"""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from caravan.cluster.connection import Connection
from caravan.cluster.snapshots import TERMINAL, to_allocation, to_snapshot
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import JobNotFound
from caravan.values.run import Snapshot

_WHAT: Final = "read the job's state"


@dataclass
class Seen:
    """A job's allocations as they were last seen, in the order of their first sight.

    `born` is the job's CreateIndex: a job that was purged and registered anew under the same id is another one, and
    begins without them.
    """

    born: int = 0
    allocations: dict[str, Json] = field(default_factory=dict)

    def add(self, job: Json | None, listed: list[Json]) -> list[Json]:
        """Remember what is listed; what was seen earlier and is not listed any more comes back."""
        self.born = (job or {}).get("CreateIndex") or self.born
        # Job and allocations are read one after the other, so the list may still be that of an earlier job too.
        known = {alloc["ID"]: alloc for alloc in [*self.allocations.values(), *listed]}
        self.allocations = {i: a for i, a in known.items() if (a.get("CreateIndex") or self.born) >= self.born}
        ids = {alloc["ID"] for alloc in listed}
        return [alloc for alloc_id, alloc in self.allocations.items() if alloc_id not in ids]


class JobReader:
    """Reads jobs over one connection. Every method may raise a ClusterError."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def snapshot(
        self,
        job_id: str,
        namespace: str,
        *,
        seen: Seen | None = None,
        index: int = 0,
        wait: float = 0.0,
        repeat: bool = True,
    ) -> tuple[Snapshot, int]:
        """A snapshot and the allocations' index, after a change since `index` or `wait` seconds (index 0: at once).

        With `seen`, allocations that the cluster has forgotten stay in it as they were.
        """
        base = f"/v1/job/{quote(job_id, safe='')}"
        allocations, reached = self._list(f"{base}/allocations", namespace, index=index, wait=wait, repeat=repeat)
        evaluations, _ = self._list(f"{base}/evaluations", namespace, repeat=repeat)
        job = self._document(base, namespace, repeat=repeat)
        if job is not None and job.get("Status") == "dead":
            # A dead job changes no more, but its end may have come after its allocations were read.
            allocations, reached = self._list(f"{base}/allocations", namespace, repeat=repeat)
            evaluations, _ = self._list(f"{base}/evaluations", namespace, repeat=repeat)
        with self._connection.reading(_WHAT):
            snapshot = self._shown(job_id, job, allocations, evaluations, seen or Seen())
        # An index that goes back (a server restored from a backup) would never be reached again.
        return snapshot, reached if reached >= index else 0

    def _shown(
        self, job_id: str, job: Json | None, allocations: list[Json], evaluations: list[Json], seen: Seen
    ) -> Snapshot:
        missing = seen.add(job, [a for a in allocations if a.get("JobID", job_id) == job_id])
        ended = [a for a in missing if a["ClientStatus"] in TERMINAL]
        snapshot = to_snapshot(job, [*ended, *allocations], evaluations, job_id=job_id, at=self._clock.now())
        # One that ran when it was last seen is shown so, but keeps no job alive that the cluster calls dead.
        running = [to_allocation(a) for a in missing if a["ClientStatus"] not in TERMINAL]
        if not running:
            return snapshot
        born = {alloc_id: alloc.get("CreateIndex") or 0 for alloc_id, alloc in seen.allocations.items()}
        shown = sorted([*snapshot.allocations, *running], key=lambda a: (born.get(a.id, 0), a.id))
        return snapshot.model_copy(update={"allocations": tuple(shown)})

    def _document(self, path: str, namespace: str, *, repeat: bool) -> Json | None:
        params = {"namespace": namespace}
        try:
            answer = self._connection.send("GET", path, what=_WHAT, params=params, repeat=repeat)
        except JobNotFound:
            return None
        return self._connection.shape(self._connection.call(answer.json, what=_WHAT), dict, _WHAT)

    def _list(
        self, path: str, namespace: str, *, index: int = 0, wait: float = 0.0, repeat: bool
    ) -> tuple[list[Json], int]:
        # By the session: python-nomad loses X-Nomad-Index and has neither index nor wait.
        params: dict[str, str | int] = {"namespace": namespace}
        if index:
            params |= {"index": index, "wait": f"{int(wait * 1000)}ms"}
        try:
            # The server adds up to a sixteenth to the wait.
            answer = self._connection.send(
                "GET", path, what=_WHAT, params=params, wait=wait * 1.1 if index else 0.0, repeat=repeat
            )
        except JobNotFound:
            return [], 0
        found = self._connection.shape(self._connection.call(answer.json, what=_WHAT), list, _WHAT)
        number = answer.headers.get("X-Nomad-Index", "")
        # An index is a uint64; without one, blocking queries are not used.
        return found, int(number) if number.isascii() and number.isdigit() and len(number) < 20 else 0
