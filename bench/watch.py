"""How soon a watch tells a task's death, and what watching costs: the event stream beside polling every five seconds.

    python bench/watch.py [--runs 1 50 500] [--deaths 40] [--quiet 20] [--json]

    detection   from a task's death to the snapshot that says so, in milliseconds: median, 95th percentile, worst
    memory      of the watching process beyond the same process before it watches, in MiB
    cpu         of the watching process while nothing happens, in percent of a core
    requests    that reach the cluster while nothing happens, a minute

The cluster is a simulator in a process of its own that plays jobs as Nomad shows them; the watching process is another
one. `real` is a run of real tasks on the built-in cluster, whose deaths are told by the tasks themselves. Polling reads
the same three documents of each job every five seconds, as wrappers of the command line do.
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from caravan.cluster.local.control import start, stop  # noqa: E402
from caravan.cluster.nomad import NomadCluster  # noqa: E402
from caravan.values.run import Phase, Snapshot  # noqa: E402
from machine import SystemClock  # noqa: E402

POLL = 5.0
MODES = ("stream", "poll")
Figures = dict[str, float | int | str]


def client(address: str, token: str | None = None) -> NomadCluster:
    """A client as the product makes it."""
    return NomadCluster(
        address,
        token=token,
        namespace="default",
        region=None,
        verify=True,
        cert=None,
        clock=SystemClock(),
        timeout=60.0,
    )


def play() -> None:
    """Be the simulator until the input ends: a line `+ JOB` registers, `- JOB` ends one, `?` counts requests."""
    from tests.fakes import nomad_sim

    nomad_sim.BEAT = 30.0  # as Nomad
    sim = nomad_sim.NomadSim()
    sim.hold = 10.0
    print(sim.address, flush=True)
    for line in sys.stdin:
        what, _, job = line.strip().partition(" ")
        if what == "+":
            sim.register(job)
        elif what == "-":
            died = time.monotonic()  # one clock for all processes of a machine
            sim.end(job, 1)
            print(died, flush=True)
            continue
        print(sim.reads, flush=True)
    sim.close()


class Player:
    """The simulator's process."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--play"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self._said()

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, line: str) -> float:
        """Send a command; its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self._said())

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def player() -> Iterator[Player]:
    """A simulator for a block."""
    made = Player()
    try:
        yield made
    finally:
        made.close()


def polled(cluster: NomadCluster, job: str) -> Iterator[Snapshot]:
    """What a loop that asks every five seconds sees."""
    time.sleep(random.uniform(0, POLL))
    while True:
        snapshot = cluster.snapshot(job)
        yield snapshot
        if snapshot.phase is Phase.ENDED:
            return
        time.sleep(POLL)


def memory() -> float:
    """Resident memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def cpu() -> float:
    """Seconds of a core that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def watch(address: str, mode: str, jobs: list[str]) -> None:
    """Be the watching process: say `ready`, answer each line of the input with costs, and tell each death seen."""
    cluster = client(address)
    cluster.find(jobs[0])  # libraries are loaded now
    began, running = memory(), threading.Semaphore(0)

    def follow(job: str) -> None:
        seen = False
        for snapshot in cluster.watch(job) if mode == "stream" else polled(cluster, job):
            if not seen and snapshot.phase is Phase.RUNNING:
                seen = True
                running.release()
            if snapshot.phase is Phase.ENDED:
                print(json.dumps({"job": job, "at": time.monotonic()}), flush=True)

    threading.stack_size(512 << 10)
    for job in jobs:
        threading.Thread(target=follow, args=(job,), daemon=True).start()
    for _ in jobs:
        running.acquire()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps({"cpu": cpu(), "memory": memory() - began, "at": time.monotonic()}), flush=True)


def measure(runs: int, mode: str, deaths: int, quiet: float) -> Figures:
    """The figures of so many watched runs."""
    with player() as sim:
        jobs = [f"run-{n}" for n in range(runs)]
        for job in jobs:
            sim.tell(f"+ {job}")
        command = [sys.executable, __file__, "--watch", sim.address, mode, *jobs]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdin is not None
            assert watching.stdout is not None

            def cost() -> dict[str, float]:
                assert watching.stdin is not None
                assert watching.stdout is not None
                watching.stdin.write("\n")
                watching.stdin.flush()
                found: dict[str, float] = json.loads(watching.stdout.readline())
                return found

            watching.stdout.readline()
            time.sleep(POLL)  # what the stream's begin woke has been read
            asked, before = sim.tell("?"), cost()
            time.sleep(quiet)
            asked, after = sim.tell("?") - asked, cost()
            delays = []
            time.sleep(random.uniform(0, POLL))  # a death falls anywhere between two polls
            for job in random.sample(jobs, min(runs, deaths)):
                died = sim.tell(f"- {job}")
                seen = json.loads(watching.stdout.readline())
                assert seen["job"] == job
                delays.append(seen["at"] - died)
            watching.kill()
    passed = after["at"] - before["at"]
    return {
        "runs": runs,
        "mode": mode,
        **detection(delays),
        "memory_mib": after["memory"],
        "cpu_percent": 100 * (after["cpu"] - before["cpu"]) / passed,
        "requests_a_minute": 60 * asked / passed,
    }


def detection(delays: list[float]) -> Figures:
    """Median, 95th percentile and worst of delays in seconds, in milliseconds."""
    ordered = sorted(d * 1000 for d in delays)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"deaths": len(ordered), "median_ms": statistics.median(ordered), "p95_ms": late, "worst_ms": ordered[-1]}


def merged(rounds: list[Figures]) -> Figures:
    """One run's rounds as one: a death each."""
    delays = [float(r["median_ms"]) / 1000 for r in rounds]
    return rounds[-1] | detection(delays)


