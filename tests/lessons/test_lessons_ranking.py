"""Ranking: structure before likeness, decay with age, and a reason for every case."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from caravan.lessons import Candidate, Sought, StoredLesson, as_case, first, merge, rank
from caravan.lessons.facets import billions, family, generation, gpu_memory
from caravan.lessons.neighbours import NO_CAUSE, near
from caravan.lessons.records import Vote
from caravan.lessons.wording import likeness
from caravan.values.failure import FailureClass, Lesson, Scope
from caravan.values.plan import Author, PlanChange

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CRASH, DISK = FailureClass.NCCL_ERROR, FailureClass.DISK_FULL


def candidate(
    case_id: str,
    failure: FailureClass | None = CRASH,
    fingerprint: str = "f",
    *,
    similarity: float | None = 0.5,
    days: float = 0,
    context: dict[str, Any] | None = None,
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
        candidate("cause", CRASH, "g", similarity=better, worked=50),
        candidate("shape", CRASH, "f", similarity=worse, days=days, worked=worked, failed=failed),
    ]
    ranked = rank(cases, Sought(failure=CRASH, fingerprint="f"), NOW)
    assert [c.id for c in ranked][:2] == ["shape", "cause"]
    assert all(0 <= c.score <= 1 for c in ranked)
    assert all(c.why for c in ranked)


def test_age_weakens_within_a_tier_and_what_people_wrote_does_not_age() -> None:
    sought = Sought(failure=CRASH, fingerprint="f")
    assert ids([candidate("old", days=400), candidate("new")], sought) == ["new", "old"]
    old, fresh = (rank([candidate("x", days=d, source="user")], sought, NOW)[0] for d in (400, 0))
    assert old.score == fresh.score
    assert "last seen 400 days ago" in old.why


def test_what_worked_comes_before_what_failed() -> None:
    assert ids([candidate("failed", failed=3), candidate("worked", worked=3)], Sought(failure=CRASH)) == [
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
    assert ids([candidate("a"), candidate("a")], Sought(failure=CRASH)) == ["a"]


def test_where_every_failure_reads_alike_the_context_decides() -> None:
    oom = FailureClass.CUDA_OOM
    small = {"base_model": "org/Llama-2-7b", "method": "lora", "gpu_model": "NVIDIA A10", "framework": "pytorch"}
    large = {"base_model": "org/Llama-2-70b", "method": "full", "gpu_model": "H100-80GB", "framework": "pytorch"}
    cases = [
        candidate("same words", oom, "f", context=large, similarity=0.9, worked=9),
        candidate("other words", oom, "g", context=small | {"base_model": "meta/Meta-Llama-3-8B"}, similarity=0.1),
    ]
    assert ids(cases, Sought(failure=oom, fingerprint="f", context=small)) == ["other words", "same words"]


def test_another_package_is_another_failure() -> None:
    missing = FailureClass.MISSING_PYTHON_PACKAGE
    cases = [
        candidate("other", missing, "f", context={"subject": "package=einops"}, similarity=0.9, worked=9),
        candidate("same", missing, "g", context={"subject": "module=flash_attn.ops"}, similarity=0.1),
        candidate("untold", missing, "h", similarity=0.5),
    ]
    sought = Sought(failure=missing, fingerprint="f", context={"subject": "package=flash-attn"})
    assert ids(cases, sought) == ["same", "untold", "other"]


SCOPED = st.lists(
    st.tuples(st.sampled_from([None, "here", "there"]), st.sampled_from(Scope), st.booleans()), min_size=1, max_size=8
)


@given(SCOPED, st.sampled_from([None, "here"]), st.booleans())
def test_a_repository_s_own_lesson_is_told_there_alone(
    lessons: list[tuple[str | None, Scope, bool]], here: str | None, failed: bool
) -> None:
    cases = []
    for n, (repository, scope, alike) in enumerate(lessons):
        context = {"code_digest": "same"} | ({"repository": repository} if repository else {})
        found = candidate(f"{n}", CRASH if alike else DISK, context=context, worked=5)
        lesson = found.stored.lesson.model_copy(update={"scope": scope})
        cases.append(found.model_copy(update={"stored": found.stored.model_copy(update={"lesson": lesson})}))
    context = {"code_digest": "same"} | ({"repository": here} if here else {})
    sought = Sought(failure=CRASH if failed else None, fingerprint="f", context=context, text="t")
    for case in rank(cases, sought, NOW, limit=20):
        assert case.scope is Scope.TENANT or (here is not None and case.context["repository"] == here)


@given(
    st.integers(0, 9),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 2000),
    st.floats(0, 1),
    st.sampled_from([CRASH, DISK]),
)
def test_a_failed_lesson_never_outranks_an_equal_one_that_worked(
    worked: int, more: int, failed: int, days: float, similarity: float, failure: FailureClass
) -> None:
    context = {"framework": "pytorch", "versions": {"torch": "1.13.1"}}
    common: dict[str, Any] = {"days": days, "similarity": similarity, "context": context}
    cases = [
        candidate("a failed", failure, worked=worked, failed=worked + failed, **common),
        candidate("b worked", failure, worked=worked + more, failed=worked, **common),
    ]
    assert ids(cases, Sought(failure=failure, fingerprint="f", context=context, text="t")) == ["b worked", "a failed"]


def test_other_versions_weaken_what_depends_on_them() -> None:
    def score(learned: dict[str, str], failure: FailureClass = FailureClass.FLASH_ATTN_UNUSABLE, **more: str) -> float:
        here = {"versions": {"torch": "2.8.0"}, "image": "pytorch:2.8"}
        case = candidate("x", failure, context={"versions": learned, **more})
        return rank([case], Sought(failure=failure, fingerprint="f", context=here), NOW)[0].score

    assert (
        score({"torch": "2.8.1"}) > score({"torch": "2.6.0"}) > score({"torch": "2.4.1"}) > score({"torch": "1.13.1"})
    )
    assert score({"torch": "2.8.0"}, image="pytorch:2.8") > score({"torch": "2.8.0"}, image="pytorch:2.4")
    wait = FailureClass.HUB_RATE_LIMITED
    assert score({"torch": "2.4.0"}, wait) - score({"torch": "2.6.0"}, wait) < score({"torch": "2.6.0"}) - score(
        {"torch": "2.4.0"}
    )
    old = candidate("x", FailureClass.FLASH_ATTN_UNUSABLE, context={"versions": {"torch": "1.13.1"}})
    sought = Sought(failure=FailureClass.FLASH_ATTN_UNUSABLE, context={"versions": {"torch": "2.8.0"}})
    assert "learned under other versions" in rank([old], sought, NOW)[0].why


def test_a_change_that_failed_in_like_contexts_is_not_followed_whoever_taught_it() -> None:
    def taught(case_id: str, *, worked: int = 0, failed: int = 0, value: int = 1) -> Candidate:
        found = candidate(case_id, CRASH, context={"framework": "pytorch"}, worked=worked, failed=failed)
        change = PlanChange(path="training.num_workers", value=value, by=Author.REPAIR)
        lesson = found.stored.lesson.model_copy(update={"changes": (change,)})
        return found.model_copy(update={"stored": found.stored.model_copy(update={"lesson": lesson})})

    cases = [taught("one", worked=1), taught("failed", failed=3), taught("other", worked=1, value=2)]
    found = rank(cases, Sought(failure=CRASH, fingerprint="f", context={"framework": "pytorch"}), NOW)
    assert found[0].id == "other"
    followed = {case.id: case.worked for case in found}
    assert followed == {"one": None, "failed": False, "other": True}
    assert "not followed: the same change failed 3 of 4 times" in next(c.why for c in found if c.id == "one")


def test_a_lesson_that_fell_says_so() -> None:
    stored = first(Lesson(failure=CRASH, text="t", worked=True, source="starter"), NOW)
    assert stored.verdict() is True
    assert "a starter lesson that no run here has tried" in as_case(Candidate(id="x", stored=stored), NOW).why
    fallen = merge(stored, Lesson(failure=CRASH, text="t", worked=False, source="r1/1"), NOW)
    assert fallen.verdict() is None
    assert "not followed any more" in as_case(Candidate(id="x", stored=fallen), NOW).why
    risen = merge(stored, Lesson(failure=CRASH, text="t", worked=True, source="r1/1"), NOW)
    assert risen.standing() == 2


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=5))
def test_likeness_of_words_is_a_share(query: str, texts: list[str]) -> None:
    scores = likeness(query, texts)
    assert len(scores) == len(texts)
    assert all(0 <= s <= 1 for s in scores)


def test_families_sizes_and_gpus_are_read_from_names() -> None:
    names = ("meta-llama/Llama-2-7b-hf", "Meta-Llama-3-8B", "Qwen/Qwen2.5-7B-Instruct", "google/flan-t5-xl")
    assert [family(name) for name in names] == ["llama", "llama", "qwen", "t"]
    assert billions({"base_model": "facebook/opt-350m"}) == 0.35
    assert billions({"base_model": "x/Llama-2-7b", "params_b": 6.7}) == 6.7
    assert gpu_memory({"gpu_model": "NVIDIA A100-SXM4-80GB"}) == 80
    assert (generation({"gpu_model": "Tesla T4"}), generation({"gpu_model": "L40S"})) == ("turing", "ada")


def _told(line: str, **more: str) -> dict[str, Any]:
    return {"said": [line], **more}


def test_a_failure_read_as_none_or_as_a_neighbour_is_found_by_its_line_and_by_what_it_names() -> None:
    line = "RuntimeError: the frobnicator needs a newer toolchain than the one installed"
    missing, entry = FailureClass.MISSING_PYTHON_PACKAGE, FailureClass.ENTRYPOINT_NOT_FOUND
    cases = [
        candidate("same line", FailureClass.BUILD_TOOLCHAIN_MISSING, "g", context=_told(line)),
        candidate("other line", FailureClass.BUILD_TOOLCHAIN_MISSING, "g", context=_told("OSError: no quota is left")),
    ]
    sought = Sought(failure=FailureClass.UNKNOWN, fingerprint="x", context=_told(line), confidence=0.0)
    assert ids(cases, sought)[0] == "same line"
    cases = [
        candidate("cause", entry, "g", similarity=0.9, worked=9),
        candidate("thing", missing, "h", context={"subject": "package=sacrebleu"}, similarity=0.0),
        candidate("far", DISK, "i", context=_told("OSError: no quota is left"), similarity=0.9, worked=9),
    ]
    assert ids(cases, Sought(failure=entry, fingerprint="x", context={"subject": "module=sacrebleu"}))[0] == "thing"


def test_which_causes_are_taken_for_one_another_is_symmetric_and_not_all() -> None:
    pairs = [(a, b) for a in FailureClass for b in FailureClass]
    assert all(near(a, b) == near(b, a) for a, b in pairs)
    known = [pair for pair in pairs if not {*pair} & NO_CAUSE and pair[0] is not pair[1]]
    assert 0 < sum(near(*pair) for pair in known) < len(known) / 4
