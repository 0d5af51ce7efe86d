"""`memory`: look at the lessons of earlier runs, write one down, forget some, take them to another machine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import joined, one_line, words
from caravan.values.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from caravan.ports import Memory
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.failure import FailureClass, PastCase
    from caravan.values.plan import PlanChange

CauseOption = Annotated[
    str | None, typer.Option("--class", metavar="CLASS", help="Cause of failure, such as host_memory_oom.")
]
OutcomeOption = Annotated[bool | None, typer.Option("--worked/--failed", help="Whether the change helped.")]

_EVERYTHING = 100_000
_AGENT_LEAVES_S = 10.0
_LOOK_S = 0.2
_ID = 8  # characters of an id that are shown; any beginning that is one lesson's alone will do
_TEXT = 200  # characters of a lesson's text in a table


@contextmanager
def _opened(wiring: Wiring) -> Iterator[Memory]:
    """The memory, once an agent that was just told to stop has let go of it. Raises ServiceError if it does not."""
    with wiring.memory() as memory:
        until = wiring.clock.monotonic() + _AGENT_LEAVES_S
        while True:
            try:
                memory.all(limit=1)
                break
            except ServiceError as error:
                if "in use by another process" not in error.message or wiring.clock.monotonic() >= until:
                    raise
                wiring.clock.sleep(_LOOK_S)
        yield memory


def list_lessons(
    ctx: typer.Context,
    cause: CauseOption = None,
    worked: OutcomeOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the lessons, the last seen first."""
    terminal, wanted = terminal_of(ctx), _cause(cause)
    with _opened(wiring_of(ctx)) as memory:
        cases = memory.all(limit=_EVERYTHING)
    found = [c for c in cases if wanted in (None, c.failure) and worked in (None, c.worked)]
    if as_json:
        terminal.document([_document(case) for case in found[:limit]])
    elif not found:
        terminal.out("Nothing is remembered yet." if not cases else "No lesson is like that.")
    else:
        _print(terminal, found[:limit])
        if len(found) > limit:
            terminal.err(f"{len(found) - limit} more; see them with --limit {len(found)}.")


