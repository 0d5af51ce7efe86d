"""The supervisor of one task: `python -m caravan.cluster.local.executor SPECFILE`, or a fork of `nursery`.

It starts the command, keeps its output in bounded files, holds it to its memory limit, stops it when told to and
writes how it stands into a file. It shares nothing with the cluster's process but files, so a cluster that is killed
and started again finds the task as it is. Its folder holds

    spec.json    what to run, from the cluster; its environment is taken out once it is read
    state.json   {"pid", "started", "finished", "exit_code", "signal", "oom", "error"}; times in ns since 1970
    stop.json    {"signal", "timeout_s"}: written by the cluster to end the task
    orders       a pipe: a byte in it says that there is a stop.json
    lock         held while the supervisor lives

The spec names a `bell`, a pipe of the cluster's: what is written there says that state.json has changed. Nothing
depends on either pipe but how soon it is noticed. A full disk ends no task: its output is then lost, and how it stands
is written as soon as there is room. Hundreds of supervisors live on one machine, so this one sleeps until something
happens.

No import of ours but the memory guard and the view, for a fast start. The task's processes end with the supervisor.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from caravan.cluster.local.memory_guard import Guard, guard_for, tree_of
from caravan.cluster.local.view import View, enter, part

_LOOK_SECONDS = 0.05
_RETRY_SECONDS = 1.0
_CHUNK = 1 << 16
_DRAIN_SECONDS = 2.0
_TASK_UMASK = 0o022  # as a Nomad client's tasks have it; ours is stricter
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36


def write_json(path: Path, value: dict[str, Any], *, lasting: bool = True) -> None:
    """Write a file whole: under another name, then renamed. `lasting`: it is on the disk when this returns."""
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        json.dump(value, out)
        out.flush()
        if lasting:
            os.fsync(out.fileno())
    new.replace(path)


def numbered(folder: Path, name: str) -> list[tuple[int, Path]]:
    """The files of a rotated log by their numbers, the oldest first. A name may hold what a pattern would read."""
    begin = f"{name}."
    rests = ((path.name.removeprefix(begin), path) for path in folder.iterdir() if path.name.startswith(begin))
    return sorted((int(rest), path) for rest, path in rests if rest.isdecimal())


class RotatedLog:
    """`<task>.<stream>.<n>` files of bounded size, of which the newest few are kept.

    What can't be written, for want of room, is lost: a task does not end for its output.
    """

    def __init__(self, folder: Path, name: str, max_files: int, max_bytes: int) -> None:
        self._folder, self._name = folder, name
        self._max_files, self._max_bytes = max(1, max_files), max(1, max_bytes)
        self._number = max((number for number, _ in numbered(folder, name)), default=0)
        self._open()

    def _open(self) -> None:
        self._file = (self._folder / f"{self._name}.{self._number}").open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, data: bytes) -> None:
        """Append, going on to a new file at the limit."""
        with contextlib.suppress(OSError):
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._file.closed:
            self._open()
        while data:
            room = self._max_bytes - self._size
            if room <= 0:
                self._file.close()
                self._number += 1
                self._open()
                (self._folder / f"{self._name}.{self._number - self._max_files}").unlink(missing_ok=True)
                continue
            written = self._file.write(data[:room]) or 0
            self._size += written
            data = data[written:]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Supervisor:
    """One task from start to end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spec: dict[str, Any] = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        self._state: dict[str, Any] = {"pid": None, "started": None, "finished": None, "error": None, "oom": False}
        self._guard: Guard = guard_for(self._spec["name"], self._spec["memory_bytes"])
        # The environment may hold secrets: it is on disk no longer than it takes to read it.
        known = {key: value for key, value in self._spec.items() if key != "env"}
        write_json(folder / "spec.json", known, lasting=False)
        self._selector = selectors.DefaultSelector()
        self._orders = self._listen()
        self._noticed = False  # whether the selector tells of the command's end
        self._ordered = False
        self._look_at = 0.0
        self._kill_at: float | None = None
        self._unsaved = False
        self._hindrance = ""  # why the task's view could not be made

    def run(self) -> None:
        """Start the command and stay until it and all its children have ended."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # children that outlive their parents become ours, and end with the task
        try:
            child = self._start()
        except (OSError, subprocess.SubprocessError) as error:
            said = self._hindrance or (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._save(error=said, finished=time.time_ns())
            self._guard.close()
            return
        self._save(pid=child.pid, started=time.time_ns())
        while child.poll() is None:
            self._pump(max(0.0, self._look_at - time.monotonic()))
            if self._ordered or time.monotonic() >= self._look_at:
                self._look(child)
        oom = bool(self._state["oom"]) or self._guard.exceeded(lambda _: [])
        self._end_tree()
        self._drain()
        self._guard.close()
        number = -child.returncode if child.returncode < 0 else 0
        code = 128 + number if number else child.returncode  # as a shell and Nomad count signals
        self._save(finished=time.time_ns(), exit_code=code, signal=number, oom=oom)
        while self._unsaved:  # nobody else knows how it ended
            time.sleep(_RETRY_SECONDS)
            self._save()

    def _listen(self) -> int | None:
        """The pipe that tells of orders; opened for writing too, for it must not end with a writer."""
        try:
            orders = os.open(self._folder / "orders", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        self._selector.register(orders, selectors.EVENT_READ, None)
        return orders

    def _start(self) -> "subprocess.Popen[bytes]":
        spec, guard = self._spec, self._guard
        view = View.of(spec["view"]) if spec.get("view") else None
        reader, teller = os.pipe()

        def prepare() -> None:  # in the child, before it becomes the command
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            # A shell can't trap what was ignored when it started, whoever ignored it: us, or who started us.
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            guard.add(os.getpid())  # the kernel reads a number as the process that writes it counts
            try:
                if view is not None:
                    enter(view)
                os.chdir(spec["cwd"])
                if spec.get("user"):
                    _become(spec["user"])
                    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # another user's process has forgotten it
            except (OSError, KeyError) as error:
                os.write(teller, str(error).encode())
                raise

        if view is not None:
            Path(view.folder).mkdir(mode=0o700, exist_ok=True)
            part()

        pipes = {stream: os.pipe() for stream in ("stdout", "stderr")}
        try:
            child = subprocess.Popen(
                spec["argv"],
                executable=spec["executable"],
                env=spec["env"],
                stdin=subprocess.DEVNULL,
                stdout=pipes["stdout"][1],
                stderr=pipes["stderr"][1],
                start_new_session=True,
                umask=_TASK_UMASK,
                preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread
            )
        finally:
            for _, writer in pipes.values():
                os.close(writer)
            os.close(teller)
            with os.fdopen(reader, "rb") as told:
                self._hindrance = told.read().decode(errors="replace")
        for stream, (reader, _) in pipes.items():
            name = f"{spec['task']}.{stream}"
            log = RotatedLog(Path(spec["logs"]), name, spec["max_files"], spec["max_file_bytes"])
            os.set_blocking(reader, False)
            self._selector.register(reader, selectors.EVENT_READ, log)
        with contextlib.suppress(OSError, AttributeError):  # no Linux 5.3: its end is noticed at the next look
            self._selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, None)
            self._noticed = True
        return child

    def _pump(self, seconds: float) -> bool:
        """Move output into the logs for at most so long; False when nothing is left to read."""
        readers = [k for k in self._selector.get_map().values() if k.data is not None]
        for key, _ in self._selector.select(seconds):
            if key.fd == self._orders:
                os.read(key.fd, _CHUNK)
                self._ordered = True
                continue
            if key.data is None:
                self._selector.unregister(key.fd)
                os.close(key.fd)
                continue
            data = os.read(key.fd, _CHUNK)
            if data:
                key.data.write(data)
                continue
            self._selector.unregister(key.fd)
            os.close(key.fd)
            key.data.close()
        return bool(readers)

    def _look(self, child: "subprocess.Popen[bytes]") -> None:
        if not self._state["oom"] and self._guard.exceeded(tree_of):
            self._state["oom"] = True
            _kill(tree_of(os.getpid()))
        self._obey(child)
        self._reap(child.pid)
        if self._unsaved:
            self._save()
        rest = self._guard.patience if self._noticed else _LOOK_SECONDS
        if self._kill_at is not None:
            rest = max(_LOOK_SECONDS, min(rest, self._kill_at - time.monotonic()))
        self._look_at = time.monotonic() + rest

    def _obey(self, child: "subprocess.Popen[bytes]") -> None:
        """Do what stop.json says: the signal to the command, and after the time-out an end to the whole tree."""
        self._ordered = False
        if self._kill_at is None:
            stop = self._folder / "stop.json"
            if not stop.exists():
                return
            order = json.loads(stop.read_text(encoding="utf-8"))
            self._kill_at = time.monotonic() + float(order["timeout_s"])
            if child.poll() is None:
                child.send_signal(int(order["signal"]))
        elif time.monotonic() >= self._kill_at:
            _kill(tree_of(os.getpid()))

    def _reap(self, main: int) -> None:
        """Bury orphans that have ended; the command itself is left to its own handle."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid == main:
                return
            os.waitpid(ended.si_pid, 0)

    def _end_tree(self) -> None:
        """A task's processes end with its command."""
        limit = time.monotonic() + _DRAIN_SECONDS
        while (tree := tree_of(os.getpid())) and time.monotonic() < limit:
            _kill(tree)
            self._pump(0.01)
            self._reap(0)

    def _drain(self) -> None:
        limit = time.monotonic() + _DRAIN_SECONDS
        while self._pump(_LOOK_SECONDS) and time.monotonic() < limit:
            pass

    def _save(self, **fields: Any) -> None:
        self._state |= fields
        try:
            write_json(self._folder / "state.json", self._state)
            self._unsaved = False
        except OSError:  # no room: tried again
            self._unsaved = True
        bell = self._spec.get("bell")
        if bell:
            ring(Path(bell), json.dumps(str(self._folder)).encode() + b"\n")


def ring(pipe: Path, word: bytes) -> None:
    """Say a word into a pipe if somebody listens there; a pipe that is full has words enough."""
    with contextlib.suppress(OSError):
        opened = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(opened, word)
        finally:
            os.close(opened)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _become(user: str) -> None:
    """Go on as that user, with its groups. Raises OSError."""
    import pwd

    entry = pwd.getpwnam(user) if not user.isdigit() else pwd.getpwuid(int(user))
    if entry.pw_uid == os.geteuid():
        return
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def _prctl(option: int, value: int) -> None:
    """Set a property of this process; nothing happens where there is no prctl."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def main(arguments: list[str]) -> int:
    """Supervise the task whose spec file is named."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Supervisor(Path(arguments[0]).parent).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
