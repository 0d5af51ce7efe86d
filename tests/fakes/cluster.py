"""A cluster in memory whose jobs follow a script. It keeps the port's contract and runs nothing.

Jobs, allocations and evaluations are held as Nomad's JSON and read by the same `to_snapshot` as a real cluster's.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from caravan.cluster.snapshots import to_placement_failures, to_registered, to_snapshot
from caravan.cluster.watch import SENTINEL_PATH
from caravan.ports import Clock
from caravan.values.base import Json
from caravan.values.errors import CaravanError, JobConflict, JobNotFound, JobRefused
from caravan.values.job import (
    META_SHA,
    CheckResult,
    ClusterFacts,
    ClusterKind,
    DeviceGroup,
    DriverFacts,
    DryRun,
    FileEntry,
    NodeFacts,
    RegisteredJob,
    ServiceAddress,
    TokenFacts,
)
from caravan.values.run import Phase, Snapshot

WAITING, STARTING, RUNNING, ENDED = range(4)
HEARTBEAT = 5.0


@dataclass(frozen=True)
class Script:
    """What a registered job does once it is placed.

    It goes on by one stage (starting, running, ended) with each observation (`snapshot` or a round of `watch`).
    """

    exit_code: int = 0
    signal: int = 0
    oom: bool = False
    driver_error: str = ""  # the task never starts
    interrupted: str = ""  # "lost", "stop" or "evict" while it runs
    expires: bool = False  # ended by its time limit
    hangs: bool = False  # runs until it is stopped
    queued: bool = False  # is never placed, though it would fit
    stuck: tuple[
        tuple[str, str], ...
    ] = ()  # events (type, message), one with each look, before a start that never comes
    unhealthy: str = ""  # what the checks of its services say, which fail
    sentinel: bool = True  # the launch script writes its result file
    stdout: bytes = b""
    stderr: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)


def one_node(*, gpus: int = 0, memory_mb: int = 16384, builtin: bool = True) -> ClusterFacts:
    """Facts of a cluster of one node with raw_exec and docker."""
    device = DeviceGroup(vendor="nvidia", type="gpu", model="Fake 24GB", count=gpus, memory_mib=24564, declared=True)
    node = NodeFacts(
        id="11111111-1111-1111-1111-111111111111",
        name="fake-1",
        cpu_mhz=8000,
        cores=4,
        memory_mb=memory_mb,
        disk_mb=100_000,
        drivers={"raw_exec": DriverFacts(), "docker": DriverFacts(runtimes=("runc", "nvidia"))},
        devices=(device,) if gpus else (),
        attributes={"kernel.name": "linux", "cpu.arch": "amd64"},
    )
    return ClusterFacts(
        kind=ClusterKind.BUILTIN if builtin else ClusterKind.NOMAD,
        address="http://fake.invalid:4646",
        version="2.0.6",
        nodes=(node,),
        shared_files=builtin,
    )


def _node_for(job: Json, facts: ClusterFacts) -> NodeFacts | None:
    """The first node that the job does not keep away from by its name; of those rather one that it is not against."""

    def named(kind: str) -> set[str]:
        rules = [r for r in job.get(kind) or () if r["LTarget"] == "${node.unique.name}"]
        return {r["RTarget"] for r in rules if r["Operand"] == "!=" or r.get("Weight", 0) < 0}

    nodes = [n for n in facts.nodes if n.name not in named("Constraints")] or list(facts.nodes)
    return next((n for n in nodes if n.name not in named("Affinities")), nodes[0] if nodes else None)


@dataclass
class _Entry:
    job: Json
    script: Script
    failures: dict[str, Json]  # FailedTGAllocs
    stage: int = WAITING
    killed: bool = False  # stopped while it ran
    looks: int = 0  # at a job that is stuck
    reached: dict[int, datetime] = field(default_factory=dict)  # when it came to each stage

    def go_to(self, stage: int, at: datetime) -> None:
        self.stage = stage
        self.reached.setdefault(stage, at)


class FakeCluster:
    """The port Cluster on dictionaries.

    `script` says what a job does, from its JSON. `registrations` holds every job that was accepted; `calls` the name
    of every method called. `fail` makes coming calls fail, before or after they took effect.
    """

    def __init__(
        self, clock: Clock, *, facts: ClusterFacts | None = None, script: Callable[[Json], Script] | None = None
    ) -> None:
        self._clock = clock
        self._facts = facts or one_node()
        self._script = script or (lambda job: Script())
        self._jobs: dict[tuple[str, str], _Entry] = {}
        self._faults: list[tuple[str, CaravanError, bool]] = []
        self._index = 0
        self.registrations: list[Json] = []
        self.calls: list[str] = []
        self.variables: dict[tuple[str, str], dict[str, str]] = {}
        self.token_facts: TokenFacts | None = None

    def fail(self, method: str, error: CaravanError, *, after: bool = False, times: int = 1) -> None:
        """The next `times` calls of `method` raise `error`; with `after`, once they took effect."""
        self._faults += [(method, error, after)] * times

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        self.calls.append(method)
        fault = next((f for f in self._faults if f[0] == method), None)
        if fault:
            self._faults.remove(fault)
            if not fault[2]:
                raise fault[1]
        yield
        if fault:
            raise fault[1]

    def facts(self) -> ClusterFacts:
        with self._call("facts"):
            return self._facts

    def parse(self, hcl: str) -> Json:
        from caravan.hcl import HclError, parse_hcl

        with self._call("parse"):
            if not hcl:
                raise JobRefused("Job spec is empty")
            try:
                return parse_hcl(hcl)
            except HclError as error:
                raise JobRefused(f"Failed to parse job: {error}") from error

    def check(self, job: Json) -> DryRun:
        with self._call("check"):
            errors = _invalid(job)
            return DryRun(errors=errors, failures=() if errors else to_placement_failures(self._misfits(job)))

    def find(self, job_id: str, namespace: str = "default") -> RegisteredJob | None:
        with self._call("find"):
            entry = self._jobs.get((namespace, job_id))
            return to_registered(self._documents(entry)[0]) if entry else None

    def register(self, job: Json, *, replaces: int = 0) -> RegisteredJob:
        with self._call("register"):
            key = (job.get("Namespace") or "default", job["ID"])
            there = self._jobs[key].job["JobModifyIndex"] if key in self._jobs else 0
            if there != replaces:
                raise JobConflict(f"Enforcing job modify index {replaces}: job exists with another")
            if errors := _invalid(job):
                raise JobRefused("\n".join(errors))
            self._index += 10
            script = self._script(job)
            held = {job["TaskGroups"][0]["Name"]: {"NodesEvaluated": 1, "DimensionExhausted": {"memory": 1}}}
            failures = self._misfits(job) or (held if script.queued else {})
            job = {**job, "Namespace": key[0], "CreateIndex": self._index, "JobModifyIndex": self._index}
            self._jobs[key] = _Entry(json.loads(json.dumps(job)), script, failures)
            self.registrations.append(job)
            return RegisteredJob(
                id=key[1], namespace=key[0], status="pending", modify_index=self._index, meta=job.get("Meta") or {}
            )

    def services(self, name: str, namespace: str = "default") -> tuple[ServiceAddress, ...]:
        with self._call("services"):
            running = [
                (entry, group)
                for (space, _), entry in self._jobs.items()
                for group in entry.job["TaskGroups"]
                if space == namespace and entry.stage == RUNNING and not entry.job.get("Stop")
            ]
            return tuple(
                ServiceAddress(address="127.0.0.1", port=8000, alloc_id=alloc["ID"])
                for entry, group in running
                if any(service["Name"] == name for service in group["Services"] or ())
                for alloc in self._documents(entry)[1]
            )

    def checks(self, alloc_id: str) -> tuple[CheckResult, ...]:
        with self._call("checks"):
            entry = self._of(alloc_id)
            if entry is None:
                raise JobNotFound(f'Unknown allocation "{alloc_id}"')
            said = entry.script.unhealthy
            status = "pending" if entry.stage < RUNNING else "failure" if said else "success"
            return tuple(
                CheckResult(name=check["Name"], service=service["Name"], status=status, output=said)
                for group in entry.job["TaskGroups"]
                for service in group["Services"] or ()
                for check in service["Checks"] or ()
            )

    def snapshot(self, job_id: str, namespace: str = "default") -> Snapshot:
        with self._call("snapshot"):
            return self._observe(job_id, namespace)

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        while True:
            with self._call("watch"):
                snapshot = self._observe(job_id, namespace)
            yield snapshot
            if snapshot.phase in {Phase.ENDED, Phase.GONE}:
                return
            self._clock.sleep(HEARTBEAT)

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        with self._call("logs"):
            entry = self._of(alloc_id)
            if entry is None:
                raise JobNotFound(f'Unknown allocation "{alloc_id}"')
            if task not in {t["Name"] for g in entry.job["TaskGroups"] for t in g["Tasks"]}:
                raise JobNotFound(f'unknown task name "{task}"')
            if entry.stage < RUNNING or entry.script.driver_error:
                return b""
            data = {"stdout": entry.script.stdout, "stderr": entry.script.stderr}[stream]
            written = len(data) if entry.stage == ENDED else len(data) // 2
            return data[offset : min(written, offset + limit)]

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        with self._call("read_file"):
            return self._files(alloc_id).get(path)

    def _files(self, alloc_id: str) -> dict[str, bytes]:
        """What the allocation's task has left: all of it appears with its end."""
        entry = self._of(alloc_id)
        if entry is None or entry.stage < ENDED or entry.script.driver_error:
            return {}
        sentinel = self._sentinel(entry) if entry.script.sentinel else None
        return ({} if sentinel is None else {SENTINEL_PATH: sentinel}) | entry.script.files

    def follow_log(self, alloc_id: str, task: str, stream: str, *, offset: int = 0) -> Iterator[bytes]:
        while True:
            entry = self._of(alloc_id)
            over = entry is None or entry.stage == ENDED
            data = self.logs(alloc_id, task, stream, offset=offset)
            offset += len(data)
            yield data
            if over and not data:
                return
            if not data:
                self._clock.sleep(HEARTBEAT)

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        with self._call("list_files"):
            found: dict[str, FileEntry] = {}
            for name, data in self._files(alloc_id).items():
                if name.startswith(f"{path}/"):
                    first, _, below = name.removeprefix(f"{path}/").partition("/")
                    found[first] = FileEntry(name=first, is_dir=bool(below), size=0 if below else len(data))
            if not found and (self._of(alloc_id) is None or path != "alloc/data"):
                return None
            return tuple(found[name] for name in sorted(found))

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        with self._call("read_part"):
            files = self._files(alloc_id)
            if path not in files:
                raise JobNotFound(f"{path} is not there")
            return files[path][offset : offset + limit]

    def variable_names(self, path: str, namespace: str = "default") -> frozenset[str] | None:
        with self._call("variable_names"):
            found = self.variables.get((namespace, path))
            return None if found is None else frozenset(found)

    def write_variable(self, path: str, items: Mapping[str, str], namespace: str = "default") -> None:
        with self._call("write_variable"):
            self.variables.setdefault((namespace, path), {}).update(items)

    def remove_variable(self, path: str, namespace: str = "default") -> None:
        with self._call("remove_variable"):
            self.variables.pop((namespace, path), None)

    def token(self) -> TokenFacts | None:
        with self._call("token"):
            return self.token_facts

    def stop(self, job_id: str, namespace: str = "default", *, purge: bool = False) -> None:
        with self._call("stop"):
            entry = self._jobs.get((namespace, job_id))
            if entry:
                entry.killed = entry.killed or STARTING <= entry.stage < ENDED
                entry.go_to(ENDED, self._clock.now())
                self._another(entry, Stop=True)
                if purge:
                    del self._jobs[(namespace, job_id)]

    def change(self, job_id: str, namespace: str = "default", **fields: Json) -> None:
        """Somebody else registers the job with other fields, as Nomad keeps that: a new version of it."""
        self._another(self._jobs[(namespace, job_id)], **fields)

    def _another(self, entry: _Entry, **fields: Json) -> None:
        self._index += 10
        version = (entry.job.get("Version") or 0) + 1
        entry.job |= {"Version": version, "JobModifyIndex": self._index, **fields}

    def _observe(self, job_id: str, namespace: str) -> Snapshot:
        entry = self._jobs.get((namespace, job_id))
        if entry is None:
            return to_snapshot(None, [], [], job_id=job_id, at=self._clock.now())
        furthest = STARTING if entry.script.stuck else RUNNING if entry.script.hangs else ENDED
        entry.looks += entry.stage == STARTING
        if not entry.failures and entry.stage < furthest:
            skip = bool(entry.script.driver_error) and entry.stage == STARTING
            entry.go_to(ENDED if skip else entry.stage + 1, self._clock.now())
        job, allocs, evals = self._documents(entry)
        return to_snapshot(job, allocs, evals, job_id=job_id, at=self._clock.now())

    def _of(self, alloc_id: str) -> _Entry | None:
        found = (e for e in self._jobs.values() if any(a["ID"] == alloc_id for a in self._documents(e)[1]))
        return next(found, None)

    def _sentinel(self, entry: _Entry) -> bytes | None:
        if entry.killed or entry.script.oom or entry.script.interrupted or entry.script.expires:
            return None
        meta = entry.job.get("Meta") or {}
        said = {"job_id": entry.job["ID"], "spec_sha256": meta.get(META_SHA, ""), "exit_code": entry.script.exit_code}
        return json.dumps(said).encode()

    def _misfits(self, job: Json) -> dict[str, Json]:
        """FailedTGAllocs of a job: drivers, memory and devices against the facts' nodes, one after the other."""
        found: dict[str, Json] = {}
        for group in job["TaskGroups"]:
            reasons = [_misfit(group, node) for node in self._facts.usable_nodes()]
            if all(reasons):
                counts: dict[str, dict[str, int]] = {"ConstraintFiltered": {}, "DimensionExhausted": {}}
                for kind, why in filter(None, reasons):
                    counts[kind][why] = counts[kind].get(why, 0) + 1
                nodes = len(reasons)
                found[group["Name"]] = {"NodesEvaluated": nodes, "NodesAvailable": {"dc1": nodes}, **counts}
        return found

    def _documents(self, entry: _Entry) -> tuple[Json, list[Json], list[Json]]:
        """The job, its allocations and evaluations as Nomad's JSON in the entry's present stage."""
        key = f"{entry.job['Namespace']}/{entry.job['ID']}/{entry.job['CreateIndex']}"
        evaluation = {
            "ID": str(uuid5(NAMESPACE_URL, key + "/eval")),
            "JobID": entry.job["ID"],
            "Status": "complete" if not entry.failures else ("canceled" if entry.stage == ENDED else "blocked"),
            "FailedTGAllocs": entry.failures or None,
            "CreateIndex": entry.job["CreateIndex"],
        }
        placed = STARTING in entry.reached
        names = [(g["Name"], i) for g in entry.job["TaskGroups"] for i in range(g.get("Count") or 1)] if placed else []
        allocs = [self._allocation(entry, key, group, i) for group, i in names]
        status = "dead" if entry.stage == ENDED else ("running" if allocs else "pending")
        return {**entry.job, "Status": status}, allocs, [evaluation]

    def _allocation(self, entry: _Entry, key: str, group: str, number: int) -> Json:
        script, ended = entry.script, entry.stage == ENDED
        tasks = [t["Name"] for g in entry.job["TaskGroups"] if g["Name"] == group for t in g["Tasks"]]
        failed = ended and not entry.killed and _fails(script)
        status = {STARTING: "pending", RUNNING: "running"}.get(entry.stage, "failed" if failed else "complete")
        outside = ended and not entry.killed and script.interrupted
        node = _node_for(entry.job, self._facts)
        return {
            "ID": str(uuid5(NAMESPACE_URL, f"{key}/{group}/{number}")),
            "JobID": entry.job["ID"],
            "Name": f"{entry.job['ID']}.{group}[{number}]",
            "TaskGroup": group,
            "NodeID": node.id if node else "",
            "NodeName": node.name if node else "",
            "ClientStatus": "lost" if outside == "lost" else status,
            "ClientDescription": "allocation exceeded max_run_duration" if ended and script.expires else "",
            "DesiredStatus": "stop" if entry.killed or outside == "lost" else (outside or "run"),
            "DesiredDescription": "alloc not needed due to job update" if entry.killed else "",
            "CreateIndex": entry.job["CreateIndex"] + 1,
            "TaskStates": {name: self._task(entry, failed) for name in tasks},
        }

    def _task(self, entry: _Entry, failed: bool) -> Json:
        script, began, ended = entry.script, entry.reached.get(RUNNING), entry.reached.get(ENDED)
        events: list[Json] = [_event("Received", "Task received by client", entry.reached[STARTING])]
        events += [_event(*said, entry.reached[STARTING]) for said in script.stuck[: entry.looks + 1]]
        if began:
            events.append(_event("Started", "Task started by client", began))
        if ended and script.driver_error:
            events.append(_event("Driver Failure", script.driver_error, ended))
        killed = entry.killed or script.interrupted or script.expires
        if ended and killed:
            words = "allocation exceeded max_run_duration" if script.expires else "Sent interrupt"
            events.append(_event("Killing", words, ended))
        if ended and began:
            code, signal = (143, 0) if killed else ((137, 0) if script.oom else (script.exit_code, script.signal))
            details = {"exit_code": str(code), "signal": str(signal), "oom_killed": str(script.oom).lower()}
            events.append(_event("Terminated", f"Exit Code: {code}", ended, details))
        return {
            "State": {STARTING: "pending", RUNNING: "running"}.get(entry.stage, "dead"),
            "Failed": failed,
            "Restarts": 0,
            "StartedAt": began.isoformat() if began else None,
            "FinishedAt": ended.isoformat() if ended else None,
            "Events": events,
        }


