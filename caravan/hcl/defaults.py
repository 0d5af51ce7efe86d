"""Nomad's defaults: a decoded job → the canonical one, as `/v1/jobs/parse` answers with `Canonicalize`.

Durations are nanoseconds. The values are those of Nomad 2.0.6 (its documentation's "default" of each block).
"""

import copy
import posixpath
from typing import Any, Final

_SECOND: Final = 10**9
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE

Node = dict[str, Any]

UPDATE: Final[Node] = {
    "Stagger": 30 * _SECOND,
    "MaxParallel": 1,
    "HealthCheck": "checks",
    "MinHealthyTime": 10 * _SECOND,
    "HealthyDeadline": 5 * _MINUTE,
    "ProgressDeadline": 10 * _MINUTE,
    "AutoRevert": False,
    "Canary": 0,
    "AutoPromote": False,
}
MIGRATE: Final[Node] = {
    "MaxParallel": 1,
    "HealthCheck": "checks",
    "MinHealthyTime": 10 * _SECOND,
    "HealthyDeadline": 5 * _MINUTE,
}
RESTART_SERVICE: Final[Node] = {
    "Delay": 15 * _SECOND,
    "Attempts": 2,
    "Interval": 30 * _MINUTE,
    "Mode": "fail",
    "RenderTemplates": False,
}
RESTART_BATCH: Final[Node] = {**RESTART_SERVICE, "Attempts": 3, "Interval": 24 * _HOUR}
RESCHEDULE: Final[dict[str, Node]] = {
    "service": {
        "Attempts": 0,
        "Interval": 0,
        "Delay": 30 * _SECOND,
        "DelayFunction": "exponential",
        "MaxDelay": _HOUR,
        "Unlimited": True,
    },
    "batch": {
        "Attempts": 1,
        "Interval": 24 * _HOUR,
        "Delay": 5 * _SECOND,
        "DelayFunction": "constant",
        "MaxDelay": 0,
        "Unlimited": False,
    },
}
RESCHEDULE_OTHER: Final[Node] = {
    "Attempts": 0,
    "Interval": 0,
    "Delay": 0,
    "DelayFunction": "",
    "MaxDelay": 0,
    "Unlimited": False,
}
DISK: Final[Node] = {"Sticky": False, "Migrate": False, "SizeMB": 300}
LOGS: Final[Node] = {"MaxFiles": 10, "MaxFileSizeMB": 10, "Disabled": False}
VAULT: Final[Node] = {
    "Env": True,
    "DisableFile": False,
    "Namespace": "",
    "ChangeMode": "restart",
    "ChangeSignal": "SIGHUP",
    "AllowTokenExpiration": False,
}
TEMPLATE: Final[Node] = {
    "SourcePath": "",
    "DestPath": "",
    "EmbeddedTmpl": "",
    "ChangeMode": "restart",
    "Once": False,
    "Splay": 5 * _SECOND,
    "Perms": "0644",
    "LeftDelim": "{{",
    "RightDelim": "}}",
    "Envvars": False,
    "ErrMissingKey": False,
    "VaultGrace": 0,
}
CHANGE_SCRIPT: Final[Node] = {
    "Command": "",
    "Args": [],
    "Timeout": 5 * _SECOND,
    "FailOnError": False,
    "RunOnFirstRender": False,
}
VOLUME_MOUNT: Final[Node] = {"PropagationMode": "private", "ReadOnly": False, "SELinuxLabel": ""}
JOB: Final[Node] = {
    "ParentID": "",
    "Namespace": "default",
    "Priority": 50,
    "Stop": False,
    "Region": "global",
    "NodePool": "",
    "Type": "service",
    "AllAtOnce": False,
    "ConsulNamespace": "",
    "VaultNamespace": "",
    "NomadTokenID": "",
    "Status": "",
    "StatusDescription": "",
    "Stable": False,
    "Version": 0,
    "CreateIndex": 0,
    "ModifyIndex": 0,
    "JobModifyIndex": 0,
}


def fill(node: Node, defaults: Node) -> Node:
    """The node with nulls replaced by defaults, in place."""
    for key, value in defaults.items():
        if node.get(key) is None:
            node[key] = copy.copy(value)
    return node


