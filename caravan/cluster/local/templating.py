"""A task's templates over its life: rendered before it starts, again when what they read has changed, and what the task
is told of that. Knows the task by what it may ask of it (`Task`)."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, Protocol

from caravan.cluster.local import events, taskdir
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.templates import ItemsOf, Services, TemplateRefused
from caravan.cluster.local.variables import Variables
from caravan.cluster.local.words import SECOND, JsonDict

_SERVICES_SECONDS: Final = 0.5
"""How often the services are looked at, for templates that name them: nothing tells of their changes."""


class Told(Exception):
    """The templates can't be had; `event` says why. `ends`: the task is over by that alone."""

    def __init__(self, event: JsonDict, *, ends: bool) -> None:
        super().__init__(event["DisplayMessage"])
        self.event = event
        self.ends = ends


class Task(Protocol):
    """What changed templates may do to their task."""

    def note(self, *happened: JsonDict, **fields: Any) -> None:
        """Add events to the task."""

    async def unless_killed(self, waiting: Awaitable[object]) -> bool:
        """Wait for something, or for the task's end; True when it is to end."""

    def restart_for(self, event: JsonDict) -> bool:
        """Start the task anew for that reason; False when it does not run."""

    def signal_for(self, event: JsonDict, name: str) -> bool:
        """Send it a signal for that reason; False when it does not run."""

    def fail_for(self, event: JsonDict) -> None:
        """End the task as failed for that reason."""

    async def execute(self, command: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run a command where the task runs: its exit code, and why it could not be run, else nothing."""


class Templates:
    """The templates of one task. `items_of` and `services` are what they read."""

    def __init__(
        self, task: JsonDict, place: TaskPlace, variables: Variables, items_of: ItemsOf, services: Services
    ) -> None:
        self._all: list[JsonDict] = list(task["Templates"] or [])
        self._place = place
        self._variables = variables
        self._items_of = items_of
        self._services = services
        self._environment: Mapping[str, str] = {}
        self.told: dict[str, str] = {}
        self.rendered = False

    def _render(self, templates: Sequence[JsonDict]) -> taskdir.Rendered:
        return taskdir.render_templates(templates, self._place, self._environment, self._items_of, self._services)

    async def first(self, environment: Mapping[str, str], task: Task) -> bool:
        """Write the templates, waiting for variables that are missing; False when the task ended meanwhile.

        Raises Told.
        """
        self._environment = environment
        named: set[str] = set()
        while True:
            moved = self._variables.moved
            try:
                made = self._render(self._all)
            except TemplateRefused as error:
                failed = events.template_failed(str(error)) if error.ends else events.hook_failed(str(error))
                raise Told(failed, ends=error.ends) from error
            if not made.missing:
                self.told, self.rendered = made.told, True
                return True
            if made.missing != named:
                task.note(events.template_waits(sorted(made.missing)))
            named = made.missing
            if await task.unless_killed(moved.wait()):
                return False

    def adopt(self, environment: Mapping[str, str]) -> None:
        """Go on with templates that were rendered before with that environment."""
        self._environment = environment
        with contextlib.suppress(TemplateRefused, OSError):
            self.told = taskdir.env_on_disk(self._all, self._place)
        self.rendered = True

    @property
    def _watched(self) -> list[JsonDict]:
        return [t for t in self._all if not t.get("Once")]

    async def watch(self, task: Task) -> None:
        """Render again whenever something has changed, and tell the task, until cancelled."""
        scripts = [t["ChangeScript"] for t in self._all if t["ChangeMode"] == "script" and t.get("ChangeScript")]
        for script in scripts:
            if script.get("RunOnFirstRender"):
                await _run(script, task)
        watched = self._watched
        if not any("nomad" in (t["EmbeddedTmpl"] or "nomad") for t in watched):
            return
        asks = any("nomadService" in (t["EmbeddedTmpl"] or "nomadService") for t in watched)
        moved = self._variables.moved
        while True:
            try:
                made = self._render(watched)
            except TemplateRefused as error:
                task.fail_for(events.template_failed(str(error)))
                return
            if made.changed:
                self.told |= made.told
                await self._changed(made.changed, task)
            waiting = asyncio.ensure_future(moved.wait())
            await asyncio.wait([waiting], timeout=_SERVICES_SECONDS if asks else None)
            waiting.cancel()
            moved = self._variables.moved

    async def _changed(self, templates: Sequence[JsonDict], task: Task) -> None:
        """Do what the templates' change modes say: one restart, or each signal once and each script."""
        acting = [t for t in templates if t["ChangeMode"] != "noop"]
        if not acting:
            return
        splay = max(int(t["Splay"] or 0) for t in acting)
        if splay:  # so that not all tasks of a cluster go at once
            await asyncio.sleep(random.random() * splay / SECOND)  # noqa: S311 - no secret
        if any(t["ChangeMode"] == "restart" for t in acting):
            task.restart_for(events.template_restarts())
            return
        for name in sorted({str(t["ChangeSignal"]) for t in acting if t["ChangeMode"] == "signal"}):
            if not task.signal_for(events.template_signals(name), name):
                words = events.signal_words(name)
                task.note(events.hook_message(f"Template skipped signal {words}: task is not running"))
        scripts = [t["ChangeScript"] for t in acting if t["ChangeMode"] == "script"]
        await asyncio.gather(*(_run(script, task) for script in scripts))


async def _run(script: JsonDict, task: Task) -> None:
    """Run the script of a changed template, and say how it went."""
    command, arguments = str(script["Command"]), [str(a) for a in script.get("Args") or []]
    code, hindrance = await task.execute([command, *arguments], int(script.get("Timeout") or 5 * SECOND) / SECOND)
    shown = f"{command} with arguments [{' '.join(arguments)}] on change"
    if not code and not hindrance:
        said = f"Template successfully ran script {command} with arguments: [{' '.join(arguments)}]. Exit code: 0"
        task.note(events.hook_message(said))
        return
    if hindrance:
        task.note(events.script_failed(f"Template failed to run script {shown}: {hindrance}. Exit code: {code}"))
    else:
        task.note(events.script_failed(f"Template ran script {shown} but it exited with code: {code}"))
    if script.get("FailOnError"):
        task.fail_for(events.template_failed("Template script failed, task is being killed"))
