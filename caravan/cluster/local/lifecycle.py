"""A task from start to end: what Nomad's client does for it, with the events it writes.

A runner can be made for a task in any state, also one that a former process of the cluster has left: it goes on from
what is recorded and from what the supervisor says.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.cluster.local import drivers, events, taskdir
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.supervise import Run, RunState
from caravan.cluster.local.taskenv import TaskPlace, resolve_all, task_environment
from caravan.cluster.local.templates import TemplateRefused, TemplateWaits
from caravan.cluster.local.variables import Variables, readable_by
from caravan.cluster.local.words import SECOND, JsonDict, now_ns, rfc3339

_MB = 1024 * 1024


@dataclass(frozen=True)
class Site:
    """Where tasks run: the directories of all allocations and of all runs, what every task's environment has, and
    the variables that templates read. `isolated`: this machine gives tasks views of their own."""

    allocs: Path
    runs: Path
    environment: Mapping[str, str]
    variables: Variables
    isolated: bool = False


@dataclass(frozen=True)
class Assignment:
    """A task of an allocation on a node. `body` is the allocation in Nomad's shape."""

    job: JsonDict
    group: JsonDict
    task: JsonDict
    body: JsonDict
    node: Node
    site: Site

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.task["Name"])

    @property
    def place(self) -> TaskPlace:
        """The task's directories."""
        return taskdir.place_of(self.site.allocs, self.body["ID"], self.name)


@dataclass(frozen=True)
class Ended:
    """How a run ended: failed or not; `hopeless` when starting anew can't help; `lost` when nobody knows."""

    failed: bool
    hopeless: bool = False
    lost: bool = False


class NotPrepared(Exception):
    """A task that can't be started; `event` says why."""

    def __init__(self, event: JsonDict, *, hopeless: bool = True) -> None:
        super().__init__(event["DisplayMessage"])
        self.event = event
        self.hopeless = hopeless


