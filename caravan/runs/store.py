"""`SqlStore`: runs, deployments and events in SQLite or PostgreSQL, shared by several processes.

Every method is one transaction and may be repeated without harm. What the rows mean is known here alone; how the
database is opened, migrated and locked is not (`database.py`).
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from caravan.ports import Clock
from caravan.runs import ledger
from caravan.runs import results as outcomes
from caravan.runs.columns import AnyText
from caravan.runs.database import Database, Hold, insert, open_database
from caravan.runs.rows import clean_text, deployments_of, events_of, no_single_run, readable, record_of
from caravan.runs.tables import deployments, events, measurements, runs
from caravan.values.base import sha256_text
from caravan.values.errors import StateError, UsageError
from caravan.values.measurement import Measurement
from caravan.values.registry import RunResult
from caravan.values.run import ENDED, Deployment, RunEvent, RunRecord, RunStatus
from caravan.values.spending import Cap, Reservation, Room, SpendingRow

_NAMED_IN_ERROR: Final = 5  # run ids listed when a prefix is ambiguous

_ENDED = frozenset(status.value for status in ENDED)


class SqlStore:
    """The port Store on a database that is open, or on the SQLite file at a path, made or migrated when it is opened.

    `busy_s`: seconds to wait while another process writes. Every method may raise StateError (the database is
    locked for too long, read-only, damaged, or the disk is full) or ServiceError (its server can't be reached).
    """

    def __init__(self, place: Path | Database, clock: Clock, *, busy_s: float = 15.0) -> None:
        self._clock = clock
        self._database = place if isinstance(place, Database) else open_database(place, clock, busy_s=busy_s)

    def create_run(self, run: RunRecord) -> None:
        """Store a new run; the same request under the same id again is no error. Raises StateError otherwise."""
        values = run.model_dump(mode="json") | {"created_at": run.created_at, "updated_at": run.updated_at}

        def work(connection: sa.Connection) -> None:
            row = insert(connection, runs).values(values).on_conflict_do_nothing()
            if not connection.execute(row, execution_options={"preserve_rowcount": True}).rowcount:
                stored = connection.execute(sa.select(runs).where(runs.c.id == run.id)).one_or_none()
                if stored is None or record_of(stored._asdict()).request != run.request:
                    raise StateError(f"The run id {run.id} is taken by another request.", hint="Start the run again.")
            elif run.cost_usd:
                ledger.charge(connection, run.id, run.cost_usd, None, run.created_at)

        self._database.write(work, hold=Hold.MONEY_CHANGES)

    def run(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one whose id begins so. Raises UsageError when there is none or several."""
        wanted = clean_text(run_id)

        def work(connection: sa.Connection) -> Sequence[sa.Row[Any]]:
            found = connection.execute(sa.select(runs).where(runs.c.id == wanted)).all()
            if found or not wanted:
                return found
            begins_so = sa.func.substr(runs.c.id, 1, len(wanted), type_=AnyText) == wanted
            newest_first = sa.select(runs).where(begins_so).order_by(runs.c.created_at.desc(), runs.c.id)
            return connection.execute(newest_first.limit(_NAMED_IN_ERROR)).all()

        several = self._database.read(work)
        if len(several) == 1:
            return record_of(several[0]._asdict())
        raise no_single_run(run_id, [row.id for row in several])

    def runs(self, *, limit: int = 50) -> tuple[RunRecord, ...]:
        """The newest runs first."""
        newest_first = sa.select(runs).order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)
        return tuple(record_of(row._asdict()) for row in self._database.read(lambda c: c.execute(newest_first).all()))

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
        """Change the given fields and `updated_at`. Raises UsageError for an unknown run.

        A run that has ended keeps its status, and the detail that belongs to it, whoever ended it. What `cost_usd` is
        more than before counts for the days since `spent_since` or since it was told last.
        """
        given = {"status": status and status.value, "node": node, "detail": detail, "cost_usd": cost_usd}
        changes = {name: value for name, value in given.items() if value is not None}
        mine = runs.c.id == run_id

        def work(connection: sa.Connection) -> None:
            # The row is locked: of two that tell of a run at once, the second sees what the first has told.
            now = connection.execute(sa.select(runs.c.status).where(mine).with_for_update()).scalar()
            if now is None:
                raise no_single_run(run_id, [])
            kept = {"status", "detail"} if status is not None and now in _ENDED else set()
            values = {name: value for name, value in changes.items() if name not in kept}
            connection.execute(sa.update(runs).where(mine).values(**values, updated_at=self._clock.now()))
            if cost_usd is not None:
                ledger.charge(connection, run_id, cost_usd, spent_since, self._clock.now())

        self._database.write(work, hold=Hold.MONEY_CHANGES)

    def reopen_run(self, run_id: str) -> None:
        """A run that failed or was handed over runs again. Raises UsageError for one that did neither."""
        values = {"status": RunStatus.RUNNING.value, "detail": "", "updated_at": self._clock.now()}
        taken_up = [RunStatus.ESCALATED.value, RunStatus.FAILED.value]
        chosen = sa.update(runs).where(runs.c.id == run_id, runs.c.status.in_(taken_up)).values(values)

        def work(connection: sa.Connection) -> None:
            if connection.execute(chosen).rowcount != 1:
                raise UsageError(f"Run {run_id} is none that failed or was handed over.", hint="Start a new one.")

        # Not repeatable: the second time it would be running already, and be refused.
        self._database.write(work, hold=Hold.MONEY_CHANGES, repeatable=False)

    def intend(self, deployment: Deployment) -> Deployment:
        """Store the intent to deploy; what is stored comes back, which may be further on after a crash.

        Raises StateError when that job id is stored with another spec, UsageError for an unknown run.
        """

        def work(connection: sa.Connection) -> Deployment | None:
            self._must_exist(connection, deployment.run_id)
            row = insert(connection, deployments).values(self._row(deployment))
            connection.execute(row.on_conflict_do_nothing())
            return self._stored(connection, deployment.job_id)

        stored = self._database.write(work)
        if stored is None or stored.spec_sha256 != deployment.spec_sha256 or stored.run_id != deployment.run_id:
            raise StateError(
                f"The job {deployment.job_id} is already stored with another specification.",
                hint="Start a new run for the changed plan.",
            )
        return stored

    def save_deployment(self, deployment: Deployment) -> None:
        """Replace a stored deployment (matched by its job id). Raises StateError when it was never intended."""
        mine = sa.update(deployments).where(deployments.c.job_id == deployment.job_id)
        update = mine.values(self._row(deployment))
        if not self._database.write(lambda connection: connection.execute(update).rowcount):
            raise StateError(f"The job {deployment.job_id} was never stored as intended.")

    def deployments(self, run_id: str) -> tuple[Deployment, ...]:
        """The run's deployments in the order of their attempts."""
        query = sa.select(deployments.c.document).where(deployments.c.run_id == run_id)
        in_order = query.order_by(deployments.c.attempt, deployments.c.job_id)
        found = self._database.read(lambda connection: connection.execute(in_order).scalars().all())
        return deployments_of(run_id, found)

    def add_event(self, run_id: str, event: RunEvent) -> None:
        """Append an event; one with equal time, kind and text is stored once. Raises UsageError: unknown run."""
        values = _clean(event.model_dump(mode="json")) | {"at": event.at, "run_id": run_id}
        values["text_sha256"] = sha256_text(values["text"])

        def work(connection: sa.Connection) -> None:
            self._must_exist(connection, run_id)
            connection.execute(insert(connection, events).values(values).on_conflict_do_nothing())

        self._database.write(work)

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        """The run's events in order of time."""
        query = sa.select(events.c.at, events.c.kind, events.c.text, events.c.data).where(events.c.run_id == run_id)
        in_order = query.order_by(events.c.at, events.c.id)
        found = self._database.read(lambda connection: connection.execute(in_order).all())
        return events_of(run_id, (row._asdict() for row in found))

    def spent_usd(self, *, since: datetime | None = None) -> float:
        """What all runs that began since then have cost, in US dollars."""
        total = sa.select(sa.func.coalesce(sa.func.sum(runs.c.cost_usd), 0.0))
        query = total if since is None else total.where(runs.c.created_at >= since)
        return float(self._database.read(lambda connection: connection.execute(query).scalar_one()))

    def rooms(self, run_id: str, caps: Sequence[Cap]) -> tuple[Room, ...]:
        """What is left under each cap for that run, in their order."""
        return self._database.read(lambda connection: ledger.rooms(connection, run_id, caps))

    def reserve(self, run_id: str, *, need_usd: float, want_usd: float, caps: Sequence[Cap]) -> Reservation:
        """Reserve for the whole run what is wanted, or less down to what is needed. Raises UsageError: unknown run."""

        def work(connection: sa.Connection) -> Reservation:
            self._must_exist(connection, run_id)
            now = self._clock.now()
            return ledger.reserve(connection, run_id, need_usd=need_usd, want_usd=want_usd, caps=caps, now=now)

        return self._database.write(work, hold=Hold.MONEY)

    def reserved_usd(self, run_id: str) -> float | None:
        """What is reserved for the whole run; None: nothing was."""
        return self._database.read(lambda connection: ledger.reserved(connection, run_id))

    def spending(self) -> tuple[SpendingRow, ...]:
        """What each user's runs have spent in each month, the newest month first."""
        return self._database.read(lambda connection: ledger.spending_rows(connection, self._clock.now()))

    def add_measurement(self, measurement: Measurement) -> None:
        """Store what a run was seen to need, once for its id."""
        document = measurement.model_dump(mode="json")
        columns = {name: document[name] for name in ("id", "run_id", "model", "family", "method")}
        values = columns | {"at": measurement.at, "document": document}
        self._database.write(
            lambda connection: connection.execute(
                insert(connection, measurements).values(values).on_conflict_do_nothing()
            )
        )

    def measurements(self, *, model: str, family: str, method: str, limit: int = 500) -> tuple[Measurement, ...]:
        """The newest of the model, and of others of its family under the same method; the oldest first."""
        alike = (measurements.c.family == family) & (measurements.c.method == method)
        wanted = sa.or_(measurements.c.model == model, alike)
        newest = sa.select(measurements).where(wanted).order_by(measurements.c.at.desc(), measurements.c.id)
        rows = self._database.read(lambda connection: connection.execute(newest.limit(limit)).all())
        found = []
        for row in reversed(rows):
            with readable(row.run_id):
                found.append(Measurement.model_validate(row.document))
        return tuple(found)

    def save_result(self, result: RunResult) -> None:
        """Store what a run came to, in place of what was stored of it before. Raises UsageError for an unknown run."""

        def work(connection: sa.Connection) -> None:
            self._must_exist(connection, result.run_id, locked=True)
            outcomes.save(connection, result)

        self._database.write(work)

    def result(self, run_id: str) -> RunResult | None:
        """What the run came to; None while it has not ended, or ended before results were kept."""
        document = self._database.read(lambda connection: outcomes.document(connection, run_id))
        with readable(run_id):
            return None if document is None else RunResult.model_validate(document)

    def results(self, *, family: str | None = None, limit: int = 200) -> tuple[RunResult, ...]:
        """The newest results first; `family`: those of runs whose plans differ in their seed alone."""
        rows = self._database.read(lambda connection: outcomes.documents(connection, family=family, limit=limit))
        found = []
        for run_id, document in rows:
            with readable(run_id):
                found.append(RunResult.model_validate(document))
        return tuple(found)

    def delete_run(self, run_id: str) -> None:
        """Remove a run with its deployments, events and result. A run that is not there is no error.

        What it has spent, what was measured in it and the model that it brought forth stay.
        """
        gone = sa.delete(runs).where(runs.c.id == run_id)
        self._database.write(lambda connection: connection.execute(gone), hold=Hold.MONEY_CHANGES)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def _row(self, deployment: Deployment) -> dict[str, Any]:
        document = _clean(deployment.model_dump(mode="json"))
        columns = {name: document[name] for name in ("job_id", "run_id", "attempt", "state", "spec_sha256")}
        return columns | {"updated_at": self._clock.now(), "document": document}

    def _stored(self, connection: sa.Connection, job_id: str) -> Deployment | None:
        query = sa.select(deployments.c.document).where(deployments.c.job_id == job_id)
        document = connection.execute(query).scalar_one_or_none()
        with readable(job_id):
            return None if document is None else Deployment.model_validate(document)

    def _must_exist(self, connection: sa.Connection, run_id: str, *, locked: bool = False) -> None:
        """The run is there, and stays until the transaction ends; `locked`: nobody else writes to it meanwhile."""
        row = sa.select(runs.c.id).where(runs.c.id == run_id)
        row = row.with_for_update() if locked else row.with_for_update(read=True, key_share=True)
        if connection.execute(row).one_or_none() is None:
            raise no_single_run(run_id, [])


def _clean(values: dict[str, Any]) -> dict[str, Any]:
    return {name: clean_text(value) if isinstance(value, str) else value for name, value in values.items()}
