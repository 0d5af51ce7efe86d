"""Killing the agent with -9 in each node, before and after each effect and after the node returned: the resumed run
has the same result, and no job is registered twice. Real graph, real checkpoints, real built-in cluster."""

import json
import multiprocessing
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import requests

from caravan.agent.beginning import new_run
from caravan.agent.graph import NODES
from caravan.values.plan import Author, PlanChange
from caravan.values.run import RunRequest
from machine import LocalControl
from main import Application
from tests.agent import killing

SCRIPT = """
import argparse
import os
import pathlib


class Line:
    weight = 0.0


class SGD:
    def __init__(self, model, lr):
        self.model, self.lr = model, lr

    def step(self, gradient):
        self.model.weight -= self.lr * gradient


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--output-dir", default="out")
args = parser.parse_args()
out = pathlib.Path(args.output_dir)
out.mkdir(parents=True, exist_ok=True)
with (out / "executions").open("a") as file:
    file.write(os.environ["NOMAD_ALLOC_ID"] + "\\n")
model = Line()
optimizer = SGD(model, lr=args.learning_rate)
for epoch in range(args.epochs):
    loss = (model.weight - 1) ** 2
    optimizer.step(2 * (model.weight - 1))
    print(f"epoch {epoch} loss {loss:.3f} eval_loss {(model.weight - 1) ** 2:.3f}", flush=True)
if os.environ.get("FIXED") != "yes":
    raise SystemExit("FIXED is not set")
(out / "weights").write_text(str(model.weight))
"""

JUDGE = """
import json
import os
import pathlib

weight = float((pathlib.Path(os.environ["CARAVAN_OUTPUT_DIR"]) / "weights").read_text())
print(json.dumps({"loss": (weight - 1) ** 2}))
"""

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.agent.warm"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # The process that forks does not get our sys.path, and says nothing when it can't import what it should.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()
    home = tmp_path_factory.mktemp("home")
    control = LocalControl(home / "cluster")
    control.up(None)
    yield home
    control.down()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    (folder / "train.py").write_text(SCRIPT)
    (folder / "README.md").write_text("# Tiny\n\nTrain it:\n\n    python train.py --epochs 2\n")
    return folder


class Scenario:
    """A request and how it ends when nobody disturbs it."""

    def __init__(self, home: Path, repository: Path, folder: Path, *, fixing: bool, **request: Any) -> None:
        self.home, self.folder, self.fixing = home, folder, fixing
        self.request = RunRequest(prompt="Train it", source=str(repository), cluster="local", **request)
        self._number = 0
        self.app = Application()

    def run(self, target: str | None) -> tuple[dict[str, Any], list[str], bool]:
        """The result, the points passed before the kill, and whether it came to be killed."""
        self._number += 1
        shutil.rmtree(self.home / "memory", ignore_errors=True)  # else a run knows what the one before it learned
        record = new_run(self.request, datetime.now(UTC))
        self.app.store().create_run(record)
        log, result = self.folder / f"points-{self._number}", self.folder / f"result-{self._number}"
        log.touch()
        code = self._process(record.id, log, target, result)
        points = log.read_text().split()
        killed = code == -9
        if killed:
            assert points[-1] == target
            code = self._process(record.id, self.folder / f"resumed-{self._number}", None, result)
        assert code == 0
        return {**json.loads(result.read_text()), **self._on_the_cluster(record.id)}, points, killed

    def _process(self, run_id: str, log: Path, target: str | None, result: Path) -> int | None:
        arguments = (str(self.home), run_id, str(log), target, self.fixing, str(result))
        process = PROCESSES.Process(target=killing.drive, args=arguments)
        process.start()
        process.join()
        return process.exitcode

    def _on_the_cluster(self, run_id: str) -> dict[str, Any]:
        running = LocalControl(self.home / "cluster").up(None)
        headers = {"X-Nomad-Token": Path(running["token_file"]).read_text().strip()}

        def get(path: str) -> Any:
            answer = requests.get(running["address"] + path, headers=headers, timeout=30)
            answer.raise_for_status()
            return answer.json()

        jobs = [j for j in get(f"/v1/jobs?prefix=caravan-{run_id}") if j["ID"].startswith(f"caravan-{run_id}")]
        registrations = [
            sum(
                e["TriggeredBy"] == "job-register"
                for e in get(f"/v1/job/{j['ID']}/evaluations")
                if e["JobID"] == j["ID"]
            )
            for j in jobs
        ]
        executions = self.home / "runs" / run_id / "outputs" / "executions"
        return {
            "jobs": sorted(j["ID"].removeprefix(f"caravan-{run_id}") for j in jobs),
            "registrations": registrations,
            "executions": len(executions.read_text().split()) if executions.exists() else 0,
        }


