"""Running a command where a task runs: in its container, in its view, or beside it. Knows no jobs and no events."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import psutil

from caravan.cluster.local.containers import Daemon, DaemonError


async def in_container(daemon: Daemon, name: str, command: Sequence[str], seconds: float) -> tuple[int, str]:
    """In a container: the exit code, and why it could not be run, else nothing."""
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(daemon.execute, name, command), ""
    except TimeoutError:
        return 0, "context deadline exceeded"
    except DaemonError as error:
        return 0, str(error)


async def beside(folder: Path, command: Sequence[str], seconds: float) -> tuple[int, str]:
    """With the environment and the view of the process whose run lives in `folder`; the answer as `in_container`."""
    try:
        told = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        main = psutil.Process(int(told["pid"]))
        environment, cwd = main.environ(), main.cwd()
    except (OSError, ValueError, TypeError, psutil.Error):
        return 0, "Task not running"
    words = list(command)
    if spec.get("view"):
        enter = shutil.which("nsenter")
        if enter is None:
            return 0, "this machine has no nsenter to enter the task's view"
        own = ["--user", "--preserve-credentials"] if _has_own_user(main.pid) else []
        words = [enter, "--target", str(main.pid), *own, "--mount", "--pid", "--root", "--wd", "--", *words]
        cwd = "/"
    return await _finished(words, environment, cwd, seconds)


def _has_own_user(pid: int) -> bool:
    """Whether a process lives in another user namespace than we."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
    return False


async def _finished(words: Sequence[str], environment: dict[str, str], cwd: str, seconds: float) -> tuple[int, str]:
    quiet = asyncio.subprocess.DEVNULL
    try:
        child = await asyncio.create_subprocess_exec(
            *words, env=environment, cwd=cwd, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    except OSError as error:
        return 0, error.strerror or str(error)
    try:
        async with asyncio.timeout(seconds):
            return await child.wait(), ""
    except TimeoutError:
        return 0, "context deadline exceeded"
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
