"""Repairs in the whole graph: what goes on by itself, what is asked about, how it ends, what attempts teach."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.rules import looks_of
from caravan.planning.catalogue import Prices
from caravan.values.base import Json
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.errors import Interrupted
from caravan.values.estimate import Envelope, held_fields
from caravan.values.failure import ChangePlan, FailureClass, Lesson, Repair, Wait
from caravan.values.job import DeviceGroup, DryRun
from caravan.values.plan import Author, PlanChange, apply_changes
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import HOUR, Ladder, World, ended, memory_change, needs
from tests.diagnosis import repair_scenes as scenes
from tests.fakes.cluster import FakeCluster, Script, one_node
from tools import RepositoryToolbox

TRAIN = """
import argparse
import torch
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--batch_size", type=int, default=8)
parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
parser.add_argument("--gradient_checkpointing", action="store_true")
parser.add_argument("--learning_rate", type=float, default=0.0003)
parser.add_argument("--max_grad_norm", type=float)
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B")
optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
for epoch in range(args.epochs):
    loss = model(torch.ones(2)).loss
    loss.backward()
    optimizer.step()
    print("loss", loss.item())
"""


def user(path: str, value: Json) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.USER)


class RepairWorld(World):
    """A world whose repository has the usual options, and whose reasoner may look into it."""

    def __init__(self, tmp: Path, script: Callable[[Json], Script] | None = None, **more: Any) -> None:
        super().__init__(tmp, script, **more)
        (self.repo / "train.py").write_text(TRAIN)
        self.prices = Prices(usd_per_gpu_hour=0.0)

    def drive(self, record: RunRecord, reply: Reply | None = None, **changes: Any) -> Ask | RunRecord:
        return super().drive(record, reply, toolbox=RepositoryToolbox, **changes)


def launched(job: Json) -> str:
    """The words that start the training in the job's launch script."""
    templates = job["TaskGroups"][0]["Tasks"][0]["Templates"]
    script = next(t["EmbeddedTmpl"] for t in templates if t["DestPath"].endswith("launch.sh"))
    return " ".join(line for line in str(script).splitlines() if "train.py" in line or "--pip=" in line)


def diverges(job: Json) -> Script:
    steady = "--learning_rate 0.01" in launched(job)
    return Script(stdout=b"loss=0.5\n" if steady else b"loss=0.5\nloss=nan\n")


def lacks(module: str, line: str) -> Callable[[Json], Script]:
    def script(job: Json) -> Script:
        if f"--pip={line}" in launched(job):
            return Script()
        error = f"Traceback (most recent call last):\nModuleNotFoundError: No module named '{module}'\n"
        return Script(exit_code=1, stderr=error.encode())

    return script


def test_more_memory_needs_no_question_though_the_user_set_it(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, needs(2000))
    record = world.start(sets=(user("resources.memory_mb", 512), user("resources.gpus", 0)))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    attempts = world.state(record).attempts
    assert [a.changed.get("resources.memory_mb") for a in attempts] == [(512, 1024), (1024, 4096), None]


def test_a_repair_that_is_inside_goes_before_one_that_must_be_asked_about(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, needs(4000))
    batch = PlanChange(path="training.micro_batch", value=2, by=Author.REPAIR)
    world.reasoner = Ladder(Prices(), (ChangePlan(changes=(batch,), why="smaller"), memory_change(8000)))
    record = world.start(sets=(user("training.micro_batch", 8), user("resources.gpus", 0)))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.state(record).plan.training.micro_batch == 8


def test_what_the_user_set_is_asked_about_and_a_yes_deploys_it(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, diverges)
    record = world.start(sets=(user("training.lr", 0.03), user("resources.gpus", 0)))
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    assert ask.kind is AskKind.APPROVAL
    assert any(text.startswith("training.lr would be 0.01 instead of 0.03") for text in ask.objections)
    assert "diverged" in ask.text
    assert world.ids(record) == ["a01"]
    assert world.store.run(record.id).status is RunStatus.WAITING
    assert world.drive(record) == ask
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]
    assert "--learning_rate 0.01" in launched(world.cluster.registrations[1])


