"""Jobs as the server stores them: defaults filled in, and what makes two jobs the same. Pure.

The defaults are those of Nomad's job specification (https://developer.hashicorp.com/nomad/docs/job-specification).
"""

import copy
import json
from typing import Any

from caravan.cluster.local.words import SECOND, JsonDict

_MINUTE = 60 * SECOND
_HOUR = 60 * _MINUTE

_JOB: JsonDict = {
    "Affinities": None,
    "AllAtOnce": False,
    "Constraints": None,
    "ConsulNamespace": "",
    "DispatchIdempotencyToken": "",
    "Dispatched": False,
    "Meta": None,
    "Multiregion": None,
    "Namespace": "default",
    "NodePool": "default",
    "NomadTokenID": "",
    "ParameterizedJob": None,
    "ParentID": "",
    "Payload": None,
    "Periodic": None,
    "Priority": 50,
    "Region": "global",
    "Spreads": None,
    "Stable": False,
    "Status": "pending",
    "StatusDescription": "",
    "Stop": False,
    "SubmitTime": 0,
    "TaskGroups": None,
    "Type": "service",
    "UI": None,
    "Update": {
        "AutoPromote": False,
        "AutoRevert": False,
        "Canary": 0,
        "HealthCheck": "",
        "HealthyDeadline": 0,
        "MaxParallel": 0,
        "MinHealthyTime": 0,
        "ProgressDeadline": 0,
        "Stagger": 0,
    },
    "VaultNamespace": "",
    "Version": 0,
    "VersionTag": None,
}
_GROUP: JsonDict = {
    "Affinities": None,
    "Constraints": None,
    "Consul": None,
    "Count": 1,
    "Disconnect": None,
    "MaxClientDisconnect": None,
    "MaxRunDuration": None,
    "Meta": None,
    "Migrate": None,
    "Networks": None,
    "PreventRescheduleOnLost": False,
    "Scaling": None,
    "Services": None,
    "ShutdownDelay": None,
    "Spreads": None,
    "StopAfterClientDisconnect": None,
    "Tasks": None,
    "Update": None,
    "Volumes": None,
}
_DISK: JsonDict = {"Migrate": False, "SizeMB": 300, "Sticky": False}
_TASK: JsonDict = {
    "Actions": None,
    "Affinities": None,
    "Artifacts": None,
    "CSIPluginConfig": None,
    "Config": None,
    "Constraints": None,
    "Consul": None,
    "DispatchPayload": None,
    "Driver": "",
    "Env": None,
    "Identities": None,
    "KillSignal": "",
    "KillTimeout": 5 * SECOND,
    "Kind": "",
    "Leader": False,
    "Lifecycle": None,
    "Meta": None,
    "ScalingPolicies": None,
    "Schedule": None,
    "Secrets": None,
    "Services": None,
    "ShutdownDelay": 0,
    "Templates": None,
    "User": "",
    "Vault": None,
    "VolumeMounts": None,
}
_IDENTITY: JsonDict = {
    "Audience": ["nomadproject.io"],
    "ChangeMode": "",
    "ChangeSignal": "",
    "Env": False,
    "ExtraClaims": None,
    "File": False,
    "Filepath": "",
    "Name": "default",
    "ServiceName": "",
    "TTL": 0,
}
_RESOURCES: JsonDict = {
    "CPU": 100,
    "Cores": 0,
    "Devices": None,
    "DiskMB": 0,
    "IOPS": 0,
    "MemoryMB": 300,
    "MemoryMaxMB": 0,
    "NUMA": None,
    "Networks": None,
    "SecretsMB": 0,
}
_LOGS: JsonDict = {"Disabled": False, "MaxFileSizeMB": 10, "MaxFiles": 10}
_TEMPLATE: JsonDict = {
    "ChangeMode": "restart",
    "ChangeScript": None,
    "ChangeSignal": "",
    "DestPath": "",
    "EmbeddedTmpl": "",
    "Envvars": False,
    "ErrMissingKey": False,
    "Gid": None,
    "LeftDelim": "{{",
    "Once": False,
    "Perms": "0644",
    "RightDelim": "}}",
    "SourcePath": "",
    "Splay": 5 * SECOND,
    "Uid": None,
    "VaultGrace": 0,
    "Wait": None,
}
_ARTIFACT: JsonDict = {
    "Chown": False,
    "GetterHeaders": None,
    "GetterInsecure": False,
    "GetterMode": "any",
    "GetterOptions": None,
    "GetterSource": "",
    "RelativeDest": "local/",
}
_RESTART: dict[str, JsonDict] = {
    "batch": {"Attempts": 3, "Delay": 15 * SECOND, "Interval": 24 * _HOUR, "Mode": "fail", "RenderTemplates": False},
    "service": {"Attempts": 2, "Delay": 15 * SECOND, "Interval": 30 * _MINUTE, "Mode": "fail"},
}
_RESCHEDULE: dict[str, JsonDict] = {
    "batch": {
        "Attempts": 1,
        "Delay": 5 * SECOND,
        "DelayFunction": "constant",
        "Interval": 24 * _HOUR,
        "MaxDelay": 0,
        "Unlimited": False,
    },
    "service": {
        "Attempts": 0,
        "Delay": 30 * SECOND,
        "DelayFunction": "exponential",
        "Interval": 0,
        "MaxDelay": _HOUR,
        "Unlimited": True,
    },
}

