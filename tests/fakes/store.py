"""A store in memory. It keeps the port's contract and nothing outlives it."""

from datetime import datetime

from caravan.ports import Clock
from caravan.values.errors import StateError, UsageError
from caravan.values.run import ENDED, Deployment, RunEvent, RunRecord, RunStatus


class MemoryStore:
    """The port Store on dictionaries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, RunRecord] = {}
        self._deployments: dict[str, Deployment] = {}
        self._events: dict[str, list[RunEvent]] = {}

    def create_run(self, run: RunRecord) -> None:
        stored = self._runs.setdefault(run.id, run)
        if stored.request != run.request:
            raise StateError(f"The run id {run.id} is taken by another request.")

    def run(self, run_id: str) -> RunRecord:
        if run_id in self._runs:
            return self._runs[run_id]
        found = [r for r in self._runs.values() if run_id and r.id.startswith(run_id)]
        if len(found) != 1:
            raise UsageError(f"No single run begins with {run_id!r}: {', '.join(sorted(r.id for r in found))}.")
        return found[0]

    def runs(self, *, limit: int = 50) -> tuple[RunRecord, ...]:
        return tuple(sorted(self._runs.values(), key=lambda r: (r.created_at, r.id), reverse=True)[:limit])

    def update_run(
        self,
        run_id: str,
        *,
        status: RunStatus | None = None,
        node: str | None = None,
        detail: str | None = None,
        cost_usd: float | None = None,
    ) -> None:
        self._must_exist(run_id)
        given = {"status": status, "node": node, "detail": detail, "cost_usd": cost_usd}
        if status is not None and self._runs[run_id].status in ENDED:
            given = {k: v for k, v in given.items() if k not in ("status", "detail")}
        changes = {k: v for k, v in given.items() if v is not None} | {"updated_at": self._clock.now()}
        self._runs[run_id] = self._runs[run_id].model_copy(update=changes)

    def intend(self, deployment: Deployment) -> Deployment:
        self._must_exist(deployment.run_id)
        stored = self._deployments.setdefault(deployment.job_id, deployment)
        if (stored.spec_sha256, stored.run_id) != (deployment.spec_sha256, deployment.run_id):
            raise StateError(f"The job {deployment.job_id} is already stored with another specification.")
        return stored

    def save_deployment(self, deployment: Deployment) -> None:
        if deployment.job_id not in self._deployments:
            raise StateError(f"The job {deployment.job_id} was never stored as intended.")
        self._deployments[deployment.job_id] = deployment

    def deployments(self, run_id: str) -> tuple[Deployment, ...]:
        mine = (d for d in self._deployments.values() if d.run_id == run_id)
        return tuple(sorted(mine, key=lambda d: (d.attempt, d.job_id)))

    def add_event(self, run_id: str, event: RunEvent) -> None:
        self._must_exist(run_id)
        mine = self._events.setdefault(run_id, [])
        if all((e.at, e.kind, e.text) != (event.at, event.kind, event.text) for e in mine):
            mine.append(event)

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        return tuple(sorted(self._events.get(run_id, ()), key=lambda e: e.at))

    def spent_usd(self, *, since: datetime | None = None) -> float:
        return sum((r.cost_usd for r in self._runs.values() if since is None or r.created_at >= since), 0.0)

    def delete_run(self, run_id: str) -> None:
        self._runs.pop(run_id, None)
        self._events.pop(run_id, None)
        self._deployments = {k: d for k, d in self._deployments.items() if d.run_id != run_id}

    def close(self) -> None:
        """There is nothing to let go of."""

    def _must_exist(self, run_id: str) -> None:
        if run_id not in self._runs:
            raise UsageError(f"There is no run {run_id!r}.")
