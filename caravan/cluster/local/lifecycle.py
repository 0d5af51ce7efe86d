"""A task from start to end: what Nomad's client does for it, with the events it writes.

A runner can be made for a task in any state, also one that a former process of the cluster has left: it goes on from
what is recorded and from what the supervisor says.
"""

import asyncio
import contextlib
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from caravan.cluster.local import drivers, events, scripts
from caravan.cluster.local.containers import DaemonError
from caravan.cluster.local.preparing import Assignment, EndedBefore, NotPrepared, Preparation
from caravan.cluster.local.restarts import Tracker, again_after_success
from caravan.cluster.local.supervise import Run, RunState
from caravan.cluster.local.words import SECOND, JsonDict, now_ns, rfc3339

MAX_KILL_TIMEOUT = 30 * SECOND
"""What a client waits at most before it kills, whatever a task asks for: Nomad's default."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: failed or not; `hopeless` when starting anew can't help; `lost` when nobody knows; `silent`
    when nothing is to be said of it."""

    failed: bool
    hopeless: bool = False
    lost: bool = False
    silent: bool = False


def blank_state() -> JsonDict:
    """The state of a task that nothing has happened to."""
    return {
        "Events": [],
        "Failed": False,
        "FinishedAt": None,
        "LastRestart": None,
        "Paused": "",
        "Restarts": 0,
        "StartedAt": None,
        "State": "pending",
    }


