"""Results of runs in the database, their metrics as rows, and what the metrics mean.

Each function works in the transaction of its caller. It must not know when a run has ended, nor open a database.
"""

from collections.abc import Iterable

import sqlalchemy as sa

from caravan.runs.database import insert
from caravan.runs.tables import metric_definitions, result_metrics, results
from caravan.values.base import Json
from caravan.values.registry import RunResult
from caravan.values.training import MetricSpec


def save(connection: sa.Connection, result: RunResult) -> None:
    """Store a result in place of what was stored of the run before; the run must be there."""
    row = {"ended_at": result.ended_at, "family": result.family, "document": result.model_dump(mode="json")}
    stored = insert(connection, results).values(run_id=result.run_id, **row)
    connection.execute(stored.on_conflict_do_update(index_elements=["run_id"], set_=row))
    connection.execute(sa.delete(result_metrics).where(result_metrics.c.run_id == result.run_id))
    rows = [{"run_id": result.run_id, "name": name, "value": value} for name, value in result.metrics.items()]
    if rows:
        connection.execute(sa.insert(result_metrics), rows)
    if result.gate is not None:
        define(connection, result.gate.definitions)


def documents(connection: sa.Connection, *, family: str | None, limit: int) -> list[tuple[str, Json]]:
    """Run ids and results as they are stored, the newest first."""
    query = sa.select(results.c.run_id, results.c.document)
    query = query if family is None else query.where(results.c.family == family)
    newest_first = query.order_by(results.c.ended_at.desc(), results.c.run_id.desc()).limit(limit)
    return [(row.run_id, row.document) for row in connection.execute(newest_first)]


def document(connection: sa.Connection, run_id: str) -> Json | None:
    """The run's result as it is stored."""
    return connection.execute(sa.select(results.c.document).where(results.c.run_id == run_id)).scalar()


def define(connection: sa.Connection, definitions: Iterable[MetricSpec]) -> None:
    """Store what metrics mean, in place of what was known of those names; names in order, so that no two wait."""
    for spec in sorted(definitions, key=lambda spec: spec.name):
        stored = insert(connection, metric_definitions).values(name=spec.name, document=spec.model_dump(mode="json"))
        connection.execute(
            stored.on_conflict_do_update(index_elements=["name"], set_={"document": stored.excluded.document})
        )
