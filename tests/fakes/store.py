"""A store in memory. It keeps the port's contract and nothing outlives it."""

from collections.abc import Sequence
from datetime import datetime

from caravan.ports import Clock
from caravan.runs.ledger import shares
from caravan.values.errors import StateError, UsageError
from caravan.values.measurement import Measurement
from caravan.values.registry import RunResult
from caravan.values.run import ENDED, Deployment, RunEvent, RunRecord, RunStatus
from caravan.values.spending import Cap, Reservation, Room, SpendingRow, day_of
from caravan.values.training import MetricSpec


class MemoryStore:
    """The port Store on dictionaries."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, RunRecord] = {}
        self._deployments: dict[str, Deployment] = {}
        self._events: dict[str, list[RunEvent]] = {}
        self._spending: dict[tuple[str, str], tuple[str, float, datetime]] = {}  # (run, day) → user, USD, until
        self._reserved: dict[str, float] = {}
        self._measured: dict[str, Measurement] = {}
        self._results: dict[str, RunResult] = {}
        self.definitions: dict[str, MetricSpec] = {}

    def create_run(self, run: RunRecord) -> None:
        if run.id not in self._runs and run.cost_usd:
            self._runs[run.id] = run
            self._charge(run.id, run.cost_usd, None, run.created_at)
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
        spent_since: datetime | None = None,
    ) -> None:
        self._must_exist(run_id)
        given = {"status": status, "node": node, "detail": detail, "cost_usd": cost_usd}
        if status is not None and self._runs[run_id].status in ENDED:
            given = {k: v for k, v in given.items() if k not in ("status", "detail")}
        changes = {k: v for k, v in given.items() if v is not None} | {"updated_at": self._clock.now()}
        self._runs[run_id] = self._runs[run_id].model_copy(update=changes)
        if cost_usd is not None:
            self._charge(run_id, cost_usd, spent_since, self._clock.now())

    def reopen_run(self, run_id: str) -> None:
        if run_id not in self._runs or self._runs[run_id].status not in (RunStatus.ESCALATED, RunStatus.FAILED):
            raise UsageError(f"Run {run_id} is none that failed or was handed over.")
        changes = {"status": RunStatus.RUNNING, "detail": "", "updated_at": self._clock.now()}
        self._runs[run_id] = self._runs[run_id].model_copy(update=changes)

    def _charge(self, run_id: str, total: float, since: datetime | None, now: datetime) -> None:
        mine = {day: row for (run, day), row in self._spending.items() if run == run_id}
        more = total - sum(usd for _, usd, _ in mine.values())
        for day in sorted(mine, reverse=True) if more < 0 else ():
            user, usd, until = mine[day]
            taken = min(usd, -more)
            more += taken
            self._spending[run_id, day] = (user, usd - taken, until)
        if more <= 1e-6:
            return
        begin = min(max([since or now, *(until for _, _, until in mine.values())]), now)
        for day, share in shares(begin, now):
            _, usd, _ = self._spending.get((run_id, day), ("", 0.0, now))
            self._spending[run_id, day] = (self._runs[run_id].user, usd + more * share, now)

    def rooms(self, run_id: str, caps: Sequence[Cap]) -> tuple[Room, ...]:
        return tuple(self._room(run_id, cap) for cap in caps)

    def _room(self, run_id: str, cap: Cap) -> Room:
        spent = [
            usd
            for (_, day), (user, usd, _) in self._spending.items()
            if day >= day_of(cap.since).date().isoformat() and cap.user in (None, user)
        ]
        held = {
            run.id: self._still(run)
            for run in self._runs.values()
            if run.status is RunStatus.RUNNING and run.id != run_id and cap.user in (None, run.user)
        }
        holders = sorted((run for run, usd in held.items() if usd > 1e-6), key=lambda run: (-held[run], run))
        return Room(cap=cap, spent_usd=sum(spent), reserved_usd=sum(held.values()), holders=tuple(holders))

    def _still(self, run: RunRecord) -> float:
        return max(0.0, self._reserved.get(run.id, 0.0) - run.cost_usd)

    def reserve(self, run_id: str, *, need_usd: float, want_usd: float, caps: Sequence[Cap]) -> Reservation:
        self._must_exist(run_id)
        own = self._runs[run_id].cost_usd
        ahead, wanted = max(0.0, need_usd - own), max(0.0, want_usd - own)
        short = min(self.rooms(run_id, caps), key=lambda room: room.left_usd, default=None)
        left = max(ahead, wanted) if short is None else short.left_usd
        if ahead > left + 1e-6:
            return Reservation(short=short)
        self._reserved[run_id] = own + min(max(ahead, wanted), max(left, ahead))
        return Reservation(usd=self._reserved[run_id])

    def reserved_usd(self, run_id: str) -> float | None:
        return self._reserved.get(run_id)

    def spending(self) -> tuple[SpendingRow, ...]:
        found: dict[tuple[str, str], SpendingRow] = {}
        for (_, day), (user, usd, _) in self._spending.items():
            row = found.get((day[:7], user), SpendingRow(month=day[:7], user=user))
            found[day[:7], user] = row.model_copy(update={"spent_usd": row.spent_usd + usd})
        for key in found:
            runs = {run for (run, day), (user, _, _) in self._spending.items() if (day[:7], user) == key}
            found[key] = found[key].model_copy(update={"runs": len(runs)})
        month = self._clock.now().date().isoformat()[:7]
        for run in self._runs.values():
            if run.status is RunStatus.RUNNING and run.id in self._reserved:
                row = found.get((month, run.user), SpendingRow(month=month, user=run.user))
                found[month, run.user] = row.model_copy(update={"reserved_usd": row.reserved_usd + self._still(run)})
        return tuple(sorted(found.values(), key=lambda row: (row.month, row.user), reverse=True))

    def add_measurement(self, measurement: Measurement) -> None:
        self._measured.setdefault(measurement.id, measurement)

    def measurements(self, *, model: str, family: str, method: str, limit: int = 500) -> tuple[Measurement, ...]:
        alike = (m for m in self._measured.values() if m.model == model or (m.family, m.method) == (family, method))
        return tuple(sorted(alike, key=lambda m: m.at)[-limit:])

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

    def save_result(self, result: RunResult) -> None:
        self._must_exist(result.run_id)
        self._results[result.run_id] = result
        self.definitions.update({spec.name: spec for spec in (result.gate.definitions if result.gate else ())})

    def result(self, run_id: str) -> RunResult | None:
        return self._results.get(run_id)

    def results(self, *, family: str | None = None, limit: int = 200) -> tuple[RunResult, ...]:
        found = (r for r in self._results.values() if family in (None, r.family))
        return tuple(sorted(found, key=lambda r: (r.ended_at, r.run_id), reverse=True)[:limit])

    def delete_run(self, run_id: str) -> None:
        self._runs.pop(run_id, None)
        self._events.pop(run_id, None)
        self._reserved.pop(run_id, None)
        self._results.pop(run_id, None)
        self._deployments = {k: d for k, d in self._deployments.items() if d.run_id != run_id}

    def close(self) -> None:
        """There is nothing to let go of."""

    def _must_exist(self, run_id: str) -> None:
        if run_id not in self._runs:
            raise UsageError(f"There is no run {run_id!r}.")
