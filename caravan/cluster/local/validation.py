"""What a job is refused for, in Nomad's words. Pure."""

import re
from collections.abc import Collection, Iterator

from caravan.cluster.local.words import JsonDict, go_quote, grouped

_TYPES = ("batch", "service")
_NOMAD_TYPES = ("batch", "service", "sysbatch", "system")
_MIN_MEMORY_MB = 10
_MIN_CPU_MHZ = 1


def errors_of(job: JsonDict, *, namespaces: Collection[str], pools: Collection[str]) -> list[str]:
    """Why a canonical job is refused; empty when it is sound."""
    found = list(_job_errors(job))
    if found:
        return found
    if job["Namespace"] not in namespaces:
        return [f"job {go_quote(job['ID'])} is in nonexistent namespace {go_quote(job['Namespace'])}"]
    if job["NodePool"] not in pools:
        return [f"job {go_quote(job['ID'])} is in nonexistent node pool {go_quote(job['NodePool'])}"]
    return []


def warnings_of(job: JsonDict) -> str:
    """What Nomad warns of, as one text; empty when there is nothing."""
    found: list[str] = []
    for group in job["TaskGroups"]:
        if group["Services"] and not group["ShutdownDelay"] and not any(t["ShutdownDelay"] for t in group["Tasks"]):
            found.append(
                f"group {go_quote(group['Name'])} defines services, but neither the group nor any of its tasks have "
                "shutdown_delay set"
            )
        found += [
            f'Memory oversubscription is not enabled; Task "{group["Name"]}.{task["Name"]}" memory_max value will be '
            "ignored. Update the Scheduler Configuration to allow oversubscription."
            for task in group["Tasks"]
            if task["Resources"]["MemoryMaxMB"]
        ]
    if not found:
        return ""
    head = "1 warning:" if len(found) == 1 else f"{len(found)} warnings:"
    return head + "\n\n* " + "\n* ".join(found)


def _job_errors(job: JsonDict) -> Iterator[str]:
    yield from _id_errors(job.get("ID") or "")
    if job["Type"] not in _NOMAD_TYPES:
        yield f"Invalid job type: {go_quote(str(job['Type']))}"
    elif job["Type"] not in _TYPES:
        yield f"The built-in cluster runs batch and service jobs, no {job['Type']} jobs"
    for feature in ("Periodic", "ParameterizedJob", "Multiregion"):
        if job[feature]:
            yield f"The built-in cluster runs no jobs with {feature}"
    if not 1 <= job["Priority"] <= 100:
        yield "Job priority must be between [1, 100]"
    yield from _constraint_errors(job["Constraints"])
    if not job["TaskGroups"]:
        yield "Missing job task groups"
    yield from _groups_errors(job["TaskGroups"])


def _id_errors(name: str) -> Iterator[str]:
    if not name:
        yield "Missing job ID"
    elif " " in name:
        yield "Job ID contains a space"
    elif "\0" in name:
        yield "Job ID contains a null character"


def _groups_errors(groups: list[JsonDict]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, group in enumerate(groups, start=1):
        title = group.get("Name") or ""
        if not title:
            yield f"Job task group {number} missing name"
        elif title in seen:
            yield f"Job task group {number} redefines '{title}' from group {seen[title]}"
        else:
            seen[title] = number
        inner = list(_group_errors(group))
        if inner:
            yield f"Task group {title} validation failed: {grouped(inner)}"


def _group_errors(group: JsonDict) -> Iterator[str]:
    if group["Count"] < 0:
        yield "Task group count can't be negative"
    if not group["Tasks"]:
        yield "Missing tasks for task group"
    yield from _constraint_errors(group["Constraints"])
    if group["RestartPolicy"]["Mode"] not in ("fail", "delay"):
        yield f"Unsupported restart mode: {go_quote(str(group['RestartPolicy']['Mode']))}"
    for label, volume in (group["Volumes"] or {}).items():
        if volume.get("Type") not in ("host", "csi"):
            yield f"Volume {label} has unrecognized type {volume.get('Type') or ''}"
    seen: dict[str, int] = {}
    for number, task in enumerate(group["Tasks"], start=1):
        title = task.get("Name") or ""
        if not title:
            yield f"Task {number} missing name"
        elif title in seen:
            yield f"Task {number} redefines '{title}' from task {seen[title]}"
        else:
            seen[title] = number
    if len(seen) < len(group["Tasks"]):
        return  # as Nomad: a task named twice hides what else is wrong with it
    for task in group["Tasks"]:
        inner = list(_task_errors(task, group))
        if inner:
            yield f"Task {task['Name']} validation failed: {grouped(inner)}"


def _task_errors(task: JsonDict, group: JsonDict) -> Iterator[str]:
    if re.search(r"[/\\\0]", task["Name"]) or task["Name"] in (".", "..", "alloc"):
        yield f"Task name {go_quote(task['Name'])} can't be a directory name"
    if not task["Driver"]:
        yield "Missing task driver"
    if task["KillTimeout"] < 0:
        yield "KillTimeout must be a positive value"
    resources = list(_resource_errors(task["Resources"]))
    if resources:
        yield grouped([grouped(resources)])
    yield from _constraint_errors(task["Constraints"])
    for number, template in enumerate(task["Templates"] or [], start=1):
        inner = list(_template_errors(template))
        if inner:
            yield f"Template {number} validation failed: {grouped(inner)}"
    for number, mount in enumerate(task["VolumeMounts"] or []):
        if mount.get("Volume") not in (group["Volumes"] or {}):
            yield f"Volume Mount ({number}) references undefined volume {mount.get('Volume') or ''}"


def _resource_errors(resources: JsonDict) -> Iterator[str]:
    if not resources["Cores"] and resources["CPU"] < _MIN_CPU_MHZ:
        yield f"minimum CPU value is {_MIN_CPU_MHZ}; got {resources['CPU']}"
    if resources["MemoryMB"] < _MIN_MEMORY_MB:
        yield f"minimum MemoryMB value is {_MIN_MEMORY_MB}; got {resources['MemoryMB']}"
    if 0 < resources["MemoryMaxMB"] < resources["MemoryMB"]:
        limit, least = resources["MemoryMaxMB"], resources["MemoryMB"]
        yield f"MemoryMaxMB value ({limit}) should be larger than MemoryMB value ({least})"


def _template_errors(template: JsonDict) -> Iterator[str]:
    if not template["SourcePath"] and not template["EmbeddedTmpl"]:
        yield "Must specify a source path or have an embedded template"
    if not template["DestPath"]:
        yield "Must specify a destination for the template"
    if template["ChangeMode"] not in ("noop", "restart", "signal", "script"):
        yield f"Invalid change mode {go_quote(template['ChangeMode'])}"
    if not re.fullmatch(r"0?[0-7]{1,4}", template["Perms"] or "0644"):
        yield f"Failed to parse {go_quote(template['Perms'])} as octal"


def _constraint_errors(constraints: list[JsonDict] | None) -> Iterator[str]:
    for number, constraint in enumerate(constraints or [], start=1):
        operand = constraint.get("Operand") or "="
        if operand == "regexp":
            try:
                re.compile(constraint.get("RTarget") or "")
            except re.error as error:
                yield f"Constraint {number} validation failed: {grouped([f'Regular expression failed: {error}'])}"
        needs = operand not in ("distinct_hosts", "distinct_property", "is_set", "is_not_set")
        if needs and not constraint.get("LTarget"):
            yield f"Constraint {number} validation failed: {grouped(['No LTarget provided but is required'])}"
