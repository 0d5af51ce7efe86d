"""`plan`: what the main job would do, shown and written down, with no cluster or for one; and plan files checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import AnswersOption, JsonOption, SetsOption, TypeOption, terminal_of, wiring_of
from caravan.values.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from caravan.terminal.plan_view import DrawnUp
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.dialogue import Ask, Reply
    from caravan.values.run import RunRecord, RunRequest

_PAPER_ENDS = "budget_gate"  # what comes after the estimate needs a cluster


def plan(
    ctx: typer.Context,
    path: Annotated[
        str | None, typer.Argument(metavar="PATH_OR_URL", help="Path or git URL of a repository.", show_default=False)
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to train, in a sentence.")] = None,
    plan_file: Annotated[
        str | None, typer.Option("--plan", metavar="FILE", help="A plan file to begin with; it holds the sentence.")
    ] = None,
    check: Annotated[
        str | None, typer.Option(metavar="FILE", help="Only say what is wrong with a plan file, by line.")
    ] = None,
    kind: TypeOption = None,
    answers: AnswersOption = None,
    sets: SetsOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the defaults of what is asked.")] = False,
    cluster: Annotated[
        str | None, typer.Option(metavar="local|URL|PROFILE", help="Plan for this cluster; without it, for none.")
    ] = None,
    inventory: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plan for the nodes of an inventory file.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the plan there, to be changed and run with --plan.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", hidden=True)] = None,
    as_json: JsonOption = False,
) -> int:
    """Show and write the plan for a repository, without a cluster or for one.

    Nothing is deployed, and nothing is written but the file that --output names.
    """
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    if check is not None:
        return _check(wiring, terminal, check, as_json=as_json)
    if cluster is not None and inventory is not None:
        raise UsageError("--cluster and --inventory both name nodes.", hint="Give one of them.")
    from caravan.terminal.inputs import make_request

    with wiring.aside(inventory) as aside:
        request = make_request(
            aside,
            prompt=prompt,
            source=path,
            cluster="local" if inventory is not None else cluster,
            answers=answers,
            sets=tuple(sets or ()),
            budget=None,
            yes=yes,
            dry_run=True,
            plan=plan_file,
            kind=kind,
            nowhere=cluster is None and inventory is None,
        )
        place = _writable(wanted, request.source) if (wanted := output or out) is not None else None
        from caravan.terminal.plan_view import show_drawn_up

        return show_drawn_up(terminal, drawn_up(aside, terminal, request, as_json=as_json), place, as_json=as_json)


def _check(wiring: Wiring, terminal: Terminal, file: str, *, as_json: bool) -> int:
    """Say everything that is wrong with a plan file, in lines that editors follow."""
    from caravan.planning.plan_reading import PlanFileError
    from caravan.terminal.inputs import read_plan_at
    from caravan.terminal.text import one_line

    try:
        found = read_plan_at(file, wiring.secrets())
    except PlanFileError as error:
        if as_json:
            problems = [{"line": p.line, "column": p.column, "text": p.text} for p in error.problems]
            terminal.document({"file": file, "ok": False, "problems": problems})
        for problem in error.problems if not as_json else ():
            terminal.out(one_line(f"{file}:{problem.line}:{problem.column}: {problem.text}"))
        return UsageError.exit_code
    if as_json:
        terminal.document({"file": file, "ok": True, "problems": [], "notes": list(found.notes)})
        return 0
    terminal.out(f"{one_line(file)} is well: {len(found.changes)} fields are set.")
    for note in found.notes:
        terminal.out(note)
    return 0


def _writable(out: Path, source: str) -> Path:
    """Where the plan is written. Raises UsageError for a place in the repository, which is never changed."""
    place = Path(out).absolute()
    if "://" not in source:
        inside = place.parent.resolve()
        if inside == Path(source).resolve() or Path(source).resolve() in inside.parents:
            raise UsageError(
                f"{out} is in the repository, which is never changed.", hint="Name a file outside it, with --output."
            )
    if place.is_dir() or not place.parent.is_dir():
        raise UsageError(f"{out} is no file that can be written.", hint="Name a file in a directory that is there.")
    return place


def drawn_up(wiring: Wiring, terminal: Terminal, request: RunRequest, *, as_json: bool, whole: bool = True) -> DrawnUp:
    """The main job as far as its plan is known, in a place of its own that leaves nothing.

    Without `whole` no further than its estimate, whatever the cluster would say to the job.
    """
    from caravan.agent.beginning import new_run
    from caravan.terminal.plan_view import DrawnUp
    from caravan.terminal.progress import make_view
    from caravan.terminal.summary import scene_of
    from caravan.values.target import NOWHERE

    record = new_run(request, wiring.clock.now(), wiring.user)
    wiring.store().create_run(record)
    view, on_paper = make_view(terminal, wiring.clock, as_json=as_json), not whole or request.cluster == NOWHERE
    with wiring.driver() as driver, wiring.context(record, view) as context:

        def go_on(reply: Reply | None) -> Ask | RunRecord:
            with view:
                now = wiring.store().run(record.id)
                return driver.drive(now, context, reply, until=_PAPER_ENDS if on_paper else None)

        try:
            ended = _answered(terminal, wiring, go_on, interactive=terminal.interactive and not as_json)
        except (Interrupted, KeyboardInterrupt, EOFError) as stop:
            raise Interrupted("Interrupted. Nothing was written.") from stop
        state = driver.state(record.id)
        scene = scene_of(record, context.facts)
    return DrawnUp(request, state, ended, scene, wiring.secrets())


def _answered(
    terminal: Terminal, wiring: Wiring, go_on: Callable[[Reply | None], Ask | RunRecord], *, interactive: bool
) -> Ask | RunRecord:
    """As far as it comes, with the questions answered by the person who is here."""
    from caravan.terminal.dialogue import answer_in_person
    from caravan.terminal.summary import Scene
    from caravan.values.dialogue import Ask, AskKind

    ended = go_on(None)
    while interactive and isinstance(ended, Ask) and ended.kind is AskKind.QUESTIONS:
        now = wiring.clock.now().astimezone()
        ended = go_on(answer_in_person(terminal, ended, lambda: Scene("", ""), now=now, waits=False))
    return ended
