"""What a job asks for, read from the very JSON that would be registered, as claims that a policy judges.

It looks into every group and task, whoever wrote the job. It knows no plan: that a plan is allowed proves nothing here.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from caravan.planning.claim import NEVER, Claim
from caravan.planning.claims import CODE_PLACES, bind, destination, is_own, network_of, secret
from caravan.planning.environment_claims import environment_claims, option_claims
from caravan.planning.template_claims import template_claims, template_pairs
from caravan.values.base import Json

# Options of drivers that reach nothing outside of the task. Every other one is judged, by its name at least.
_HARMLESS: Final = frozenset(
    {"command", "args", "entrypoint", "shm_size", "image_pull_timeout", "hostname", "ports", "work_dir", "labels"}
    | {"force_pull", "cap_drop", "readonly_rootfs", "tty", "interactive", "init"}
)
_HOST_NAMESPACES: Final = ("pid_mode", "ipc_mode", "uts_mode", "userns_mode", "cgroupns")
_NANO: Final = 1_000_000_000
_OWN_AUDIENCE: Final = "nomadproject.io"
"""Whom an identity is for that Nomad gives to every task."""


class _OddError(Exception):
    """Something in the job has another shape than jobs have."""


def job_claims(job: Json, *, own: str = "", timed: bool = True) -> Iterator[Claim]:
    """Everything the job asks for. `own`: the run's own directory. `timed`: the cluster itself holds time limits.

    Something of another shape than jobs have is what no policy can allow: what it means can't be told.
    """
    try:
        yield from _job(_map(job), own, timed=timed)
    except _OddError as odd:
        yield Claim(NEVER, "job", f"{odd} of a shape that jobs don't have")


def _job(job: dict[str, Any], own: str, *, timed: bool) -> Iterator[Claim]:
    for key in ("Periodic", "ParameterizedJob"):
        if job.get(key):  # it would be started again and again, by others
            yield Claim("privileges.options", "job", key)
    if job.get("Type") not in ("batch", "service"):
        yield Claim(NEVER, "job type", str(job.get("Type")))  # system jobs run on every node
    places = [(job.get("Region"), job.get("Datacenters"), job.get("NodePool"))]
    for region in _maps(_map(job.get("Multiregion")).get("Regions")):
        places += [(region.get("Name"), region.get("Datacenters"), region.get("NodePool"))]
    yield Claim("jobs.namespaces", "job namespace", job.get("Namespace") or "default")
    for where, centers, pool in places:
        yield Claim("jobs.regions", "job region", where or "global")
        yield Claim("jobs.node_pools", "job node_pool", pool or "default")
        yield from (Claim("jobs.datacenters", "job datacenters", str(c)) for c in _list(centers) or ["*"])
    yield _number("limits.priority", "job priority", _int(job.get("Priority") or None, 50))
    groups = _maps(job.get("TaskGroups"))
    for group in groups:
        yield from _group(group, own, timed=timed)
    yield from _totals(groups)


def _group(group: Any, own: str, *, timed: bool) -> Iterator[Claim]:
    name = f"group {group.get('Name')}"
    for volume in _maps(list(_map(group.get("Volumes")).values())):
        kind = volume.get("Type")
        if kind in ("host", "csi"):
            yield Claim(f"mounts.{kind}_volumes", f"{name} volume", str(volume.get("Source")))
        else:
            yield Claim("privileges.options", f"{name} volume type", str(kind))
        if volume.get("MountOptions"):
            yield Claim("privileges.options", f"{name} volume", "mount_options")
    yield from _connects(group, name)
    modes = [str(n.get("Mode") or "") for n in _maps(group.get("Networks"))]
    limit = _int(group.get("MaxRunDuration"), 0)
    if limit or timed:
        said = "no time limit" if not limit else f"{limit / _NANO:g}"
        yield Claim("limits.max_run_s", f"{name} max_run_duration", said, limit / _NANO if limit else None)
    for task in _maps(group.get("Tasks")):
        yield from _task(task, f"task {task.get('Name')}", modes, own)


def _connects(holder: Any, name: str) -> Iterator[Claim]:
    for service in _maps(holder.get("Services")):
        if service.get("Connect"):
            yield Claim("privileges.options", f"{name} service", "connect")


def _task(task: Any, name: str, modes: list[str], own: str) -> Iterator[Claim]:
    driver, config = str(task.get("Driver")), _map(task.get("Config"))
    yield Claim("jobs.drivers", f"{name} driver", driver)
    yield Claim("jobs.users", f"{name} user", task.get("User") or "")
    modes = [*modes, *(str(n.get("Mode") or "") for n in _maps(_map(task.get("Resources")).get("Networks")))]
    for mode in modes or [""]:
        yield Claim("jobs.networks", f"{name} network", network_of(driver, config.get("network_mode"), mode))
    if driver in ("docker", "podman") or "image" in config:
        yield Claim("images", f"{name} image", str(config.get("image") or ""))
    if driver == "docker":
        yield Claim("privileges.runtimes", f"{name} runtime", str(config.get("runtime") or "runc"))
    yield from _config(config, name, own)
    for key in ("CSIPluginConfig", "Kind"):
        if task.get(key):
            yield Claim("privileges.options", name, key)
    yield from _connects(task, name)
    for mount in _maps(task.get("VolumeMounts")):
        if mount.get("PropagationMode") not in (None, "", "private"):  # what it mounts would be mounted on the node
            yield Claim("privileges.options", f"{name} volume_mount", "propagation_mode")
    for identity in (*_maps(task.get("Identity")), *_maps(task.get("Identities"))):
        if set(_list(identity.get("Audience"))) - {_OWN_AUDIENCE}:  # whoever it is for lets the task in by it
            yield Claim("privileges.options", f"{name} identity", "audience")
    yield from _files(task, name)
    yield from _vault(task, name)
    yield from _models(task, name)


def _config(config: dict[str, Json], name: str, own: str) -> Iterator[Claim]:
    for key, value in config.items():
        if value in (None, False, "", [], {}) or key in _HARMLESS or key in ("image", "runtime", "network_mode"):
            continue
        field = f"{name} {key}"
        if key == "privileged":
            yield Claim("privileges.privileged", field, str(value).lower())
        elif key == "cap_add":
            yield from (Claim("privileges.cap_add", field, str(v).upper().removeprefix("CAP_")) for v in _list(value))
        elif key == "devices":
            yield from (Claim("privileges.devices", field, _device(v)) for v in _list(value))
        elif key in _HOST_NAMESPACES:
            yield Claim("privileges.host_namespaces", field, key)
        elif key in ("mount", "mounts"):
            yield from (_mount(m, field, own) for m in _maps(value))
        elif key == "volumes":
            yield from (_volume(str(v), field, own) for v in _list(value))
        else:
            yield Claim("privileges.options", field, key)


def _device(device: Json) -> str:
    path = str(device.get("host_path") if isinstance(device, dict) else device)
    return path if path.startswith("/") and ".." not in path.split("/") and "${" not in path else f"({path})"


def _mount(mount: Any, field: str, own: str) -> Claim:
    kind, source = str(mount.get("type") or "volume"), str(mount.get("source") or "")
    if kind == "tmpfs":
        return Claim("inside", field, kind)
    if kind != "bind":  # docker's own volumes: their options can mount any directory of the node
        return Claim("privileges.options", field, f"mount {kind}")
    if mount.get("bind_options"):
        return Claim("privileges.options", field, "bind_options")
    if is_own(source, own):
        return Claim("inside", field, source)
    return bind(field, source, read_only=mount.get("readonly") is True)


def _volume(text: str, field: str, own: str) -> Claim:
    """`source:target[:options]`; a source that is no path is a volume of docker's own."""
    source, colon, rest = text.partition(":")
    if not colon:
        return Claim("privileges.options", field, "anonymous volume")
    options = rest.partition(":")[2].split(",")
    if not set(options) <= {"", "ro", "rw", "z", "Z"}:
        return Claim("privileges.options", field, f"volumes {','.join(options)}")
    if is_own(source, own):
        return Claim("inside", field, source)
    return bind(field, source, read_only="ro" in options)


