"""Starter lessons: true to the rules' reading, valid plan changes, of use beside the ladders, with little standing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.starters import FILE, PLAN, anyway, as_read, read
from caravan.lessons import Candidate, Sought, first, lesson_key, prepared, rank
from caravan.lessons.starters import starters
from caravan.values.lesson_fields import MAY, never
from caravan.values.plan import apply_changes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = [json.loads(line) for line in Path(FILE).read_text(encoding="utf-8").splitlines()]


def test_the_file_says_what_the_rules_read() -> None:
    """`python bench/starters.py --write` reads them anew."""
    assert [row["read"] for row in ROWS] == [as_read(row) for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=[str(row["says"][0])[:40] for row in ROWS])
def test_a_starter_changes_real_fields_and_more_than_the_rules_would(row: dict[str, object]) -> None:
    assert row["why"]
    assert not any(anyway(row, line) for line in row["says"])  # type: ignore[attr-defined]
    for path in row["changes"]:  # type: ignore[attr-defined]
        assert path.startswith(MAY)
        assert not never(path)


def test_each_is_a_lesson_of_its_own_that_may_be_stored() -> None:
    lessons = [prepared(lesson) for lesson in starters()]
    assert len({lesson_key(lesson) for lesson in lessons}) == len(lessons) >= 80
    for lesson in lessons:
        changed = apply_changes(PLAN, lesson.changes)
        assert changed.digest() != PLAN.digest()
        stored = first(lesson, NOW)
        assert (stored.own(), stored.standing()) == ((0, 0), 1)


def test_torchvision_follows_torch_and_is_left_alone_where_torch_is_not_known() -> None:
    candidates = [Candidate(id=str(n), stored=first(lesson, NOW)) for n, lesson in enumerate(starters())]
    diagnosis = read("RuntimeError: operator torchvision::nms does not exist")
    for versions, wanted in (({"torch": "2.5.1"}, [["torchvision==0.20.*"]]), ({}, [])):
        sought = Sought(
            failure=diagnosis.failure,
            fingerprint=diagnosis.fingerprint,
            context={"versions": versions, "kind": "abi"},
            text=diagnosis.cause,
        )
        cases = rank(candidates, sought, NOW)
        same = [c for c in cases if c.fingerprint == diagnosis.fingerprint]
        assert [next(x.value for x in c.changes) for c in same if c.worked] == wanted