BOOKKEEPING = frozenset(
    {
        "CreateIndex",
        "JobModifyIndex",
        "ModifyIndex",
        "NomadTokenID",
        "Stable",
        "Status",
        "StatusDescription",
        "SubmitTime",
        "Version",
        "VersionTag",
    }
)
"""Fields of a job that the server keeps; they don't make a job another one."""


_LISTS = frozenset(
    {
        "Affinities",
        "Artifacts",
        "Constraints",
        "Datacenters",
        "Devices",
        "Networks",
        "Services",
        "Spreads",
        "TaskGroups",
        "Tasks",
        "Templates",
        "VolumeMounts",
    }
)
_OBJECTS = frozenset({"Config", "Env", "Lifecycle", "Meta", "Volumes"})


class ShapeError(ValueError):
    """A job in JSON with a field of the wrong type."""


def _fill(given: Any, defaults: JsonDict) -> JsonDict:
    """`given` over the defaults; null counts as not given, unknown fields stay. Raises ShapeError on a wrong type."""
    if given is None:
        return copy.deepcopy(defaults)
    if not isinstance(given, dict):
        raise ShapeError(f"json: cannot unmarshal {json.dumps(given)[:60]} into an object")
    own = {k: v for k, v in given.items() if v is not None}
    for key, value in own.items():
        _check(key, value, defaults.get(key))
    return {**copy.deepcopy(defaults), **own}


def _check(key: str, value: Any, default: Any) -> None:
    if default is not None:
        whole = type(value) is type(default)
    elif key in _LISTS:
        whole = isinstance(value, list) and (key == "Datacenters" or all(isinstance(v, dict) for v in value))
    elif key in _OBJECTS:
        whole = isinstance(value, dict)
    else:
        whole = key not in ("ID", "Name") or isinstance(value, str)
    if not whole:
        raise ShapeError(f"json: cannot unmarshal {json.dumps(value)[:60]} into the field {key}")


def canonical_job(job: JsonDict) -> JsonDict:
    """The job with Nomad's defaults filled in, as a deep copy. Raises ShapeError on a field of the wrong type.

    What the job says is checked elsewhere: see `validation`.
    """
    whole = _fill(_completed(copy.deepcopy(job), "Job"), _JOB)
    for dropped in ("Reschedule", "Migrate"):  # job-wide shorthands; their meaning is in the groups
        whole.pop(dropped, None)
    whole["Name"] = whole.get("Name") or whole.get("ID") or ""
    whole["Priority"] = whole["Priority"] or 50  # what the server is set to where a job has none
    whole["NodePool"] = whole["NodePool"] or "default"
    whole["Namespace"] = whole["Namespace"] or "default"
    whole["Region"] = whole["Region"] or "global"
    whole["Datacenters"] = whole.get("Datacenters") or ["*"]
    kind = whole["Type"] if whole["Type"] in _RESTART else "service"
    if whole["ParameterizedJob"]:
        whole["ParameterizedJob"]["Payload"] = whole["ParameterizedJob"].get("Payload") or "optional"
    whole["TaskGroups"] = [_group(group, kind) for group in whole["TaskGroups"] or []]
    return whole


