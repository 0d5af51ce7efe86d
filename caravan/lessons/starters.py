"""The lessons that are shipped: general knowledge of libraries and systems that the rules' own ladders don't have.

`starters.jsonl` has a lesson a line: `says` are lines of logs as the libraries print them, with the cause, the
fingerprint and what each names as the rules read them (`bench/starters.py --write` reads them anew); `context` what it
is bound to, `changes` and `before` by plan path, `holds` the versions for which it holds, `why` its reason. They begin
with little standing: one failure in a run of the tenant's own, and it is not followed any more.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

from caravan.lessons.records import STARTER
from caravan.values.failure import FailureClass, Lesson
from caravan.values.plan import Author, PlanChange

FILE: Final = "starters.jsonl"


def starters() -> tuple[Lesson, ...]:
    """The shipped lessons, one for each wording that is known of a failure; of equal ones the first."""
    found: dict[str, Lesson] = {}
    for line in files("caravan.lessons").joinpath(FILE).read_text(encoding="utf-8").splitlines():
        for lesson in _lessons(json.loads(line)):
            found.setdefault(f"{lesson.fingerprint} {lesson.context.get('holds')} {lesson.changes}", lesson)
    return tuple(found.values())


def _lessons(row: dict[str, Any]) -> Iterator[Lesson]:
    changes = tuple(
        PlanChange(path=path, value=value, by=Author.MEMORY, why=row["why"]) for path, value in row["changes"].items()
    )
    holds = {"holds": row["holds"]} if row["holds"] else {}
    for read in row["read"]:
        yield Lesson(
            failure=FailureClass(read["failure"]),
            fingerprint=read["fingerprint"],
            text=f"{read['says']} Known: {row['why']}.",
            context={**row["context"], **read["context"], **holds},
            changes=changes,
            before=row["before"],
            worked=True,
            source=STARTER,
        )
