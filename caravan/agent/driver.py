"""Driving one run: start it, let the graph go on until it ends or asks, hand a reply in, look at where it stands.

The checkpoints are LangGraph's, in one SQLite file, written before each next step (`durability="sync"`), so a run
that was killed goes on at the node in which it was killed.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from importlib import import_module
from pathlib import Path, PurePath
from pkgutil import iter_modules
from typing import Any, Final

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import RESUME
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from caravan import values
from caravan.agent.context import Context
from caravan.agent.ending import end_jobs
from caravan.agent.graph import RECURSION_LIMIT, build_graph
from caravan.agent.reopening import AS_NODE, REOPENED, TAKEN_UP, reopened
from caravan.agent.scoring import scored
from caravan.agent.sheet_saver import SheetOf, SheetSaver
from caravan.agent.state import RunState
from caravan.agent.undisturbed import UndisturbedSerializer
from caravan.values.base import Value
from caravan.values.dialogue import Ask, Reply
from caravan.values.errors import CaravanError, Interrupted, ServiceError, StateError, UsageError
from caravan.values.plan import PlanChange
from caravan.values.run import ENDED, Attempt, Deployment, RunEvent, RunRecord, RunRequest, RunStatus

_ASIDE: Final = "Move the file away: runs that had not ended then start anew and take over their jobs."


def _serializer() -> JsonPlusSerializer:
    """Writes our values, and on reading makes nothing else but them: a checkpoint can't name any other class."""
    modules = [import_module(f"{values.__name__}.{module.name}") for module in iter_modules(values.__path__)]
    allowed = {
        # By whichever of our modules has it: a class that has moved is found where an older checkpoint names it.
        (module.__name__, kind.__name__)
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Value | Enum) and kind.__module__.startswith(values.__name__)
    }
    return UndisturbedSerializer(allowed_msgpack_modules=sorted(allowed))


@contextmanager
def open_checkpoints(path: Path, sheet_of: SheetOf | None = None) -> Iterator[SqliteSaver]:
    """The checkpoint database at `path`, made on first use. Raises StateError when it can't be used.

    `sheet_of` makes of a state what is stored beside its checkpoint, for who only looks.
    """
    try:
        path.touch(mode=0o600)
        journal = path.with_name(f"{path.name}-wal")
        if not path.stat().st_size and journal.exists() and journal.stat().st_size:
            raise StateError(  # SQLite would take it for a new one and throw the journal away
                f"The checkpoints at {path} are damaged: the file is empty and its journal is not.", hint=_ASIDE
            )
        connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StateError(
            f"The checkpoints at {path} can't be opened ({reason}).",
            hint="Look at that path, or set CARAVAN_HOME to another directory.",
        ) from error
    try:
        saver = SheetSaver(connection, serde=_serializer(), sheet_of=sheet_of)
        saver.setup()
        yield saver
    except sqlite3.Error as error:
        raise StateError(f"The checkpoints at {path} can't be used ({error}).", hint=_hint(str(error))) from error
    finally:
        connection.close()


def _hint(words: str) -> str:
    low = words.lower()
    if "full" in low or "disk i/o" in low:  # the shared-memory file of a full disk is an I/O error
        return "Make room on that disk, then resume the run."
    if "locked" in low or "busy" in low:
        return "Another process uses them. Try again later."
    if "readonly" in low or "unable to open" in low:
        return "Make the file and its directory writable, or set CARAVAN_HOME to another directory."
    return _ASIDE


