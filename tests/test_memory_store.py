"""The embedded store: one owner and others that ask it, what an earlier version stored, damage, and forgetting."""

import json
import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from caravan.lessons import first, lesson_key, prepared, search_text, to_metadata
from caravan.values.errors import ServiceError
from caravan.values.failure import Lesson, Scope
from config import prepare_third_party_environment
from machine import SystemClock
from memory import Mem0Memory
from tests.fakes.lessons import OOM, StillClock, diagnosis, lesson

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.fixture
def real(tmp_path: Path, clock: StillClock) -> Iterator[Mem0Memory]:
    made = Mem0Memory(tmp_path / "memory", clock=clock)
    yield made
    made.close()


def files_of(folder: Path) -> bytes:
    """All that is on disk."""
    return b"".join(f.read_bytes() for f in folder.rglob("*") if f.is_file())


# Several at once


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


def test_the_owner_answers_others_and_the_next_takes_over(tmp_path: Path) -> None:
    owner, other = (Mem0Memory(tmp_path, clock=SystemClock()) for _ in range(2))
    with closing(owner), closing(other):
        case_id = owner.remember(lesson())
        assert other.remember(lesson(source="run-2/1")) == case_id
        owner.close()  # what it had goes over to the one that asks next
        assert [c.times for c in other.all()] == [2]
        assert owner.forget(case_id) is True
        assert other.all() == ()


def test_an_owner_that_has_nothing_to_say_is_an_error_of_one_line(tmp_path: Path, clock: StillClock) -> None:
    folder = tmp_path / "edge"
    folder.mkdir()
    with (folder / "owner.lock").open("w") as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)  # as one on another machine would hold it: nobody listens here
        start = clock.now()
        with pytest.raises(ServiceError, match="in use by another process") as caught:
            Mem0Memory(tmp_path, clock=clock).all()
        assert "QDRANT_URL" in caught.value.line()
        assert 9 <= (clock.now() - start).total_seconds() <= 11
    memory = Mem0Memory(tmp_path, clock=clock)
    assert memory.all() == ()
    memory.close()


def test_a_folder_with_a_long_name_is_shared_too(tmp_path: Path) -> None:
    place = tmp_path / ("a long name " * 8)
    owner, other = (Mem0Memory(place, clock=SystemClock()) for _ in range(2))
    with closing(owner), closing(other):
        owner.remember(lesson())
        assert len(other.all()) == 1