def merged(base: Node | None, over: Node | None) -> Node | None:
    """A copy of `base` with what `over` sets; the other one alone where one is null."""
    if base is None or over is None:
        found = base if over is None else over
        return dict(found) if found is not None else None
    return {**base, **{k: v for k, v in over.items() if v is not None}}


def each(node: Node, key: str) -> list[Node]:
    """The blocks of a list that may be null."""
    return node.get(key) or []


def weigh(node: Node, *keys: str) -> None:
    """The default weight of affinities and spreads."""
    for key in keys:
        for found in each(node, key):
            fill(found, {"Weight": 50})


def canonical(job: Node) -> Node:
    """The job with Nomad's defaults, in place."""
    fill(job, JOB)
    kind = job["Type"]
    if job["Periodic"] is not None:
        fill(job["Periodic"], {"Enabled": True, "Spec": "", "Specs": [], "SpecType": "cron", "ProhibitOverlap": False})
        job["Periodic"]["TimeZone"] = job["Periodic"]["TimeZone"] or "UTC"
    if job["Update"] is not None:
        fill(job["Update"], UPDATE)
    elif kind in ("service", "system"):
        job["Update"] = dict(UPDATE)
    if job["Multiregion"] is not None:
        _multiregion(job["Multiregion"])
    for group in each(job, "TaskGroups"):
        _group(group, job)
    weigh(job, "Spreads", "Affinities")
    return job


def _multiregion(node: Node) -> None:
    node["Strategy"] = fill(node["Strategy"] or {}, {"MaxParallel": 0, "OnFailure": ""})
    node["Regions"] = node["Regions"] or []
    for region in node["Regions"]:
        fill(region, {"Count": 1, "Datacenters": [], "Meta": {}})


def _empty_update(update: Node) -> bool:
    return not any(update.values())


def _group(group: Node, job: Node) -> None:
    kind = job["Type"]
    scaling = group["Scaling"]
    if group["Count"] is None:
        group["Count"] = scaling["Min"] if scaling and scaling["Min"] is not None else 1
    if scaling:
        fill(scaling, {"Enabled": True, "Min": group["Count"]})
    group["EphemeralDisk"] = fill(group["EphemeralDisk"] or {}, DISK)
    if group["Consul"] is not None:
        group["Consul"]["Cluster"] = group["Consul"]["Cluster"] or "default"
    if group["Update"] is not None or (job["Update"] is not None and not _empty_update(job["Update"])):
        group["Update"] = fill(merged(job["Update"], group["Update"]) or {}, UPDATE)
    policy = merged(job["Reschedule"], group["ReschedulePolicy"])
    if policy is not None or kind not in ("sysbatch", "system"):
        policy = fill(policy or {}, RESCHEDULE.get(kind, RESCHEDULE_OTHER))
    group["ReschedulePolicy"] = policy
    migrate = merged(job["Migrate"], group["Migrate"])
    group["Migrate"] = fill(migrate or {}, MIGRATE) if migrate is not None or kind == "service" else None
    restart = RESTART_SERVICE if kind in ("service", "system") else RESTART_BATCH
    group["RestartPolicy"] = merged(restart, group["RestartPolicy"])
    for task in each(group, "Tasks"):
        _task(task, group, job)
    weigh(group, "Spreads", "Affinities")
    for service in each(group, "Services"):
        _service(service, f"{job['Name']}-{group['Name']}")
    if group["Disconnect"] is not None:
        fill(group["Disconnect"], {"Replace": True, "Reconcile": "best_score"})


def resources(node: Node) -> Node:
    """The resources with defaults: 100 MHz unless cores are asked for, 300 MB."""
    cores = node["Cores"] is not None
    fill(node, {"Cores": 0, "CPU": 0 if cores else 100, "MemoryMB": 300})
    for device in each(node, "Devices"):
        fill(device, {"Count": 1})
        weigh(device, "Affinities")
    if node["NUMA"] is not None:
        node["NUMA"]["Affinity"] = node["NUMA"]["Affinity"] or "none"
        node["NUMA"]["Devices"] = node["NUMA"]["Devices"] or None
    return node


