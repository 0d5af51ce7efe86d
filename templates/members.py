"""Brings the members of a training on several nodes together, and ends them all when one of them fails.

It runs beside the training, in each member, with the standard library of whatever Python is there (3.7 or later). The
first member listens at the port of its service, the others connect to it; when all are there, each is told the port
of the training's own rendezvous. The connections stay: how a member ends is told to all others at once, so that none
waits for hours for one that is gone. What the launch script reads stands in the state directory: `met` (address and
port, a line each), `failed` (why this member has to end), `over` (this program's exit code, written by the script).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

MISSING = 75  # not all members came in time
BROKEN = 76  # another member ended badly, or went away
POLL_S = 0.1
BEAT_S = 5.0  # between two signs of life
SILENT_S = 120.0  # without one: a machine that is gone says nothing
GONE_S = 15.0  # how long a member may be missing among the services: they are told anew now and then
LONGEST = 4096  # bytes of a line that is waited for
STRANGERS = 32  # connections that have not said who they are: more push out the first
STRANGE_S = 10.0  # how long one may take to say it; a member does at once


class Ended(Exception):
    """This member's training has ended: there is nobody to wait for."""


class Broken(Exception):
    """Why this member can't go on; `code` is what it ends with."""

    def __init__(self, words: str, code: int = BROKEN) -> None:
        super().__init__(words)
        self.code = code