_WHOLE = frozenset({"duration", "int", "int8", "int64", "uint8", "uint16", "uint32", "uint64"})
_MOST = 1 << 63


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is of a type of `hcl.schema`, as Go reads JSON: no number for a text, no text for a number."""
    if kind[0] in "[{<":
        if not isinstance(value, list if kind[0] == "[" else dict):
            return False
        inner = value if isinstance(value, list) else value.values()
        return all(_fits(one, kind[1:-1]) for one in inner)
    if kind in _WHOLE:
        return isinstance(value, int) and not isinstance(value, bool) and -_MOST <= value < 2 * _MOST
    if kind in ("str", "bool"):
        return isinstance(value, str if kind == "str" else bool)
    return kind == "any" or isinstance(value, dict)


def _completed(value: Any, kind: str) -> Any:
    """A block with all the fields that its type has, at every depth. Raises ShapeError on a field of the wrong type."""
    from caravan.hcl.schema import absent, block_types

    fields = block_types().get(kind)
    if fields is None or not isinstance(value, dict):
        return value
    for field in fields:
        inner = value.get(field.key)
        if inner is None:
            if not field.omitted:
                value[field.key] = absent(field)
        elif not _fits(inner, field.type):
            raise ShapeError(f"json: cannot unmarshal {json.dumps(inner)[:60]} into the field {field.key}")
        elif field.type[0] == "[" and isinstance(inner, list):
            value[field.key] = [_completed(i, field.type[1:-1]) for i in inner]
        elif field.type[0] == "<" and isinstance(inner, dict):
            value[field.key] = {k: _completed(v, field.type[1:-1]) for k, v in inner.items()}
        else:
            value[field.key] = _completed(inner, field.type)
    return value


def _group(group: JsonDict, kind: str) -> JsonDict:
    whole = _fill(group, _GROUP)
    whole["EphemeralDisk"] = _fill(group.get("EphemeralDisk"), _DISK)
    whole["RestartPolicy"] = _fill(group.get("RestartPolicy"), {"RenderTemplates": False, **_RESTART[kind]})
    whole["ReschedulePolicy"] = _fill(group.get("ReschedulePolicy"), _RESCHEDULE[kind])
    whole["Tasks"] = [_task(task, whole["RestartPolicy"]) for task in whole["Tasks"] or []]
    return whole


def _task(task: JsonDict, restart: JsonDict) -> JsonDict:
    whole = _fill(task, _TASK)
    whole["Identity"] = _fill(task.get("Identity"), _IDENTITY)
    whole["Resources"] = _fill(task.get("Resources"), _RESOURCES)
    if whole["Resources"]["Cores"] and not (task.get("Resources") or {}).get("CPU"):
        whole["Resources"]["CPU"] = 0  # whole cores stand in the place of MHz
    whole["Resources"]["Devices"] = [
        _fill(d, {"Affinities": None, "Constraints": None, "Count": 1}) for d in whole["Resources"]["Devices"] or []
    ] or None
    whole["LogConfig"] = _fill(task.get("LogConfig"), _LOGS)
    whole["LogConfig"].pop("Enabled", None)
    whole["RestartPolicy"] = _fill(task.get("RestartPolicy"), restart)
    whole["Templates"] = [_fill(t, _TEMPLATE) for t in whole["Templates"] or []] or None
    whole["Artifacts"] = [_fill(a, _ARTIFACT) for a in whole["Artifacts"] or []] or None
    return whole


def same_spec(one: JsonDict, other: JsonDict) -> bool:
    """Whether two canonical jobs ask for the same: bookkeeping fields aside."""

    def bare(job: JsonDict) -> str:
        return json.dumps({k: v for k, v in job.items() if k not in BOOKKEEPING}, sort_keys=True)

    return bare(one) == bare(other)


def same_tasks(old: JsonDict, new: JsonDict, name: str) -> bool:
    """Whether an allocation of a group's older version serves the new one without being started anew.

    Nomad's rule: what the tasks run, with what, and where they find things; not how they are counted, restarted,
    ranked or announced.
    """
    return _essence(old, name) == _essence(new, name)


_ESSENCE = (
    *("Name", "Driver", "User", "Config", "Env", "Artifacts", "Vault", "Secrets", "Consul", "Templates"),
    *("CSIPluginConfig", "VolumeMounts", "Identity", "Identities"),
)
_HELD = ("CPU", "Cores", "MemoryMB", "MemoryMaxMB", "Devices", "NUMA", "SecretsMB", "Networks")


def _essence(job: JsonDict, name: str) -> str:
    group = group_of(job, name) or {}
    tasks = [
        {
            **{key: task.get(key) or None for key in _ESSENCE},
            "held": {key: task["Resources"].get(key) or None for key in _HELD},
            "meta": {**(job["Meta"] or {}), **(group["Meta"] or {}), **(task["Meta"] or {})},
            "unlogged": task["LogConfig"]["Disabled"],
            "renders": task["RestartPolicy"].get("RenderTemplates"),
        }
        for task in sorted(group.get("Tasks") or [], key=lambda t: str(t["Name"]))
    ]
    kept = {key: group.get(key) or None for key in ("EphemeralDisk", "Networks", "Consul", "Volumes")}
    bound = [s for s in group.get("Services") or [] if s.get("Connect")]
    return json.dumps([tasks, kept, bound, job["Datacenters"], job["NodePool"]], sort_keys=True)


def waits_for_dispatch(job: JsonDict) -> bool:
    """Whether a job is a pattern that others are made from, and runs nothing itself."""
    return bool(job["ParameterizedJob"]) and not job["Dispatched"]


def group_of(job: JsonDict, name: str) -> JsonDict | None:
    """The job's task group of that name."""
    return next((g for g in job["TaskGroups"] if g["Name"] == name), None)
