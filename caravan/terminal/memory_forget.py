"""`memory forget`: lessons for good, by their ids, their cause, their repository, or all; where copies are is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from caravan.terminal.memory_store import EVERYTHING, ID, case_of, cause_of, opened, repository_digests
from caravan.terminal.memory_table import changed_of, count_of
from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from caravan.ports import Memory
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json
    from caravan.values.failure import Exported, PastCase

_SHOWN: Final = 10  # forgotten lessons, and files that hold copies, that are told one by one


def forget(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Lessons, by the beginning of their ids.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget all lessons.")] = False,
    cause: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="Those against that cause of failure.")
    ] = None,
    repository: Annotated[
        str | None, typer.Option("--repository", metavar="PATH", help="Those of that repository.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget lessons for good, and say which exports still hold them."""
    terminal, chosen_by = terminal_of(ctx), cause is not None or repository is not None
    if sum((bool(ids), everything, chosen_by)) != 1:
        raise UsageError(
            "Say which lessons to forget:", hint="their ids (`memory list` shows them), --class, --repository or --all."
        )
    wanted = cause_of(cause)
    places = repository_digests(wiring_of(ctx), repository) if repository is not None else None
    with opened(wiring_of(ctx)) as memory:
        known = memory.all(limit=EVERYTHING)
        chosen = tuple({case.id: case for case in (case_of(known, given) for given in ids or ())}.values())
        if not ids:
            of_place = [c for c in known if places is None or c.context.get("repository") in places]
            chosen = tuple(c for c in of_place if wanted in (None, c.failure))
            if not _may_forget(terminal, len(chosen), yes=yes):
                terminal.err("Nothing was forgotten.")
                return _tell(terminal, (), {}, as_json=as_json, nothing="")
        copies = _copies(memory, chosen)
        gone = [case for case in chosen if memory.forget(case.id)]
    nothing = "Nothing is remembered yet." if not known else "No lesson is like that."
    return _tell(terminal, gone, copies, as_json=as_json, nothing=nothing)


def _copies(memory: Memory, cases: Sequence[PastCase]) -> dict[str, tuple[Exported, list[str]]]:
    """The files to which they were exported: path → the note of it, and the ids that it holds."""
    found: dict[str, tuple[Exported, list[str]]] = {}
    for case in cases:
        for export in memory.exports_of(case.id):
            found.setdefault(export.path, (export, []))[1].append(case.id)
    return found


def _tell(
    terminal: Terminal,
    gone: Sequence[PastCase],
    copies: dict[str, tuple[Exported, list[str]]],
    *,
    as_json: bool,
    nothing: str,
) -> None:
    """What was removed, and the files that still hold it: those that are there, and those that may be elsewhere."""
    if as_json:
        exports: list[Json] = [
            {"file": path, "at": export.at.isoformat(), "there": export.there, "lessons": list(ids)}
            for path, (export, ids) in copies.items()
        ]
        terminal.document({"forgotten": [case.id for case in gone], "exports": exports})
        return
    if not gone:
        if nothing:
            terminal.out(nothing)
        return
    for case in gone[:_SHOWN]:
        terminal.out(f"{case.id[:ID]}  {_said(case)}")
    if len(gone) > _SHOWN:
        terminal.out(f"and {len(gone) - _SHOWN} more")
    terminal.out(f"{count_of(len(gone))} forgotten.")
    _tell_copies(terminal, copies.values())


def _tell_copies(terminal: Terminal, copies: Collection[tuple[Exported, list[str]]]) -> None:
    for export, ids in list(copies)[:_SHOWN]:
        still = "still holds" if export.there else "is not there any more; wherever it went, it holds"
        terminal.out(f"{one_line(export.path)} (exported {export.at:%Y-%m-%d}) {still} {count_of(len(ids))} of these.")
    if len(copies) > _SHOWN:
        terminal.out(f"{len(copies) - _SHOWN} more files: --json names them all.")


def _said(case: PastCase) -> str:
    cause = case.failure.replace("_", " ") if case.failure else ""
    told = changed_of(case, case.changes[0]) if case.changes else case.text
    return one_line(": ".join(part for part in (cause, told) if part), 100)


def _may_forget(terminal: Terminal, count: int, *, yes: bool) -> bool:
    from caravan.terminal.dialogue import confirm

    if yes or not count:
        return True
    if not terminal.interactive:
        raise UsageError(f"Nobody can be asked whether to forget {count_of(count)}.", hint="Say so with --yes.")
    return confirm(terminal, f"Forget {count_of(count)} for good?")
