"""A limit is reached while real processes train on the built-in cluster: they are ended, and their checkpoint is there.

The price is a made one, and the GPU is declared: nothing here costs anything.
"""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.beginning import new_run
from caravan.planning.answers import parse_set
from caravan.values.dialogue import Ask, Reply
from caravan.values.errors import Interrupted
from caravan.values.run import OutcomeKind, Phase, RunRecord, RunRequest, RunStatus
from machine import LocalControl
from main import Application
from tests.agent.test_delivered import Quiet

TRAIN = """
import argparse, json, os, pathlib, signal, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--max_steps", type=int, default=100000)
parser.add_argument("--output_dir", default="out")
parser.add_argument("--resume_from_checkpoint", default=None)
args = parser.parse_args()
out = pathlib.Path(os.environ.get("CARAVAN_OUTPUT_DIR") or args.output_dir)
out.mkdir(parents=True, exist_ok=True)
who = os.environ.get("NOMAD_ALLOC_INDEX", "0")


class SGD:
    def step(self):
        pass


def save(step):
    part = out / f".part-{who}"
    part.mkdir(exist_ok=True)
    (part / "state.json").write_text(json.dumps({"step": step}))
    part.rename(out / f"checkpoint-{step}-{who}")


def end(number, frame):
    save(step)
    print(f"saved at step {step}", flush=True)
    sys.exit(143)


step, optimizer = 0, SGD()
signal.signal(signal.SIGTERM, end)
while step < args.max_steps:
    optimizer.step()
    step += 1
    print(f"step {step} loss {1 / step:.4f}", flush=True)
    time.sleep(0.1)
"""
SETS = ("resources.gpus=1", "limits.max_run_s=900", "kill_timeout_s=10", "smoke.on=false")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    gpu = {"vendor": "nvidia", "type": "gpu", "model": "Fake 24GB", "memory_mib": 24564, "count": 1}
    node = {"cpu_mhz": 8000, "cores": 4, "memory_mb": 16000, "disk_mb": 50000, "drivers": {"raw_exec": {}}}
    inventory = home / "nodes.json"
    inventory.write_text(json.dumps({"nodes": [{**node, "name": name, "devices": [gpu]} for name in ("one", "two")]}))
    control = LocalControl(home / "cluster")
    control.up(inventory)
    yield home
    control.down()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    root.mkdir()
    (root / "train.py").write_text(TRAIN)
    return root


@pytest.fixture(autouse=True)
def settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CARAVAN_HOME": str(home),
        "CARAVAN_MEMORY": "0",
        "CARAVAN_USD_PER_GPU_HOUR": "360",  # 0.1 USD a second
        "CARAVAN_SOFT_LIMIT_USD": "1000",
        "CARAVAN_HARD_LIMIT_USD": "1000",
        "CARAVAN_MONTHLY_USD": "5000",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("caravan.agent.account.TELL_S", 0.5)


def start(repository: Path, *sets: str) -> RunRecord:
    request = RunRequest(
        prompt="Train it", source=str(repository), cluster="local", yes=True, sets=tuple(map(parse_set, (*SETS, *sets)))
    )
    record = new_run(request, datetime.now(UTC), "ada")
    Application().store().create_run(record)
    return record


def drive(record: RunRecord, progress: Any, reply: Reply | None = None) -> Any:
    app = Application()
    with app.driver() as driver, app.context(app.store().run(record.id), progress) as context:
        return driver.drive(app.store().run(record.id), context, reply)


def state(record: RunRecord) -> Any:
    with Application().driver() as driver:
        return driver.state(record.id)


def spend(usd: float) -> None:
    """Another run's money, as its own agent would tell it."""
    store, now = Application().store(), datetime.now(UTC)
    other = RunRecord(id=f"o{time.time_ns():x}"[:12], created_at=now, updated_at=now, request=_NOTHING)
    store.create_run(other)
    store.update_run(other.id, cost_usd=usd)
    store.close()


_NOTHING = RunRequest(prompt="p", source="s")


class Spender(Quiet):
    """Once the job logs its steps, on each of its nodes, somebody else spends what is left of the month."""

    def __init__(self, usd: float, nodes: int = 1) -> None:
        super().__init__()
        self.usd, self.nodes, self.done = usd, nodes, threading.Event()
        self.heard: set[str] = set()

    def log(self, stream: str, lines: Any) -> None:
        self.heard |= {line.partition("step ")[0] for line in lines if "step " in line}
        if len(self.heard) >= self.nodes and not self.done.is_set():
            self.done.set()
            spend(self.usd)