def _files(task: Any, name: str) -> Iterator[Claim]:
    field = f"{name} template"
    pairs = [(str(k), str(v)) for k, v in _map(task.get("Env")).items()]
    for template in _maps(task.get("Templates")):
        yield destination(field, str(template.get("DestPath") or ""))
        source = str(template.get("SourcePath") or "")
        if source:
            yield bind(f"{field} source", source, read_only=True)
        text = str(template.get("EmbeddedTmpl") or "")
        left, right = str(template.get("LeftDelim") or "{{"), str(template.get("RightDelim") or "}}")
        yield from template_claims(text, left, right, field)
        yield from option_claims([text], field)
        if template.get("Envvars"):
            pairs += template_pairs(text, left, right)
            if source:
                yield Claim(NEVER, f"{field} source", "variables from a file that can't be read here")
    yield from environment_claims(pairs, f"{name} env")
    for artifact in _maps(task.get("Artifacts")):
        place = str(artifact.get("RelativeDest") or "")
        yield destination(f"{name} artifact", place)
        rule = "sources.code" if place.rstrip("/") in CODE_PLACES else "sources.artifacts"
        yield Claim(rule, f"{name} artifact", str(artifact.get("GetterSource") or ""))


def _vault(task: Any, name: str) -> Iterator[Claim]:
    vault = _map(task.get("Vault"))
    if vault:
        yield Claim("secrets.vault_roles", f"{name} vault", str(vault.get("Role") or "default"))
        for policy in _list(vault.get("Policies")):
            yield Claim("privileges.options", f"{name} vault", f"vault.policies {policy}")
        if vault.get("Namespace"):
            yield Claim("privileges.options", f"{name} vault", f"vault.namespace {vault['Namespace']}")
    for block in _maps(task.get("Secrets")):
        kind = block.get("Provider")
        if kind in ("nomad", "vault"):
            yield secret(f"secrets.{kind}", f"{name} secret", str(block.get("Path") or ""))
        else:
            yield Claim("privileges.options", f"{name} secret", f"secret provider {kind}")


