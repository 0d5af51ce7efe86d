"""How long `runs` and `show` take over a store of many runs, beside `--help`: whole processes, in turn."""

import os
import random
import sqlite3
import statistics
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.store import spent
from caravan.runs.store import SqlStore
from caravan.values.run import Deployment, DeploymentState, RunEvent, RunRecord, RunRequest, RunStatus
from machine import SystemClock

AIM_MS = 300.0
_EVENTS = 20
_ENDS = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.ESCALATED, RunStatus.STOPPED)


def fill(home: Path, runs: int) -> str:
    """Store so many runs with three attempts and twenty events each; the id of one in the middle.

    The store writes the first; the others are its rows with another id and time, in one transaction.
    """
    chance, first = random.Random(1), datetime.now(UTC) - timedelta(hours=runs)
    home.mkdir(parents=True, mode=0o700)
    ids = [f"{chance.getrandbits(32):08x}" for _ in range(runs)]
    _one(home, ids[0], first)
    with closing(sqlite3.connect(home / "caravan.db")) as database, database:
        for table in ("runs", "deployments", "events"):
            names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            keep = [name for name in names if (table, name) != ("events", "id")]
            rows = database.execute(f"SELECT {', '.join(keep)} FROM {table}").fetchall()
            insert = f"INSERT INTO {table} ({', '.join(keep)}) VALUES ({', '.join('?' * len(keep))})"
            for number, run_id in enumerate(ids[1:], 1):
                at = (first + timedelta(hours=number)).strftime("%Y-%m-%d %H:%M:%S.%f")
                changed = {"created_at": at, "status": chance.choice(_ENDS).value}
                database.executemany(
                    insert,
                    [
                        [
                            changed.get(name, value.replace(ids[0], run_id) if isinstance(value, str) else value)
                            for name, value in zip(keep, row, strict=True)
                        ]
                        for row in rows
                    ],
                )
    return ids[runs // 2]


def _one(home: Path, run_id: str, at: datetime) -> None:
    store = SqlStore(home / "caravan.db", SystemClock())
    request = RunRequest(prompt="Fine-tune it with LoRA", source="/work/repository", cluster="local")
    store.create_run(RunRecord(id=run_id, created_at=at, updated_at=at, request=request, user="ada"))
    for attempt in (1, 2, 3):
        made = Deployment(
            run_id=run_id, attempt=attempt, job_id=f"caravan-{run_id}-a0{attempt}", spec_sha256="0" * 64,
            plan_sha256="1" * 64, state=DeploymentState.FINISHED,
        )  # fmt: skip
        store.intend(made)
        store.save_deployment(made)
    for event in range(_EVENTS):
        moment = at + timedelta(seconds=event)
        store.add_event(run_id, RunEvent(at=moment, kind="placed", text=f"event {event} of the run"))
    store.update_run(run_id, status=RunStatus.SUCCEEDED, detail="the training ended and its result was checked")
    store.close()


def measure(home: Path, run_id: str, times: int) -> dict[str, tuple[float, float]]:
    """Medians of how much longer than `--help` each command takes: milliseconds of the processor, and on the wall."""
    commands = {"runs": ["runs"], "runs --json": ["runs", "--json"], "show": ["show", run_id]}
    _spent(home, ["--help"])
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(times):
        page = _spent(home, ["--help"])
        for name, words in commands.items():
            took = _spent(home, words)
            found[name].append((took[0] - page[0], took[1] - page[1]))
    return {
        name: (statistics.median(cpu for cpu, _ in rows), statistics.median(wall for _, wall in rows))
        for name, rows in found.items()
    }


def _spent(home: Path, words: list[str]) -> tuple[float, float]:
    """Milliseconds of the processor and of the wall that one command takes; it must succeed."""
    environment = {**os.environ, "CARAVAN_HOME": str(home), "CARAVAN_LOOK_UP": "0"}
    begun = time.perf_counter()
    processor = spent(["main.py", *words], environment)
    return processor, 1000 * (time.perf_counter() - begun)
