"""`resume`: go on with a run, answering what it asks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.inputs import read_answers
from caravan.terminal.options import (
    AnswersOption,
    DetachOption,
    JsonOption,
    OnClusterOption,
    RunArgument,
    terminal_of,
    wiring_of,
)
from caravan.values.errors import CaravanError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.agent.driver import Driver
    from caravan.terminal.driving import Driving, Given
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.plan import PlanChange
    from caravan.values.run import RunRecord


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
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Take up a run that failed or was handed over, with this; repeatable."
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Take up such a run as it is: what stood in its way has been mended.")
    ] = False,
    detach: DetachOption = False,
    on_cluster: OnClusterOption = False,
    agent: Annotated[bool, typer.Option("--agent", hidden=True)] = False,
    adopt: Annotated[Path | None, typer.Option("--adopt", hidden=True)] = None,
    leave: Annotated[Path | None, typer.Option("--leave", hidden=True)] = None,
    send_secrets: Annotated[
        bool, typer.Option("--send-secrets", help="With --on-cluster: write what the agent needs to the cluster.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Go on with a run, answering what it asks.

    An interrupted run is taken up where it was; of one that has ended the result is printed again, unless --set or
    --again takes it up: with its attempts counted anew, and with the code that it began with.
    """
    if (answers is not None) + approve + reject + (choose is not None) > 1:
        raise UsageError("--answers, --approve, --reject and --choose exclude each other.", hint="Give one of them.")
    if (sets or again) and (answers is not None or approve or reject or choose is not None):
        raise UsageError("--set and --again take up a run that has ended.", hint="Such a run asks nothing.")
    if budget is not None and not approve:
        raise UsageError("--budget goes with --approve.", hint="Give both, or neither.")
    given_answers = _read(ctx, answers) if answers is not None else None
    from caravan.terminal.detach import Goes, where_to
    from caravan.terminal.driving import Driving, Given

    goes = where_to(detach=detach, on_cluster=on_cluster)
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    if agent and adopt is not None and leave is not None:
        return _on_the_cluster(wiring, terminal, run, adopt, leave)
    record = wiring.store().run(run)
    terminal.run_id = record.id
    from caravan.terminal.oncluster import bring_back, check_place
    from caravan.values.run import ENDED

    record = bring_back(wiring, record)
    if goes is Goes.CLUSTER and record.status not in ENDED:
        check_place(
            wiring, record.request.model_copy(update={"send_secrets": send_secrets or record.request.send_secrets})
        )
    given = Given(
        answers=given_answers,
        approved=True if approve else False if reject else None,
        choice=choose,
        budget=budget,
        yes=yes,
        changes=_changes(sets or ()) if sets or again else None,
    )
    driving = Driving(goes=goes, agent=agent, send_secrets=send_secrets)
    return _resume(wiring, terminal, record, given, driving, as_json=as_json)


def _changes(sets: Sequence[str]) -> tuple[PlanChange, ...]:
    from caravan.planning.answers import parse_set

    return tuple(parse_set(text) for text in sets)


def _read(ctx: typer.Context, answers: str) -> dict[str, Json]:
    wiring = wiring_of(ctx)
    return read_answers(answers, wiring.secrets(), wiring.clock.now().astimezone())


def _resume(wiring: Wiring, terminal: Terminal, record: RunRecord, given: Given, how: Driving, *, as_json: bool) -> int:
    from caravan.terminal.driving import drive_run
    from caravan.terminal.lookup import look_up
    from caravan.terminal.results import show_result
    from caravan.terminal.stopping import open_deployments, stop_jobs
    from caravan.values.run import ENDED, RunStatus

    # The agent of a stopped run may have been ended before it: then a job, its log and the report are left to see to.
    stopped = record.status is RunStatus.STOPPED
    if given.says_something and record.status in ENDED:
        raise UsageError(f"Run {record.id} has ended ({record.status.value}).", hint="There is nothing to answer.")
    for job_id in stop_jobs(wiring, record) if stopped else ():
        terminal.err(f"Run {record.id} is stopped, and its job {job_id} still ran: it was told to end.")
    if given.changes is not None or record.status not in ENDED or (stopped and open_deployments(wiring, record)):
        return drive_run(wiring, terminal, record, as_json=as_json, given=given, how=how)
    found = look_up(wiring, record)
    terminal.exit_code = found.exit_code
    show_result(terminal, found, as_json=as_json)
    return terminal.exit_code


def _on_the_cluster(wiring: Wiring, terminal: Terminal, run_id: str, adopt: Path, leave: Path) -> int:
    """The agent that is a job itself: it takes the run over, drives it, and leaves it for whoever brings it back.

    The exit code is 0 also where the training failed or a person is asked: the cluster need not start it again.
    """
    from functools import partial

    from caravan.terminal import oncluster
    from caravan.terminal.driving import Driving, Given
    from caravan.values.run import ENDED, RunStatus

    oncluster.take_over(wiring, run_id, adopt)
    record = wiring.store().run(run_id)
    terminal.run_id = record.id
    leaving = partial(_leave, wiring, terminal, record.id, leave)
    try:
        _resume(wiring, terminal, record, Given(), Driving(agent=True, leave=leaving), as_json=False)
    finally:
        with wiring.driver() as driver:
            leaving(driver)
    over = wiring.store().run(record.id).status in (*ENDED, RunStatus.WAITING)
    return 0 if over else terminal.exit_code


def _leave(wiring: Wiring, terminal: Terminal, run_id: str, file: Path, driver: Driver) -> None:
    """Leave the run; what goes wrong is said, and the run goes on all the same."""
    from caravan.terminal.oncluster import leave

    try:
        leave(wiring, run_id, file, driver)
    except CaravanError as error:
        terminal.err(f"The run can't be left for others: {error.line()}")
