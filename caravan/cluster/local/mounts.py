"""What a task's view of the machine shows: its own directories, volumes, and what its driver's options mount."""

import posixpath
from pathlib import Path
from typing import Any

from caravan.cluster.local.inventory import HostVolume, Node
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.view import Mount
from caravan.cluster.local.words import JsonDict, go_quote

_MB = 1024 * 1024
_SHM_BYTES = 64 * _MB  # what Docker gives a container at /dev/shm
_TMPFS_BYTES = 512 * _MB

INNER = TaskPlace(Path("/alloc"), Path("/"))
"""Where a task with a view of its own finds its directories."""


class BadMount(Exception):
    """A mount that can't be made, in the words of Nomad's driver. `daemon`: those of Docker's daemon."""

    def __init__(self, text: str, *, daemon: bool = False) -> None:
        super().__init__(text)
        self.daemon = daemon


def own(place: TaskPlace) -> list[Mount]:
    """The task's own directories."""
    return [
        Mount("/alloc", str(place.alloc_dir)),
        Mount("/alloc/logs", str(place.alloc_dir / "logs"), read_only=True),
        Mount("/local", str(place.local)),
        Mount("/secrets", str(place.secrets)),
    ]


def of_volumes(task: JsonDict, group: JsonDict, node: Node, volumes: Path) -> list[Mount]:
    """The task's `volume_mount`s; declared directories that this machine lacks are made below `volumes`."""
    made = []
    for wanted in task["VolumeMounts"] or []:
        request = (group["Volumes"] or {}).get(wanted.get("Volume") or "") or {}
        name = request.get("Source") or ""
        offered = node.host_volumes.get(name)
        if offered is None:
            continue
        read_only = bool(offered.read_only or request.get("ReadOnly") or wanted.get("ReadOnly"))
        source = _directory(offered, volumes / node.name / name)
        made.append(Mount(_target(wanted.get("Destination") or ""), str(source), read_only))
    return made


def _directory(volume: HostVolume, stand_in: Path) -> Path:
    """The volume's directory: the machine's own, else one of ours with the files that the inventory names."""
    real = Path(volume.path)
    if real.is_dir():
        return real
    stand_in.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name, text in volume.files.items():
        file = stand_in / posixpath.normpath("/" + name).lstrip("/")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return stand_in


def of_docker(config: JsonDict, place: TaskPlace, node: Node, scratch: Path) -> list[Mount]:
    """What docker's options `mount`, `mounts`, `volumes` and `shm_size` show. Raises BadMount.

    `scratch` is where named volumes and directories that Docker would make are put.
    """
    enabled = node.drivers["docker"].volumes
    size = int(config.get("shm_size") or 0) or _SHM_BYTES
    made = [Mount("/dev/shm", size=size)]  # noqa: S108 - a mount point
    made += [_bind(str(spec), place, scratch, enabled=enabled) for spec in config.get("volumes") or []]
    listed = [*(config.get("mount") or []), *(config.get("mounts") or [])]
    return made + [_mount(mount, place, scratch, enabled=enabled) for mount in listed]


def _bind(spec: str, place: TaskPlace, scratch: Path, *, enabled: bool) -> Mount:
    parts = spec.split(":")
    if len(parts) not in (2, 3) or not all(parts[:2]):
        raise BadMount(f"invalid docker volume {go_quote(spec)}: not <src>:<destination> format")
    source = Path(posixpath.normpath(posixpath.join(str(place.task_dir), parts[0])))
    if not enabled and place.alloc_dir.parent not in source.parents:
        raise BadMount(f"volumes are not enabled; cannot mount host path: {go_quote(spec)}")
    if not source.exists():  # Docker makes it
        source = scratch / "made" / _flat(str(source))
        source.mkdir(parents=True, exist_ok=True)
    return Mount(_target(parts[1]), str(source), read_only="ro" in (parts[2].split(",") if len(parts) == 3 else ()))


def _mount(mount: JsonDict, place: TaskPlace, scratch: Path, *, enabled: bool) -> Mount:
    kind, target = mount.get("type") or "volume", _target(str(mount.get("target") or ""))
    read_only = _true(mount.get("readonly"))
    if kind == "tmpfs":
        options = (mount.get("tmpfs_options") or [{}])[0] or {}
        return Mount(target, size=int(options.get("size") or _TMPFS_BYTES))
    given = str(mount.get("source") or "")
    if kind != "bind":
        if not enabled:
            raise BadMount(f"volumes are not enabled; cannot mount volume: {go_quote(given)}")
        folder = scratch / "docker" / _flat(given or target)
        folder.mkdir(parents=True, exist_ok=True)
        return Mount(target, str(folder), read_only)
    source = Path(posixpath.normpath(posixpath.join(str(place.task_dir), given)))
    if not enabled and place.alloc_dir.parent not in source.parents:
        raise BadMount(f"volumes are not enabled; cannot mount host path: {go_quote(str(source))}")
    if not source.exists():
        what = f'invalid mount config for type "bind": bind source path does not exist: {source}'
        raise BadMount(what, daemon=True)
    return Mount(target, str(source), read_only)


def _flat(path: str) -> str:
    return path.strip("/").replace("/", "-") or "root"


def _target(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _true(value: Any) -> bool:
    return str(value).lower() in ("true", "1")


def outer(path: str, mounts: list[Mount]) -> str:
    """Where on this machine the file lies that a task sees at `path`."""
    best = max((m for m in mounts if m.source and _below(path, m.target)), key=lambda m: len(m.target), default=None)
    return path if best is None else best.source + path[len(best.target) :]


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
