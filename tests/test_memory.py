"""The port Memory: one contract for the fake, Mem0 over embedded Qdrant and on a server; and what is kept for later.

The server is a stand-in that answers the REST calls over the loopback.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from adapters import make_memory
from caravan.ports import Memory
from caravan.values.errors import ServiceError, UsageError
from caravan.values.failure import FailureClass, Lesson
from caravan.values.plan import Author, PlanChange
from config import load_settings, prepare_third_party_environment
from keeping import KeepingMemory, NullMemory, folder_of
from machine import SystemClock
from memory import Mem0Memory
from tests.fakes.lessons import OOM, StillClock, diagnosis, lesson
from tests.fakes.memory import FakeMemory
from tests.fakes.qdrant_http import QdrantState, qdrant_server

KNOWN_SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _third_party_environment(
    _scrubbed_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("MEM0_TELEMETRY", "MEM0_DIR"):
        monkeypatch.setenv(name, "")  # so that what is set next is undone after the test
    prepare_third_party_environment(tmp_path_factory.getbasetemp() / "third-party")


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


KINDS = ("fake", "embedded", "server", "kept")


@contextmanager
def memory_of(kind: str, folder: Path, clock: StillClock) -> Iterator[Memory]:
    """A memory of that kind, empty, with one known secret."""
    secrets = (KNOWN_SECRET,)
    with ExitStack() as held:
        made: Memory
        if kind == "embedded":
            made = Mem0Memory(folder, clock=clock, secrets=secrets)
        elif kind == "server":
            url = held.enter_context(qdrant_server(QdrantState("a-key")))
            made = Mem0Memory(folder, url, api_key="a-key", clock=clock, secrets=secrets)
        else:
            made = FakeMemory(clock, secrets=secrets)
        if kind == "kept":
            made = KeepingMemory(made, folder / "pending", clock=clock, secrets=secrets)
        yield held.enter_context(closing(made))


@pytest.fixture(params=KINDS)
def memory(request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock) -> Iterator[Memory]:
    with memory_of(request.param, tmp_path / "memory", clock) as made:
        yield made


# The contract


def test_a_memory_that_was_never_written_recalls_nothing(memory: Memory) -> None:
    assert memory.recall(text="anything", diagnosis=diagnosis(), context={}) == ()
    assert memory.all() == ()
    assert memory.forget("00000000-0000-0000-0000-000000000000") is False


def test_a_lesson_comes_back_as_it_was_stored(memory: Memory) -> None:
    case_id = memory.remember(lesson())
    (case,) = memory.all()
    assert case.id == case_id
    assert case.failure is OOM
    assert case.changes == lesson().changes
    assert case.context == lesson().context
    assert case.text == lesson().text
    assert (case.worked, case.times) == (True, 1)


def test_the_same_run_saying_the_same_twice_counts_once(memory: Memory) -> None:
    assert memory.remember(lesson()) == memory.remember(lesson())
    (case,) = memory.all()
    assert case.times == 1
    assert "worked 1 of 1" in case.why


def test_equal_lessons_of_several_runs_are_merged_with_their_tallies(memory: Memory) -> None:
    for number, worked in enumerate((True, True, False, None)):
        memory.remember(lesson(source=f"run-{number}/1", worked=worked))
    (case,) = memory.all()
    assert (case.times, case.worked) == (4, True)
    assert "worked 2 of 3 times" in case.why


def test_another_change_or_context_is_another_lesson(memory: Memory) -> None:
    memory.remember(lesson())
    memory.remember(lesson(changes=()))
    memory.remember(lesson(context={"framework": "jax"}))
    assert len(memory.all()) == 3


def test_structure_comes_before_likeness_of_words(memory: Memory) -> None:
    alike = memory.remember(
        lesson(failure=FailureClass.DISK_FULL, fingerprint="disk_full:1", text="memory ran out in the loader")
    )
    same = memory.remember(lesson(text="quite other words about bananas"))
    other = memory.remember(lesson(fingerprint="host_memory_oom:zzz", text="bananas again"))
    wanted = diagnosis(fingerprint="host_memory_oom:abc")
    cases = memory.recall(text="memory ran out in the loader", diagnosis=wanted, context={"framework": "pytorch"})
    assert {c.id for c in cases[:2]} == {same, other}
    assert cases[2].id == alike
    why = {c.id: c.why for c in cases}
    assert "same cause" in why[same]
    assert "same fingerprint" in why[same]
    assert "same fingerprint" not in why[other]
    assert "another cause (disk_full)" in cases[2].why


def test_before_a_failure_the_context_decides(memory: Memory) -> None:
    memory.remember(lesson(context={"framework": "jax", "base_model": "other"}))
    here = memory.remember(lesson())
    cases = memory.recall(text="fine-tune it", diagnosis=None, context={"framework": "PyTorch", "base_model": "tiny"})
    assert cases[0].id == here
    assert "same framework and model" in cases[0].why


def test_a_case_is_recalled_without_any_words(memory: Memory) -> None:
    case_id = memory.remember(lesson())
    assert [c.id for c in memory.recall(text=" ", diagnosis=diagnosis(cause=""), context={})] == [case_id]


def test_limits_hold(memory: Memory, clock: StillClock) -> None:
    for number in range(7):
        clock.sleep(60)
        memory.remember(lesson(fingerprint=f"host_memory_oom:{number}"))
    assert len(memory.recall(text="memory", diagnosis=diagnosis(), context={}, limit=3)) == 3
    assert [c.fingerprint[-1] for c in memory.all(limit=2)] == ["6", "5"]
    assert memory.recall(text="memory", diagnosis=diagnosis(), context={}, limit=0) == ()


def test_forgetting_is_for_good(memory: Memory) -> None:
    case_id = memory.remember(lesson())
    kept = memory.remember(lesson(fingerprint="host_memory_oom:kept"))
    assert memory.forget(case_id) is True
    assert memory.forget(case_id) is False
    assert memory.forget("no id at all") is False
    assert [c.id for c in memory.all()] == [kept]


def test_secrets_are_masked_before_they_are_stored(memory: Memory) -> None:
    memory.remember(
        lesson(
            text=f"login with {KNOWN_SECRET} and hf_abcdefghijklmnopqrstuv failed",
            context={"framework": "pytorch", "api_token": "abcdef123456"},
            changes=(PlanChange(path="env.HF_TOKEN", value="zyxwvu987654", by=Author.USER),),
        )
    )
    (case,) = memory.all()
    told = case.model_dump_json()
    for secret in (KNOWN_SECRET, "hf_abc", "abcdef123456", "zyxwvu987654"):
        assert secret not in told
    assert "[masked]" in told


def test_lone_surrogates_and_long_texts_are_taken(memory: Memory) -> None:
    memory.remember(lesson(text="bad \ud800 text " * 5000, failure=None, fingerprint=""))
    assert len(memory.all()) == 1
    assert memory.recall(text="bad \udfff text " * 5000, diagnosis=None, context={})


def test_what_people_write_down_is_kept_apart_by_its_words(memory: Memory) -> None:
    first: dict[str, object] = {
        "failure": None,
        "fingerprint": "",
        "changes": (),
        "context": {},
        "source": "user",
        "worked": None,
    }
    memory.remember(lesson(**first, text="Use bf16 on the A100 nodes."))
    memory.remember(lesson(**first, text="Use bf16 on the A100  nodes."))
    memory.remember(lesson(**first, text="Never use node 7 for images."))
    assert len(memory.all()) == 2


def test_what_is_exported_is_the_same_after_it_was_restored_elsewhere(memory: Memory, clock: StillClock) -> None:
    memory.remember(lesson())
    clock.sleep(60)
    memory.remember(lesson(source="run-2/1", worked=False))
    memory.remember(lesson(failure=None, fingerprint="", changes=(), text="Use bf16.", source="user", worked=None))
    records = memory.export()
    assert [r["times"] for r in records] == [2, 1]
    elsewhere = FakeMemory(clock)
    assert [elsewhere.restore(r) for r in records] == [True, True]
    assert elsewhere.export() == records
    assert json.loads(json.dumps(records)) == list(records)
    # and back again: nothing is new, nothing is counted twice
    assert [memory.restore(r) for r in elsewhere.export()] == [False, False]
    assert memory.export() == records


def test_a_restored_lesson_is_recalled_like_one_that_was_remembered(memory: Memory, clock: StillClock) -> None:
    elsewhere = FakeMemory(clock)
    elsewhere.remember(lesson())
    (record,) = elsewhere.export()
    assert memory.restore(record) is True
    assert memory.restore(record) is False
    (case,) = memory.recall(text="memory", diagnosis=diagnosis(), context=lesson().context)
    assert (case.changes, case.before, case.times) == (lesson().changes, lesson().before, 1)


def test_restoring_adds_what_the_equal_lesson_did_not_know(memory: Memory, clock: StillClock) -> None:
    memory.remember(lesson(source="here/1"))
    elsewhere = FakeMemory(clock)
    for source, worked in (("here/1", True), ("there/1", True), ("there/2", False)):
        elsewhere.remember(lesson(source=source, worked=worked))
    assert [memory.restore(r) for r in elsewhere.export()] == [False]
    (case,) = memory.all()
    assert (case.times, case.succeeded, case.failed) == (3, 2, 1)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (None, "no exported lesson"),
        ([], "no exported lesson"),
        ({}, "no exported lesson"),
        ({"record": "caravan-lesson", "version": 99}, "version 99"),
        ({"record": "caravan-lesson", "version": 1}, "lesson"),
        ({"record": "caravan-lesson", "version": 1, "times": -1}, "can't be used"),
    ],
)
def test_what_is_no_lesson_is_refused(memory: Memory, record: object, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        memory.restore(record)
    assert "\n" not in caught.value.line()
    assert memory.all() == ()


def test_a_record_that_does_not_add_up_is_refused(memory: Memory, clock: StillClock) -> None:
    elsewhere = FakeMemory(clock)
    elsewhere.remember(lesson())
    (record,) = elsewhere.export()
    for broken in ({"worked": 5}, {"times": 0}, {"first_seen": "2026-01-01T00:00:00"}, {"lesson": {"text": 3}}):
        with pytest.raises(UsageError):
            memory.restore({**record, **broken})


def test_secrets_in_a_record_are_masked(memory: Memory, clock: StillClock) -> None:
    elsewhere = FakeMemory(clock)
    elsewhere.remember(lesson(text=f"login with {KNOWN_SECRET}", source=f"run {KNOWN_SECRET}"))
    (record,) = elsewhere.export()
    assert KNOWN_SECRET in json.dumps(record)
    memory.restore(record)
    assert KNOWN_SECRET not in json.dumps(memory.export())


def test_a_record_from_the_future_is_of_today(memory: Memory, clock: StillClock) -> None:
    elsewhere = FakeMemory(clock)
    elsewhere.remember(lesson())
    (record,) = elsewhere.export()
    memory.restore({**record, "last_seen": "2126-01-01T00:00:00Z"})
    (case,) = memory.all()
    assert case.last_seen == clock.now()


def test_a_case_tells_from_what_to_what_and_who_said_so(memory: Memory, clock: StillClock) -> None:
    before = {"resources.memory_mb": 2048}
    memory.remember(lesson(before=before))
    memory.remember(lesson(before=before, source="run-2/1", worked=False))
    memory.remember(lesson(before=before, source="run-3/plan"))
    (case,) = memory.recall(text="memory", diagnosis=None, context={"framework": "PyTorch", "method": "full"})
    assert (case.before, case.source) == (before, "run-3/plan")
    assert (case.succeeded, case.failed, case.worked) == (2, 1, True)
    assert case.last_seen == clock.now()
    assert case.same == ("framework",)


def test_the_same_code_comes_first_before_anything_failed(memory: Memory) -> None:
    like = {**lesson().context, "entry_point": "train.py"}
    other = memory.remember(lesson(context=like | {"code_digest": "b" * 64}))
    same = memory.remember(lesson(context={"code_digest": "a" * 64}, worked=False))
    cases = memory.recall(text="", diagnosis=None, context=like | {"code_digest": "a" * 64})
    assert [c.id for c in cases] == [same, other]
    assert "same code" in cases[0].why


def test_the_gpu_tells_lessons_apart_only_where_it_matters(memory: Memory) -> None:
    for gpu in ("NVIDIA L4", "NVIDIA A100-SXM4-80GB"):
        memory.remember(lesson(context={"gpu_model": gpu}))
        memory.remember(lesson(context={"gpu_model": gpu}, failure=FailureClass.CUDA_OOM, fingerprint="cuda_oom:1"))
    assert sorted(str(c.failure) for c in memory.all()) == ["cuda_oom", "cuda_oom", "host_memory_oom"]


def test_a_lesson_of_many_is_found_by_its_structure(memory: Memory) -> None:
    for number in range(30):
        memory.remember(lesson(failure=FailureClass.DISK_FULL, fingerprint=f"disk_full:{number}", text="no space left"))
    wanted = memory.remember(lesson(text="quite other words about bananas"))
    found = memory.recall(text="no space left on device", diagnosis=diagnosis(), context={}, limit=3)
    assert found[0].id == wanted


def test_exports_are_told_also_of_what_is_forgotten(memory: Memory, tmp_path: Path, clock: StillClock) -> None:
    old = memory.remember(lesson())
    memory.note_export(tmp_path / "a.jsonl")
    clock.sleep(60)
    new = memory.remember(lesson(fingerprint="host_memory_oom:new"))
    (tmp_path / "b.jsonl").write_text("{}")
    memory.note_export(tmp_path / "b.jsonl")
    assert memory.forget(old)
    told = [(Path(row.path).name, row.there) for row in memory.exports_of(old)]
    assert told == [("a.jsonl", False), ("b.jsonl", True)]
    assert [Path(row.path).name for row in memory.exports_of(new)] == ["b.jsonl"]
    assert memory.exports_of("no id at all") == ()


# Lessons that can't be stored now


def test_what_can_not_be_stored_is_kept_and_taken_in_later(tmp_path: Path, clock: StillClock) -> None:
    inner = FakeMemory(clock)
    memory = KeepingMemory(inner, tmp_path / "pending", clock=clock, secrets=(KNOWN_SECRET,))
    inner.down = True
    for _ in range(2):
        with pytest.raises(ServiceError, match="kept in") as caught:
            memory.remember(lesson(text=f"login with {KNOWN_SECRET} failed"))
        assert caught.value.exit_code == 5
    (kept,) = (tmp_path / "pending").iterdir()
    assert KNOWN_SECRET not in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    with pytest.raises(ServiceError):
        memory.all()
    inner.down = False
    assert len(memory.all()) == 1
    assert list((tmp_path / "pending").iterdir()) == []


def test_several_agents_take_in_the_same_lesson_once(tmp_path: Path, clock: StillClock) -> None:
    inner = FakeMemory(clock)
    inner.down = True
    with pytest.raises(ServiceError):
        KeepingMemory(inner, tmp_path, clock=clock).remember(lesson())
    (kept,) = tmp_path.iterdir()
    text = kept.read_text()
    inner.down = False
    KeepingMemory(inner, tmp_path, clock=clock).recall(text="x", diagnosis=None, context={})
    kept.write_text(text)  # another agent had read it before it was removed
    (case,) = KeepingMemory(inner, tmp_path, clock=clock).all()
    assert case.times == 1


def test_what_is_kept_stays_with_its_tenant(tmp_path: Path, clock: StillClock) -> None:
    def of(tenant: str, inner: FakeMemory, earlier: Path | None = None) -> KeepingMemory:
        return KeepingMemory(inner, tmp_path / folder_of(tenant), clock=clock, earlier=earlier)

    mine, theirs = FakeMemory(clock), FakeMemory(clock)
    mine.down = True
    with pytest.raises(ServiceError):
        of("a/b", mine).remember(lesson())
    (folder,) = tmp_path.iterdir()
    assert folder.name == "a%2Fb"
    (kept,) = folder.iterdir()
    (tmp_path / "old.json").write_text(kept.read_text().replace("run-1", "run-0"))  # of before there were tenants
    mine.down = False
    assert of("a%2Fb", theirs).all() == ()
    assert of("..", theirs).all() == ()
    (case,) = of("a/b", mine).all()
    assert case.times == 1
    assert list(folder.iterdir()) == []
    assert len(of("me", theirs, earlier=tmp_path).all()) == 1
    assert not (tmp_path / "old.json").exists()


def test_no_two_tenants_share_a_folder() -> None:
    tenants = ["a", "A b", "a/b", "a%2Fb", "..", ".", "x.json", "ü" * 300, "ü" * 301, "a@b+c"]
    names = [folder_of(tenant) for tenant in tenants]
    assert len(set(names)) == len(tenants)
    assert all("/" not in name and "." not in name and 0 < len(name) <= 200 for name in names)


def test_the_memory_of_the_settings_keeps_by_tenant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "edge").write_text("in the way")
    for tenant in ("ann", "bob"):
        monkeypatch.setenv("CARAVAN_USER", "ann")
        monkeypatch.setenv("CARAVAN_TENANT", tenant)
        made = make_memory(load_settings(), tmp_path, clock=SystemClock(), secrets=())
        with closing(made), pytest.raises(ServiceError):
            made.remember(lesson(source=f"{tenant}/1"))
    assert {path.name: len(list(path.iterdir())) for path in (tmp_path / "pending").iterdir()} == {"ann": 1, "bob": 1}


def test_files_that_are_no_lessons_are_left_alone(tmp_path: Path, clock: StillClock) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    (tmp_path / "c.json").mkdir()
    assert KeepingMemory(FakeMemory(clock), tmp_path, clock=clock).all() == ()
    assert len(list(tmp_path.iterdir())) == 3


def test_forgetting_leaves_no_copy_among_what_is_kept(tmp_path: Path) -> None:
    clock, inner = SystemClock(), FakeMemory(SystemClock())
    memory = KeepingMemory(inner, tmp_path, clock=clock)
    case_id = memory.remember(lesson(text="the marmalade incident"))
    inner.down = True
    with pytest.raises(ServiceError):
        memory.remember(lesson(text="the marmalade incident", source="run-2/1"))
    inner.down = False
    left, now = tmp_path / "x.0123abcd", tmp_path / "y.0123abcd"
    for half in (left, now):
        half.write_text('{"text": "the marmal')
    os.utime(left, (0, 0))  # its writer was killed long ago; the other's may still write
    assert memory.forget(case_id)
    assert [path.name for path in tmp_path.iterdir()] == [now.name]
    assert memory.all() == ()


def test_where_nothing_can_be_kept_that_is_said(tmp_path: Path, clock: StillClock) -> None:
    (tmp_path / "pending").write_text("in the way")
    inner = FakeMemory(clock)
    inner.down = True
    with pytest.raises(ServiceError, match="they are lost"):
        KeepingMemory(inner, tmp_path / "pending", clock=clock).remember(lesson())


class Barred(type(Path())):  # type: ignore[misc]
    """A path that the file system lets nobody look at or touch, whoever runs the tests."""

    def _no(self, *_: object, **__: object) -> bool:
        raise PermissionError(13, "Permission denied")

    is_dir = glob = unlink = _no


def test_a_folder_that_may_not_be_looked_into_is_a_memory_that_can_not_be_used(
    tmp_path: Path, clock: StillClock
) -> None:
    barred = Barred(tmp_path)
    for memory in (Mem0Memory(barred, clock=clock), KeepingMemory(FakeMemory(clock), barred, clock=clock)):
        with pytest.raises(ServiceError, match="can't be"):
            memory.recall(text="x", diagnosis=None, context={})


def test_a_kept_lesson_that_can_not_be_removed_is_stored_once(tmp_path: Path, clock: StillClock) -> None:
    class Fixed(type(Path())):  # type: ignore[misc]
        def unlink(self, missing_ok: bool = False) -> None:
            raise PermissionError(13, "Permission denied")

    (tmp_path / "a.json").write_text(lesson().canonical())
    memory = KeepingMemory(FakeMemory(clock), Fixed(tmp_path), clock=clock)
    assert [case.times for case in (memory.all(), memory.all())[1]] == [1]


def test_a_memory_that_is_away_is_not_asked_for_every_lesson(tmp_path: Path, clock: StillClock) -> None:
    class Counting(FakeMemory):
        asked = 0

        def remember(self, lesson: Lesson) -> str:
            self.asked += 1
            return super().remember(lesson)

    inner = Counting(clock)
    inner.down = True
    memory = KeepingMemory(inner, tmp_path, clock=clock)
    for number in range(3):
        with pytest.raises(ServiceError):
            memory.remember(lesson(source=f"run/{number}"))
    assert inner.asked == 1
    clock.sleep(60)
    inner.down = False
    memory.remember(lesson(source="run/9"))
    assert [c.times for c in memory.all()] == [4]


# None


def test_a_memory_needs_a_place(clock: StillClock) -> None:
    with pytest.raises(UsageError):
        Mem0Memory(None, clock=clock)


def test_memory_switched_off_keeps_nothing() -> None:
    off: Memory = NullMemory()
    off.remember(lesson())
    assert off.export() == ()
    assert off.restore({}) is False
    assert off.all() == off.recall(text="x", diagnosis=None, context={}) == ()
    assert off.forget("x") is False
    off.close()
