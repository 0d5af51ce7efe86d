"""What a job is refused for, in Nomad's words. Pure; the smaller blocks' rules are in `rules`."""

from collections.abc import Callable, Collection, Iterable, Iterator

from caravan.cluster.local import block_rules, rules, service_rules
from caravan.cluster.local.words import JsonDict, go_duration, go_quote, grouped

_TYPES = ("batch", "service")
_NOMAD_TYPES = ("batch", "core", "service", "sysbatch", "system")
_MIN_MEMORY_MB = 10
_MIN_CPU_MHZ = 1
_MIN_DISK_MB = 10
_HOOKS = ("prestart", "poststart", "poststop")


def errors_of(job: JsonDict, *, namespaces: Collection[str], pools: Collection[str]) -> list[str]:
    """Why a canonical job is refused, in the order in which Nomad's checks come; empty when it is sound."""
    found = list(_cluster_errors(job))
    if job["Namespace"] not in namespaces:
        found.append(f"job {go_quote(job['ID'])} is in nonexistent namespace {go_quote(job['Namespace'])}")
    if job["NodePool"] not in pools:
        found.append(f"job {go_quote(job['ID'])} is in nonexistent node pool {go_quote(job['NodePool'])}")
    found += _job_errors(job)
    if any((t["Resources"]["NUMA"] or {}).get("Affinity") in ("prefer", "require") for t in _tasks(job)):
        found.append("numa scheduling requires Nomad Enterprise")
    return found


def _tasks(job: JsonDict) -> Iterator[JsonDict]:
    for group in job["TaskGroups"]:
        yield from group["Tasks"]


def _cluster_errors(job: JsonDict) -> Iterator[str]:
    """What needs a Vault or a Consul of another name than there is; there is none of the first."""
    vault = next((t["Vault"] for t in _tasks(job) if t["Vault"]), None)
    if vault is not None:
        yield f"Vault {go_quote(vault.get('Cluster') or 'default')} not enabled but used in the job"
    services = [s for g in job["TaskGroups"] for s in g["Services"] or []]
    services += [s for t in _tasks(job) for s in t["Services"] or []]
    clusters = [s.get("Cluster") for s in services if s.get("Provider") == "consul"]
    clusters += [(b["Consul"] or {}).get("Cluster") for b in (*job["TaskGroups"], *_tasks(job))]
    if any(c not in (None, "", "default") for c in clusters):
        yield "non-default Consul cluster requires Nomad Enterprise"


def _numbered(
    title: str, blocks: Iterable[JsonDict] | None, rule: Callable[[JsonDict], Iterable[str]]
) -> Iterator[str]:
    """The mistakes of blocks in a row, each block's together."""
    for number, block in enumerate(blocks or [], start=1):
        inner = list(rule(block))
        if inner:
            yield f"{title} {number} validation failed: {grouped(inner)}"


def _job_errors(job: JsonDict) -> Iterator[str]:
    yield from _name_errors("ID", job.get("ID") or "")
    if "\0" in job["Name"]:
        yield "Job Name contains a null character"
    if job["Type"] not in _NOMAD_TYPES:
        yield f"Invalid job type: {go_quote(str(job['Type']))}" if job["Type"] else "Missing job type"
    elif job["Type"] not in _TYPES:
        yield f"The built-in cluster runs batch and service jobs, no {job['Type']} jobs"
    if any(not d for d in job["Datacenters"]):
        yield "Job datacenter must be non-empty string"
    if not job["TaskGroups"]:
        yield "Missing job task groups"
    yield from _numbered("Constraint", job["Constraints"], rules.constraint)
    yield from _numbered("Affinity", job["Affinities"], rules.affinity)
    yield from _numbered("Spread", job["Spreads"], rules.spread)
    yield from _groups_errors(job)
    if job["Periodic"]:
        yield "The built-in cluster runs no jobs with Periodic"
    if job["ParameterizedJob"]:
        yield from _parameter_errors(job)
    if job["Multiregion"]:
        yield "Multiregion jobs are unlicensed."
    if job.get("Payload") and not job["Dispatched"]:
        yield "job can't be submitted with a payload, only dispatched"
    if not 1 <= job["Priority"] <= 100:
        yield "job priority must be between [1, 100]"