def test_a_no_to_a_repair_ends_the_run_with_the_cause_and_what_to_do(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, diverges)
    record = world.start(sets=(user("training.lr", 0.03), user("resources.gpus", 0)))
    assert isinstance(world.drive(record), Ask)
    result = ended(world.drive(record, Reply(approved=False, why="keep my rate")))
    assert result.status is RunStatus.REJECTED
    assert "keep my rate" in result.detail
    assert world.state(record).answered.cause in result.detail
    assert world.state(record).answered.advice in result.detail
    assert world.ids(record) == ["a01"]


def test_the_rate_of_the_repository_is_changed_without_a_question(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, diverges)
    (world.repo / "train.py").write_text(TRAIN.replace("0.0003", "0.03"))
    record = world.start(sets=(user("resources.gpus", 0),))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]


def test_a_well_known_package_is_installed(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, lacks("yaml", "PyYAML"))
    record = world.start(sets=(user("resources.gpus", 0),))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]


def test_a_package_that_only_a_log_names_is_asked_about(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, lacks("acme_secret", "acme_secret"))
    record = world.start(sets=(user("resources.gpus", 0),))
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    assert any("package acme_secret" in text for text in ask.objections)
    assert ask.envelope is not None
    assert "acme_secret" in ask.envelope.packages
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]


def test_a_package_that_the_repository_requires_is_not(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, lacks("acme_secret", "acme-secret==1.2"))
    (world.repo / "requirements.txt").write_text("numpy\n")
    (world.repo / "requirements-train.txt").write_text("acme-secret==1.2\n")
    record = world.start(sets=(user("resources.gpus", 0),))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED


def test_three_attempts_and_then_a_person_is_told_what_was_tried(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, needs(10**9))
    record = world.start(sets=(user("resources.gpus", 0), user("resources.memory_mb", 512)))
    result = ended(world.drive(record))
    assert result.status is RunStatus.FAILED
    assert world.ids(record) == ["a01", "a02", "a03"]
    assert "Tried in 3 attempts: 1024 MB of memory instead of 512 MB" in result.detail
    assert "No attempt is left." in result.detail
    assert world.state(record).attempts[-1].diagnosis.advice in result.detail


def gpu_repair_world(tmp_path: Path, script: Callable[[Json], Script]) -> RepairWorld:
    world = RepairWorld(tmp_path)
    facts = one_node(memory_mb=64_000)
    cards = tuple(
        DeviceGroup(vendor="nvidia", type="gpu", model=m, count=1, memory_mib=size)
        for m, size in (("NVIDIA A10G", 23028), ("NVIDIA A40", 46068))
    )
    nodes = (facts.nodes[0].model_copy(update={"devices": cards}),)
    world.cluster = FakeCluster(world.clock, facts=facts.model_copy(update={"nodes": nodes}), script=script)
    return world


def out_of_memory(job: Json) -> Script:
    if not job["ID"].endswith("a01"):
        return Script()
    text = (
        b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9.00 GiB. GPU 0 has a total capacity of "
        b"44.40 GiB of which 1.00 GiB is free. This process has 43.40 GiB memory in use.\n"
    )
    return Script(exit_code=1, stderr=b"Traceback (most recent call last):\n" + text)


def test_an_attempt_that_ran_out_of_gpu_memory_bounds_all_later_estimates(tmp_path: Path) -> None:
    world = gpu_repair_world(tmp_path, out_of_memory)
    record = world.start(sets=(user("resources.gpus", 1), HOUR))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED, world.store.run(record.id).detail
    state = world.state(record)
    before, after = state.attempts[0], state.plan
    assert before.diagnosis.failure is FailureClass.CUDA_OOM
    assert state.memory_beyond > 1
    assert "seen beyond the formula" in {part.name for part in state.estimate.breakdown}
    assert after.training.micro_batch < 8
    assert after.training.micro_batch * after.training.grad_accum == 8
    assert state.estimate.gpu_memory_gib <= state.estimate.gpu_total_gib
    # The failed plan is held to need what it was seen to need at least: it is never proposed again.
    assert after.set_by("training.micro_batch") is Author.REPAIR


