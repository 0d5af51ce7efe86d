"""Exported records: they come back as they were, equal ones merge without counting twice, nothing else is taken."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.lessons import StoredLesson, first, from_record, lesson_key, merge, merge_stored, prepared, to_record
from caravan.values.errors import UsageError
from caravan.values.failure import FailureClass, Lesson
from caravan.values.plan import Author, PlanChange

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VOTES = st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.booleans()), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def told(votes: list[tuple[str, bool | None]], *, days: int = 0) -> StoredLesson:
    """What is stored after these sources spoke, one after the other."""
    (source, worked), *rest = votes
    now = NOW + timedelta(days=days)
    stored = first(Lesson(text="x", source=source, worked=worked), now)
    for source, worked in rest:
        stored = merge(stored, Lesson(text="x", source=source, worked=worked), now)
    return stored


def counts(stored: StoredLesson) -> tuple[int, int, int]:
    return stored.times, stored.worked, stored.failed


@given(VOTES, JSON, st.sampled_from(FailureClass), st.text(max_size=50))
def test_a_record_comes_back_as_it_was(
    votes: list[tuple[str, bool | None]], value: object, failure: FailureClass, text: str
) -> None:
    changes = (PlanChange(path="training.options.--x", value=value, by=Author.REPAIR),)
    lesson = prepared(Lesson(failure=failure, text=text, changes=changes, before={"training.options.--x": value}))
    stored = told(votes).model_copy(update={"lesson": lesson})
    record = json.loads(json.dumps(to_record(stored)))
    again = from_record(record, now=NOW)
    assert to_record(again) == record
    assert again.model_copy(update={"votes": (), "elsewhere_worked": 0, "elsewhere_failed": 0}) == stored.model_copy(
        update={"votes": ()}
    )
    assert again.own() == (0, 0)
    assert abs(again.standing()) <= 1
    assert lesson_key(again.lesson) == lesson_key(lesson)


@given(VOTES, VOTES, st.integers(min_value=-3, max_value=3))
def test_merging_a_record_twice_is_merging_it_once(
    here: list[tuple[str, bool | None]], there: list[tuple[str, bool | None]], days: int
) -> None:
    mine, other = told(here), told(there, days=days)
    once = merge_stored(mine, other)
    assert merge_stored(once, other) == once
    assert merge_stored(once, mine).times == once.times
    assert once.times == len({s for s, _ in here} | {s for s, _ in there})
    assert once.worked + once.failed <= once.times


@given(VOTES, VOTES)
def test_it_does_not_matter_which_was_here_first(
    here: list[tuple[str, bool | None]], there: list[tuple[str, bool | None]]
) -> None:
    mine, other = told(here), told(there, days=1)
    assert merge_stored(mine, other) == merge_stored(other, mine)


@given(VOTES, VOTES)
def test_what_own_runs_said_stays_theirs(
    here: list[tuple[str, bool | None]], there: list[tuple[str, bool | None]]
) -> None:
    """An export that comes back takes nothing from the standing, and what others say gives at most one."""
    mine, now = told(here), NOW + timedelta(days=2)
    assert merge_stored(mine, from_record(to_record(mine), now=now)).own() == mine.own()
    other = from_record(to_record(told([(f"other-{s}", w) for s, w in there], days=1)), now=now)
    both = merge_stored(mine, other)
    assert both.own() == mine.own()
    assert abs(both.standing() - mine.standing()) <= 1


def test_a_record_of_the_first_version_is_read() -> None:
    record = to_record(told([("a", True), ("b", True), ("c", False)]))
    assert record["version"] == 2
    votes = [{k: v for k, v in vote.items() if k in ("source", "worked")} for vote in record["votes"]]
    lesson = {k: v for k, v in record["lesson"].items() if k != "scope"}
    first_version = {
        **{k: v for k, v in record.items() if k not in ("elsewhere_worked", "elsewhere_failed")},
        **{"version": 1, "votes": votes, "lesson": lesson},
    }
    read = from_record(first_version, now=NOW)
    assert counts(read) == (3, 2, 1)
    assert read.standing() == 1
    assert merge_stored(read, read) == read


@given(st.integers(min_value=60, max_value=90), st.integers(min_value=60, max_value=90), st.integers(0, 40))
def test_many_sources_are_not_counted_twice_either(here: int, there: int, shared: int) -> None:
    """A record names only its latest sources: then the larger tally stands, and repeating changes nothing."""
    mine = told([(f"run-{n}", True) for n in range(here)])
    other = told([(f"run-{n}", True) for n in range(here - shared, here - shared + there)], days=1)
    once = merge_stored(mine, other)
    assert once.times >= max(here, there)
    assert once.times <= here + there - shared
    again = merge_stored(once, other)
    assert counts(again) == counts(once)
    assert to_record(from_record(to_record(once), now=NOW + timedelta(days=2))) == to_record(once)


@given(JSON)
def test_anything_else_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(UsageError) as caught:
        from_record(value, now=NOW)
    assert "\n" not in caught.value.line()


@given(st.sampled_from(["lesson", "times", "worked", "votes", "first_seen", "extra"]), JSON)
def test_a_record_with_something_odd_in_it_is_taken_or_refused(name: str, value: object) -> None:
    record = to_record(told([("a", True), ("b", False)])) | {name: value}
    try:
        stored = from_record(record, now=NOW)
    except UsageError:
        return
    assert stored.worked + stored.failed <= stored.times


def test_a_huge_record_is_refused() -> None:
    change = PlanChange(path="env.X", value="y" * 300_000, by=Author.REPAIR)
    with pytest.raises(UsageError, match="longer than"):
        from_record(to_record(first(Lesson(text="x", changes=(change,)), NOW)), now=NOW)


def test_what_is_masked_stays_as_it_is() -> None:
    change = PlanChange(path="env.HF_TOKEN", value="abcdef123456", by=Author.USER)
    lesson = Lesson(text="hf_abcdefghijklmnopqrstuv", changes=(change,), before={"env.HF_TOKEN": "ghijkl123456"})
    once = prepared(lesson)
    assert "123456" not in once.model_dump_json()
    assert prepared(once) == once
    assert lesson_key(prepared(once)) == lesson_key(once)


def test_a_fingerprint_is_no_secret_whatever_its_cause_is_called() -> None:
    cause = FailureClass.TEMPLATE_SECRET_UNAVAILABLE
    lesson = prepared(Lesson(failure=cause, text="0"))
    assert lesson.fingerprint.startswith(f"{cause}:")
    assert "masked" not in lesson.fingerprint
    assert prepared(lesson) == lesson
    odd = prepared(Lesson(failure=cause, text="0", fingerprint=f"{cause}:hunter2hunter2"))
    assert "hunter2" not in odd.fingerprint


def test_a_file_does_not_overturn_what_own_runs_found() -> None:
    mine = told([("run-1/1", True), ("run-2/1", False)])
    forged = told([("run-1/1", False), ("run-2/1", True), ("user", True), ("far/1", True)], days=1)
    both = merge_stored(mine, from_record(to_record(forged), now=NOW + timedelta(days=2)))
    assert both.own() == mine.own() == (1, 1)
    assert {(v.source, v.worked, v.elsewhere) for v in both.votes} == {
        ("run-1/1", True, False),
        ("run-2/1", False, False),
        ("imported:user", True, True),
        ("imported:far/1", True, True),
    }
    assert both.standing() == mine.standing() + 1


def test_whose_a_lesson_is_does_not_follow_from_the_names_in_a_file() -> None:
    told_there = from_record(to_record(told([("run-1/1", True), ("user", True)])), now=NOW)
    assert not told_there.taught_here()
    assert not told([("user", True)]).taught_here()
    assert not told([("run-1/1", None)]).taught_here()
    mine = told([("run-1/1", True)])
    assert mine.taught_here()
    later = from_record(to_record(told([("far/1", True)], days=1)), now=NOW + timedelta(days=2))
    assert merge_stored(mine, later).taught_here()  # whoever spoke last


def test_what_a_run_says_here_stands_over_what_a_record_says_that_it_said() -> None:
    read = from_record(to_record(told([("run-1/1", True), ("run-2/1", True)])), now=NOW)
    same = merge(read, Lesson(text="x", source="run-1/1", worked=True), NOW)
    other = merge(same, Lesson(text="x", source="run-2/1", worked=False), NOW)
    assert (counts(same), same.own(), same.taught_here()) == ((2, 2, 0), (1, 0), True)
    assert (counts(other), other.own()) == ((2, 1, 1), (1, 1))
    assert merge(other, Lesson(text="x", source="run-2/1"), NOW) is other


def test_a_record_that_goes_round_names_its_sources_as_at_home() -> None:
    mine = told([("run-1/1", True)])
    there = from_record(to_record(mine), now=NOW)
    assert [v.source for v in from_record(to_record(there), now=NOW).votes] == ["imported:run-1/1"]
    assert merge_stored(mine, from_record(to_record(there), now=NOW)) == mine