def _models(task: Any, name: str) -> Iterator[Claim]:
    for device in _maps(_map(task.get("Resources")).get("Devices")):
        parts = str(device.get("Name")).split("/")
        models = {parts[2]} if len(parts) == 3 else set()
        for constraint in _maps(device.get("Constraints")):
            if constraint.get("LTarget") == "${device.model}":
                models = models or _named(constraint)
        yield from (Claim("limits.gpu_models", f"{name} device", model) for model in sorted(models) or [""])


def _named(constraint: Any) -> set[str]:
    """The models that a constraint leaves: one by `=`, several by a regexp of whole names alone."""
    value, operand = str(constraint.get("RTarget")), constraint.get("Operand")
    if operand in ("=", "==", "is"):
        return {value}
    listed = re.fullmatch(r"\^\((.*)\)\$", value)
    if operand != "regexp" or not listed:
        return set()
    names = [re.sub(r"\\(.)", r"\1", piece) for piece in listed[1].split("|")]
    exact = all(re.escape(n) == p for n, p in zip(names, listed[1].split("|"), strict=True))
    return set(names) if exact else set()


def _totals(groups: list[Any]) -> Iterator[Claim]:
    sums = dict.fromkeys(("gpus", "memory_mb", "cpu_mhz", "cores", "disk_mb"), 0.0)
    for group in groups:
        count = max(_amount(group, "Count", 1), _amount(_map(group.get("Scaling")), "Max", 0))
        sums["disk_mb"] += count * _amount(_map(group.get("EphemeralDisk")), "SizeMB", 300)
        phases = {phase: {"memory_mb": 0.0, "cpu_mhz": 0.0} for phase in (*_PHASES, "sidecar")}
        for task in _maps(group.get("Tasks")):
            need = _map(task.get("Resources"))
            # Devices and cores are a task's own as long as its allocation lives, also those of a task that is over.
            sums["gpus"] += count * sum(_amount(d, "Count", 1) for d in _maps(need.get("Devices")))
            sums["cores"] += count * (cores := _amount(need, "Cores", 0))
            cpu, phase = _amount(need, "CPU", 100), phases[_phase(task)]
            phase["cpu_mhz"] += 0 if cores else cpu
            phase["memory_mb"] += _memory(need)
        for name in ("memory_mb", "cpu_mhz"):
            at_once = max(phases[phase][name] for phase in _PHASES) + phases["sidecar"][name]
            sums[name] += count * at_once if count else 0
    yield from (_number(f"limits.{name}", f"job {name}", total) for name, total in sums.items())


_PHASES: Final = ("prestart", "main", "poststop")
"""Tasks of one of them are over before those of the next begin, so that Nomad reserves the largest of their sums."""


def _phase(task: dict[str, Any]) -> str:
    """When a task runs. What is no hook that Nomad knows runs with the main tasks, which is the dearer reading."""
    life = _map(task.get("Lifecycle"))
    if life.get("Sidecar"):
        return "sidecar"
    hook = life.get("Hook")
    return str(hook) if hook in ("prestart", "poststop") else "main"


def _memory(need: dict[str, Any]) -> float:
    beyond = _int(need.get("MemoryMaxMB"), 0)  # below zero: without an end
    memory = max(_amount(need, "MemoryMB", 300), beyond) + _amount(need, "SecretsMB", 0)
    return float("inf") if beyond < 0 else memory


def _amount(holder: dict[str, Any], key: str, default: int) -> int:
    """How much of something: less than nothing would make room for more elsewhere in the sum."""
    amount = _int(holder.get(key), default)
    if amount < 0:
        raise _OddError(f"{key} = {amount} is")
    return amount


def _number(rule: str, field: str, number: float) -> Claim:
    return Claim(rule, field, f"{number:.15g}", number)


def _int(value: Json, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise _OddError(f"the number {str(value)[:50]!r} is")
    return int(value)


def _list(value: Json) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _maps(value: Json) -> list[dict[str, Any]]:
    return [_map(item) for item in _list(value)]


def _map(value: Json) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _OddError(f"{str(value)[:50]!r} is")
    return value
