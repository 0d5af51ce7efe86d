"""What a group takes of a node and what is left there: CPU, cores, memory, disk, ports, devices. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from caravan.cluster.local import constraints
from caravan.cluster.local.inventory import Device, Node
from caravan.cluster.local.words import JsonDict

_PORTS_END = 65536
PORTS = range(20000, 32001)
"""Ports that are handed out dynamically, as Nomad's default."""


@dataclass
class Usage:
    """What is taken on a node: CPU in MHz, memory and disk in MB, core numbers, device ids, ports."""

    cpu: int = 0
    memory: int = 0
    disk: int = 0
    cores: set[int] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)


def usage_of(allocs: Iterable[JsonDict]) -> Usage:
    """The sum of what a node's allocations hold."""
    used = Usage()
    for alloc in allocs:
        held = alloc["AllocatedResources"]
        cpu, memory = _peak(held["Tasks"], held["TaskLifecycles"])
        used.cpu += cpu
        used.memory += memory
        used.disk += held["Shared"]["DiskMB"]
        used.ports |= {p["Value"] for p in held["Shared"]["Ports"] or []}
        for task in held["Tasks"].values():
            used.cores |= set(task["Cpu"]["ReservedCores"] or [])
            for device in task["Devices"] or []:
                used.devices |= set(device["DeviceIDs"])
    return used


def _peak(tasks: Mapping[str, JsonDict], lifecycles: Mapping[str, JsonDict | None]) -> tuple[int, int]:
    """CPU and memory that are needed at once: prestart tasks are over before the main ones begin."""
    sums = {"prestart": [0, 0], "main": [0, 0], "poststop": [0, 0], "sidecar": [0, 0]}
    for name, task in tasks.items():
        life = lifecycles.get(name) or {}
        hook = str(life.get("Hook") or "main")
        phase = "sidecar" if life.get("Sidecar") else "main" if hook == "poststart" else hook
        sums[phase][0] += task["Cpu"]["CpuShares"]
        sums[phase][1] += task["Memory"]["MemoryMB"]
    cpu, memory = (max(sums[p][i] for p in ("prestart", "main", "poststop")) + sums["sidecar"][i] for i in (0, 1))
    return cpu, memory


def has_devices(node: Node, group: JsonDict) -> bool:
    """Whether the node has the devices that the group asks for, taken or not; who asks for none still needs a fit."""
    taken: set[str] = set()
    asked = [{**d, "Count": d.get("Count") or 1} for t in group["Tasks"] for d in t["Resources"]["Devices"] or []]
    return _take_devices(node, asked, taken) is not None


def fit(node: Node, group: JsonDict, used: Usage) -> JsonDict | str:
    """What an allocation of the group gets on the node, or the exhausted dimension in Nomad's words.

    The answer: `{"tasks": {name: AllocatedTaskResources}, "ports": [...], "cpu": MHz, "memory": MB}`.
    """
    ports = _take_ports(node, group, used.ports)
    if isinstance(ports, str):
        return ports
    taken_devices, taken_cores = set(used.devices), set(used.cores)
    tasks: dict[str, JsonDict] = {}
    for task in group["Tasks"]:
        devices = _take_devices(node, task["Resources"]["Devices"] or [], taken_devices)
        if devices is None:
            none = any(d.get("Count") == 0 for d in task["Resources"]["Devices"])
            return "devices: invalid request of zero devices" if none else "devices: no devices match request"
        cores = _take_cores(node, task["Resources"]["Cores"], taken_cores)
        if cores is None:
            return "cores"
        tasks[task["Name"]] = _allocated(node, task, devices, cores)
    cpu, memory = _peak(tasks, {t["Name"]: t["Lifecycle"] for t in group["Tasks"]})
    if used.cpu + cpu > node.cpu_mhz:
        return "cpu"
    if used.memory + memory > node.memory_mb:
        return "memory"
    if used.disk + group["EphemeralDisk"]["SizeMB"] > node.disk_mb:
        return "disk"
    return {"tasks": tasks, "ports": ports, "cpu": cpu, "memory": memory}


def _allocated(node: Node, task: JsonDict, devices: list[JsonDict], cores: list[int]) -> JsonDict:
    wanted = task["Resources"]
    shares = node.cpu_mhz // node.cores * len(cores) if cores else wanted["CPU"]
    return {
        "Cpu": {"CpuShares": shares, "ReservedCores": cores or None},
        "Devices": devices or None,
        "Memory": {"MemoryMB": wanted["MemoryMB"], "MemoryMaxMB": 0},
        "Networks": None,
    }


