"""Holding a process tree to a memory limit: by the kernel's cgroups where they can be made, else by looking.

Part of the supervisor process: standard library and psutil only, and nothing else of ours, so that it starts fast.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_CGROUPS = Path("/sys/fs/cgroup")


_AT_ONCE, _SOON, _REST = 0.1, 0.25, 1.0
_FAST = 2 << 30
"""Bytes a second: faster than processes fill their memory."""


class Guard(Protocol):
    """Watches one task's memory."""

    @property
    def patience(self) -> float:
        """Seconds until the next look."""

    def add(self, pid: int) -> None:
        """Put a process under guard, before it runs the task's command."""

    def exceeded(self, tree: Callable[[int], list[int]]) -> bool:
        """Whether the tree below this process, which `tree` lists, has gone over its limit."""

    def close(self) -> None:
        """Let go, after the last process has ended."""


class CgroupGuard:
    """The kernel holds the limit and kills; the count of its kills says that it did. Version 1 or 2."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Make the group; `limit` in bytes. Raises OSError where that is not allowed or there is no controller."""
        folder.mkdir()
        self._folder = folder
        try:
            self._limit(limit)
        except OSError:
            folder.rmdir()
            raise

    def _limit(self, limit: int) -> None:
        if (self._folder / "memory.max").exists():
            self._events = self._folder / "memory.events"
            (self._folder / "memory.max").write_text(str(limit))
            with contextlib.suppress(OSError):
                (self._folder / "memory.swap.max").write_text("0")
            with contextlib.suppress(OSError):
                (self._folder / "memory.oom.group").write_text("1")
        else:
            self._events = self._folder / "memory.oom_control"
            (self._folder / "memory.limit_in_bytes").write_text(str(limit))
            with contextlib.suppress(OSError):  # only where swap is counted
                (self._folder / "memory.memsw.limit_in_bytes").write_text(str(limit))
        self._kills()

    def _kills(self) -> int:
        """The kernel's count of kills. Raises OSError when it keeps none: then the guard would be blind."""
        for line in self._events.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
        raise OSError("this kernel does not count its out-of-memory kills")

    @property
    def patience(self) -> float:
        """The kernel does not wait for us: we only count what it did, and end what it has left."""
        return _REST

    def add(self, pid: int) -> None:
        """Move a process into the group."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def exceeded(self, tree: Callable[[int], list[int]]) -> bool:  # noqa: ARG002 - the kernel knows them
        """Whether the kernel has killed a process of the group."""
        return self._kills() > 0

    def close(self) -> None:
        """Remove the group."""
        with contextlib.suppress(OSError):  # a process that does not die keeps it busy
            self._folder.rmdir()


class PollGuard:
    """Adds up the resident memory of the tree. Pages that processes share count once for each of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen = 0

    @property
    def patience(self) -> float:
        """The nearer to the limit, the sooner; with little used of a small limit there is time too."""
        soonest = _AT_ONCE if self._seen > self._limit // 2 else _SOON
        return max(soonest, min(_REST, (self._limit - self._seen) / _FAST))

    def add(self, pid: int) -> None:
        """Nothing to do: the tree is named at every look."""

    def exceeded(self, tree: Callable[[int], list[int]]) -> bool:
        """Whether the processes together have more than the limit."""
        self._seen = sum(resident(pid) for pid in tree(os.getpid()))
        return self._seen > self._limit

    def close(self) -> None:
        """Nothing to let go."""


def resident(pid: int) -> int:
    """Resident memory of a process in bytes, less the pages of files it shares; 0 when it is gone."""
    try:
        _, total, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(total) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        if Path("/proc/self/statm").exists():
            return 0
    import psutil  # only where there is no /proc

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _own_group() -> Path | None:
    """The folder under which this process may try to make a group for memory."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _CGROUPS / "memory" / path.lstrip("/")
    for line in lines:
        if line.startswith("0::") and (_CGROUPS / "cgroup.controllers").exists():
            return _CGROUPS / line.split(":", 2)[2].lstrip("/")
    return None


def guard_for(name: str, limit: int) -> Guard:
    """The best guard there is for a limit in bytes; `name` is unique on this machine."""
    parent = _own_group()
    if parent is not None:
        try:
            return CgroupGuard(parent / f"caravan-{name}", limit)
        except OSError:
            pass  # not ours to make: look instead
    return PollGuard(limit)


def tree_of(root: int) -> list[int]:
    """The processes below `root`, without itself."""
    found: list[int] = []
    open_pids = [root]
    while open_pids:
        children = _children(open_pids.pop())
        found += children
        open_pids += children
    return found


def _children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task")
    if (lists / str(pid) / "children").exists():
        pids: list[int] = []
        try:
            for thread in lists.iterdir():
                pids += [int(p) for p in (thread / "children").read_text().split()]
        except OSError:
            pass  # ended while we looked
        return pids
    import psutil  # a kernel without the lists of children, or no Linux

    try:
        return [p.pid for p in psutil.Process(pid).children()]
    except psutil.Error:
        return []
