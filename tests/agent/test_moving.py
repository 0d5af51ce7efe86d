"""A run that goes on in another place: exported there, adopted here, only forward, only the same run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from caravan.agent.driver import Driver, open_checkpoints
from caravan.values.errors import StateError
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import World
from tests.fakes.cluster import Script
from tests.fakes.folder import PlainFolder


@contextmanager
def driver(path: Path) -> Iterator[Driver]:
    with open_checkpoints(path) as saver:
        yield Driver(saver)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, lambda job: Script(exit_code=0 if job["ID"].endswith("2") else 1, stderr=b"MemoryError\n"))


def deployed(world: World) -> RunRecord:
    record = world.start()
    with driver(world.tmp / "checkpoints.db") as here:
        here.drive(record, world.context(record.id), until="verify_deployment")
    return world.store.run(record.id)


def test_it_goes_on_there_and_its_end_comes_back(world: World, tmp_path: Path) -> None:
    record = deployed(world)
    there = record.model_copy(update={"request": record.request.model_copy(update={"cluster": "unix:///api.sock"})})
    home, away = tmp_path / "home" / "runs" / record.id, PlainFolder(tmp_path / "away", record.id)
    with driver(tmp_path / "checkpoints.db") as here, driver(tmp_path / "away.db") as other:
        assert other.adopt(there, here.export(record.id), away.path)
        state = other.state(record.id)
        assert state is not None
        assert state.request.cluster == "unix:///api.sock"
        assert state.need_deployment().hcl_path == str(away.path / "attempt-1" / "job.nomad.hcl")
        away.save_papers(PlainFolder(tmp_path / "home", record.id).papers())
        other.drive(record, replace(world.context(record.id), folder=away))
        assert here.adopt(record, other.export(record.id), home)
        state = here.state(record.id)
        assert state is not None
        assert state.request == record.request
        assert [Path(a.hcl_path).parent.parent for a in state.attempts] == [home] * len(state.attempts)
        assert len(state.attempts) >= 1
        assert here.drive(world.store.run(record.id), world.context(record.id)).status in RunStatus  # type: ignore[union-attr]
    assert len(world.cluster.registrations) == len(state.attempts), "nothing was deployed twice"


def test_only_forward(world: World, tmp_path: Path) -> None:
    record = deployed(world)
    with driver(tmp_path / "checkpoints.db") as here:
        early = here.export(record.id)
        assert here.adopt(record, early, tmp_path), "the same moment again changes nothing"
        here.drive(record, world.context(record.id))
        before = here.export(record.id)
        assert not here.adopt(record, early, tmp_path)
        assert here.export(record.id) == before


def test_an_older_clock_there_does_not_bring_the_older_moment_back(world: World, tmp_path: Path) -> None:
    record = deployed(world)
    with driver(tmp_path / "checkpoints.db") as here, open_checkpoints(tmp_path / "away.db") as saver:
        other = Driver(saver)
        other.adopt(record, here.export(record.id), tmp_path)
        other.drive(record, world.context(record.id))
        found = saver.get_tuple({"configurable": {"thread_id": record.id, "checkpoint_ns": ""}})
        assert found is not None
        old = {**found.checkpoint, "id": "00000000-0000-6000-8000-000000000000"}
        kind, data = saver.serde.dumps_typed({"checkpoint": old, "metadata": dict(found.metadata), "writes": []})
        assert here.adopt(record, kind.encode() + b"\n" + data, tmp_path)
        state = here.state(record.id)
        assert state is not None
        assert state.attempts


@pytest.mark.parametrize("data", [b"", b"msgpack\n", b"pickle\nx", b"msgpack\n\x81\xa1a\x01", b"json\n{}"])
def test_what_is_no_run_is_refused_and_changes_nothing(data: bytes, world: World, tmp_path: Path) -> None:
    record = deployed(world)
    with driver(tmp_path / "checkpoints.db") as here:
        before = here.export(record.id)
        with pytest.raises(StateError):
            here.adopt(record, data, tmp_path)
        assert here.export(record.id) == before


def test_another_runs_state_is_refused(world: World, tmp_path: Path) -> None:
    one, other = deployed(world), deployed(world)
    with driver(tmp_path / "checkpoints.db") as here, pytest.raises(StateError):
        here.adopt(other, here.export(one.id), tmp_path)
