"""`traces`: where a run's time went, as a tree of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.values.amounts import size_text
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.text import Text

    from caravan.runs.timeline import Step, Timeline
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.run import RunRecord
    from caravan.values.trace import Trace

_PUSH: Final = "push"  # no run's id: those are hexadecimal


def traces(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN | push RUN…",
            help="Run id, or the beginning of one; after the word push all runs whose traces go to LangFuse.",
            show_default=False,
        ),
    ] = None,
    slowest: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the N slowest steps, as a list.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Down to this depth: 1 drives, 2 nodes, 3 calls.")
    ] = None,
    all_missing: Annotated[
        bool, typer.Option("--all-missing", help="With push: all traces of which LangFuse lacks something.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a run's steps with their time and status, or send traces to LangFuse (push)."""
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    first, *rest = words or [""]
    if first == _PUSH:
        from caravan.terminal.traces_push import push_traces

        push_traces(wiring, terminal, rest, all_missing=all_missing, as_json=as_json)
        return
    if not first or rest or all_missing:
        raise UsageError("traces takes one run.", hint="To send traces to LangFuse: traces push RUN…")
    _show(wiring, terminal, first, slowest=slowest, depth=depth, as_json=as_json)


def _show(
    wiring: Wiring, terminal: Terminal, run: str, *, slowest: int | None, depth: int | None, as_json: bool
) -> None:
    from caravan.runs.timeline import timeline
    from caravan.terminal.lookup import is_driven
    from caravan.values.run import RunStatus

    record = wiring.store().run(run)
    trace = wiring.trace(record.id)
    waits = record.status is RunStatus.WAITING
    line = timeline(trace, wiring.clock.now(), driven=is_driven(wiring, record), waits=waits)
    steps = line.slowest(slowest) if slowest else [s for level, s in line.walk() if depth is None or level <= depth]
    if as_json:
        terminal.document(_document(record, trace, line, steps, wiring.trace_path(record.id)))
    else:
        _print(terminal, record, line, slowest=slowest, depth=depth)
    for note in _left_out(trace, line):
        terminal.err(note)


def _document(record: RunRecord, trace: Trace, line: Timeline, steps: Iterable[Step], path: Path) -> dict[str, Json]:
    """The timeline for programs; all times in seconds, `start` from the start of the trace."""
    return {
        "run_id": record.id,
        "status": record.status.value,
        "path": str(path),
        "started_at": trace.spans[0].started_at.isoformat() if trace.spans else None,
        "seconds": line.seconds,
        "working_seconds": line.working,
        "waiting_seconds": line.waiting,
        "idle_seconds": line.idle,
        "left_out": {"steps": line.left_out, "torn_lines": trace.torn_lines, "unread_bytes": trace.unread_bytes},
        "spans": [_row(step) for step in steps],
    }


def _row(step: Step) -> dict[str, Json]:
    return {
        "id": step.id,
        "parent": step.parent,
        "name": step.name,
        "kind": step.kind,
        "start": round(step.start, 6),
        "seconds": None if step.seconds is None else round(step.seconds, 6),
        "own_seconds": None if step.seconds is None else round(step.own_seconds, 6),
        "status": step.state.value.replace(" ", "_") or None,
        "error": step.error,
        "attributes": step.attributes,
    }


def _print(terminal: Terminal, record: RunRecord, line: Timeline, *, slowest: int | None, depth: int | None) -> None:
    from caravan.terminal.console import console_on, draw
    from caravan.terminal.trace_rows import slowest_rows, tree_rows

    console = console_on(terminal.stdout)
    fancy = console.encoding.lower().startswith("utf")
    rows: Iterable[Text] = (
        slowest_rows(line, slowest, width=console.width, fancy=fancy)
        if slowest
        else tree_rows(line, width=console.width, depth=depth, fancy=fancy)
    )
    terminal.out(_heading(record, line))
    draw(terminal.stdout, *rows)


def _heading(record: RunRecord, line: Timeline) -> str:
    from caravan.terminal.text import joined
    from caravan.terminal.trace_rows import took_words

    parts = joined(
        (
            f"{took_words(line.working)} at work" if line.waiting or line.idle else "",
            f"{took_words(line.waiting)} waiting for a person" if line.waiting else "",
            f"{took_words(line.idle)} without a sign of an agent" if line.idle else "",
        )
    )
    return f"Run {record.id}: {record.status.value}; {took_words(line.seconds)}{f': {parts}' if parts else ''}."


def _left_out(trace: Trace, line: Timeline) -> list[str]:
    """What of the trace is not shown, and why."""
    notes = []
    if trace.torn_lines:
        notes.append(f"{trace.torn_lines} torn or damaged lines were left out.")
    if trace.unread_bytes:
        notes.append(
            f"The last {size_text(trace.unread_bytes)} of the trace were not read: it is larger than any we write."
        )
    if line.left_out:
        notes.append(f"{line.left_out} details were not written, because the trace had come to its largest size.")
    return notes
