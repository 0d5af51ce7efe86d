"""`runs` and `show`: which runs there are, and one of them with plan, attempts and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.text import money, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.terminal.results import Result
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json
    from caravan.values.run import Deployment, RunEvent, RunRecord

_TIME = "%Y-%m-%d %H:%M"


def runs(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest runs."""
    from caravan.terminal.lookup import is_driven

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    records = [(record, is_driven(wiring, record)) for record in wiring.store().runs(limit=limit)]
    if as_json:
        terminal.document([_row(record, driven) for record, driven in records])
    elif not records:
        terminal.out("There are no runs yet.")
    else:
        _print_runs(terminal, records)


def _row(record: RunRecord, driven: bool) -> dict[str, Json]:
    row: dict[str, Json] = {**record.model_dump(mode="json"), "driven": driven}
    request = row.pop("request")
    return {"run_id": row.pop("id"), **row, "prompt": request["prompt"], "source": request["source"]}


def _print_runs(terminal: Terminal, records: Sequence[tuple[RunRecord, bool]]) -> None:
    from caravan.terminal.console import cell, draw, listing
    from caravan.values.run import RunStatus

    table = listing("run", "status", "since (UTC)", "cost", "prompt")
    for record, driven in records:
        lost = record.status is RunStatus.RUNNING and not driven
        table.add_row(
            cell(record.id),
            "interrupted" if lost else record.status.value,
            f"{record.created_at:{_TIME}}",
            money(record.cost_usd),
            cell(one_line(record.request.prompt, 60)),
        )
    table.columns[0].no_wrap = True
    draw(terminal.stdout, table)


def show(ctx: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Show one run: status, attempts, plan, events."""
    from caravan.terminal.lookup import look_up
    from caravan.terminal.results import document

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
        _print_run(terminal, result, deployments, events)


def _print_run(
    terminal: Terminal, result: Result, deployments: Sequence[Deployment], events: Sequence[RunEvent]
) -> None:
    from caravan.terminal.console import cell, draw, listing
    from caravan.terminal.results import result_lines
    from caravan.terminal.summary import Scene, estimate_table, plan_table, provenance_table

    record, state = result.record, result.state
    for line in result_lines(result):
        terminal.out(line)
    terminal.out(f"  prompt     {one_line(record.request.prompt)}")
    terminal.out(f"  node       {record.node or '-'}, since {record.updated_at:{_TIME}} UTC")
    for deployment in deployments:
        terminal.out(f"  job        {one_line(deployment.job_id)} {deployment.state.value}")
    if state is not None and state.plan is not None:
        terminal.out("\nPlan")
        scene = Scene(record.request.source, result.cluster)
        draw(terminal.stdout, plan_table(state.plan, scene))
        if state.estimate is not None:
            terminal.out("\nEstimate")
            draw(terminal.stdout, estimate_table(state.estimate))
        terminal.out("\nWho set what")
        draw(terminal.stdout, provenance_table(state.plan))
    if events:
        terminal.out("\nEvents (UTC)")
        table = listing("time", "event", "")
        for event in events:
            table.add_row(f"{event.at:{_TIME}}", cell(one_line(event.kind)), cell(one_line(event.text)))
        draw(terminal.stdout, table)
