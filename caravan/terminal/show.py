"""`show`: one run as it stands, its attempts as blocks, then plan, estimate and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.text import joined, one_line
from caravan.values.amounts import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.text import Text

    from caravan.terminal.picture import Glyphs
    from caravan.terminal.results import Result
    from caravan.terminal.streams import Terminal
    from caravan.values.run import Attempt, Deployment, Outcome, RunEvent

_TIME = "%Y-%m-%d %H:%M"
_EVIDENCE = 6  # lines of a diagnosis that are shown; the report has them all


def show(ctx: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Show one run: attempts with cause and repair, plan, estimate."""
    from caravan.terminal.lookup import is_driven, look_up
    from caravan.terminal.oncluster import station_of
    from caravan.terminal.results import document
    from caravan.values.record import RunStatus

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    store = wiring.store()
    record = store.run(run)
    result = look_up(wiring, record)
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
    from caravan.terminal.console import cell, console_on, draw, listing
    from caravan.terminal.endings import repair_label, was_stopped
    from caravan.terminal.picture import Glyphs
    from caravan.terminal.results import print_line, result_lines
    from caravan.terminal.summary import Scene, estimate_table, plan_table, provenance_table

    record, state = result.record, result.state
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
    attempts = state.attempts if state is not None else ()
    for attempt in attempts:
        terminal.out()
        label = repair_label(record, state) if state is not None and attempt is attempts[-1] else "repair"
        stopped = attempt is attempts[-1] and was_stopped(record, attempt)
        draw(terminal.stdout, *attempt_block(attempt, width - 1, glyphs, label, stopped=stopped))
    from caravan.values.run import Purpose

    judged = {a.job_id for a in attempts}
    for deployment in deployments:
        if deployment.job_id not in judged:
            what = "Evaluation of attempt" if deployment.purpose is Purpose.EVALUATE else "Attempt"
            terminal.out(f"\n{what} {deployment.attempt}: {one_line(deployment.job_id)} {deployment.state.value}")
    pictures: list[tuple[str, RenderableType]] = []
    if state is not None and state.plan is not None:
        pictures.append(("Plan", plan_table(state.plan, Scene(record.request.source, result.cluster))))
        if state.estimate is not None:
            pictures.append(("Estimate", estimate_table(state.estimate)))
        pictures.append(("Who set what", provenance_table(state.plan)))
    if events:
        table = listing("time", "event", "")
        for event in events:
            table.add_row(f"{event.at:{_TIME}}", cell(one_line(event.kind)), cell(one_line(event.text)))
        table.columns[0].no_wrap = True
        pictures.append(("Events (UTC)", table))
    for title, picture in pictures:
        terminal.out()
        draw(terminal.stdout, cell(title, "bold"), picture)


def attempt_block(
    attempt: Attempt, width: int, glyphs: Glyphs, label: str = "repair", *, stopped: bool = False
) -> list[Text]:
    """An attempt in rows: how it ended, the cause with its evidence, what memory had to say, the repair as a diff.

    `label` says what became of the repair; `stopped`: the user ended it. Advice stands where there is none: what to
    do oneself.
    """
    from rich.text import Text

    from caravan.terminal.picture import BAD, GOOD, NAME, diff_rows, marked

    outcome, diagnosis, repair = attempt.outcome, attempt.diagnosis, attempt.repair
    good = outcome is not None and outcome.succeeded and diagnosis is None
    mark, style = (glyphs("✓", "+"), GOOD) if good else (glyphs("✗", "x"), BAD) if outcome else (glyphs("•", "*"), "")
    uncounted = "" if attempt.counts else " (does not count)"
    rows = marked(mark, Text(f"Attempt {attempt.number}: {one_line(attempt.job_id)}{uncounted}"), width, style=style)
    rows[0].stylize(NAME)
    rows += (
        marked(" ", _ended(attempt, outcome, stopped=stopped), width)
        if outcome
        else marked(" ", "not judged yet", width)
    )
    if diagnosis is not None:
        sure = f" ({diagnosis.failure.value}, {diagnosis.confidence:.0%} sure, by {one_line(diagnosis.by)})"
        cause = Text.assemble(("Cause: ", NAME), one_line(diagnosis.cause), sure)
        rows += marked(" ", cause, width)
        for line in diagnosis.lines[:_EVIDENCE]:
            rows += marked(glyphs("│", "|"), one_line(line), width, indent=4)
        if diagnosis.advice and repair is None:
            rows += marked(" ", Text.assemble(("Advice: ", NAME), one_line(diagnosis.advice)), width)
    if repair is not None:
        rows += marked(
            " ", Text.assemble((f"{label.capitalize()}: ", NAME), one_line(repair.why or repair.kind)), width
        )
        rows += diff_rows(attempt.changed, width, glyphs)
    return rows


def _ended(attempt: Attempt, outcome: Outcome, *, stopped: bool) -> str:
    from caravan.terminal.endings import how_it_ended

    ran = ""
    if outcome.started_at and outcome.finished_at:
        ran = duration((outcome.finished_at - outcome.started_at).total_seconds(), exact=True)
    where = joined((f"on {outcome.node_name}" if outcome.node_name else "", f"after {ran}" if ran else ""), " ")
    how, comma, but = how_it_ended(attempt, stopped=stopped).partition(", ")
    return joined((f"{joined((how, where), ' ')}{comma}{but}", "" if stopped else one_line(outcome.reason)), ": ")
