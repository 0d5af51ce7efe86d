"""How soon the built-in cluster's API answers while it is busy: many jobs at once, many in its history.

    python bench/cluster.py [--jobs 100] [--history 1000] [--rounds 40] [--json]

Registers and ends `--history` jobs, then registers `--jobs` jobs that run at once and asks, while they run, for what a
client asks for. Each call's median and 95th percentile are told in ms, and as a ratio to the same run's yardstick: an
answer that needs no state (`/v1/status/leader`). The aim: every median under 50 ms.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
YARDSTICK = "/v1/status/leader"
NODE = {
    "name": "bench",
    "cpu_mhz": 1_000_000,
    "cores": 64,
    "memory_mb": 1_000_000,
    "disk_mb": 10_000_000,
    "attributes": {"kernel.name": "linux"},
    "drivers": {"raw_exec": {}},
}


def job(name: str, command: str, count: int = 1) -> dict[str, Any]:
    """A batch job of one small task."""
    task = {
        "Name": "t",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sh", "args": ["-c", command]},
        "Resources": {"CPU": 10, "MemoryMB": 16},
    }
    return {"ID": name, "Type": "batch", "TaskGroups": [{"Name": "g", "Count": count, "Tasks": [task]}]}


class Client:
    """Requests to the cluster, timed."""

    def __init__(self, address: str, token: str) -> None:
        import requests

        self._address = address
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["X-Nomad-Token"] = token

    def ask(self, method: str, path: str, body: Any = None) -> tuple[Any, float]:
        """The answer and the ms that it took."""
        start = time.perf_counter()
        got = self._session.request(method, self._address + path, json=body, timeout=120)
        took = (time.perf_counter() - start) * 1000
        got.raise_for_status()
        return (got.json() if "json" in got.headers.get("content-type", "") else got.text), took


def wait_for(client: Client, status: str, prefix: str, many: int) -> None:
    """Wait until so many jobs of a prefix have a status."""
    while True:
        jobs, _ = client.ask("GET", f"/v1/jobs?prefix={prefix}")
        if sum(j["Status"] == status for j in jobs) >= many:
            return
        time.sleep(0.5)


def measure(client: Client, rounds: int) -> dict[str, list[float]]:
    """The ms of each call, in turns."""
    took: dict[str, list[float]] = {}
    for i in range(rounds):
        alloc = client.ask("GET", "/v1/job/now-0/allocations")[0][0]["ID"]
        calls = [
            ("GET", YARDSTICK, None),
            ("GET", "/v1/jobs", None),
            ("GET", "/v1/job/now-0", None),
            ("GET", "/v1/job/now-0/allocations", None),
            ("GET", "/v1/job/now-0/evaluations", None),
            ("GET", "/v1/job/now-0/summary", None),
            ("GET", f"/v1/allocation/{alloc}", None),
            ("GET", f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&plain=true", None),
            ("POST", "/v1/job/plan/plan", {"Job": job("plan", "true")}),
            ("POST", "/v1/jobs", {"Job": job(f"more-{i}", "true")}),
        ]
        for method, path, body in calls:
            name = f"{method} {path.partition('?')[0].replace(alloc, ':id')}"
            took.setdefault(name, []).append(client.ask(method, path, body)[1])
    return took


def main(arguments: list[str]) -> int:
    """Measure and print."""
    from caravan.cluster.local.control import start, stop

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--history", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        home, file = Path(folder) / "home", Path(folder) / "inventory.json"
        file.write_text(json.dumps({"about": "bench", "nodes": [NODE]}), encoding="utf-8")
        cluster = start(home, inventory=file, environment=dict(os.environ))
        client = Client(cluster.address, cluster.token())
        try:
            for first in range(0, options.history, 50):
                many = range(first, min(first + 50, options.history))
                for i in many:
                    client.ask("POST", "/v1/jobs", {"Job": job(f"old-{i}", "true")})
                wait_for(client, "dead", "old-", many[-1] + 1)
            for i in range(options.jobs):
                client.ask("POST", "/v1/jobs", {"Job": job(f"now-{i}", "echo on; sleep 600")})
            wait_for(client, "running", "now-", options.jobs)
            took = measure(client, options.rounds)
        finally:
            stop(home)
    yard = statistics.median(took[YARDSTICK if YARDSTICK in took else f"GET {YARDSTICK}"])
    shown = {
        name: {
            "median_ms": round(statistics.median(ms), 2),
            "p95_ms": round(sorted(ms)[int(len(ms) * 0.95) - 1], 2),
            "ratio": round(statistics.median(ms) / yard, 2),
        }
        for name, ms in took.items()
    }
    slow = [name for name, figures in shown.items() if figures["median_ms"] >= 50]
    if options.json:
        print(json.dumps({"jobs": options.jobs, "history": options.history, "calls": shown, "slow": slow}))
    else:
        for name, figures in shown.items():
            print(f"{figures['median_ms']:8.2f} ms  p95 {figures['p95_ms']:8.2f} ms  ×{figures['ratio']:<8} {name}")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
