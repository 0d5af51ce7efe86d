"""A node that gave trouble to an earlier run is preferred less by the next ones, for a while and where others are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.troubled import Trouble, spared, wishes
from caravan.planning.catalogue import Prices
from caravan.values.failure import FailureClass
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunStatus
from tests.agent.test_loop import World, ended
from tests.agent.test_nodes_avoided import PLAN
from tests.diagnosis.repair_scenes import facts, gpu, node
from tests.fakes.cluster import Script, one_node

BROKEN = b"RuntimeError: CUDA error: uncorrectable ECC error encountered\n"
AT = datetime(2026, 5, 1, tzinfo=UTC)
CARD: dict[str, Any] = {"devices": (gpu("Fake 24GB", 24),)}
WANTS = PLAN.model_copy(update={"resources": PLAN.resources.model_copy(update={"gpus": 1})})


def trouble(name: str) -> Trouble:
    return Trouble(name, FailureClass.GPU_NODE_BROKEN, "r1", AT)


def test_nodes_are_spared_as_far_as_others_could_take_the_plan() -> None:
    here = facts(node("a", **CARD), node("b", **CARD), node("no-card"))
    assert spared(WANTS, here, ("a",)) == ("a",)
    assert spared(WANTS, here, ("b", "a")) == ("b",)  # the newest trouble first; the other is better than none
    assert spared(WANTS, facts(node("a", **CARD), node("no-card")), ("a",)) == ()
    assert spared(WANTS, here, ("gone",)) == ()
    two = WANTS.model_copy(update={"launch": WANTS.launch.model_copy(update={"nodes": 2})})
    assert spared(two, here, ("a",)) == ()
    assert spared(two, facts(*here.nodes, node("c", **CARD)), ("a", "b")) == ("a",)


def test_it_is_a_preference_beside_those_that_the_plan_has() -> None:
    here = facts(node("a", **CARD), node("b", **CARD))
    (change,) = wishes(WANTS, here, (trouble("a"),))
    assert (change.path, change.by) == ("affinities", Author.MEMORY)
    assert change.value == [{"attribute": "${node.unique.name}", "operator": "=", "value": "a", "weight": -100}]
    assert change.why == "rather another node: a had gpu node broken in run r1 on 2026-05-01"
    assert not wishes(WANTS, facts(node("a", **CARD)), (trouble("a"),))


def two_nodes(tmp_path: Path, broken: set[str]) -> World:
    """A cluster of two nodes with a card each; what is in `broken` fails there."""

    def script(job: Any) -> Script:
        return (
            Script(exit_code=1, stderr=BROKEN) if "fake-1" in broken and not _apart(job) else Script(stdout=b"loss=1\n")
        )

    world = World(tmp_path, script)
    first = one_node(gpus=1)
    card = first.nodes[0]
    other = card.model_copy(update={"id": "22222222-2222-2222-2222-222222222222", "name": "fake-2"})
    world.prices = Prices(usd_per_gpu_hour=1.0)
    world.cluster._facts = first.model_copy(update={"nodes": (card, other)})
    return world


def _apart(job: Any) -> bool:
    """Whether the job keeps away from the first node, or would rather."""
    rules = [*(job.get("Constraints") or []), *(job.get("Affinities") or [])]
    return any(r["RTarget"] == "fake-1" for r in rules)


def sets(**more: Any) -> tuple[PlanChange, ...]:
    values = {"resources.gpus": 1, "resources.memory_mb": 256, "limits.max_run_s": 600, "smoke.on": False, **more}
    return tuple(PlanChange(path=p, value=v, by=Author.USER) for p, v in values.items())


def run(world: World, **more: Any) -> tuple[Any, Any]:
    record = world.start(sets=sets(**more), budget_usd=100.0)
    return ended(world.drive(record)), world.state(record)


def test_a_node_that_broke_costs_the_next_run_no_attempt(tmp_path: Path) -> None:
    world = two_nodes(tmp_path, {"fake-1"})
    record, state = run(world)
    assert record.status is RunStatus.SUCCEEDED
    assert [a.diagnosis and a.diagnosis.failure for a in state.attempts] == [FailureClass.GPU_NODE_BROKEN, None]
    record, state = run(world)
    assert record.status is RunStatus.SUCCEEDED
    assert len(state.attempts) == 1
    assert state.plan.affinities[0].value == "fake-1"
    assert any("rather another node: fake-1 had gpu node broken" in note for note in world.progress.notes)
    world.clock.sleep(timedelta(days=2).total_seconds())
    _, state = run(world)
    assert (state.plan.affinities, len(state.attempts)) == ((), 2)


@pytest.mark.parametrize("more", [{"resources.gpus": 0}, {"affinities": []}])
def test_it_is_no_matter_of_a_job_without_a_gpu_nor_against_a_person(tmp_path: Path, more: dict[str, Any]) -> None:
    world = two_nodes(tmp_path, {"fake-1"})
    run(world)
    _, state = run(world, **more)
    assert state.plan.affinities == ()


def test_a_node_that_served_since_is_as_good_as_any(tmp_path: Path) -> None:
    broken = {"fake-1"}
    world = two_nodes(tmp_path, broken)
    run(world)
    broken.clear()
    record, _ = run(world, affinities=[])
    assert record.status is RunStatus.SUCCEEDED  # on the first node, where a person wanted it
    _, state = run(world)
    assert state.plan.affinities == ()
