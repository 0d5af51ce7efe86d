"""Declared machines for scenarios' inventories. It knows nothing of faults."""

from collections.abc import Sequence
from typing import Any


def node(name: str = "room", pool: str = "default", **more: Any) -> dict[str, Any]:
    """A node that runs commands as they are; `more` goes over its usual fields."""
    usual: dict[str, Any] = {"cpu_mhz": 32_000, "cores": 16, "memory_mb": 4096, "disk_mb": 200_000}
    usual |= {"attributes": {"kernel.name": "linux", "cpu.arch": "amd64"}, "drivers": {"raw_exec": {}, "exec": {}}}
    return {"name": name, "node_pool": pool, **usual, **more}


def docker(*images: str, volumes: bool = True) -> dict[str, Any]:
    """Drivers of a node with these images."""
    return {"docker": {"runtimes": ["runc"], "images": list(images), "volumes": volumes}}


def cards(model: str, count: int, memory_mib: int) -> list[dict[str, Any]]:
    """Declared GPUs of a node."""
    return [{"vendor": "nvidia", "type": "gpu", "model": model, "memory_mib": memory_mib, "count": count}]


def inventory(*nodes: dict[str, Any]) -> dict[str, Any]:
    """The inventory of these nodes; without any: one with room and without a GPU."""
    given: Sequence[dict[str, Any]] = nodes or (node(),)
    return {"about": "declared machines for a fault", "nodes": list(given)}