def checkpoints(home: Path, record: RunRecord) -> list[int]:
    found = (home / "runs" / record.id / "outputs").rglob("checkpoint-*/state.json")
    return [json.loads(path.read_text())["step"] for path in found]


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_months_limit_ends_the_job_and_its_checkpoint_is_there(
    home: Path, repository: Path, nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = sum(row.spent_usd for row in Application().store().spending())
    monkeypatch.setenv("CARAVAN_MONTHLY_USD", str(taken + 1000))
    record = start(repository, f"launch.nodes={nodes}")
    drive(record, Spender(1000, nodes))
    now = state(record)
    attempt = now.attempts[0]
    assert attempt.outcome.kind is OutcomeKind.EXPIRED, attempt.outcome
    assert "CARAVAN_MONTHLY_USD" in attempt.outcome.reason
    assert len(now.attempts) == 1
    saved = checkpoints(home, record)
    assert len(saved) == nodes
    assert min(saved) >= 1
    store = Application().store()
    assert 0 < store.run(record.id).cost_usd < 100
    mine = next(row for row in store.spending() if row.user == "ada")
    assert mine.spent_usd >= store.run(record.id).cost_usd * 0.99


class Leaver(Quiet):
    """An agent that goes away as soon as the job runs."""

    def snapshot(self, snapshot: Any) -> None:
        if snapshot.phase is Phase.RUNNING and any(t.state == "running" for a in snapshot.allocations for t in a.tasks):
            raise KeyboardInterrupt


def test_an_agent_that_takes_over_ends_it_for_what_was_spent_meanwhile(
    home: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = sum(row.spent_usd for row in Application().store().spending())
    monkeypatch.setenv("CARAVAN_MONTHLY_USD", str(taken + 1000))
    record = start(repository)
    with pytest.raises(Interrupted):
        drive(record, Leaver())
    assert Application().store().reserved_usd(record.id) is not None
    spend(1000)
    drive(record, Quiet())
    (attempt,) = state(record).attempts
    assert attempt.outcome.kind is OutcomeKind.EXPIRED
    assert "CARAVAN_MONTHLY_USD" in attempt.outcome.reason
    assert len(checkpoints(home, record)) == 1


def test_a_run_that_can_go_on_waits_and_is_deployed_again_once_there_is_money(
    home: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = sum(row.spent_usd for row in Application().store().spending())
    monkeypatch.setenv("CARAVAN_MONTHLY_USD", str(taken + 1000))
    goes_on = 'resume={"kind": "files", "flag": "--resume_from_checkpoint", "pattern": "checkpoint-*/state.json"}'
    record = start(repository, goes_on)
    asked = drive(record, Spender(1000))
    assert isinstance(asked, Ask)
    assert "CARAVAN_MONTHLY_USD" in asked.text
    again = drive(record, Quiet(), Reply(approved=True, budget_usd=900.0))
    assert isinstance(again, Ask)  # a sum for the run does not raise what runs share
    assert len(state(record).attempts) == 1
    assert "--budget doesn't help" in again.text
    monkeypatch.setenv("CARAVAN_MONTHLY_USD", str(taken + 3000))
    with pytest.raises(Interrupted):
        drive(record, Leaver(), Reply(approved=True, budget_usd=950.0))
    deployed = Application().store().deployments(record.id)
    assert deployed[-1].attempt >= 2
    Application().store().update_run(record.id, status=RunStatus.STOPPED, detail="stopped by the test")
    drive(record, Quiet())  # its job is ended


def test_without_a_checkpoint_it_says_so_counts_and_offers_a_longer_limit(home: Path, repository: Path) -> None:
    (repository / "train.py").write_text(TRAIN.replace('    save(step)\n    print(f"saved', '    print(f"not saved'))
    goes_on = 'resume={"kind": "files", "flag": "--resume_from_checkpoint", "pattern": "checkpoint-*/state.json"}'
    record = start(repository, goes_on, "limits.max_run_s=3", "kill_timeout_s=2")
    asked = drive(record, Quiet())
    assert isinstance(asked, Ask)
    assert "No checkpoint was written: it starts anew." in asked.text
    assert "limits.max_run_s of 3 s it would end there again" in asked.text
    assert "Go on from" not in asked.text
    now = state(record)
    assert (now.attempts[0].counts, now.written, now.reached) == (True, False, 0.0)
    assert now.tried[-1].why == "no checkpoint was written: it starts anew"
    assert [c.changes[0].value for c in asked.choices] == [6]
    again = drive(record, Quiet(), Reply(choice=1))
    assert isinstance(again, Ask)  # nothing longer than what was approved runs without a yes
    assert again.plan is not None
    assert again.plan.limits.max_run_s == 6
    assert len(state(record).attempts) == 1
    assert checkpoints(home, record) == []
