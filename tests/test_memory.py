"""The port Memory: one contract for the fake and for Mem0 over embedded Qdrant, and what only the real one has."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caravan.ports import Memory
from caravan.values.errors import ServiceError, UsageError
from caravan.values.failure import Diagnosis, FailureClass, Lesson
from caravan.values.plan import Author, PlanChange
from config import prepare_third_party_environment
from memory import Mem0Memory, NullMemory
from tests.fakes.memory import FakeMemory

ROOT = Path(__file__).resolve().parents[1]
KNOWN_SECRET = "correct-horse-battery"
OOM = FailureClass.HOST_MEMORY_OOM


class StillClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


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


@pytest.fixture(params=["fake", "mem0"])
def memory(request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock) -> Iterator[Memory]:
    made: Memory
    if request.param == "fake":
        made = FakeMemory(clock, secrets=(KNOWN_SECRET,))
    else:
        made = Mem0Memory(tmp_path / "memory", clock=clock, secrets=(KNOWN_SECRET,))
    yield made
    made.close()


@pytest.fixture
def real(tmp_path: Path, clock: StillClock) -> Iterator[Mem0Memory]:
    made = Mem0Memory(tmp_path / "memory", clock=clock)
    yield made
    made.close()


def lesson(**fields: object) -> Lesson:
    base: dict[str, object] = {
        "failure": OOM,
        "fingerprint": "host_memory_oom:abc",
        "text": "The task was killed at its memory limit of 2048 MB.",
        "context": {"framework": "pytorch", "base_model": "tiny", "method": "lora"},
        "changes": (PlanChange(path="resources.memory_mb", value=4096, by=Author.REPAIR),),
        "worked": True,
        "source": "run-1/1",
    }
    return Lesson.model_validate(base | fields)


def diagnosis(**fields: object) -> Diagnosis:
    base: dict[str, object] = {"failure": OOM, "confidence": 1.0, "cause": "memory ran out", "fingerprint": "x"}
    return Diagnosis.model_validate(base | fields)


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
    assert [c.id for c in cases] == [same, other, alike]
    assert "same cause" in cases[0].why
    assert "same fingerprint" in cases[0].why
    assert "same fingerprint" not in cases[1].why
    assert "another cause (disk_full)" in cases[2].why


def test_before_a_failure_the_context_decides(memory: Memory) -> None:
    memory.remember(lesson(context={"framework": "jax", "base_model": "other"}))
    here = memory.remember(lesson())
    cases = memory.recall(text="fine-tune it", diagnosis=None, context={"framework": "PyTorch", "base_model": "tiny"})
    assert cases[0].id == here
    assert "same framework and base model" in cases[0].why


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
    first = {"failure": None, "fingerprint": "", "changes": (), "context": {}, "source": "user", "worked": None}
    memory.remember(lesson(**first, text="Use bf16 on the A100 nodes."))
    memory.remember(lesson(**first, text="Use bf16 on the A100  nodes."))
    memory.remember(lesson(**first, text="Never use node 7 for images."))
    assert len(memory.all()) == 2


# What only the real one has


def test_lessons_outlive_the_process_that_stored_them(tmp_path: Path, clock: StillClock) -> None:
    one = Mem0Memory(tmp_path, clock=clock)
    case_id = one.remember(lesson())
    one.close()
    one.close()
    other = Mem0Memory(tmp_path, clock=clock)
    assert [c.id for c in other.all()] == [case_id]
    other.close()
    assert [c.id for c in one.all()] == [case_id]  # a closed memory opens again
    one.close()


def test_a_store_in_use_by_another_process_is_said_in_one_line(tmp_path: Path, clock: StillClock) -> None:
    holder = Mem0Memory(tmp_path, clock=clock)
    holder.remember(lesson())
    second = Mem0Memory(tmp_path, clock=clock)
    with pytest.raises(ServiceError, match="in use by another process") as caught:
        second.recall(text="x", diagnosis=None, context={})
    assert "QDRANT_URL" in caught.value.line()
    holder.close()
    assert len(second.all()) == 1
    second.close()


def test_nothing_of_a_forgotten_lesson_stays_on_disk(real: Mem0Memory, tmp_path: Path) -> None:
    case_id = real.remember(lesson(text="the marmalade incident"))
    real.remember(lesson(fingerprint="host_memory_oom:kept"))
    stored = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    assert b"marmalade" in stored
    assert real.forget(case_id)
    stored = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    assert b"marmalade" not in stored
    assert len(real.all()) == 1


def test_the_folder_is_private(real: Mem0Memory, tmp_path: Path) -> None:
    real.remember(lesson())
    assert (tmp_path / "memory" / "qdrant").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"not a database at all, by no means" * 50])
def test_a_damaged_store_is_a_service_error(tmp_path: Path, clock: StillClock, damage: bytes) -> None:
    real = Mem0Memory(tmp_path, clock=clock)
    real.remember(lesson())
    real.close()
    (tmp_path / "qdrant" / "meta.json").write_bytes(damage or b"{")
    if damage:
        next(tmp_path.rglob("storage.sqlite")).write_bytes(damage)
    with pytest.raises(ServiceError, match="can't be used"):
        real.all()
    real.close()


def test_a_file_in_the_folders_place_is_a_service_error(tmp_path: Path, clock: StillClock) -> None:
    (tmp_path / "memory").write_text("in the way")
    with pytest.raises(ServiceError, match="can't be used") as caught:
        Mem0Memory(tmp_path / "memory", clock=clock).remember(lesson())
    assert "CARAVAN_MEMORY=0" in caught.value.line()


def test_a_server_that_is_not_there_is_a_service_error(clock: StillClock) -> None:
    memory = Mem0Memory(None, "http://127.0.0.1:9", clock=clock, timeout_s=1)  # the discard port: nobody listens
    with pytest.raises(ServiceError, match="can't be used") as caught:
        memory.recall(text="x", diagnosis=None, context={})
    assert caught.value.exit_code == 5
    assert "QDRANT_URL" in caught.value.line()
    memory.close()


def test_threads_lose_nothing(real: Mem0Memory) -> None:
    failed: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(5):
                real.remember(lesson(fingerprint=f"f:{thread}:{number}", source=f"run-{thread}"))
                real.recall(text="memory", diagnosis=diagnosis(), context={})
        except ServiceError as error:  # pragma: no cover
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(real.all()) == 20


def test_logging_is_left_alone(real: Mem0Memory) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    real.remember(lesson())
    assert (list(root.handlers), root.level) == before


def test_a_memory_needs_a_place(clock: StillClock) -> None:
    with pytest.raises(UsageError):
        Mem0Memory(None, clock=clock)


def test_memory_switched_off_keeps_nothing() -> None:
    off: Memory = NullMemory()
    off.remember(lesson())
    assert off.all() == off.recall(text="x", diagnosis=None, context={}) == ()
    assert off.forget("x") is False
    off.close()


SCRIPT = """
import sys
from pathlib import Path
from datetime import UTC, datetime
from caravan.values.failure import Lesson
from config import prepare_third_party_environment
home = Path(sys.argv[1])
prepare_third_party_environment(home)
from memory import Mem0Memory
class Clock:
    def now(self): return datetime(2026, 1, 1, tzinfo=UTC)
    def monotonic(self): return 0.0
made = Mem0Memory(home / "memory", clock=Clock())
assert made.recall(text="x", diagnosis=None, context={}) == () and made.all() == ()
heavy = {"mem0", "qdrant_client", "wordllama", "langchain_core", "httpx"} & set(sys.modules)
assert not heavy, heavy
if sys.argv[2] == "write":
    made.remember(Lesson(text="left open on purpose"))
    assert "openai" not in sys.modules
"""


@pytest.mark.parametrize("what", ["read", "write"])
def test_an_unwritten_store_imports_nothing_and_an_open_one_ends_quietly(tmp_path: Path, what: str) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path), what],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "home" / ".mem0").exists()
    assert not (tmp_path / "home" / ".cache" / "wordllama").exists()
