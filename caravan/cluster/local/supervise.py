"""The cluster's side of a supervisor process: starting it, reading how its task stands, telling it to stop.

A supervisor is found again by its folder alone, whoever started it: its lock says whether it lives, state.json what
came of the task. Knows nothing of jobs or events.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from caravan.cluster.local.executor import write_json

PROJECT = Path(__file__).resolve().parents[3]
"""The directory that the package is imported from; children are started there."""

_LOOK_SECONDS = 0.03
_LOOKS_PER_CHECK = 15


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

    def __init__(self, folder: Path, alloc_id: str, task: str) -> None:
        self.folder = folder
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
        write_json(self.folder / "spec.json", dict(spec))
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with (self.folder / "supervisor.log").open("ab") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "caravan.cluster.local.executor", str(self.folder / "spec.json")],
                    cwd=PROJECT,
                    env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
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
        while True:
            state = self.state()
            if state.started is not None or state.over:
                return state
            await asyncio.sleep(_LOOK_SECONDS)

    async def until_over(self) -> RunState:
        """Wait for the run's end."""
        seen, looks = -1, 0
        while True:
            # Most looks find nothing new: the file's time says so, and the supervisor itself is looked at now and then.
            written = self._written()
            if written != seen or looks % _LOOKS_PER_CHECK == 0:
                seen, state = written, self.state()
                if state.over:
                    if state.gone:
                        self.sweep()
                    return state
            looks += 1
            await asyncio.sleep(_LOOK_SECONDS)

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
