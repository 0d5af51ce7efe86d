"""What is known of a run that is being watched, gathered from the port Progress; no drawing, no terminal.

Everything foreign is cleaned when it comes in, and nothing grows without end.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from caravan.terminal.sparkline import Series
from caravan.terminal.text import joined, one_line
from caravan.values.record import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from caravan.values.run import Allocation, Snapshot

DOING: Final = {
    "analyze_codebase": "reading the repository",
    "generate_questions": "looking for what only you can know",
    "collect_responses": "collecting answers",
    "recall": "recalling earlier cases",
    "make_plan": "making the plan",
    "estimate": "estimating memory, time and cost",
    "budget_gate": "holding the cost against the budget",
    "generate_spec": "writing the job",
    "validate_spec": "checking the job",
    "approve": "looking for approval",
    "deliver": "sending what the job needs",
    "deploy_job": "deploying the job",
    "verify_deployment": "watching the job",
    "evaluate": "evaluating the model",
    "register": "registering the model",
    "diagnose": "finding the cause",
    "fix_iteration": "mending the plan",
    "escalate": "handing over to you",
    "remember": "remembering what was learned",
    "report": "writing the report",
}
"""Node → what it does, for a person."""

WATCHING: Final = "verify_deployment"
AXES: Final = ("epoch", "step", "global_step")
"""Metrics that only say how far it is."""

_LINES: Final = 12
_LONGEST: Final = 600  # characters of a log line that are kept: no terminal shows more of it
_METRICS: Final = 32  # different names; a log that makes up ever new ones is no metric
_PREFERRED: Final = ("loss", "train_loss", "train/loss", "training_loss", "eval_loss", "val_loss", "validation_loss")


@dataclass
class Board:
    """A run as it is watched. Times are aware; money is in US dollars; `title` names the run among several."""

    title: str = ""
    node: str = ""
    doing: str = "starting"
    node_since: datetime | None = None
    attempt: int = 0
    attempts: int = 0
    usd_per_hour: float | None = None
    max_run_s: int | None = None
    spent_usd: float = 0.0
    target: str | None = None
    used: str = ""
    snapshot: Snapshot | None = None
    phase_since: datetime | None = None
    lines: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_LINES))
    series: dict[str, Series] = field(default_factory=dict)

    @property
    def watching(self) -> bool:
        """Whether there is a job to look at."""
        return self.node == WATCHING

    def enter(self, node: str, text: str, now: datetime) -> None:
        """The agent entered a node."""
        self.node, self.doing, self.node_since = one_line(node), one_line(text) or DOING.get(node, one_line(node)), now

    def begin(
        self,
        number: int,
        limit: int,
        *,
        usd_per_hour: float | None,
        max_run_s: int | None,
        metric: str | None,
        spent_usd: float,
    ) -> None:
        """Another attempt is watched. Going on with the same one starts its metrics anew, because they come again."""
        if number != self.attempt:
            self.lines.clear()
            self.snapshot, self.phase_since = None, None
        self.attempt, self.attempts, self.target = number, limit, metric
        self.usd_per_hour, self.max_run_s, self.spent_usd = usd_per_hour, max_run_s, spent_usd
        self.series = {}
        self.used = ""

    def see(self, snapshot: Snapshot, now: datetime) -> bool:
        """The cluster's word; whether its phase or its place is another than before."""
        before, self.snapshot = self.snapshot, snapshot
        moved = before is None or _place(before) != _place(snapshot)
        if before is None or before.phase is not snapshot.phase or before.job_id != snapshot.job_id:
            self.phase_since = now
        return moved

    def hear(self, stream: str, lines: Sequence[str]) -> None:
        """The task's lines; empty ones are left out."""
        cleaned = (one_line(line[: 4 * _LONGEST], _LONGEST) for line in lines)
        self.lines.extend((stream, line) for line in cleaned if line)

    def measure(self, values: Mapping[str, float]) -> None:
        """Metrics that were logged together."""
        for name, value in values.items():
            if name in self.series or len(self.series) < _METRICS:
                self.series.setdefault(name, Series()).add(value)

    def metric(self) -> str | None:
        """The metric to draw: the plan's target, else the training loss, else anything that is called a loss."""
        wanted = (self.target, *_PREFERRED) if self.target else _PREFERRED
        lowered = {name.lower(): name for name in reversed(self.series)}
        known = next((lowered[w.lower()] for w in wanted if w.lower() in lowered), None)
        measures = [name for name in self.series if name.lower() not in AXES and "lr" not in name.lower()]
        return known or next((n for n in measures if "loss" in n.lower()), next(iter(measures), None))

    def running_s(self, now: datetime) -> float | None:
        """Seconds that the tasks of the newest allocation have run; None before they start."""
        alloc = _newest(self.snapshot)
        starts = [t.started_at for t in alloc.tasks if t.started_at] if alloc else []
        if alloc is None or not starts:
            return None
        ends = [t.finished_at for t in alloc.tasks if t.finished_at]
        over = all(t.state == "dead" for t in alloc.tasks) and bool(ends)
        return max(0.0, ((max(ends) if over else now) - min(starts)).total_seconds())

    def left_s(self, now: datetime) -> float | None:
        """Seconds until the time limit, which counts from the allocation's beginning; None without limit or begin."""
        alloc = _newest(self.snapshot)
        times = [e.at for t in alloc.tasks for e in t.events] if alloc else []
        if self.max_run_s is None or not times:
            return None
        return max(0.0, self.max_run_s - (now - min(times)).total_seconds())

    def cost_usd(self, now: datetime) -> float | None:
        """What the attempts have cost so far, this one by price and running time; None when its price is not known."""
        if self.usd_per_hour is None:
            return None
        return self.spent_usd + self.usd_per_hour * (self.running_s(now) or 0.0) / 3600


def nodes_of(snapshot: Snapshot) -> str:
    """The nodes on which it lives, by name."""
    live = [a for a in snapshot.allocations if a.client_status in ("pending", "running", "unknown")]
    return one_line(joined(sorted({a.node_name for a in live or snapshot.allocations if a.node_name})))


def _place(snapshot: Snapshot) -> tuple[str, Phase, str]:
    return snapshot.job_id, snapshot.phase, nodes_of(snapshot)


def _newest(snapshot: Snapshot | None) -> Allocation | None:
    return snapshot.allocations[-1] if snapshot is not None and snapshot.allocations else None


def phase_words(snapshot: Snapshot, after: str = "") -> str:
    """Phase, place, how long it took to come so far, and reason in a line."""
    after = f" after {after}" if after else ""
    if snapshot.reason.startswith(f"{snapshot.phase.value} "):  # "ended from outside", "ended by its time limit"
        return one_line(f"{snapshot.phase.value}{after}{snapshot.reason.removeprefix(snapshot.phase.value)}")
    nodes = nodes_of(snapshot)
    where = f" on {nodes}" if nodes and snapshot.phase in (Phase.STARTING, Phase.RUNNING) else ""
    reason = f": {snapshot.reason}" if snapshot.reason else ""
    return one_line(f"{snapshot.phase.value}{where}{after}{reason}")


def is_number(value: float) -> bool:
    """Whether a value is neither nan nor infinite."""
    return value - value == 0


def figure(value: float) -> str:
    """A metric's value with five digits, large ones whole; nan and infinities by their names."""
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e12 else f"{value:.5g}"
