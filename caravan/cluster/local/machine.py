"""What this machine lets the cluster do for tasks, tried once at its start and said in words and attributes.

Views of their own (namespaces), containers (Docker's daemon), memory limits (cgroups).
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from caravan.cluster.local.containers import Daemon
from caravan.cluster.local.inventory import Driver, Inventory, Node
from caravan.cluster.local.memory_guard import CgroupGuard, guard_for

DOCKER_HOST = "DOCKER_HOST"
_SOCKET = "unix:///var/run/docker.sock"
_TRIAL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Machine:
    """`hindrance`: why tasks get no views of their own, else empty. `daemon`: Docker's. `kernel_limits`: cgroups."""

    hindrance: str
    daemon: Daemon | None
    kernel_limits: bool

    def words(self) -> str:
        """What it does for tasks, in a few words."""
        view = f"without mounts and paths of their own ({self.hindrance})" if self.hindrance else "in their own views"
        docker = f"processes {view}"
        if self.daemon is not None:
            docker = f"containers of Docker {self.daemon.version} where it has the image, else {docker}"
        limits = "by cgroups" if self.kernel_limits else "by watching the processes"
        return f"docker tasks: {docker}; exec tasks: processes {view}; memory limits: {limits}"

    def marked(self, inventory: Inventory, *, measured: bool) -> Inventory:
        """The inventory with this in its nodes' attributes; a measured node gets the driver `docker` of a daemon."""
        return inventory.model_copy(update={"nodes": tuple(self._node(n, measured=measured) for n in inventory.nodes)})

    def _node(self, node: Node, *, measured: bool) -> Node:
        marks = {"caravan.memory_limits": "cgroups" if self.kernel_limits else "watched"}
        drivers = dict(node.drivers)
        if self.daemon is not None and measured:
            drivers["docker"] = Driver(runtimes=self.daemon.runtimes, images=())
            marks["driver.docker.version"] = self.daemon.version
        if "docker" in drivers:
            real = self.daemon is not None
            marks["caravan.docker"] = f"daemon {self.daemon.version}" if self.daemon and real else "processes"
        return node.model_copy(update={"attributes": {**marks, **node.attributes}, "drivers": drivers})


def explore(home: Path, hindrance: str, environment: Mapping[str, str]) -> Machine:
    """Try what can be done here. `home` is the cluster's directory, by which its containers are known again."""
    mark = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    guard = guard_for(f"trial-{os.getpid()}", _TRIAL_BYTES)
    limits = isinstance(guard, CgroupGuard)
    guard.close()
    url = environment.get(DOCKER_HOST) or _SOCKET
    path = Path(url.removeprefix("unix://"))
    there = not url.startswith("unix://") or path.exists()  # else the library need not be loaded at all
    return Machine(hindrance, Daemon.find(url, mark) if there else None, limits)
