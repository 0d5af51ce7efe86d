"""`--on-cluster`, as users run it: the agent is a job of the real built-in cluster, in real processes."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from caravan.cluster.local import control
from caravan.cluster.nomad import NomadCluster
from caravan.runs.bundle import unpack
from machine import SystemClock
from tests.fakes.langfuse_server import LangfuseServer
from tests.fakes.product import Product

ROOT = Path(__file__).resolve().parent.parent
# It fails until a repair gives it more memory, then waits for a gate, where there is one.
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


class Handing(Product):
    """The product, and the cluster that it started."""

    def hand_over(self, repository: Path, *more: str) -> Any:
        arguments = ["--prompt", "Train it", "--codebase-path", str(repository), "--cluster", "local", "--yes"]
        return self.document(*arguments, "--on-cluster", *more)

    def cluster(self) -> NomadCluster:
        running = control.status(self.home / "cluster")
        assert running is not None
        return NomadCluster(
            running.address,
            token=Path(running.token_file).read_text().strip(),
            namespace="default",
            region=None,
            verify=True,
            cert=None,
            clock=SystemClock(),
            timeout=15,
        )

    def agents(self, run_id: str) -> list[psutil.Process]:
        """The processes of the run's agent on the cluster."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if run_id in words and "--adopt" in words and "resume" in words and words[0] == sys.executable:
                found.append(process)
        return found


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Handing]:
    product = Handing(tmp_path / "home")
    yield product
    product.run("cluster", "down")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "greedy"
    path.mkdir()
    (path / "train.py").write_text(GREEDY)
    return path


def gated(path: Path) -> tuple[str, str]:
    return ("--set", f'training.options={{"--gate": "{path}"}}')


def until_left(product: Handing, run_id: str) -> None:
    """Wait until the agent works: it has left the run for the first time."""
    with_left = product.home / "cluster"
    while not list(with_left.glob("allocs/*/alloc/data/caravan-run.b64")):
        time.sleep(0.1)


def test_its_trace_is_brought_here_too_and_langfuse_gets_it_from_here(product: Handing, repository: Path) -> None:
    with LangfuseServer() as langfuse:
        product.environment |= langfuse.environment()
        run_id = product.hand_over(repository)["run_id"]  # no secrets are lent: its agent works without LangFuse
        assert product.run("watch", run_id).returncode == 0
        assert product.document("resume", run_id)["status"] == "succeeded"
        names = [span["name"] for span in product.document("traces", run_id)["spans"]]
        assert {"deploy_job", "verify_deployment", "evaluate", "report"} <= set(names)
        assert names.count("analyze_codebase") == 1
        assert "report" not in {span.name for span in langfuse.kept.spans.values()}
        assert product.run("traces", "push", run_id).returncode == 0
        assert {"deploy_job", "evaluate", "report"} <= {span.name for span in langfuse.kept.spans.values()}


def test_it_repairs_there_and_the_result_is_brought_here(product: Handing, repository: Path) -> None:
    document = product.hand_over(repository, "--set", "resources.memory_mb=200")
    run_id = document["run_id"]
    assert document["status"] == "running"
    assert document["agent"]["job_id"] == f"caravan-agent-{run_id}"
    watched = product.run("watch", run_id)
    assert watched.returncode == 0, watched.stderr
    assert "Repair: " in watched.stderr or "repair: " in watched.stdout
    ended = product.document("resume", run_id)
    assert ended["status"] == "succeeded"
    assert [a["outcome"]["kind"] for a in ended["attempts"]] == ["failed", "succeeded"]
    folder = product.home / "runs" / run_id
    assert Path(ended["report_path"]).is_relative_to(folder)
    assert all(Path(a["hcl_path"]).is_relative_to(folder) and Path(a["hcl_path"]).exists() for a in ended["attempts"])
    assert "Repair: " in (folder / "agent.log").read_text()
    cluster = product.cluster()
    assert cluster.find(f"caravan-agent-{run_id}") is None, "nothing of the agent is left"
    assert cluster.variable_names(f"nomad/jobs/caravan-agent-{run_id}") is None
    cluster.close()


