"""`pull`: a run's outputs and logs into a folder, wherever the outputs went."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.amounts import part_text, size_text
from caravan.values.errors import Interrupted, JobNotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from caravan.runs.origins import Listing, Origin
    from caravan.runs.outputs import Fetched, Progressed, Target
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.plan import TrainingPlan
    from caravan.values.run import RunRecord

_EVERY_S: Final = 2.0  # between two lines of progress


class What(StrEnum):
    """What is fetched."""

    OUTPUTS = "outputs"
    LOGS = "logs"
    ALL = "all"


class _Attempt(NamedTuple):
    """An attempt that came to a node. `over`: nobody writes its files any more."""

    number: int
    alloc_id: str
    node: str
    over: bool


def pull(
    ctx: typer.Context,
    run: RunArgument,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="The folder; default: ./RUN.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of this attempt; default: the last.")] = None,
    what: Annotated[What, typer.Option(help="What to fetch.")] = What.ALL,
    through_job: Annotated[
        bool, typer.Option("--through-job", help="Read a volume by a small job that copies the run's outputs.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Deploy that job without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a run's outputs and logs into a folder.

    Run again it goes on where it ended, and fetches what is new. Nothing that is there already is overwritten.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    record = wiring.store().run(run)
    try:
        _Pull(wiring, terminal, record, to or Path(record.id), attempt, through_job=through_job, yes=yes).do(
            what, as_json=as_json
        )
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "Interrupted; what has come is kept.", hint=f"The same `main.py pull {record.id}` goes on."
        ) from stop


class _Pull:
    """One pull: what it has fetched so far."""

    def __init__(
        self,
        wiring: Wiring,
        terminal: Terminal,
        record: RunRecord,
        to: Path,
        attempt: int | None,
        *,
        through_job: bool,
        yes: bool,
    ) -> None:
        self._wiring = wiring
        self._terminal = terminal
        self._record = record
        self._folder = to
        self._chosen = attempt
        self._through_job = through_job
        self._yes = yes
        self._fetched: list[Fetched] = []
        self._left_out: list[str] = []
        self._told_at = wiring.clock.monotonic()
        self._afterwards: Callable[[], None] | None = None

    def do(self, what: What, *, as_json: bool) -> None:
        """Fetch and tell. The logs come first: they are here already."""
        from caravan.runs.outputs import Target

        attempt = self._attempt()
        plan = self._plan() if what is not What.LOGS else None
        target = Target(self._folder.absolute())
        if what is not What.OUTPUTS:
            self._logs(target, attempt)
        if plan is not None and attempt is not None:
            self._outputs(target, plan, attempt)
        elif what is What.OUTPUTS:
            raise UsageError(f"Run {self._record.id} has not come to a node yet, so it has no outputs.")
        self._tell(plan, attempt, as_json=as_json)

    def _attempt(self) -> _Attempt | None:
        """The attempt that was asked for, or the last one."""
        from caravan.terminal.lookup import placed_attempts
        from caravan.values.run import ENDED

        record = self._record
        found = placed_attempts(self._wiring, record.id)
        if self._chosen is not None and self._chosen not in found:
            there = ", ".join(map(str, sorted(found))) or "none"
            raise UsageError(f"No attempt {self._chosen} of run {record.id} came to a node; these did: {there}.")
        if not found:
            return None
        number = self._chosen or max(found)
        return _Attempt(number, *found[number], over=record.status in ENDED or number < max(found))

    def _plan(self) -> TrainingPlan | None:
        from caravan.terminal.lookup import look_up

        state = look_up(self._wiring, self._record).state
        return state.plan if state else None

    def _logs(self, target: Target, attempt: _Attempt | None) -> None:
        from caravan.runs.origins import DiskOrigin
        from caravan.terminal.lookup import LogOf, logs_of
        from caravan.values.run import ENDED

        files = self._wiring.folder(self._record.id).log_files()
        if self._chosen is not None:
            of = logs_of(self._wiring, self._record.id)
            files = tuple(
                f for f in files if attempt and of.get(f.name.split(".")[0], LogOf()).attempt == attempt.number
            )
        if files:
            origin = DiskOrigin(files[0].parent, [f.name for f in files])
            self._fetch(target, origin, "logs", over=self._record.status in ENDED)

    def _outputs(self, target: Target, plan: TrainingPlan, attempt: _Attempt) -> None:
        if not attempt.over:
            self._terminal.err(f"Attempt {attempt.number} is not over: what it still writes comes with the next pull.")
        if plan.outputs.kind == "path" or plan.outputs.kind == "volume":
            origin, below = self._shared(plan, attempt), "outputs"  # its attempts write to one place
        else:
            origin, below = self._own(plan, attempt), f"attempt-{attempt.number}/outputs"
        self._fetch(target, origin, below, over=attempt.over)
        if self._afterwards is not None:
            self._afterwards()

    def _own(self, plan: TrainingPlan, attempt: _Attempt) -> Origin:
        """Outputs in the attempt's allocation, or copied from there to a URL."""
        from caravan.agent.outputs import in_allocation
        from caravan.runs.origins import AllocationOrigin, UrlOrigin

        if plan.outputs.kind == "url":
            return UrlOrigin(f"{plan.outputs.location}/{self._record.id}/{attempt.number}")
        root = in_allocation(plan)
        if root is None:
            where = f"{plan.training.output_dir} inside the task"
            raise UsageError(f"The outputs went to {where}, which the cluster's API does not show.")
        origin = AllocationOrigin(self._wiring.cluster(self._record.request), attempt.alloc_id, root)
        if not origin.exists():
            raise JobNotFound(
                f"The cluster has collected the allocation {attempt.alloc_id[:8]} of attempt {attempt.number}: "
                "the outputs that were in it are gone.",
                hint="A volume or a URL keeps them next time (outputs).",
            )
        return origin

    def _shared(self, plan: TrainingPlan, attempt: _Attempt) -> Origin:
        """Outputs at a path, or in a volume."""
        from caravan.agent.outputs import place_of
        from caravan.runs.origins import DiskOrigin

        record, node = self._record, attempt.node or "its node"
        if plan.outputs.kind == "path":
            place, request = Path(plan.outputs.location), record.request
            own = self._wiring.folder(record.id).path
            mine = place.is_relative_to(own)
            if mine or self._wiring.cluster(request).facts().shared_files:
                return DiskOrigin(place, inside=own if mine else None)
            raise UsageError(
                f"The outputs are on {node} in {place}, where the cluster's API does not reach: copy them."
            )
        if self._through_job:
            return self._ferried(plan, attempt)
        raise UsageError(
            f"The outputs are in {place_of(plan, record.id)} (last written on {node}), and the cluster's API reads no "
            "volumes.",
            hint=f"`main.py pull {record.id} --through-job` copies them by a small job.",
        )

    def _ferried(self, plan: TrainingPlan, attempt: _Attempt) -> Origin:
        """Outputs in a volume, by a job that copies them into its allocation. A person is asked for it first."""
        from caravan.runs.origins import AllocationOrigin
        from caravan.terminal.volumes import ferried

        copied = ferried(
            self._wiring, self._terminal, self._record, plan, attempt.node, attempt.alloc_id, yes=self._yes
        )
        self._afterwards = copied.afterwards
        return AllocationOrigin(copied.cluster, copied.alloc_id, copied.root)

    def _fetch(self, target: Target, origin: Origin, below: str, *, over: bool) -> None:
        fetched, listing = target.fetch(origin, below, final=over, tell=self._progress)
        self._fetched += fetched
        self._left_out += [self._plain(name) for name in _named(below, listing)]

    def _progress(self, step: Progressed) -> None:
        now = self._wiring.clock.monotonic()
        if now - self._told_at >= _EVERY_S:
            self._told_at = now
            amount = part_text(step.bytes, step.of_bytes)
            name = self._plain(step.name)
            self._terminal.err(one_line(f"file {step.files} of {step.of_files}, {amount}: {name}", 200))

    def _plain(self, name: str) -> str:
        """A file's name as it is told: names are the job's words. On the disk it stays."""
        from caravan.values.masking import mask

        return mask(name, self._wiring.secrets())

    def _tell(self, plan: TrainingPlan | None, attempt: _Attempt | None, *, as_json: bool) -> None:
        record, terminal = self._record, self._terminal
        size = sum(f.bytes for f in self._fetched)
        for name in self._left_out[:5]:
            terminal.err(one_line(f"Left out: {name} (a link, or a name that can't be written here)", 300))
        if len(self._left_out) > 5:
            terminal.err(f"Left out: {len(self._left_out) - 5} more.")
        if as_json:
            terminal.document(
                {
                    "run_id": record.id,
                    "attempt": attempt.number if attempt else None,
                    "directory": str(self._folder.absolute()),
                    "outputs": plan.outputs.model_dump(mode="json") if plan else None,
                    "files": [f._asdict() | {"path": self._plain(f.path)} for f in self._fetched],
                    "bytes": size,
                    "left_out": self._left_out,
                }
            )
            return
        new = sum(f.new for f in self._fetched)
        if not self._fetched:
            terminal.out(f"Run {record.id} has nothing to fetch.")
            return
        known = f" ({len(self._fetched) - new} were there already)" if new < len(self._fetched) else ""
        files = f"{len(self._fetched)} file{'' if len(self._fetched) == 1 else 's'}"
        terminal.out(one_line(f"{files}{known}, {size_text(size)}, of run {record.id} in {self._folder.absolute()}"))


def _named(below: str, listing: Listing) -> list[str]:
    return [f"{below}/{name}" for name in listing.left_out]