def _name_errors(what: str, name: str) -> Iterator[str]:
    if not name:
        yield f"Missing job {what}"
    elif " " in name:
        yield f"Job {what} contains a space"
    elif "\0" in name:
        yield f"Job {what} contains a null character"


def _parameter_errors(job: JsonDict) -> Iterator[str]:
    block = job["ParameterizedJob"]
    if job["Type"] not in ("batch", "sysbatch"):
        yield 'Parameterized job can only be used with "batch" or "sysbatch" scheduler'
    payload = block.get("Payload") or "optional"
    if payload not in ("optional", "required", "forbidden"):
        yield f"Unknown payload requirement: {go_quote(str(payload))}"
    both = sorted(set(block.get("MetaRequired") or []) & set(block.get("MetaOptional") or []))
    if both:
        told = " ".join(both)
        yield f"Required and optional meta keys should be disjoint. Following keys exist in both: [{told}]"


def _groups_errors(job: JsonDict) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, group in enumerate(job["TaskGroups"], start=1):
        title = group.get("Name") or ""
        if not title:
            yield f"Job task group {number} missing name"
        elif title in seen:
            yield f"Job task group {number} redefines '{title}' from group {seen[title]}"
        else:
            seen[title] = number
        if (group["ShutdownDelay"] or 0) < 0:
            yield "ShutdownDelay must be a positive value"
    for group in job["TaskGroups"]:
        inner = list(_group_errors(group, job))
        if inner:
            yield f"Task group {group.get('Name') or ''} validation failed: {grouped(inner)}"


def _group_errors(group: JsonDict, job: JsonDict) -> Iterator[str]:
    if not group.get("Name"):
        yield "Missing task group name"
    elif "\0" in group["Name"]:
        yield "Task group name contains null character"
    if group["Count"] < 0:
        yield "Task group count can't be negative"
    if not group["Tasks"]:
        yield "Missing tasks for task group"
    yield from block_rules.disconnect(group["Disconnect"], job["Type"])
    yield from _limit_errors(group, job)
    yield from _numbered("Constraint", group["Constraints"], rules.constraint)
    yield from _numbered("Affinity", group["Affinities"], rules.affinity)
    yield from rules.restart(group["RestartPolicy"])
    yield from _numbered("Spread", group["Spreads"], rules.spread)
    yield from rules.reschedule(group["ReschedulePolicy"])
    if group["EphemeralDisk"]["SizeMB"] < _MIN_DISK_MB:
        yield f"minimum DiskMB value is {_MIN_DISK_MB}; got {group['EphemeralDisk']['SizeMB']}"
    yield from _update_errors(group, job)
    yield from _task_names(group)
    yield from _volume_errors(group)
    for what, found in (
        ("network", list(service_rules.network_errors(group))),
        ("service", list(service_rules.service_errors(group))),
        ("scaling policy", list(_scaling_errors(group))),
    ):
        if found:
            yield f"Task group {what} validation failed: {grouped(found)}"
    for task in group["Tasks"]:
        inner = list(_task_errors(task, group, job))
        if inner:
            yield f"Task {task.get('Name') or ''} validation failed: {grouped(inner)}"


def _limit_errors(group: JsonDict, job: JsonDict) -> Iterator[str]:
    if group["MaxRunDuration"] is None:
        return
    if group["MaxRunDuration"] <= 0:
        yield "MaxRunDuration must be greater than zero"
    if job["Type"] not in ("batch", "sysbatch"):
        yield f"Job type {go_quote(job['Type'])} does not allow max_run_duration"


def _update_errors(group: JsonDict, job: JsonDict) -> Iterator[str]:
    if group["Update"]:
        if job["Type"] not in ("service", "system"):
            yield f"Job type {go_quote(job['Type'])} does not allow update block"
        yield from rules.update(group["Update"])
    if group["Migrate"] and job["Type"] != "service":
        yield f"Job type {go_quote(job['Type'])} does not allow migrate block"


def _task_names(group: JsonDict) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, task in enumerate(group["Tasks"], start=1):
        title = task.get("Name") or ""
        if not title:
            yield f"Task {number} missing name"
        elif title in seen:
            yield f"Task {number} redefines '{title}' from task {seen[title]}"
        else:
            seen[title] = number
    if sum(bool(t["Leader"]) for t in group["Tasks"]) > 1:
        yield "Only one task may be marked as leader"
    if group["Tasks"] and all((t["Lifecycle"] or {}).get("Hook") for t in group["Tasks"]):
        yield f"Task group {group['Name']} must have at least one main task"


