"""A job's JSON → JobSpec, whether a parser or a server gave it, and where the two differ, in words.

What a job file can say in two ways that mean the same has one form here, `normal_form`: namespace `default` and
region `global` are the ones that are meant when none is given, ports with a number come before the others, and so on.
"""

import unicodedata
from typing import Any, Final

from caravan.hcl.errors import HclError
from caravan.values.base import Json
from caravan.values.job import (
    Affinity,
    ArtifactBlock,
    DeviceRequest,
    HealthCheck,
    JobSpec,
    Lifecycle,
    LogPolicy,
    NetworkPort,
    ReschedulePolicy,
    RestartPolicy,
    ServiceBlock,
    SpreadBlock,
    Task,
    TaskGroup,
    TaskResources,
    TemplateBlock,
    VaultBlock,
    VolumeMount,
    VolumeRequest,
)
from caravan.values.plan import Constraint

_SECOND: Final = 10**9
_PROGRESS_DEFAULT: Final = 600  # seconds, of a service
_HEALTHY_DEFAULT: Final = 300  # seconds, likewise
_CPU_DEFAULT: Final = 100  # MHz, where neither cpu nor cores is asked for
Node = dict[str, Any]


def read_back(job: Node) -> JobSpec:
    """The spec that a job's JSON says, in normal form. Raises HclError for JSON that is no job of our shape."""
    try:
        return _job(job)
    except (KeyError, TypeError, AttributeError, ValueError) as wrong:
        raise HclError(f"The job's JSON is not of the expected shape: {type(wrong).__name__} {wrong}") from wrong


def _job(job: Node) -> JobSpec:
    return JobSpec(
        id=job["ID"],
        type=job["Type"],
        namespace=_unless(job.get("Namespace"), "default"),
        region=_unless(job.get("Region"), "global"),
        node_pool=_unless(job.get("NodePool"), "default"),
        datacenters=tuple(job.get("Datacenters") or ("*",)),
        priority=job.get("Priority", 50),
        meta=job.get("Meta") or {},
        constraints=_constraints(job),
        affinities=_affinities(job),
        spreads=_spreads(job),
        groups=tuple(_group(g) for g in job.get("TaskGroups") or ()),
    )


def _unless(found: str | None, default: str) -> str | None:
    return found if found and found != default else None


def _seconds(nanoseconds: int | None) -> int | None:
    return None if nanoseconds is None else nanoseconds // _SECOND


def _constraints(node: Node) -> tuple[Constraint, ...]:
    return tuple(
        Constraint(attribute=c["LTarget"], operator=c["Operand"], value=c["RTarget"])
        for c in node.get("Constraints") or ()
    )


def _affinities(node: Node) -> tuple[Affinity, ...]:
    return tuple(
        Affinity(attribute=a["LTarget"], operator=a["Operand"], value=a["RTarget"], weight=a["Weight"])
        for a in node.get("Affinities") or ()
    )


def _spreads(node: Node) -> tuple[SpreadBlock, ...]:
    return tuple(SpreadBlock(attribute=s["Attribute"], weight=s["Weight"]) for s in node.get("Spreads") or ())


def _services(group: Node) -> tuple[ServiceBlock, ...]:
    return tuple(
        ServiceBlock(
            name=s["Name"],
            port=s["PortLabel"],
            tags=tuple(s.get("Tags") or ()),
            provider=s["Provider"],
            checks=tuple(_check(c) for c in s.get("Checks") or ()),
        )
        for s in group.get("Services") or ()
    )


def _check(node: Node) -> HealthCheck:
    again = node.get("CheckRestart") or {}
    return HealthCheck(
        name=node["Name"],
        type=node["Type"],
        path=node.get("Path") or "",
        interval_s=node["Interval"] // _SECOND,
        timeout_s=node["Timeout"] // _SECOND,
        restart_limit=again.get("Limit") or 0,
        grace_s=(again.get("Grace") or 0) // _SECOND,
    )


def _lifecycle(node: Node | None) -> Lifecycle | None:
    return Lifecycle(hook=node["Hook"], sidecar=node.get("Sidecar") or False) if node else None


