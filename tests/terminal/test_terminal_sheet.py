"""What `show` prints of a stored sheet is, to the byte, what it prints of the state; a sheet that is of no use is not
used."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.driver import Driver, open_checkpoints
from caravan.agent.sheets import Sheet, newest_sheet
from caravan.agent.standing import Standing, standing
from caravan.terminal.app import run
from caravan.terminal.sheet import sheet_of
from caravan.values.dialogue import Ask, Reply
from caravan.values.evaluation import CheckKind, GateCheck, GateReport, GateVerdict
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.run import RunEvent, RunRecord, RunStatus
from caravan.values.samples import DeviceUse, ResourceUse
from tests.agent.test_loop import World
from tests.fakes.cluster import Script
from tests.fakes.wiring import FakeWiring, nobody, printed

ROOT = Path(__file__).resolve().parents[2]
NODES = ("generate_questions", "verify_deployment", "diagnose", None)


class Seen(FakeWiring):
    """Looks at a world's runs, by their sheets or by their states."""

    def __init__(self, world: World) -> None:
        super().__init__(world.tmp)
        self.runs, self.path = world.store, world.tmp / "checkpoints.db"
        self.by_sheet, self.used = True, False

    def standing(self, run_id: str) -> Standing:
        found = standing(self.path, run_id)
        assert found is not None
        return found

    def sheet(self, run_id: str) -> Sheet | None:
        found = newest_sheet(self.path, run_id) if self.by_sheet else None
        self.used = self.used or found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, lambda job: Script(exit_code=0 if job["ID"].endswith("2") else 1, stderr=b"MemoryError\n"))


def drive(world: World, record: RunRecord, reply: Reply | None = None, **how: Any) -> Ask | RunRecord:
    with open_checkpoints(world.tmp / "checkpoints.db", sheet_of) as saver:
        return Driver(saver).drive(world.store.run(record.id), world.context(record.id), reply, **how)


def keep(world: World, record: RunRecord, **changes: Any) -> None:
    """Store the run's newest checkpoint with other values."""
    with open_checkpoints(world.tmp / "checkpoints.db", sheet_of) as saver:
        found = saver.get_tuple({"configurable": {"thread_id": record.id, "checkpoint_ns": ""}})
        assert found is not None
        found.checkpoint["channel_values"].update(changes)
        saver.put({"configurable": {"thread_id": record.id, "checkpoint_ns": ""}}, found.checkpoint, {}, {})


def change(world: World, statement: str) -> None:
    with closing(sqlite3.connect(world.tmp / "checkpoints.db")) as connection, connection:
        connection.execute(statement)


def sheet(world: World, record: RunRecord) -> Sheet | None:
    return newest_sheet(world.tmp / "checkpoints.db", record.id)


def shown(wiring: Seen, record: RunRecord, *words: str) -> tuple[int, str]:
    terminal = nobody()
    code = run(wiring, ["show", record.id, *words], terminal)
    return code, printed(terminal)[0]


def same(world: World, record: RunRecord) -> str:
    """What both ways show, as text; the stored sheet was used for it."""
    wiring, states = Seen(world), Seen(world)
    states.by_sheet = False
    assert shown(wiring, record, "--json") == shown(states, record, "--json")
    text = shown(wiring, record)
    assert text == shown(states, record)
    assert wiring.used
    return text[1]


def test_a_run_is_shown_alike_at_every_step(world: World) -> None:
    record = world.start()
    for node in NODES:
        drive(world, record, until=node)
        same(world, record)
    text = same(world, record)
    assert "Attempt 1:" in text
    assert "Repair: " in text
    assert "Who set what" in text


def test_a_run_is_shown_alike_whatever_became_of_it(world: World) -> None:
    record = world.start()
    drive(world, record, until="diagnose")
    world.store.add_event(record.id, RunEvent(at=world.clock.now(), kind="placed", text="on a node \u2713"))
    call = {"step": "diagnose", "model": "qwen", "calls": 1, "prompt_tokens": 7, "completion_tokens": 3, "seconds": 0.5}
    world.store.add_event(record.id, RunEvent(at=world.clock.now(), kind="model_call", data=call))
    for status in RunStatus:
        world.store.update_run(record.id, status=status, detail=f"{status.value}; said so", cost_usd=3.5)
        assert "qwen: 1 call" in same(world, record)


