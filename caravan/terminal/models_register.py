"""`models register`: a run's model by hand, where its gate left that to a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caravan.terminal.options import JsonOption, RunArgument, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from caravan.agent.state import RunState
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.registry import ModelVersion
    from caravan.values.run import RunRecord


def register(
    ctx: typer.Context,
    run: RunArgument,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name; default: from its base model and repository.")
    ] = None,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it is kept with the model.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also of a run that did not succeed, or whose gate failed; needs --why.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Register a run's model by hand, as a candidate.

    A run is registered once; a run whose model passes its gate registers it by itself.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    record = wiring.store().run(run)
    known = wiring.models().of_run(record.id)
    if known is not None:
        if name is not None and name != known.name:
            terminal.err(f"A registered model keeps its name: {known.name}.")
        _tell(terminal, known, "was registered already", as_json=as_json)
        return
    _check_name(name)
    state = _state(wiring, record)
    _check(record, state, why=why, force=force)
    model, unlisted = _made(wiring, terminal, record, state, name, why)
    kept = wiring.models().register(model)
    if unlisted:
        terminal.err(one_line(f"Its files could not be listed, so no checksums are known: {unlisted}.", 400))
    _tell(terminal, kept, "is registered", as_json=as_json)


def _check_name(name: str | None) -> None:
    from caravan.values.registry import MODEL_NAME

    if name is not None and not re.fullmatch(MODEL_NAME, name):
        raise UsageError(
            f"{one_line(name, 60)!r} can't be a model's name.",
            hint="Letters, digits, dots, dashes and underscores, the first one a letter or a digit; 96 at most.",
        )


def _state(wiring: Wiring, record: RunRecord) -> RunState:
    """The run's state. Raises UsageError for a run that trained nothing or has not ended."""
    from caravan.terminal.lookup import look_up
    from caravan.values.run import ENDED

    if record.status not in ENDED:
        raise UsageError(
            f"Run {record.id} has not ended ({record.status.value}).", hint="It registers its model at its end."
        )
    state = look_up(wiring, record).state
    if state is None or state.plan is None or not state.attempts:
        raise UsageError(f"Run {record.id} has trained nothing, so there is no model of it.")
    return state


def _check(record: RunRecord, state: RunState, *, why: str, force: bool) -> None:
    """Whether the run's model may be registered. Raises UsageError for what it lacks."""
    from caravan.values.evaluation import GateVerdict
    from caravan.values.run import RunStatus

    verdict = state.gate.verdict if state.gate is not None else None
    trouble = ""
    if record.status is not RunStatus.SUCCEEDED:
        trouble = f"run {record.id} did not succeed ({record.status.value})"
    elif verdict is GateVerdict.FAIL:
        trouble = f"the model of run {record.id} failed its gate"
    if trouble and not (force and why.strip()):
        raise UsageError(
            f"{trouble[0].upper()}{trouble[1:]}.",
            hint="Say why with --why TEXT." if force else "`--force --why TEXT` registers it all the same.",
        )
    if verdict is not GateVerdict.PASS and not why.strip():
        said = "says that a person should look" if verdict is GateVerdict.LOOK else "did not pass it"
        raise UsageError(
            f"The gate of run {record.id} {said}.", hint="Look at its report, then say why with --why TEXT."
        )


def _made(
    wiring: Wiring, terminal: Terminal, record: RunRecord, state: RunState, name: str | None, why: str
) -> tuple[ModelVersion, str]:
    from caravan.agent.registered import ended_at, model_of
    from caravan.terminal.progress import make_view

    view = make_view(terminal, wiring.clock, as_json=True)
    with wiring.context(record, view) as context:
        model, unlisted = model_of(state, context, at=ended_at(state, context), name=name)
    return model.model_copy(update={"by": wiring.user, "why": why}), unlisted


def _tell(terminal: Terminal, model: ModelVersion, said: str, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {"ref": model.ref, **model.model_dump(mode="json")}
        terminal.document(document)
        return
    terminal.out(f"Run {model.run_id} {said} as {model.ref} ({model.stage.value}).")
    terminal.out(f"`main.py models show {model.ref}` shows it, `main.py models promote {model.ref}` moves it on.")