def _group(group: Node) -> TaskGroup:
    restart, again = group["RestartPolicy"], group.get("ReschedulePolicy") or {}
    return TaskGroup(
        name=group["Name"],
        count=group["Count"],
        tasks=tuple(_task(t) for t in group.get("Tasks") or ()),
        constraints=_constraints(group),
        affinities=_affinities(group),
        spreads=_spreads(group),
        services=_services(group),
        ephemeral_disk_mb=group["EphemeralDisk"]["SizeMB"],
        volumes=tuple(
            VolumeRequest(name=name, type=v["Type"], source=v["Source"], read_only=v["ReadOnly"])
            for name, v in sorted((group.get("Volumes") or {}).items())
        ),
        ports=_ports(group),
        restart=RestartPolicy(
            attempts=restart["Attempts"],
            interval_s=restart["Interval"] // _SECOND,
            delay_s=restart["Delay"] // _SECOND,
            mode=restart["Mode"],
        ),
        reschedule=ReschedulePolicy(attempts=again.get("Attempts") or 0, unlimited=again.get("Unlimited") or False),
        max_run_s=_seconds(group.get("MaxRunDuration")),
        sticky_disk=group["EphemeralDisk"].get("Sticky") or False,
        **_deadlines(group.get("Update") or {}),
    )


def _deadlines(update: Node) -> dict[str, int | None]:
    progress = _progress(_seconds(update.get("ProgressDeadline")))
    healthy = _seconds(update.get("HealthyDeadline")) if progress is not None else None
    return {"progress_deadline_s": progress, "healthy_deadline_s": _healthy(healthy, progress)}


def _progress(seconds: int | None) -> int | None:
    return seconds if seconds != _PROGRESS_DEFAULT else None


