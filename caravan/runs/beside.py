"""A store beside another one: it has a run of its own, and knows the other's runs without ever writing there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from caravan.ports import Store
from caravan.values.measurement import Measurement
from caravan.values.registry import RunResult
from caravan.values.run import Deployment, RunEvent, RunRecord, RunStatus
from caravan.values.spending import Cap, Reservation, Room, SpendingRow

_SUMS: Final = ("runs", "spent_usd", "reserved_usd")


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
        spent_since: datetime | None = None,
    ) -> None:
        """Change a run of here."""
        self._own.update_run(
            run_id, status=status, node=node, detail=detail, cost_usd=cost_usd, spent_since=spent_since
        )

    def reopen_run(self, run_id: str) -> None:
        """A run of here."""
        self._own.reopen_run(run_id)

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

    def rooms(self, run_id: str, caps: Sequence[Cap]) -> tuple[Room, ...]:
        """What is left with what runs of both have spent and reserved."""
        both = zip(self._own.rooms(run_id, caps), self._earlier.rooms(run_id, caps), strict=True)
        return tuple(
            one.model_copy(
                update={
                    "spent_usd": one.spent_usd + other.spent_usd,
                    "reserved_usd": one.reserved_usd + other.reserved_usd,
                    "holders": (*one.holders, *other.holders),
                }
            )
            for one, other in both
        )

    def reserve(self, run_id: str, *, need_usd: float, want_usd: float, caps: Sequence[Cap]) -> Reservation:
        """Reserve here, under what the runs there leave of each cap."""
        there = self._earlier.rooms(run_id, caps)
        lower = [room.cap.model_copy(update={"usd": room.left_usd}) for room in there]
        answer = self._own.reserve(run_id, need_usd=need_usd, want_usd=want_usd, caps=lower)
        if answer.short is None:
            return answer
        tightest = min(self.rooms(run_id, caps), key=lambda room: room.left_usd)
        return answer.model_copy(update={"short": tightest})

    def reserved_usd(self, run_id: str) -> float | None:
        """What is reserved for the run, here or there."""
        return self._of(run_id).reserved_usd(run_id)

    def spending(self) -> tuple[SpendingRow, ...]:
        """The rows of both, those of one user and month added up."""
        found: dict[tuple[str, str], SpendingRow] = {}
        for row in (*self._own.spending(), *self._earlier.spending()):
            one = found.get((row.month, row.user))
            sums = {} if one is None else {n: getattr(one, n) + getattr(row, n) for n in _SUMS}
            found[row.month, row.user] = row.model_copy(update=sums)
        return tuple(sorted(found.values(), key=lambda row: (row.month, row.user), reverse=True))

    def add_measurement(self, measurement: Measurement) -> None:
        """Store it here."""
        self._own.add_measurement(measurement)

    def measurements(self, *, model: str, family: str, method: str, limit: int = 500) -> tuple[Measurement, ...]:
        """Those of both."""
        known = {"model": model, "family": family, "method": method}
        both = (*self._own.measurements(**known, limit=limit), *self._earlier.measurements(**known, limit=limit))
        return tuple(sorted({one.id: one for one in both}.values(), key=lambda one: one.at)[-limit:])

    def save_result(self, result: RunResult) -> None:
        """Store it here."""
        self._own.save_result(result)

    def result(self, run_id: str) -> RunResult | None:
        """The run's, here or there."""
        return self._of(run_id).result(run_id)

    def results(self, *, family: str | None = None, limit: int = 200) -> tuple[RunResult, ...]:
        """Those of both, the newest first."""
        both = (*self._own.results(family=family, limit=limit), *self._earlier.results(family=family, limit=limit))
        return tuple(sorted(both, key=lambda result: (result.ended_at, result.run_id), reverse=True)[:limit])

    def delete_run(self, run_id: str) -> None:
        """Remove a run of here."""
        self._own.delete_run(run_id)

    def close(self) -> None:
        """Let go of both."""
        self._own.close()
        self._earlier.close()
