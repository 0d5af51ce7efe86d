"""Ranking: structure before likeness, decay with age, and a reason for every case."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from caravan.lessons import Candidate, Sought, StoredLesson, rank
from caravan.lessons.records import Vote
from caravan.values.failure import FailureClass, Lesson

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OOM, DISK = FailureClass.HOST_MEMORY_OOM, FailureClass.DISK_FULL


def candidate(
    case_id: str,
    failure: FailureClass | None = OOM,
    fingerprint: str = "f",
    *,
    similarity: float | None = 0.5,
    days: float = 0,
    context: dict[str, str] | None = None,
    worked: int = 0,
    failed: int = 0,
    source: str = "run",
) -> Candidate:
    seen = NOW - timedelta(days=days)
    stored = StoredLesson(
        lesson=Lesson(failure=failure, fingerprint=fingerprint, text="t", context=context or {}),
        times=max(worked + failed, 1),
        worked=worked,
        failed=failed,
        first_seen=seen,
        last_seen=seen,
        votes=(Vote(source=source),),
    )
    return Candidate(id=case_id, stored=stored, similarity=similarity)


def ids(candidates: list[Candidate], sought: Sought, limit: int = 5) -> list[str]:
    return [case.id for case in rank(candidates, sought, NOW, limit=limit)]


@given(
    st.floats(-1, 1),
    st.floats(-1, 1),
    st.floats(0, 5000),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_no_age_record_or_likeness_lifts_a_case_over_a_better_structure(
    worse: float, better: float, days: float, worked: int, failed: int
) -> None:
    cases = [
        candidate("likeness", DISK, "g", similarity=better, worked=50),
        candidate("cause", OOM, "g", similarity=better, worked=50),
        candidate("shape", OOM, "f", similarity=worse, days=days, worked=worked, failed=failed),
    ]
    ranked = rank(cases, Sought(failure=OOM, fingerprint="f"), NOW)
    assert [c.id for c in ranked][:2] == ["shape", "cause"]
    assert all(0 <= c.score <= 1 for c in ranked)
    assert all(c.why for c in ranked)


def test_age_weakens_within_a_tier_and_what_people_wrote_does_not_age() -> None:
    sought = Sought(failure=OOM, fingerprint="f")
    assert ids([candidate("old", days=400), candidate("new")], sought) == ["new", "old"]
    old, fresh = (rank([candidate("x", days=d, source="user")], sought, NOW)[0] for d in (400, 0))
    assert old.score == fresh.score
    assert "last seen 400 days ago" in old.why


def test_what_worked_comes_before_what_failed() -> None:
    assert ids([candidate("failed", failed=3), candidate("worked", worked=3)], Sought(failure=OOM)) == [
        "worked",
        "failed",
    ]


def test_two_unknown_failures_are_alike_only_by_their_fingerprint() -> None:
    unknown = FailureClass.UNKNOWN
    cases = [candidate("other", unknown, "g", similarity=None), candidate("same", unknown, "f", similarity=None)]
    assert ids(cases, Sought(failure=unknown, fingerprint="f")) == ["same"]


def test_before_a_failure_the_whole_context_comes_before_a_part_of_it() -> None:
    cases = [
        candidate("part", context={"framework": "jax", "method": "lora"}),
        candidate("whole", context={"framework": "pytorch", "method": "lora"}, similarity=0.1),
        candidate("none", context={}, similarity=0.9),
        candidate("strange", context={}, similarity=-0.2),
    ]
    assert ids(cases, Sought(context={"framework": "PyTorch", "method": "lora"})) == ["whole", "part", "none"]


def test_a_case_found_twice_is_told_once() -> None:
    assert ids([candidate("a"), candidate("a")], Sought(failure=OOM)) == ["a"]
