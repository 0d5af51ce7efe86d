"""What becomes of runs whose agents are killed, that go on all at once, and whose disk or clock lets them down.

    python -m bench.endurance [--kills 200] [--together 20] [--seed 1] [--only kills,together,places,store]

`kills`     SIGKILL at random moments of a run, of which half come right after the store has changed (between the intent
            to deploy and the registration, for example); then `resume`, and so on to its end
`together`  so many runs at the same time over one state directory, one memory and one cluster
`places`    a state directory whose disk is full for a while, or that can't be written; clocks that jump
`store`     a database of each older version, opened by this one; one of a newer version, which must be refused clearly;
            and a store of a thousand runs: how long `runs` and `show` take beside `--help` (`bench/store.py`)

Judged is what store, cluster, files and the training's own ledger say: each run at its end with its outputs, logs,
events and report; each job registered and placed once, each training begun once; each second paid once. It prints what
was tried and every finding; the exit code says whether there was one.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import store
from bench.endurance_agents import load
from bench.endurance_kills import Tried, kills, together
from bench.endurance_places import JUMPS, full, jumps, read_only
from bench.endurance_versions import newer, older
from bench.endurance_world import World

PARTS = ("kills", "together", "places", "store")


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--together", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1000, help="in the store that is timed")
    parser.add_argument("--times", type=int, default=15, help="how often each command of the store is timed")
    parser.add_argument("--full", type=int, default=4, help="runs whose disk gets full")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(PARTS), help="some of the parts, by commas")
    parser.add_argument("--patience", type=float, default=600.0, metavar="S", help="an agent that takes longer hangs")
    parser.add_argument("--place", type=Path, help="keep everything in this directory, which must not be there")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    if unknown := [part for part in options.only if part not in PARTS]:
        parser.error(f"no part is called {unknown[0]}: there are {', '.join(PARTS)}")
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Try, and print what was found."""
    options = parsed(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being ended leaves no cluster behind
    place = options.place or Path(tempfile.mkdtemp(prefix="endurance-"))
    world = World(place.resolve())
    try:
        return _tried(world, options)
    finally:
        world.close()
        if options.place is None:
            shutil.rmtree(place, ignore_errors=True)


def _tried(world: World, options: argparse.Namespace) -> int:
    found: list[str] = []
    if set(options.only) - {"store"}:
        load(world.place)
    if "kills" in options.only:
        tried = kills(world, options.kills, options.seed, patience_s=options.patience, tell=_tell)
        found += _shown(f"kills: {tried.kills} of the agents of {tried.runs} runs, seed {options.seed}", tried)
    if "together" in options.only:
        tried = together(world, options.together, patience_s=options.patience * 2)
        found += _shown(f"together: {tried.runs} runs at once", tried)
    if "places" in options.only:
        found += _places(world, options)
    if "store" in options.only:
        home = world.place / "homes" / "versions"
        tried = Tried()
        versions = older(home, tried)
        newer(home, tried)
        found += _shown(f"versions: databases of {', '.join(versions)}, and a newer one", tried)
        for line in store.lines(store.measure(["sqlite"], options.runs, options.times), options.runs):
            print(line)
    return int(bool(found))


def _places(world: World, options: argparse.Namespace) -> list[str]:
    tried, chance = Tried(), random.Random(options.seed)
    could = [full(world, chance, tried, f"full {n}", patience_s=options.patience) for n in range(options.full)]
    could.append(read_only(world, tried, "read-only", patience_s=options.patience))
    if not all(could):
        print("places: full and read-only disks were not tried: no file system can be mounted here")
    for number, jump_s in enumerate(JUMPS):
        jumps(world, chance, tried, f"clock {number}", jump_s, patience_s=options.patience)
    return _shown(f"places: {tried.runs} runs on disks and by clocks that let them down, seed {options.seed}", tried)


def _shown(title: str, tried: Tried) -> list[str]:
    print(f"{title}; findings: {len(tried.found)}", flush=True)
    for where, times in tried.where.most_common():
        print(f"  {times:4}  {where}")
    for line in tried.found:
        print(f"  FOUND {line}", flush=True)
    return tried.found


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
