"""Lessons as a table: what was changed, how it went, whose it is and whom it speaks to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from caravan.terminal.memory_store import ID
from caravan.terminal.text import one_line, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caravan.terminal.streams import Terminal
    from caravan.values.failure import PastCase
    from caravan.values.plan import PlanChange

STARTER: Final = "starter"
"""The source of lessons that are shipped."""
IMPORTED: Final = "imported:"
"""What stands before the source of a lesson whose last word came from another memory."""
_TEXT: Final = 200  # characters of a lesson's text in a table


def print_cases(terminal: Terminal, cases: Sequence[PastCase], *, why: bool = False) -> None:
    """The lessons as a table. `why`: also what recalled them."""
    from caravan.terminal.console import cell, draw, listing

    table = listing("lesson", "cause", "what", "worked", "seen")
    for case in cases:
        table.add_row(
            cell(case.id[:ID]),
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
        yield changed_of(case, change)
    if not case.changes or case.source in ("user", f"{IMPORTED}user", STARTER):
        yield one_line(case.text, _TEXT)
    whose = ", ".join(filter(None, (source_of(case), _alone(case))))
    if whose:
        yield one_line(whose, 80)
    if why:
        yield f"({one_line(case.why, _TEXT)})"


def source_of(case: PastCase) -> str:
    """Who told it last; empty for a note, whose words stand there."""
    if case.source in ("", "user"):
        return ""
    if case.source == STARTER:
        return "a starter lesson"
    program, run = case.context.get("entry_point"), case.source.partition("/")[0]
    whose = f"imported, from run {run[len(IMPORTED) :]}" if run.startswith(IMPORTED) else f"from run {run}"
    whose = "imported, noted by a person" if run == f"{IMPORTED}user" else whose
    return f"{whose}{f', {program}' if program else ''}"


def _alone(case: PastCase) -> str:
    return "for its repository alone" if case.scope == "repository" else ""


def changed_of(case: PastCase, change: PlanChange) -> str:
    """A change from what to what, as one line."""
    before = f"{one_line(words(case.before[change.path]), 40)} → " if change.path in case.before else ""
    return f"{one_line(change.path)} {before}{one_line(words(change.value), 60)}"


def _record(case: PastCase) -> str:
    told = case.succeeded + case.failed if case.source != STARTER else 0  # nobody here has tried it
    return f"{case.succeeded} of {told}" if told else "-"


def count_of(number: int) -> str:
    """So many lessons, in words."""
    return f"{number} lesson{'' if number == 1 else 's'}"
