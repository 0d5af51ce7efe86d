"""State directories that let their runs down: a disk that is full for a while, one that can't be written, and clocks
that jump. Each is judged by how the agent ends, and by what the run comes to once the trouble is over.

Full and read-only disks are file systems of their own (tmpfs), which takes root: without it they are not tried.
"""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.endurance_agents import Agent
from bench.endurance_kills import Moment, Tried, judged
from bench.endurance_world import Stored, World
from machine import SystemClock

_ROOM = "512m"  # the memory alone takes some 100 MB
_BLOCK = 1 << 20
JUMPS = (3600.0, 86_400.0, -3600.0, -86_400.0)


class JumpingClock(SystemClock):
    """The real time until it has been asked so many times, and from then on that many seconds later. Monotonic time
    goes on as it is, as it does when a machine's clock is set."""

    def __init__(self, jump_s: float, after: int) -> None:
        self._jump, self._left = timedelta(seconds=jump_s), after

    def now(self) -> datetime:
        self._left -= 1
        return datetime.now(UTC) + (self._jump if self._left < 0 else timedelta())


@contextmanager
def disk(place: Path) -> Iterator[bool]:
    """A small file system at `place`; False where it can't be had."""
    place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM},mode=0700", "tmpfs", str(place)]
    there = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield there
    finally:
        if there:
            subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


def full(world: World, chance: random.Random, tried: Tried, name: str, *, patience_s: float) -> bool:
    """A run whose disk gets full at a moment of it, until its agent has ended; whether that could be tried."""
    place = world.place / "homes" / name
    with disk(place) as there:
        if not there:
            return False
        home = world.home(name)
        stored = Stored(home)
        agent = world.agent(home, world.words())
        if not agent.wait(Moment(chance, stored).come, patience_s):
            filler = home / "filler"
            _fill(filler)
            agent.wait(limit_s=patience_s)
            filler.unlink()
        _plain(agent, tried, name)
        _go_on(world, home, agent, tried, name, patience_s)
    return True


def read_only(world: World, tried: Tried, name: str, *, patience_s: float) -> bool:
    """Commands over a state directory that can't be written, before and after it has a run; whether it was tried."""
    place = world.place / "homes" / name
    with disk(place) as there:
        if not there:
            return False
        home = world.home(name)
        for with_run in (False, True):
            if with_run:
                agent = world.agent(home, world.words())
                agent.wait(limit_s=patience_s)
            known = Stored(home).run_ids()
            _remount(place, "ro")
            for words in (world.words(), ["runs"], *(["show", run] for run in known), *(["resume", r] for r in known)):
                agent = world.agent(home, words)
                agent.wait(limit_s=patience_s)
                _plain(agent, tried, f"{name}, {words[0]}")
            _remount(place, "rw")
        _go_on(world, home, agent, tried, name, patience_s)
    return True


def jumps(world: World, chance: random.Random, tried: Tried, name: str, jump_s: float, *, patience_s: float) -> None:
    """A run in which the clock jumps once, somewhere."""
    home = world.home(name)
    agent = world.agent(home, world.words(), before=_with_clock(jump_s, chance.randint(1, 120)))
    agent.wait(limit_s=patience_s)
    _plain(agent, tried, name)
    tried.runs += 1
    judged(world, home, agent, tried, name)


def _with_clock(jump_s: float, after: int) -> Callable[[], None]:
    def take() -> None:
        import main

        main.Application.clock = JumpingClock(jump_s, after)

    return take


def _go_on(world: World, home: Path, agent: Agent, tried: Tried, name: str, patience_s: float) -> None:
    """The run to its end, once the trouble is over, and its judgement."""
    known = Stored(home).run_ids()
    agent = world.agent(home, ["resume", known[-1], "--json"] if known else world.words())
    agent.wait(limit_s=patience_s)
    tried.runs += 1
    judged(world, home, agent, tried, name)


def _fill(file: Path) -> None:
    """Write until there is no room."""
    with file.open("wb", buffering=0) as stream:
        for size in (_BLOCK, 4096, 1):
            try:
                while stream.write(b"x" * size):
                    pass
            except OSError:
                continue


def _plain(agent: Agent, tried: Tried, name: str) -> None:
    """An agent in trouble ends with one line that says what to do, or is not troubled."""
    said = agent.said()
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    if agent.code is None or agent.code < 0 or agent.code == 70 or "\nTraceback" in f"\n{said}":
        tried.found.append(f"{name}: it ended {agent.code}, saying {said[-400:]!r}")
    elif agent.code and len(errors) != 1:
        tried.found.append(f"{name}: it ended {agent.code} with {len(errors)} lines of what to do: {said[-400:]!r}")
    tried.where[f"{name.partition(' ')[0]}: {(errors or ['not troubled'])[0][:110]}"] += 1


def _remount(place: Path, how: str) -> None:
    """Read-only, or writable again; a database may be open for a moment still."""
    for _ in range(50):
        done = subprocess.run(["mount", "-o", f"remount,{how}", str(place)], capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.2)
    raise SystemExit(f"{place} can't be made {how}: {done.stderr.decode()}")
