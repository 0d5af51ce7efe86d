"""A store of which looking needs no SQLAlchemy: its import costs many times what `runs` and `show` read.

What they ask is read by Python's own driver from a SQLite file that has the newest schema. Whatever else is asked, and
whatever goes wrong, is the whole store's: it makes, migrates, writes and explains, so that both never differ. Once that
one is open, all is read there. The tables are those of `tables.py`; a test compares the columns.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from caravan.runs.migrating import HEAD, REVISION
from caravan.runs.rows import clean_text, deployments_of, events_of, no_single_run, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from caravan.ports import Store
    from caravan.values.measurement import Measurement
    from caravan.values.record import Deployment, RunEvent, RunRecord, RunStatus
    from caravan.values.registry import RunResult
    from caravan.values.spending import Cap, Reservation, Room, SpendingRow

TIMES: Final = frozenset({"created_at", "updated_at", "at"})
"""Columns that are read here and hold times in UTC."""
DOCUMENTS: Final = frozenset({"request", "document", "data"})
"""Those that hold JSON."""
COLUMNS: Final = {
    "runs": ("id", "created_at", "updated_at", "status", "node", "detail", "cost_usd", "request", "user"),
    "deployments": ("document",),
    "events": ("at", "kind", "text", "data"),
    "reservations": ("usd",),
}
"""Table → what is read of it."""

_NAMED: Final = 5  # run ids that an error lists, as the whole store's does
_BUSY_S: Final = 5.0
_ONE: Final = "WHERE id = ?"
_BEGINS_SO: Final = "WHERE substr(id, 1, ?) = ? ORDER BY created_at DESC, id LIMIT ?"
_NEWEST: Final = "ORDER BY created_at DESC, id DESC LIMIT ?"
_ATTEMPTS: Final = "WHERE run_id = ? ORDER BY attempt, job_id"
_TOLD: Final = "WHERE run_id = ? ORDER BY at, id"
_OF_RUN: Final = "WHERE run_id = ?"


class LookingStore:
    """The port Store over the SQLite file at `path`; `whole` makes the one that can do everything with it."""

    def __init__(self, path: Path, whole: Callable[[], Store]) -> None:
        self._path = path
        self._make = whole

    @cached_property
    def _whole(self) -> Store:
        return self._make()

    def _rows(self, table: str, chosen: str, *values: object) -> list[Mapping[str, Any]] | None:
        """The chosen rows as they were given to the store; None: that is for the whole store to say."""
        if "_whole" in vars(self):
            return None
        try:
            return _read(self._path, table, chosen, values)
        except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError):  # it explains what is wrong
            return None

    def run(self, run_id: str) -> RunRecord:
        """As the whole store does."""
        wanted = clean_text(run_id)
        found = self._rows("runs", _ONE, wanted)
        if not found and wanted:
            found = self._rows("runs", _BEGINS_SO, len(wanted), wanted, _NAMED)
        if found is None:
            return self._whole.run(run_id)
        if len(found) == 1:
            return record_of(found[0])
        raise no_single_run(run_id, [row["id"] for row in found])

    def runs(self, *, limit: int = 50) -> tuple[RunRecord, ...]:
        """As the whole store does."""
        found = self._rows("runs", _NEWEST, limit)
        return self._whole.runs(limit=limit) if found is None else tuple(map(record_of, found))

    def deployments(self, run_id: str) -> tuple[Deployment, ...]:
        """As the whole store does."""
        found = self._rows("deployments", _ATTEMPTS, run_id)
        if found is None:
            return self._whole.deployments(run_id)
        return deployments_of(run_id, (row["document"] for row in found))

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        """As the whole store does."""
        found = self._rows("events", _TOLD, run_id)
        return self._whole.events(run_id) if found is None else events_of(run_id, found)

    def reserved_usd(self, run_id: str) -> float | None:
        """As the whole store does."""
        found = self._rows("reservations", _OF_RUN, run_id)
        if found is None:
            return self._whole.reserved_usd(run_id)
        return float(found[0]["usd"]) if found else None

    # What follows is the whole store's alone.

    def create_run(self, run: RunRecord) -> None:
        """Store a new run."""
        self._whole.create_run(run)

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
        """Change a run."""
        self._whole.update_run(
            run_id, status=status, node=node, detail=detail, cost_usd=cost_usd, spent_since=spent_since
        )

    def reopen_run(self, run_id: str) -> None:
        """An ended run runs again."""
        self._whole.reopen_run(run_id)

    def intend(self, deployment: Deployment) -> Deployment:
        """Store the intent to deploy."""
        return self._whole.intend(deployment)

    def save_deployment(self, deployment: Deployment) -> None:
        """Replace a stored deployment."""
        self._whole.save_deployment(deployment)

    def add_event(self, run_id: str, event: RunEvent) -> None:
        """Append an event."""
        self._whole.add_event(run_id, event)

    def spent_usd(self, *, since: datetime | None = None) -> float:
        """What all runs since then have cost."""
        return self._whole.spent_usd(since=since)

    def rooms(self, run_id: str, caps: Sequence[Cap]) -> tuple[Room, ...]:
        """What is left under each cap."""
        return self._whole.rooms(run_id, caps)

    def reserve(self, run_id: str, *, need_usd: float, want_usd: float, caps: Sequence[Cap]) -> Reservation:
        """Reserve for the whole run."""
        return self._whole.reserve(run_id, need_usd=need_usd, want_usd=want_usd, caps=caps)

    def spending(self) -> tuple[SpendingRow, ...]:
        """What users have spent in each month."""
        return self._whole.spending()

    def add_measurement(self, measurement: Measurement) -> None:
        """Store what a run was seen to need."""
        self._whole.add_measurement(measurement)

    def measurements(self, *, model: str, family: str, method: str, limit: int = 500) -> tuple[Measurement, ...]:
        """What runs were seen to need."""
        return self._whole.measurements(model=model, family=family, method=method, limit=limit)

    def save_result(self, result: RunResult) -> None:
        """Store what a run came to."""
        self._whole.save_result(result)

    def result(self, run_id: str) -> RunResult | None:
        """What the run came to."""
        return self._whole.result(run_id)

    def results(self, *, family: str | None = None, limit: int = 200) -> tuple[RunResult, ...]:
        """The newest results."""
        return self._whole.results(family=family, limit=limit)

    def delete_run(self, run_id: str) -> None:
        """Remove a run."""
        self._whole.delete_run(run_id)

    def close(self) -> None:
        """Let go of the database, where it was opened."""
        if "_whole" in vars(self):
            self._whole.close()


def _read(path: Path, table: str, chosen: str, values: Sequence[object]) -> list[Mapping[str, Any]] | None:
    """The rows; None where the file is empty or has another schema. Raises sqlite3.Error, OSError, ValueError."""
    if not path.stat().st_size:
        return None  # with a journal beside it, it is damaged: SQLite would not say so
    columns = COLUMNS[table]
    query = f"SELECT {', '.join(columns)} FROM {table} {chosen}"  # noqa: S608 (constants of this module)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as connection:
        connection.execute("BEGIN")  # schema and rows at one moment
        if connection.execute(REVISION).fetchone() != (HEAD,):
            return None
        found = connection.execute(query, tuple(values)).fetchall()
    return [{name: _value(name, value) for name, value in zip(columns, row, strict=True)} for row in found]


def _value(name: str, value: Any) -> Any:
    if name in TIMES:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return json.loads(value) if name in DOCUMENTS else value
