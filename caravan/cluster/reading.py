"""One job's whole state, read anew: its document, allocations and evaluations → `Snapshot`.

Holds the three reads and the index that comes with them. Must not know when they are made: what wakes a reader is
`caravan.cluster.watcher`'s.
"""

from typing import Final
from urllib.parse import quote

from caravan.cluster.connection import Connection
from caravan.cluster.snapshots import to_snapshot
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import JobNotFound
from caravan.values.run import Snapshot

_WHAT: Final = "read the job's state"


class JobReader:
    """Reads jobs over one connection. Every method may raise a ClusterError."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def snapshot(
        self, job_id: str, namespace: str, *, index: int = 0, wait: float = 0.0, repeat: bool = True
    ) -> tuple[Snapshot, int]:
        """A snapshot and the allocations' index, after a change since `index` or `wait` seconds (index 0: at once)."""
        base = f"/v1/job/{quote(job_id, safe='')}"
        allocations, seen = self._list(f"{base}/allocations", namespace, index=index, wait=wait, repeat=repeat)
        evaluations, _ = self._list(f"{base}/evaluations", namespace, repeat=repeat)
        job = self._document(base, namespace, repeat=repeat)
        if job is not None and job.get("Status") == "dead":
            # A dead job changes no more, but its end may have come after its allocations were read.
            allocations, seen = self._list(f"{base}/allocations", namespace, repeat=repeat)
            evaluations, _ = self._list(f"{base}/evaluations", namespace, repeat=repeat)
        try:
            snapshot = to_snapshot(job, allocations, evaluations, job_id=job_id, at=self._clock.now())
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            self._connection.misshapen(_WHAT, error)
        # An index that goes back (a server restored from a backup) would never be reached again.
        return snapshot, seen if seen >= index else 0

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
        return found, int(number) if number.isdigit() else 0
