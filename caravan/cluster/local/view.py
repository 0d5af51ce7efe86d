"""A task's own view of the machine: /alloc, /local, /secrets and mounts where the job expects them.

A mount namespace over this machine's files: the root is built anew in memory from binds of what is there, with
directories for the mounts; nothing is made on the machine itself. The task is the first process of a process
namespace, as in a container, so a signal that it does not handle does not end it. Works as root and, where the
kernel allows user namespaces, without. It separates views; it holds nobody in: a task may still write wherever its
user may.

Part of the supervisor process: standard library only, and nothing of ours.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_NEWNS, _NEWUSER, _NEWPID = 0x00020000, 0x10000000, 0x20000000  # linux/sched.h
_RDONLY, _REMOUNT, _BIND, _MOVE, _REC, _PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18  # linux/mount.h
_KEPT = (  # flags that a remount has to repeat: a user namespace may not take them off
    (os.ST_NOSUID, 2),
    (os.ST_NODEV, 4),
    (os.ST_NOEXEC, 8),
    (getattr(os, "ST_NOATIME", 0), 1024),
    (getattr(os, "ST_RELATIME", 0), 1 << 21),
)


@dataclass(frozen=True)
class Mount:
    """What lies at `target` in the view: `source` of this machine, or memory of `size` bytes where there is none."""

    target: str
    source: str = ""
    read_only: bool = False
    size: int = 0

    def spec(self) -> dict[str, Any]:
        """The mount as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class View:
    """A view: `folder` is an empty directory where it is put together; `mounts` in the order of their depth."""

    folder: str
    mounts: tuple[Mount, ...]

    def spec(self) -> dict[str, Any]:
        """The view as JSON."""
        return {"folder": self.folder, "mounts": [m.spec() for m in self.mounts]}

    @classmethod
    def of(cls, spec: dict[str, Any]) -> "View":
        """The view that `spec` was made from."""
        return cls(spec["folder"], tuple(Mount(**m) for m in spec["mounts"]))


def _call(name: str, *arguments: Any) -> None:
    """A function of the C library that returns 0. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if t is None else os.fsencode(t) for t in (source, target, kind)]
    _call("mount", *texts, ctypes.c_ulong(flags), None if data is None else data.encode())


def part() -> None:
    """Leave the machine's process namespace: the next child is the first process of a new one. Raises OSError.

    Without the right to do so a user namespace is made first, in which this user keeps its number.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _NEWPID)
    except PermissionError:
        _call("unshare", _NEWUSER | _NEWPID)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def enter(view: View) -> None:
    """Make the view this process's own; it must be the first process after `part`. Raises OSError."""
    _call("unshare", _NEWNS)
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", view.folder, "tmpfs", 0, "mode=755")
    _fill(Path("/"), Path(view.folder), [m.target for m in view.mounts])
    for mount in view.mounts:
        _show(mount, view.folder)
    _mount("proc", f"{view.folder}/proc", "proc", 0)
    os.chdir(view.folder)
    _mount(view.folder, "/", None, _MOVE)
    os.chroot(".")
    os.chdir("/")


def _fill(real: Path, built: Path, targets: Sequence[str]) -> None:
    """Show in the directory `built` what the machine has at `real`, with room for the targets below it."""
    ways: dict[str, list[str]] = {}
    for target in targets:
        if target != str(real):
            rest = target.removeprefix(str(real)).lstrip("/").split("/", 1)
            ways.setdefault(rest[0], []).append(target)
    for name in sorted({*_names(real), *ways}):
        path, new = real / name, built / name
        if str(path) == "/proc":
            new.mkdir()
        elif name in ways and not all(_straight(t) for t in ways[name]):
            new.mkdir(0o755, exist_ok=True)
            _fill(path, new, ways[name])
        else:
            _same(path, new)


def _names(folder: Path) -> list[str]:
    """What is in a directory, as far as this user may see it."""
    try:
        return [entry.name for entry in folder.iterdir()]
    except (NotADirectoryError, FileNotFoundError, PermissionError):
        return []


def _straight(path: str) -> bool:
    """Whether the path is there without a symbolic link in it, so that a mount on it lies where it says."""
    return os.path.lexists(path) and os.path.realpath(path) == path


def _same(path: Path, new: Path) -> None:
    """Show one entry of the machine as it is."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return  # gone meanwhile
    if stat.S_ISLNK(mode):
        new.symlink_to(path.readlink())
        return
    if stat.S_ISDIR(mode):
        new.mkdir()
    else:
        new.touch()
    _mount(str(path), str(new), None, _BIND | _REC)


def _show(mount: Mount, root: str) -> None:
    """Put one mount at its place below `root`."""
    target, source = Path(root + mount.target), Path(mount.source)
    if not mount.source:
        target.mkdir(parents=True, exist_ok=True)
        _mount("tmpfs", str(target), "tmpfs", 0, f"size={mount.size},mode=1777")
        return
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        if target.is_dir():
            target.rmdir()  # made as room for it
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    _mount(mount.source, str(target), None, _BIND | _REC)
    if mount.read_only:
        now = os.statvfs(target).f_flag
        kept = sum(flag for seen, flag in _KEPT if seen and now & seen)
        _mount(None, str(target), None, _BIND | _REMOUNT | _RDONLY | kept)


def hindrance(folder: Path) -> str:
    """Why this machine can't give tasks a view of their own, in a few words; empty when it can.

    `folder` is an empty directory. A child process tries it; call this before there are threads.
    """
    if sys.platform != "linux":
        return "this system has no namespaces"
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _try(folder, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        said = told.read().decode(errors="replace")
    os.waitpid(child, 0)
    return "" if said == "ok" else said or "the trial broke off"


def _try(folder: Path, writer: int) -> None:
    """In a child: make a view and say how it went. Never returns."""
    try:
        part()
        inner = os.fork()
        if inner:
            os.waitpid(inner, 0)
            os._exit(0)
        enter(View(str(folder), (Mount("/alloc", str(folder)),)))
        os.write(writer, b"ok")
    except OSError as error:
        os.write(writer, (error.strerror or str(error)).encode())
    finally:
        os._exit(0)