def test_a_job_that_found_no_room_is_not_waited_for_again(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, lambda job: Script(queued=True))
    record = world.start(sets=(user("limits.queue_s", 30), user("resources.gpus", 0)))
    before = world.clock.now()
    assert ended(world.drive(record)).status is RunStatus.ESCALATED
    assert world.ids(record) == ["a01"]
    assert (world.clock.now() - before).total_seconds() < 120


@pytest.mark.parametrize("worked", [True, False, None])
def test_an_unknown_failure_is_mended_by_what_memory_knows_alone(tmp_path: Path, worked: bool | None) -> None:
    def script(job: Json) -> Script:
        env = job["TaskGroups"][0]["Tasks"][0].get("Env") or {}
        return Script() if env.get("MOON") == "new" else Script(exit_code=3, stderr=b"LunacyError: the moon is full\n")

    world = RepairWorld(tmp_path, script)
    record = world.start(sets=(user("resources.gpus", 0),))
    assert ended(world.drive(record)).status is RunStatus.ESCALATED
    told = world.state(record).attempts[0].diagnosis
    assert told.failure is FailureClass.UNKNOWN
    change = PlanChange(path="env.MOON", value="new", by=Author.REPAIR)
    world.memory.stored.clear()
    world.memory.remember(
        Lesson(
            failure=told.failure,
            fingerprint=told.fingerprint,
            text="moon",
            changes=(change,),
            worked=worked,
            source="user",
        )
    )
    again = world.start(sets=(user("resources.gpus", 0),))
    world.cluster.registrations.clear()
    came_to = world.drive(again)
    if worked:  # it says what is run, and no run here has taught it
        assert isinstance(came_to, Ask)
        assert any("env.MOON = new" in text for text in came_to.objections)
        came_to = world.drive(again, Reply(approved=True))
    assert ended(came_to).status is (RunStatus.SUCCEEDED if worked else RunStatus.ESCALATED)
    assert len(world.ids(again)) == (2 if worked else 1)


@pytest.mark.parametrize(
    ("path", "asked", "there"),
    [
        ("resources.gpus", 4, 1),
        ("resources.memory_mb", 90_000, 64_000),
    ],
)
def test_what_a_person_asked_for_and_no_node_has_is_asked_about(
    tmp_path: Path, path: str, asked: Json, there: Json
) -> None:
    world = gpu_repair_world(tmp_path, lambda job: Script())
    record = world.start(sets=(user("resources.gpus", 1), HOUR, user(path, asked)))
    ask = world.drive(record)
    assert isinstance(ask, Ask), ask
    assert any(text.startswith(f"{path} would be {there} instead of {asked}") for text in ask.objections)
    assert world.ids(record) == []
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01"]
    assert world.state(record).plan.get(path) == there
    assert world.state(record).envelope.held[path] == there


class Looking(Ladder):
    """A ladder that looks into the repository first, as the rules do."""

    def repairs(self, *args: Any) -> tuple[Repair, ...]:
        *_, profile, _cases, _facts, toolbox = args
        looks_of(lambda: toolbox, profile).files("requirements.txt")
        return self.ladder


@pytest.mark.parametrize("ladder", [(memory_change(4096),), ()])
def test_a_repository_that_is_gone_while_it_trains_keeps_no_repair_from_being_taken(
    tmp_path: Path, ladder: tuple[Repair, ...]
) -> None:
    world = RepairWorld(tmp_path)
    world.reasoner = Looking(Prices(), ladder)

    def gone(job: Json) -> Script:
        shutil.rmtree(world.repo, ignore_errors=True)
        return needs(4096)(job)

    world.cluster._script = gone
    record = world.start(sets=(user("resources.gpus", 0),))
    result = ended(world.drive(record))
    assert result.status is (RunStatus.SUCCEEDED if ladder else RunStatus.ESCALATED)
    assert ladder or result.detail.startswith("Too little memory.")


