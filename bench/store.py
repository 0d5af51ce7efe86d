"""How long `runs` and `show` take with many runs in the store, beside `--help`.

    python bench/store.py [--runs 1000] [--repeat 5] [--kind sqlite] [--json]

On a SQLite file, and on a PostgreSQL server of its own where its programs are installed. The run that is shown is a
real one with profile, plan and estimate (a dry run of the demo); the others are rows with ten events each. A figure is
the median processor time of whole processes, run in turn with `--help`, so that a slow machine changes ratios little.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

KINDS = ("sqlite", "postgresql")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.product import environment, own_cluster, spent, told  # noqa: E402  (this may be run as a file)

AIM_MS = 300.0
"""How much more than `--help` `runs` and `show` may take of the processor."""


def fill(url: str, count: int) -> str:
    """Put that many ended runs into the database in one transaction, each with ten events; the id of one of them."""
    import sqlalchemy as sa

    from caravan.runs.database import open_database
    from caravan.runs.tables import events, runs
    from caravan.values.database import parse_database_url
    from caravan.values.run import RunRequest
    from machine import SystemClock

    address, start = parse_database_url(url), datetime(2026, 1, 1, tzinfo=UTC)
    request = RunRequest(prompt="fine-tune it", source="/repo", cluster="none").model_dump(mode="json")
    ended = {"status": "succeeded", "node": "report", "detail": "done", "cost_usd": 1.5, "request": request, "user": ""}
    rows, told = [], []
    for n in range(count):
        at, run_id = start + timedelta(minutes=n), f"{n:08x}"
        rows.append({"id": run_id, "created_at": at, "updated_at": at, **ended})
        for second in range(10):
            event = {"run_id": run_id, "at": at + timedelta(seconds=second), "kind": "node", "text": f"step {second}"}
            told.append({**event, "text_sha256": f"{second:064}", "data": {}})

    def work(connection: sa.Connection) -> None:
        connection.execute(sa.insert(runs), rows)
        connection.execute(sa.insert(events), told)

    database = open_database(address.path or address, SystemClock())
    database.write(work)
    database.close()
    return f"{count // 2:08x}"


def one_run(environment: dict[str, str]) -> str:
    """A run that was planned and not deployed; its id."""
    words = ["--prompt", "Fine-tune the character model", "--codebase-path", "examples/numpy-lora"]
    with own_cluster(environment, start=False):
        done = told(["main.py", *words, "--cluster", "local", "--yes", "--dry-run", "--json"], environment)
    return str(json.loads(done.stdout)["run_id"])


def figures_of(url: str, home: str, count: int, repeat: int) -> dict[str, dict[str, float]]:
    """Each command's median time, how much more than `--help` that is, and how many times as much."""
    around = environment(home, DATABASE_URL=url)
    run_id = one_run(around)
    fill(url, count - 1)
    commands = {
        "import typer": ["-c", "import typer"],
        "--help": ["main.py", "--help"],
        "runs": ["main.py", "runs"],
        "runs --json": ["main.py", "runs", "--json"],
        "show": ["main.py", "show", run_id],
        "show --json": ["main.py", "show", run_id, "--json"],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeat + 1):
        for name, arguments in commands.items():
            took = spent(arguments, around).processor_ms
            if turn:  # the first one wrote the byte code
                found[name].append(took)
    pages = found["--help"]
    return {
        name: {
            "ms": round(statistics.median(values), 1),
            "more_ms": round(statistics.median(v - p for v, p in zip(values, pages, strict=True)), 1),
            "times": round(statistics.median(v / p for v, p in zip(values, pages, strict=True)), 2),
        }
        for name, values in found.items()
    }


def measure(kinds: list[str], count: int, repeat: int) -> dict[str, dict[str, dict[str, float]]]:
    """The figures on each kind of database that is here."""
    from tests import needs

    found = {}
    if "sqlite" in kinds:
        with tempfile.TemporaryDirectory() as home:
            found["sqlite"] = figures_of(f"sqlite:///{home}/caravan.db", home, count, repeat)
    if "postgresql" not in kinds:
        return found
    try:
        programs = needs.postgresql()
    except BaseException as skipped:  # noqa: BLE001 (pytest's way of saying that it is not here)
        print(f"PostgreSQL: {skipped}", file=sys.stderr)
        return found
    from tests.fakes.postgres import PostgresServer

    server = PostgresServer(programs)
    try:
        with tempfile.TemporaryDirectory() as home:
            found["postgresql"] = figures_of(server.url(server.database()), home, count, repeat)
    finally:
        server.close()
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--kind", choices=KINDS, action="append", help="which database; both without it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.kind or list(KINDS), options.runs, options.repeat)
    if options.json:
        print(json.dumps(figures))
        return
    for line in lines(figures, options.runs):
        print(line)


def lines(figures: dict[str, dict[str, dict[str, float]]], runs: int) -> list[str]:
    """The figures for people."""
    found = []
    for kind, rows in figures.items():
        found.append(f"{kind}, {runs} runs (load {os.getloadavg()[0]:.1f}; aim: at most {AIM_MS:.0f} ms more)")
        for name, row in rows.items():
            told = f"{row['ms']:7.0f} ms {row['more_ms']:+7.0f} ms beside --help, {row['times']:5.2f} times"
            found.append(f"  {name:<14}{told}")
    return found


if __name__ == "__main__":
    main()
