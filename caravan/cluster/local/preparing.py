"""What comes before a task's start: directories, payload, artifacts, templates, and the driver's command."""

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from caravan.cluster.local import artifacts, drivers, events, taskdir
from caravan.cluster.local.checks import Results
from caravan.cluster.local.containers import Daemon, split_image
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.supervise import Supervisors
from caravan.cluster.local.taskenv import TaskPlace, resolve_all, resolver, task_environment, unknown_references
from caravan.cluster.local.templates import TemplateRefused
from caravan.cluster.local.templating import Task, Templates, Told
from caravan.cluster.local.variables import Variables, readable_by
from caravan.cluster.local.words import JsonDict

_MB = 1024 * 1024
_WATCHER_BYTES = 1024 * _MB  # of what watches a container, whose own memory the daemon limits
_WATCHERS_OWN = ("HOME", "LANG", "NOMAD_ALLOC_ID", "NOMAD_TASK_NAME", "PATH")
_CHECKED_DRIVERS = ("exec", "java", "qemu")
_DENIED_USERS = ("root", "Administrator")


@dataclass(frozen=True)
class Site:
    """Where tasks run: the directories of all allocations and of all runs, who starts supervisors, what every task's
    environment has, and the variables and services that templates read. `isolated`: this machine gives tasks views
    of their own. `daemon` is Docker's where one answers, and `checks` holds what services' checks say. `cache` is where
    tasks that see this machine's files keep packages for those that come later."""

    allocs: Path
    runs: Path
    supervisors: Supervisors
    environment: Mapping[str, str]
    variables: Variables
    services: Callable[[], Sequence[Mapping[str, Any]]]
    isolated: bool = False
    daemon: Daemon | None = None
    checks: Results = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        """A folder beside the runs; who writes there makes it."""
        return self.runs.parent / "cache"

    def inherited(self, driver: str) -> dict[str, str]:
        """What a task's environment has that nobody has said. A client of Nomad hands raw_exec its own in the same way,
        so that one can name a cache there for all jobs."""
        caches = {"CARAVAN_CACHE_DIR": str(self.cache)} if driver == "raw_exec" else {}
        return {**caches, **self.environment}


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


class NotPrepared(Exception):
    """A task that can't be started; `event` says why. `ends`: the task is over by that alone."""

    def __init__(self, event: JsonDict, *, hopeless: bool = True, ends: bool = False) -> None:
        super().__init__(event["DisplayMessage"])
        self.event = event
        self.hopeless = hopeless
        self.ends = ends


class EndedBefore(Exception):
    """The task was told to end before it was started."""


class Progress(Task, Protocol):
    """What the task's runner offers to its preparation."""

    def seen(self, kind: str) -> bool:
        """Whether an event of that type is among those kept."""


