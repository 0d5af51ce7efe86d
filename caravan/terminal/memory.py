"""`memory`: look at the lessons of earlier runs, write one down, forget some, take them to another machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.memory_forget import forget
from caravan.terminal.memory_show import show
from caravan.terminal.memory_store import EVERYTHING, ID, cause_of, opened, repository_digests
from caravan.terminal.memory_table import STARTER, count_of, print_cases
from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.failure import PastCase, Scope
    from caravan.values.plan import PlanChange

__all__ = ["add", "export", "forget", "import_lessons", "list_lessons", "search", "show"]

CauseOption = Annotated[
    str | None, typer.Option("--class", metavar="CLASS", help="Cause of failure, such as host_memory_oom.")
]
ScopeOption = Annotated[
    str | None,
    typer.Option("--scope", metavar="SCOPE", help="Whom it speaks to: tenant, or its repository alone (repository)."),
]
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", metavar="PATH", help="Lessons of that repository.", show_default=False)
]
OutcomeOption = Annotated[bool | None, typer.Option("--worked/--failed", help="Whether the change helped.")]


def list_lessons(
    ctx: typer.Context,
    cause: CauseOption = None,
    worked: OutcomeOption = None,
    scope: ScopeOption = None,
    repository: RepositoryOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    starters: Annotated[bool, typer.Option("--starters", help="The shipped lessons too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the lessons, the last seen first.

    Shipped ones that no run here has tried are only counted."""
    terminal, wanted, speaks = terminal_of(ctx), cause_of(cause), _scope(scope)
    places = repository_digests(wiring_of(ctx), repository) if repository else None
    with opened(wiring_of(ctx)) as memory:
        cases = memory.all(limit=EVERYTHING)
    found = [c for c in cases if wanted in (None, c.failure) and worked in (None, c.worked)]
    found = [c for c in found if speaks in (None, c.scope) and (not places or c.context.get("repository") in places)]
    shipped = [c for c in found if c.source == STARTER]
    found = [c for c in found if c.source != STARTER]
    told = bool(found) or all(c.source == STARTER for c in cases)
    found += shipped if starters else []
    if as_json:
        terminal.document([_document(case) for case in found[:limit]])
        return
    if found:
        print_cases(terminal, found[:limit])
    else:
        terminal.out("Nothing is remembered yet." if told else "No lesson is like that.")
    if len(found) > limit:
        terminal.err(f"{len(found) - limit} more; see them with --limit {len(found)}.")
    if shipped and not starters:
        terminal.err(f"{count_of(len(shipped))} shipped and not tried here; see them with --starters.")