def _same(result: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on being killed: not times, ids and allocations."""
    return {
        **{k: result[k] for k in ("status", "fixes", "jobs", "registrations", "executions", "events")},
        "detail": re.sub(r"\bmain\.py (logs|resume) [0-9a-f]{8}\b", r"main.py \1 RUN", result["detail"]),
        "attempts": [
            (a["number"], a["counts"], a["outcome"]["kind"], a["outcome"]["exit_code"], a["repair"])
            for a in result["attempts"]
        ],
        "deployments": [(d["attempt"], d["state"]) for d in result["deployments"]],
    }


def _kill_everywhere(scenario: Scenario, nodes: set[str]) -> set[str]:
    """Kill at each point of these nodes; the nodes in which a kill was tried."""
    undisturbed, points, _ = scenario.run(None)
    expected, tried = _same(undisturbed), set()
    for point in [p for p in points if p.split("/")[0] in nodes and _worth_it(p)]:
        result, _, killed = scenario.run(point)
        assert killed or _by_the_clock(point), point
        assert _same(result) == expected, point
        if killed:
            tried.add(point.split("/")[0])
    return tried


def _by_the_clock(point: str) -> bool:
    """Whether it is how often a watched job was looked at or stored that decides if there is such a point at all."""
    return point.startswith(("verify_deployment/", "evaluate/")) and not point.endswith("#1")


def _worth_it(point: str) -> bool:
    """Every point of the first time through a node; of later times those of the nodes whose effects could add up."""
    return point.endswith("#1") or point.startswith(("deploy_job/", "verify_deployment/", "evaluate/"))


AROUND = (
    *("evaluate/leave#1", "evaluate/before:cluster.register#1", "evaluate/after:cluster.register#1"),
    *("evaluate/after:store.save_deployment#1", "evaluate/leave#2", "register/after:models.register#1"),
)
"""Around the effects of an evaluation by a job of its own, and of a registration."""
ESCALATING = {"escalate"}
ASKING = {"collect_responses", "approve"}
REPAIRING = (
    {"analyze_codebase", "generate_questions", "recall", "make_plan"},
    {"estimate", "budget_gate", "generate_spec", "validate_spec"},
    {"deploy_job", "verify_deployment"},
    {"diagnose", "fix_iteration", "evaluate", "register", "remember", "report"},
)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", REPAIRING, ids=lambda nodes: "+".join(sorted(nodes)))
def test_killed_in_a_run_that_repairs_itself(
    home: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: set[str]
) -> None:
    monkeypatch.setenv("CARAVAN_HOME", str(home))
    scenario = Scenario(home, repository, tmp_path, fixing=True, yes=True)
    undisturbed, _, _ = scenario.run(None)
    assert undisturbed["status"] == "succeeded"
    assert undisturbed["registrations"] == [1, 1]
    assert undisturbed["executions"] == 2
    assert _kill_everywhere(scenario, nodes) == nodes


@pytest.mark.slow
def test_killed_while_the_model_is_evaluated_by_a_job_of_its_own(
    home: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_HOME", str(home))
    (repository / "judge.py").write_text(JUDGE)
    own = PlanChange(path="evaluation.command", value=["python", "judge.py"], by=Author.USER)
    fixed = PlanChange(path="env.FIXED", value="yes", by=Author.USER)
    scenario = Scenario(home, repository, tmp_path, fixing=False, yes=True, sets=(own, fixed))
    undisturbed, _, _ = scenario.run(None)
    assert undisturbed["status"] == "succeeded"
    assert undisturbed["jobs"] == ["-a01", "-eval-01"]
    assert undisturbed["registrations"] == [1, 1]
    assert "registered" in undisturbed["events"]
    for point in AROUND:
        result, _, killed = scenario.run(point)
        assert killed, point
        assert _same(result) == _same(undisturbed), point


@pytest.mark.slow
def test_killed_while_a_person_is_asked(
    home: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_HOME", str(home))
    scenario = Scenario(home, repository, tmp_path, fixing=True)
    assert _kill_everywhere(scenario, ASKING) == ASKING


@pytest.mark.slow
def test_killed_in_a_run_that_is_escalated(
    home: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_HOME", str(home))
    scenario = Scenario(home, repository, tmp_path, fixing=False, yes=True)
    undisturbed, _, _ = scenario.run(None)
    assert undisturbed["status"] == "escalated"
    assert _kill_everywhere(scenario, ESCALATING) == ESCALATING


def test_every_node_is_killed_somewhere() -> None:
    assert set().union(*REPAIRING, ASKING, ESCALATING) == set(NODES) - {"deliver"}  # nothing is sent to this cluster
