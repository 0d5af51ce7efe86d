"""`SqlModelRegistry`: the models that runs have brought forth, their stages and moves, in the store's database.

Every method is one transaction. A model's stage and version stand in their columns; the rest of it is the document.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from pydantic import ValidationError

from caravan.ports import Clock
from caravan.runs import results
from caravan.runs.database import Database, Hold, open_database
from caravan.runs.tables import metric_definitions, model_metrics, models, stage_moves
from caravan.values.errors import StateError
from caravan.values.registry import ModelRef, ModelStage, ModelVersion, StageMove, no_model, parse_ref
from caravan.values.training import MetricSpec

_NAMES: Final = 1000  # names that a mistyped one is compared with


class SqlModelRegistry:
    """The port ModelRegistry on a database that is open, or on the SQLite file at a path.

    Every method may raise StateError or ServiceError for what the database does.
    """

    def __init__(self, place: Path | Database, clock: Clock, *, busy_s: float = 15.0) -> None:
        self._database = place if isinstance(place, Database) else open_database(place, clock, busy_s=busy_s)

    def register(self, model: ModelVersion) -> ModelVersion:
        """Register it under the next version of its name; the model of a registered run comes back as it is."""

        def work(connection: sa.Connection) -> ModelVersion:
            return self._registered(connection, model)

        return self._database.write(work, hold=Hold.MODELS)

    def model(self, ref: str) -> ModelVersion:
        """The model. Raises UsageError for a ref that names nothing."""
        wanted = parse_ref(ref)
        return self._database.read(lambda connection: self._find(connection, wanted))

    def of_run(self, run_id: str) -> ModelVersion | None:
        """The model that the run brought forth."""
        mine = sa.select(models).where(models.c.run_id == run_id)
        return self._database.read(lambda connection: self._one(connection, mine))

    def models(
        self, *, name: str | None = None, stage: ModelStage | None = None, limit: int = 200
    ) -> tuple[ModelVersion, ...]:
        """The newest first."""
        query = sa.select(models)
        query = query if name is None else query.where(models.c.name == name)
        query = query if stage is None else query.where(models.c.stage == stage.value)
        newest_first = query.order_by(models.c.created_at.desc(), models.c.name, models.c.version.desc())
        rows = self._database.read(lambda connection: connection.execute(newest_first.limit(limit)).all())
        return tuple(self._model(row) for row in rows)

    def move(self, ref: str, stage: ModelStage, *, by: str, why: str, at: datetime) -> tuple[StageMove, ...]:
        """Move it to a stage: what moved, it and the one that it takes the place of."""
        wanted = parse_ref(ref)

        def work(connection: sa.Connection) -> tuple[StageMove, ...]:
            model = self._find(connection, wanted)
            if model.stage is stage:
                return ()
            cleared: tuple[StageMove, ...] = ()
            if stage is ModelStage.PRODUCTION:
                cleared = self._clear(connection, model, by=by, why=f"{model.ref} takes its place", at=at)
            return (self._put(connection, model, stage, by=by, why=why, at=at), *cleared)

        # Not repeatable: the second time it would be in that stage already, and what moved would not be told.
        return self._database.write(work, hold=Hold.MODELS, repeatable=False)

    def moves(self, ref: str) -> tuple[StageMove, ...]:
        """Its moves, the oldest first."""
        wanted = parse_ref(ref)

        def work(connection: sa.Connection) -> tuple[StageMove, ...]:
            model = self._find(connection, wanted)
            mine = (stage_moves.c.model == model.name) & (stage_moves.c.version == model.version)
            query = sa.select(stage_moves).where(mine).order_by(stage_moves.c.id)
            return tuple(
                StageMove(ref=model.ref, at=row.at, before=row.before, after=row.after, by=row.by, why=row.why)
                for row in connection.execute(query)
            )

        return self._database.read(work)

    def definitions(self) -> tuple[MetricSpec, ...]:
        """What is known of metrics, by name: those of registered models and of stored results."""
        query = sa.select(metric_definitions.c.document).order_by(metric_definitions.c.name)
        found = self._database.read(lambda connection: connection.execute(query).scalars().all())
        with self._readable("metrics"):
            return tuple(MetricSpec.model_validate(one) for one in found)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def _registered(self, connection: sa.Connection, model: ModelVersion) -> ModelVersion:
        there = self._one(connection, sa.select(models).where(models.c.run_id == model.run_id))
        if there is not None:
            return there
        newest = sa.select(sa.func.max(models.c.version)).where(models.c.name == model.name)
        version = (connection.execute(newest).scalar() or 0) + 1
        added = model.model_copy(update={"version": version})
        if model.stage is ModelStage.PRODUCTION:
            self._clear(connection, added, by=model.by, why=f"{added.ref} takes its place", at=model.created_at)
        document = added.model_dump(mode="json", exclude={"stage"})
        row = {"name": model.name, "version": version, "run_id": model.run_id, "created_at": model.created_at}
        connection.execute(sa.insert(models).values(**row, stage=model.stage.value, document=document))
        figures = [{"model": model.name, "version": version, "name": n, "value": v} for n, v in model.metrics.items()]
        if figures:
            connection.execute(sa.insert(model_metrics), figures)
        results.define(connection, model.definitions)
        first = {"before": None, "after": model.stage, "by": model.by, "why": model.why}
        self._note(connection, added, StageMove(ref=added.ref, at=model.created_at, **first))
        return added

    def _clear(
        self, connection: sa.Connection, model: ModelVersion, *, by: str, why: str, at: datetime
    ) -> tuple[StageMove, ...]:
        """Archive what is in production under the model's name."""
        there = (models.c.name == model.name) & (models.c.stage == ModelStage.PRODUCTION.value)
        rows = connection.execute(sa.select(models).where(there)).all()
        return tuple(
            self._put(connection, self._model(row), ModelStage.ARCHIVED, by=by, why=why, at=at) for row in rows
        )

    def _put(
        self, connection: sa.Connection, model: ModelVersion, stage: ModelStage, *, by: str, why: str, at: datetime
    ) -> StageMove:
        mine = (models.c.name == model.name) & (models.c.version == model.version)
        connection.execute(sa.update(models).where(mine).values(stage=stage.value))
        move = StageMove(ref=model.ref, at=at, before=model.stage, after=stage, by=by, why=why)
        self._note(connection, model, move)
        return move

    def _note(self, connection: sa.Connection, model: ModelVersion, move: StageMove) -> None:
        row = move.model_dump(mode="json", exclude={"ref", "at"})
        connection.execute(sa.insert(stage_moves).values(model=model.name, version=model.version, at=move.at, **row))

    def _find(self, connection: sa.Connection, ref: ModelRef) -> ModelVersion:
        of_name = sa.select(models).where(models.c.name == ref.name).order_by(models.c.version.desc())
        query = of_name if ref.version is None else of_name.where(models.c.version == ref.version)
        query = query if ref.stage is None else query.where(models.c.stage == ref.stage.value)
        found = self._one(connection, query.limit(1))
        if found is not None:
            return found
        names = connection.execute(sa.select(models.c.name).distinct().limit(_NAMES)).scalars()
        versions = [self._model(row) for row in connection.execute(of_name.limit(10))]
        raise no_model(ref, names, versions)

    def _one(self, connection: sa.Connection, query: sa.Select[Any]) -> ModelVersion | None:
        row = connection.execute(query).one_or_none()
        return None if row is None else self._model(row)

    def _model(self, row: sa.Row[Any]) -> ModelVersion:
        with self._readable(f"model {row.name}@{row.version}"):
            return ModelVersion.model_validate({**row.document, "stage": row.stage})

    @contextmanager
    def _readable(self, what: str) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            raise StateError(f"What is stored of {what} does not fit this version.", hint="Update Caravan.") from error
