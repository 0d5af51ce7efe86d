"""The helper that brings members together: connections that are none of theirs neither end a training nor fill it."""

import argparse
import importlib.util
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.planning.scenes import TEMPLATES

HELPER = TEMPLATES / "members.py"


@pytest.fixture(scope="module")
def helper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("members_helper", HELPER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def until(wanted: Callable[[], Any]) -> Any:
    while not (found := wanted()):
        time.sleep(0.01)
    return found


class Pair:
    """Two members of one training, each beside a process that stands for its script."""

    def __init__(self, place: Path, held: ExitStack) -> None:
        self.place, self.held, self.port = place, held, free_port()
        self.scripts: list[subprocess.Popen[bytes]] = []
        self.helpers: list[subprocess.Popen[str]] = []
        (place / "members.txt").write_text(f"127.0.0.1 {self.port} rank-0\n127.0.0.1 9 rank-1\n")

    def state(self, rank: int) -> Path:
        return self.place / str(rank)

    def start(self, rank: int) -> None:
        self.state(rank).mkdir()
        script = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.held.callback(lambda: (script.kill(), script.communicate()))
        self.scripts.append(script)
        words = ["--nodes=2", f"--rank={rank}", "--port=1234", f"--parent={script.pid}", "--wait=300", "--ready=300"]
        command = [sys.executable, str(HELPER), str(self.place / "members.txt"), str(self.state(rank)), *words]
        child = subprocess.Popen(
            [*command, "--kill=1", f"--overdue={self.place / 'overdue'}"], env={"NOMAD_JOB_ID": "job"}, text=True
        )
        self.held.callback(lambda: (child.kill(), child.wait()))
        self.helpers.append(child)

    def connect(self) -> socket.socket:
        while True:
            try:
                return self.held.enter_context(socket.create_connection(("127.0.0.1", self.port)))
            except ConnectionRefusedError:
                assert self.helpers[0].poll() is None
                time.sleep(0.01)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as held:
        yield Pair(tmp_path, held)


@pytest.mark.parametrize("says", [b"", b"hel", b"GET / HTTP/1.1\r\n", "hello \N{SUPERSCRIPT TWO} job\n".encode()])
def test_a_connection_of_somebody_else_ends_no_training(pair: Pair, says: bytes) -> None:
    pair.start(0)
    stranger = pair.connect()
    stranger.sendall(says)
    pair.start(1)
    for rank in (0, 1):
        met = until(lambda rank=rank: (pair.state(rank) / "met").exists() or pair.helpers[rank].poll() is not None)
        assert met is True
        assert (pair.state(rank) / "met").read_text() == "127.0.0.1\n1234\n"
    stranger.close()
    for rank in (1, 0):
        (pair.state(rank) / "end").write_text("0")
        assert pair.helpers[rank].wait() == 0
    assert not list(pair.place.glob("*/failed"))
    assert [script.poll() for script in pair.scripts] == [None, None]


class Listener:
    """The first of two members, looked at from within: connections to it are pairs of sockets."""

    def __init__(self, helper: ModuleType, place: Path, held: ExitStack) -> None:
        told = argparse.Namespace(state=place, rank=0, nodes=3, members=place / "members.txt")
        self.helper, self.held, self.member = helper, held, helper.Member(told)
        self.member.job = "job"
        held.callback(self.member.selector.close)

    def connection(self) -> tuple[socket.socket, Any]:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            self.held.callback(end.close)
        peer = self.helper.Peer(ours)
        self.member.selector.register(ours, selectors.EVENT_READ, peer)
        return theirs, peer


@pytest.fixture
def listener(helper: ModuleType, tmp_path: Path) -> Iterator[Listener]:
    with ExitStack() as held:
        yield Listener(helper, tmp_path, held)


def test_a_greeting_may_come_in_pieces(listener: Listener) -> None:
    theirs, peer = listener.connection()
    for piece in (b"hello 1", b" job\n"):
        theirs.sendall(piece)
        listener.member.greeted(peer)
    assert listener.member.peers == {1: peer}


def test_who_says_too_much_or_a_number_that_is_none_is_sent_away(listener: Listener) -> None:
    for said in (b"x" * 5000, b"hello " + b"1" * 4080 + b" job\n", "hello \N{SUPERSCRIPT TWO} job\n".encode()):
        theirs, peer = listener.connection()
        theirs.sendall(said)
        while peer.connection.fileno() >= 0:
            listener.member.greeted(peer)
    assert listener.member.peers == {}


def test_a_member_that_comes_again_takes_its_place_and_the_old_connection_may_show_its_end(listener: Listener) -> None:
    first, old = listener.connection()
    first.sendall(b"hello 1 job\n")
    listener.member.greeted(old)
    second, new = listener.connection()
    second.sendall(b"hello 1 job\n")
    listener.member.greeted(new)
    listener.member.greeted(old)
    assert listener.member.peers == {1: new}


def test_strangers_are_few_and_do_not_stay(helper: ModuleType, listener: Listener) -> None:
    theirs, member = listener.connection()
    theirs.sendall(b"hello 1 job\n")
    listener.member.greeted(member)
    peers = [listener.connection()[1] for _ in range(helper.STRANGERS + 3)]
    listener.member.forget(helper.STRANGERS, 1e9)
    assert [peer.connection.fileno() < 0 for peer in peers] == [True] * 3 + [False] * helper.STRANGERS
    listener.member.forget(helper.STRANGERS, -1)
    assert all(peer.connection.fileno() < 0 for peer in peers)
    assert member.connection.fileno() >= 0


def test_nobody_but_a_member_is_listened_to(listener: Listener) -> None:
    theirs, peer = listener.connection()
    theirs.sendall(b"end 1\nlost everything\n")
    listener.member.heard(peer)
    assert peer.connection.fileno() < 0