def search(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it was about.", show_default=False)],
    cause: CauseOption = None,
    repository: Annotated[
        str | None, typer.Option("--repository", metavar="PATH", help="As a run of that repository would be told.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Find the lessons that fit a text, the most fitting first."""
    from caravan.values.failure import Diagnosis

    terminal, wanted = terminal_of(ctx), cause_of(cause)
    diagnosis = Diagnosis(failure=wanted, confidence=1.0, cause=text) if wanted else None
    known: dict[str, Json] = {}
    if repository:
        known["repository"] = repository_digests(wiring_of(ctx), repository)[-1]
    with opened(wiring_of(ctx)) as memory:
        cases = memory.recall(text=_text(text), diagnosis=diagnosis, context=known, limit=limit)
    if as_json:
        terminal.document([_document(case) for case in cases])
    elif not cases:
        terminal.out("No lesson is like that.")
    else:
        print_cases(terminal, cases, why=True)


def add(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to remember.", show_default=False)],
    cause: CauseOption = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="What to change in a plan; repeatable."),
    ] = None,
    worked: OutcomeOption = None,
    run: Annotated[
        str | None, typer.Option("--for", metavar="RUN", help="For trainings like this run's: its code and model.")
    ] = None,
    scope: ScopeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a lesson down."""
    from caravan.planning.answers import parse_set
    from caravan.values.failure import Lesson, Scope

    wiring, terminal, speaks = wiring_of(ctx), terminal_of(ctx), _scope(scope) or Scope.TENANT
    context = _context(wiring, run) if run else {}
    if speaks is Scope.REPOSITORY and not context.get("repository"):
        raise UsageError("Which repository does it speak to?", hint="Name a run of it with --for RUN.")
    lesson = Lesson(
        failure=cause_of(cause),
        text=_text(text),
        context=context,
        changes=_lawful(tuple(parse_set(change) for change in sets or ())),
        worked=worked,
        source="user",
        scope=speaks,
    )
    with opened(wiring, keeps=True) as memory:
        case_id = memory.remember(lesson)
    if as_json:
        terminal.document({"id": case_id})
    else:
        terminal.out(f"Lesson {case_id[:ID]} is remembered.")


def export(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="File to write; without it, stdout.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write all lessons as JSON lines."""
    import json

    terminal, to_file = terminal_of(ctx), file not in (None, "-")
    if to_file:
        _check_file(file or "")
    with opened(wiring_of(ctx)) as memory:
        records = memory.export()
        if to_file:
            memory.note_export(Path(file or "").absolute())  # before it is there: no copy is missed
    if not to_file:
        if as_json:
            terminal.document(list(records))
        for record in () if as_json else records:
            terminal.out(json.dumps(record, sort_keys=True))
        return
    _write(file or "", "".join(f"{json.dumps(record, sort_keys=True)}\n" for record in records))
    if as_json:
        terminal.document({"file": file, "lessons": len(records)})
    else:
        terminal.out(f"{count_of(len(records))} written to {one_line(file)}.")


def import_lessons(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="What `memory export` wrote; - is stdin.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> int:
    """Take in lessons from a file of JSON lines.

    Twice is once. Lessons change what plans do: take only those that you trust."""
    from caravan.terminal.memory_files import numbered_lines, take_in

    terminal = terminal_of(ctx)
    with numbered_lines(file, terminal.stdin) as lines, opened(wiring_of(ctx)) as memory:
        taken = take_in(lines, memory)
    if taken.refused and not taken.new + taken.merged:
        number, why = taken.refused[0]
        raise UsageError(
            f"{one_line(file)} holds no lessons: {len(taken.refused)} refused, line {number}: {one_line(why)}",
            hint="" if "memory export" in why else "`memory export` writes them.",
        )
    if as_json:
        terminal.document(
            {
                "new": taken.new,
                "merged": taken.merged,
                "refused": [{"line": number, "why": why} for number, why in taken.refused],
            }
        )
    else:
        for number, why in taken.refused[:_SHOWN]:
            terminal.err(f"Line {number}: {one_line(why)}")
        more = len(taken.refused) - _SHOWN
        if more > 0:
            terminal.err(f"{more} more lines were refused.")
        terminal.out(f"{taken.new} new, {taken.merged} merged, {len(taken.refused)} refused.")
    return 2 if taken.refused else 0


_SHOWN = 20  # refused lines that are named one by one


def _scope(name: str | None) -> Scope | None:
    from caravan.values.failure import Scope

    if name is None:
        return None
    try:
        return Scope(name.strip().lower())
    except ValueError:
        raise UsageError(f"There is no scope {one_line(name, 60)!r}.", hint="tenant or repository.") from None


def _lawful(changes: tuple[PlanChange, ...]) -> tuple[PlanChange, ...]:
    """The changes, where a lesson may speak of their fields. Raises UsageError."""
    from caravan.values.lesson_fields import never

    for change in changes:
        if never(change.path):
            raise UsageError(
                f"No lesson may set {one_line(change.path, 60)}.",
                hint="Where a job runs, as whom and what it reaches is each run's own: say it with --set there.",
            )
    return changes


def _text(text: str) -> str:
    if not text.strip():
        raise UsageError("The text is empty.", hint="Say it in a sentence.")
    return text.strip()


def _context(wiring: Wiring, run: str) -> dict[str, Json]:
    """By what a run's training is known again."""
    from caravan.agent.lessons import case_context

    record = wiring.store().run(run)
    state = wiring.standing(record.id).state
    if state is None or state.profile is None:
        raise UsageError(f"Run {record.id} has not read its repository yet.", hint="Name a run that has a plan.")
    return case_context(state)


def _document(case: PastCase) -> dict[str, Json]:
    document: dict[str, Json] = case.model_dump(mode="json")
    return document


def _check_file(file: str) -> None:
    if Path(file).is_dir():
        raise UsageError(f"{one_line(file)} is a directory.", hint="Name a file.")
    folder = Path(file).parent
    if not folder.is_dir():
        raise UsageError(f"There is no folder {one_line(folder)}.", hint="Make it first, or name another.")


def _write(file: str, text: str) -> None:
    from caravan.runs.files import write_file

    path = Path(file)
    try:
        write_file(path, text.encode("ascii"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{one_line(file)} can't be written ({reason}).", hint="Name another file.") from error
