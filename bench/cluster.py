"""How soon the built-in cluster's API answers while it is busy, and what a task costs it.

    python bench/cluster.py [--jobs 100] [--history 1000] [--rounds 40] [--json]

In turn: an idle cluster's `/v1/agent/self` (the yardstick of this machine and this moment); `--history` jobs that run
and end; `--jobs` jobs registered at once that end by themselves; then as many that run on. While those start (`storm`)
and while they run (`steady`), a client asks for what clients ask for. Each call's median and 95th percentile are told
in ms, and the median as a ratio to the yardstick. A blocking query counts from the change's request to its own answer.
The aim: every median under 50 ms. CPU and memory are those of the cluster and its supervisors, the jobs' own commands
left out of the memory.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
AIM_MS = 50
YARDSTICK = "/v1/agent/self"
BLOCKED = "GET /v1/jobs?index, until it answers to a change"
NODE = {
    "name": "bench",
    "cpu_mhz": 1_000_000,
    "cores": 64,
    "memory_mb": 1_000_000,
    "disk_mb": 10_000_000,
    "attributes": {"kernel.name": "linux"},
    "drivers": {"raw_exec": {}},
}
Took = dict[str, list[float]]


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

        self.address, self.token = address, token
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["X-Nomad-Token"] = token

    def ask(self, method: str, path: str, body: Any = None) -> tuple[Any, float]:
        """The answer and the ms until the whole of it was here; parsing is not counted."""
        start = time.perf_counter()
        got = self._session.request(method, self.address + path, json=body, timeout=120)
        took = (time.perf_counter() - start) * 1000
        got.raise_for_status()
        return (got.json() if "json" in got.headers.get("content-type", "") else got.text), took

    def index(self) -> int:
        """The index of the jobs now."""
        return int(self._session.get(self.address + "/v1/jobs?prefix=none", timeout=120).headers["X-Nomad-Index"])


def wait_for(client: Client, status: str, prefix: str, many: int) -> None:
    """Wait until so many jobs of a prefix have a status."""
    while sum(j["Status"] == status for j in client.ask("GET", f"/v1/jobs?prefix={prefix}")[0]) < many:
        time.sleep(0.1)


def measure(client: Client, rounds: int, took: Took, over: threading.Event | None = None) -> None:
    """The ms of each call, in turns: so many, or until `over`."""
    alloc, done = "", 0
    while not over.is_set() if over is not None else done < rounds:
        done += 1
        listed = client.ask("GET", "/v1/job/now-0/allocations")[0]
        alloc = listed[0]["ID"] if listed else ""
        name = f"{'more' if over is None else 'storm'}-{done}"
        calls = [
            ("GET", YARDSTICK, None),
            ("GET", "/v1/nodes", None),
            ("GET", "/v1/jobs", None),
            ("GET", "/v1/job/now-0", None),
            ("GET", "/v1/job/now-0/allocations", None),
            ("GET", "/v1/job/now-0/evaluations", None),
            ("GET", "/v1/job/now-0/summary", None),
            ("GET", "/v1/allocations", None),
            ("POST", "/v1/job/plan/plan", {"Job": job("plan", "true")}),
            ("POST", "/v1/jobs", {"Job": job(name, "true")}),
        ]
        if listed and any(s["StartedAt"] for s in (listed[0]["TaskStates"] or {}).values()):
            calls += [
                ("GET", f"/v1/allocation/{alloc}", None),
                ("GET", f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&plain=true", None),
            ]
        for method, path, body in calls:
            shown = f"{method} {path.partition('?')[0].replace(alloc or '-', ':id')}"
            took.setdefault(shown, []).append(client.ask(method, path, body)[1])
    if over is None:
        wait_for(client, "dead", "more-", done)
        took[BLOCKED] = [blocked(client, f"woken-{i}") for i in range(rounds)]


def blocked(client: Client, name: str) -> float:
    """The ms from a job's registration to the answer of a query that waits for it."""
    waiter, ended = Client(client.address, client.token), [0.0]
    index = client.index()

    def wait() -> None:
        waiter.ask("GET", f"/v1/jobs?index={index}&wait=60s&prefix={name}")
        ended[0] = time.perf_counter()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)  # it waits by now
    start = time.perf_counter()
    client.ask("POST", "/v1/jobs", {"Job": job(name, "true")})
    thread.join()
    wait_for(client, "dead", name, 1)  # or its end would wake the next
    return (ended[0] - start) * 1000


