"""What task drivers are given and give back, and what several of them do. Starts nothing."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caravan.cluster.local import mounts
from caravan.cluster.local.containers import Daemon
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.taskenv import TaskPlace
from caravan.cluster.local.view import Mount, View
from caravan.cluster.local.words import JsonDict

ISOLATING = frozenset({"docker", "exec"})
"""The drivers that give a task a view of its own."""


class CannotStart(Exception):
    """A task that the driver can't start (Nomad's event Driver Failure). `recoverable`: another try may help."""

    def __init__(self, text: str, *, recoverable: bool = False) -> None:
        super().__init__(text)
        self.recoverable = recoverable


@dataclass(frozen=True)
class Command:
    """What to run: `executable` is the program's path, `argv` what it is told, its own name first.

    `container` is the one that runs in its stead where there is a daemon: the command then only watches it.
    """

    executable: str
    argv: tuple[str, ...]
    cwd: str
    view: View | None = None
    container: str = ""


@dataclass(frozen=True)
class Started:
    """What a driver is given to start a task; `environment` is complete and `config` resolved. `own` is the part of the
    environment that is not this machine's: all that a container gets beside its image's.

    `isolated`: the machine gives tasks views of their own. `scratch` is a directory of the cluster for what lasts
    longer than a task, `folder` one of this run. `held` are the task's resources in Nomad's shape, `daemon` is
    Docker's where one answers.
    """

    task: JsonDict
    group: JsonDict
    config: JsonDict
    environment: Mapping[str, str]
    place: TaskPlace
    node: Node
    devices: int
    alloc_id: str
    isolated: bool
    scratch: Path
    folder: Path
    own: Mapping[str, str] = field(default_factory=dict)
    held: JsonDict = field(default_factory=dict)
    daemon: Daemon | None = None

    @property
    def seen(self) -> TaskPlace:
        """Where the task finds its directories."""
        return seen_place(self.task["Driver"], self.place, isolated=self.isolated)


def seen_place(driver: str, place: TaskPlace, *, isolated: bool) -> TaskPlace:
    """Where a task of that driver finds its directories."""
    return mounts.INNER if isolated and driver in ISOLATING else place


def find(name: str, start: Started, shown: list[Mount]) -> str | None:
    """A program, by the path that the task sees: in its directories, else on its PATH."""
    for folder in (start.seen.local, start.seen.task_dir):
        if not name.startswith("/") and Path(mounts.outer(str(folder / name), shown)).is_file():
            return str(folder / name)
    if "/" in name:
        real = Path(mounts.outer(name, shown))
        runs = real.is_file() and (start.task["Driver"] != "docker" or os.access(real, os.X_OK))
        return name if runs else None
    return shutil.which(name, path=start.environment.get("PATH", ""))


def volumes_of(start: Started) -> list[Mount]:
    """The host volumes that the task mounts."""
    return mounts.of_volumes(start.task, start.group, start.node, start.scratch)


def view_of(start: Started, shown: list[Mount]) -> View:
    """A view with those mounts."""
    return View(str(start.folder / "root"), tuple(sorted(shown, key=lambda m: m.target.count("/"))))


def texts(values: Any) -> list[str]:
    """Arguments as texts."""
    return [str(v) for v in values or []]
