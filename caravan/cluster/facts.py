"""Nomad's JSON about the agent and its nodes → `ClusterFacts`. Pure: must not know how the JSON came here."""

from collections.abc import Mapping, Sequence
from typing import Final

from caravan.values.base import Json
from caravan.values.job import ClusterFacts, ClusterKind, DeviceGroup, DriverFacts, HostVolume, NodeFacts

IMAGES_ATTRIBUTE: Final = "caravan.images"
"""The driver attribute in which the built-in cluster names the images of its inventory."""

BUILTIN_TAG: Final = "caravan_builtin"
"""The tag in `member.Tags` by which the built-in cluster shows itself."""

DECLARED_ATTRIBUTE: Final = "caravan_declared"
"""The device attribute of GPUs that the built-in cluster only pretends."""

# Nomad's units of bytes (plugins/shared/structs/units): those of powers of ten and of powers of two.
_BYTES: Final = {
    "B": 1,
    "": 1 << 20,  # a bare number is MiB, as the NVIDIA plug-in counts
    **{f"{p}B": 1000**i for i, p in enumerate("kMGTP", start=1)},
    "KB": 1000,
    **{f"{p}iB": 1024**i for i, p in enumerate("KMGTP", start=1)},
}


def to_facts(
    agent: Json,
    nodes: Sequence[NodeFacts],
    *,
    address: str,
    region: str | None,
    csi_volumes: tuple[str, ...] | None = None,
) -> ClusterFacts:
    """The facts of a cluster from `/v1/agent/self` (empty where the token may not read it) and its nodes.

    Raises KeyError, TypeError, AttributeError or ValueError when the JSON has not Nomad's shape.
    """
    tags = (agent.get("member") or {}).get("Tags") or {}
    config = agent.get("config") or {}
    builtin = tags.get(BUILTIN_TAG) == "true"
    return ClusterFacts(
        kind=ClusterKind.BUILTIN if builtin else ClusterKind.NOMAD,
        address=address,
        version=_version(tags, config, nodes),
        region=region or config.get("Region") or tags.get("region") or "global",
        nodes=tuple(sorted(nodes, key=lambda n: (n.name, n.id))),
        csi_volumes=csi_volumes,
        shared_files=builtin,
    )


def _version(tags: Mapping[str, str], config: Json, nodes: Sequence[NodeFacts]) -> str:
    if tags.get("build"):
        return tags["build"]
    said = config.get("Version") or {}
    if isinstance(said, dict) and said.get("Version"):
        return "-".join(filter(None, (said["Version"], said.get("VersionPrerelease"))))
    return next((v for n in nodes if (v := n.attributes.get("nomad.version"))), "")


def to_node(node: Json) -> NodeFacts:
    """A node's document (`/v1/node/:id`) or its stub of the list (without attributes and meta)."""
    total = node.get("NodeResources") or {}
    kept = node.get("ReservedResources") or {}
    attributes = {k: str(v) for k, v in (node.get("Attributes") or {}).items()}
    cpu = total.get("Cpu") or {}
    return NodeFacts(
        id=node["ID"],
        name=node.get("Name") or "",
        datacenter=node.get("Datacenter") or "",
        node_pool=node.get("NodePool") or "default",
        node_class=node.get("NodeClass") or "",
        ready=node.get("Status") == "ready",
        eligible=node.get("SchedulingEligibility") == "eligible" and not node.get("Drain"),
        # What the operator reserved for the machine itself is not there for jobs.
        cpu_mhz=max(0, (cpu.get("CpuShares") or 0) - _reserved(kept, "Cpu", "CpuShares")),
        cores=cpu.get("TotalCpuCores") or len(cpu.get("ReservableCpuCores") or ()),
        memory_mb=max(0, _reserved(total, "Memory", "MemoryMB") - _reserved(kept, "Memory", "MemoryMB")),
        disk_mb=max(0, _reserved(total, "Disk", "DiskMB") - _reserved(kept, "Disk", "DiskMB")),
        drivers={
            name: _driver(name, d, attributes) for name, d in (node.get("Drivers") or {}).items() if d.get("Detected")
        },
        devices=tuple(_device(d) for d in total.get("Devices") or ()),
        host_volumes={
            name: HostVolume(path=v.get("Path") or "", read_only=bool(v.get("ReadOnly")))
            for name, v in (node.get("HostVolumes") or {}).items()
        },
        attributes=attributes,
        meta={k: str(v) for k, v in (node.get("Meta") or {}).items()},
    )


def _reserved(resources: Mapping[str, Json], kind: str, field: str) -> int:
    return int((resources.get(kind) or {}).get(field) or 0)


def _driver(name: str, driver: Json, attributes: Mapping[str, str]) -> DriverFacts:
    said = {**attributes} | {k: str(v) for k, v in (driver.get("Attributes") or {}).items()}
    images = said.get(IMAGES_ATTRIBUTE)
    return DriverFacts(
        healthy=bool(driver.get("Healthy")),
        version=said.get(f"driver.{name}.version", ""),
        images=None if images is None else tuple(filter(None, images.split(","))),
        runtimes=tuple(filter(None, said.get(f"driver.{name}.runtimes", "").split(","))),
    )


def _device(device: Json) -> DeviceGroup:
    attributes = device.get("Attributes") or {}
    return DeviceGroup(
        vendor=device.get("Vendor") or "",
        type=device.get("Type") or "",
        model=device.get("Name") or "",
        count=sum(1 for i in device.get("Instances") or () if i.get("Healthy", True)),
        memory_mib=_mebibytes(attributes.get("memory") or {}),
        driver=str((attributes.get("driver_version") or {}).get("String") or ""),
        declared=_true(attributes.get(DECLARED_ATTRIBUTE) or {}),
    )


def _mebibytes(attribute: Json) -> int | None:
    """A device's memory attribute in MiB, or None where it is missing or in a unit that is none of bytes."""
    number = attribute.get("Int") if attribute.get("Int") is not None else attribute.get("Float")
    size = _BYTES.get(attribute.get("Unit") or "")
    return None if number is None or size is None else int(number * size) >> 20


def _true(attribute: Json) -> bool:
    return attribute.get("Bool") is True or str(attribute.get("String")).lower() == "true"