@dataclass
class Preparation:
    """Prepares a task's runs. What was fetched and rendered once stays for the runs after it."""

    given: Assignment
    progress: Progress
    _fetched: set[int] = field(default_factory=set)
    _templates: Templates | None = None

    @property
    def templates(self) -> Templates:
        """The task's templates."""
        if self._templates is None:
            given = self.given
            self._templates = Templates(
                given.task, given.place, given.site.variables, self._items_of, given.site.services
            )
        return self._templates

    def _environment(self) -> dict[str, str]:
        """Nomad's variables for the task."""
        given = self.given
        seen = drivers.seen_place(given.task["Driver"], given.place, isolated=given.site.isolated)
        return task_environment(given.job, given.group, given.task, given.body, given.node, seen)

    async def spec(self, number: int, folder: Path) -> JsonDict:
        """What the supervisor of run `number`, which lives in `folder`, is to do.

        Raises NotPrepared, EndedBefore, OSError.
        """
        given, task = self.given, self.given.task
        self._validate()
        if not self.progress.seen("Task Setup"):
            self.progress.note(events.setup())
        taskdir.build(given.place)
        environment = self._environment()
        self._payload()
        self._check_volumes()
        await self._fetch(resolver(environment, given.node))
        inherited = {**given.site.inherited(task["Driver"]), **environment}
        await self._render(inherited)
        environment |= self.templates.told
        seen = environment if task["Driver"] == "docker" else {**inherited, **environment}
        config = resolve_all(task["Config"] or {}, seen, given.node)
        try:
            drivers.check_config(task["Driver"], config, unknown_references(task["Config"] or {}, seen, given.node))
        except drivers.InvalidConfig as error:
            raise NotPrepared(events.invalid(str(error))) from error
        return await self._started(config, {**inherited, **environment}, environment, number, folder)

    def _validate(self) -> None:
        """As the client by its defaults: no task of an isolating executor is the superuser's."""
        task = self.given.task
        if task["Driver"] in _CHECKED_DRIVERS and task["User"] in _DENIED_USERS:
            text = f'validate: running as user "{task["User"]}" is disallowed'
            raise NotPrepared(events.hook_failed(text))

    def _payload(self) -> None:
        """What the job was dispatched with, in the file that the task names."""
        wanted = (self.given.task["DispatchPayload"] or {}).get("File")
        payload = self.given.job.get("Payload")
        if not wanted or not payload:
            return
        try:
            target = taskdir.inside(self.given.place.local, wanted)
        except taskdir.EscapesDirectory as error:  # by a link that a former run has left
            raise NotPrepared(events.hook_failed("dispatch_payload: file escapes the task's directory")) from error
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(base64.b64decode(payload))

    def _check_volumes(self) -> None:
        task = self.given.task
        if not task["VolumeMounts"] or task["Driver"] in drivers.ISOLATING:
            return
        text = f'volumes: task driver "{task["Driver"]}" for "{task["Name"]}" does not support host volumes'
        raise NotPrepared(events.hook_failed(text))

    async def _fetch(self, resolve: Callable[[str], str]) -> None:
        """Fetch the artifacts that are not there yet."""
        wanted = self.given.task["Artifacts"] or []
        if len(self._fetched) == len(wanted):
            return
        self.progress.note(events.downloading())
        for i, artifact in enumerate(wanted):
            if i in self._fetched:
                continue
            try:
                fetching = asyncio.to_thread(artifacts.fetch, artifact, self.given.place, resolve)
                job = asyncio.ensure_future(fetching)
                if await self.progress.unless_killed(asyncio.wait([job])):
                    raise EndedBefore
                job.result()
            except artifacts.NotFetched as error:
                raise NotPrepared(events.download_failed(str(error)), hopeless=False) from error
            self._fetched.add(i)

    async def _render(self, environment: Mapping[str, str]) -> None:
        """Write the templates before the first run, and before each where the restart policy says so."""
        if self.templates.rendered and not self.given.task["RestartPolicy"].get("RenderTemplates"):
            return
        try:
            if not await self.templates.first(environment, self.progress):
                raise EndedBefore
        except Told as told:
            raise NotPrepared(told.event, ends=told.ends) from told

    async def watch(self) -> None:
        """Keep the templates as what they read is, while the task runs."""
        if not self.templates.rendered:  # a former process of the cluster has rendered them
            inherited = self.given.site.inherited(self.given.task["Driver"])
            self.templates.adopt({**inherited, **self._environment()})
        await self.templates.watch(self.progress)

    def _items_of(self, path: str) -> Mapping[str, str] | None:
        """The items of a variable that the task may read. Raises TemplateRefused for another one, as Nomad ends it."""
        given = self.given
        if path not in readable_by(given.job["ID"], given.group["Name"], given.name):
            where = f"nomad.var.get({path}@default.global)"
            raise TemplateRefused(
                f"Template failed: {where}: Unexpected response code: 403 (Permission denied)", ends=True
            )
        found = given.site.variables.get(path)
        return None if found is None else found["Items"]

    async def _started(
        self, config: JsonDict, environment: dict[str, str], own: dict[str, str], number: int, folder: Path
    ) -> JsonDict:
        """The driver's command as a spec. Raises NotPrepared."""
        given, task = self.given, self.given.task
        held = given.body["AllocatedResources"]["Tasks"][given.name]
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
            folder=folder,
            own=own,
            held=held,
            daemon=given.site.daemon,
        )
        if await asyncio.to_thread(drivers.needs_pull, start):
            self.progress.note(events.downloading_image(":".join(split_image(drivers.image_of(start)))))
        try:
            command = await asyncio.to_thread(drivers.command, start)
        except drivers.CannotStart as error:
            raise NotPrepared(events.driver_failure(str(error)), hopeless=not error.recoverable) from error
        watched = {name: environment[name] for name in _WATCHERS_OWN if name in environment}
        return {
            "name": f"{given.body['ID']}-{given.name}-{number}",
            "task": given.name,
            "executable": command.executable,
            "argv": list(command.argv),
            "cwd": command.cwd,
            "view": command.view.spec() if command.view else None,
            "user": "" if command.container else task["User"],
            "env": watched if command.container else environment,
            "container": command.container,
            "logs": str(given.place.alloc_dir / "logs"),
            "max_files": int(task["LogConfig"]["MaxFiles"]),
            "max_file_bytes": int(task["LogConfig"]["MaxFileSizeMB"]) * _MB,
            "memory_bytes": _WATCHER_BYTES if command.container else _limit(held),
        }


def _limit(held: JsonDict) -> int:
    """What a task may use at most, in bytes."""
    memory = held["Memory"]
    return max(int(memory["MemoryMB"]), int(memory.get("MemoryMaxMB") or 0)) * _MB
