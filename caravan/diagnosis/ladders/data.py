"""Against data that is not where the program looks for it, and directories that it can't write into."""

import posixpath
import shlex
from collections.abc import Iterable, Iterator
from itertools import islice

from caravan.diagnosis.ladders.case import Case, from_workdir, moved, with_item
from caravan.diagnosis.ladders.settings import checkpoint
from caravan.values.failure import Repair
from caravan.values.plan import Mount


def missing_path(case: Case) -> Iterator[Repair]:
    """Make the directory that is written to; else name the file of the repository, or offer a volume of the nodes."""
    path = case.detail("path")
    if not path or "\0" in path or "\n" in path or "://" in path:
        return
    if case.detail("kind") == "write":
        yield from _make_directory(case, path)
        return
    yield from _found(case, path)
    yield from _checkpoint(case, path)
    yield from _volumes(case, path)


def _checkpoint(case: Case, path: str) -> Iterator[Repair]:
    """From the start, where what is missing is no data but the checkpoint that the training should go on from."""
    given = case.plan.training.resume_from
    if given and _same_path(str(given), path):
        yield from islice(checkpoint(case), 1)


def _make_directory(case: Case, path: str) -> Iterable[Repair]:
    """`mkdir -p` before the training. On a node's own file system, which raw_exec tasks see, nothing is made."""
    parent = posixpath.dirname(path)
    if not parent or parent == "/" or (parent.startswith("/") and case.plan.driver == "raw_exec"):
        return ()
    command = f"mkdir -p -- {shlex.quote(parent)}"
    return case.change({"setup.cmd": with_item(case.plan.setup.cmd, command)}, f"{parent} is made before the training")


def _found(case: Case, path: str) -> Iterator[Repair]:
    """The only thing of that name in the repository, told to the program, or seen from another directory."""
    hit = _only(case, path)
    if hit is None:
        return
    plan = case.plan
    seen = from_workdir(plan, hit)
    why = f"{posixpath.basename(path.rstrip('/'))} is at {hit} in the repository"
    if _same_path(str(plan.dataset.path or ""), path):
        values = case.heard({"dataset.path": seen})
        yield from case.change(values, why)
    for flag, value in plan.training.options.items():
        if isinstance(value, str) and _same_path(value, path):
            yield from case.change({f"training.options.{flag}": seen}, why)
    words = [_with_path(word, path, seen) for word in plan.command]
    if words != list(plan.command):
        yield from case.change({"command": words}, why)
    yield from _from_elsewhere(case, path, hit)


def _only(case: Case, path: str) -> str | None:
    """The one file or directory of the repository that the path's end names, the longest end first."""
    parts = [p for p in path.split("/") if p not in ("", ".", "..")]
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        hits = [*case.looks.files(name), *case.looks.directories(name)]
        if hits:
            return hits[0] if len(hits) == 1 else None
    return None


def _same_path(a: str, b: str) -> bool:
    a, b = posixpath.normpath(a), posixpath.normpath(b)
    return a == b or (not a.startswith(("/", "..")) and b.endswith(f"/{a}") and a != ".")


def _with_path(word: str, path: str, seen: str) -> str:
    """The word with the path in it replaced, on its own or after an equals sign."""
    name, equals, value = word.rpartition("=")
    return f"{name}{equals}{seen}" if _same_path(value, path) and value else word


def _from_elsewhere(case: Case, path: str, hit: str) -> Iterable[Repair]:
    """The directory from which a path that is written into the code is right, with the script's path to match."""
    plan, relative = case.plan, posixpath.normpath(path)
    if path.startswith("/") or relative.startswith("..") or case.mended("workdir"):
        return ()
    if hit != relative and not hit.endswith(f"/{relative}"):
        return ()
    home = hit.removesuffix(relative).rstrip("/") or "."
    if home == posixpath.normpath(plan.workdir):
        return ()
    return case.change(moved(case, home), f"from {home} the path {path} is right")


def _volumes(case: Case, path: str) -> Iterator[Repair]:
    """A host volume whose path or name the missing path goes through. Mounting is always asked about."""
    plan = case.plan
    if plan.driver == "raw_exec" or not path.startswith("/"):
        return
    for name, where in sorted(_host_volumes(case).items()):
        parts = path.strip("/").split("/")
        if where and (path == where or path.startswith(f"{where.rstrip('/')}/")):
            destination = where.rstrip("/")
        elif name in parts:
            destination = "/" + "/".join(parts[: parts.index(name) + 1])
        else:
            continue
        if destination and destination not in {m.destination for m in plan.mounts}:
            mount = Mount(kind="host", source=name, destination=destination, read_only=True)
            mounts = [m.model_dump(mode="json") for m in (*plan.mounts, mount)]
            yield from case.change({"mounts": mounts}, f"the nodes' volume {name} at {destination}")


def _host_volumes(case: Case) -> dict[str, str]:
    return {name: v.path for node in case.outlook.takers(case.plan) for name, v in node.host_volumes.items()}