def refusing(world: World, *sizes: int) -> None:
    """The cluster's dry run refuses jobs of these sizes in MB."""
    check = world.cluster.check

    def strict(job: Json) -> DryRun:
        asked = job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"]
        return DryRun(errors=("memory over quota",)) if asked in sizes else check(job)

    world.cluster.check = strict  # type: ignore[method-assign]


def test_a_repair_that_was_refused_and_the_one_after_it_are_told_as_what_the_next_attempt_ran(tmp_path: Path) -> None:
    world = RepairWorld(tmp_path, needs(3000))
    refusing(world, 8000)
    world.reasoner = Ladder(Prices(), (memory_change(8000), memory_change(4000)))
    record = world.start(sets=(user("resources.gpus", 0), user("resources.memory_mb", 512)))
    assert ended(world.drive(record)).status is RunStatus.SUCCEEDED
    assert world.ids(record) == ["a01", "a02"]
    first, second = world.state(record).attempts
    assert first.changed == {"resources.memory_mb": (512, 4000)}
    assert [c.value for c in first.repair.changes] == [4000]
    assert first.repair.why == "8000 MB; then 4000 MB"
    assert (second.repair, second.changed) == (None, {})
    (lesson,) = world.memory.all()
    assert [c.value for c in lesson.changes] == [4000]


class Waits(World):
    """A world whose only repair is to wait, and that tells what its wait saw."""

    def __init__(self, tmp: Path, seconds: int) -> None:
        super().__init__(tmp, lambda job: Script(exit_code=1))
        self.reasoner = Ladder(Prices(), (Wait(seconds=seconds, why="busy"),))

    def waited(self, record: RunRecord) -> list[float]:
        return [s for s in self.clock.slept if s > 5]  # the watch of a job takes shorter steps


def test_a_stop_is_noticed_while_it_waits(tmp_path: Path) -> None:
    world = Waits(tmp_path, 900)
    record = world.start()
    sleep = world.clock.sleep

    def stop(seconds: float) -> None:
        sleep(seconds)
        if len(world.waited(record)) == 2:
            world.store.update_run(record.id, status=RunStatus.STOPPED)

    world.clock.sleep = stop  # type: ignore[method-assign]
    assert ended(world.drive(record)).status is RunStatus.STOPPED
    assert world.state(record).status is RunStatus.STOPPED
    assert len(world.waited(record)) == 2
    assert max(world.clock.slept) <= 10
    assert world.ids(record) == ["a01"]


def test_a_wait_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    world = Waits(tmp_path, 900)
    limit = PlanChange(path="limits.attempts", value=2, by=Author.USER)
    record = world.start(sets=(limit,))
    sleep, kills = world.clock.sleep, [3, 6]

    def killed(seconds: float) -> None:
        sleep(seconds)
        if kills and len(world.waited(record)) == kills[0]:
            del kills[0]
            raise KeyboardInterrupt

    world.clock.sleep = killed  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(Interrupted):
            world.drive(record)
    assert ended(world.drive(record)).status is RunStatus.FAILED
    assert sum(world.waited(record)) == 900
    assert len([e for e in world.store.events(record.id) if e.kind == "waiting"]) == 1


def test_an_approval_that_does_not_say_what_it_holds_asks_about_every_repair_but_more_room() -> None:
    approved = Envelope.model_validate({"cost_usd": 25, "unknown_cost": True, "images": ["img/train:1"]})
    before = scenes.plan({"training.lr": 0.1}, by=Author.USER)
    changes = {"training.lr": 0.03, "training.max_len": 512, "resources.memory_mb": 64_000}
    after = apply_changes(before, [PlanChange(path=p, value=v, by=Author.REPAIR) for p, v in changes.items()])
    approved = approved.model_copy(update={"datacenters": ("*",), "mounts": before.mounts})
    assert approved.objections(before, None) == ()
    told = approved.objections(after, None)
    assert [text.split()[0] for text in told] == ["training.lr", "training.max_len"]
    held = held_fields(after, approved)
    assert held["training.lr"] == 0.03
    assert Envelope(cost_usd=25, unknown_cost=True, held={}).held == {}
