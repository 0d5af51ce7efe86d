"""What a plan names and is not there: told before anything is deployed."""

from pathlib import Path
from typing import Any

import pytest

from caravan.values.job import DriverFacts
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunStatus
from tests.agent.test_loop import World, ended
from tests.fakes.cluster import one_node


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def refused(world: World, path: str, value: Any, **request: Any) -> str:
    record = world.start(sets=(PlanChange(path=path, value=value, by=Author.USER),), **request)
    result = ended(world.drive(record))
    assert world.cluster.registrations == []
    assert result.status is not RunStatus.PLANNED
    return result.detail


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("path", ["/no/where/nope.txt", "data/nope.txt", "./nope"])
def test_data_that_is_not_there_is_an_error(world: World, path: str, dry_run: bool) -> None:
    assert f"dataset.path: {path} is not there." in refused(world, "dataset.path", path, dry_run=dry_run)


@pytest.mark.parametrize("path", ["org/data", "data/*.txt", "s3://bucket/x.txt", "train.py", "${NOMAD_TASK_DIR}/x.csv"])
def test_what_is_there_or_may_be_is_none(world: World, path: str) -> None:
    change = PlanChange(path="dataset.path", value=path, by=Author.USER)
    assert ended(world.drive(world.start(sets=(change,), dry_run=True))).status is RunStatus.PLANNED


def test_a_config_file_that_is_not_in_the_code_is_refused(world: World) -> None:
    told = refused(world, "config_overlays", [{"path": "conf/nope.yaml", "values": {"a": 1}}])
    assert "config_overlays: conf/nope.yaml is not in the code" in told


def test_code_that_is_not_where_it_is_said_to_be_is_refused(world: World) -> None:
    told = refused(world, "code", {"kind": "mount", "location": "/no/where"})
    assert "code.location: the directory /no/where is not there." in told


def far(world: World, **drivers: DriverFacts) -> None:
    facts = one_node(gpus=0, builtin=False)
    nodes = tuple(n.model_copy(update={"drivers": {**n.drivers, **drivers}}) for n in facts.nodes)
    world.cluster._facts = facts.model_copy(update={"nodes": nodes})


def test_a_path_that_only_the_node_may_have_is_a_warning(world: World) -> None:
    far(world)
    (world.repo / "Dockerfile").write_text("FROM python:3.11\nWORKDIR /app\nCOPY . .\n")
    sets = tuple(
        PlanChange(path=p, value=v, by=Author.USER)
        for p, v in (("dataset.path", "/mnt/x/data.txt"), ("code.location", "https://git.example/a/b.git"))
    )
    record = world.start(sets=sets, dry_run=True)
    world.drive(record)
    assert any("/mnt/x/data.txt is neither here nor below a volume" in w for w in world.state(record).warnings)


def test_a_dockerfile_is_named_where_only_the_registry_is_missing(world: World) -> None:
    far(world, docker=DriverFacts())
    (world.repo / "Dockerfile").write_text("FROM python:3.11\nWORKDIR /app\nCOPY . .\n")
    result = ended(world.drive(world.start()))
    assert "The nodes can't see the code" in result.detail
    assert "There is a Dockerfile (Dockerfile): set CARAVAN_REGISTRY" in result.detail
    assert "There is a Dockerfile" in refused(world, "code.kind", "image")
