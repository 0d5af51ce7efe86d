"""What every ModelRegistry does: the real one and the fake pass the same tests."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from caravan.ports import ModelRegistry, Store
from caravan.runs.database import open_database
from caravan.runs.model_registry import SqlModelRegistry
from caravan.runs.store import SqlStore
from caravan.values.errors import UsageError
from caravan.values.evaluation import GateReport, GateVerdict
from caravan.values.registry import ModelFile, ModelFiles, ModelStage, ModelVersion, RunResult
from caravan.values.run import RunRecord, RunRequest, RunStatus
from caravan.values.training import MetricSpec
from tests.fakes.clock import FakeClock
from tests.fakes.model_registry import MemoryRegistry
from tests.fakes.store import MemoryStore

START = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
BY = {"by": "ada", "why": "it is better"}


@pytest.fixture(params=["sql", "postgresql", "memory"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, ModelRegistry]]:
    """A store, and the registry in its database."""
    clock = FakeClock(START)
    if request.param == "memory":
        kept = MemoryStore(clock)
        yield kept, MemoryRegistry(kept)
        return
    place = request.getfixturevalue("postgres") if request.param == "postgresql" else tmp_path / "caravan.db"
    database = open_database(place, clock)
    yield SqlStore(database, clock), SqlModelRegistry(database, clock)
    database.close()


@pytest.fixture
def registry(both: tuple[Store, ModelRegistry]) -> ModelRegistry:
    return both[1]


def model(run_id: str = "r-1", name: str = "tiny", *, minutes: int = 0, **more: Any) -> ModelVersion:
    fields: dict[str, Any] = {
        "files": ModelFiles(
            address="s3://models/tiny", files=(ModelFile(path="model.safetensors", bytes=12, sha256="a" * 64),)
        ),
        "metrics": {"eval_loss": 0.1 + 0.2, "accuracy": 0.75},
        "base_metrics": {"eval_loss": 2.0},
        "definitions": (MetricSpec(name="eval_loss", unit="nats"), MetricSpec(name="accuracy", direction="max")),
        "gate": GateReport(verdict=GateVerdict.PASS, metrics={"eval_loss": 0.3}),
        "plan_sha256": "b" * 64,
        "by": "caravan",
        "why": "file \x00 name",
    }
    at = START + timedelta(minutes=minutes)
    return ModelVersion(name=name, run_id=run_id, created_at=at, **{**fields, **more})


def test_a_model_comes_back_as_it_was_registered(registry: ModelRegistry) -> None:
    added = registry.register(model())
    assert added == model().model_copy(update={"version": 1})
    for ref in ("tiny", "tiny@1", "tiny@v1", "tiny@candidate"):
        assert registry.model(ref) == added
    assert registry.of_run("r-1") == added
    assert registry.of_run("r-2") is None


def test_versions_count_within_a_name(registry: ModelRegistry) -> None:
    refs = [registry.register(model(f"r-{n}", name)).ref for n, name in enumerate(("a", "b", "a", "a", "A"))]
    assert refs == ["a@1", "b@1", "a@2", "a@3", "A@1"]
    assert registry.model("a").version == 3


def test_a_run_is_registered_once(registry: ModelRegistry) -> None:
    first = registry.register(model())
    assert registry.register(model(name="other", minutes=5)) == first
    registry.move("tiny", ModelStage.STAGING, at=START, **BY)
    assert registry.register(model()).stage is ModelStage.STAGING
    assert len(registry.models()) == 1


def test_models_come_newest_first_and_by_name_and_stage(registry: ModelRegistry) -> None:
    for n, name in enumerate("aba"):
        registry.register(model(f"r-{n}", name, minutes=n))
    registry.move("a@1", ModelStage.STAGING, at=START, **BY)
    assert [m.ref for m in registry.models()] == ["a@2", "b@1", "a@1"]
    assert [m.ref for m in registry.models(limit=1)] == ["a@2"]
    assert [m.ref for m in registry.models(name="a")] == ["a@2", "a@1"]
    assert [m.ref for m in registry.models(stage=ModelStage.STAGING)] == ["a@1"]
    assert registry.models(name="a", stage=ModelStage.PRODUCTION) == ()


def test_a_stage_names_the_newest_version_in_it(registry: ModelRegistry) -> None:
    for n in range(3):
        registry.register(model(f"r-{n}"))
    for version in (1, 2):
        registry.move(f"tiny@{version}", ModelStage.STAGING, at=START, **BY)
    assert registry.model("tiny@staging").version == 2
    assert registry.model("tiny@candidate").version == 3


def test_one_version_of_a_name_is_in_production(registry: ModelRegistry) -> None:
    for n, name in enumerate(("tiny", "tiny", "other")):
        registry.register(model(f"r-{n}", name))
    registry.move("other", ModelStage.PRODUCTION, at=START, **BY)
    later = START + timedelta(hours=1)
    assert [m.ref for m in registry.move("tiny@1", ModelStage.PRODUCTION, at=START, **BY)] == ["tiny@1"]
    moved = registry.move("tiny@2", ModelStage.PRODUCTION, at=later, **BY)
    assert [(m.ref, m.before, m.after, m.at) for m in moved] == [
        ("tiny@2", ModelStage.CANDIDATE, ModelStage.PRODUCTION, later),
        ("tiny@1", ModelStage.PRODUCTION, ModelStage.ARCHIVED, later),
    ]
    assert moved[0].why == "it is better"
    assert "tiny@2" in moved[1].why
    assert registry.move("tiny@2", ModelStage.PRODUCTION, at=later, **BY) == ()
    assert [m.ref for m in registry.models(stage=ModelStage.PRODUCTION)] == ["other@1", "tiny@2"]
    straight = registry.register(model("r-9", stage=ModelStage.PRODUCTION))
    assert registry.model("tiny@production") == straight
    assert registry.model("tiny@2").stage is ModelStage.ARCHIVED


def test_moves_are_kept_the_oldest_first(registry: ModelRegistry) -> None:
    registry.register(model())
    registry.register(model("r-2"))
    for stage in (ModelStage.STAGING, ModelStage.CANDIDATE, ModelStage.ARCHIVED):
        registry.move("tiny@1", stage, at=START, **BY)
    first, *later = registry.moves("tiny@1")
    assert (first.before, first.after, first.by, first.at) == (None, ModelStage.CANDIDATE, "caravan", START)
    assert [m.after.value for m in later] == ["staging", "candidate", "archived"]
    assert {m.ref for m in (first, *later)} == {"tiny@1"}
    assert len(registry.moves("tiny@2")) == 1


def test_a_ref_that_names_nothing_says_what_there_is(registry: ModelRegistry) -> None:
    registry.register(model(name="tiny-qwen"))
    for ref in ("Tiny-Qwn", "tiny_qwen@1"):
        with pytest.raises(UsageError, match="no model") as caught:
            registry.model(ref)
        assert "tiny-qwen" in caught.value.hint
    with pytest.raises(UsageError, match="no version 2") as caught:
        registry.moves("tiny-qwen@2")
    assert "1 (candidate)" in caught.value.hint
    with pytest.raises(UsageError, match="in production"):
        registry.move("tiny-qwen@production", ModelStage.STAGING, at=START, **BY)
    with pytest.raises(UsageError, match="no model") as caught:
        registry.model("quite-another")
    assert "models list" in caught.value.hint


@pytest.mark.parametrize(
    "ref", ["", "@1", "a@", "a@0", "a@-1", "a@prod", "a@1@2", "a b", "\udc80", "a\x00", "a@\x00", "a@٣"]
)
def test_what_is_no_ref_is_refused(registry: ModelRegistry, ref: str) -> None:
    registry.register(model(name="a"))
    with pytest.raises(UsageError):
        registry.model(ref)


def test_definitions_are_those_of_models_and_results_the_newest_word_last(both: tuple[Store, ModelRegistry]) -> None:
    store, registry = both
    assert registry.definitions() == ()
    registry.register(model())
    store.create_run(
        RunRecord(id="r-1", created_at=START, updated_at=START, request=RunRequest(prompt="p", source="s"))
    )
    newer = (MetricSpec(name="accuracy", direction="max", title="right answers"), MetricSpec(name="bleu"))
    gate = GateReport(verdict=GateVerdict.LOOK, definitions=newer)
    store.save_result(
        RunResult(
            run_id="r-1",
            ended_at=START,
            status=RunStatus.SUCCEEDED,
            plan={},
            plan_sha256="1" * 64,
            family="2" * 64,
            gate=gate,
        )
    )
    assert [spec.name for spec in registry.definitions()] == ["accuracy", "bleu", "eval_loss"]
    assert registry.definitions()[0].title == "right answers"


def test_a_model_outlives_its_run(both: tuple[Store, ModelRegistry]) -> None:
    store, registry = both
    store.create_run(
        RunRecord(id="r-1", created_at=START, updated_at=START, request=RunRequest(prompt="p", source="s"))
    )
    registry.register(model())
    store.delete_run("r-1")
    assert registry.of_run("r-1") == registry.model("tiny")
