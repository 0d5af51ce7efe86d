"""Where endurance is tried: a built-in cluster of its own, a repository whose training fails once, state directories.

The training appends a line to a ledger outside whenever it begins, so that it is known how often it ran. It judges
nothing.
"""

import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import requests

from bench.endurance_agents import Agent
from bench.endurance_score import STEPS, JobSeen, RunSeen
from bench.scenarios.machines import inventory, node
from caravan.cluster.local import control
from caravan.values.errors import CaravanError

USD_PER_HOUR = 3.6
SCRIPT = f"""
import argparse
import os
import pathlib
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
parser.parse_args()
with open(os.environ["LEDGER"], "a") as ledger:
    ledger.write(os.environ["NOMAD_JOB_ID"] + "\\n")
if int(os.environ["NOMAD_MEMORY_LIMIT"]) < 300:
    print("MemoryError: Unable to allocate 1.00 GiB for an array", file=sys.stderr)
    raise MemoryError
for n in range({STEPS}):
    print(f"step {{n}} loss {{1 / (n + 1):.4f}}", flush=True)
    time.sleep(0.1)
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/model.json").write_text("[1]")
"""


class World:
    """One cluster and any number of state directories, all below `place`."""

    def __init__(self, place: Path, *, memory: bool = True) -> None:
        self.place, self._memory = place, memory
        self.repo, self.ledger, self._cluster_home = place / "repo", place / "ledger", place / "cluster"
        self.repo.mkdir(parents=True)
        (self.repo / "train.py").write_text(SCRIPT)
        (self.repo / "README.md").write_text("    python train.py --epochs 1\n")
        self.ledger.touch()
        machines = place / "inventory.json"
        machines.write_text(json.dumps(inventory(node(memory_mb=64_000))))
        self.cluster = control.start(self._cluster_home, inventory=machines, environment=self._plain())
        self._asked = requests.Session()
        self._asked.headers["X-Nomad-Token"] = self.cluster.token()

    def _plain(self) -> dict[str, str]:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        return {"PATH": path, "HOME": str(self.place), "LANG": "C.UTF-8"}

    def home(self, name: str) -> Path:
        """A state directory, with the price of the cluster's nodes in it."""
        home = self.place / "homes" / name
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (home / "prices.toml").write_text(f"usd_per_hour = {USD_PER_HOUR}\n")
        return home

    def environment(self, home: Path) -> dict[str, str]:
        """What an agent over that state directory sees."""
        more = {"NOMAD_TOKEN": self.cluster.token(), "CARAVAN_LOOK_UP": "0", "CARAVAN_MEMORY": str(int(self._memory))}
        return {**self._plain(), "CARAVAN_HOME": str(home), **more}

    def words(self, *more: str) -> list[str]:
        """The main job, whose first attempt has too little memory."""
        said = ["--prompt", "Train it", "--codebase-path", str(self.repo), "--cluster", self.cluster.address, "--yes"]
        sets = {
            "resources.memory_mb": "200",
            "env.LEDGER": str(self.ledger),
            "limits.max_run_s": "600",
            "smoke.on": "false",
        }
        return [*said, "--json", *more, *(w for k, v in sets.items() for w in ("--set", f"{k}={v}"))]

    def agent(self, home: Path, words: Sequence[str], **more: Any) -> Agent:
        """Start the product over that state directory."""
        return Agent(words, self.environment(home), home.parent / f"{home.name}-said", **more)

    def close(self) -> None:
        """End the cluster and its tasks."""
        with suppress(CaravanError):
            control.stop(self._cluster_home)
        for process in psutil.process_iter(["pid", "cmdline"]):
            if process.pid == self.cluster.pid or f"{self.place}/" in " ".join(process.info["cmdline"] or ()):
                with suppress(psutil.Error):
                    process.kill()

    def jobs(self, run_id: str) -> dict[str, JobSeen]:
        """What the cluster has recorded of a run's jobs."""
        rows = self._get("/v1/jobs", prefix=f"caravan-{run_id}")
        return {row["ID"]: self._job(row["ID"]) for row in rows}

    def _job(self, job_id: str) -> JobSeen:
        allocations = self._get(f"/v1/job/{job_id}/allocations")
        evaluations = self._get(f"/v1/job/{job_id}/evaluations")
        return JobSeen(
            versions=sum(not version["Stop"] for version in self._get(f"/v1/job/{job_id}/versions")["Versions"]),
            registrations=sum(e["TriggeredBy"] == "job-register" for e in evaluations),
            allocations=len(allocations),
            held_s=sum(_held(allocation) for allocation in allocations),
        )

    def _get(self, path: str, **query: str) -> Any:
        answer = self._asked.get(f"{self.cluster.address}{path}", params=query, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def seen(self, home: Path, run_id: str, agent: Agent, *, lessons: bool, asked: Sequence[str] = ()) -> RunSeen:
        """All that there is of a run at its end."""
        folder, stored = home / "runs" / run_id, Stored(home)
        starts = Counter(self.ledger.read_text().split())
        logs = sorted((folder / "logs").glob("*.log"))
        return RunSeen(
            code=agent.code if agent.code is not None else -1,
            document=_document(agent.out),
            deployments=stored.deployments(run_id),
            jobs=self.jobs(run_id),
            starts={job: times for job, times in starts.items() if job.startswith(f"caravan-{run_id}-")},
            events=stored.events(run_id),
            lines=[line for log in logs for line in log.read_text(errors="replace").splitlines()],
            outputs=[str(p.relative_to(folder / "outputs")) for p in (folder / "outputs").rglob("*") if p.is_file()],
            report=(folder / "REPORT.md").is_file(),
            cost_usd=stored.cost(run_id),
            spending_usd=stored.spending(run_id),
            usd_per_hour=USD_PER_HOUR,
            lesson_times=self.lesson_times(home) if lessons else None,
            said=agent.said(),
            asked=asked,
        )

    def lesson_times(self, home: Path) -> list[int]:
        """How often each lesson of the memory was seen, by the product's own word."""
        agent = self.agent(home, ["memory", "list", "--json"])
        agent.wait()
        rows = _document(agent.out)
        return [row["times"] for row in (rows if isinstance(rows, list) else rows.get("lessons", ()))]


class Stored:
    """What a state directory's database says, read beside the agents that write it."""

    def __init__(self, home: Path) -> None:
        self._file = home / "caravan.db"

    def rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """The rows; none before the database is there."""
        if not self._file.is_file():
            return []
        try:
            with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)) as database:
                return database.execute(query, values).fetchall()
        except sqlite3.OperationalError:  # its tables are being made
            return []

    def state(self) -> tuple[Any, ...]:
        """All that changes while a run goes on."""
        runs = self.rows("SELECT id, status, node FROM runs ORDER BY id")
        return (*runs, *self.rows("SELECT job_id, state FROM deployments ORDER BY job_id"))

    def run_ids(self) -> list[str]:
        """The runs, the oldest first."""
        return [row[0] for row in self.rows("SELECT id FROM runs ORDER BY created_at")]

    def deployments(self, run_id: str) -> Mapping[str, str]:
        """Job id → state."""
        return dict(self.rows("SELECT job_id, state FROM deployments WHERE run_id = ?", run_id))

    def events(self, run_id: str) -> list[str]:
        """The kinds of the run's events in their order."""
        return [row[0] for row in self.rows("SELECT kind FROM events WHERE run_id = ? ORDER BY id", run_id)]

    def cost(self, run_id: str) -> float:
        """US dollars that the run has cost."""
        return float(next((r[0] for r in self.rows("SELECT cost_usd FROM runs WHERE id = ?", run_id)), -1.0))

    def spending(self, run_id: str) -> float:
        """US dollars that the days' ledger has of the run."""
        return float(self.rows("SELECT coalesce(sum(usd), 0) FROM spending WHERE run_id = ?", run_id)[0][0])


def _document(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def _held(allocation: Mapping[str, Any]) -> float:
    """Seconds between the first event of its tasks and the end of the last one."""
    tasks = (allocation.get("TaskStates") or {}).values()
    begins = [event["Time"] / 1e9 for task in tasks for event in task.get("Events") or ()]
    ends = [_time(task["FinishedAt"]) for task in tasks if task.get("FinishedAt")]
    return max(ends) - min(begins) if begins and ends else 0.0


def _time(text: str) -> float:
    whole, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{rest or 0}")
