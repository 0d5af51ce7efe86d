"""An agent in the background, as users start it: real processes, the real built-in cluster, a real repair."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fakes.product import Product

ROOT = Path(__file__).resolve().parent.parent
# It fails until a repair gives it more memory, as the attempts are told apart by what the job may use.
GREEDY = """
import argparse
import os
import pathlib
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--gate", default="")
args = parser.parse_args()
print("loss 1.0", flush=True)
if int(os.environ["NOMAD_MEMORY_LIMIT"]) < 300:
    print("MemoryError: Unable to allocate 1.00 GiB for an array", file=sys.stderr)
    raise MemoryError
while args.gate and not pathlib.Path(args.gate).exists():
    time.sleep(0.05)
print("loss 0.5", flush=True)
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told.json"


@pytest.fixture
def product(tmp_path: Path, told: Path) -> Iterator[Product]:
    product = Product(tmp_path / "home", CARAVAN_NOTIFY_COMMAND=f"/bin/sh -c 'cat >{told}'")
    yield product
    product.run("cluster", "down")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "greedy"
    path.mkdir()
    (path / "train.py").write_text(GREEDY)
    return path


def detached(product: Product, repository: Path, *more: str) -> Any:
    arguments = ["--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local", "--yes", "--detach"]
    return product.document(*arguments, *more)


def test_it_repairs_after_the_terminal_has_gone(product: Product, repository: Path, told: Path) -> None:
    document = detached(product, repository, "--set", "resources.memory_mb=200")
    run_id, agent = document["run_id"], psutil.Process(document["agent"]["pid"])
    assert document["status"] == "running"
    assert os.getsid(agent.pid) == agent.pid, "it has a session of its own: the terminal's end is not its end"
    watched = product.run("watch", run_id)
    assert watched.returncode == 0, watched.stderr
    ended = product.document("resume", run_id)
    assert ended["status"] == "succeeded"
    assert len(ended["attempts"]) == 2
    assert ended["attempts"][0]["repair"] is not None
    agent.wait()
    assert json.loads(told.read_text())["status"] == "succeeded"
    log = Path(document["agent"]["log"])
    assert "Repair: " in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_its_agent_is_killed_and_another_one_goes_on(product: Product, repository: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    document = detached(product, repository, "--set", f'training.options={{"--gate": "{gate}"}}')
    run_id, agent = document["run_id"], psutil.Process(document["agent"]["pid"])
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    (row,) = product.document("runs")
    assert row["driven"] is False
    again = product.document("resume", run_id, "--detach")
    other = psutil.Process(again["agent"]["pid"])
    assert other.pid != agent.pid
    gate.touch()
    assert product.run("watch", run_id).returncode == 0
    other.wait()
    ended = product.document("resume", run_id)
    assert [a["outcome"]["kind"] for a in ended["attempts"]] == ["succeeded"]


def test_stop_ends_the_job_and_the_agent(product: Product, repository: Path, tmp_path: Path, told: Path) -> None:
    document = detached(product, repository, "--set", f'training.options={{"--gate": "{tmp_path / "never"}"}}')
    agent = psutil.Process(document["agent"]["pid"])
    assert product.run("stop", document["run_id"]).returncode == 0
    agent.wait()
    ended = product.document("resume", document["run_id"], code=130)
    assert ended["status"] == "stopped"
    assert ended["report_path"]
    assert json.loads(told.read_text())["status"] == "stopped"