def _volume_errors(group: JsonDict) -> Iterator[str]:
    for name, request in sorted((group["Volumes"] or {}).items()):
        alone, found = rules.volume(request, group["Count"])
        if alone or found:
            yield f"Task group volume validation for {name} failed: {alone or grouped(found)}"


def _scaling_errors(group: JsonDict) -> Iterator[str]:
    scaling = group["Scaling"]
    if not scaling:
        return
    if (scaling.get("Max") or 0) < group["Count"]:
        yield "Scaling policy invalid: task group count must not be greater than maximum count in scaling policy"
    if group["Count"] < (scaling.get("Min") or 0):
        yield "Scaling policy invalid: task group count must not be less than minimum count in scaling policy"


def _task_errors(task: JsonDict, group: JsonDict, job: JsonDict) -> Iterator[str]:
    yield from _title_errors(task.get("Name") or "")
    if not task["Driver"]:
        yield "Missing task driver"
    yield from _time_errors(task, group, job)
    for found in (list(_resource_errors(task["Resources"])), list(_log_errors(task["LogConfig"], group))):
        if found:
            yield grouped(found)
    yield from _rule_errors(task)
    services = list(service_rules.task_service_errors(task, group))
    if services:
        yield grouped(services)
    yield from _numbered("Artifact", task["Artifacts"], rules.artifact)
    yield from _template_errors(task)
    yield from block_rules.actions(task)
    yield from _block_errors(task)
    for number, mount in enumerate(task["VolumeMounts"] or []):
        if mount.get("Volume") not in (group["Volumes"] or {}):
            yield f"Volume Mount ({number}) references undefined volume {mount.get('Volume') or ''}"
        found = list(rules.mount(mount))
        if found:
            yield f'Volume Mount ({number}) is invalid: "{grouped(found)}"'
    yield from block_rules.identities(task)
    yield from block_rules.secrets(task)


def _title_errors(name: str) -> Iterator[str]:
    if not name:
        yield "Missing task name"
    if name == "alloc":
        yield 'Task cannot be named "alloc"'
    if "/" in name or "\\" in name:
        yield "Task name cannot include slashes"
    elif "\0" in name:
        yield "Task name cannot include null characters"
    elif name in (".", ".."):
        yield f"Task name {go_quote(name)} can't be a directory name"


def _time_errors(task: JsonDict, group: JsonDict, job: JsonDict) -> Iterator[str]:
    limit = (group["Update"] or {}).get("ProgressDeadline") or 0
    if task["KillTimeout"] < 0:
        yield "KillTimeout must be a positive value"
    elif job["Type"] == "service" and 0 < limit < task["KillTimeout"]:
        told = f"({go_duration(task['KillTimeout'])}) longer than the group's ProgressDeadline ({go_duration(limit)})"
        yield f"KillTimout {told}"
    if task["ShutdownDelay"] < 0:
        yield "ShutdownDelay must be a positive value"


def _resource_errors(resources: JsonDict) -> Iterator[str]:
    cores, cpu, memory = resources["Cores"], resources["CPU"], resources["MemoryMB"]
    if cores > 0 and cpu > 0:
        yield "Task can only ask for 'cpu' or 'cores' resource, not both."
    if cores < 0:
        yield f"cores value ({cores}) cannot be negative"
    least = []
    if cpu < _MIN_CPU_MHZ and cores == 0:
        least.append(f"minimum CPU value is {_MIN_CPU_MHZ}; got {cpu}")
    if memory < _MIN_MEMORY_MB:
        least.append(f"minimum MemoryMB value is {_MIN_MEMORY_MB}; got {memory}")
    if least:
        yield grouped(least)
    if (resources["DiskMB"] or 0) > 0:
        yield "Task can't ask for disk resources, they have to be specified at the task group level."
    for number, device in enumerate(resources["Devices"] or [], start=1):
        found = list(_device_errors(device))
        if found:
            yield f"device {number} failed validation: {grouped(found)}"
    limit = resources["MemoryMaxMB"]
    if limit not in (0, -1) and limit < memory:
        yield f"MemoryMaxMB value ({limit}) should be larger than MemoryMB value ({memory})"
    secrets = resources["SecretsMB"]
    if secrets > memory:
        yield f"SecretsMB value ({secrets}) cannot be larger than MemoryMB value ({memory})"
    if secrets < 0:
        yield f"SecretsMB value ({secrets}) cannot be negative"


