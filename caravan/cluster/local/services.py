"""Nomad's own service discovery: what the allocations that live have registered. Pure, made from the state.

A service with the provider `nomad` is registered as long as its allocation lives, that of a task while the task runs.
"""

import re
from collections.abc import Iterator
from typing import Any

from caravan.cluster.local.canonical import group_of
from caravan.cluster.local.state import AllocRecord, State
from caravan.cluster.local.words import JsonDict

_REFERENCE = re.compile(r"\$\{([^}]+)\}")


def registered(state: State) -> list[JsonDict]:
    """All registrations in the API's shape, by name and id."""
    found = [r for a in state.allocs.values() if _lives(a) for r in _of(a)]
    return sorted(found, key=lambda r: (r["ServiceName"], r["ID"]))


def for_templates(state: State) -> list[JsonDict]:
    """All registrations as templates see them."""
    return [
        {
            "Address": r["Address"],
            "AllocID": r["AllocID"],
            "ID": r["ID"],
            "JobID": r["JobID"],
            "Name": r["ServiceName"],
            "NodeID": r["NodeID"],
            "Port": r["Port"],
            "Tags": r["Tags"],
        }
        for r in registered(state)
    ]


def listed(record: AllocRecord) -> Iterator[tuple[str, JsonDict, str, int]]:
    """The services of the provider `nomad` that an allocation declares: the task that each is of (empty for the
    group's), the service with its name resolved, and its address."""
    group = group_of(record.job, record.body["TaskGroup"])
    if group is None:
        return
    declared = [("", s) for s in group["Services"] or []]
    declared += [(str(t["Name"]), s) for t in group["Tasks"] for s in t["Services"] or []]
    for owner, service in declared:
        if (service.get("Provider") or "consul") == "nomad":
            made = _registration(record, owner, service)
            yield owner, {**service, "Name": made["ServiceName"]}, made["Address"], made["Port"]


def port_of(record: AllocRecord, label: str) -> tuple[str, int] | None:
    """The address behind a port's label; a number is a port of this machine."""
    for port in record.body["AllocatedResources"]["Shared"]["Ports"] or []:
        if port["Label"] == label:
            return str(port["HostIP"]), int(port["Value"])
    return ("127.0.0.1", int(label)) if label.isdigit() else None


def _lives(record: AllocRecord) -> bool:
    return not record.client_terminal and record.body["DesiredStatus"] == "run"


def _of(record: AllocRecord) -> Iterator[JsonDict]:
    group = group_of(record.job, record.body["TaskGroup"])
    if group is None:
        return
    states = record.body.get("TaskStates") or {}
    runs = {name for name, state in states.items() if state["State"] == "running" and not _ending(state)}
    listed = [("group", s) for s in group["Services"] or []]
    listed += [(f"task-{t['Name']}", s) for t in group["Tasks"] if t["Name"] in runs for s in t["Services"] or []]
    for owner, service in listed:
        if (service.get("Provider") or "consul") == "nomad":
            yield _registration(record, owner, service)


def _ending(state: JsonDict) -> bool:
    """Whether the task is being ended: its services go first."""
    return bool(state["Events"]) and state["Events"][-1]["Type"] == "Killing"


def _registration(record: AllocRecord, owner: str, service: JsonDict) -> JsonDict:
    body, job = record.body, record.job
    known = _known(record)
    name = _resolved(service.get("Name") or "", known)
    label = service.get("PortLabel") or ""
    ports = {p["Label"]: p for p in body["AllocatedResources"]["Shared"]["Ports"] or []}
    port = ports.get(label)
    number = port["Value"] if port else int(label) if label.isdigit() else 0
    return {
        "Address": _resolved(service.get("Address") or "", known) or (port["HostIP"] if port else "127.0.0.1"),
        "AllocID": body["ID"],
        "CreateIndex": body["CreateIndex"],
        "Datacenter": known["node.datacenter"],
        "ID": f"_nomad-task-{body['ID']}-{owner}-{name}-{label}",
        "JobID": body["JobID"],
        "ModifyIndex": body["CreateIndex"],
        "Namespace": job["Namespace"],
        "NodeID": body["NodeID"],
        "Port": number,
        "ServiceName": name,
        "Tags": [_resolved(t, known) for t in service.get("Tags") or []],
    }


def _known(record: AllocRecord) -> dict[str, str]:
    body, job = record.body, record.job
    index = re.search(r"\[(\d+)\]$", body["Name"])
    return {
        "NOMAD_ALLOC_ID": body["ID"],
        "NOMAD_ALLOC_INDEX": index.group(1) if index else "0",
        "NOMAD_ALLOC_NAME": body["Name"],
        "NOMAD_GROUP_NAME": body["TaskGroup"],
        "NOMAD_JOB_ID": job["ID"],
        "NOMAD_JOB_NAME": job["Name"],
        "NOMAD_NAMESPACE": job["Namespace"],
        "NOMAD_REGION": job["Region"],
        "NOMAD_SHORT_ALLOC_ID": body["ID"][:8],
        "node.datacenter": body.get("NodeDatacenter") or "dc1",
        "node.unique.name": body["NodeName"],
    }


def _resolved(text: str, known: dict[str, Any]) -> str:
    def one(found: re.Match[str]) -> str:
        return str(known.get(found[1].removeprefix("env.").strip('"[]'), found[0]))

    return _REFERENCE.sub(one, text)
