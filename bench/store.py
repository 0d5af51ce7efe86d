"""How long `runs` and `show` take with many runs in the store, beside `--help`.

    python bench/store.py [--runs 1000] [--repeat 5] [--json]

On a SQLite file, and on a PostgreSQL server of its own where its programs are installed. Each figure is the median of
whole processes, as a ratio to `main.py --help` run in turn with it, so that a slow machine changes little.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


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


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """Wall time of one command that must succeed."""
    start = time.perf_counter()
    command = [sys.executable, "main.py", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def ratios(url: str, home: str, count: int, repeat: int) -> dict[str, float]:
    """`runs` and `show` as ratios to the help page."""
    environment = {**os.environ, "CARAVAN_HOME": home, "DATABASE_URL": url, "CARAVAN_LOOK_UP": "0"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process compiles anew what is ours, and that is timed
    run_id = fill(url, count)
    found: dict[str, list[float]] = {"runs": [], "show": []}
    for name, arguments in (("runs", ["runs"]), ("show", ["show", run_id])):
        seconds(arguments, environment)  # once for the byte code
        for _ in range(repeat):
            found[name].append(seconds(arguments, environment) / seconds(["--help"], environment))
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def measure(count: int, repeat: int) -> dict[str, dict[str, float]]:
    """The ratios on each kind of database that is here."""
    from tests.needs import postgresql

    figures = {}
    with tempfile.TemporaryDirectory() as home:
        figures["sqlite"] = ratios(f"sqlite:///{home}/c.db", home, count, repeat)
    try:
        programs = postgresql()
    except BaseException as skipped:  # noqa: BLE001 (pytest's way of saying that it is not here)
        print(f"PostgreSQL: {skipped}", file=sys.stderr)
        return figures
    from tests.fakes.postgres import PostgresServer

    server = PostgresServer(programs)
    try:
        with tempfile.TemporaryDirectory() as home:
            figures["postgresql"] = ratios(server.url(server.database()), home, count, repeat)
    finally:
        server.close()
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.runs, options.repeat)
    if options.json:
        print(json.dumps(figures))
        return
    for kind, row in figures.items():
        print(
            f"{kind:<11} {options.runs} runs: "
            + ", ".join(f"{name} {ratio:.2f} times --help" for name, ratio in row.items())
        )


if __name__ == "__main__":
    main()
