"""Stores that refuse, break off or hang: what is said, what is left, and what another run's upload has to fear."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from caravan.runs.stores import put, store_of
from caravan.values.delivery import Parcel
from caravan.values.errors import ServiceError
from tests.fakes.put_server import PutServer

ROOT = Path(__file__).resolve().parents[2]
CONTENT = bytes(range(256)) * 20_000
PARCEL = Parcel(sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


def pieces() -> Iterator[bytes]:
    for n in range(0, len(CONTENT), 1_000_000):
        yield CONTENT[n : n + 1_000_000]


def test_a_broken_upload_removes_nothing_which_may_be_another_runs() -> None:
    with closing(PutServer(break_after=1_000_000)) as server:
        url = f"{server.url}/store/x"
        with pytest.raises(ServiceError, match="can't be reached"):
            put(store_of(url), url, pieces(), PARCEL)
        assert not [line for line in server.asked if line.startswith("DELETE")]
        put(store_of(url), url, pieces(), PARCEL)
        assert server.objects["/store/x"] == CONTENT


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "the server answered 401. Its credentials belong into ~/.netrc."),
        (403, "the server answered 403. Its credentials belong into ~/.netrc."),
        (413, f"({len(CONTENT)} bytes): the server answered 413. Raise the server's limit of a request's size"),
        (405, "the server answered 405. See docs/jobs.md"),
        (503, "the server answered 503. Resume the run."),
    ],
)
def test_a_refusal_says_what_to_do(status: int, said: str) -> None:
    with closing(PutServer(refuse=status)) as server, pytest.raises(ServiceError) as raised:
        put(store_of(f"{server.url}/x"), f"{server.url}/x", pieces(), PARCEL)
    assert said in raised.value.line()


HANGING = """
import threading
import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from caravan.runs.stores import put, store_of
from caravan.values.delivery import Parcel
from caravan.values.errors import ServiceError

class Hung(MemoryFileSystem):
    def makedirs(self, path, exist_ok=False):
        threading.Event().wait()

fsspec.register_implementation("hung", Hung)
url = "hung://share/x"
try:
    put(store_of(url, patience_s=3), url, iter([b"x"]), Parcel(sha256="0" * 64, size=1))
except ServiceError as error:
    print(error)
"""


def test_a_library_that_hangs_keeps_no_process_alive() -> None:
    program = [sys.executable, "-c", HANGING]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("hung://share/x does not answer.\n", "")


def test_a_store_that_does_not_answer_is_asked_nothing_more() -> None:
    asked, go = [], threading.Event()

    class Silent(MemoryFileSystem):  # type: ignore[misc]
        def mv(self, *_: Any, **__: Any) -> None:
            asked.append("mv")
            go.wait()

        def rm_file(self, path: str) -> None:
            asked.append("rm_file")

    fsspec.register_implementation("silent", Silent)
    store = store_of("silent://share/x", patience_s=3)
    try:
        with pytest.raises(ServiceError, match="does not answer"):
            store.write(pieces(), len(CONTENT))
    finally:
        go.set()
    with pytest.raises(ServiceError, match="does not answer"):
        store.size()
    assert asked == ["mv"]


class OwnTrouble(BaseException):
    """A library's own, which is no Exception."""


def test_whatever_a_library_raises_is_in_our_words_and_its_thread_goes_on() -> None:
    class Troubled(MemoryFileSystem):  # type: ignore[misc]
        def info(self, path: str, **_: Any) -> Any:
            raise OwnTrouble("no idea")

    fsspec.register_implementation("troubled", Troubled)
    store = store_of("troubled://share/x")
    for _ in range(2):
        with pytest.raises(ServiceError, match="OwnTrouble: no idea"):
            store.size()


def test_its_thread_ends_with_the_store() -> None:
    before = set(threading.enumerate())
    store = store_of("memory://ends/x")
    assert store.size() is None
    (made,) = set(threading.enumerate()) - before
    del store
    made.join()