class TaskRunner:
    """Runs one task. `state` is its TaskState, `runs` how many of its runs are over; `publish` stores both."""

    def __init__(self, given: Assignment, state: JsonDict, runs: int, publish: Callable[[], None]) -> None:
        self._given = given
        self.state = state
        self.runs = runs
        self.lost = False
        self._publish = publish
        self._killing = asyncio.Event()
        self._restarting: JsonDict | None = None
        self._run: Run | None = None
        self._delayed: asyncio.TimerHandle | None = None  # the kill that waits for the shutdown delay
        self._beside: set[asyncio.Future[None]] = set()  # what goes on beside the run
        self._preparation = Preparation(given, self)
        self._tracker = Tracker(
            given.task["RestartPolicy"],
            on_success=again_after_success(given.job, given.task),
            now=now_ns(),
            restarts=int(state["Restarts"]),
        )
        self.over = asyncio.Event()

    @property
    def name(self) -> str:
        """The task's name."""
        return self._given.name

    @property
    def dead(self) -> bool:
        """Whether the task is over."""
        return bool(self.state["State"] == "dead")

    def note(self, *happened: JsonDict, **fields: Any) -> None:
        """Add events and change fields of the state, then publish."""
        self._add(*happened)
        self.state |= fields
        self._publish()

    def _add(self, *happened: JsonDict) -> None:
        self.state["Events"] = [*self.state["Events"], *happened][-events.EVENTS_KEPT :]

    def seen(self, kind: str) -> bool:
        """Whether an event of that type is among those kept."""
        return any(e["Type"] == kind for e in self.state["Events"])

    async def run(self, gate: asyncio.Event) -> None:
        """Run the task to its end, restarts included, once the gate is open."""
        try:
            await self._go(gate)
        finally:
            if self.dead:
                self.over.set()

    async def _go(self, gate: asyncio.Event) -> None:
        resumed = True
        while not self.dead:
            if not self._folder().begun and await self.unless_killed(gate.wait()):
                self._die(failed=bool(self.state["Failed"]))
                return
            await self._wait_for_restart()
            if self._killing.is_set() and not self._folder().begun:
                self._die(failed=bool(self.state["Failed"]))
                return
            ended = await self._one_run(resumed=resumed)
            resumed = False
            self._conclude(ended)

    async def _wait_for_restart(self) -> None:
        """Wait out the delay of a restart; a kill ends it."""
        last = self.state["Events"][-1] if self.state["Events"] else None
        if last is None or last["Type"] != "Restarting":
            return
        rest = (last["Time"] + last["StartDelay"] - now_ns()) / SECOND
        if rest > 0:
            await self.unless_killed(asyncio.sleep(rest))

    async def unless_killed(self, waiting: Awaitable[object]) -> bool:
        """Wait for something, or for a kill; True when it is to end."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._killing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return self._killing.is_set()

    def _folder(self) -> Run:
        """The run that is on or comes next."""
        folder = self._given.site.runs / self._given.body["ID"] / self.name / str(self.runs + 1)
        if self._run is None or self._run.folder != folder:
            self._run = self._given.site.supervisors.run(folder, self._given.body["ID"], self.name)
        return self._run

    async def _one_run(self, *, resumed: bool) -> Ended:
        run = self._folder()
        never = run.begun and resumed and (found := run.state()).gone and found.started is None
        if never:
            run.sweep()  # the cluster died while it was starting it: nothing is known to have run
        try:
            if never or not run.begun:
                run.start(await self._preparation.spec(self.runs + 1, run.folder))
            state = await run.until_started()
            if state.started is None:
                raise NotPrepared(events.driver_failure(state.error or run.complaint() or "the supervisor died"))
        except EndedBefore:
            return Ended(failed=bool(self.state["Failed"]), silent=True)
        except NotPrepared as failed:
            self._add(failed.event)
            return Ended(failed=True, hopeless=failed.hopeless, silent=failed.ends)
        except (OSError, ValueError, TypeError) as error:
            # ValueError and TypeError: a job may say what no process can be given, and that ends the task alone.
            said = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._add(events.setup_failed(f"failed to set up the task: {said}"))
            return Ended(failed=True)
        if self.state["State"] != "running":
            self.note(events.started(), State="running", StartedAt=rfc3339(state.started))
        if self._killing.is_set():
            self._begin_stop()
        try:
            if self._given.task["Templates"]:
                self._also(self._preparation.watch())
            return await self._terminated(run, await run.until_over())
        finally:
            for work in list(self._beside):
                work.cancel()

    def _container(self, run: Run) -> str:
        """The name of the container that the run has, or nothing."""
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads((run.folder / "spec.json").read_text(encoding="utf-8")).get("container") or "")
        return ""

    async def _outcome(self, run: Run) -> tuple[int, bool] | None:
        """What came of the run's container, which is then removed; None where it has none, or nobody knows."""
        name, daemon = self._container(run), self._given.site.daemon
        if not name or daemon is None:
            return None
        try:
            return await asyncio.to_thread(daemon.outcome, name)
        except DaemonError:
            return None
        finally:
            await asyncio.to_thread(daemon.remove, name)

    async def _terminated(self, run: Run, state: RunState) -> Ended:
        outcome = await self._outcome(run)
        if outcome is None and (state.gone or self._container(run)):
            return Ended(failed=True, hopeless=True, lost=True)
        code, oom = outcome or (state.exit_code, state.oom)
        driver = self._given.task["Driver"]
        message = drivers.exit_message(driver, code, oom)
        self._add(events.terminated(code, drivers.shown_signal(driver, state.signal), oom, message))
        return Ended(failed=code != 0 or oom)

    def _conclude(self, ended: Ended) -> None:
        """Record a run's end together with what follows from it."""
        self.runs += 1
        if ended.lost or ended.silent:
            self.lost = ended.lost
            self._die(failed=ended.failed)
            return
        delayed, self._delayed = self._delayed, None
        if delayed is not None:  # it has ended by itself before it was to be killed
            delayed.cancel()
        elif self._killing.is_set():
            self._die(events.killed(), failed=bool(self.state["Failed"]))
            return
        if self._restarting is not None:
            self._restarting = None
            self._again(events.restarting(0, ""))
            return
        verdict = self._tracker.next_run(now_ns(), failed=ended.failed, hopeless=ended.hopeless)
        if verdict.again:
            self._again(events.restarting(verdict.delay, verdict.reason))
        elif verdict.failed:
            self._die(events.not_restarting(verdict.reason), failed=True)
        else:
            self._die(failed=False)

    def _again(self, event: JsonDict) -> None:
        self.note(event, State="pending", Restarts=self.state["Restarts"] + 1, LastRestart=rfc3339(now_ns()))

    def _die(self, *happened: JsonDict, failed: bool) -> None:
        self.note(*happened, State="dead", Failed=failed, FinishedAt=rfc3339(now_ns()))

    @property
    def _kill_timeout(self) -> int:
        return min(int(self._given.task["KillTimeout"]), MAX_KILL_TIMEOUT)

    def kill(self, reason: str = "") -> None:
        """End the task: its kill signal, and after its kill time-out the end of the whole tree."""
        if self.dead or self._killing.is_set():
            return
        self._killing.set()
        if not self.seen("Killing"):
            self.note(events.killing(self._kill_timeout, reason))
        self._begin_stop()

    def fail_for(self, event: JsonDict) -> None:
        """End the task as failed for that reason."""
        if self.dead or self._killing.is_set():
            return
        self._killing.set()
        self.note(event, Failed=True)
        self._begin_stop()

    def restart(self, reason: str) -> bool:
        """Start the task anew though it has not ended, as a person wants it; False when it does not run."""
        return self.restart_for(events.restart_signaled(reason))

    def restart_for(self, event: JsonDict) -> bool:
        """Start the task anew for that reason; False when it does not run."""
        if self.state["State"] != "running" or self._killing.is_set():
            return False
        self._restarting = event
        self.note(event)
        self._order_stop()
        return True

    def unhealthy(self, event: JsonDict) -> None:
        """Start the task anew as its restart policy says, as after a failure."""
        if self.state["State"] == "running" and not self._killing.is_set() and self._restarting is None:
            self.note(event)
            self._order_stop()

    def signal(self, name: str) -> bool:
        """Send a signal to the task's command; False when it does not run. Raises ValueError for no signal."""
        if _number(name) is None:
            raise ValueError(name)
        return self.signal_for(events.signaling(name), name)

    def signal_for(self, event: JsonDict, name: str) -> bool:
        """Send it a signal for that reason; False when it does not run."""
        number = _number(name)
        if number is None or self.state["State"] != "running" or self._restarting is not None:
            return False
        self.note(event)
        run = self._folder()
        name, daemon = self._container(run), self._given.site.daemon
        if name and daemon is not None:
            self._also(asyncio.to_thread(daemon.kill, name, number))
            return True
        return run.signal(number)

    def _also(self, work: Awaitable[None]) -> None:
        """Do something beside the task's run; the run's end ends it too."""
        started = asyncio.ensure_future(work)
        self._beside.add(started)
        started.add_done_callback(self._beside.discard)

    async def execute(self, command: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run a command where the task runs: its exit code, and why it could not be run, else nothing."""
        run = self._folder()
        name, daemon = self._container(run), self._given.site.daemon
        if name and daemon is not None:
            return await scripts.in_container(daemon, name, command, seconds)
        return await scripts.beside(run.folder, command, seconds)

    def _begin_stop(self) -> None:
        """Stop the task, once its shutdown delay is over."""
        delay = int(self._given.task.get("ShutdownDelay") or 0)
        if not delay or self.state["State"] != "running":
            self._order_stop()
            return
        self.note(events.shutdown_delay(delay), State="pending")
        self._delayed = asyncio.get_running_loop().call_later(delay / SECOND, self._stop_now)

    def _stop_now(self) -> None:
        self._delayed = None
        self._order_stop()

    def _order_stop(self) -> None:
        run = self._folder()
        if not run.begun:
            return
        name = self._given.task["KillSignal"] or drivers.default_signal(self._given.task["Driver"])
        number = _number(name) or signal.SIGTERM
        if self._container(run):
            self._also(self._stop_container(self._container(run), number))
        else:
            run.stop(number, self._kill_timeout / SECOND)

    async def _stop_container(self, name: str, number: int) -> None:
        """The signal, and after the time-out a kill; what watches the container ends with it."""
        daemon = self._given.site.daemon
        if daemon is None:
            return
        await asyncio.to_thread(daemon.kill, name, number)
        await asyncio.sleep(self._kill_timeout / SECOND)
        await asyncio.to_thread(daemon.kill, name, signal.SIGKILL)


def _number(name: str) -> signal.Signals | None:
    with contextlib.suppress(KeyError):
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    return None
