"""Nodes as Nomad's API shows them: the list's stub, the full node, attributes. Pure, made from the inventory."""

import hashlib
import json

from caravan.cluster.local.implied import SIGNALS
from caravan.cluster.local.inventory import Device, Node
from caravan.cluster.local.words import JsonDict, rfc3339

NOMAD_VERSION = "2.0.6"
"""The Nomad whose answers this cluster keeps to."""


def attributes(node: Node) -> dict[str, str]:
    """The node's attributes: those of the inventory and those that a client fingerprints."""
    found = {
        "caravan.builtin": "true",
        "cpu.numcores": str(node.cores),
        "cpu.totalcompute": str(node.cpu_mhz),
        "cpu.usablecompute": str(node.cpu_mhz),
        "memory.totalbytes": str(node.memory_mb * 1024 * 1024),
        "nomad.version": NOMAD_VERSION,
        "unique.hostname": node.name,
        "unique.network.ip-address": "127.0.0.1",
        "unique.storage.bytesfree": str(node.disk_mb * 1024 * 1024),
        "nomad.service_discovery": "true",
        "os.signals": SIGNALS,
    }
    for driver in node.drivers:
        found[f"driver.{driver}"] = "1"
    if "docker" in node.drivers:
        found["driver.docker.runtimes"] = ",".join(sorted(node.drivers["docker"].runtimes))
    return {**found, **node.attributes}


def properties(node: Node) -> dict[str, str]:
    """What `${node...}` means on this node."""
    return {
        "node.unique.id": node.id,
        "node.unique.name": node.name,
        "node.datacenter": node.datacenter,
        "node.region": "global",
        "node.class": node.node_class,
        "node.pool": node.node_pool,
    }


def computed_class(node: Node) -> str:
    """A digest of all that is not unique to the node: nodes of one class are filtered alike."""
    plain = {k: v for k, v in attributes(node).items() if not k.startswith("unique.")}
    meta = {k: v for k, v in node.meta.items() if not k.startswith("unique.")}
    devices = [d.model_dump(mode="json", exclude={"ids"}) for d in node.devices]
    seen = json.dumps([node.datacenter, node.node_pool, node.node_class, plain, meta, devices], sort_keys=True)
    return "v1:" + str(int.from_bytes(hashlib.sha256(seen.encode()).digest()[:8], "big"))


def _drivers(node: Node, at: int) -> JsonDict:
    shown: JsonDict = {}
    for name, driver in node.drivers.items():
        marks = {f"driver.{name}": "true"}
        if name == "docker":
            marks["driver.docker.runtimes"] = ",".join(sorted(driver.runtimes))
            marks["driver.docker.volumes.enabled"] = str(driver.volumes).lower()
            marks["driver.docker.version"] = node.attributes.get("driver.docker.version", "")
            marks["caravan.images"] = ",".join(driver.images)
        shown[name] = {
            "Attributes": marks,
            "Detected": True,
            "HealthDescription": "Healthy",
            "Healthy": True,
            "UpdateTime": rfc3339(at),
        }
    return shown


def device_attributes(device: Device) -> JsonDict:
    """The attributes that a device plug-in reports, in Nomad's shape; a declared device is marked as such."""
    blank = {"Bool": None, "Float": None, "Int": None, "String": None, "Unit": ""}
    found: JsonDict = {}
    if device.memory_mib is not None:
        found["memory"] = {**blank, "Int": device.memory_mib, "Unit": "MiB"}
    if device.declared:
        found["caravan_declared"] = {**blank, "Bool": True}
    return found


def _devices(node: Node) -> list[JsonDict]:
    return [
        {
            "Attributes": device_attributes(device),
            "Instances": [
                {"HealthDescription": "", "Healthy": True, "ID": i, "Locality": None}
                for i in device.instance_ids(node.name)
            ],
            "Name": device.model,
            "Type": device.type,
            "Vendor": device.vendor,
        }
        for device in node.devices
    ]


def _resources(node: Node) -> JsonDict:
    return {
        "Cpu": {
            "CpuShares": node.cpu_mhz,
            "ReservableCpuCores": list(range(node.cores)),
            "TotalCpuCores": node.cores,
        },
        "Devices": _devices(node) or None,
        "Disk": {"DiskMB": node.disk_mb},
        "MaxDynamicPort": 32000,
        "Memory": {"MemoryMB": node.memory_mb},
        "MinDynamicPort": 20000,
        "Networks": [{"CIDR": "127.0.0.1/32", "Device": "lo", "IP": "127.0.0.1", "MBits": 1000, "Mode": "host"}],
    }


_RESERVED: JsonDict = {
    "Cpu": {"CpuShares": 0, "ReservedCpuCores": None},
    "Disk": {"DiskMB": 0},
    "Memory": {"MemoryMB": 0},
    "Networks": {"ReservedHostPorts": ""},
}


def stub(node: Node, *, at: int, index: int, resources: bool) -> JsonDict:
    """The node as `/v1/nodes` lists it; `at` is when it came up (ns), `index` its Raft index."""
    volumes = {
        name: {"ID": "", "Name": name, "Path": volume.path, "ReadOnly": volume.read_only}
        for name, volume in node.host_volumes.items()
    }
    shown: JsonDict = {
        "Address": "127.0.0.1",
        "CreateIndex": index,
        "Datacenter": node.datacenter,
        "Drain": False,
        "Drivers": _drivers(node, at),
        "HostVolumes": volumes or None,
        "ID": node.id,
        "LastDrain": None,
        "ModifyIndex": index,
        "Name": node.name,
        "NodeClass": node.node_class,
        "NodePool": node.node_pool,
        "SchedulingEligibility": "eligible",
        "Status": "ready",
        "StatusDescription": "",
        "Version": NOMAD_VERSION,
    }
    if resources:
        shown["NodeResources"] = _resources(node)
        shown["ReservedResources"] = _RESERVED
    return shown


def full(node: Node, *, at: int, index: int) -> JsonDict:
    """The node as `/v1/node/:id` shows it."""
    shown = stub(node, at=at, index=index, resources=True)
    shown.pop("Address")
    return {
        **shown,
        "Attributes": attributes(node),
        "ComputedClass": computed_class(node),
        "CSIControllerPlugins": {},
        "CSINodePlugins": {},
        "Events": [{"Details": None, "Message": "Node registered", "Subsystem": "Cluster", "Timestamp": rfc3339(at)}],
        "HTTPAddr": "",
        "Links": {},
        "Meta": dict(node.meta),
        "StatusUpdatedAt": at // 1_000_000_000,
        "TLSEnabled": False,
    }
