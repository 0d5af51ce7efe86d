"""`models promote` and `models archive`: how far a model is trusted, and who said so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from caravan.terminal.models import stage_of
from caravan.terminal.models_found import RefArgument, find
from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import NeedsPerson, UsageError

if TYPE_CHECKING:
    from caravan.ports import ModelRegistry
    from caravan.terminal.streams import Terminal
    from caravan.values.registry import ModelStage, ModelVersion, StageMove

WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it is kept with the move.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def promote(
    ctx: typer.Context,
    ref: RefArgument,
    stage: Annotated[
        str | None,
        typer.Argument(
            metavar="[STAGE]",
            help="candidate, staging, production or archived; without it, the next one.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="The same, as an option.")] = None,
    once_to: Annotated[str | None, typer.Option("--to", hidden=True)] = None,
    why: WhyOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also one that failed its gate or was never checked; needs --why.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Move a model to the next stage, or to a named one.

    At most one version of a model is in production: the one before it is archived.
    """
    to = to or once_to
    if stage and to and stage != to:
        raise UsageError(f"Two stages were named: {one_line(stage, 40)} and {one_line(to, 40)}.", hint="Name one.")
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    registry, model = wiring.models(), find(wiring, ref)
    wanted = to or stage
    goal = stage_of(wanted) if wanted else _next(model)
    if goal is not model.stage:
        _allow(terminal, registry, model, goal, why=why, force=force, yes=yes)
    moves = registry.move(model.ref, goal, by=wiring.user, why=why, at=wiring.clock.now())
    _tell(terminal, model, goal, moves, as_json=as_json)


def archive(
    ctx: typer.Context, ref: RefArgument, why: WhyOption = "", yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Archive a model: nobody should use it any more. Its files stay where they are."""
    from caravan.values.registry import ModelStage

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    registry, model = wiring.models(), find(wiring, ref)
    if model.stage is not ModelStage.ARCHIVED:
        _allow(terminal, registry, model, ModelStage.ARCHIVED, why=why, force=False, yes=yes)
    moves = registry.move(model.ref, ModelStage.ARCHIVED, by=wiring.user, why=why, at=wiring.clock.now())
    _tell(terminal, model, ModelStage.ARCHIVED, moves, as_json=as_json)


def _next(model: ModelVersion) -> ModelStage:
    from caravan.values.registry import ModelStage

    following = {ModelStage.CANDIDATE: ModelStage.STAGING, ModelStage.STAGING: ModelStage.PRODUCTION}
    if model.stage not in following:
        there = ", ".join(stage.value for stage in ModelStage if stage is not model.stage)
        raise UsageError(f"{model.ref} is {_in(model.stage)}: there is no next stage.", hint=f"Name one: {there}.")
    return following[model.stage]


def _in(stage: ModelStage) -> str:
    return {"archived": "archived", "candidate": "a candidate"}.get(stage.value, f"in {stage.value}")


def _allow(
    terminal: Terminal,
    registry: ModelRegistry,
    model: ModelVersion,
    goal: ModelStage,
    *,
    why: str,
    force: bool,
    yes: bool,
) -> None:
    """Ask for the move. Raises UsageError for what the gate is against, NeedsPerson where nobody says yes."""
    from caravan.values.registry import ModelStage

    if goal in (ModelStage.STAGING, ModelStage.PRODUCTION):
        _check_gate(terminal, model, goal, why=why, force=force)
    leaves = model.stage is ModelStage.PRODUCTION
    if goal is not ModelStage.PRODUCTION and not leaves:
        return
    there = registry.models(name=model.name, stage=ModelStage.PRODUCTION, limit=1)
    if leaves:
        said = f"{model.ref} leaves production, and no version of {model.name} is in it then"
    elif there:
        said = f"{model.ref} goes to production in place of {there[0].ref}, which is archived"
    else:
        said = f"{model.ref} goes to production"
    if not yes:
        _confirm(terminal, said)


def _confirm(terminal: Terminal, said: str) -> None:
    from caravan.terminal.dialogue import confirm

    if not terminal.interactive:
        raise NeedsPerson(f"{said}: that is asked first.", hint="Allow it with --yes.")
    if not confirm(terminal, f"{said}?"):
        raise NeedsPerson("Nothing was changed.")


def _check_gate(terminal: Terminal, model: ModelVersion, goal: ModelStage, *, why: str, force: bool) -> None:
    from caravan.values.evaluation import GateVerdict

    gate = model.gate
    if gate is not None and gate.verdict is GateVerdict.PASS:
        return
    if gate is not None and gate.verdict is GateVerdict.LOOK:
        looks = [c.text for c in gate.checks if c.verdict is GateVerdict.LOOK]
        terminal.err(
            one_line(f"Its gate said that a person should look: {'; '.join(looks) or 'little is known'}.", 400)
        )
        return
    what = (
        f"failed its gate ({'; '.join(check.text for check in gate.failed)})"
        if gate is not None and gate.verdict is GateVerdict.FAIL
        else "was never checked by a gate"
    )
    if force and why.strip():
        terminal.err(one_line(f"{model.ref} {what}; it moves all the same.", 400))
        return
    raise UsageError(
        one_line(f"{model.ref} {what}, so it does not go to {goal.value}.", 400),
        hint="`--force --why TEXT` moves it all the same." if not force else "Say why with --why TEXT.",
    )


def _tell(
    terminal: Terminal, model: ModelVersion, goal: ModelStage, moves: tuple[StageMove, ...], *, as_json: bool
) -> None:
    if as_json:
        made: list[Any] = [move.model_dump(mode="json") for move in moves]
        terminal.document({"ref": model.ref, "stage": goal.value, "moves": made})
        return
    if not moves:
        terminal.out(f"{model.ref} is {_in(goal)} already.")
        return
    for move in moves:
        before = f" (it was {_in(move.before)})" if move.before else ""
        terminal.out(f"{move.ref} is {_in(move.after)} now{before}.")
