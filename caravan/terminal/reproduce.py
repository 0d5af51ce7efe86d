"""`reproduce`: a run is made again from what was kept of it, as a run of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.inputs import check_budget
from caravan.terminal.options import (
    DetachOption,
    JsonOption,
    OnClusterOption,
    RunArgument,
    terminal_of,
    wiring_of,
)
from caravan.values.errors import CaravanError, UsageError

if TYPE_CHECKING:
    from caravan.terminal.wiring import Wiring
    from caravan.values.registry import RunResult
    from caravan.values.run import Repeats, RunRecord, RunRequest


def reproduce(
    ctx: typer.Context,
    run: RunArgument,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="By which share of its value a metric may be off (0.01: one percent; 0: not at all)."
            " Else by the spread over seeds where three are known, else one percent.",
        ),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also with data that are others by now, or of a run that failed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Approve within the soft limit.")] = False,
    budget: Annotated[float | None, typer.Option(metavar="USD", help="What the whole run may cost.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan and check the job, deploy nothing.")] = False,
    send_secrets: Annotated[
        bool,
        typer.Option("--send-secrets", help="Write secrets that the job needs to the cluster, from this environment."),
    ] = False,
    detach: DetachOption = False,
    on_cluster: OnClusterOption = False,
    as_json: JsonOption = False,
) -> int:
    """Make a run again: same code, data, image, seed and plan, and say whether it agrees.

    It is a run of its own, with its own id, approval and cost; the original is never changed. Its code comes from what
    the original kept, so that the repository may have changed or be gone.

    Exit codes: 0 it agrees, 1 it does not agree or failed, 3 a person is needed: it can't be told, or something is
    asked.
    """
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"--tolerance {tolerance:g} is no share.", hint="Give 0 or more, as 0.01 for one percent.")
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    before = wiring.store().run(run)
    from caravan.terminal.detach import Goes, where_to
    from caravan.values.run import Repeats

    goes = where_to(detach=detach, on_cluster=on_cluster)
    repeats = Repeats(run_id=before.id, tolerance=tolerance, anyway=anyway)
    _check(before, wiring.store().result(before.id), repeats)
    given = {"yes": yes, "budget_usd": check_budget(budget), "dry_run": dry_run, "send_secrets": send_secrets}
    request = before.request.model_copy(update={**given, "answers": {}, "sets": (), "plan_file": ""})
    if goes is Goes.CLUSTER and not dry_run:
        from caravan.terminal.oncluster import check_place

        check_place(wiring, request)
    from caravan.terminal.driving import Driving, drive_run

    record = _begin(wiring, before, request, repeats)
    terminal.run_id = record.id
    return drive_run(wiring, terminal, record, as_json=as_json, how=Driving(goes=goes))


def _check(before: RunRecord, result: RunResult | None, repeats: Repeats) -> None:
    """Raise UsageError for a run that has nothing that could be come to again."""
    from caravan.values.run import ENDED, RunStatus

    if before.status not in ENDED:
        raise UsageError(
            f"Run {before.id} has not ended ({before.status.value}).",
            hint=f"Reproduce it once it has; `main.py watch {before.id}` shows it.",
        )
    if before.status is not RunStatus.SUCCEEDED and not repeats.anyway:
        raise UsageError(
            f"Run {before.id} has no result to come to again: it ended {before.status.value}.",
            hint="`--anyway` makes it again all the same, with its last plan.",
        )
    if result is None and not repeats.anyway:
        raise UsageError(
            f"What run {before.id} came to is not kept: it ended before results were.",
            hint="`--anyway` makes it again all the same; whether it agrees can't be told.",
        )


def _begin(wiring: Wiring, before: RunRecord, request: RunRequest, repeats: Repeats) -> RunRecord:
    """The new run with all that it needs in its own folder; nothing is left where that fails."""
    from caravan.agent.beginning import new_run
    from caravan.agent.original_code import bring_code
    from caravan.agent.reproducing import original_from
    from caravan.values.registry import CodeVersion, DataVersion
    from caravan.values.reproduction import ORIGINAL

    state = wiring.standing(before.id).state
    if state is None or state.plan is None:
        raise UsageError(f"Run {before.id} never had a plan.", hint="There is nothing to make again.")
    record = new_run(request, wiring.clock.now(), wiring.user)
    folder = wiring.folder(record.id)
    old, result = wiring.folder(before.id).path, wiring.store().result(before.id)
    try:
        source = bring_code(state, old, folder, wiring.open_tree, wiring.types)
        code, data = (result.code, result.data) if result else (CodeVersion(), DataVersion())
        known = original_from(state, str(old), code, data)
        folder.save_papers({ORIGINAL: known.canonical() + "\n"})
    except CaravanError:
        folder.delete()
        raise
    repeats = repeats.model_copy(update={"source": source})
    record = record.model_copy(update={"request": request.model_copy(update={"reproduces": repeats})})
    wiring.store().create_run(record)
    return record