def cpu(pid: int) -> float:
    """CPU seconds of a process and all that it has started, ended ones included."""
    import psutil

    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return total


def memory(pid: int) -> tuple[float, list[float]]:
    """The memory of the cluster's process and of each supervisor in MiB, shared pages by share (PSS)."""
    import psutil

    sizes = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            if "caravan.cluster.local" in " ".join(process.cmdline()):
                sizes.append(process.memory_full_info().pss / 2**20)
        except psutil.Error:  # ended meanwhile
            continue
    return sizes[0], sizes[1:]


def register(client: Client, prefix: str, many: int, command: str) -> None:
    """Register so many jobs, one after the other."""
    for i in range(many):
        client.ask("POST", "/v1/jobs", {"Job": job(f"{prefix}-{i}", command)})


def run(address: str, token: str, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    """All phases on one cluster."""
    client, jobs = Client(address, token), options.jobs
    yard = [client.ask("GET", YARDSTICK)[1] for _ in range(options.rounds + 5)][5:]
    start = time.monotonic()
    for first in range(0, options.history, 50):
        last = min(first + 50, options.history)
        for i in range(first, last):
            client.ask("POST", "/v1/jobs", {"Job": job(f"old-{i}", "true")})
        wait_for(client, "dead", "old-", last)
    history = time.monotonic() - start
    start, before = time.monotonic(), cpu(pid)
    register(client, "brief", jobs, "true")
    wait_for(client, "dead", "brief-", jobs)
    brief, brief_cpu = time.monotonic() - start, cpu(pid) - before

    storm: Took = {}
    steady: Took = {}
    over, other = threading.Event(), Client(address, token)
    client.ask("POST", "/v1/jobs", {"Job": job("now-0", "echo on; sleep 600")})
    asking = threading.Thread(target=measure, args=(other, 0, storm, over))
    asking.start()
    start = time.monotonic()
    register(client, "now", jobs, "echo on; sleep 600")
    wait_for(client, "running", "now-", jobs)
    begun = time.monotonic() - start
    over.set()
    asking.join()
    before, start = cpu(pid), time.monotonic()
    time.sleep(3)
    idle = (cpu(pid) - before) / (time.monotonic() - start)
    measure(client, options.rounds, steady)
    server, each = memory(pid)
    yard_ms = statistics.median(yard)
    return {
        "yardstick_ms": round(yard_ms, 2),
        "storm": figures(storm, yard_ms),
        "steady": figures(steady, yard_ms),
        "history_s": round(history, 1),
        "all_running_s": round(begun, 2),
        "all_ended_s": round(brief, 2),
        "cpu_ms_per_task": round(brief_cpu * 1000 / jobs, 1),
        "idle_cpu_percent": round(idle * 100, 1),
        "server_mib": round(server, 1),
        "supervisor_mib": round(sum(each) / max(1, jobs), 1),
    }


def figures(took: Took, yard: float) -> dict[str, dict[str, float]]:
    """Median, 95th percentile and ratio of each call."""
    return {
        name: {
            "median_ms": round(statistics.median(ms), 2),
            "p95_ms": round(sorted(ms)[max(0, int(len(ms) * 0.95) - 1)], 2),
            "ratio": round(statistics.median(ms) / yard, 2),
        }
        for name, ms in took.items()
    }


def show(found: dict[str, Any]) -> None:
    """Print for a person."""
    print(f"{found['yardstick_ms']:8.2f} ms  the yardstick: {YARDSTICK} of the idle cluster")
    for phase in ("storm", "steady"):
        print(f"{phase}:")
        for name, one in found[phase].items():
            print(f"{one['median_ms']:8.2f} ms  p95 {one['p95_ms']:8.2f} ms  ×{one['ratio']:<8} {name}")
    for name in ("history_s", "all_running_s", "all_ended_s", "cpu_ms_per_task", "idle_cpu_percent", "server_mib"):
        print(f"{found[name]:8} {name}")
    print(f"{found['supervisor_mib']:8} supervisor_mib, for each task")


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
        try:
            found = run(cluster.address, cluster.token(), cluster.pid, options)
        finally:
            stop(home)
    calls = [(name, one) for phase in ("storm", "steady") for name, one in found[phase].items()]
    slow = sorted({name for name, one in calls if one["median_ms"] >= AIM_MS})
    if options.json:
        print(json.dumps({"jobs": options.jobs, "history": options.history, **found, "slow": slow}))
    else:
        show(found)
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
