"""Where a run stands, read without LangGraph: the same as the driver says, or left to it."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import ormsgpack
import pytest

from caravan.agent.standing import Standing, standing
from caravan.values.run import RunRecord
from tests.agent.test_loop import World
from tests.agent.test_moving import driver
from tests.fakes.cluster import Script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, lambda job: Script(exit_code=0 if job["ID"].endswith("2") else 1, stderr=b"MemoryError\n"))


def both(world: World, record: RunRecord) -> tuple[Standing | None, Standing]:
    path = world.tmp / "checkpoints.db"
    with driver(path) as here:
        return standing(path, record.id), Standing(here.state(record.id), here.open_question(record.id))


def test_it_says_what_the_driver_says(world: World) -> None:
    record = world.start()
    with driver(world.tmp / "checkpoints.db") as here:
        assert standing(world.tmp / "checkpoints.db", record.id) == Standing(None, None)
        for node in ("make_plan", "validate_spec", "verify_deployment", "diagnose", None):
            here.drive(world.store.run(record.id), world.context(record.id), until=node)
            read, said = both(world, record)
            assert read == said, node
            assert read is not None
            assert read.state is not None
    assert read.state.attempts


def test_an_open_question_is_read(world: World) -> None:
    record = world.start(yes=False)
    with driver(world.tmp / "checkpoints.db") as here:
        here.drive(record, world.context(record.id))
    read, said = both(world, record)
    assert said.ask is not None
    assert read == said


def changed(path: Path, checkpoint: bytes) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE checkpoints SET checkpoint = ?", (checkpoint,))


def test_what_is_not_ours_is_not_made_and_left_to_the_driver(world: World, tmp_path: Path) -> None:
    record = world.start()
    path = world.tmp / "checkpoints.db"
    with driver(path) as here:
        here.drive(record, world.context(record.id), until="make_plan")
    mark = tmp_path / "made"
    for code, module, name, told in (
        (0, "pathlib", "Path", str(mark)),
        (5, "caravan.agent.context", "Context", {}),
        (0, "caravan.values.base", "sha256_text", "a"),
        (0, "os", "mkdir", str(mark)),
    ):
        foreign = ormsgpack.Ext(code, ormsgpack.packb((module, name, told)))
        changed(path, ormsgpack.packb({"v": 4, "channel_values": {"run_id": foreign}}))
        assert standing(path, record.id) is None
    assert not mark.exists()
    for damaged in (b"", b"\xc1", ormsgpack.packb({"v": 99, "channel_values": {}}), ormsgpack.packb([1])):
        changed(path, damaged)
        assert standing(path, record.id) is None


def test_without_checkpoints_it_is_the_drivers_to_say(tmp_path: Path) -> None:
    assert standing(tmp_path / "checkpoints.db", "a" * 8) is None
    assert not list(tmp_path.iterdir())


LOADED = """
import json, sys
from pathlib import Path
from caravan.agent.standing import standing
assert standing(Path(sys.argv[1]), sys.argv[2]).state is not None
print(json.dumps([m for m in ("langgraph", "langchain_core", "openai", "qdrant_client", "dspy") if m in sys.modules]))
"""


def test_reading_loads_no_langgraph(world: World) -> None:
    record = world.start()
    path = world.tmp / "checkpoints.db"
    with driver(path) as here:
        here.drive(record, world.context(record.id), until="make_plan")
    command = [sys.executable, "-c", LOADED, str(path), record.id]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
