"""Equality and merging of lessons, their stored form, and masking."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from caravan.lessons import first, from_metadata, lesson_key, masked, merge, prepared, search_text, to_metadata
from caravan.values.failure import FailureClass, Lesson
from caravan.values.plan import Author, PlanChange

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = st.text(max_size=40)
LESSONS = st.builds(
    Lesson,
    failure=st.none() | st.sampled_from(FailureClass),
    fingerprint=WORDS,
    text=WORDS,
    context=st.dictionaries(
        st.sampled_from(["framework", "method", "gpus", "api_key"]), WORDS | st.integers(), max_size=3
    ),
    changes=st.lists(
        st.builds(PlanChange, path=WORDS, value=WORDS | st.integers() | st.none(), by=st.sampled_from(Author)),
        max_size=2,
    ).map(tuple),
    worked=st.none() | st.booleans(),
    source=st.sampled_from(["", "user", "run-1/1", "run-2/1", "run-3/1"]),
)
VOTES = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.booleans()), min_size=1, max_size=12)


def _merged(votes: list[tuple[str, bool | None]]) -> tuple[int, int, int]:
    (source, worked), *rest = votes
    stored = first(Lesson(text="x", source=source, worked=worked), NOW)
    for source, worked in rest:
        stored = merge(stored, Lesson(text="x", source=source, worked=worked), NOW)
    return stored.times, stored.worked, stored.failed


@given(VOTES)
def test_each_source_counts_once_with_its_last_word(votes: list[tuple[str, bool | None]]) -> None:
    last: dict[str, bool | None] = {}
    for source, worked in votes:
        last[source] = worked if worked is not None else last.get(source)
    said = list(last.values())
    assert _merged(votes) == (len(last), said.count(True), said.count(False))


@given(VOTES)
def test_saying_everything_again_changes_nothing(votes: list[tuple[str, bool | None]]) -> None:
    last = list(dict(votes).items())
    assert _merged(last + last) == _merged(last)


def test_many_sources_keep_their_tally_though_not_their_names() -> None:
    votes = [(f"run-{n}", n % 2 == 0) for n in range(200)]
    assert _merged(list(votes)) == (200, 100, 100)


def test_time_moves_only_when_something_new_is_said() -> None:
    stored = first(Lesson(text="x", source="a", worked=True), NOW)
    later = NOW + timedelta(days=3)
    assert merge(stored, Lesson(text="x", source="a", worked=True), later) is stored
    assert merge(stored, Lesson(text="x", source="b"), later).last_seen == later


@given(LESSONS)
def test_a_lesson_survives_its_stored_form(lesson: Lesson) -> None:
    lesson = prepared(lesson)
    stored = first(lesson, NOW)
    metadata = to_metadata(stored, lesson_key(lesson))
    assert from_metadata(metadata) == stored
    assert prepared(lesson) == lesson  # masking a masked lesson changes nothing
    assert search_text(lesson).strip()
    search_text(lesson).encode("utf-8")


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=20) | st.integers() | st.none(), max_size=3))
def test_a_foreign_record_is_none(metadata: dict[str, object]) -> None:
    assert from_metadata(metadata) is None


def test_who_made_a_change_and_why_does_not_tell_lessons_apart() -> None:
    def key(by: Author, value: int) -> str:
        change = PlanChange(path="resources.memory_mb", value=value, by=by, why=str(by))
        return lesson_key(Lesson(failure=FailureClass.HOST_MEMORY_OOM, text=str(by), changes=(change,)))

    assert key(Author.REPAIR, 4096) == key(Author.USER, 4096)
    assert key(Author.REPAIR, 4096) != key(Author.REPAIR, 8192)


def test_a_telling_name_hides_its_value_wherever_it_stands() -> None:
    document = {"a": [{"path": "env.HF_TOKEN", "value": "s3cr3t-s3cr3t"}], "db_password": "hunter2hunter2", "n": 5}
    assert masked("", document) == {
        "a": [{"path": "env.HF_TOKEN", "value": "[masked]"}],
        "db_password": "[masked]",
        "n": 5,
    }
    assert masked("", "it was swordfish", ["swordfish"]) == "it was [masked]"


def test_a_lesson_without_fingerprint_gets_that_of_its_text() -> None:
    one = prepared(Lesson(failure=FailureClass.DISK_FULL, text="No space left on '/a/b' after 12 s"))
    other = prepared(Lesson(failure=FailureClass.DISK_FULL, text="No space left on '/c' after 999 s"))
    assert one.fingerprint == other.fingerprint != ""


def test_a_repair_proven_through_edits_of_a_repository_is_one_lesson() -> None:
    def taught(number: int, repository: str = "here") -> Lesson:
        return Lesson(
            failure=FailureClass.CLI_ARGS_INVALID,
            fingerprint="f",
            text="An option is not known.",
            context={"repository": repository, "code_digest": f"edit-{number}", "entry_point": "train.py"},
            changes=(PlanChange(path="training.options.packing", value=None, by=Author.REPAIR),),
            worked=True,
            source=f"run-{number}/1",
        )

    assert len({lesson_key(taught(n)) for n in range(5)}) == 1
    assert lesson_key(taught(0)) != lesson_key(taught(0, "elsewhere"))
    stored = first(taught(0), NOW)
    for number in range(1, 5):
        stored = merge(stored, taught(number), NOW)
    assert (stored.times, stored.worked) == (5, 5)
    assert stored.lesson.context["code_digest"] == "edit-4"
    assert stored.lesson.context["codes_seen"] == [f"edit-{n}" for n in range(5)]
