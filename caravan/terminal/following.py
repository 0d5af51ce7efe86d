"""Following a run that another process drives, from what it leaves: the store, checkpoints, the folder, the cluster.

Nothing is changed, locked or driven; the built-in cluster is not even started. Of a run that an agent on the cluster
has, the copy here is brought up to date with what that agent leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from caravan.agent.logs import split_lines
from caravan.agent.metrics import metric_rows
from caravan.agent.training_lines import head_in, log_of
from caravan.terminal.lookup import LogOf, logs_of
from caravan.terminal.oncluster import catch_up, station_of, works_there
from caravan.terminal.sheet import how_it_ended
from caravan.terminal.text import joined, one_line
from caravan.values.errors import ClusterError, RunBusy
from caravan.values.log_marks import Series, plainly
from caravan.values.run import ENDED, EXIT_CODES, Deployment, DeploymentState, Phase, Purpose, RunStatus

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from caravan.agent.driver import Driver
    from caravan.agent.state import RunState
    from caravan.ports import Cluster
    from caravan.terminal.progress import View
    from caravan.terminal.wiring import Wiring
    from caravan.values.run import Attempt, RunRecord

_CLUSTER_EVERY_S: Final = 3.0
_EARLIER: Final = 4 << 20  # bytes of a log that was there before us which are read
_PIECE: Final = 1 << 20
_SHOWN_LINES: Final = 20
_LONGEST: Final = 4096  # characters of a line that are shown; the copy is masked already


class Follower:
    """One run under watch: `look` looks once, tells the view what is new, says when there is nothing to wait for."""

    def __init__(self, wiring: Wiring, driver: Driver, run_id: str, view: View) -> None:
        self.run_id = run_id
        self._wiring = wiring
        self._driver = driver
        self._view = view
        self._node = ""
        self._seen: datetime | None = None
        self._state: RunState | None = None
        self._job = ""
        self._told: dict[int, int] = {}
        self._held: bool | None = None
        self._waits = ""
        self._cluster: Cluster | None = None
        self._cluster_at: float | None = None
        self._trouble = ""
        self._there = station_of(wiring.folder(run_id)) is not None
        self._there_at: float | None = None
        self._phase: Phase | None = None
        self._offsets: dict[Path, int] = {}
        self._series: dict[str, Series] = {}

    def look(self) -> int | None:
        """Look once: the exit code when the run has ended, or when nothing will happen to it by itself any more."""
        record = self._wiring.store().run(self.run_id)
        held = self._wiring.folder(self.run_id).is_held() or self._is_held_there(record)
        record = self._wiring.store().run(self.run_id)
        if record.updated_at != self._seen:
            self._seen = record.updated_at
            self._state = self._driver.state(self.run_id)
        if record.node and record.node != self._node:
            self._node = record.node
            self._view.node(record.node)
        deployment = self._deployed()
        for attempt in self._state.attempts if self._state else ():
            self._tell(attempt)
        if deployment is not None:
            self._begin(deployment)
            self._ask_cluster(record, deployment)
        self._read_logs()
        if record.status in ENDED and not held:  # one that was stopped is held until its report is written
            return EXIT_CODES[record.status]
        return self._whether_to_go_on(record, deployment, held)

    def _is_held_there(self, record: RunRecord) -> bool:
        """Whether an agent on the cluster has the run; what it has left is then taken into the copy here.

        Until the cluster answers otherwise, it has.
        """
        now = self._wiring.clock.monotonic()
        if self._there_at is None or now - self._there_at >= _CLUSTER_EVERY_S:
            self._there_at = now
            try:
                self._there = works_there(self._wiring, record) is not None
                catch_up(self._wiring, record)
            except ClusterError as error:
                self._note_trouble(error)
            except RunBusy:  # another command brings it back
                return True
        return self._there

    def _note_trouble(self, error: ClusterError) -> None:
        if error.message != self._trouble:
            self._trouble = error.message
            self._view.note(f"The cluster can't be asked: {error.message}")

    def _whether_to_go_on(self, record: RunRecord, deployment: Deployment | None, held: bool) -> int | None:
        if held != self._held:
            again = self._held is False
            self._held = held
            if not held:
                self._view.note(f"No agent works on run {self.run_id} now; `main.py resume {self.run_id}` goes on.")
            elif again:
                self._view.note(f"An agent works on run {self.run_id} again.")
        waits = record.detail if record.status is RunStatus.WAITING else ""
        if waits and waits != self._waits:
            self._view.note(f"It waits for a person: {waits}")
        self._waits = waits
        if held:
            return None
        alive = deployment is not None and (self._phase not in (None, Phase.ENDED, Phase.GONE) or bool(self._trouble))
        return None if alive and not waits else EXIT_CODES[record.status]

    def _deployed(self) -> Deployment | None:
        """The newest deployment that the cluster may know, unless the run has gone on to repair it."""
        known = [d for d in self._wiring.store().deployments(self.run_id) if d.state is not DeploymentState.INTENDED]
        return known[-1] if known else None

    def _tell(self, attempt: Attempt) -> None:
        """What became of an attempt, in steps: its end (where we did not see it), its cause, its repair."""
        told = self._told.get(attempt.number, 0)
        if told < 1 and attempt.outcome is not None:
            if self._job != attempt.job_id:
                ended = joined((_ended(attempt), attempt.outcome.reason), ": ")
                self._view.note(f"{attempt.job_id} {ended}")
            told = 1
        if told < 2 and attempt.diagnosis is not None:
            self._view.note(f"Cause: {attempt.diagnosis.cause}")
            told = 2
        if told < 3 and attempt.repair is not None and attempt.diagnosis is not None:
            repair = attempt.repair
            self._view.repair(attempt.diagnosis.cause, repair.why or repair.kind, attempt.changed)
            told = 3
        self._told[attempt.number] = told

    def _begin(self, deployment: Deployment) -> None:
        state = self._state
        if self._job == deployment.job_id or state is None or state.plan is None:
            return
        self._job, self._phase, self._cluster_at = deployment.job_id, None, None
        if deployment.state is DeploymentState.FINISHED and self._told.get(deployment.attempt):
            self._phase = Phase.ENDED  # it was over before we came, and has been told
            return
        if deployment.purpose is Purpose.EVALUATE:
            self._view.note(f"The model of attempt {deployment.attempt} is evaluated by {deployment.job_id}")
            return
        self._view.attempt(
            1 + sum(a.counts for a in state.attempts if a.number != deployment.attempt),
            state.plan.limits.attempts,
            usd_per_hour=state.estimate.usd_per_hour if state.estimate else None,
            max_run_s=state.plan.limits.max_run_s,
            metric=state.plan.target.metric if state.plan.target else None,
            spent_usd=state.spent_usd,
        )

    def _ask_cluster(self, record: RunRecord, deployment: Deployment) -> None:
        now = self._wiring.clock.monotonic()
        runs = deployment.state is DeploymentState.REGISTERED
        soon = self._cluster_at is not None and now - self._cluster_at < _CLUSTER_EVERY_S
        if self._phase in (Phase.ENDED, Phase.GONE) or (runs and soon):
            return
        self._cluster_at = now
        try:
            cluster = self._connect(record)
            if cluster is None:
                return
            snapshot = cluster.snapshot(deployment.job_id, deployment.namespace)
        except ClusterError as error:
            self._note_trouble(error)
            return
        self._trouble, self._phase = "", snapshot.phase
        self._view.snapshot(snapshot)

    def _connect(self, record: RunRecord) -> Cluster | None:
        if self._cluster is None:
            if record.request.cluster == "local" and self._wiring.local_cluster.status() is None:
                self._view.note("The built-in cluster does not run.")
                return None
            self._cluster = self._wiring.cluster(record.request)
        return self._cluster

    def _read_logs(self) -> None:
        known = logs_of(self._wiring, self.run_id)
        newest = max((whose.attempt for whose in known.values()), default=0)
        names = self._state.profile.metrics_logged if self._state and self._state.profile else ()
        for file in self._wiring.folder(self.run_id).log_files():
            # A copy whose attempt is not known yet is the newest one's.
            whose = known.get(file.name.split(".")[0], LogOf(newest))
            if whose.attempt != newest:
                continue
            stream = "stderr" if ".stderr." in file.name else "stdout"
            for data in self._new(file):
                states, shown, _ = split_lines(data)
                # What an evaluation prints belongs to no curve of the training.
                if whose.purpose is Purpose.TRAIN:
                    told = self._series_of(file).of(_text(state) for state in states)
                    for row in metric_rows(told, names=names):
                        self._view.metrics(row)
                if lines := [line for piece in shown[-_SHOWN_LINES:] if (line := plainly(_text(piece)))]:
                    self._view.log(stream, lines)

    def _series_of(self, file: Path) -> Series:
        """The training's lines in a log and its parts. The first one's head is looked for: what is new may begin far
        behind it."""
        log = log_of(file)
        if log not in self._series:
            try:
                self._series[log] = Series([head_in(file.with_name(log))])
            except OSError:  # which says no more than that nothing is left out
                return Series()
        return self._series[log]

    def _new(self, file: Path) -> list[bytes]:
        """Whole new lines, in pieces; what has no end yet may still be masked otherwise, and waits."""
        pieces = []
        try:
            size = file.stat().st_size
            offset = self._offsets.get(file, max(0, size - _EARLIER))
            with file.open("rb") as opened:
                while offset < size:
                    opened.seek(offset)
                    data = opened.read(min(_PIECE, size - offset))
                    end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))  # progress bars use nothing else
                    if not end:
                        break
                    pieces.append(data[:end])
                    offset += end
        except OSError as error:
            self._view.note(f"The log {one_line(file.name)} can't be read ({error.strerror}).")
            return pieces
        self._offsets[file] = offset
        return pieces


def _ended(attempt: Attempt) -> str:
    """How an attempt ended; whether the result of one that ended well passes is told by the run's end alone."""
    good = attempt.outcome is not None and attempt.outcome.succeeded and attempt.diagnosis is None
    return "ended with exit code 0" if good else how_it_ended(attempt)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip()[:_LONGEST]
