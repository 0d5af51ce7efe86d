"""The client's side: allocations and their tasks in order, restarts of the cluster survived.

It implements the broker's `Client`: allocations come in by id, everything else is in the state.
"""

import asyncio
import contextlib
import logging
import shutil
import signal
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from caravan.cluster.local import checks, events, taskdir
from caravan.cluster.local.allocs import client_status
from caravan.cluster.local.canonical import group_of
from caravan.cluster.local.coordination import Coordinator, why_to_end
from caravan.cluster.local.drivers import container_name
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.lifecycle import TaskRunner, blank_state
from caravan.cluster.local.preparing import Assignment, Site
from caravan.cluster.local.reconcile import before_which
from caravan.cluster.local.reports import Reports
from caravan.cluster.local.state import AllocRecord, State
from caravan.cluster.local.words import SECOND, JsonDict, now_ns

_log = logging.getLogger(__name__)
_EXPIRED = "allocation exceeded max_run_duration"
_LOST_SECONDS = 5.0
_LOST = "alloc is lost since the supervisor of its task is gone"


class AllocRunner:
    """Runs the tasks of one allocation."""

    def __init__(self, state: State, record: AllocRecord, node: Node, site: Site, reports: Reports) -> None:
        self._state = state
        self._reports = reports
        self._id = record.id
        self._expired = record.expired
        group = group_of(record.job, record.body["TaskGroup"])
        if group is None:
            raise ValueError(f"allocation {record.id} is of no group of its job")
        self._group = group
        self._coordinator = Coordinator(group["Tasks"])
        self._gates = {t["Name"]: asyncio.Event() for t in group["Tasks"]}
        self._ending: asyncio.Future[None] | None = None
        self._begun = False
        self._site = site
        self._checking: asyncio.Future[None] | None = None
        known = record.body.get("TaskStates") or {}
        self._tasks: dict[str, TaskRunner] = {}
        for task in group["Tasks"]:
            given = Assignment(record.job, group, task, record.body, node, site)
            name = task["Name"]
            now = {**known[name]} if name in known else blank_state()
            self._tasks[name] = TaskRunner(given, now, record.runs.get(name, 0), self._publish)

    def _publish(self) -> None:
        """Report the states of all tasks, and do what follows from them."""
        self._reports.add(self._id, self._report)
        if self._begun:
            self._coordinate()

    def _report(self, record: AllocRecord) -> AllocRecord:
        """The allocation with the states of all tasks, and the status that they make."""
        states: dict[str, JsonDict] = {name: dict(t.state) for name, t in self._tasks.items()}
        status, description = client_status(states)
        if any(t.lost for t in self._tasks.values()):
            status, description = "lost", _LOST
        elif self._expired:
            status, description = "complete", _EXPIRED
        body = {
            **record.body,
            "ClientDescription": description,
            "ClientStatus": status,
            "NetworkStatus": {"Address": "", "AddressIPv6": "", "DNS": None, "InterfaceName": ""},
            "TaskStates": states,
        }
        runs = {name: t.runs for name, t in self._tasks.items()}
        return replace(record, body=body, runs=runs, expired=self._expired)

    async def run(self) -> None:
        """Run the allocation to its end."""
        deadline = self._deadline()
        self._begun = True
        for task in self._tasks.values():
            if not task.state["Events"] and not task.dead:
                task.note(events.received())
        self._coordinate()
        running = [asyncio.ensure_future(t.run(self._gates[t.name])) for t in self._tasks.values()]
        self._observe()
        try:
            await asyncio.gather(*running)
            if self._ending is not None:
                await self._ending
        finally:
            if deadline is not None:
                deadline.cancel()
            self._checking_over()
            for one in (*running, self._ending):
                if one is not None:
                    one.cancel()

    def _observe(self) -> None:
        """Ask the checks of the allocation's services."""
        asked = list(checks.of_alloc(self._state.allocs[self._id]))
        if asked:
            results = self._site.checks.setdefault(self._id, {})
            self._checking = asyncio.ensure_future(checks.observe(asked, results, self._unhealthy))

    def _unhealthy(self, task: str, event: JsonDict) -> None:
        for runner in self._tasks.values():
            if task in ("", runner.name):
                runner.unhealthy(dict(event))

    def _checking_over(self) -> None:
        """Ask no more; what the checks have said is forgotten, as Nomad does it before it kills."""
        if self._checking is not None:
            self._checking.cancel()
        self._site.checks.pop(self._id, None)

    def _deadline(self) -> asyncio.TimerHandle | None:
        limit = self._group["MaxRunDuration"]
        if not limit:
            return None
        rest = self._state.allocs[self._id].body["CreateTime"] + int(limit) - now_ns()
        return asyncio.get_running_loop().call_later(max(0.0, rest / SECOND), self._expire)

    def _expire(self) -> None:
        """As Nomad: the allocation counts as complete at once, its tasks are then ended."""
        if all(t.dead for t in self._tasks.values()):
            return
        self._expired = True
        for name in self._coordinator.of_stage("poststop"):
            self._tasks[name].kill(_EXPIRED)
        self._end(_EXPIRED)
        self._publish()

    def _coordinate(self) -> None:
        """Let those tasks run that may, and end those that are to end."""
        states = {name: t.state for name, t in self._tasks.items()}
        live, why = why_to_end(self._group["Tasks"], states)
        if live and why is not None and self._ending is None:
            kind, name = why
            made = {"sibling": lambda: events.sibling_failed(name), "leader": events.leader_dead}
            because = made.get(kind, events.main_dead)()
            self._ending = asyncio.ensure_future(self._end_in_order(""))
            for one in live:
                self._tasks[one].note(because)
            return
        for name in self._coordinator.may_run(states):
            self._gates[name].set()

    async def _end_in_order(self, reason: str) -> None:
        """End all tasks but the poststop ones: the leader first, sidecars last, each part when the former is over.

        The group's shutdown delay comes before: its services are no longer listed, and who knows them may leave.
        """
        self._checking_over()
        delay = int(self._group.get("ShutdownDelay") or 0)
        if delay:
            await asyncio.sleep(delay / SECOND)
        leaders = [t["Name"] for t in self._group["Tasks"] if t["Leader"]]
        main = [n for n in self._coordinator.of_stage("prestart", "main", "poststart") if n not in leaders]
        sidecars = self._coordinator.of_stage("prestart sidecar", "poststart sidecar")
        for part in (leaders, main, [n for n in sidecars if n not in leaders]):
            for name in part:
                self._tasks[name].kill(reason)
            await asyncio.gather(*(self._tasks[name].over.wait() for name in part if not self._tasks[name].dead))

    def _end(self, reason: str) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end_in_order(reason))

    def stop(self) -> None:
        """End all tasks; the poststop ones then run."""
        self._end("")

    @property
    def tasks(self) -> list[TaskRunner]:
        """The runners of all tasks."""
        return list(self._tasks.values())