def test_while_it_works_nobody_else_does(product: Handing, repository: Path, tmp_path: Path) -> None:
    run_id = product.hand_over(repository, *gated(tmp_path / "gate"))["run_id"]
    refused = product.run("resume", run_id)
    assert refused.returncode == 2
    assert f"driven by an agent on the cluster (job caravan-agent-{run_id})" in refused.stderr
    assert product.run("delete", run_id, "--yes").returncode == 2
    assert "on cluster" in product.run("runs").stdout
    assert "on cluster" in product.run("show", run_id).stdout
    (row,) = product.document("runs")
    assert row["driven"] is True
    (tmp_path / "gate").touch()
    assert product.run("watch", run_id).returncode == 0


def test_the_token_that_it_was_lent_stands_nowhere_else(product: Handing, repository: Path, tmp_path: Path) -> None:
    run_id = product.hand_over(repository, *gated(tmp_path / "gate"))["run_id"]
    until_left(product, run_id)
    running = control.status(product.home / "cluster")
    assert running is not None
    token = Path(running.token_file).read_bytes().strip()
    holding = [path for path in product.home.rglob("*") if path.is_file() and token in path.read_bytes()]
    elsewhere = [p for p in holding if "secrets" not in p.parts and p.name not in ("token", "variables.json")]
    assert [p for p in elsewhere if p != Path(running.token_file)] == []
    for packed in product.home.glob("cluster/allocs/*/**/caravan-run.b64"):
        assert token not in unpack(packed.read_bytes()).canonical().encode()
    assert product.run("stop", run_id).returncode == 0


def test_its_killed_process_comes_back_and_deploys_nothing_twice(
    product: Handing, repository: Path, tmp_path: Path
) -> None:
    run_id = product.hand_over(repository, *gated(tmp_path / "gate"))["run_id"]
    until_left(product, run_id)
    (agent,) = product.agents(run_id)
    agent.send_signal(signal.SIGKILL)
    (tmp_path / "gate").touch()
    assert product.run("watch", run_id).returncode == 0
    ended = product.document("resume", run_id)
    assert [a["outcome"]["kind"] for a in ended["attempts"]] == ["succeeded"]
    cluster = product.cluster()
    job = cluster.find(f"caravan-{run_id}-a01")
    assert job is not None
    assert job.version == 0
    cluster.close()


def test_stop_ends_the_agent_and_the_job(product: Handing, repository: Path, tmp_path: Path) -> None:
    run_id = product.hand_over(repository, *gated(tmp_path / "never"))["run_id"]
    until_left(product, run_id)
    stopped = product.run("stop", run_id)
    assert stopped.returncode == 0, stopped.stderr
    assert f"caravan-{run_id}-a01 was told to end" in stopped.stdout
    assert product.agents(run_id) == []
    ended = product.document("resume", run_id, code=130)
    assert ended["status"] == "stopped"
    assert ended["report_path"]
    assert product.run("delete", run_id, "--yes").returncode == 0


def test_a_question_comes_back_and_is_answered_here(product: Handing, repository: Path, tmp_path: Path) -> None:
    run_id = product.hand_over(repository, *gated(tmp_path / "gate"))["run_id"]
    until_left(product, run_id)
    cluster = product.cluster()
    cluster.stop(f"caravan-{run_id}-a01", purge=True)  # lost: whether it is deployed anew a person decides
    cluster.close()
    assert product.run("watch", run_id).returncode == 3
    asked = product.document("resume", run_id, code=3)
    assert asked["status"] == "waiting"
    assert asked["question"]
    (tmp_path / "gate").touch()
    ended = product.document("resume", run_id, "--approve")
    assert ended["status"] == "succeeded"


def test_what_is_lost_there_goes_on_from_here(product: Handing, repository: Path, tmp_path: Path) -> None:
    run_id = product.hand_over(repository, *gated(tmp_path / "gate"))["run_id"]
    until_left(product, run_id)
    cluster = product.cluster()
    cluster.stop(f"caravan-agent-{run_id}", purge=True)
    cluster.close()
    for file in product.home.glob("cluster/allocs/*/alloc/data/caravan-run.b64"):
        file.unlink()
    (tmp_path / "gate").touch()
    ended = product.document("resume", run_id)
    assert [a["outcome"]["kind"] for a in ended["attempts"]] == ["succeeded"]
