"""Logs of a job that runs while no agent copies them: read on from the cluster, masked, into a folder of their own.

Nothing of the run is locked or changed; the built-in cluster is not started for it.
"""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caravan.agent.log_reader import LogReader
from caravan.runs.folder import log_name
from caravan.runs.logs import LogCopies
from caravan.terminal.lookup import ALLOC_DIGITS, LogOf
from caravan.values.errors import ClusterError
from caravan.values.run import DeploymentState, Phase, Purpose

if TYPE_CHECKING:
    from types import TracebackType

    from caravan.ports import Cluster
    from caravan.terminal.wiring import Wiring
    from caravan.values.run import Deployment, RunRecord, Snapshot

_PIECES: Final = 64  # of 1 MiB read in one round


class ClusterLogs(AbstractContextManager["ClusterLogs"]):
    """One stream of a run's newest job of a purpose. `files` are masked copies in a folder that goes with the end of
    the block.
    """

    def __init__(self, wiring: Wiring, record: RunRecord, stream: str, purpose: Purpose = Purpose.TRAIN) -> None:
        self._wiring = wiring
        self._record = record
        self._stream = stream
        self._purpose = purpose
        self._belonging: dict[str, LogOf] = {}
        self._temporary = tempfile.TemporaryDirectory(prefix="caravan-logs-")
        self._copies = LogCopies(Path(self._temporary.name) / "logs", wiring.secrets())
        self._cluster: Cluster | None = None
        self._reader: LogReader | None = None
        self._begun: dict[str, int] = {}
        self.trouble = ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    def files(self) -> tuple[Path, ...]:
        """What was fetched; each file has the name that the run's own copy has, and goes on where that ends."""
        return self._copies.files()

    def belonging(self) -> dict[str, LogOf]:
        """Whose logs the fetched files are, by their allocations."""
        return self._belonging

    def fetch(self) -> Phase | None:
        """Fetch what is new and say how the job is; None where there is none to fetch from, `trouble` says why."""
        deployment = self._deployed()
        if deployment is None:
            return None
        try:
            cluster = self._connect()
            if cluster is None:
                return None
            snapshot = cluster.snapshot(deployment.job_id, deployment.namespace)
            for allocation in snapshot.allocations:
                whose = LogOf(deployment.attempt, allocation.node_name or allocation.node_id[:8], self._purpose)
                self._belonging[allocation.id[:ALLOC_DIGITS]] = whose
            self._copy(snapshot)
        except ClusterError as error:
            self.trouble = error.message
            return None
        self.trouble = ""
        return snapshot.phase

    def _deployed(self) -> Deployment | None:
        known = [d for d in self._wiring.store().deployments(self._record.id) if d.purpose is self._purpose]
        return known[-1] if known and known[-1].state is DeploymentState.REGISTERED else None

    def _connect(self) -> Cluster | None:
        if self._cluster is None:
            if self._record.request.cluster == "local" and self._wiring.local_cluster.status() is None:
                self.trouble = "the built-in cluster does not run"
                return None
            self._cluster = self._wiring.cluster(self._record.request)
            self._reader = LogReader(self._cluster)
        return self._cluster

    def _copy(self, snapshot: Snapshot) -> None:
        folder = self._wiring.folder(self._record.id)
        for allocation in snapshot.allocations:
            for task in allocation.tasks:
                if task.started_at is None or self._reader is None:
                    continue
                source = (allocation.id, task.name, self._stream)
                name = log_name(*source)
                begun = self._begun.setdefault(name, folder.log_size(*source))
                for _ in range(_PIECES):
                    data, _ = self._reader.read(source, begun + self._copies.size(name))
                    if not data:
                        break
                    self._copies.append(name, data)