def _healthy(seconds: int | None, progress: int | None) -> int | None:
    """None where it is what the template says by itself; without a deadline for progress none is written."""
    return seconds if progress is not None and seconds != min(_HEALTHY_DEFAULT, progress // 2) else None


def _ports(group: Node) -> tuple[NetworkPort, ...]:
    ports: list[NetworkPort] = []
    for network in group.get("Networks") or ():
        ports += [NetworkPort(label=p["Label"], static=p["Value"]) for p in network.get("ReservedPorts") or ()]
        ports += [NetworkPort(label=p["Label"]) for p in network.get("DynamicPorts") or ()]
    return tuple(ports)


def _task(task: Node) -> Task:
    logs = task["LogConfig"]
    return Task(
        name=task["Name"],
        driver=task["Driver"],
        config=task.get("Config") or {},
        env=task.get("Env") or {},
        user=task.get("User") or None,
        kill_timeout_s=task["KillTimeout"] // _SECOND,
        kill_signal=task.get("KillSignal") or None,
        lifecycle=_lifecycle(task.get("Lifecycle")),
        leader=task.get("Leader") or False,
        identity=(task.get("Identity") or {}).get("Env") or False,
        resources=_resources(task["Resources"]),
        constraints=_constraints(task),
        templates=tuple(_template(t) for t in task.get("Templates") or ()),
        vault=_vault(task.get("Vault")),
        artifacts=tuple(_artifact(a) for a in task.get("Artifacts") or ()),
        volume_mounts=tuple(
            VolumeMount(volume=m["Volume"], destination=m["Destination"], read_only=m["ReadOnly"])
            for m in task.get("VolumeMounts") or ()
        ),
        logs=LogPolicy(max_files=logs["MaxFiles"], max_file_size_mb=logs["MaxFileSizeMB"]),
    )


def _resources(node: Node) -> TaskResources:
    return TaskResources(
        cpu=node.get("CPU") or None,
        cores=node.get("Cores") or None,
        memory=node["MemoryMB"],
        memory_max=node.get("MemoryMaxMB") or None,
        devices=tuple(
            DeviceRequest(
                name=d["Name"],
                count=d["Count"],
                constraints=_constraints(d),
                affinities=_affinities(d),
            )
            for d in node.get("Devices") or ()
        ),
    )


def _template(node: Node) -> TemplateBlock:
    return TemplateBlock(
        destination=node["DestPath"],
        data=node["EmbeddedTmpl"],
        env=node["Envvars"],
        perms=node["Perms"],
        left_delimiter=node["LeftDelim"],
        right_delimiter=node["RightDelim"],
        error_on_missing_key=node.get("ErrMissingKey") or False,
    )


def _vault(node: Node | None) -> VaultBlock | None:
    if node is None:
        return None
    return VaultBlock(
        role=node.get("Role") or None,
        policies=tuple(node.get("Policies") or ()),
        env=node["Env"],
        change_mode=node["ChangeMode"],
    )


def _artifact(node: Node) -> ArtifactBlock:
    return ArtifactBlock(
        source=node["GetterSource"],
        destination=node["RelativeDest"],
        mode=node["GetterMode"],
        options=node.get("GetterOptions") or {},
    )


def normal_form(spec: JobSpec) -> JobSpec:
    """The spec as it reads back: defaults that mean the same left out, ports and volumes in Nomad's order.

    Strings are in Unicode's normal form C, in which HCL keeps them.
    """
    groups = tuple(
        g.model_copy(
            update={
                "progress_deadline_s": _progress(g.progress_deadline_s),
                "healthy_deadline_s": _healthy(g.healthy_deadline_s, _progress(g.progress_deadline_s)),
                "services": tuple(s.model_copy(update={"checks": _plain(s.checks)}) for s in g.services),
                "ports": tuple(sorted(g.ports, key=lambda p: p.static is None)),
                "volumes": tuple(sorted(g.volumes, key=lambda v: v.name)),
                "tasks": tuple(t.model_copy(update=_normal_task(t)) for t in g.tasks),
            }
        )
        for g in spec.groups
    )
    update = {
        "namespace": _unless(spec.namespace, "default"),
        "region": _unless(spec.region, "global"),
        "node_pool": _unless(spec.node_pool, "default"),
        "datacenters": spec.datacenters or ("*",),
        "groups": groups,
    }
    return JobSpec.model_validate(_composed(spec.model_copy(update=update).model_dump(mode="json")))


def _plain(checks: tuple[HealthCheck, ...]) -> tuple[HealthCheck, ...]:
    """Without what says nothing: a tcp check's path, the grace of a check that restarts nothing."""
    return tuple(
        c.model_copy(
            update={"path": c.path if c.type == "http" else "", "grace_s": c.grace_s if c.restart_limit else 0}
        )
        for c in checks
    )


def _normal_task(task: Task) -> dict[str, Any]:
    found = task.resources
    cpu = found.cpu if found.cpu is not None or found.cores is not None else _CPU_DEFAULT
    resources = found.model_copy(update={"cpu": cpu, "memory_max": found.memory_max or None})
    vault = task.vault.model_copy(update={"role": task.vault.role or None}) if task.vault else None
    return {"user": task.user or None, "kill_signal": task.kill_signal or None, "resources": resources, "vault": vault}


def _composed(value: Json) -> Json:
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        return {_composed(k): _composed(v) for k, v in value.items()}
    return [_composed(v) for v in value] if isinstance(value, list) else value


def mismatches(spec: JobSpec, job: Node) -> tuple[str, ...]:
    """Where a job's JSON says something else than the spec, one line each; empty: it says the same."""
    want, got = (s.model_dump(mode="json") for s in (normal_form(spec), read_back(job)))
    return tuple(_differences(want, got, "job"))


def _differences(want: Json, got: Json, where: str) -> list[str]:
    if isinstance(want, dict) and isinstance(got, dict):
        found = []
        for key in sorted(want.keys() | got.keys()):
            place = f"{where}.{key}"
            if key not in got:
                found.append(f"{place}: the spec has {_short(want[key])}, the job does not have it")
            elif key not in want:
                found.append(f"{place}: the job has {_short(got[key])}, the spec does not have it")
            else:
                found += _differences(want[key], got[key], place)
        return found
    if isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        return [d for i, (a, b) in enumerate(zip(want, got, strict=True)) for d in _differences(a, b, f"{where}[{i}]")]
    return [] if want == got else [f"{where}: the spec has {_short(want)}, the job has {_short(got)}"]


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
