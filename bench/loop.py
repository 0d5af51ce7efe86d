"""From prompt to registered job: what the agent itself costs, on the demo's repository with the rule engine.

    python bench/loop.py [--runs 5] [--json]

Each run is a whole process with a fresh state directory and its own built-in cluster, which is started before the
clock starts. The process says when it imported the third-party packages and when the job was registered:

    total     wall time from the process's start to the registered job
    imports   of it, importing third-party packages (interpreter start included), before anything else happens
    agent     the rest: what the aim speaks of, under 2 s
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.product import ROOT, environment, own_cluster, told

# Imports what the main job will import from third parties, then runs it and notes the moment of the registration.
CHILD = """
import json, sys, time
started = float(sys.argv[1])
import alembic, filelock, jinja2, lark, langgraph.checkpoint.sqlite, langgraph.graph, langgraph.types, nomad, packaging
import pathspec, pydantic, requests, rich.console, rich.live, rich.table, sqlalchemy, tenacity, typer
import yaml
imported = time.time()
sys.path.insert(0, {root!r})
from caravan.cluster.nomad import NomadCluster
register, registered = NomadCluster.register, []
def noted(self, job, **how):
    found = register(self, job, **how)
    registered.append(time.time())
    return found
NomadCluster.register = noted
import main
code = main.main(["--prompt", "Fine-tune the character model with LoRA", "--codebase-path", {repo!r},
                  "--set", "training.epochs=1", "--cluster", "local", "--yes", "--json"])
print(json.dumps({{"code": code, "imports": imported - started, "total": registered[0] - started}}), file=sys.stderr)
"""


def one_run() -> dict[str, float]:
    """Seconds of one run: total, imports, agent."""
    with tempfile.TemporaryDirectory() as home:
        around = environment(home)
        code = CHILD.format(root=str(ROOT), repo=str(ROOT / "examples" / "numpy-lora"))
        with own_cluster(around):
            child = told(["-c", code, repr(time.time())], around)
    found = json.loads(child.stderr.strip().splitlines()[-1])
    if found["code"] != 0:
        raise SystemExit(f"the run failed:\n{child.stderr}")
    return {"total": found["total"], "imports": found["imports"], "agent": found["total"] - found["imports"]}


def bare() -> float:
    """Seconds of a bare interpreter start."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    one_run()  # once for the byte code
    runs = [{**one_run(), "bare": bare()} for _ in range(options.runs)]
    figures = {name: statistics.median(r[name] for r in runs) for name in runs[0]}
    if options.json:
        print(json.dumps(figures))
        return
    for name in ("bare", "imports", "total", "agent"):
        print(f"{name:8} {figures[name]:6.3f} s   {figures[name] / figures['bare']:6.1f} bare interpreter starts")
    print("aim: agent under 2 s")


if __name__ == "__main__":
    main()