@contextmanager
def _readable(run_id: str) -> Iterator[None]:
    """What a damaged or foreign checkpoint makes the library and our values raise, in our words."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise StateError(
            f"The checkpoint of run {run_id} can't be read ({type(error).__name__}).",
            hint=f"End its job with `main.py stop {run_id}` and start the training again.",
        ) from error


_AFTER_DEPLOYMENT: Final = tuple(
    (name,) for name in ("verify_deployment", "evaluate", "register", "remember", "report")
)
"""Where a stopped run stands that has an end to be written down."""


class Driver:
    """Drives runs whose checkpoints are in one saver."""

    def __init__(self, saver: SqliteSaver) -> None:
        self._saver = saver
        self._graph = build_graph(saver)

    def drive(
        self, record: RunRecord, context: Context, reply: Reply | None = None, *, until: str | None = None
    ) -> Ask | RunRecord:
        """Go on with a run until it ends (its record) or needs a person (the open question).

        Raises Interrupted on Ctrl-C and whatever CaravanError a node could not handle; in both cases the run can be
        driven on later. `reply` answers the question that `open_question` shows. Of a run that was stopped, the jobs
        that are alive all the same are ended, and the end of the last one is followed: its log and the report.
        `until` names a node before which it comes back, for another agent to go on from there.
        """
        if record.status in ENDED and record.status is not RunStatus.STOPPED:
            return record
        try:
            if record.status is RunStatus.STOPPED:
                self._end_what_is_left(record, context)
                if self._snapshot(record.id).next not in _AFTER_DEPLOYMENT:
                    return record
            with context.tracer.span("run", "run", run_id=record.id):
                ended = self._go_on(record, context, reply, until)
                self._tell_scores(record, context)
                return ended
        except KeyboardInterrupt as stop:
            context.store.update_run(record.id, detail="interrupted; `resume` goes on")
            raise Interrupted(f"Run {record.id} was interrupted.", hint=f"Go on with: resume {record.id}") from stop
        except CaravanError as error:
            with suppress(ServiceError):  # where the database is what is away, the run stands as it was last seen
                context.store.update_run(record.id, detail=error.line())
            raise

    def _tell_scores(self, record: RunRecord, context: Context) -> None:
        """Leave in the trace what an ended run came to."""
        state = self.state(record.id) if context.store.run(record.id).status in ENDED else None
        if state is not None:
            context.tracer.event("scored", **scored(state, context))

    def reopen(self, record: RunRecord, context: Context, changes: Sequence[PlanChange]) -> RunRecord:
        """Take up a run that ended with something for a person, with their changes of its plan; `drive` goes on.

        Raises UsageError for a run that ended otherwise or has no plan, PlanError for a change that can't be made.
        """
        state = self.state(record.id)
        if record.status not in TAKEN_UP or state is None:
            raise UsageError(
                f"Run {record.id} is not one that a person must mend ({record.status.value}).",
                hint="Start the training again with other --set.",
            )
        update = reopened(state, changes)
        self._graph.update_state(_config(record.id), update, as_node=AS_NODE)
        told = ", ".join(f"{c.path}={c.value}" for c in changes) or "nothing is set otherwise"
        context.store.add_event(record.id, RunEvent(at=context.clock.now(), kind=REOPENED, text=told))
        # What models cost was added when it ended, and is added when it ends again: jobs alone are counted in between.
        context.store.update_run(record.id, cost_usd=state.spent_usd)
        context.store.reopen_run(record.id)
        return context.store.run(record.id)

    @staticmethod
    def _end_what_is_left(record: RunRecord, context: Context) -> None:
        """The stop may have come while a job was being registered, by an agent that was then ended itself."""
        for job_id in end_jobs(context.store, context.cluster, record.id):
            context.progress.note(f"The run is stopped, and its job {job_id} still ran: it was told to end.")

    def _go_on(self, record: RunRecord, context: Context, reply: Reply | None, until: str | None) -> Ask | RunRecord:
        config = _config(record.id)
        snapshot = self._snapshot(record.id)
        start: Any = None  # go on from the checkpoint
        if until is not None and snapshot.next == (until,):
            return context.store.run(record.id)  # it is there already, and a static interrupt stops before a node once
        if not snapshot.values:
            start = RunState(run_id=record.id, request=record.request)
        elif snapshot.interrupts:
            if reply is None:
                return self._waiting(record, context, Ask.model_validate(snapshot.interrupts[0].value))
            self._drop_earlier_replies(snapshot)
            start = Command(resume={snapshot.interrupts[0].id: reply.model_dump(mode="json")})
        if context.store.run(record.id).status is RunStatus.WAITING:
            context.store.update_run(record.id, status=RunStatus.RUNNING)
        before = [until] if until is not None else None
        for _ in self._graph.stream(
            start, config, context=context, durability="sync", stream_mode="updates", interrupt_before=before
        ):
            pass
        snapshot = self._snapshot(record.id)
        if snapshot.interrupts:
            return self._waiting(record, context, Ask.model_validate(snapshot.interrupts[0].value))
        return context.store.run(record.id)

    def _drop_earlier_replies(self, snapshot: Any) -> None:
        """A node that fails after a reply keeps it beside its error, and the next one would stand behind it, unread."""
        for task in snapshot.tasks:
            if task.interrupts:
                self._saver.put_writes(snapshot.config, [(RESUME, [])], task.id)

    @staticmethod
    def _waiting(record: RunRecord, context: Context, ask: Ask) -> Ask | RunRecord:
        context.memory.close()  # a person may take days, and an embedded memory has one owner
        context.store.update_run(record.id, status=RunStatus.WAITING, detail=ask.text)
        now = context.store.run(record.id)
        return now if now.status in ENDED else ask

    def open_question(self, run_id: str) -> Ask | None:
        """What the run waits for, or None."""
        interrupts = self._snapshot(run_id).interrupts
        with _readable(run_id):
            return Ask.model_validate(interrupts[0].value) if interrupts else None

    def state(self, run_id: str) -> RunState | None:
        """The run's state at its last checkpoint, or None before the first."""
        values = self._snapshot(run_id).values
        with _readable(run_id):
            return RunState.model_validate(values) if values else None

    def _snapshot(self, run_id: str) -> Any:
        with _readable(run_id):
            return self._graph.get_state(_config(run_id))

    def export(self, run_id: str) -> bytes:
        """The newest checkpoint with what was written since, for another driver's `adopt`; empty before the first."""
        with _readable(run_id):
            found = self._saver.get_tuple(_thread(run_id))
        if found is None:
            return b""
        kind, data = self._saver.serde.dumps_typed(
            {
                "checkpoint": found.checkpoint,
                "metadata": dict(found.metadata),
                "writes": [list(write) for write in found.pending_writes or ()],
            }
        )
        return kind.encode("ascii") + b"\n" + data

    def adopt(self, record: RunRecord, data: bytes, folder: Path) -> bool:
        """Take over what another driver exported of the run, if that is no earlier moment than is known here.

        False: it is, and nothing was changed. `record` is the run as it is here, `folder` where its files are. Raises
        StateError for what can't be read, or is another run's; then nothing was changed either.
        """
        with _readable(record.id):
            theirs = _moved(_opened(self._saver.serde, data), record, folder)
            checkpoint, metadata = theirs["checkpoint"], theirs["metadata"]
            step, known = int(metadata["step"]), self._saver.get_tuple(_thread(record.id))
            ours = -2 if known is None else int(known.metadata["step"])
            same = known is not None and known.checkpoint["id"] == checkpoint["id"]
            if step < ours or (step == ours and not same):
                return False
            where = self._saver.put(_thread(record.id), checkpoint, metadata, {})
            for task in dict.fromkeys(write[0] for write in theirs["writes"]):
                of_task = [(channel, value) for by, channel, value in theirs["writes"] if by == task]
                self._saver.put_writes(where, of_task, task)
        self._keep_only(record.id, checkpoint["id"])
        return True

    def _keep_only(self, run_id: str, checkpoint_id: str) -> None:
        """The newest is found by its id, which is made of a clock's time, and another machine's clock may go behind."""
        with self._saver.cursor() as cursor:
            for table in ("checkpoints", "writes"):
                cursor.execute(
                    f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id <> ?",  # noqa: S608 (our two tables)
                    (run_id, checkpoint_id),
                )

    def forget(self, run_id: str) -> None:
        """Remove the run's checkpoints."""
        self._saver.delete_thread(run_id)


