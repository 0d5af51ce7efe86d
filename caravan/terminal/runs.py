"""`runs`: which runs there are, as a table that fits a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import age, one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.record import RunRecord

_ALL = 100_000  # runs that are looked through for a status
_LOST = "interrupted"
_SHORTEST = 8  # columns of a prompt, on however narrow a terminal


def runs(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="Only those: running, waiting, interrupted, succeeded, ...; repeatable."),
    ] = None,
    spending: Annotated[
        bool, typer.Option("--spending", help="Instead: what was spent and is reserved, by user and month.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the newest runs, or with --spending what they have cost."""
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    if spending:
        _spending(wiring, terminal, as_json=as_json)
        return
    records = _chosen(wiring, limit, _statuses(status or ()))
    if as_json:
        terminal.document([_row(record, driven) for record, driven in records])
    elif not records:
        terminal.out("There are no such runs." if status else "There are no runs yet.")
    else:
        _print_runs(wiring, terminal, records)


def _spending(wiring: Wiring, terminal: Terminal, *, as_json: bool) -> None:
    """Money by user and month; what running runs may still spend stands in the month of now."""
    from caravan.terminal.console import cell, draw, listing

    rows = wiring.store().spending()
    if as_json:
        terminal.document([row.model_dump(mode="json") for row in rows])
        return
    if not rows:
        terminal.out("Nothing was spent yet.")
        return
    table = listing("month", "user", "runs", "spent USD", "reserved USD")
    for row in rows:
        spent, reserved = f"{row.spent_usd:.2f}", f"{row.reserved_usd:.2f}"
        table.add_row(*map(cell, (row.month, one_line(row.user) or "-", str(row.runs), spent, reserved)))
    for column in table.columns[2:]:
        column.justify = "right"
    draw(terminal.stdout, table)


def _statuses(given: Sequence[str]) -> frozenset[str]:
    from caravan.values.record import RunStatus

    known = [*(s.value for s in RunStatus), _LOST]
    for name in given:
        if name not in known:
            raise UsageError(f"{name!r} is no status of a run.", hint=f"There are: {', '.join(known)}.")
    return frozenset(given)


def _chosen(wiring: Wiring, limit: int, statuses: frozenset[str]) -> list[tuple[RunRecord, bool]]:
    """The runs with whether an agent drives them; only those of `statuses`, where any are named."""
    from caravan.terminal.lookup import is_driven

    found: list[tuple[RunRecord, bool]] = []
    for record in wiring.store().runs(limit=_ALL if statuses else limit):
        driven = is_driven(wiring, record)
        if not statuses or _status(record, driven) in statuses:
            found.append((record, driven))
        if len(found) == limit:
            break
    return found


def _status(record: RunRecord, driven: bool) -> str:
    from caravan.values.record import RunStatus

    return _LOST if record.status is RunStatus.RUNNING and not driven else record.status.value


def _shown(wiring: Wiring, record: RunRecord, driven: bool) -> str:
    from caravan.terminal.lookup import is_on_cluster

    return "on cluster" if driven and is_on_cluster(wiring, record) else _status(record, driven)


def _row(record: RunRecord, driven: bool) -> dict[str, Json]:
    row: dict[str, Json] = {**record.model_dump(mode="json"), "driven": driven}
    request = row.pop("request")
    return {"run_id": row.pop("id"), **row, "prompt": request["prompt"], "source": request["source"]}


def _print_runs(wiring: Wiring, terminal: Terminal, records: Sequence[tuple[RunRecord, bool]]) -> None:
    from rich.cells import cell_len

    from caravan.terminal.console import cell, console_on, draw, listing, without

    now = wiring.clock.now()
    names = ("run", "status", "try", "age", "took", "USD", "repository")
    rows = [_cells(wiring, record, driven, now) for record, driven in records]
    taken = sum(max(cell_len(text) for text in column) + 2 for column in zip(names, *rows, strict=True))
    room = max(_SHORTEST, console_on(terminal.stdout).size.width - taken)  # what is left is the prompt's
    table = listing(*names, "prompt")
    for row, (record, _) in zip(rows, records, strict=True):
        prompt = cell(one_line(record.request.prompt))
        prompt.truncate(room, overflow="ellipsis")
        table.add_row(*(cell(text) for text in row), prompt)
    for column in table.columns:
        column.no_wrap = True
    for number in (2, 3, 4, 5):
        table.columns[number].justify = "right"
    draw(terminal.stdout, without(table, console_on(terminal.stdout).size.width, "prompt", "repository", "try", "age"))


def _cells(wiring: Wiring, record: RunRecord, driven: bool, now: datetime) -> tuple[str, ...]:
    from caravan.values.record import Purpose

    attempts = sum(d.purpose is Purpose.TRAIN for d in wiring.store().deployments(record.id))
    return (
        one_line(record.id),
        _shown(wiring, record, driven),
        str(attempts) if attempts else "-",
        age((now - record.created_at).total_seconds()),
        _took(record, driven, now),
        f"{record.cost_usd:.2f}",
        one_line(record.request.source.rstrip("/").rsplit("/", 1)[-1], 16),
    )


def _took(record: RunRecord, driven: bool, now: datetime) -> str:
    """From the run's beginning to its end, or as far as it is; of one that nobody drives it is not known."""
    from caravan.values.record import ENDED, RunStatus

    if record.status is RunStatus.RUNNING and not driven:
        return "-"
    end = record.updated_at if record.status in ENDED else now
    return age((end - record.created_at).total_seconds())