def _take_cores(node: Node, count: int, taken: set[int]) -> list[int] | None:
    if not count:
        return []
    free = [c for c in range(node.cores) if c not in taken][:count]
    if len(free) < count:
        return None
    taken.update(free)
    return free


def _take_ports(node: Node, group: JsonDict, used: set[int]) -> list[JsonDict] | str:
    taken, given = set(used), []
    for network in group["Networks"] or []:
        for port in network.get("ReservedPorts") or []:
            if not 0 <= port["Value"] < _PORTS_END:
                return f"network: invalid port {port['Value']} (out of range)"
            if port["Value"] in taken and not port.get("IgnoreCollision"):
                return f"network: reserved port collision {port['Label']}={port['Value']}"
            taken.add(port["Value"])
            given.append({"HostIP": "127.0.0.1", "Label": port["Label"], "Value": port["Value"]})
        for port in network.get("DynamicPorts") or []:
            value = next((p for p in _dynamic_ports(node) if p not in taken), None)
            if value is None:
                return "network: dynamic port selection failed"
            taken.add(value)
            given.append({"HostIP": "127.0.0.1", "Label": port["Label"], "Value": value})
    return given


def _dynamic_ports(node: Node) -> Iterator[int]:
    """All dynamic ports, from another one on at each node: those of several clusters may be of one machine."""
    start = int(node.id[:8], 16) % len(PORTS)
    return chain(PORTS[start:], PORTS[:start])


def _take_devices(node: Node, requests: list[JsonDict], taken: set[str]) -> list[JsonDict] | None:
    """Instances for each request, marked as taken; None when one can't be met."""
    given = []
    for request in requests:
        wanted = 1 if request.get("Count") is None else int(request["Count"])
        if not wanted:
            return None
        offers = []
        for device in node.devices:
            free = [i for i in device.instance_ids(node.name) if i not in taken]
            if named(device, request["Name"]) and len(free) >= wanted and _device_holds(device, request):
                offers.append((_device_score(device, request), device, free[:wanted]))
        if not offers:
            return None
        _, device, ids = max(offers, key=lambda offer: offer[0])
        taken.update(ids)
        given.append({"DeviceIDs": ids, "Name": device.model, "Type": device.type, "Vendor": device.vendor})
    return given


def named(device: Device, name: str) -> bool:
    """Whether a request's name (`gpu`, `nvidia/gpu` or `nvidia/gpu/<model>`) means the device."""
    parts = name.split("/", 2)
    own = (device.vendor, device.type, device.model)
    if len(parts) == 1:
        return parts[0] == device.type
    return tuple(parts) == own[: len(parts)]


def _device_known(device: Device) -> dict[str, str]:
    known = {"device.vendor": device.vendor, "device.type": device.type, "device.model": device.model}
    if device.memory_mib is not None:
        known["device.attr.memory"] = f"{device.memory_mib} MiB"
    if device.declared:
        known["device.attr.caravan_declared"] = "true"
    return known


def _device_holds(device: Device, request: JsonDict) -> bool:
    known = _device_known(device)
    return all(constraints.holds(c, known, units=True) for c in request["Constraints"] or [])


def _device_score(device: Device, request: JsonDict) -> float:
    known = _device_known(device)
    return float(
        sum(a.get("Weight") or 50 for a in request["Affinities"] or [] if constraints.holds(a, known, units=True))
    )


def exhausted_sum(group: JsonDict, dimensions: Mapping[str, int]) -> JsonDict:
    """What each task asked of the dimensions that were exhausted, as Nomad's ResourcesExhausted."""
    asked = {"memory": "MemoryMB", "cpu": "CPU", "cores": "Cores"}
    blank: JsonDict = dict.fromkeys(("CPU", "Cores", "DiskMB", "IOPS", "MemoryMB", "MemoryMaxMB", "SecretsMB"), 0)
    blank |= {"Devices": None, "NUMA": None, "Networks": None}
    shown = {}
    for task in group["Tasks"]:
        own = dict(blank)
        for dimension, name in asked.items():
            if dimension in dimensions:
                own[name] = task["Resources"][name]
        shown[task["Name"]] = own
    return shown