def _config(run_id: str) -> Any:
    return {"configurable": {"thread_id": run_id}, "recursion_limit": RECURSION_LIMIT}


def _thread(run_id: str) -> Any:
    return {"configurable": {"thread_id": run_id, "checkpoint_ns": ""}}


def _opened(serde: Any, data: bytes) -> dict[str, Any]:
    """What `export` wrote, read by the serializer that makes our values alone."""
    kind, _, packed = data.partition(b"\n")
    if kind != b"msgpack":
        raise ValueError(kind)
    return dict(serde.loads_typed(("msgpack", packed)))


def _moved(theirs: dict[str, Any], record: RunRecord, folder: Path) -> dict[str, Any]:
    """The same with this machine's paths and this record's request. Raises ValueError for another run's."""
    values = {name: _at_home(value, record, folder) for name, value in theirs["checkpoint"]["channel_values"].items()}
    state = RunState.model_validate({k: v for k, v in values.items() if k in RunState.model_fields})
    if state.run_id != record.id:
        raise ValueError(state.run_id)
    writes = [(by, channel, _at_home(value, record, folder)) for by, channel, value in theirs["writes"]]
    return {**theirs, "checkpoint": {**theirs["checkpoint"], "channel_values": values}, "writes": writes}


def _at_home(value: Any, record: RunRecord, folder: Path) -> Any:
    if isinstance(value, RunRequest):
        return record.request
    if isinstance(value, Attempt | Deployment):
        number = value.number if isinstance(value, Attempt) else value.attempt
        path = value.hcl_path and str(folder / f"attempt-{number}" / PurePath(value.hcl_path).name)
        return value.model_copy(update={"hcl_path": path})
    if isinstance(value, tuple | list):  # a tuple is read back as a list
        return type(value)(_at_home(item, record, folder) for item in value)
    return value
