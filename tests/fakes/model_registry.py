"""A registry of models in memory. It keeps the port's contract and nothing outlives it."""

from datetime import datetime

from caravan.values.registry import ModelRef, ModelStage, ModelVersion, StageMove, no_model, parse_ref
from caravan.values.training import MetricSpec
from tests.fakes.store import MemoryStore


class MemoryRegistry:
    """The port ModelRegistry on lists. `store`: whose results' definitions it knows as well."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._models: list[ModelVersion] = []
        self._moves: list[StageMove] = []
        self._definitions: dict[str, MetricSpec] = {} if store is None else store.definitions

    def register(self, model: ModelVersion) -> ModelVersion:
        there = self.of_run(model.run_id)
        if there is not None:
            return there
        version = 1 + max((m.version for m in self._models if m.name == model.name), default=0)
        added = model.model_copy(update={"version": version})
        if added.stage is ModelStage.PRODUCTION:
            self._clear(added, by=added.by, at=added.created_at)
        self._models.append(added)
        self._definitions.update({spec.name: spec for spec in model.definitions})
        self._moves.append(
            StageMove(ref=added.ref, at=added.created_at, before=None, after=added.stage, by=added.by, why=added.why)
        )
        return added

    def model(self, ref: str) -> ModelVersion:
        return self._find(parse_ref(ref))

    def of_run(self, run_id: str) -> ModelVersion | None:
        return next((model for model in self._models if model.run_id == run_id), None)

    def models(
        self, *, name: str | None = None, stage: ModelStage | None = None, limit: int = 200
    ) -> tuple[ModelVersion, ...]:
        found = [m for m in self._models if name in (None, m.name) and stage in (None, m.stage)]
        found.sort(key=lambda m: (-m.created_at.timestamp(), m.name, -m.version))
        return tuple(found[:limit])

    def move(self, ref: str, stage: ModelStage, *, by: str, why: str, at: datetime) -> tuple[StageMove, ...]:
        model = self._find(parse_ref(ref))
        if model.stage is stage:
            return ()
        cleared = self._clear(model, by=by, at=at) if stage is ModelStage.PRODUCTION else ()
        return (self._put(model, stage, by=by, why=why, at=at), *cleared)

    def moves(self, ref: str) -> tuple[StageMove, ...]:
        model = self._find(parse_ref(ref))
        return tuple(move for move in self._moves if move.ref == model.ref)

    def definitions(self) -> tuple[MetricSpec, ...]:
        return tuple(self._definitions[name] for name in sorted(self._definitions))

    def close(self) -> None:
        """There is nothing to let go of."""

    def _clear(self, model: ModelVersion, *, by: str, at: datetime) -> tuple[StageMove, ...]:
        there = [m for m in self._models if m.name == model.name and m.stage is ModelStage.PRODUCTION]
        why = f"{model.ref} takes its place"
        return tuple(self._put(m, ModelStage.ARCHIVED, by=by, why=why, at=at) for m in there)

    def _put(self, model: ModelVersion, stage: ModelStage, *, by: str, why: str, at: datetime) -> StageMove:
        self._models[self._models.index(model)] = model.model_copy(update={"stage": stage})
        self._moves.append(StageMove(ref=model.ref, at=at, before=model.stage, after=stage, by=by, why=why))
        return self._moves[-1]

    def _find(self, ref: ModelRef) -> ModelVersion:
        mine = sorted((m for m in self._models if m.name == ref.name), key=lambda m: -m.version)
        found = [m for m in mine if ref.version in (None, m.version) and ref.stage in (None, m.stage)]
        if found:
            return found[0]
        raise no_model(ref, {m.name for m in self._models}, mine)