def _device_errors(device: JsonDict) -> Iterator[str]:
    if not device.get("Name"):
        yield "device name must be given as one of the following: type, vendor/type, or vendor/type/name"
    for number, rule in enumerate(device.get("Constraints") or [], start=1):
        if rule.get("Operand") in ("distinct_hosts", "distinct_property"):
            yield f"Constraint {number} validation failed: using unsupported operand {go_quote(rule['Operand'])}"
        elif found := list(rules.constraint(rule)):
            yield f"Constraint {number} validation failed: {grouped(found)}"
    yield from _numbered("Affinity", device.get("Affinities"), rules.affinity)


def _log_errors(logs: JsonDict, group: JsonDict) -> Iterator[str]:
    files, size, disk = logs["MaxFiles"], logs["MaxFileSizeMB"], group["EphemeralDisk"]["SizeMB"]
    if files < 1:
        yield f"minimum number of files is 1; got {files}"
    if size < 1:
        yield f"minimum file size is 1MB; got {size}"
    if disk <= files * size:
        yield f"log storage ({files * size} MB) must be less than requested disk capacity ({disk} MB)"


def _rule_errors(task: JsonDict) -> Iterator[str]:
    for number, rule in enumerate(task["Constraints"] or [], start=1):
        found = list(rules.constraint(rule))
        if found:
            yield f"Constraint {number} validation failed: {grouped(found)}"
        if rule.get("Operand") in ("distinct_hosts", "distinct_property"):
            yield f"Constraint {number} has disallowed Operand at task level: {rule['Operand']}"
    yield from _numbered("Affinity", task["Affinities"], rules.affinity)


def _template_errors(task: JsonDict) -> Iterator[str]:
    targets: dict[str, int] = {}
    for number, template in enumerate(task["Templates"] or [], start=1):
        found = list(rules.template(template))
        if found:
            yield f"Template {number} validation failed: {grouped(found)}"
        target = template["DestPath"]
        if target in targets:
            yield f"Template {number} has same destination as {targets[target]}"
        targets.setdefault(target, number)


def _block_errors(task: JsonDict) -> Iterator[str]:
    """Dispatch payload and life cycle."""
    payload, lifecycle = task["DispatchPayload"], task["Lifecycle"]
    if payload and rules.escapes("task/local", payload.get("File") or ""):
        yield "Dispatch Payload validation failed: destination escapes allocation directory"
    if lifecycle is None:
        return
    hook = lifecycle.get("Hook") or ""
    if not hook:
        yield "Lifecycle validation failed: no lifecycle hook provided"
    elif hook not in _HOOKS:
        yield f"Lifecycle validation failed: invalid hook: {hook}"


def transition(known: JsonDict | None, job: JsonDict, enforce: int | None) -> str:
    """Why a job can't follow the one of its name (None: there is none); empty when it can.

    `enforce`: the JobModifyIndex that that one must have, 0 when there must be none.
    """
    if enforce is not None:
        told = f"Enforcing job modify index {enforce}: job"
        if known is None and enforce:
            return f"{told} does not exist"
        if known is not None and not enforce:
            return f"{told} already exists"
        if known is not None and known["JobModifyIndex"] != enforce:
            return f"{told} exists with conflicting job modify index: {known['JobModifyIndex']}"
    if known is None:
        return "job can't be submitted with 'Dispatched' set" if job["Dispatched"] else ""
    if known["Type"] != job["Type"]:
        return f"cannot update job from type {go_quote(known['Type'])} to {go_quote(job['Type'])}"
    for field, name in (("Periodic", "periodic"), ("ParameterizedJob", "parameterized")):
        if known[field] and not job[field]:
            return f"cannot update {name} job to being non-{name}"
        if job[field] and not known[field]:
            return f"cannot update non-{name} job to being {name}"
    return "field 'Dispatched' is read-only" if known["Dispatched"] != job["Dispatched"] else ""
