"""`show`: one run as it stands, its attempts as blocks, then plan, estimate and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.text import Text

    from caravan.terminal.picture import Glyphs
    from caravan.terminal.results import Result
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json
    from caravan.values.record import Deployment, RunEvent

_TIME = "%Y-%m-%d %H:%M"
_EVIDENCE = 6  # lines of a diagnosis that are shown; the report has them all


def show(ctx: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Show one run: attempts with cause and repair, plan, estimate."""
    from caravan.terminal.lookup import glance, is_driven
    from caravan.terminal.oncluster import station_of
    from caravan.terminal.results import document
    from caravan.values.record import RunStatus

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    store = wiring.store()
    record = store.run(run)
    result = glance(wiring, record)
    deployments, events = store.deployments(record.id), store.events(record.id)
    if as_json:
        terminal.document(
            document(result)
            | {
                "run": record.model_dump(mode="json"),
                "deployments": [d.model_dump(mode="json") for d in deployments],
                "events": [e.model_dump(mode="json") for e in events],
            }
        )
    else:
        station = station_of(wiring.folder(record.id))
        at = f"on cluster: job {station.job_id}; what is shown is from when it was last looked at" if station else ""
        if record.status is RunStatus.RUNNING and not is_driven(wiring, record):
            at = f"none: its process has ended; `main.py resume {record.id}` goes on"
        _print_run(terminal, result, deployments, events, agent=at)


def _print_run(
    terminal: Terminal, result: Result, deployments: Sequence[Deployment], events: Sequence[RunEvent], *, agent: str
) -> None:
    from caravan.terminal.console import cell, console_on, draw, listing, rows_table
    from caravan.terminal.endings import repair_label, was_stopped
    from caravan.terminal.picture import Glyphs
    from caravan.terminal.results import print_line, result_lines
    from caravan.values.record import Purpose

    record, sheet = result.record, result.sheet
    console = console_on(terminal.stdout)
    width, glyphs = console.size.width, Glyphs(ascii_only=console.options.ascii_only)
    head, *rest = result_lines(result, attempts=False)
    print_line(terminal, head)
    terminal.out(f"  prompt     {one_line(record.request.prompt)}")
    terminal.out(f"  node       {record.node or '-'}, since {record.updated_at:{_TIME}} UTC")
    if agent:
        terminal.out(f"  agent      {one_line(agent)}")
    for line in rest:
        print_line(terminal, line)
    attempts = sheet["attempts"] if sheet is not None else []
    for number, attempt in enumerate(attempts, 1):
        terminal.out()
        label = repair_label(record, sheet) if sheet is not None and number == len(attempts) else "repair"
        stopped = number == len(attempts) and was_stopped(record, attempt)
        draw(terminal.stdout, *attempt_block(attempt, width - 1, glyphs, label, stopped=stopped))
    judged = {attempt["job"] for attempt in attempts}
    for deployment in deployments:
        if deployment.job_id not in judged:
            what = "Evaluation of attempt" if deployment.purpose is Purpose.EVALUATE else "Attempt"
            terminal.out(f"\n{what} {deployment.attempt}: {one_line(deployment.job_id)} {deployment.state.value}")
    pictures: list[tuple[str, RenderableType]] = []
    if sheet is not None and sheet["plan"] is not None:
        pictures.append(("Plan", rows_table(_placed(sheet["plan"], result))))
        if sheet["estimate"] is not None:
            pictures.append(("Estimate", rows_table(sheet["estimate"])))
        table = listing("field", "value", "set by", "why")
        for path, value, author, why in sheet["provenance"]:
            table.add_row(cell(path), cell(value), author, cell(why))
        pictures.append(("Who set what", table))
    if events:
        table = listing("time", "event", "")
        for event in events:
            table.add_row(f"{event.at:{_TIME}}", cell(one_line(event.kind)), cell(one_line(event.text)))
        table.columns[0].no_wrap = True
        pictures.append(("Events (UTC)", table))
    for title, picture in pictures:
        terminal.out()
        draw(terminal.stdout, cell(title, "bold"), picture)


def _placed(rows: list[list[str]], result: Result) -> list[list[str]]:
    """The plan's rows with where its run is."""
    places = {"repository": result.record.request.source, "cluster": result.cluster}
    placed = [[name, places.get(name, value), by] for name, value, by in rows]
    return [row for row in placed if row[1]]


def attempt_block(
    attempt: dict[str, Json], width: int, glyphs: Glyphs, label: str = "repair", *, stopped: bool = False
) -> list[Text]:
    """An attempt of a sheet in rows: how it ended, the cause with its evidence, the repair as a diff.

    `label` says what became of the repair; `stopped`: the user ended it. Advice stands where there is none: what to
    do oneself.
    """
    from rich.text import Text

    from caravan.terminal.picture import BAD, GOOD, NAME, diff_rows, marked

    ended, cause, repair = attempt["ended"], attempt["cause"], attempt["repair"]
    mark, style = (glyphs("•", "*"), "") if ended is None else (glyphs("✗", "x"), BAD)
    if attempt["good"]:
        mark, style = glyphs("✓", "+"), GOOD
    uncounted = "" if attempt["counts"] else " (does not count)"
    rows = marked(mark, Text(f"Attempt {attempt['number']}: {attempt['job_id']}{uncounted}"), width, style=style)
    rows[0].stylize(NAME)
    rows += marked(" ", "not judged yet" if ended is None else attempt["stopped"] if stopped else ended, width)
    if cause is not None:
        rows += marked(" ", Text.assemble(("Cause: ", NAME), cause["text"], cause["sure"]), width)
        for line in cause["lines"][:_EVIDENCE]:
            rows += marked(glyphs("│", "|"), line, width, indent=4)
        if cause["advice"] and repair is None:
            rows += marked(" ", Text.assemble(("Advice: ", NAME), cause["advice"]), width)
    if repair is not None:
        rows += marked(" ", Text.assemble((f"{label.capitalize()}: ", NAME), repair), width)
        rows += diff_rows(attempt["changed"], width, glyphs)
    return rows