def search(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it was about.", show_default=False)],
    cause: CauseOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Find the lessons that fit a text, the most fitting first."""
    from caravan.values.failure import Diagnosis

    terminal, wanted = terminal_of(ctx), _cause(cause)
    diagnosis = Diagnosis(failure=wanted, confidence=1.0, cause=text) if wanted else None
    with _opened(wiring_of(ctx)) as memory:
        cases = memory.recall(text=_text(text), diagnosis=diagnosis, context={}, limit=limit)
    if as_json:
        terminal.document([_document(case) for case in cases])
    elif not cases:
        terminal.out("No lesson is like that.")
    else:
        _print(terminal, cases, why=True)


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
    as_json: JsonOption = False,
) -> None:
    """Write a lesson down."""
    from caravan.planning.answers import parse_set
    from caravan.values.failure import Lesson

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    lesson = Lesson(
        failure=_cause(cause),
        text=_text(text),
        context=_context(wiring, run) if run else {},
        changes=tuple(parse_set(change) for change in sets or ()),
        worked=worked,
        source="user",
    )
    with _opened(wiring) as memory:
        case_id = memory.remember(lesson)
    if as_json:
        terminal.document({"id": case_id})
    else:
        terminal.out(f"Lesson {case_id[:_ID]} is remembered.")


def forget(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Lessons, by the beginning of their ids.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget all lessons.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget lessons for good."""
    terminal = terminal_of(ctx)
    if bool(ids) == everything:
        raise UsageError("Say which lessons to forget:", hint="their ids (`memory list` shows them), or --all.")
    with _opened(wiring_of(ctx)) as memory:
        cases = memory.all(limit=_EVERYTHING)
        named = {case.id: case for case in (_case(cases, given) for given in ids or ())}
        chosen = cases if everything else tuple(named.values())
        if everything and not _may_forget(terminal, len(chosen), yes=yes):
            terminal.err("Nothing was forgotten.")
            chosen = ()
        gone = [case.id for case in chosen if memory.forget(case.id)]
    if as_json:
        terminal.document({"forgotten": gone})
    elif chosen:
        terminal.out(f"{_count(len(gone))} forgotten.")
    elif everything and not cases:
        terminal.out("Nothing is remembered yet.")


def export(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="File to write; without it, stdout.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write all lessons as JSON lines."""
    import json

    terminal = terminal_of(ctx)
    with _opened(wiring_of(ctx)) as memory:
        records = memory.export()
    if file in (None, "-"):
        if as_json:
            terminal.document(list(records))
        for record in () if as_json else records:
            terminal.out(json.dumps(record, sort_keys=True))
        return
    _write(file or "", "".join(f"{json.dumps(record, sort_keys=True)}\n" for record in records))
    if as_json:
        terminal.document({"file": file, "lessons": len(records)})
    else:
        terminal.out(f"{_count(len(records))} written to {one_line(file)}.")


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
    with numbered_lines(file, terminal.stdin) as lines, _opened(wiring_of(ctx)) as memory:
        taken = take_in(lines, memory)
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


def _cause(name: str | None) -> FailureClass | None:
    import difflib

    from caravan.values.failure import FailureClass

    if name is None:
        return None
    known = [str(cause) for cause in FailureClass]
    wanted = name.strip().lower().replace("-", "_").replace(" ", "_")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
        raise UsageError(
            f"There is no cause {one_line(name, 60)!r}.",
            hint=f"Did you mean {' or '.join(near)}?" if near else "For example host_memory_oom.",
        )
    return FailureClass(wanted)


def _text(text: str) -> str:
    if not text.strip():
        raise UsageError("The text is empty.", hint="Say it in a sentence.")
    return text.strip()


def _context(wiring: Wiring, run: str) -> dict[str, Json]:
    """By what a run's training is known again."""
    from caravan.agent.lessons import case_context

    record = wiring.store().run(run)
    with wiring.driver() as driver:
        state = driver.state(record.id)
    if state is None or state.profile is None:
        raise UsageError(f"Run {record.id} has not read its repository yet.", hint="Name a run that has a plan.")
    return case_context(state)


def _case(cases: Iterable[PastCase], given: str) -> PastCase:
    found = [case for case in cases if given.strip() and case.id.startswith(given.strip().lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"There is no lesson {one_line(given, 60)!r}.", hint="`memory list` shows them.")
    several = ", ".join(case.id[: max(_ID, len(given) + 2)] for case in found[:5])
    raise UsageError(
        f"{one_line(given, 60)!r} is the beginning of several lessons: {several}.", hint="Give more of it."
    )


def _may_forget(terminal: Terminal, count: int, *, yes: bool) -> bool:
    from caravan.terminal.dialogue import confirm

    if yes or not count:
        return True
    if not terminal.interactive:
        raise UsageError("Nobody can be asked whether to forget everything.", hint="Say so with --yes.")
    try:
        return confirm(terminal, f"Forget {_count(count)} for good?")
    except EOFError:
        terminal.err()
        return False


def _count(number: int) -> str:
    return f"{number} lesson{'' if number == 1 else 's'}"


def _document(case: PastCase) -> dict[str, Json]:
    document: dict[str, Json] = case.model_dump(mode="json")
    return document


def _print(terminal: Terminal, cases: Sequence[PastCase], *, why: bool = False) -> None:
    from caravan.terminal.console import cell, draw, listing

    table = listing("lesson", "cause", "what", "worked", "seen")
    for case in cases:
        table.add_row(
            cell(case.id[:_ID]),
            cell(case.failure.replace("_", " ") if case.failure else "-"),
            cell("\n".join(_what(case, why=why))),
            cell(_record(case)),
            f"{case.last_seen:%Y-%m-%d}" if case.last_seen else "-",
        )
    for column in (0, 3, 4):
        table.columns[column].no_wrap = True
    table.columns[1].max_width = 15
    draw(terminal.stdout, table)


def _what(case: PastCase, *, why: bool) -> Iterable[str]:
    """What was changed, from what to what; the text where nothing was, or where somebody wrote it down; whose it is."""
    for change in case.changes:
        yield _changed(case, change)
    if not case.changes or case.source == "user":
        yield one_line(case.text, _TEXT)
    if case.source and case.source != "user":
        program = case.context.get("entry_point")
        yield one_line(f"from run {case.source.partition('/')[0]}{f', {program}' if program else ''}", 60)
    if why:
        yield f"({one_line(case.why, _TEXT)})"


def _changed(case: PastCase, change: PlanChange) -> str:
    before = f"{one_line(words(case.before[change.path]), 40)} → " if change.path in case.before else ""
    return f"{one_line(change.path)} {before}{one_line(words(change.value), 60)}"


def _record(case: PastCase) -> str:
    told = case.succeeded + case.failed
    return joined([f"{case.succeeded} of {told}" if told else "-"])


def _write(file: str, text: str) -> None:
    from pathlib import Path

    from caravan.runs.files import write_file

    path = Path(file)
    try:
        if path.is_dir():
            raise UsageError(f"{one_line(file)} is a directory.", hint="Name a file.")
        write_file(path, text.encode("ascii"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{one_line(file)} can't be written ({reason}).", hint="Name another file.") from error
