"""This machine: its clock, the built-in cluster in a state directory, agents in the background. No setting is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path
    from threading import Event

    from caravan.cluster.local.control import LocalCluster
    from caravan.ports import RunFolder
    from caravan.values.base import Json


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """The time in UTC."""
        from datetime import UTC, datetime

        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, those included in which the machine slept: a job elsewhere goes on then."""
        import time

        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def sleep(self, seconds: float) -> None:
        """Wait."""
        import time

        time.sleep(seconds)

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait for the event."""
        return event.wait(seconds)


class LocalControl:
    """The built-in cluster's control over the state directory."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def up(self, inventory: Path | None) -> dict[str, Json]:
        """Start it, or find it running."""
        from caravan.cluster.local import control
        from config import process_environment

        return document(control.start(self._home, inventory=inventory, environment=process_environment()))

    def revive(self) -> bool:
        """Start it again, as it was, if it died; False when it was ended on purpose."""
        from caravan.cluster.local import control
        from config import process_environment

        return control.revive(self._home, environment=process_environment())

    def down(self) -> bool:
        """End it; False when it does not run."""
        from caravan.cluster.local import control

        return control.stop(self._home)

    def status(self) -> dict[str, Json] | None:
        """What runs, or None."""
        from caravan.cluster.local import control

        running = control.status(self._home)
        return document(running) if running else None

    def cache(self) -> dict[str, Json]:
        """Where it keeps packages and downloads for all jobs, and how many bytes they have."""
        from caravan.cluster.local import cache

        return {"path": str(cache.place(self._home)), "bytes": cache.size(self._home)}

    def clear_cache(self) -> int:
        """Remove them; the bytes come back."""
        from caravan.cluster.local import cache

        return cache.clear(self._home)


class BackgroundAgents:
    """Agents that go on without a terminal: a process of their own each, in a session of its own.

    `config` is the file with settings, where the command line names one; `flags` are the settings that it says.
    """

    def __init__(self, config: Path | None = None, flags: Sequence[str] = ()) -> None:
        self._config = config
        self._flags = flags
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, run_id: str, folder: RunFolder) -> dict[str, Json]:
        """Start an agent for the run; its process id and its log come back. Raises StateError when it can't start.

        Whether it holds the run then, shows: another agent may be quicker.
        """
        import os
        import subprocess
        import sys
        from pathlib import Path

        import psutil

        from caravan.values.errors import StateError
        from config import process_environment

        program = Path(__file__).resolve().parent / "main.py"
        config = ["--config", str(self._config.resolve())] if self._config else []
        config += [f"--setting={flag}" for flag in self._flags]  # none of them is a secret
        log = folder.agent_log
        try:
            with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
                child = subprocess.Popen(
                    [sys.executable, str(program), "resume", run_id, "--agent", *config],
                    env=process_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,  # the end of the terminal's session is not the agent's
                )
        except OSError as error:
            raise StateError(f"No agent can be started in the background: {error.strerror}.") from error
        self._children[child.pid] = child
        try:
            began = psutil.Process(child.pid).create_time()
        except psutil.Error:  # it has ended already
            began = 0.0
        return {"pid": child.pid, "began": began, "log": str(log)}

    def runs(self, told: Json) -> bool:
        """Whether that process is alive and still the one that was started: a process id is given anew some day."""
        import psutil

        if not isinstance(told, dict) or not isinstance(pid := told.get("pid"), int):
            return False
        child = self._children.get(pid)
        if child is not None and child.poll() is not None:
            return False
        try:
            return bool(psutil.Process(pid).create_time() == told.get("began"))
        except psutil.Error:
            return False

    def leave(self) -> None:
        """Let go of those that were started here: they are meant to outlive this process."""
        for child in self._children.values():
            if child.returncode is None:
                child.returncode = 0  # no warning that it still runs
        self._children.clear()


def document(running: LocalCluster) -> dict[str, Json]:
    """What runs, as JSON: address, token file, process, inventory."""
    from dataclasses import asdict

    return {k: v if isinstance(v, int | str) else str(v) for k, v in asdict(running).items()}