def test_what_the_gate_and_the_samples_said_is_shown_alike(world: World) -> None:
    record = world.start()
    drive(world, record)
    with open_checkpoints(world.tmp / "checkpoints.db") as saver:
        state = Driver(saver).state(record.id)
    assert state is not None
    checks = (
        GateCheck(kind=CheckKind.BASE, verdict=GateVerdict.PASS, text="3 % better than its base"),
        GateCheck(kind=CheckKind.TARGET, verdict=GateVerdict.FAIL, text="0.4 is below 0.5", value=0.4, limit=0.5),
    )
    use = ResourceUse(gpus=(DeviceUse(n=0, total_mb=16384, peak_mb=3328, looks=2),), host_peak_mb=900)
    last = state.attempts[-1].model_copy(update={"uses": (use,), "observed": ("it used little",)})
    keep(
        world,
        record,
        metrics={"loss": 1.5, "eval_loss": 0.25, "lr": 1e-05},
        gate=GateReport(verdict=GateVerdict.FAIL, checks=checks, metrics={"eval_loss": 0.25}),
        registered="chars@3",
        warnings=("it is \x1b[31mred\x1b[0m", "second"),
        attempts=(*state.attempts[:-1], last),
        diagnosis=Diagnosis(
            failure=FailureClass.HOST_MEMORY_OOM, confidence=0.75, cause="c" * 300, patch="--- a\n+++ b\n\x1b[2J\n"
        ),
    )
    for status in (RunStatus.FAILED, RunStatus.SUCCEEDED):
        world.store.update_run(record.id, status=status)
        text = same(world, record)
    assert "failed: 0.4 is below 0.5" in text
    assert "eval_loss 0.25" in text
    assert "chars@3" in text


def test_where_a_run_is_may_change_without_its_state(world: World) -> None:
    record = world.start()
    drive(world, record)
    moved = record.request.model_copy(update={"cluster": "https://other.example", "source": "/moved"})
    world.store._runs[record.id] = world.store.run(record.id).model_copy(update={"request": moved})
    text = same(world, record)
    assert "https://other.example" in text
    assert "/moved" in text


def test_an_open_question_is_told_from_the_checkpoint(world: World) -> None:
    record = world.start(yes=False)
    drive(world, record)
    found = sheet(world, record)
    assert found is not None
    assert found.asks
    assert "--approve" in same(world, record)
    world.store.update_run(record.id, status=RunStatus.STOPPED)
    assert "--approve" not in same(world, record)


def test_a_sheet_that_does_not_belong_to_the_checkpoint_is_not_used(world: World) -> None:
    record = world.start(yes=False)
    drive(world, record)
    path = world.tmp / "checkpoints.db"
    whole = path.read_bytes()
    for statement in (
        "UPDATE sheets SET program = 'another'",
        "UPDATE sheets SET checkpoint_id = '1'",
        "UPDATE sheets SET sha256 = '1'",
        "UPDATE sheets SET document = '{'",
        "UPDATE checkpoints SET checkpoint = x'c1'",
        "DELETE FROM sheets",
        "DROP TABLE sheets",
        "UPDATE writes SET channel = 'plan'",
    ):
        assert sheet(world, record) is not None
        change(world, statement)
        assert sheet(world, record) is None, statement
        path.write_bytes(whole)


def test_what_came_after_the_sheet_is_not_hidden_by_it(world: World) -> None:
    record = world.start()
    drive(world, record, until="verify_deployment")
    before = sheet(world, record)
    with open_checkpoints(world.tmp / "checkpoints.db") as saver:  # one that stores no sheets goes on
        Driver(saver).drive(world.store.run(record.id), world.context(record.id))
    assert before is not None
    assert sheet(world, record) is None


def test_what_json_would_change_is_not_stored(world: World) -> None:
    record = world.start()
    drive(world, record)
    assert sheet(world, record) is not None
    with open_checkpoints(world.tmp / "checkpoints.db", lambda _: {"odd": {1: 2}}) as saver:
        found = saver.get_tuple({"configurable": {"thread_id": record.id, "checkpoint_ns": ""}})
        assert found is not None
        found.checkpoint["id"] = "2" + found.checkpoint["id"][1:]
        saver.put({"configurable": {"thread_id": record.id, "checkpoint_ns": ""}}, found.checkpoint, {}, {})
    assert sheet(world, record) is None


def test_a_deleted_run_leaves_no_sheet(world: World) -> None:
    record = world.start()
    drive(world, record, until="estimate")
    with open_checkpoints(world.tmp / "checkpoints.db") as saver:
        Driver(saver).forget(record.id)
    with closing(sqlite3.connect(world.tmp / "checkpoints.db")) as connection:
        assert connection.execute("SELECT count(*) FROM sheets").fetchone() == (0,)


def test_without_checkpoints_nothing_is_made(tmp_path: Path) -> None:
    assert newest_sheet(tmp_path / "checkpoints.db", "a" * 8) is None
    assert not list(tmp_path.iterdir())


LOADED = """
import json, sys
from pathlib import Path
import caravan.terminal.lookup, caravan.terminal.oncluster, caravan.terminal.picture, caravan.terminal.results
import caravan.terminal.show, caravan.runs.folder, caravan.runs.looking
from caravan.agent.sheets import newest_sheet
assert newest_sheet(Path(sys.argv[1]), sys.argv[2]) is not None
heavy = ("langgraph", "sqlalchemy", "caravan.values.plan", "caravan.values.job", "caravan.agent.state")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_showing_a_sheet_loads_no_values(world: World) -> None:
    record = world.start()
    drive(world, record, until="estimate")
    command = [sys.executable, "-c", LOADED, str(world.tmp / "checkpoints.db"), record.id]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
