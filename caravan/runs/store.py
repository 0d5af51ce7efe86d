"""`SqlStore`: runs, deployments and events in SQLite, shared by several processes.

Every method is one transaction and may be repeated without harm. What the rows mean is known here alone; how the
database is opened and migrated is not (`database.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects.sqlite import insert

from caravan.ports import Clock
from caravan.runs import ledger
from caravan.runs import results as outcomes
from caravan.runs.database import WRITES, open_database, state_errors
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
    """The port Store on the SQLite database at `path`, which is made or migrated when the store is opened.

    `busy_s`: seconds to wait while another process writes. Every method may raise StateError: the database is
    locked for too long, read-only, damaged, or the disk is full.
    """

    def __init__(self, path: Path, clock: Clock, *, busy_s: float = 15.0) -> None:
        self._path = path
        self._clock = clock
        self._engine = open_database(path, busy_s=busy_s)

    def create_run(self, run: RunRecord) -> None:
        """Store a new run; the same request under the same id again is no error. Raises StateError otherwise."""
        values = run.model_dump(mode="json") | {"created_at": run.created_at, "updated_at": run.updated_at}
        with self._writing() as connection:
            added = connection.execute(insert(runs).values(_clean(values)).on_conflict_do_nothing()).rowcount
            if not added:
                stored = connection.execute(sa.select(runs).where(runs.c.id == run.id)).one()
                if self._record(stored).request != run.request:
                    raise StateError(f"The run id {run.id} is taken by another request.", hint="Start the run again.")
            elif run.cost_usd:
                ledger.charge(connection, run.id, run.cost_usd, None, run.created_at)

    def run(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one whose id begins so. Raises UsageError when there is none or several."""
        wanted = _clean_text(run_id)
        with self._reading() as connection:
            found = connection.execute(sa.select(runs).where(runs.c.id == wanted)).one_or_none()
            if found is not None:
                return self._record(found)
            begins_so = sa.func.substr(runs.c.id, 1, len(wanted)) == wanted
            newest_first = sa.select(runs).where(begins_so).order_by(runs.c.created_at.desc(), runs.c.id)
            several = connection.execute(newest_first.limit(_NAMED_IN_ERROR)).all() if wanted else []
        if len(several) == 1:
            return self._record(several[0])
        raise no_single_run(run_id, [row.id for row in several])

    def runs(self, *, limit: int = 50) -> tuple[RunRecord, ...]:
        """The newest runs first."""
        newest_first = sa.select(runs).order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return tuple(self._record(row) for row in connection.execute(newest_first))

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
        with self._writing() as connection:
            now = connection.execute(sa.select(runs.c.status).where(runs.c.id == run_id)).scalar()
            if now is None:
                raise no_single_run(run_id, [])
            if status is not None and now in _ENDED:
                changes = {name: value for name, value in changes.items() if name not in ("status", "detail")}
            values = _clean(changes) | {"updated_at": self._clock.now()}
            connection.execute(sa.update(runs).where(runs.c.id == run_id).values(values))
            if cost_usd is not None:
                ledger.charge(connection, run_id, cost_usd, spent_since, self._clock.now())

    def reopen_run(self, run_id: str) -> None:
        """A run that failed or was handed over runs again. Raises UsageError for one that did neither."""
        values = {"status": RunStatus.RUNNING.value, "detail": "", "updated_at": self._clock.now()}
        taken_up = [RunStatus.ESCALATED.value, RunStatus.FAILED.value]
        with self._writing() as connection:
            chosen = sa.update(runs).where(runs.c.id == run_id, runs.c.status.in_(taken_up))
            if connection.execute(chosen.values(values)).rowcount != 1:
                raise UsageError(f"Run {run_id} is none that failed or was handed over.", hint="Start a new one.")

    def intend(self, deployment: Deployment) -> Deployment:
        """Store the intent to deploy; what is stored comes back, which may be further on after a crash.

        Raises StateError when that job id is stored with another spec, UsageError for an unknown run.
        """
        with self._writing() as connection:
            self._must_exist(connection, deployment.run_id)
            connection.execute(insert(deployments).values(self._row(deployment)).on_conflict_do_nothing())
            stored = self._stored(connection, deployment.job_id)
        if stored is None or stored.spec_sha256 != deployment.spec_sha256 or stored.run_id != deployment.run_id:
            raise StateError(
                f"The job {deployment.job_id} is already stored with another specification.",
                hint="Start a new run for the changed plan.",
            )
        return stored

    def save_deployment(self, deployment: Deployment) -> None:
        """Replace a stored deployment (matched by its job id). Raises StateError when it was never intended."""
        update = sa.update(deployments).where(deployments.c.job_id == deployment.job_id)
        with self._writing() as connection:
            if not connection.execute(update.values(self._row(deployment))).rowcount:
                raise StateError(f"The job {deployment.job_id} was never stored as intended.")

    def deployments(self, run_id: str) -> tuple[Deployment, ...]:
        """The run's deployments in the order of their attempts."""
        query = sa.select(deployments.c.document).where(deployments.c.run_id == run_id)
        in_order = query.order_by(deployments.c.attempt, deployments.c.job_id)
        with self._reading() as connection, self._readable(run_id):
            return tuple(Deployment.model_validate(d) for d in connection.execute(in_order).scalars())

    def add_event(self, run_id: str, event: RunEvent) -> None:
        """Append an event; one with equal time, kind and text is stored once. Raises UsageError: unknown run."""
        values = _clean(event.model_dump(mode="json")) | {"at": event.at, "run_id": run_id}
        values["text_sha256"] = sha256_text(values["text"])
        with self._writing() as connection:
            self._must_exist(connection, run_id)
            connection.execute(insert(events).values(values).on_conflict_do_nothing())

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        """The run's events in order of time."""
        query = sa.select(events.c.at, events.c.kind, events.c.text, events.c.data).where(events.c.run_id == run_id)
        with self._reading() as connection, self._readable(run_id):
            rows = connection.execute(query.order_by(events.c.at, events.c.id))
            return tuple(RunEvent.model_validate(dict(row._mapping)) for row in rows)

    def spent_usd(self, *, since: datetime | None = None) -> float:
        """What all runs that began since then have cost, in US dollars."""
        total = sa.select(sa.func.coalesce(sa.func.sum(runs.c.cost_usd), 0.0))
        with self._reading() as connection:
            return float(
                connection.execute(total if since is None else total.where(runs.c.created_at >= since)).scalar_one()
            )

    def rooms(self, run_id: str, caps: Sequence[Cap]) -> tuple[Room, ...]:
        """What is left under each cap for that run, in their order."""
        with self._reading() as connection:
            return ledger.rooms(connection, run_id, caps)

    def reserve(self, run_id: str, *, need_usd: float, want_usd: float, caps: Sequence[Cap]) -> Reservation:
        """Reserve for the whole run what is wanted, or less down to what is needed. Raises UsageError: unknown run."""
        with self._writing() as connection:
            self._must_exist(connection, run_id)
            now = self._clock.now()
            return ledger.reserve(connection, run_id, need_usd=need_usd, want_usd=want_usd, caps=caps, now=now)

    def reserved_usd(self, run_id: str) -> float | None:
        """What is reserved for the whole run; None: nothing was."""
        with self._reading() as connection:
            return ledger.reserved(connection, run_id)

    def spending(self) -> tuple[SpendingRow, ...]:
        """What each user's runs have spent in each month, the newest month first."""
        with self._reading() as connection:
            return ledger.spending_rows(connection, self._clock.now())

    def add_measurement(self, measurement: Measurement) -> None:
        """Store what a run was seen to need, once for its id."""
        document = measurement.model_dump(mode="json")
        columns = {name: document[name] for name in ("id", "run_id", "model", "family", "method")}
        values = _clean(columns) | {"at": measurement.at, "document": document}
        with self._writing() as connection:
            connection.execute(insert(measurements).values(values).on_conflict_do_nothing())

    def measurements(self, *, model: str, family: str, method: str, limit: int = 500) -> tuple[Measurement, ...]:
        """The newest of the model, and of others of its family under the same method; the oldest first."""
        alike = (measurements.c.family == family) & (measurements.c.method == method)
        wanted = sa.or_(measurements.c.model == model, alike)
        newest = sa.select(measurements).where(wanted).order_by(measurements.c.at.desc(), measurements.c.id)
        with self._reading() as connection:
            rows = connection.execute(newest.limit(limit)).all()
        found = []
        for row in reversed(rows):
            with self._readable(row.run_id):
                found.append(Measurement.model_validate(row.document))
        return tuple(found)

    def save_result(self, result: RunResult) -> None:
        """Store what a run came to, in place of what was stored of it before. Raises UsageError for an unknown run."""
        with self._writing() as connection:
            self._must_exist(connection, result.run_id)
            outcomes.save(connection, result)

    def result(self, run_id: str) -> RunResult | None:
        """What the run came to; None while it has not ended, or ended before results were kept."""
        with self._reading() as connection:
            document = outcomes.document(connection, _clean_text(run_id))
        with self._readable(run_id):
            return None if document is None else RunResult.model_validate(document)

    def results(self, *, family: str | None = None, limit: int = 200) -> tuple[RunResult, ...]:
        """The newest results first; `family`: those of runs whose plans differ in their seed alone."""
        with self._reading() as connection:
            rows = outcomes.documents(connection, family=family, limit=limit)
        found = []
        for run_id, document in rows:
            with self._readable(run_id):
                found.append(RunResult.model_validate(document))
        return tuple(found)

    def delete_run(self, run_id: str) -> None:
        """Remove a run with its deployments, events and result. A run that is not there is no error.

        What it has spent, what was measured in it and the model that it brought forth stay.
        """
        with self._writing() as connection:
            connection.execute(sa.delete(runs).where(runs.c.id == run_id))

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with state_errors(self._path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        # The write lock is taken at once, so that what is read in the transaction still holds when it writes.
        with state_errors(self._path), self._engine.execution_options(**{WRITES: True}).begin() as connection:
            yield connection

    @contextmanager
    def _readable(self, run_id: str) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            raise StateError(
                f"What is stored of the run {run_id} does not fit this version.",
                hint="Update Caravan, or set CARAVAN_HOME to another directory.",
            ) from error

    def _record(self, row: sa.Row[Any]) -> RunRecord:
        with self._readable(row.id):
            return RunRecord.model_validate(dict(row._mapping))

    def _row(self, deployment: Deployment) -> dict[str, Any]:
        document = _clean(deployment.model_dump(mode="json"))
        columns = {name: document[name] for name in ("job_id", "run_id", "attempt", "state", "spec_sha256")}
        return columns | {"updated_at": self._clock.now(), "document": document}

    def _stored(self, connection: sa.Connection, job_id: str) -> Deployment | None:
        query = sa.select(deployments.c.document).where(deployments.c.job_id == job_id)
        document = connection.execute(query).scalar_one_or_none()
        with self._readable(job_id):
            return None if document is None else Deployment.model_validate(document)

    def _must_exist(self, connection: sa.Connection, run_id: str) -> None:
        if connection.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).one_or_none() is None:
            raise no_single_run(run_id, [])


def no_single_run(run_id: str, several: list[str]) -> UsageError:
    """The error for an id that names no run, or several (`several`: the ids that begin so)."""
    shown = run_id.encode("utf-8", "replace").decode("utf-8")
    if several:
        return UsageError(
            f"Several runs begin with {shown!r}: {', '.join(sorted(several))}.", hint="Give more of the id."
        )
    return UsageError(f"There is no run {shown!r}.", hint="`main.py runs` lists them.")


def _clean(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _clean_text(value) if isinstance(value, str) else value for name, value in values.items()}


def _clean_text(text: str) -> str:
    """Text that SQLite can keep: file names and arguments may hold lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