def _fails(script: Script) -> bool:
    if script.interrupted or script.expires:
        return False
    return bool(script.exit_code or script.signal or script.oom or script.driver_error)


def _event(kind: str, message: str, at: datetime, details: dict[str, str] | None = None) -> Json:
    return {
        "Type": kind,
        "DisplayMessage": message,
        "Time": int(at.timestamp() * 1_000_000) * 1000,
        "Details": details or {},
    }


def _invalid(job: Json) -> tuple[str, ...]:
    """Some of what Nomad's validation says, in its words."""
    errors = []
    if job.get("Type") not in {"batch", "service", "system", "sysbatch"}:
        errors.append(f'Invalid job type: "{job.get("Type")}"')
    for group in job.get("TaskGroups") or ():
        for task in group["Tasks"]:
            wrong = [] if task.get("Driver") else ["Missing task driver"]
            memory = (task.get("Resources") or {}).get("MemoryMB", 300)
            wrong += [f"minimum MemoryMB value is 10; got {memory}"] if memory < 10 else []
            errors += [f"Task group {group['Name']} validation failed: {w}" for w in wrong]
    return tuple(errors) if job.get("TaskGroups") else (*errors, "Missing job task groups")


def _misfit(group: Json, node: NodeFacts) -> tuple[str, str] | None:
    """Why a node can't take a group: (metric, reason), or None when it can."""
    if any(t["Driver"] not in node.drivers for t in group["Tasks"]):
        return "ConstraintFiltered", "missing drivers"
    resources = [t.get("Resources") or {} for t in group["Tasks"]]
    for wanted in (d for r in resources for d in r.get("Devices") or ()):
        names = {i for d in node.devices for i in (d.type, f"{d.vendor}/{d.type}", f"{d.vendor}/{d.type}/{d.model}")}
        if wanted["Name"] not in names or (wanted.get("Count") or 1) > sum(d.count for d in node.devices):
            return "ConstraintFiltered", "missing devices"
    if sum(r.get("MemoryMB") or 0 for r in resources) > node.memory_mb:
        return "DimensionExhausted", "memory"
    return None
