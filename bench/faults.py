"""Faults that are really there, and what the product makes of them: solved, handed over, or left alone.

    python -m bench.faults [--jobs 2] [--only NAME_OR_CLASS ...] [--arms off,on,again] [--results DIR] [--keep]

Each scenario of `bench/scenarios/` is run as a person would run it: the command line in a process of its own, on a
built-in cluster of its own with the scenario's inventory, in a scrubbed environment. The arms:

    off     without memory
    on      with a memory that was empty when the arm began; all scenarios of the arm share it, also at the same time
    again   the same memory, and every repository once more as it was

Results are kept in `DIR/results.jsonl` as they come: a second call goes on where the first was ended. It prints, for
each arm, faults solved within three attempts by the right kind of change, causes rightly handed over, healthy runs left
alone, false successes, needless changes, attempts, seconds, the second time's failed attempts, and every miss with why.
Scenarios whose GPU is played by a stand-in are counted apart.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from bench.fault_places import Server, served, write_wheels
from bench.fault_print import show
from bench.fault_run import World, run_scenario
from bench.fault_score import Record, judge
from bench.scenario import Scenario

ARMS = ("off", "on", "again")
_SCENARIOS = Path(__file__).resolve().parent / "scenarios"


def collect() -> tuple[tuple[Scenario, ...], dict[str, dict[str, str]]]:
    """All scenarios in the order of their modules, and all wheels. Raises SystemExit where two have one name."""
    scenarios: list[Scenario] = []
    wheels: dict[str, dict[str, str]] = {}
    for file in sorted(_SCENARIOS.glob("*.py")):
        module = import_module(f"bench.scenarios.{file.stem}")
        scenarios += getattr(module, "SCENARIOS", ())
        wheels |= getattr(module, "WHEELS", {})
    names = [s.name for s in scenarios]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise SystemExit(f"two scenarios are called {', '.join(twice)}")
    return tuple(scenarios), wheels


def chosen(scenarios: Iterable[Scenario], only: Sequence[str]) -> tuple[Scenario, ...]:
    """Those whose name or class is named, or whose name begins so; all without a word."""
    found = tuple(s for s in scenarios if not only or any(_named(s, word) for word in only))
    if not found:
        raise SystemExit(f"no scenario and no class is called {' or '.join(only)}")
    return found


def _named(scenario: Scenario, word: str) -> bool:
    return word == scenario.failure.value or scenario.name.startswith(word)


class Results:
    """What is known already: a line of JSON for each run, the last of a scenario and arm counts."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, threading.Lock()
        self.known: dict[tuple[str, str], Record] = {}
        for line in file.read_text().splitlines() if file.is_file() else ():
            try:
                record = Record(**json.loads(line))
            except (json.JSONDecodeError, TypeError):  # cut off by a kill, or of an earlier version: it is run again
                continue
            self.known[record.arm, record.scenario] = record

    def add(self, record: Record) -> None:
        """Keep it, on the disk first. A line that was cut off before it is ended."""
        with self._lock:
            with self._file.open("ab+") as file:
                if file.tell():
                    file.seek(-1, 2)
                    whole = file.read() == b"\n"
                    file.write(b"" if whole else b"\n")
                file.write(json.dumps(asdict(record)).encode() + b"\n")
            self.known[record.arm, record.scenario] = record


class Bench:
    """Runs arms over a directory of results."""

    def __init__(self, options: argparse.Namespace, wheels: dict[str, dict[str, str]], server: Server) -> None:
        self._place: Path = options.results
        self._options, self._server = options, server
        self._wheels = self._place / "wheels"
        write_wheels(self._wheels, wheels)
        self.results = Results(self._place / "results.jsonl")
        self._over = threading.Event()

    def arm(self, arm: str, scenarios: Sequence[Scenario]) -> None:
        """Run what is not known yet of an arm."""
        open_ones = [s for s in scenarios if self._options.redo or (arm, s.name) not in self.results.known]
        self._server.anew()
        with ThreadPoolExecutor(self._options.jobs) as pool:
            running: list[Future[None]] = [pool.submit(self._one, arm, scenario) for scenario in open_ones]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self._over.set()
                for future in running:
                    future.cancel()
                raise

    def _one(self, arm: str, scenario: Scenario) -> None:
        if self._over.is_set():
            return
        memory = None if arm == "off" else self._place / "memory"
        place = self._place / "worlds" / scenario.name
        world = World(place, scenario, wheels=self._wheels, server=self._server.address, memory=memory)
        record = run_scenario(world, arm, patience=self._options.patience, over=self._over)
        if record is None:
            return
        self.results.add(record)
        found = judge(scenario, record)
        word = "right" if found.right else f"MISS  {found.why}"
        print(f"{arm:5} {scenario.name:40} {record.seconds:6.1f} s  {word}", file=sys.stderr, flush=True)
        if self._options.keep:
            kept = self._place / "kept" / arm / scenario.name
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(place, kept)
        else:
            shutil.rmtree(place, ignore_errors=True)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at a time")
    parser.add_argument(
        "--only", nargs="*", default=(), metavar="NAME_OR_CLASS", help="these alone; names may be begun"
    )
    parser.add_argument("--arms", default=",".join(ARMS), help="off,on,again or some of them")
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "caravan-faults", metavar="DIR")
    parser.add_argument("--keep", action="store_true", help="keep each run's directory below DIR/kept")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results and the memory first")
    parser.add_argument("--redo", action="store_true", help="run again what is known, and keep the rest")
    parser.add_argument("--patience", type=float, default=1.0, help="times the seconds after which a run has hung")
    parser.add_argument("--print", action="store_true", help="run nothing: show what is known")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args(words)
    options.arms = tuple(options.arms.split(","))
    if unknown := [arm for arm in options.arms if arm not in ARMS]:
        parser.error(f"no arm is called {unknown[0]}: there are {', '.join(ARMS)}")
    options.results = options.results.resolve()
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Run and print; the exit code says whether everything was right."""
    options = parsed(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being ended leaves as little behind as Ctrl-C
    every, wheels = collect()
    scenarios = chosen(every, options.only)
    if options.fresh:
        shutil.rmtree(options.results, ignore_errors=True)
    options.results.mkdir(parents=True, exist_ok=True)
    with served() as server:
        bench = Bench(options, wheels, server)
        try:
            for arm in () if options.print else options.arms:
                bench.arm(arm, scenarios)
        except KeyboardInterrupt:
            print("interrupted: the same command goes on", file=sys.stderr)
            return 130
    return show(scenarios, options.arms, bench.results.known, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
