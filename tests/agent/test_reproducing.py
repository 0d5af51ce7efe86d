"""A run that repeats another one, over fakes: the same plan and code whatever becomes of the repository, no repairs."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.beginning import new_run
from caravan.agent.original_code import bring_code
from caravan.agent.reopening import reopened
from caravan.agent.reproducing import original_from
from caravan.analysis import open_source
from caravan.training.loading import Types
from caravan.values.base import Json
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import StateError, UsageError
from caravan.values.evaluation import GateVerdict
from caravan.values.failure import ChangePlan
from caravan.values.family import family_of
from caravan.values.plan import Author, PlanChange
from caravan.values.registry import CodeVersion, DataVersion
from caravan.values.reproduction import ORIGINAL
from caravan.values.run import Repeats, RunRecord, RunStatus
from tests.agent.test_evaluated import LEARNT
from tests.agent.test_loop import Ladder, World, ended
from tests.fakes.cluster import Script
from tests.fakes.folder import PlainFolder
from tests.fakes.model_registry import MemoryRegistry

GREEN = PlanChange(path="env.COLOUR", value="green", by=Author.USER)


def folder_of(world: World, run_id: str) -> PlainFolder:
    return PlainFolder(world.tmp / "home", run_id)


def again(world: World, record: RunRecord, data: DataVersion | None = None, **request: Any) -> RunRecord:
    """What `reproduce` does before it drives."""
    state = world.state(record)
    asked = record.request.model_copy(update={"sets": (), "answers": {}, "reproduces": Repeats(run_id=record.id)})
    repeat = new_run(asked.model_copy(update=request), world.clock.now())
    folder, old = folder_of(world, repeat.id), folder_of(world, record.id).path
    source = bring_code(state, old, folder, lambda s: open_source(s, cache=world.tmp / "cache"), Types)
    known = original_from(state, str(old), CodeVersion(), data or DataVersion())
    folder.save_papers({ORIGINAL: known.canonical()})
    repeats = Repeats(run_id=record.id, source=source)
    repeat = repeat.model_copy(update={"request": repeat.request.model_copy(update={"reproduces": repeats})})
    world.store.create_run(repeat)
    return repeat


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_plan_and_the_code_stand_though_the_repository_is_gone(world: World) -> None:
    record = world.start(sets=(GREEN,), answers={"training.epochs": 7})
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    before = {p: p.read_bytes() for p in folder_of(world, record.id).path.rglob("*") if p.is_file()}
    shutil.rmtree(world.repo)
    repeat = again(world, record)
    assert ended(world.drive(repeat)).status is RunStatus.SUCCEEDED
    one, other = world.state(record).plan, world.state(repeat).plan
    assert family_of(one) == family_of(other)
    assert other.provenance == one.provenance, "who set each field stays told"
    assert other.code.sha256 == one.code.sha256
    assert Path(other.code.location).parent == folder_of(world, repeat.id).path
    assert other.outputs.location == str(folder_of(world, repeat.id).outputs)
    task = world.cluster.registrations[-1]["TaskGroups"][0]["Tasks"][0]
    assert task["Env"]["COLOUR"] == "green"
    assert any("--epochs 7" in t["EmbeddedTmpl"] for t in task["Templates"])
    after = {p: p.read_bytes() for p in folder_of(world, record.id).path.rglob("*") if p.is_file()}
    assert after == before, "the original is never changed"


def test_time_and_money_are_those_of_the_evaluation_as_well(world: World) -> None:
    measured = (
        PlanChange(path="evaluation.command", value=["judge"], by=Author.USER),
        PlanChange(path="evaluation.where", value="phase", by=Author.USER),
    )
    record = world.start(sets=measured)
    ended(world.drive(record))
    repeat = again(world, record)
    ended(world.drive(repeat))
    one, other = world.state(record).need_estimate(), world.state(repeat).need_estimate()
    assert one.evaluation_s is not None
    assert other.evaluation_s == one.evaluation_s


def test_it_goes_on_where_the_original_was_deleted_meanwhile(world: World) -> None:
    record = world.start()
    ended(world.drive(record))
    repeat = again(world, record)
    folder_of(world, record.id).delete()
    assert ended(world.drive(repeat)).status is RunStatus.SUCCEEDED


def test_nothing_is_asked_but_the_approval(world: World) -> None:
    record = world.start()
    ended(world.drive(record))
    repeat = again(world, record, yes=False)
    ask = world.drive(repeat)
    assert isinstance(ask, Ask)
    assert (ask.kind, ask.choices) == (AskKind.APPROVAL, ())
    assert ask.estimate is not None
    assert ended(world.drive(repeat, Reply(approved=True))).status is RunStatus.SUCCEEDED


def test_no_repair_changes_what_is_trained(tmp_path: Path) -> None:
    def script(job: Json) -> Script:
        return Script(exit_code=1 if failing in job["ID"] else 0)

    failing = "none"
    world = World(tmp_path, script)
    record = world.start()
    ended(world.drive(record))
    repeat = again(world, record)
    failing = repeat.id
    smaller = ChangePlan(changes=(PlanChange(path="training.micro_batch", value=1, by=Author.REPAIR),), why="smaller")
    longer = ChangePlan(changes=(PlanChange(path="kill_timeout_s", value=77, by=Author.REPAIR),), why="slower")
    world.reasoner = Ladder(world.prices, ladder=(smaller, longer))
    result = ended(world.drive(repeat))
    assert result.status in (RunStatus.FAILED, RunStatus.ESCALATED)
    plan = world.state(repeat).plan
    assert plan.training.micro_batch != 1
    assert plan.kill_timeout_s == 77, "what leaves the training as it is may be changed"
    with pytest.raises(UsageError, match="reproduces another one"):
        reopened(world.state(repeat), [smaller.changes[0]])
    assert reopened(world.state(repeat), [])["plan"] == plan


def test_other_code_is_refused(world: World) -> None:
    record = world.start()
    ended(world.drive(record))
    archive = folder_of(world, record.id).path / "code.tar.gz"
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(StateError, match="damaged"):
        again(world, record)
    archive.unlink()
    with pytest.raises(UsageError, match="its archive is gone, and the repository had no commit"):
        again(world, record)


def test_an_original_that_can_not_be_read_is_said_so(world: World) -> None:
    record = world.start()
    ended(world.drive(record))
    repeat = again(world, record)
    (folder_of(world, repeat.id).path / ORIGINAL).write_text("{}")
    with pytest.raises(StateError, match="is damaged"):
        world.drive(repeat)
    (folder_of(world, repeat.id).path / ORIGINAL).unlink()
    with pytest.raises(StateError, match="lacks original"):
        world.drive(repeat)


def test_a_reproduction_is_registered_by_hand_alone(tmp_path: Path) -> None:
    world = World(tmp_path, lambda _: Script(stdout=LEARNT))
    models = MemoryRegistry(world.store)
    record = world.start()
    ended(world.drive(record, models=models))
    assert [m.run_id for m in models.models()] == [record.id]
    repeat = again(world, record)
    assert ended(world.drive(repeat, models=models)).status is RunStatus.SUCCEEDED
    state = world.state(repeat)
    assert state.gate.verdict is GateVerdict.PASS
    assert state.registered == ""
    assert [m.run_id for m in models.models()] == [record.id]
    assert any(f"`main.py models register {repeat.id}`" in text for text in state.warnings)
