"""Defaults of a service's Consul mesh blocks. Caravan's own jobs have none; job files of others may."""

from typing import Any

from caravan.hcl.defaults import LOGS, VOLUME_MOUNT, each, fill, resources
from caravan.hcl.schema import absent, block_types


def connect(node: dict[str, Any]) -> None:
    """Fill in a `connect` block, in place."""
    sidecar = node["SidecarService"]
    if sidecar is not None:
        _nulls(sidecar, "Tags", "Meta")
        if sidecar["Proxy"] is not None:
            _proxy(sidecar["Proxy"])
    if node["SidecarTask"] is not None:
        _task(node["SidecarTask"])


def _nulls(node: dict[str, Any], *keys: str) -> None:
    for key in keys:
        node[key] = node[key] or None


def _proxy(node: dict[str, Any]) -> None:
    _nulls(node, "Upstreams", "Config")
    for upstream in each(node, "Upstreams"):
        _nulls(upstream, "Config")


def _task(node: dict[str, Any]) -> None:
    _nulls(node, "Config", "Env", "Meta")
    if node["Resources"] is None:
        node["Resources"] = {f.key: absent(f) for f in block_types()["Resources"]}
    resources(node["Resources"])
    node["LogConfig"] = fill(node["LogConfig"] or {"Enabled": None}, LOGS)
    fill(node, {"KillTimeout": 5 * 10**9, "ShutdownDelay": 0})
    for mount in each(node, "VolumeMounts"):
        fill(mount, VOLUME_MOUNT)
