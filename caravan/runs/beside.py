"""A store beside another one: it has a run of its own, and knows the other's runs without ever writing there."""

from datetime import datetime

from caravan.ports import Store
from caravan.values.run import Deployment, RunEvent, RunRecord, RunStatus


class StoreBeside:
    """The port Store over two: everything is written to `own`; what earlier runs have left is read from `earlier`."""

    def __init__(self, own: Store, earlier: Store) -> None:
        self._own = own
        self._earlier = earlier

    def _of(self, run_id: str) -> Store:
        here = any(run.id.startswith(run_id) for run in self._own.runs())
        return self._own if here and run_id else self._earlier

    def create_run(self, run: RunRecord) -> None:
        """Store it here."""
        self._own.create_run(run)

    def run(self, run_id: str) -> RunRecord:
        """The run, here or there."""
        return self._of(run_id).run(run_id)

    def runs(self, *, limit: int = 50) -> tuple[RunRecord, ...]:
        """Those of both, the newest first."""
        both = (*self._own.runs(limit=limit), *self._earlier.runs(limit=limit))
        return tuple(sorted(both, key=lambda run: run.created_at, reverse=True)[:limit])

    def update_run(
        self,
        run_id: str,
        *,
        status: RunStatus | None = None,
        node: str | None = None,
        detail: str | None = None,
        cost_usd: float | None = None,
    ) -> None:
        """Change a run of here."""
        self._own.update_run(run_id, status=status, node=node, detail=detail, cost_usd=cost_usd)

    def intend(self, deployment: Deployment) -> Deployment:
        """Store it here."""
        return self._own.intend(deployment)

    def save_deployment(self, deployment: Deployment) -> None:
        """Store it here."""
        self._own.save_deployment(deployment)

    def deployments(self, run_id: str) -> tuple[Deployment, ...]:
        """The run's, here or there."""
        return self._of(run_id).deployments(run_id)

    def add_event(self, run_id: str, event: RunEvent) -> None:
        """Store it here."""
        self._own.add_event(run_id, event)

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        """The run's, here or there."""
        return self._of(run_id).events(run_id)

    def spent_usd(self, *, since: datetime | None = None) -> float:
        """What all runs of both have cost."""
        return self._own.spent_usd(since=since) + self._earlier.spent_usd(since=since)

    def delete_run(self, run_id: str) -> None:
        """Remove a run of here."""
        self._own.delete_run(run_id)

    def close(self) -> None:
        """Let go of both."""
        self._own.close()
        self._earlier.close()
