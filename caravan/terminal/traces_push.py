"""`traces push`: what LangFuse lacks of runs' traces is sent from their local files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caravan.terminal.lookup import is_driven, trace_file
from caravan.values.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import TracesElsewhere, Wiring
    from caravan.values.base import Json
    from caravan.values.run import RunRecord


def push_traces(wiring: Wiring, terminal: Terminal, runs: Sequence[str], *, all_missing: bool, as_json: bool) -> None:
    """Send the traces of these runs, or all of which LangFuse lacks something, and tell what was sent.

    Raises UsageError without LangFuse or without a run, ServiceError where LangFuse can't be reached: what was sent
    until then is there, and a trace that is sent twice is there once.
    """
    there = wiring.langfuse_traces
    if there is None:
        raise UsageError(
            "There is no LangFuse to send traces to.",
            hint="Set LANGFUSE_BASE_URL, LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY.",
        )
    if not runs and not all_missing:
        raise UsageError("Name the runs whose traces are sent, or say --all-missing.")
    pushed: list[dict[str, Json]] = []
    skipped: list[Json] = []
    for record in _wanted(wiring, there, runs, all_missing=all_missing):
        if is_driven(wiring, record):
            skipped.append(record.id)
            terminal.err(f"Run {record.id} goes on: its agent sends its trace.")
            continue
        try:
            told = there.push(wiring.trace_path(record.id), record)
        except ServiceError as error:
            done = f" Sent before it: {len(pushed)}." if pushed else ""
            raise ServiceError(f"Run {record.id}: {error.message.rstrip('.')}.{done}", hint=error.hint) from error
        pushed.append(told)
        if not as_json:
            terminal.out(_line(told))
    if as_json:
        terminal.document({"pushed": pushed, "skipped": skipped})
    elif not pushed and not skipped:
        terminal.out("Nothing is missing in LangFuse.")


def _wanted(wiring: Wiring, there: TracesElsewhere, runs: Sequence[str], *, all_missing: bool) -> Iterator[RunRecord]:
    store = wiring.store()
    named = [store.run(run) for run in runs]
    for record in named:
        if trace_file(wiring, record.id) is None:
            hint = "Was the run made with CARAVAN_TRACE=0?"
            raise UsageError(f"There is no trace of run {record.id} here.", hint=hint)
    yield from named
    known = {record.id for record in named}
    for file in sorted(wiring.trace_path("x").parent.glob("*.jsonl")) if all_missing else ():
        if file.stem in known or not there.is_missing(file):
            continue
        try:
            yield store.run(file.stem)
        except UsageError:  # a file of a run that is not known here
            continue


def _line(told: dict[str, Json]) -> str:
    refused = f", {told['rejected']} refused ({told['why']})" if told["rejected"] else ""
    return f"{told['run_id']}: {told['spans']} spans and {told['scores']} scores sent{refused}: {told['trace_url']}"
