"""Outputs that would vanish are not approved by itself; what is known of them at the end is told, and no more."""

import json
from pathlib import Path
from typing import Any

from caravan.agent.context import Context
from caravan.values.dialogue import Ask
from caravan.values.errors import ClusterDenied
from caravan.values.failure import FailureClass
from caravan.values.job import ClusterFacts
from caravan.values.outputs import SUMMARY_PATH
from caravan.values.plan import Author, OutputSink, PlanChange
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import World, ended
from tests.fakes.cluster import FakeCluster, Script, one_node

GIT = {"kind": "git", "location": "https://git.example/a/b.git", "ref": "0123abc"}
URL = {"kind": "url", "location": "s3://bucket/runs"}


def summary(**fields: Any) -> dict[str, bytes]:
    document = {"directory": "/x", "files": 1, "bytes": 5, **fields}
    return {SUMMARY_PATH: json.dumps(document).encode()}


def real_world(tmp_path: Path, facts: ClusterFacts | None = None, **script: Any) -> World:
    world = World(tmp_path)
    scripted = Script(**{"stdout": b"loss=0.5\n", **script})
    world.cluster = FakeCluster(world.clock, facts=facts or one_node(builtin=False), script=lambda job: scripted)
    return world


def drive(world: World, **sets: Any) -> Ask | RunRecord:
    changes = tuple(PlanChange(path=p, value=v, by=Author.USER) for p, v in {"code": GIT, **sets}.items())
    return world.drive(world.start(sets=changes, budget_usd=1000.0, answers={"max_cost": 1000.0}))


def test_without_a_lasting_place_yes_is_not_enough(tmp_path: Path) -> None:
    world = real_world(tmp_path)
    ask = drive(world)
    assert isinstance(ask, Ask)
    assert any("vanish when the cluster collects its garbage" in text for text in ask.objections)
    assert world.cluster.registrations == []


def test_a_url_needs_no_question_about_it(tmp_path: Path) -> None:
    ask = drive(real_world(tmp_path), outputs=URL)
    assert not isinstance(ask, Ask) or not any("vanish" in text for text in ask.objections)


def test_an_impossible_place_is_said_before_anything_is_registered(tmp_path: Path) -> None:
    world = real_world(tmp_path)
    result = drive(world, outputs={"kind": "url", "location": "carrier-pigeon://loft"})
    assert isinstance(result, RunRecord)
    assert "carrier-pigeon is no protocol" in result.detail
    assert world.cluster.registrations == []


def seen(tmp_path: Path, outputs: OutputSink, **script: Any) -> tuple[Any, Any]:
    """A finished run on the built-in cluster whose plan has these outputs."""
    world = World(tmp_path, lambda job: Script(**{"stdout": b"loss=0.5\n", **script}))
    changes = (PlanChange(path="outputs", value=outputs.model_dump(mode="json"), by=Author.USER),)
    record = world.start(sets=changes)
    return ended(world.drive(record)), world.state(record)


def test_large_files_beside_the_code_are_told(tmp_path: Path) -> None:
    beside = {"files": 2, "bytes": 9_000_000, "largest": [{"name": "model.bin", "bytes": 8_000_000}]}
    result, state = seen(tmp_path, OutputSink(), files=summary(elsewhere=beside))
    assert result.status is RunStatus.SUCCEEDED
    assert any("2 large files (9 MB)" in w and "model.bin" in w for w in state.warnings)


def test_what_the_job_kept_is_told(tmp_path: Path) -> None:
    kept = {"files": 2, "bytes": 9, "largest": ["runs/model.bin", "runs/log.txt"]}
    result, state = seen(tmp_path, OutputSink(), files=summary(files=2, kept=kept))
    assert result.status is RunStatus.SUCCEEDED
    assert any("2 files: runs/model.bin, runs/log.txt" in w and "is kept in" in w for w in state.warnings)


def test_weights_that_go_with_the_job_are_no_success(tmp_path: Path) -> None:
    """Neither what could not be kept, nor what lies beside the code while nothing is where the outputs are."""
    beside = {"files": 1, "bytes": 9_000_000, "largest": [{"name": "model.bin", "bytes": 9_000_000}]}
    kept = {"files": 0, "left": 1, "largest": ["model.bin"], "error": "No space left on device"}
    for fields in ({"kept": kept}, {"elsewhere": beside}):
        place = tmp_path / next(iter(fields))
        place.mkdir()
        result, state = seen(place, OutputSink(), files=summary(files=0, **fields))
        assert result.status is not RunStatus.SUCCEEDED
        assert state.diagnosis is not None
        assert state.diagnosis.failure is FailureClass.OUTPUTS_MISSING
        assert "model.bin" in state.diagnosis.model_dump_json()


def test_a_secret_in_a_files_name_is_not_kept(tmp_path: Path) -> None:
    name = "hf_abcdefghijklmnopqrst1234.bin"
    beside = {"files": 1, "bytes": 9_000_000, "largest": [{"name": name, "bytes": 8_000_000}]}
    _, state = seen(tmp_path, OutputSink(), files=summary(elsewhere=beside))
    assert any("[masked]" in w for w in state.warnings)
    assert "hf_abc" not in state.model_dump_json()


def test_nothing_written_to_a_url_is_known_from_the_summary(tmp_path: Path) -> None:
    _, state = seen(tmp_path, OutputSink(**URL), files=summary(files=0))
    assert any("nothing is in s3://bucket/runs/" in w for w in state.warnings)


def test_without_a_summary_it_is_not_known(tmp_path: Path) -> None:
    result, state = seen(tmp_path, OutputSink(**URL), files={SUMMARY_PATH: b'{"files": "many"}'})
    assert result.status is RunStatus.SUCCEEDED
    assert any("is not known: it can't be seen from here" in w for w in state.warnings)


def test_a_cluster_that_denies_it_costs_a_warning(tmp_path: Path) -> None:
    world = World(tmp_path, lambda job: Script(stdout=b"loss=0.5\n"))
    changes = (PlanChange(path="outputs", value=URL, by=Author.USER),)
    record = world.start(sets=changes)
    inner = world.context

    def context(run_id: str) -> Context:
        world.cluster.fail("list_files", ClusterDenied("no"), times=9)
        return inner(run_id)

    world.context = context  # type: ignore[method-assign]
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
