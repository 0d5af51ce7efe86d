"""Agents killed at random moments of their runs, and runs that go on all at once: what became of them."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.endurance_agents import Agent
from bench.endurance_score import findings
from bench.endurance_world import Stored, World

_A_RUN = 6  # kills of one run at most; then it is let go to its end
_MOST_S = 8.0  # after its start comes a kill by time
_CHANGES = 7  # of the store, after which a kill by change comes
_LATER_S = 0.3


@dataclass
class Tried:
    """What was done, and what was found wrong. `where`: node or state of deployment → kills there."""

    runs: int = 0
    kills: int = 0
    where: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)


class Moment:
    """When to kill: a while after the start, or right after the store has changed so many times."""

    def __init__(self, chance: random.Random, stored: Stored) -> None:
        self._stored, self._state, self._begun = stored, stored.state(), time.monotonic()
        self._by_change = chance.random() < 0.5
        self._changes = chance.randint(1, _CHANGES)
        self._later = chance.choice((0.0, chance.uniform(0, _LATER_S)))
        self._at = self._begun + chance.uniform(0, _MOST_S)

    def come(self) -> bool:
        """Whether it has come."""
        if self._by_change and self._changes:
            now = self._stored.state()
            if now != self._state:
                self._state, self._changes = now, self._changes - 1
                self._at = time.monotonic() + self._later
            return False if self._changes else time.monotonic() >= self._at
        return time.monotonic() >= self._at


def endure(world: World, chance: random.Random, tried: Tried, most: int, *, name: str, patience_s: float) -> None:
    """One run with as many kills of its agents as come, `most` at most, to its end; what was found goes to `tried`."""
    home, killed = world.home(name), 0
    stored, agent = Stored(home), world.agent(home, world.words())
    while True:
        moment = Moment(chance, stored) if killed < most else None
        if agent.wait(moment.come if moment else None, patience_s):
            if agent.code is not None and agent.code >= 0:
                break
            tried.found.append(f"{name}: its agent hung")
            break
        state = stored.state()
        if not agent.kill():
            break
        killed += 1
        tried.kills += 1
        tried.where[_where(state)] += 1
        known = stored.run_ids()
        agent = world.agent(home, ["resume", known[-1], "--json"] if known else world.words())
    tried.runs += 1
    judged(world, home, agent, tried, name)


def judged(world: World, home: Path, agent: Agent, tried: Tried, name: str) -> None:
    """Judge the one run of a state directory."""
    known = Stored(home).run_ids()
    if len(known) != 1:
        tried.found.append(f"{name}: {len(known)} runs are there for one: {agent.said()[-300:]}")
        return
    seen = world.seen(home, known[0], agent, lessons=True)
    tried.found += [f"{name} {known[0]}: {one}" for one in findings(seen)]


def _where(state: tuple[tuple[str, ...], ...]) -> str:
    """The state of the newest deployment, and the node of the run."""
    node = next((row[2] for row in state if len(row) == 3), "before the run was kept")
    last = [row[1] for row in state if len(row) == 2][-1:]
    return f"{node or 'start'} ({last[0]})" if last else node or "start"


def kills(world: World, count: int, seed: int, *, patience_s: float, tell: Callable[[str], None]) -> Tried:
    """Runs until so many agents were killed."""
    tried, number = Tried(), 0
    while tried.kills < count:
        chance = random.Random(f"{seed}-{number}")
        before = len(tried.found)
        name, most = f"run-{number}", min(_A_RUN, count - tried.kills)
        endure(world, chance, tried, most, name=name, patience_s=patience_s)
        number += 1
        word = "; ".join(tried.found[before:]) or "whole"
        tell(f"{tried.runs:4} runs {tried.kills:4} kills  {word}")
    return tried


def together(world: World, count: int, *, patience_s: float) -> Tried:
    """So many runs at the same time over one state directory and one memory."""
    home, tried = world.home("together"), Tried(runs=count)
    place = home.parent
    agents = [Agent(world.words(), world.environment(home), place / f"together-{n}") for n in range(count)]
    end = time.monotonic() + patience_s
    for agent in agents:
        agent.wait(limit_s=max(1.0, end - time.monotonic()))
    stored, first = Stored(home), 0
    by_run = {}
    for agent in agents:
        run_id = _named(agent)
        if run_id is None:
            tried.found.append(f"together: an agent ended ({agent.code}) without a run: {agent.said()[-300:]}")
            continue
        by_run[run_id] = agent
        seen = world.seen(home, run_id, agent, lessons=False)
        first += len(seen.deployments) > 1
        tried.found += [f"together {run_id}: {one}" for one in findings(seen, attempts=None)]
    if missing := set(stored.run_ids()) ^ set(by_run):
        tried.found.append(f"together: store and agents differ by {sorted(missing)}")
    times = world.lesson_times(home)
    if sum(times) != first:
        tried.found.append(f"together: {first} runs were mended, and the memory has seen it {times} times")
    return tried


def _named(agent: Agent) -> str | None:
    try:
        return str(json.loads(agent.out.read_text())["run_id"])
    except (OSError, ValueError, KeyError):
        return None
