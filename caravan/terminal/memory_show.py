"""`memory show`: one lesson whole, with its history: who said what of it, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.memory_store import EVERYTHING, case_of, opened
from caravan.terminal.memory_table import STARTER, changed_of
from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from caravan.values.base import Json
    from caravan.values.failure import Exported, PastCase

_LESSON = ("failure", "fingerprint", "text", "context", "changes", "before", "scope")


def show(
    ctx: typer.Context,
    given: Annotated[str, typer.Argument(metavar="ID", help="The lesson, by the beginning of its id.")],
    as_json: JsonOption = False,
) -> None:
    """Show one lesson whole: what it says, how it fared, who said so and when, and which exports hold it."""
    terminal = terminal_of(ctx)
    with opened(wiring_of(ctx)) as memory:
        case = case_of(memory.all(limit=EVERYTHING), given)
        history, exports = _history(case, memory.export()), memory.exports_of(case.id)
    if as_json:
        files = [export.model_dump(mode="json") for export in exports]
        terminal.document({**case.model_dump(mode="json"), "history": history, "exports": files})
        return
    for line in _lines(case, history, exports):
        terminal.out(line)


def _history(case: PastCase, records: Sequence[dict[str, Json]]) -> list[Json]:
    """What each source said of the lesson, the latest last; empty where no record is this lesson's."""
    told = case.model_dump(mode="json")
    for record in records:
        lesson = record.get("lesson")
        if isinstance(lesson, dict) and all(lesson.get(name) == told[name] for name in _LESSON):
            votes = record.get("votes")
            return list(votes) if isinstance(votes, list) else []
    return []


def _lines(case: PastCase, history: Sequence[Json], exports: Sequence[Exported]) -> Iterator[str]:
    yield f"lesson {case.id}"
    yield f"cause: {case.failure.replace('_', ' ') if case.failure else 'none, it is a note'}"
    yield from (one_line(line, 400) for line in case.text.splitlines())
    for change in case.changes:
        yield f"  {changed_of(case, change)}"
    yield f"standing: {_standing(case)} ({one_line(case.why, 300)})"
    yield f"speaks to: {'its repository alone' if case.scope == 'repository' else 'all runs of this tenant'}"
    for name, value in sorted(case.context.items()):
        if value not in (None, "", [], {}):
            yield f"  {one_line(name, 40)}: {one_line(words(value), 100)}"
    if case.fingerprint:
        yield f"  fingerprint: {one_line(case.fingerprint, 100)}"
    if history:
        yield "said by:"
        yield from (f"  {_said(vote)}" for vote in history if isinstance(vote, dict))
    for export in exports:
        there = "" if export.there else " (not there any more)"
        yield f"exported to {one_line(export.path)} on {export.at:%Y-%m-%d}{there}"


def _standing(case: PastCase) -> str:
    if case.worked is None:
        return "not followed: " + (
            "it failed as often as it worked" if case.failed else "nobody knows whether it works"
        )
    return "followed where it fits" if case.worked else "counts against its change"


def _said(vote: dict[str, Json]) -> str:
    source, worked, at = str(vote.get("source") or ""), vote.get("worked"), str(vote.get("at") or "")
    who = {"user": "a person", STARTER: "shipped", "": "nobody"}.get(source, f"run {source}")
    what = "noted" if worked is None else "worked" if worked else "failed"
    return f"{at[:10] or 'some day'}  {one_line(who, 60)}: {what}"