def test_threads_lose_nothing(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    memories = [Mem0Memory(tmp_path, clock=SystemClock()) for _ in range(2)]

    def work(thread: int) -> None:
        memory = memories[thread % 2]
        try:
            for number in range(4):
                memory.remember(lesson(fingerprint=f"f:{thread}:{number}", source=f"run-{thread}"))
                memory.remember(lesson(fingerprint="f:all", source=f"run-{thread}/{number}"))
                memory.recall(text="memory", diagnosis=diagnosis(), context={})
        except ServiceError as error:  # pragma: no cover
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    cases = memories[0].all()
    assert len(cases) == 17
    assert max(case.times for case in cases) == 16
    for memory in memories:
        memory.close()


WORKER = """
import sys
from pathlib import Path
from config import prepare_third_party_environment
home = Path(sys.argv[1])
prepare_third_party_environment(home)
from machine import SystemClock
from memory import Mem0Memory
from tests.fakes.lessons import lesson
memory = Mem0Memory(home / "memory", clock=SystemClock())
for number in range(int(sys.argv[3])):
    memory.remember(lesson(fingerprint=f"{sys.argv[2]}:{number}", source=f"{sys.argv[2]}/1"))
    print(number, flush=True)
memory.close()
"""


def worker(home: Path, name: str, count: int) -> "subprocess.Popen[str]":
    """Another process that remembers so many lessons and says each that is stored."""
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(home), name, str(count)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_is_killed_loses_nothing_it_had_stored(tmp_path: Path) -> None:
    killed, other = worker(tmp_path, "killed", 10_000), worker(tmp_path, "other", 12)
    assert killed.stdout is not None
    assert other.stdout is not None
    told = [line for _, line in zip(range(8), killed.stdout, strict=False)]  # in this order it takes no ninth
    killed.send_signal(signal.SIGKILL)  # in the middle of the next one; the other asks it, or is asked by it
    told += list(killed.stdout)
    assert killed.wait() == -signal.SIGKILL
    assert len(list(other.stdout)) == 12
    assert other.wait() == 0
    for pipe in (killed.stdout, other.stdout):
        pipe.close()
    with closing(Mem0Memory(tmp_path / "memory", clock=SystemClock())) as memory:
        stored = [case.fingerprint for case in memory.all()]
        whole = len([line for line in told if line.endswith("\n")])
        assert {f"killed:{n}" for n in range(whole)} | {f"other:{n}" for n in range(12)} <= set(stored)
        assert len(stored) == len(set(stored)) <= whole + 1 + 12
        assert memory.remember(lesson(fingerprint="after"))


# Forgetting


def test_nothing_of_a_forgotten_lesson_stays_on_disk(tmp_path: Path, clock: StillClock) -> None:
    with closing(Mem0Memory(tmp_path, clock=clock)) as memory:
        case_id = memory.remember(lesson(text="the marmalade incident"))
        memory.remember(lesson(text="the marmalade incident", source="run-2/1"))
        memory.remember(lesson(fingerprint="host_memory_oom:kept", text="the kept one"))
        assert b"marmalade" in files_of(tmp_path)
        assert memory.forget(case_id)
    assert b"marmalade" not in files_of(tmp_path)
    assert case_id.encode() not in files_of(tmp_path)
    with closing(Mem0Memory(tmp_path, clock=clock)) as memory:
        assert [c.text for c in memory.recall(text="kept", diagnosis=diagnosis(), context={})] == ["the kept one"]


def test_forgetting_that_was_cut_short_is_finished_by_whoever_opens_next(tmp_path: Path, clock: StillClock) -> None:
    memory = Mem0Memory(tmp_path, clock=clock)
    case_id = memory.remember(lesson(text="the marmalade incident"))
    kept = memory.remember(lesson(fingerprint="host_memory_oom:kept"))
    assert memory.forget(case_id)
    memory._forgot = False  # as if the process had ended here
    memory.close()
    assert b"marmalade" in files_of(tmp_path)
    (tmp_path / "edge" / "gen-half-written").mkdir()
    with closing(Mem0Memory(tmp_path, clock=clock)) as memory:
        assert [c.id for c in memory.all()] == [kept]
        assert b"marmalade" not in files_of(tmp_path)
        assert len(list((tmp_path / "edge").glob("gen-*"))) == 1


def test_forgetting_through_the_owner_cleans_its_files(tmp_path: Path) -> None:
    with closing(Mem0Memory(tmp_path, clock=SystemClock())) as owner:
        case_id = owner.remember(lesson(text="the marmalade incident"))
        with closing(Mem0Memory(tmp_path, clock=SystemClock())) as other:
            assert other.forget(case_id)
        assert b"marmalade" not in files_of(tmp_path)
        assert owner.all() == ()


# What an earlier version stored


class PointStruct:
    """In the place of Qdrant's own, which the local mode pickles: what is read of it."""

    def __init__(self, point: str, vector: object, payload: dict[str, object]) -> None:
        self.id, self.vector, self.payload = point, vector, payload


def earlier_store(folder: Path, lessons: list[Lesson], clock: StillClock) -> None:
    """What the local mode left: SQLite with pickled points, their fields without scope and tenant."""
    place = folder / "qdrant" / "collection" / "lessons"
    place.mkdir(parents=True)
    (folder / "qdrant" / "meta.json").write_text("{}")
    with closing(sqlite3.connect(place / "storage.sqlite")) as file:
        file.execute("CREATE TABLE points (id TEXT PRIMARY KEY, point BLOB)")
        for number, one in enumerate(map(prepared, lessons)):
            fields = to_metadata(first(one, clock.now()), lesson_key(one))
            payload = {**fields, "user_id": "caravan", "data": search_text(one), "role": "user"}
            point = PointStruct(f"00000000-0000-4000-8000-{number:012}", {"": [0.1] * 256}, payload)
            file.execute("INSERT INTO points VALUES (?, ?)", (str(number), pickle.dumps(point)))
        file.commit()


def test_what_an_earlier_version_stored_is_taken_over_once_and_whole(tmp_path: Path, clock: StillClock) -> None:
    lessons = [lesson(fingerprint=f"host_memory_oom:{n}", text=f"the marmalade number {n}") for n in range(30)]
    earlier_store(tmp_path, lessons, clock)
    with closing(Mem0Memory(tmp_path, clock=clock, tenant="ada")) as memory:
        cases = memory.all()
        assert sorted(c.fingerprint for c in cases) == sorted(x.fingerprint for x in lessons)
        assert not (tmp_path / "qdrant").exists()
        assert memory.remember(lessons[3]) in {c.id for c in cases}  # the equal one is found: nothing is stored twice
        assert memory.recall(text="marmalade", diagnosis=diagnosis(), context={})
        assert [memory.forget(c.id) for c in cases] == [True] * 30
    assert b"marmalade" not in files_of(tmp_path)
    with closing(Mem0Memory(tmp_path, clock=clock, tenant="ada")) as memory:
        assert memory.all() == ()


@pytest.mark.parametrize("stage", ["moved", "stored"])
def test_a_takeover_that_was_cut_short_goes_on(
    tmp_path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    earlier_store(tmp_path, [lesson(fingerprint=f"host_memory_oom:{n}") for n in range(3)], clock)
    import shutil

    from caravan.vectors.shard import Shard

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*((Shard, "take_in", killed) if stage == "moved" else (shutil, "rmtree", killed)))
        cut_short = Mem0Memory(tmp_path, clock=clock)
        with pytest.raises(KeyboardInterrupt):
            cut_short.all()
    cut_short.close()
    assert not (tmp_path / "qdrant").exists()
    with closing(Mem0Memory(tmp_path, clock=clock)) as memory:
        assert len(memory.all()) == 3
        assert list((tmp_path / "edge").glob("earlier-*")) == []


def test_an_earlier_version_that_still_runs_is_waited_for(tmp_path: Path, clock: StillClock) -> None:
    import fcntl

    earlier_store(tmp_path, [lesson()], clock)
    with (tmp_path / "qdrant" / "owner.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ServiceError, match="in use by another process"):
            Mem0Memory(tmp_path, clock=clock).all()
    with closing(Mem0Memory(tmp_path, clock=clock)) as memory:
        assert len(memory.all()) == 1


def test_a_damaged_earlier_store_is_said_and_kept(tmp_path: Path, clock: StillClock) -> None:
    earlier_store(tmp_path, [lesson()], clock)
    file = next(tmp_path.rglob("storage.sqlite"))
    file.write_bytes(b"not a database at all, by no means" * 50)
    with pytest.raises(ServiceError, match="can't be used"):
        Mem0Memory(tmp_path, clock=clock).all()
    assert b"by no means" in files_of(tmp_path)


def test_a_store_without_an_index_of_every_mark_is_written_anew(
    tmp_path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caravan.vectors import shard

    there = lesson(context={"subject": "option=--foo", "framework": "trl"})
    with monkeypatch.context() as before:
        before.setattr(shard, "FIELDS", ("user_id", "lesson_key"))
        with closing(Mem0Memory(tmp_path, clock=clock)) as memory:
            case_id = memory.remember(there)
    generation = (tmp_path / "edge" / "current").read_text()
    for _ in range(2):
        with closing(Mem0Memory(tmp_path, clock=clock)) as memory:
            assert memory.remember(there) == case_id
            assert [c.id for c in memory.recall(text="x", diagnosis=diagnosis(), context=there.context)] == [case_id]
    last = (tmp_path / "edge" / "current").read_text()
    assert generation != last
    assert [p.name for p in (tmp_path / "edge").glob("gen-*")] == [last]  # once: the second opening found every index


def test_every_mark_of_a_lesson_has_an_index() -> None:
    from caravan.lessons import marks
    from caravan.vectors.shard import FIELDS

    told = {"code_digest": "x", "base_model": "meta-llama/Llama-2-7b", "repository": "x", "subject": "option=--foo"}
    told |= {"gpu_model": "NVIDIA L4", "framework": "trl", "gpus": 2, "method": "lora", "program_digest": "x"}
    assert {*marks(OOM, "print", told)} <= {*FIELDS}


# Tenants and scopes


def test_a_lesson_of_one_repository_is_recalled_there_alone(real: Mem0Memory) -> None:
    ours, theirs = {"repository": "a" * 16}, {"repository": "b" * 16}
    mine = real.remember(lesson(scope=Scope.REPOSITORY, context=ours, text="only here"))
    for context, expected in ((ours, [mine]), (theirs, []), ({}, [])):
        for failed in (diagnosis(), None):
            found = real.recall(text="only here", diagnosis=failed, context={"framework": "x", **context})
            assert [c.id for c in found] == expected
    assert len(real.all()) == 1


def test_tenants_in_one_folder_do_not_see_each_other(tmp_path: Path, clock: StillClock) -> None:
    ada, bob = (Mem0Memory(tmp_path, clock=clock, tenant=name) for name in ("ada of x", "bob"))
    with closing(ada), closing(bob):
        one = ada.remember(lesson())
        assert bob.remember(lesson()) != one
        assert bob.forget(one) is False
        assert [c.id for c in ada.all()] == [one]


# The folder, and what is damaged in it


def test_the_folder_is_private(real: Mem0Memory, tmp_path: Path) -> None:
    real.remember(lesson())
    for place in (tmp_path / "memory", tmp_path / "memory" / "edge", *(tmp_path / "memory" / "edge").glob("gen-*")):
        assert place.stat().st_mode & 0o077 == 0
    assert (tmp_path / "memory" / "edge" / "owner.sock").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damaged", ["current", "edge_config.json", "segment.json"])
def test_a_damaged_store_is_a_service_error(tmp_path: Path, clock: StillClock, damaged: str) -> None:
    real = Mem0Memory(tmp_path, clock=clock)
    real.remember(lesson())
    real.close()
    next(tmp_path.rglob(damaged)).write_bytes(b"{ not what it was")
    with pytest.raises(ServiceError, match="can't be used") as caught:
        real.all()
    assert "\n" not in caught.value.line()
    assert b"killed at its memory limit" in files_of(tmp_path)  # nothing is removed for it
    real.close()


def test_a_file_in_the_folders_place_is_a_service_error(tmp_path: Path, clock: StillClock) -> None:
    (tmp_path / "memory").write_text("in the way")
    with pytest.raises(ServiceError, match="can't be used") as caught:
        Mem0Memory(tmp_path / "memory", clock=clock).remember(lesson())
    assert "CARAVAN_MEMORY=0" in caught.value.line()


def test_logging_is_left_alone(real: Mem0Memory) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    real.remember(lesson())
    assert (list(root.handlers), root.level) == before


SCRIPT = """
import sys
from pathlib import Path
from config import prepare_third_party_environment
home = Path(sys.argv[1])
prepare_third_party_environment(home)
from machine import SystemClock
from memory import Mem0Memory
made = Mem0Memory(home / "memory", clock=SystemClock())
assert made.recall(text="x", diagnosis=None, context={}) == () and made.all() == ()
heavy = {"mem0", "qdrant_client", "qdrant_edge", "wordllama", "langchain_core", "httpx"} & set(sys.modules)
assert not heavy, heavy
if sys.argv[2] == "write":
    from caravan.values.failure import Lesson
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


def test_a_request_that_is_none_is_answered_with_an_error(tmp_path: Path) -> None:
    from caravan.vectors.shard import EngineError, Shard
    from caravan.vectors.shared import SharedShard

    owner, other = (SharedShard(tmp_path, SystemClock(), lambda: Shard(tmp_path)) for _ in range(2))
    with closing(owner), closing(other):
        assert owner.call("count") == other.call("count") == 0
        with pytest.raises(EngineError, match="no operation 'shutdown'"):
            other.call("shutdown")
        with pytest.raises(EngineError):
            other.call("insert", points=[{"id": "no id at all", "vector": [0.0] * 256}])
        with pytest.raises(EngineError):
            other.call("rows", filters={"x": {"gte": 1}}, top_k=1)
        assert json.dumps(other.call("rows", filters=None, top_k=1)) == "[]"
