"""What has no place is said before anything is registered, with other plans that a person may take instead."""

from pathlib import Path
from typing import Any

import pytest

from caravan.planning.catalogue import Prices
from caravan.values.base import Json
from caravan.values.dialogue import Ask, AskKind, Reply
from caravan.values.job import ClusterFacts, DeviceGroup, DryRun, PlacementFailure
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunRecord, RunStatus
from tests.agent.test_loop import World, ended
from tests.fakes.cluster import FakeCluster, Script, one_node

HOUR = PlanChange(path="limits.max_run_s", value=3600, by=Author.USER)
IN_USE = {"devices: no devices match request": 1}


def wish(path: str, value: Any) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.USER)


class Busy(FakeCluster):
    """Takes a job with fewer than `free` + 1 GPUs at once; others would wait for them."""

    free = 1

    def check(self, job: Json) -> DryRun:
        answer = super().check(job)
        devices = job["TaskGroups"][0]["Tasks"][0]["Resources"].get("Devices") or [{"Count": 0}]
        if answer.errors or answer.failures or devices[0]["Count"] <= self.free:
            return answer
        failure = PlacementFailure(
            group="train", nodes_evaluated=1, nodes_exhausted=1, nodes_available={"dc1": 1}, dimension_exhausted=IN_USE
        )
        return DryRun(failures=(failure,))


def gpu_world(tmp_path: Path, kind: type[FakeCluster] = FakeCluster, gpus: int = 4) -> World:
    world = World(tmp_path, gpus=gpus)
    world.cluster = kind(world.clock, facts=one_node(gpus=gpus))
    world.prices = Prices(usd_per_gpu_hour=1.0)
    return world


def asked(world: World, record: RunRecord) -> Ask:
    ask = world.drive(record)
    while isinstance(ask, Ask) and ask.kind is AskKind.QUESTIONS:
        ask = world.drive(record, Reply())
    assert isinstance(ask, Ask), ask
    assert ask.kind is AskKind.APPROVAL
    return ask


def texts(ask: Ask) -> list[str]:
    return [choice.text for choice in ask.choices]


def registered(world: World) -> list[int]:
    tasks = [job["TaskGroups"][0]["Tasks"][0] for job in world.cluster.registrations]
    return [task["Resources"]["Devices"][0]["Count"] for task in tasks]


def test_a_plan_that_would_wait_is_shown_with_waiting_and_what_could_run_now(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, Busy)
    ask = asked(world, world.start(yes=False, sets=(wish("resources.gpus", 4), HOUR)))
    assert texts(ask)[0].startswith("wait: GPUs are in use on fake-1")
    assert [{c.path: c.value for c in choice.changes} for choice in ask.choices[1:]] == [
        {"resources.gpus": 1, **_scaled(ask, 1, 4)}
    ]
    assert any(w.startswith("it will wait: ") for w in ask.warnings)
    assert world.cluster.registrations == []