class Runner:
    """Runs allocations on the declared nodes. `freed` is told of each end, `crashed` of an error of our own."""

    def __init__(
        self,
        state: State,
        machines: Sequence[Node],
        site: Site,
        freed: Callable[[AllocRecord], None],
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._state = state
        self._nodes = {n.id: n for n in machines}
        self._site = site
        self._freed = freed
        self._crashed = crashed
        self._reports = Reports(state, crashed)
        self._running: dict[str, tuple[AllocRunner, asyncio.Task[None]]] = {}

    def recover(self) -> None:
        """Go on with the allocations that a former process has left."""
        for record in list(self._state.allocs.values()):
            if record.holds and before_which(self._state.holding, record) is None:
                self.run(record.id)
                if record.body["DesiredStatus"] == "stop":
                    self.stop(record.id)
        if self._site.daemon is not None:  # what was made and never came to run, or whose end nobody saw
            held = [r for r in self._state.allocs.values() if r.holds]
            names = {container_name(t, r.id) for r in held for t in r.body["AllocatedResources"]["Tasks"]}
            self._site.daemon.sweep(names)

    def run(self, alloc_id: str) -> None:
        """Run an allocation."""
        record = self._state.allocs[alloc_id]
        node = self._nodes.get(record.body["NodeID"])
        if node is None:
            self._lose(record)
            return
        runner = AllocRunner(self._state, record, node, self._site, self._reports)
        task = asyncio.ensure_future(runner.run())
        self._running[alloc_id] = runner, task
        task.add_done_callback(lambda done: self._over(alloc_id, done))

    def _lose(self, record: AllocRecord) -> None:
        """The inventory has changed and the allocation's node is no more; what still runs of it is ended."""
        for task in record.body["AllocatedResources"]["Tasks"]:
            folder = self._site.runs / record.id / task / str(record.runs.get(task, 0) + 1)
            run = self._site.supervisors.run(folder, record.id, task)
            if run.begun:
                run.stop(signal.SIGTERM, _LOST_SECONDS)
        body = {**record.body, "ClientStatus": "lost", "ClientDescription": "alloc is lost since its node is gone"}
        states = {n: {**s, "State": "dead"} for n, s in (body.get("TaskStates") or {}).items()}
        with self._state.change("AllocationUpdated") as change:
            change.put_alloc(replace(record, body={**body, "TaskStates": states}))
        self._freed(self._state.allocs[record.id])

    def _over(self, alloc_id: str, done: "asyncio.Task[None]") -> None:
        self._running.pop(alloc_id, None)
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            _log.error("allocation %s: %r", alloc_id, error, exc_info=error)
            self._crashed(error)
            return
        try:
            self._reports.store()
            self._freed(self._state.allocs[alloc_id])
        except sqlite3.Error as failure:  # the state can't be written: only a new start may help
            self._crashed(failure)

    def stop(self, alloc_id: str) -> None:
        """End an allocation's tasks."""
        if alloc_id in self._running:
            self._running[alloc_id][0].stop()

    def _runners(self, alloc_id: str, task: str) -> list[TaskRunner]:
        """The runner of a task, or of all for an empty name."""
        found = self._running.get(alloc_id)
        return [t for t in found[0].tasks if task in ("", t.name)] if found else []

    def restart(self, alloc_id: str, task: str) -> bool:
        """Start a task of an allocation anew, or all for an empty name; False when none runs."""
        reason = f"User requested {'task' if task else 'running tasks'} to restart"
        told = sum(t.restart(reason) for t in self._runners(alloc_id, task)) > 0
        self._reports.store()  # before it is answered
        return told

    def signal(self, alloc_id: str, task: str, name: str) -> bool:
        """Send a signal in the same way. Raises ValueError for no signal."""
        told = sum(t.signal(name) for t in self._runners(alloc_id, task)) > 0
        self._reports.store()
        return told

    def forget(self, alloc_id: str) -> None:
        """Remove the directories of an allocation that has ended."""
        taskdir.remove(self._site.allocs, alloc_id)
        shutil.rmtree(self._site.runs / alloc_id, ignore_errors=True)

    async def close(self) -> None:
        """Stop watching; the tasks themselves go on under their supervisors."""
        watching = [task for _, task in self._running.values()]
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        with contextlib.suppress(sqlite3.Error):  # it has been told, and supervisors know
            self._reports.store()
