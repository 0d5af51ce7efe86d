"""The cluster's side of a supervisor process: starting it, reading how its task stands, telling it to stop.

A supervisor is found again by its folder alone, whoever started it: its lock says whether it lives, state.json what
came of the task. Nobody looks at hundreds of them all the time: they ring a bell when something has changed. Knows
nothing of jobs or events.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from caravan.cluster.local.executor import ring, write_json

PROJECT = Path(__file__).resolve().parents[3]
"""The directory that the package is imported from; children are started there."""

_LOOK_SECONDS = 1.0
"""How long a run goes unlooked at when its supervisor says nothing; that it is dead is only noticed so."""

_DEAF_SECONDS = 0.05  # the same where there is no bell
_CHUNK = 1 << 16


@dataclass(frozen=True)
class RunState:
    """How a run stands. `gone`: its supervisor died without a word. Times in ns since 1970."""

    started: int | None = None
    finished: int | None = None
    exit_code: int = 0
    signal: int = 0
    oom: bool = False
    error: str | None = None
    gone: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.finished is not None or self.gone


class Run:
    """One run of a task, by its folder `<runs>/<alloc>/<task>/<number>`."""

    def __init__(self, supervisors: "Supervisors", folder: Path, alloc_id: str, task: str) -> None:
        self.folder = folder
        self._supervisors = supervisors
        self._owner = {"NOMAD_ALLOC_ID": alloc_id, "NOMAD_TASK_NAME": task}
        self._child: subprocess.Popen[bytes] | None = None
        self._order: tuple[int, float] | None = None

    @property
    def begun(self) -> bool:
        """Whether a supervisor was started here, by this process or a former one."""
        return (self.folder / "spec.json").exists()

    def start(self, spec: Mapping[str, Any]) -> None:
        """Start the supervisor with this spec. It holds its lock from the first moment on. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # there from an interrupted start, or no pipes on this file system
            os.mkfifo(self.folder / "orders", 0o600)
        write_json(self.folder / "spec.json", {**spec, "bell": str(self._supervisors.bell)}, lasting=False)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._child = self._supervisors.start(self.folder, lock)
        finally:
            os.close(lock)

    def state(self) -> RunState:
        """How the run stands now."""
        alive = self._alive()  # asked before the file is read: a last word may come in between
        try:
            told = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return RunState(gone=not alive)
        return RunState(
            started=told["started"],
            finished=told["finished"],
            exit_code=told.get("exit_code") or 0,
            signal=told.get("signal") or 0,
            oom=told["oom"],
            error=told["error"],
            gone=not alive and told["finished"] is None,
        )

    def _alive(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            return False
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    async def until_started(self) -> RunState:
        """Wait until the command runs, or never will."""
        return await self._until(lambda state: state.started is not None or state.over)

    async def until_over(self) -> RunState:
        """Wait for the run's end."""
        state = await self._until(lambda state: state.over)
        if state.gone:
            self.sweep()
        return state

    async def _until(self, good: Callable[[RunState], bool]) -> RunState:
        with self._supervisors.heard(self.folder) as rung:
            while True:
                rung.clear()
                written, state = self._written(), self.state()
                if good(state):
                    return state
                while not rung.is_set() and self._written() == written and self._alive():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._supervisors.patience):
                            await rung.wait()

    def _written(self) -> int:
        """When the supervisor last said how it stands; 0 for never."""
        try:
            return (self.folder / "state.json").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def complaint(self) -> str:
        """The last line that a supervisor which died has left; empty when there is none."""
        try:
            lines = (self.folder / "supervisor.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1] if lines else ""

    def stop(self, signal: int, timeout_s: float) -> None:
        """Tell the supervisor to end the task: a signal, and after the time-out a kill."""
        if self._order is None:
            self._order = (signal, timeout_s)
            write_json(self.folder / "stop.json", {"signal": signal, "timeout_s": timeout_s})
            ring(self.folder / "orders", b"!")

    def signal(self, number: int) -> bool:
        """Send a signal to the command; False when it is not there."""
        try:
            os.kill(int(json.loads((self.folder / "state.json").read_text(encoding="utf-8"))["pid"]), number)
        except (OSError, ValueError, TypeError):
            return False
        return True

    def sweep(self) -> None:
        """Kill what a dead supervisor has left, known by allocation and task in its environment."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if self._owner.items() <= process.environ().items():
                    process.kill()


class Supervisors:
    """Starts supervisors and hears from them: the nursery that forks them, and the bell that they ring.

    Both are made by `open`; without them supervisors are started one by one and looked at often.
    """

    def __init__(self, bell: Path) -> None:
        self.bell = bell
        self._pipe: int | None = None
        self._rest = b""
        self._listening: dict[str, asyncio.Event] = {}
        self._channel: socket.socket | None = None
        self._nursery: subprocess.Popen[bytes] | None = None

    def run(self, folder: Path, alloc_id: str, task: str) -> Run:
        """A run of a task, by its folder `<runs>/<alloc>/<task>/<number>`."""
        return Run(self, folder, alloc_id, task)

    def open(self) -> None:
        """Listen, in the running event loop, and start the nursery. What this machine does not allow is left out."""
        with contextlib.suppress(OSError):
            self.bell.unlink(missing_ok=True)
            os.mkfifo(self.bell, 0o600)
            # For writing too: the pipe must not end when a supervisor closes it.
            self._pipe = os.open(self.bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            asyncio.get_running_loop().add_reader(self._pipe, self._hear)
        with contextlib.suppress(OSError):
            self._open_nursery()

    def _open_nursery(self) -> None:
        if not sys.platform.startswith("linux"):
            return  # messages that keep their bounds and carry locks are Linux's
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            words = ["-m", "caravan.cluster.local.nursery", str(theirs.fileno())]
            try:
                self._nursery = _python(words, subprocess.DEVNULL, theirs.fileno())
            except OSError:
                ours.close()
                raise
        self._channel = ours

    def close(self) -> None:
        """Stop listening and let the nursery end; supervisors go on."""
        if self._pipe is not None:
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = None
        self._close_nursery()

    def _close_nursery(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._nursery is not None:
            self._nursery.wait()
            self._nursery = None

    def start(self, folder: Path, lock: int) -> "subprocess.Popen[bytes] | None":
        """Start the supervisor of a run that holds that open lock; the process if it is a child of ours.

        Raises OSError.
        """
        for _ in range(2):
            if self._channel is None:
                break
            try:
                socket.send_fds(self._channel, [os.fsencode(folder)], [lock])
                return None
            except OSError:  # it has died: with another one, then, or without
                self._close_nursery()
                with contextlib.suppress(OSError):
                    self._open_nursery()
        with (folder / "supervisor.log").open("ab") as log:
            return _python(["-m", "caravan.cluster.local.executor", str(folder / "spec.json")], log, lock)

    @property
    def patience(self) -> float:
        """Seconds until a run is looked at again, unless it rings."""
        return _LOOK_SECONDS if self._pipe is not None else _DEAF_SECONDS

    @contextlib.contextmanager
    def heard(self, folder: Path) -> Iterator[asyncio.Event]:
        """What is set when the supervisor of that run rings."""
        rung = self._listening.setdefault(str(folder), asyncio.Event())
        try:
            yield rung
        finally:
            self._listening.pop(str(folder), None)

    def _hear(self) -> None:
        """Read the pipe: one run's folder to a line, as JSON. What is not understood was not for us."""
        if self._pipe is None:
            return
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._pipe, _CHUNK)
        *lines, self._rest = self._rest.split(b"\n")
        self._rest = self._rest[-_CHUNK:]
        for line in lines:
            with contextlib.suppress(ValueError):
                rung = self._listening.get(str(json.loads(line)))
                if rung is not None:
                    rung.set()


def _python(words: list[str], output: Any, handed: int) -> "subprocess.Popen[bytes]":
    """An interpreter of its own session with one descriptor handed over. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=PROJECT,
        env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        pass_fds=(handed,),
    )