class EndedBefore(Exception):
    """The task was told to end before it was started."""


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
        self._run: Run | None = None

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
        self.state["Events"] = [*self.state["Events"], *happened][-events.EVENTS_KEPT :]
        self.state |= fields
        self._publish()

    def seen(self, kind: str) -> bool:
        """Whether an event of that type is among those kept."""
        return any(e["Type"] == kind for e in self.state["Events"])

    async def run(self) -> None:
        """Run the task to its end, restarts included."""
        resumed = True
        while not self.dead:
            await self._wait_for_restart()
            if self._killing.is_set() and not self._folder().begun:
                self._die(events.killed(), failed=False)
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
            await self._unless_killed(asyncio.sleep(rest))

    async def _unless_killed(self, waiting: Awaitable[object]) -> None:
        """Wait for something, or for a kill."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._killing.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _folder(self) -> Run:
        """The run that is on or comes next."""
        folder = self._given.site.runs / self._given.body["ID"] / self.name / str(self.runs + 1)
        if self._run is None or self._run.folder != folder:
            self._run = Run(folder, self._given.body["ID"], self.name)
        return self._run

    async def _one_run(self, *, resumed: bool) -> Ended:
        run = self._folder()
        never = run.begun and resumed and (found := run.state()).gone and found.started is None
        if never:
            run.sweep()  # the cluster died while it was starting it: nothing is known to have run
        try:
            if never or not run.begun:
                run.start(await self._prepare())
            state = await run.until_started()
            if state.started is None:
                raise NotPrepared(events.driver_failure(state.error or run.complaint() or "the supervisor died"))
        except EndedBefore:
            return Ended(failed=False)
        except NotPrepared as failed:
            self.state["Events"] = [*self.state["Events"], failed.event][-events.EVENTS_KEPT :]
            return Ended(failed=True, hopeless=failed.hopeless)
        except (OSError, ValueError, TypeError) as error:
            # ValueError and TypeError: a job may say what no process can be given, and that ends the task alone.
            said = (error.strerror if isinstance(error, OSError) else None) or str(error)
            failure = events.setup_failed(f"failed to set up the task: {said}")
            self.state["Events"] = [*self.state["Events"], failure][-events.EVENTS_KEPT :]
            return Ended(failed=True)
        if self.state["State"] != "running":
            self.note(events.started(), State="running", StartedAt=rfc3339(state.started))
        if self._killing.is_set():
            self._order_stop()
        return self._terminated(await run.until_over())

    async def _prepare(self) -> JsonDict:
        """Do everything before the start: configuration, artifacts, templates, driver. Returns the spec of the run."""
        given, task = self._given, self._given.task
        taskdir.build(given.place)
        seen = drivers.seen_place(task["Driver"], given.place, isolated=given.site.isolated)
        environment = task_environment(given.job, given.group, task, given.body, given.node, seen)
        config = resolve_all(task["Config"] or {}, environment, given.node)
        try:
            drivers.check_config(task["Driver"], config)
        except drivers.InvalidConfig as error:
            raise NotPrepared(events.invalid(str(error))) from error
        if task["Artifacts"]:
            self.note(events.downloading())
            source = task["Artifacts"][0].get("GetterSource") or ""
            text = f'failed to download artifact "{source}": the built-in cluster downloads no artifacts'
            raise NotPrepared(events.download_failed(text))
        inherited = {**given.site.environment, **environment}
        told = await self._rendered(inherited)
        return await self._spec(config, {**inherited, **told})

    async def _rendered(self, environment: dict[str, str]) -> dict[str, str]:
        """Write the templates; what those with `env` say comes back. A variable that is missing is waited for."""
        while True:
            moved = self._given.site.variables.moved
            try:
                return taskdir.render_templates(self._given.task, self._given.place, environment, self._items_of)
            except TemplateRefused as error:
                happened = events.template_failed if error.ends else events.setup_failed
                raise NotPrepared(happened(str(error))) from error
            except TemplateWaits as missing:
                said = events.template_waits(missing.path)
                last = self.state["Events"][-1]["DisplayMessage"] if self.state["Events"] else ""
                if last != said["DisplayMessage"]:
                    self.note(said)
            await self._unless_killed(moved.wait())
            if self._killing.is_set():
                raise EndedBefore

    def _items_of(self, path: str) -> Mapping[str, str] | None:
        """The items of a variable that the task may read. Raises TemplateRefused for another one, as Nomad ends it."""
        given = self._given
        if path not in readable_by(given.job["ID"], given.group["Name"], self.name):
            where = f"nomad.var.get({path}@default.global)"
            raise TemplateRefused(
                f"Template failed: {where}: Unexpected response code: 403 (Permission denied)", ends=True
            )
        found = given.site.variables.get(path)
        return None if found is None else found["Items"]

    async def _spec(self, config: JsonDict, environment: dict[str, str]) -> JsonDict:
        given, task = self._given, self._given.task
        held = given.body["AllocatedResources"]["Tasks"][self.name]
        start = drivers.Started(
            task=task,
            group=given.group,
            config=config,
            environment=environment,
            place=given.place,
            node=given.node,
            devices=len(held["Devices"] or []),
            alloc_id=given.body["ID"],
            isolated=given.site.isolated,
            scratch=given.site.runs.parent / "volumes",
            folder=self._folder().folder,
        )
        if drivers.needs_pull(start):
            self.note(events.downloading_image(config["image"]))
        try:
            command = await asyncio.to_thread(drivers.command, start)
        except drivers.CannotStart as error:
            raise NotPrepared(events.driver_failure(str(error))) from error
        return {
            "name": f"{given.body['ID']}-{self.name}-{self.runs + 1}",
            "task": self.name,
            "executable": command.executable,
            "argv": list(command.argv),
            "cwd": command.cwd,
            "view": command.view.spec() if command.view else None,
            "user": task["User"],
            "env": environment,
            "logs": str(given.place.alloc_dir / "logs"),
            "max_files": int(task["LogConfig"]["MaxFiles"]),
            "max_file_bytes": int(task["LogConfig"]["MaxFileSizeMB"]) * _MB,
            "memory_bytes": int(held["Memory"]["MemoryMB"]) * _MB,
        }

    def _terminated(self, state: RunState) -> Ended:
        if state.gone:
            return Ended(failed=True, hopeless=True, lost=True)
        driver = self._given.task["Driver"]
        message = drivers.exit_message(driver, state.exit_code, state.oom)
        shown = drivers.shown_signal(driver, state.signal)
        happened = events.terminated(state.exit_code, shown, state.oom, message)
        self.state["Events"] = [*self.state["Events"], happened][-events.EVENTS_KEPT :]
        return Ended(failed=state.exit_code != 0 or state.oom)

    def _conclude(self, ended: Ended) -> None:
        """Record a run's end together with what follows from it."""
        self.runs += 1
        if ended.lost:
            self.lost = True
            self._die(failed=True)
            return
        if self._killing.is_set():
            self._die(events.killed(), failed=False)
            return
        restarts = [e["Time"] for e in self.state["Events"] if e["Type"] == "Restarting"]
        verdict = events.next_run(
            self._given.task["RestartPolicy"],
            restarts,
            now_ns(),
            failed=ended.failed,
            service=self._given.job["Type"] == "service" and not self._given.task["Lifecycle"],
            hopeless=ended.hopeless,
        )
        if verdict.again:
            again = events.restarting(verdict.delay, verdict.reason)
            count = self.state["Restarts"] + 1
            self.note(again, State="pending", Restarts=count, LastRestart=rfc3339(now_ns()))
        elif verdict.failed:
            self._die(events.not_restarting(verdict.reason), failed=True)
        else:
            self._die(failed=False)

    def _die(self, *happened: JsonDict, failed: bool) -> None:
        self.note(*happened, State="dead", Failed=failed, FinishedAt=rfc3339(now_ns()))

    def kill(self, *because: JsonDict, reason: str = "") -> None:
        """End the task: its kill signal, and after its kill time-out the end of the whole tree."""
        if self.dead or self._killing.is_set():
            return
        self._killing.set()
        if not self.seen("Killing"):
            self.note(*because, events.killing(int(self._given.task["KillTimeout"]), reason))
        self._order_stop()

    def _order_stop(self) -> None:
        run = self._folder()
        if not run.begun:
            return
        name = self._given.task["KillSignal"] or drivers.default_signal(self._given.task["Driver"])
        number = signal.SIGTERM
        with contextlib.suppress(KeyError):
            number = signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
        run.stop(number, int(self._given.task["KillTimeout"]) / SECOND)