def is_number(text: str) -> bool:
    """Whether it is a number as members write it: `int` refuses some digits, and very many of them."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def read_members(path: Path) -> dict[int, tuple[str, int]]:
    """Rank → (address, port) of the services in the rendered file; nothing where it can't be read."""
    found: dict[int, tuple[str, int]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return found
    for line in lines:
        address, _, rest = line.partition(" ")
        port, _, tags = rest.partition(" ")
        ranks = [tag[5:] for tag in tags.split() if tag.startswith("rank-")]
        if len(ranks) == 1 and is_number(ranks[0]) and is_number(port):
            found[int(ranks[0])] = (address, int(port))
    return found


class Peer:
    """A connection to another member: whole lines in, lines out."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        connection.settimeout(SILENT_S)
        self.connection = connection
        self.rank = -1
        self.came = self.heard = time.monotonic()
        self.rest = b""

    def lines(self) -> list[str] | None:
        """What came, in whole lines; None at the end of the connection."""
        try:
            data = self.connection.recv(65536 if self.rank >= 0 else LONGEST)
        except OSError:
            return None
        self.heard = time.monotonic()
        *whole, self.rest = (self.rest + data).split(b"\n")
        if not data or len(self.rest) > LONGEST:
            return None
        return [line.decode("utf-8", "replace") for line in whole]

    def say(self, line: str) -> None:
        """Tell something; one that is gone hears nothing, which shows in what it says."""
        with contextlib.suppress(OSError):
            self.connection.sendall(f"{line}\n".encode())


class Member:
    """This member among the others."""

    def __init__(self, told: argparse.Namespace) -> None:
        self.told = told
        self.state: Path = told.state
        self.job = os.environ.get("NOMAD_JOB_ID", "")
        self.addresses: dict[int, tuple[str, int]] = {}
        self.peers: dict[int, Peer] = {}
        self.selector = selectors.DefaultSelector()
        self.beat = time.monotonic()

    def write(self, name: str, text: str) -> None:
        """Write a file of the state directory, whole or not at all."""
        part = self.state / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(self.state / name)

    def own_end(self) -> str | None:
        """How this member's training ended; None while it goes on."""
        with contextlib.suppress(OSError):
            return (self.state / "end").read_text(encoding="utf-8").strip() or "1"
        try:
            os.kill(self.told.parent, 0)
        except OSError:
            return "137"  # the script was killed
        return None

    def pause(self) -> None:
        """Wait a moment, unless there is nothing to wait for any more."""
        if self.own_end() is not None:
            raise Ended
        time.sleep(POLL_S)

    def gather(self) -> None:
        """Wait until all members are among the services."""
        deadline = time.monotonic() + self.told.wait
        while True:
            self.addresses = read_members(self.told.members)
            missing = [str(r) for r in range(self.told.nodes) if r not in self.addresses]
            if not missing:
                return
            if time.monotonic() > deadline:
                there = self.told.nodes - len(missing)
                words = f"only {there} of {self.told.nodes} members came within {self.told.wait} s"
                raise Broken(f"{words} (missing: rank {', '.join(missing)})", MISSING)
            self.pause()

    def still_there(self, since: dict[int, float]) -> None:
        """Look whether the members are still among the services; `since` says from when one has been missing."""
        found = read_members(self.told.members)
        now = time.monotonic()
        for rank in range(self.told.nodes):
            if rank in found:
                since.pop(rank, None)
            elif now - since.setdefault(rank, now) > GONE_S:
                raise Broken(f"rank {rank} went away before the training began")

    def meet(self) -> int:
        """Wait until all members are ready; returns the port of the training's rendezvous."""
        deadline = time.monotonic() + self.told.ready
        return self.listen(deadline) if self.told.rank == 0 else self.call(deadline)

    def late(self, deadline: float) -> None:
        """Whether the members take too long to get ready."""
        if time.monotonic() > deadline:
            raise Broken(f"the members were not ready within {self.told.ready} s", MISSING)

    def listen(self, deadline: float) -> int:
        """The first member's part: wait for the others, and tell them when all are there."""
        address, port = self.addresses[0]
        server = self.server(address, port)
        self.selector.register(server, selectors.EVENT_READ, None)
        missing: dict[int, float] = {}
        try:
            while len(self.peers) < self.told.nodes - 1:
                self.late(deadline)
                self.still_there(missing)
                if self.own_end() is not None:
                    raise Ended
                for key, _ in self.selector.select(POLL_S):
                    if key.fileobj is server:
                        self.accept(server)
                    else:
                        self.greeted(key.data)
                self.forget(STRANGERS, STRANGE_S)
        finally:
            self.selector.unregister(server)
            server.close()
        self.forget(0, 0)
        for peer in self.peers.values():
            peer.say(f"met {self.told.port}")
        return int(self.told.port)

    def server(self, address: str, port: int) -> socket.socket:
        """The listening socket, at the service's own address where this machine has it."""
        why = ""
        for name in (address, ""):
            family = socket.AF_INET6 if ":" in name else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                made.bind((name, port))
                made.listen(self.told.nodes)
                return made
            except OSError as error:
                made.close()
                why = str(error)
        raise Broken(f"can't listen at port {port}: {why}")

    def accept(self, server: socket.socket) -> None:
        """Take a new connection."""
        try:
            connection, _ = server.accept()
        except OSError:
            return
        self.selector.register(connection, selectors.EVENT_READ, Peer(connection))

    def forget(self, most: int, seconds: float) -> None:
        """End connections that have not said who they are: all but the last `most`, and those that take too long."""
        peers = [key.data for key in self.selector.get_map().values() if key.data is not None]
        strangers = sorted((p for p in peers if p.rank < 0), key=lambda p: p.came)
        for n, peer in enumerate(strangers):
            if n < len(strangers) - most or time.monotonic() - peer.came > seconds:
                self.drop(peer)

    def greeted(self, peer: Peer) -> None:
        """A new connection has said something: it is a member of this job, or it is closed."""
        said = peer.lines()
        for line in [""] if said is None else said:
            words = line.split(" ")
            if peer.rank >= 0 and words[0] == "beat":
                continue
            known = words[:1] == ["hello"] and words[2:] == [self.job] and is_number(words[1])
            if peer.rank < 0 and known and 0 < int(words[1]) < self.told.nodes:
                peer.rank = int(words[1])
                if peer.rank in self.peers:
                    self.drop(self.peers.pop(peer.rank))
                self.peers[peer.rank] = peer
                continue
            self.drop(peer)
            if self.peers.get(peer.rank) is peer:
                del self.peers[peer.rank]  # it comes again, or goes away for good
            return

    def drop(self, peer: Peer) -> None:
        """End a connection; one that has been ended already, which the same look showed twice, stays so."""
        if peer.connection.fileno() >= 0:
            self.selector.unregister(peer.connection)
            peer.connection.close()

    def call(self, deadline: float) -> int:
        """The others' part: reach the first, and wait until it says that all are there."""
        missing: dict[int, float] = {}
        while True:
            self.late(deadline)
            self.still_there(missing)
            try:
                connection = socket.create_connection(self.addresses[0], timeout=5)
            except OSError:
                self.pause()  # it is not ready yet
                continue
            peer = Peer(connection)
            peer.say(f"hello {self.told.rank} {self.job}")
            self.selector.register(connection, selectors.EVENT_READ, peer)
            port = self.met_by(peer, deadline, missing)
            if port is not None:
                peer.rank = 0
                self.peers[0] = peer
                return port
            self.drop(peer)
            self.pause()

    def met_by(self, peer: Peer, deadline: float, missing: dict[int, float]) -> int | None:
        """The port that the first member tells; None when the connection ends before."""
        while True:
            self.late(deadline)
            self.still_there(missing)
            if self.own_end() is not None:
                raise Ended
            for _ in self.selector.select(POLL_S):
                said = peer.lines()
                if said is None:
                    return None
                for line in said:
                    if line.startswith("met ") and is_number(line[4:]):
                        return int(line[4:])
            self.live()

    def live(self) -> None:
        """A sign of life to everybody."""
        if time.monotonic() - self.beat > BEAT_S:
            self.beat = time.monotonic()
            for peer in self.peers.values():
                peer.say("beat")

    def keep(self) -> None:
        """Stay beside the training until it ends; raises Broken when another member ends badly or goes away."""
        while True:
            code = self.own_end()
            if code is not None:
                for peer in self.peers.values():
                    peer.say(f"end {code}")
                return
            if not self.peers:
                time.sleep(POLL_S)
                continue
            for key, _ in self.selector.select(POLL_S):
                self.heard(key.data)
            self.live()
            for rank, peer in list(self.peers.items()):
                if time.monotonic() - peer.heard > SILENT_S:
                    raise Broken(f"rank {rank} says nothing any more")

    def heard(self, peer: Peer) -> None:
        """Read what another member says; raises Broken where that ends this one too. Others are not listened to."""
        rank = peer.rank
        if self.peers.get(rank) is not peer:
            self.drop(peer)
            return
        said = peer.lines()
        if said is None:
            raise Broken(f"rank {rank} went away")
        for line in said:
            word, _, rest = line.partition(" ")
            if word == "end" and rest == "0":
                self.drop(self.peers.pop(rank))  # it has done its part
                return
            if word == "end":
                raise Broken(f"rank {rank} ended with exit code {rest}")
            if word == "lost":
                raise Broken(rest)

    def end_training(self, words: str) -> None:
        """Tell everybody, and end this member's training: by a signal, and in the end by one that none can ignore."""
        self.write("failed", words + "\n")
        for peer in self.peers.values():
            peer.say(f"lost {words}")
        self.signal()
        deadline = time.monotonic() + self.told.kill
        while self.own_end() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if self.own_end() is None:
            self.told.overdue.touch()
            self.signal()

    def signal(self) -> None:
        """Tell the script to end its training."""
        with contextlib.suppress(OSError):
            os.kill(self.told.parent, signal.SIGTERM)

    def run(self) -> int:
        """Meet, keep, tell. The exit code."""
        try:
            self.gather()
            port = self.meet()
            self.write("met", f"{self.addresses[0][0]}\n{port}\n")
        except Ended:
            return 0
        except Broken as broken:
            self.write("failed", str(broken) + "\n")
            return broken.code
        try:
            self.keep()
        except Broken as broken:
            self.end_training(str(broken))
        return 0


def main() -> int:
    """Read what is told, and be a member."""
    parser = argparse.ArgumentParser()
    parser.add_argument("members", type=Path, help="the rendered file of services")
    parser.add_argument("state", type=Path, help="directory of what the script reads")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--port", type=int, required=True, help="of the training's own rendezvous")
    parser.add_argument("--parent", type=int, required=True, help="process id of the script")
    parser.add_argument("--wait", type=int, required=True, help="seconds for all members to have a place")
    parser.add_argument("--ready", type=int, required=True, help="seconds for all members to be ready then")
    parser.add_argument("--kill", type=int, required=True, help="seconds that the training has to end")
    parser.add_argument("--overdue", type=Path, required=True, help="file that says that those seconds are over")
    return Member(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
