"""What a run must have come to whatever happened to its agents: judged from what store, cluster and files say. Pure.

A finding is a sentence; none means that nothing was lost, nothing was deployed twice and no money was counted twice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

STEPS: Final = 8
"""Lines that the training says, once each."""
LINES: Final = tuple(f"step {n} loss {1 / (n + 1):.4f}" for n in range(STEPS))
ONCE_EACH: Final = ("deployed", "placed")
"""Events of which each attempt has one."""
_CENT_S: Final = 0.5  # seconds of a node's price by which a cost may be off: clocks are read at different moments


@dataclass(frozen=True)
class JobSeen:
    """What the cluster has recorded of a job. `held_s`: seconds for which its allocations held their node."""

    versions: int
    registrations: int
    allocations: int
    held_s: float


@dataclass(frozen=True)
class RunSeen:
    """What there is of a run at its end.

    `starts`: job id → how often its training began, by the training's own word. `deployments`: job id → state, by the
    store. `jobs`: by the cluster. `lesson_times`: how often each lesson was seen, None without a memory of its own.
    `said`: the last messages of its last agent. `asked`: questions that were open on the way.
    """

    code: int
    document: Mapping[str, Any]
    deployments: Mapping[str, str]
    jobs: Mapping[str, JobSeen]
    starts: Mapping[str, int]
    events: Sequence[str]
    lines: Sequence[str]
    outputs: Sequence[str]
    report: bool
    cost_usd: float
    spending_usd: float
    usd_per_hour: float
    lesson_times: Sequence[int] | None = None
    said: str = ""
    asked: Sequence[str] = field(default_factory=tuple)


def findings(seen: RunSeen, *, attempts: int | None = 2) -> tuple[str, ...]:
    """What was lost, done twice or counted twice. `attempts`: how many the run needs, None where one may do."""
    return (*_ended(seen, attempts), *_once(seen), *_whole(seen), *_money(seen))


def _ended(seen: RunSeen, attempts: int | None) -> Iterator[str]:
    if seen.code != 0 or seen.document.get("status") != "succeeded":
        told = seen.said.strip().splitlines()[-1:] or ["nothing"]
        yield f"lost: it ended {seen.document.get('status', 'without a document')} ({seen.code}), saying {told[0]!r}"
        return
    kinds = [(a.get("outcome") or {}).get("kind") for a in seen.document.get("attempts") or ()]
    if kinds[-1:] != ["succeeded"] or (attempts is not None and kinds != ["failed"] * (attempts - 1) + ["succeeded"]):
        yield f"lost: its attempts are {kinds}"
    yield from (f"asked: {question}" for question in seen.asked)


def _once(seen: RunSeen) -> Iterator[str]:
    for job in sorted({*seen.jobs, *seen.starts, *seen.deployments}):
        on_cluster, began = seen.jobs.get(job), seen.starts.get(job, 0)
        if on_cluster is None:
            yield f"lost: the cluster knows nothing of {job}"
            continue
        if on_cluster.versions != 1 or on_cluster.registrations != 1:
            yield f"twice: {job} was registered {max(on_cluster.versions, on_cluster.registrations)} times"
        if on_cluster.allocations != 1 or began != 1:
            yield f"twice: {job} was placed {on_cluster.allocations} times, and its training began {began} times"
        if seen.deployments.get(job) != "finished":
            yield f"lost: the store has {job} as {seen.deployments.get(job, 'nothing')}"
    counted = Counter(seen.events)
    for kind in ONCE_EACH:
        if counted[kind] != len(seen.deployments):
            yield f"events: {counted[kind]} of {kind} for {len(seen.deployments)} deployments"
    if counted["succeeded"] != 1:
        yield f"events: {counted['succeeded']} of succeeded"


def _whole(seen: RunSeen) -> Iterator[str]:
    said = Counter(line for line in seen.lines if line.startswith("step "))
    if lacking := [line for line in LINES if not said[line]]:
        yield f"lost: the kept log lacks {lacking}"
    if more := sorted(line for line, times in said.items() if times > 1 or line not in LINES):
        yield f"twice: the kept log has {more} more than once, or cut off"
    if "model.json" not in [name.rpartition("/")[2] for name in seen.outputs]:
        yield f"lost: its outputs are {list(seen.outputs)}"
    if not seen.report:
        yield "lost: there is no report"
    if seen.lesson_times is not None and list(seen.lesson_times) != [1]:
        yield f"memory: its lesson is there {list(seen.lesson_times)} times"


def _money(seen: RunSeen) -> Iterator[str]:
    held = sum(job.held_s for job in seen.jobs.values())
    due, slack = held * seen.usd_per_hour / 3600, _CENT_S * max(1, len(seen.jobs)) * seen.usd_per_hour / 3600
    if abs(seen.cost_usd - due) > slack:
        yield f"money: {seen.cost_usd:.6f} USD are counted where the cluster's record makes {due:.6f}"
    if abs(seen.spending_usd - seen.cost_usd) > 1e-6:
        yield f"money: the days' spending is {seen.spending_usd:.6f} USD and the run's cost {seen.cost_usd:.6f}"
