"""`compare`: runs side by side, with what chance alone makes of the same plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.terminal.wiring import Wiring
    from caravan.values.comparison import Comparison, Subject
    from caravan.values.plan import TrainingPlan
    from caravan.values.run import RunRecord


def compare(
    ctx: typer.Context,
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Run ids, or beginnings of them.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="Only this metric; repeatable.")
    ] = None,
    named_only: Annotated[
        bool, typer.Option("--named-only", help="Take no other seeds of the same plan from the store.")
    ] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there too, as one HTML file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", hidden=True)] = None,
    as_json: JsonOption = False,
) -> None:
    """Set runs side by side: plans, code, data, metrics with their spread over seeds, cost.

    Runs whose plans differ in their seed alone are one group; a difference between groups is called better or worse
    only where it is more than that spread. The first run's group is what the others are held against.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    subjects = _subjects(wiring, runs, named_only=named_only)
    _check_metrics(subjects, metric or ())
    from caravan.runs.comparison import compare_runs

    found = compare_runs(subjects, tuple(metric or ()))
    place = output or html
    if place is not None:
        _write(wiring, place, found)
        terminal.err(f"Written to {place}.")
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return
    from caravan.terminal.compare_view import show_comparison

    show_comparison(terminal, found)


def _subjects(wiring: Wiring, names: Sequence[str], *, named_only: bool) -> list[Subject]:
    """The named runs, then those of their families. Raises UsageError for fewer than two and for one named twice."""
    records = [wiring.store().run(name) for name in names]
    ids = [record.id for record in records]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice is not None:
        raise UsageError(f"Run {twice} is named twice.", hint="Name each run once.")
    if len(ids) < 2:
        raise UsageError("One run alone can't be compared.", hint="Name two runs or more: `main.py runs` lists them.")
    found = [_subject(wiring, record) for record in records]
    if not named_only:
        found += _taken_along(wiring, found)
    return found


def _subject(wiring: Wiring, record: RunRecord, *, named: bool = True) -> Subject:
    """The run as its result was stored; where none was, as far as its folder tells."""
    from caravan.values.comparison import Subject

    state = wiring.standing(record.id).state
    result = wiring.store().result(record.id)
    if result is not None:
        plan = state.plan if state is not None and state.plan is not None else None
        if plan is None or plan.digest() != _digest(result.plan):
            plan = _plan(result.plan)
        return Subject(result=result, plan=plan, named=named)
    if state is None or state.plan is None:
        raise UsageError(
            f"Run {record.id} has no plan to compare ({record.status.value}).",
            hint="It ended before one was made, or its checkpoints are gone.",
        )
    from caravan.agent.so_far import result_so_far
    from caravan.values.run import ENDED

    ended = record.status in ENDED
    note = "its result was not kept: what its folder has" if ended else f"it is {record.status.value}: as far as it is"
    return Subject(result=result_so_far(state, record), plan=state.plan, note=note, named=named)


def _plan(fields: dict[str, object]) -> TrainingPlan:
    from caravan.values.plan import TrainingPlan

    return TrainingPlan.model_validate(fields)


def _digest(fields: dict[str, object]) -> str:
    return _plan(fields).digest()


def _taken_along(wiring: Wiring, named: Sequence[Subject]) -> list[Subject]:
    """Other runs of the named ones' families that ended well, with the same data: further seeds of the same plan."""
    from caravan.values.run import RunStatus

    known = {s.result.run_id for s in named}
    found: list[Subject] = []
    for family, data in dict.fromkeys((s.result.family, s.result.data.sha256) for s in named):
        for result in reversed(wiring.store().results(family=family)):
            fits = result.status is RunStatus.SUCCEEDED and result.data.sha256 == data
            if fits and result.run_id not in known:
                known.add(result.run_id)
                found.append(_subject(wiring, wiring.store().run(result.run_id), named=False))
    return found


def _check_metrics(subjects: Sequence[Subject], wanted: Sequence[str]) -> None:
    there = sorted({name for s in subjects for name in s.result.metrics})
    for name in wanted:
        if name not in there:
            raise UsageError(
                f"None of these runs has the metric {name!r}.", hint=f"They have: {', '.join(there) or 'none'}."
            )


def _write(wiring: Wiring, path: Path, found: Comparison) -> None:
    from caravan import TEMPLATES
    from caravan.runs.comparison_html import comparison_html
    from caravan.values.masking import mask

    try:
        path.write_bytes(mask(comparison_html(found, TEMPLATES), wiring.secrets()).encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{path} can't be written ({error.strerror}).", hint="Give --html another file.") from error
