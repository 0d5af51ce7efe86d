"""Several nodes for a program that can't share its work between them."""

from pathlib import Path

import pytest

from caravan.agent.nodes.validate import _own
from caravan.values.dialogue import Ask, Reply
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunStatus
from tests.agent.test_loop import World, ended

TWO = PlanChange(path="launch.nodes", value=2, by=Author.USER)
SMALL = PlanChange(path="resources.memory_mb", value=256, by=Author.USER)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_yes_does_not_approve_nodes_that_would_each_train_the_whole(world: World) -> None:
    record = world.start(sets=(TWO, SMALL))
    ask = world.drive(record)
    assert isinstance(ask, Ask)
    assert any("each node would train all of it by itself, for 2 times the price" in text for text in ask.objections)
    assert world.cluster.registrations == []
    world.drive(record, Reply(approved=True))  # a person may want just that
    assert len(world.cluster.registrations) == 1


def test_a_dry_run_warns_of_it(world: World) -> None:
    record = world.start(sets=(TWO, SMALL), dry_run=True)
    assert ended(world.drive(record)).status is RunStatus.PLANNED
    assert any("each node would train all of it" in text for text in world.state(record).warnings)


def test_a_program_that_reads_its_rank_is_not_asked_about(world: World) -> None:
    train = world.repo / "train.py"
    train.write_text("import os\nRANK = os.environ.get('RANK')\n" + train.read_text())
    world.drive(world.start(sets=(TWO, SMALL)))
    assert len(world.cluster.registrations) == 1


def test_that_services_have_no_shutdown_delay_is_no_warning() -> None:
    said = 'group "train" defines services, but neither the group nor any of its tasks have shutdown_delay set'
    assert tuple(_own((said, "identities without an audience are insecure"))) == (
        "identities without an audience are insecure",
    )