def real(deaths: int) -> Figures:
    """Real tasks on the built-in cluster, one after the other; each writes when it ends."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "cluster"
        running = start(home, inventory=None, environment={"PATH": os.environ.get("PATH", os.defpath)})
        cluster = client(running.address, running.token())
        delays = []
        try:
            for number in range(deaths):
                told = Path(folder) / f"died-{number}"
                job = real_job(f"bench-{number}", f"sleep 0.{random.randint(3, 9)}; date +%s.%N > {told}; exit 1")
                cluster.register(cluster.parse(job))
                next(s for s in cluster.watch(f"bench-{number}") if s.phase is Phase.ENDED)
                delays.append(time.time() - float(told.read_text()))
        finally:
            cluster.close()
            stop(home)
    return {"runs": 1, "mode": "real", **detection(delays)}


def real_job(name: str, command: str) -> str:
    """A job of one task that runs a shell command."""
    return f"""
job "{name}" {{
  type = "batch"
  group "train" {{
    restart {{
      attempts = 0
      mode     = "fail"
    }}
    reschedule {{
      attempts  = 0
      unlimited = false
    }}
    task "train" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sh"
        args    = ["-c", {json.dumps(command)}]
      }}
      resources {{
        cpu    = 50
        memory = 32
      }}
    }}
  }}
}}
"""


def show(figures: Figures) -> str:
    """A line for a person."""
    text = f"{figures['runs']:>4} {figures['mode']:7}"
    for name in ("median_ms", "p95_ms", "worst_ms"):
        text += f" {figures[name]:9.0f}"
    for name in ("memory_mib", "cpu_percent", "requests_a_minute"):
        text += f" {figures[name]:9.1f}" if name in figures else " " * 10
    return text


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 50, 500])
    parser.add_argument("--deaths", type=int, default=40)
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds in which nothing happens")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: list[Figures] = [real(min(options.deaths, 20))]
    for runs in options.runs:
        for mode in MODES:
            if runs >= 10:
                found.append(measure(runs, mode, options.deaths, options.quiet))
                continue
            rounds = [measure(runs, mode, runs, options.quiet if not n else 0.1) for n in range(6)]
            costs: dict[str, Any] = {k: rounds[0][k] for k in ("memory_mib", "cpu_percent", "requests_a_minute")}
            found.append(merged(rounds) | costs)
    if options.json:
        print(json.dumps(found))
        return
    print("runs mode    median ms    p95 ms  worst ms       MiB     cpu %  asked/min")
    for figures in found:
        print(show(figures))
    by = {(f["runs"], f["mode"]): float(f["median_ms"]) for f in found}
    for runs in options.runs:
        print(f"{runs:>4} runs: polling sees a death {by[runs, 'poll'] / by[runs, 'stream']:.0f} times as late")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--play"]:
        play()
    elif sys.argv[1:2] == ["--watch"]:
        watch(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        main()
