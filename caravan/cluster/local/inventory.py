"""The declared machines: reading an inventory file, or measuring this machine. Knows nothing of jobs.

An inventory is JSON: `{"about": text, "nodes": [{"name", "datacenter", "node_pool", "node_class", "cpu_mhz", "cores",
"memory_mb", "disk_mb", "attributes", "meta", "drivers", "devices", "host_volumes"}]}`. Devices of a file are declared:
no card is behind them. Only a measured inventory holds real ones, and only when `nvidia-smi` names them.
"""

import json
import platform
import shutil
import subprocess
import uuid
from functools import lru_cache
from pathlib import Path

import psutil
from pydantic import Field, ValidationError

from caravan.cluster.local.words import JsonDict
from caravan.values.base import Json, Value
from caravan.values.errors import UsageError

_DEFAULT_MHZ = 2000
"""MHz of a core whose clock the system doesn't tell, as in many virtual machines."""


class HostVolume(Value):
    """A directory of the node that jobs may mount. `files` says what lies there, for people; nothing is made."""

    path: str
    read_only: bool = False
    files: dict[str, str] = Field(default_factory=dict)


class Driver(Value):
    """A task driver. `images` are what docker tasks may name; an image is only a permission here, not a file system."""

    runtimes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    allow_privileged: bool = False
    volumes: bool = True


class Device(Value):
    """Equal devices of a node. `memory_mib` is per device; `ids` are real cards, or empty when only declared."""

    vendor: str = "nvidia"
    type: str = "gpu"
    model: str
    count: int = Field(default=1, ge=0)
    memory_mib: int | None = None
    ids: tuple[str, ...] = ()

    @property
    def declared(self) -> bool:
        """Whether the inventory only pretends the device."""
        return not self.ids

    def instance_ids(self, node: str) -> tuple[str, ...]:
        """An id for each device: the card's own, or one made from the node's name that stays the same."""
        if self.ids:
            return self.ids
        names = (f"{node}/{self.vendor}/{self.type}/{self.model}/{i}" for i in range(self.count))
        return tuple(f"{self.type.upper()}-{uuid.uuid5(uuid.NAMESPACE_OID, name)}" for name in names)


@lru_cache(maxsize=4096)
def _node_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.caravan.invalid"))


class Node(Value):
    """A machine. CPU in MHz over all cores, memory and disk in MB."""

    name: str = Field(min_length=1)
    datacenter: str = "dc1"
    node_pool: str = "default"
    node_class: str = ""
    cpu_mhz: int = Field(gt=0)
    cores: int = Field(gt=0)
    memory_mb: int = Field(gt=0)
    disk_mb: int = Field(gt=0)
    attributes: dict[str, str] = Field(default_factory=dict)
    meta: dict[str, str] = Field(default_factory=dict)
    drivers: dict[str, Driver] = Field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    host_volumes: dict[str, HostVolume] = Field(default_factory=dict)

    @property
    def id(self) -> str:
        """The node's id: made from its name, so that it is the same after a restart."""
        return _node_id(self.name)


class Inventory(Value):
    """The machines of a cluster."""

    about: str = ""
    nodes: tuple[Node, ...] = Field(min_length=1)

    def describe(self) -> str:
        """The inventory in a few words."""
        return self.about or ", ".join(n.name for n in self.nodes)


def load_inventory(path: Path) -> Inventory:
    """Read an inventory file. Raises UsageError naming the place that is wrong."""
    try:
        data: Json = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The inventory {path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The inventory {path} is no JSON: {error}.") from error
    return parse_inventory(data, str(path))


def parse_inventory(data: Json, name: str) -> Inventory:
    """An inventory from parsed JSON; `name` is for the error. Raises UsageError naming the place that is wrong."""
    try:
        inventory = Inventory.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"The inventory {name} is wrong at {place or 'its top'}: {first['msg']}.") from error
    names = [node.name for node in inventory.nodes]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UsageError(f"The inventory {name} has two nodes named {twice[0]}.")
    return inventory


def measure(disk_at: Path) -> Inventory:
    """This machine as it is: cores, clock, memory, free disk at `disk_at`, and the cards that nvidia-smi names."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count() or 1
    frequency = psutil.cpu_freq()
    mhz = round((frequency.max or frequency.current) if frequency else 0) or _DEFAULT_MHZ
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    cards = _nvidia_cards()
    attributes = {"kernel.name": platform.system().lower(), "cpu.arch": machine, "kernel.version": platform.release()}
    if cards:
        attributes["driver.nvidia.version"] = cards[0]["driver_version"]
    node = Node(
        name=platform.node() or "local",
        cpu_mhz=mhz * cores,
        cores=cores,
        memory_mb=psutil.virtual_memory().total // (1024 * 1024),
        disk_mb=max(1, shutil.disk_usage(disk_at).free // (1024 * 1024)),
        attributes=attributes,
        drivers={"raw_exec": Driver(), "exec": Driver()},
        devices=_group_cards(cards),
    )
    return Inventory(about="this machine", nodes=(node,))


def _nvidia_cards() -> list[JsonDict]:
    """One dict per card that `nvidia-smi` reports; empty where there is none or it does not answer."""
    fields = ("uuid", "name", "memory.total", "driver_version")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields) and row[2].isdigit()]


def _group_cards(cards: list[JsonDict]) -> tuple[Device, ...]:
    groups: dict[tuple[str, int], list[str]] = {}
    for card in cards:
        groups.setdefault((card["name"], int(card["memory.total"])), []).append(card["uuid"])
    return tuple(
        Device(model=model, memory_mib=memory, count=len(ids), ids=tuple(ids))
        for (model, memory), ids in groups.items()
    )
