"""The memory on a Qdrant server: tenants that share one, lessons of one key from two machines, faults of the network.

The server is a stand-in that answers the REST calls over the loopback.
"""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from caravan.lessons import first, lesson_key, prepared, search_text
from caravan.values.errors import ServiceError
from caravan.values.failure import Scope
from config import prepare_third_party_environment
from keeping import KeepingMemory
from memory import Mem0Memory
from tests.fakes.lessons import StillClock, diagnosis, lesson
from tests.fakes.qdrant_http import QdrantState, qdrant_server


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
def state() -> QdrantState:
    return QdrantState("a-key")


@pytest.fixture
def url(state: QdrantState) -> Iterator[str]:
    with qdrant_server(state) as address:
        yield address


def memory_at(
    url: str, clock: StillClock, *, tenant: str = "ada", key: str | None = "a-key", **more: Any
) -> Mem0Memory:
    return Mem0Memory(None, url, clock=clock, tenant=tenant, api_key=key, timeout_s=1, **more)


def test_tenants_share_a_server_and_nothing_else(url: str, clock: StillClock, tmp_path: Path) -> None:
    with closing(memory_at(url, clock)) as ada, closing(memory_at(url, clock, tenant="bob and co")) as bob:
        hers = ada.remember(lesson())
        assert (bob.all(), bob.export()) == ((), ())
        assert bob.recall(text="memory", diagnosis=diagnosis(), context={}) == ()
        his = bob.remember(lesson())  # the same words: another lesson, not hers seen twice
        assert his != hers
        assert bob.forget(hers) is False
        assert [(c.id, c.times) for c in ada.all()] == [(hers, 1)]
        assert bob.restore(ada.export()[0]) is False  # into his own equal one
        assert [(c.id, c.source) for c in ada.recall(text="memory", diagnosis=diagnosis(), context={})] == [
            (hers, "run-1/1")
        ]
        assert ada.forget(hers) is True
        assert [c.id for c in bob.all()] == [his]


def test_every_question_names_the_tenant(url: str, state: QdrantState, clock: StillClock) -> None:
    with closing(memory_at(url, clock)) as memory:
        memory.remember(lesson())
        memory.recall(text="memory", diagnosis=diagnosis(), context={"repository": "x"})
        memory.recall(text="memory", diagnosis=None, context={"code_digest": "x"})
        memory.all()
    asked = [body for path, body in state.bodies if path.endswith(("/query", "/scroll"))]
    assert len(asked) > 4
    for body in asked:
        assert {"key": "user_id", "match": {"value": "ada"}} in body["filter"]["must"]
    assert sum(path.endswith("/index") for path, _ in state.bodies) > 4


def test_a_lesson_of_one_repository_stays_there(url: str, clock: StillClock) -> None:
    with closing(memory_at(url, clock)) as memory:
        ours = {"repository": "a" * 16}
        memory.remember(lesson(scope=Scope.REPOSITORY, context=ours))
        assert len(memory.recall(text="memory", diagnosis=diagnosis(), context=ours)) == 1
        assert memory.recall(text="memory", diagnosis=diagnosis(), context={"repository": "b" * 16}) == ()
        assert memory.recall(text="memory", diagnosis=diagnosis(), context={}) == ()


def test_what_was_stored_before_there_were_scopes_is_recalled(url: str, state: QdrantState, clock: StillClock) -> None:
    with closing(memory_at(url, clock, tenant="caravan")) as memory:
        memory.remember(lesson())
        (point,) = state.collections["lessons"].values()
        del point["payload"]["only"]
        assert len(memory.recall(text="memory", diagnosis=diagnosis(), context={})) == 1


def test_equal_lessons_stored_at_the_same_moment_become_one(url: str, state: QdrantState, clock: StillClock) -> None:
    with closing(memory_at(url, clock)) as memory:
        memory.remember(lesson())
        ((point_id, point),) = state.collections["lessons"].items()
        there = prepared(lesson(source="run-there/1", worked=False))
        assert point["payload"]["lesson_key"] == lesson_key(there)
        record = first(there, clock.now()).canonical()
        other = {"vector": point["vector"], "payload": {**point["payload"], "record": record}}
        state.collections["lessons"]["ffffffff-0000-4000-8000-000000000000"] = other
        assert memory.remember(lesson(source="run-3/1")) == point_id
        (case,) = memory.all()
        assert (case.times, case.succeeded, case.failed) == (3, 2, 1)
        assert search_text(there) == point["payload"]["data"]


# Faults


@contextmanager
def black_hole() -> Iterator[str]:
    """A server that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def said(memory: Mem0Memory) -> str:
    """The one line with which every method refuses."""
    lines = set()
    for act in (
        lambda: memory.recall(text="x", diagnosis=None, context={}),
        lambda: memory.remember(lesson()),
        lambda: memory.all(limit=1),
    ):
        with pytest.raises(ServiceError) as caught:
            act()
        assert caught.value.exit_code == 5
        lines.add(caught.value.line())
    assert len(lines) == 1
    (line,) = lines
    assert "\n" not in line
    assert "CARAVAN_MEMORY=0" in line
    memory.close()
    return line


def test_a_server_that_is_not_there(clock: StillClock) -> None:
    line = said(memory_at("http://127.0.0.1:9", clock))  # the discard port: nobody listens
    assert "QDRANT_URL" in line
    assert "refused" in line


def test_a_server_that_says_nothing(clock: StillClock) -> None:
    with black_hole() as address:
        assert "timed out" in said(memory_at(address, clock))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_server_that_refuses(url: str, state: QdrantState, clock: StillClock, status: int) -> None:
    state.fails = status
    assert str(status) in said(memory_at(url, clock))


def test_a_server_that_breaks_later(url: str, state: QdrantState, clock: StillClock, tmp_path: Path) -> None:
    store = memory_at(url, clock)
    memory = KeepingMemory(store, tmp_path / "pending", clock=clock)
    with closing(store):
        memory.remember(lesson())
        state.fails = 500
        with pytest.raises(ServiceError, match="kept in"):
            memory.remember(lesson(source="run-2/1"))
        state.fails = None
        assert [c.times for c in memory.all()] == [2]


def test_a_wrong_key(url: str, clock: StillClock) -> None:
    line = said(memory_at(url, clock, key="another-key"))
    assert "QDRANT_API_KEY" in line
    assert "another-key" not in line


def test_an_answer_that_is_no_json(url: str, state: QdrantState, clock: StillClock) -> None:
    state.garbles = True
    said(memory_at(url, clock))


def test_a_collection_of_other_vectors(url: str, state: QdrantState, clock: StillClock) -> None:
    state.size = 384
    state.collections["lessons"] = {}
    line = said(memory_at(url, clock))
    assert "384" in line
    assert "not Caravan's" in line
    assert state.collections["lessons"] == {}
