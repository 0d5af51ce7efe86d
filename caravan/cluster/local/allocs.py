"""Allocations in Nomad's shape: a new one, the list's stub, statuses made from task states. Pure."""

from typing import Any

from caravan.cluster.local.reconcile import Wanted
from caravan.cluster.local.scheduler import Placement
from caravan.cluster.local.state import AllocRecord
from caravan.cluster.local.words import JsonDict, new_id, now_ns

_STUB = (
    "ClientDescription",
    "ClientStatus",
    "CreateIndex",
    "CreateTime",
    "DesiredDescription",
    "DesiredStatus",
    "EvalID",
    "FollowupEvalID",
    "ID",
    "JobID",
    "ModifyIndex",
    "ModifyTime",
    "Name",
    "Namespace",
    "NextAllocation",
    "NodeID",
    "NodeName",
    "TaskGroup",
)


def new_alloc(job: JsonDict, wanted: Wanted, found: Placement, eval_id: str) -> JsonDict:
    """The body of an allocation that has just been placed."""
    group, got = wanted.group, found.resources
    disk = group["EphemeralDisk"]["SizeMB"]
    networks = _networks(got["ports"])
    shared = {"DiskMB": disk, "Networks": networks, "Ports": got["ports"] or None}
    tasks = {name: _task_resources(own) for name, own in got["tasks"].items()}
    body: JsonDict = {
        "AllocatedResources": {
            "Shared": shared,
            "TaskLifecycles": {t["Name"]: t["Lifecycle"] for t in group["Tasks"]},
            "Tasks": got["tasks"],
        },
        "ClientStatus": "pending",
        "DesiredStatus": "run",
        "EvalID": eval_id,
        "ID": new_id(),
        "JobID": job["ID"],
        "Metrics": found.metrics.shown(),
        "Name": wanted.name,
        "Namespace": job["Namespace"],
        "NodeID": found.node.id,
        "NodeName": found.node.name,
        "Resources": _total(tasks.values(), got["tasks"].values(), disk, networks),
        "SharedResources": _resources(DiskMB=disk, Networks=networks),
        "TaskGroup": group["Name"],
        "TaskResources": tasks,
    }
    if wanted.previous is not None:
        body["PreviousAllocation"] = wanted.previous.id
        if wanted.rescheduled:
            body["RescheduleTracker"] = _tracker(wanted.previous)
    return body


def _tracker(previous: AllocRecord) -> JsonDict:
    events = list((previous.body.get("RescheduleTracker") or {}).get("Events") or [])
    event = {"PrevAllocID": previous.id, "PrevNodeID": previous.body["NodeID"], "RescheduleTime": now_ns(), "Delay": 0}
    return {"Events": [*events, event]}


def _networks(ports: list[JsonDict]) -> list[JsonDict] | None:
    if not ports:
        return None
    dynamic = [{"HostNetwork": "default", "Label": p["Label"], "Value": p["Value"]} for p in ports]
    return [{"DynamicPorts": dynamic, "IP": "127.0.0.1", "Mode": "host"}]


def _resources(**given: Any) -> JsonDict:
    blank: JsonDict = dict.fromkeys(("CPU", "Cores", "DiskMB", "IOPS", "MemoryMB", "MemoryMaxMB", "SecretsMB"), 0)
    return {**blank, "Devices": None, "NUMA": None, "Networks": None, **given}


def _task_resources(own: JsonDict) -> JsonDict:
    cores = len(own["Cpu"]["ReservedCores"] or [])
    return _resources(CPU=own["Cpu"]["CpuShares"], Cores=cores, MemoryMB=own["Memory"]["MemoryMB"])


def _total(shown: Any, allocated: Any, disk: int, networks: list[JsonDict] | None) -> JsonDict:
    listed = list(shown)
    devices = [
        {
            "Affinities": None,
            "Constraints": None,
            "Count": len(d["DeviceIDs"]),
            "Name": f"{d['Vendor']}/{d['Type']}/{d['Name']}",
        }
        for own in allocated
        for d in own["Devices"] or []
    ]
    memory = sum(t["MemoryMB"] for t in listed)
    return _resources(
        CPU=sum(t["CPU"] for t in listed),
        Cores=sum(t["Cores"] for t in listed),
        DiskMB=disk,
        Devices=devices or None,
        MemoryMB=memory,
        MemoryMaxMB=memory,
        Networks=networks,
    )


def stub(record: AllocRecord) -> JsonDict:
    """The allocation as lists show it."""
    body = record.body
    return {
        **{key: body.get(key, "") for key in _STUB},
        "DeploymentStatus": None,
        "DesiredTransition": dict.fromkeys(
            ("ForceReschedule", "Migrate", "MigrateDisablePlacement", "NoShutdownDelay", "Reschedule")
        ),
        "JobType": record.job["Type"],
        "JobVersion": record.job["Version"],
        "PreemptedAllocations": None,
        "PreemptedByAllocation": "",
        "RescheduleTracker": body.get("RescheduleTracker"),
        "TaskStates": body.get("TaskStates"),
    }


def full(record: AllocRecord) -> JsonDict:
    """The allocation as `/v1/allocation/:id` shows it."""
    return {**record.body, "Job": record.job}


def client_status(states: dict[str, JsonDict]) -> tuple[str, str]:
    """An allocation's ClientStatus and its description, from the states of its tasks."""
    if any(s["State"] == "dead" and s["Failed"] for s in states.values()):
        return "failed", "Failed tasks"
    if any(s["State"] == "running" for s in states.values()):
        return "running", "Tasks are running"
    if any(s["State"] == "pending" for s in states.values()):
        return "pending", "No tasks have started"
    return "complete", "All tasks have completed"


def summary(job: JsonDict, records: list[AllocRecord], evals: list[JsonDict]) -> dict[str, dict[str, int]]:
    """The counts of `/v1/job/:id/summary` for each group. `evals` are the job's, the newest first."""
    names = {"complete": "Complete", "failed": "Failed", "lost": "Lost", "running": "Running", "pending": "Starting"}
    blank = dict.fromkeys(("Complete", "Failed", "Lost", "Queued", "Running", "Starting", "Unknown"), 0)
    counts = {g["Name"]: dict(blank) for g in job["TaskGroups"]}
    for record in records:
        group = counts.get(record.body["TaskGroup"])
        if group is not None and record.job["CreateIndex"] == job["CreateIndex"]:
            group[names[record.body["ClientStatus"]]] += 1
    last = max(
        (e for e in evals if e.get("QueuedAllocations") is not None), key=lambda e: int(e["ModifyIndex"]), default=None
    )
    for title, number in ((last or {}).get("QueuedAllocations") or {}).items():
        since = sum(  # a blocked evaluation places some of them and waits on
            r.body["TaskGroup"] == title and r.body["CreateIndex"] > int((last or {})["ModifyIndex"]) for r in records
        )
        if title in counts:
            counts[title]["Queued"] = max(0, number - since)
    return counts