def _task(task: Node, group: Node, job: Node) -> None:
    from caravan.hcl.schema import absent, block_types

    if task["Resources"] is None:
        task["Resources"] = {f.key: absent(f) for f in block_types()["Resources"]}
    resources(task["Resources"])
    fill(task, {"KillTimeout": 5 * _SECOND})
    task["LogConfig"] = fill(task["LogConfig"] or {"Enabled": None}, LOGS)
    for artifact in each(task, "Artifacts"):
        _artifact(artifact)
    if task["Vault"] is not None:
        fill(task["Vault"], VAULT)
        task["Vault"]["Cluster"] = task["Vault"]["Cluster"] or "default"
    if task["Consul"] is not None:
        task["Consul"]["Cluster"] = task["Consul"]["Cluster"] or "default"
    for template in each(task, "Templates"):
        _template(template)
    for secret in each(task, "Secrets"):
        secret["Config"], secret["Env"] = secret["Config"] or None, secret["Env"] or None
    for service in each(task, "Services"):
        _service(service, f"{job['Name']}-{group['Name']}-{task['Name']}")
    weigh(task, "Affinities")
    for mount in each(task, "VolumeMounts"):
        fill(mount, VOLUME_MOUNT)
    plugin = task.get("CSIPluginConfig")
    if plugin is not None:
        plugin["MountDir"] = plugin["MountDir"] or "/csi"
        plugin["StagePublishBaseDir"] = plugin["StagePublishBaseDir"] or "/local/csi"
        plugin["HealthTimeout"] = plugin["HealthTimeout"] or 30 * _SECOND
    task["RestartPolicy"] = merged(group["RestartPolicy"], task["RestartPolicy"])


def _artifact(artifact: Node) -> None:
    fill(artifact, {"GetterMode": "any", "GetterInsecure": False, "GetterSource": ""})
    artifact["GetterOptions"] = artifact["GetterOptions"] or None
    artifact["GetterHeaders"] = artifact["GetterHeaders"] or None
    if artifact["RelativeDest"] is None:
        artifact["RelativeDest"] = "local/"
        if artifact["GetterMode"] == "file":
            name = posixpath.basename(artifact["GetterSource"].rstrip("/")) or "."
            artifact["RelativeDest"] = posixpath.normpath(f"local/{name}")


def _template(template: Node) -> None:
    fill(template, TEMPLATE)
    if template["ChangeSignal"] is None:
        template["ChangeSignal"] = "SIGHUP" if template["ChangeMode"] == "signal" else ""
    template["ChangeSignal"] = template["ChangeSignal"].upper()
    if template["ChangeScript"] is not None:
        fill(template["ChangeScript"], CHANGE_SCRIPT)


def _service(service: Node, name: str) -> None:
    for key, value in (
        ("Name", name),
        ("AddressMode", "auto"),
        ("OnUpdate", "require_healthy"),
        ("Provider", "consul"),
        ("Cluster", "default"),
    ):
        service[key] = service[key] or value
    for key in ("Meta", "CanaryMeta", "TaggedAddresses"):
        service[key] = service[key] or None
    if service["Weights"] is not None:
        for key in ("Passing", "Warning"):
            service["Weights"][key] = max(service["Weights"][key], 1)
    if service["Connect"] is not None:
        from caravan.hcl.consul import connect

        connect(service["Connect"])
    for check in each(service, "Checks"):
        check["CheckRestart"] = _check_restart(service["CheckRestart"], check["CheckRestart"])
        for key in ("SuccessBeforePassing", "FailuresBeforeCritical", "FailuresBeforeWarning"):
            check[key] = max(check[key], 0)
        check["OnUpdate"] = check["OnUpdate"] or service["OnUpdate"]


def _check_restart(base: Node | None, over: Node | None) -> Node | None:
    """A check's restart rule over its service's."""
    if base is not None and over is not None:
        set_there = {k: v for k, v in over.items() if (v > 0 if k == "Limit" else v is not None and v is not False)}
        found: Node | None = {**base, **set_there}
    else:
        found = merged(base, over)
    return fill(found, {"Grace": _SECOND}) if found is not None else None
