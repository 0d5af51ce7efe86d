"""`resume`: go on with a run, answering what it asks."""

from __future__ import annotations

from typing import Annotated

import typer

from caravan.terminal.inputs import read_answers
from caravan.terminal.options import AnswersOption, DetachOption, JsonOption, RunArgument, terminal_of, wiring_of
from caravan.values.errors import UsageError


def resume(
    ctx: typer.Context,
    run: RunArgument,
    answers: AnswersOption = None,
    approve: Annotated[bool, typer.Option("--approve", help="Say yes to what it asks.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Say no to what it asks.")] = False,
    choose: Annotated[
        int | None, typer.Option("--choose", metavar="N", help="Take the Nth of the other plans that it offers.", min=1)
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="USD", help="With --approve: what the whole run may cost.", min=0),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take defaults, approve within the soft limit.")] = False,
    detach: DetachOption = False,
    agent: Annotated[bool, typer.Option("--agent", hidden=True)] = False,
    as_json: JsonOption = False,
) -> int:
    """Go on with a run, answering what it asks.

    An interrupted run is taken up where it was; of one that has ended the result is printed again.
    """
    if (answers is not None) + approve + reject + (choose is not None) > 1:
        raise UsageError("--answers, --approve, --reject and --choose exclude each other.", hint="Give one of them.")
    if budget is not None and not approve:
        raise UsageError("--budget goes with --approve.", hint="Give both, or neither.")
    given_answers = read_answers(answers, wiring_of(ctx).secrets()) if answers is not None else None
    from caravan.terminal.driving import Given, drive_run
    from caravan.terminal.lookup import look_up
    from caravan.terminal.results import show_result
    from caravan.terminal.stopping import open_deployments, stop_jobs
    from caravan.values.run import ENDED, EXIT_CODES, RunStatus

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    record = wiring.store().run(run)
    terminal.run_id = record.id
    given = Given(
        answers=given_answers,
        approved=True if approve else False if reject else None,
        choice=choose,
        budget=budget,
        yes=yes,
    )
    # The agent of a stopped run may have been ended before it: then a job, its log and the report are left to see to.
    stopped = record.status is RunStatus.STOPPED
    if given.says_something and record.status in ENDED:
        raise UsageError(f"Run {record.id} has ended ({record.status.value}).", hint="There is nothing to answer.")
    for job_id in stop_jobs(wiring, record) if stopped else ():
        terminal.err(f"Run {record.id} is stopped, and its job {job_id} still ran: it was told to end.")
    if record.status not in ENDED or (stopped and open_deployments(wiring, record)):
        return drive_run(wiring, terminal, record, as_json=as_json, given=given, detach=detach, agent=agent)
    terminal.exit_code = EXIT_CODES[record.status]
    show_result(terminal, look_up(wiring, record), as_json=as_json)
    return terminal.exit_code
