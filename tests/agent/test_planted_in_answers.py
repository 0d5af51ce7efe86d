"""Secrets in what a cluster answers: error bodies, task events, reasons. What is stored, traced and told has none."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from caravan.agent.context import Context
from caravan.agent.driver import Driver, open_checkpoints
from caravan.agent.masked import MaskedCluster
from caravan.agent.traced import TracedCluster
from caravan.runs.folder import DiskFolder
from caravan.runs.store import SqlStore
from caravan.values.dialogue import Ask
from caravan.values.errors import CaravanError, ClusterError, JobRefused
from caravan.values.run import RunRecord
from observability import LocalTracer
from tests.agent.test_loop import World
from tests.fakes.cluster import Script

KNOWN = "odd value, no shape!"
SHAPED = "hvs.PlantedInAnAnswer0000000001"
WORDS = f"refused: the header was {KNOWN} and X-Vault-Token {SHAPED}"


def kept(world: World) -> bytes:
    """Every byte on disk and in memory that somebody may look at later."""
    return b"".join(f.read_bytes() for f in world.tmp.rglob("*") if f.is_file() and world.repo not in f.parents)


def drive(world: World) -> Ask | RunRecord | CaravanError:
    store = SqlStore(world.tmp / "caravan.db", world.clock)
    world.store = store  # type: ignore[assignment]
    record = world.start()
    tracer = LocalTracer(world.tmp / "trace.jsonl", run_id=record.id, clock=world.clock, secrets=(KNOWN,))
    context: Context = replace(
        world.context(record.id),
        cluster=TracedCluster(MaskedCluster(world.cluster, (KNOWN,)), tracer, world.clock),
        tracer=tracer,
        folder=DiskFolder(world.tmp / "home", record.id, secrets=(KNOWN,)),
        secrets=(KNOWN,),
    )
    try:
        with open_checkpoints(world.tmp / "checkpoints.db") as saver:
            return Driver(saver).drive(store.run(record.id), context, None)
    except CaravanError as error:
        return error
    finally:
        tracer.close()
        store.close()


def fails(method: str, error: ClusterError) -> Callable[[World], None]:
    return lambda world: world.cluster.fail(method, error, times=50)


@pytest.mark.parametrize(
    "plant",
    [
        fails("parse", JobRefused(WORDS)),
        fails("check", JobRefused(WORDS)),
        fails("register", JobRefused(WORDS)),
        fails("register", ClusterError(WORDS)),
        fails("logs", ClusterError(WORDS)),
        fails("watch", ClusterError(WORDS)),
    ],
)
def test_an_error_s_words_are_kept_without_secrets(tmp_path: Path, plant: Callable[[World], None]) -> None:
    world = World(tmp_path)
    plant(world)
    drive(world)
    assert b"the header was" in kept(world) or b"caravan-" in kept(world)
    for secret in (KNOWN, SHAPED):
        assert secret.encode() not in kept(world)


@pytest.mark.parametrize("script", [Script(driver_error=WORDS), Script(exit_code=1, stderr=f"x\n{WORDS}\n".encode())])
def test_a_task_s_events_and_logs_are_kept_without_secrets(tmp_path: Path, script: Script) -> None:
    world = World(tmp_path, lambda job: script)
    drive(world)
    assert b"the header was [masked]" in kept(world)
    for secret in (KNOWN, SHAPED):
        assert secret.encode() not in kept(world)