def _scaled(ask: Ask, count: int, of: int) -> dict[str, Any]:
    """What goes by the GPU, and so gets less with fewer of them."""
    assert ask.plan is not None
    given = ask.plan.resources
    return {"resources.memory_mb": given.memory_mb * count // of, "resources.cpu_mhz": given.cpu_mhz * count // of}


def test_a_taken_choice_is_the_users_word_and_asked_about_as_the_plan_it_is(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, Busy)
    record = world.start(yes=False, sets=(wish("resources.gpus", 4), HOUR))
    asked(world, record)
    again = world.drive(record, Reply(choice=2))
    assert isinstance(again, Ask)
    assert again.plan is not None
    assert again.plan.resources.gpus == 1
    assert again.plan.set_by("resources.gpus") is Author.USER
    assert again.estimate is not None
    assert again.estimate.cost_usd is not None
    assert again.estimate.cost_usd.high == pytest.approx(1.0)
    assert (again.choices, again.objections) == ((), ())
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    assert registered(world) == [1]


def test_choosing_to_wait_is_a_yes(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, Busy)
    record = world.start(yes=False, sets=(wish("resources.gpus", 4), HOUR))
    asked(world, record)
    assert ended(world.drive(record, Reply(choice=1))).status is RunStatus.SUCCEEDED
    assert registered(world) == [4]


def test_a_choice_that_is_none_is_asked_again(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, Busy)
    record = world.start(yes=False, sets=(wish("resources.gpus", 4), HOUR))
    first = asked(world, record)
    assert world.drive(record, Reply(choice=9)) == first
    assert world.cluster.registrations == []


def test_yes_waits_and_takes_no_other_plan_by_itself(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, Busy)
    assert ended(world.drive(world.start(sets=(wish("resources.gpus", 4), HOUR)))).status is RunStatus.SUCCEEDED
    assert registered(world) == [4]


def two_types() -> ClusterFacts:
    facts = one_node(gpus=2)
    small = DeviceGroup(vendor="nvidia", type="gpu", model="Other 16GB", count=1, memory_mib=16384)
    second = facts.nodes[0].model_copy(update={"id": "2" * 36, "name": "fake-2", "devices": (small,)})
    return facts.model_copy(update={"nodes": (*facts.nodes, second)})


def test_a_wish_that_no_node_has_is_asked_about_with_the_nearest_first_and_the_others_beside_it(
    tmp_path: Path,
) -> None:
    world = gpu_world(tmp_path)
    world.cluster = FakeCluster(world.clock, facts=two_types())
    wishes = (wish("resources.gpu_model", "H100"), wish("resources.gpus", 1), HOUR)
    record = world.start(sets=wishes)  # --yes: it takes nothing that a person did not ask for
    ask = asked(world, record)
    assert ask.plan is not None
    assert ask.plan.resources.gpu_model == "Fake 24GB"
    assert any("resources.gpu_model would be Fake 24GB instead of H100" in text for text in ask.objections)
    (other,) = ask.choices
    assert other.text.startswith("Other 16GB instead of H100")
    # Nothing speaks against it any more, for it is the user's own word now, and --yes holds for what it costs.
    assert ended(world.drive(record, Reply(choice=1))).status is RunStatus.SUCCEEDED
    assert [r.why for r in world.state(record).tried] == [other.text]
    names = [j["TaskGroups"][0]["Tasks"][0]["Resources"]["Devices"][0] for j in world.cluster.registrations]
    assert "Other 16GB" in str(names)


def test_another_pool_is_never_taken_unasked(tmp_path: Path) -> None:
    world = gpu_world(tmp_path)
    node = one_node().nodes[0].model_copy(update={"id": "3" * 36, "name": "elsewhere", "node_pool": "big"})
    here = one_node().nodes[0].model_copy(update={"memory_mb": 512})
    world.cluster = FakeCluster(world.clock, facts=one_node().model_copy(update={"nodes": (here, node)}))
    ask = asked(world, world.start(sets=(wish("resources.memory_mb", 8000),)))
    assert ask.plan is not None
    assert ask.plan.node_pool == "big"
    assert any("node_pool would be big" in text for text in ask.objections)
    assert world.cluster.registrations == []


def test_what_fits_nowhere_ends_with_the_reasons_and_the_nodes_that_would_do(tmp_path: Path) -> None:
    world = gpu_world(tmp_path)
    asleep = one_node(gpus=8).nodes[0].model_copy(update={"id": "4" * 36, "name": "big", "eligible": False})
    world.cluster = FakeCluster(
        world.clock, facts=one_node().model_copy(update={"nodes": (one_node().nodes[0], asleep)})
    )
    wishes = (wish("resources.gpus", 8), wish("resources.memory_mb", 8000), wish("resources.cpu_mhz", 800), HOUR)
    result = ended(world.drive(world.start(sets=wishes)))
    assert result.status is RunStatus.ESCALATED
    assert "big is drained or not eligible, and would take it" in result.detail
    assert world.cluster.registrations == []


class NeverFree(Busy):
    """Places no job with more than `free` GPUs, and says so in the dry run only once one has waited."""

    def check(self, job: Json) -> DryRun:
        return super().check(job) if self.registrations else FakeCluster.check(self, job)


def test_a_choice_after_a_job_that_was_not_placed_is_what_the_attempt_tells(tmp_path: Path) -> None:
    world = gpu_world(tmp_path, NeverFree, gpus=4)
    world.cluster = NeverFree(
        world.clock,
        facts=one_node(gpus=4),
        script=lambda job: Script(
            queued=job["TaskGroups"][0]["Tasks"][0]["Resources"]["Devices"][0]["Count"] > Busy.free
        ),
    )
    record = world.start(yes=False, sets=(wish("resources.gpus", 4), wish("limits.queue_s", 60), HOUR))
    asked(world, record)
    ask = world.drive(record, Reply(approved=True))
    assert isinstance(ask, Ask), ask
    assert ask.objections
    assert ask.plan is not None
    assert ask.plan.resources.gpus == 1
    assert ended(world.drive(record, Reply(approved=True))).status is RunStatus.SUCCEEDED
    first = world.state(record).attempts[0]
    assert first.changed["resources.gpus"] == (4, 1)
    assert registered(world) == [4, 1]
