"""Puts a run's report together: what the store, the folder and the state know of it, handed to the renderings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from caravan.values.errors import StateError
from caravan.values.model_usage import used
from caravan.values.reports import RunReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from caravan.agent.context import Context
    from caravan.agent.state import RunState
    from caravan.ports import ModelRegistry, RunFolder, Store
    from caravan.runs.report.material import Material
    from caravan.values.curves import AttemptCurves
    from caravan.values.run import RunEvent, RunRecord

PAGE = "report.html"


def make_report(
    record: RunRecord,
    state: RunState | None,
    *,
    store: Store,
    folder: RunFolder,
    templates: Path,
    models: ModelRegistry | None = None,
    trace: str | None = None,
    secrets: Sequence[str] = (),
    summarise: Callable[[str], tuple[str, str]] | None = None,
) -> RunReport:
    """The report of a run as it stands. `state` None: nothing is known but the request.

    `summarise` gives a summary of the Markdown and who wrote it, or twice nothing. Raises StateError for a store that
    can't be read; logs that can't be are a warning in the report.
    """
    from caravan.runs.report.content import content
    from caravan.runs.report.markdown import as_markdown
    from caravan.runs.report.page import as_page

    material = gathered(record, state, store=store, folder=folder, models=models, trace=trace, secrets=secrets)
    document = content(material)
    if summarise is not None:
        said, by = summarise(as_markdown(document))
        if said:
            document = content(replace(material, summary=said, summary_by=by))
    return RunReport(markdown=as_markdown(document, page=PAGE), page=as_page(document, templates))


def report_of(state: RunState, context: Context) -> RunReport:
    """The report of a run that ends, with the model's summary where one is in use."""
    return make_report(
        context.store.run(state.run_id).model_copy(update={"status": state.status, "detail": state.detail}),
        state,
        store=context.store,
        folder=context.folder,
        templates=context.templates,
        models=context.models,
        trace=context.tracer.url(),
        secrets=context.secrets,
        summarise=context.adviser.summary if context.adviser is not None else None,
    )


def gathered(
    record: RunRecord,
    state: RunState | None,
    *,
    store: Store,
    folder: RunFolder,
    models: ModelRegistry | None,
    trace: str | None,
    secrets: Sequence[str],
) -> Material:
    """What a report is made of."""
    from caravan.runs.report.material import Material

    events = store.events(record.id)
    known = Material(
        record=record,
        events=events,
        result=store.result(record.id),
        model=models.of_run(record.id) if models is not None else None,
        trace=trace,
        secrets=tuple(secrets),
        reserved_usd=store.reserved_usd(record.id),
        versions=_versions(state),
    )
    if state is None:
        return known
    spent = state.spent_usd + (used(events).usd or 0.0)
    curves, unread = _curves(state, folder, events)
    return replace(
        known,
        record=record.model_copy(update={"cost_usd": max(record.cost_usd, spent)}),
        plan=state.plan,
        profile=state.profile,
        estimate=state.estimate,
        attempts=state.attempts,
        outcome=state.outcome,
        questions=state.questions,
        answers=state.answers,
        metrics=state.metrics,
        gate=state.gate,
        registered=state.registered,
        place=_place(state),
        curves=curves,
        warnings=(*state.warnings, *unread),
    )


def _curves(
    state: RunState, folder: RunFolder, events: Sequence[RunEvent]
) -> tuple[tuple[AttemptCurves, ...], tuple[str, ...]]:
    """The curves, or why there are none: a report without them is better than none."""
    from caravan.agent.curves import curves_of

    target = (state.plan.target.metric,) if state.plan is not None and state.plan.target is not None else ()
    logged = tuple(state.profile.metrics_logged) if state.profile is not None else ()
    outputs = state.plan.outputs if state.plan is not None else None
    try:
        return curves_of(folder, state.attempts, events, names=(*target, *logged), outputs=outputs), ()
    except StateError as error:
        return (), (f"the curves could not be drawn: {error.message}",)


def _place(state: RunState) -> str:
    from caravan.agent.outputs import place_of

    return place_of(state.plan, state.run_id) if state.plan is not None else ""


def _versions(state: RunState | None) -> dict[str, str]:
    from caravan import __version__

    recorded = state.gate.recorded.get("versions") if state is not None and state.gate is not None else None
    libraries = {str(k): str(v) for k, v in recorded.items()} if isinstance(recorded, dict) else {}
    return {"Caravan": __version__, **libraries}
