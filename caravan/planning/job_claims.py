"""What a job asks for, read from the very JSON that would be registered, as claims that a policy judges.

It looks into every group and task, whoever wrote the job. It knows no plan: that a plan is allowed proves nothing here.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from caravan.planning.claims import NEVER, Claim, all_gpus, bind, destination, index_claims, is_own, network_of
from caravan.values.base import Json

# Options of drivers that reach nothing outside of the task. Every other one is judged, by its name at least.
_HARMLESS: Final = frozenset(
    {"command", "args", "entrypoint", "shm_size", "image_pull_timeout", "hostname", "ports", "work_dir", "labels"}
    | {"force_pull", "cap_drop", "readonly_rootfs", "tty", "interactive", "init"}
)
_HOST_NAMESPACES: Final = ("pid_mode", "ipc_mode", "uts_mode", "userns_mode", "cgroupns")
_WORDS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|[.$]?[A-Za-z_][\w.]*')
# Functions of templates that read nothing but what they are given. Those that read secrets are judged by their path.
_PLAIN: Final = frozenset(
    {"with", "end", "if", "else", "range", "index", "and", "or", "not", "eq", "ne", "len", "printf", "print"}
    | {"toJSON", "toUnescapedJSON", "trimSpace", "trim", "toLower", "toUpper", "join", "replaceAll", "base64Encode"}
    | {"true", "false", "nil"}
)
_READS: Final = {"nomadVar": "secrets.nomad", "nomadVarExists": "secrets.nomad", "secret": "secrets.vault"}
_NANO: Final = 1_000_000_000


def job_claims(job: Json, *, own: str = "", timed: bool = True) -> Iterator[Claim]:
    """Everything the job asks for. `own`: the run's own directory. `timed`: the cluster itself holds time limits."""
    if job.get("Type") not in ("batch", "service"):
        yield Claim(NEVER, "job type", str(job.get("Type")))  # system jobs run on every node
    places = [(job.get("Region"), job.get("Datacenters"), job.get("NodePool"))]
    for region in _list((job.get("Multiregion") or {}).get("Regions")):
        places += [(region.get("Name"), region.get("Datacenters"), region.get("NodePool"))]
    yield Claim("jobs.namespaces", "job namespace", job.get("Namespace") or "default")
    for where, centers, pool in places:
        yield Claim("jobs.regions", "job region", where or "global")
        yield Claim("jobs.node_pools", "job node_pool", pool or "default")
        yield from (Claim("jobs.datacenters", "job datacenters", str(c)) for c in centers or ["*"])
    yield _number("limits.priority", "job priority", job.get("Priority") or 50)
    groups = _list(job.get("TaskGroups"))
    for group in groups:
        yield from _group(group, own, timed=timed)
    yield from _totals(groups)


def _group(group: Any, own: str, *, timed: bool) -> Iterator[Claim]:
    name = f"group {group.get('Name')}"
    for volume in (group.get("Volumes") or {}).values():
        kind = volume.get("Type")
        if kind in ("host", "csi"):
            yield Claim(f"mounts.{kind}_volumes", f"{name} volume", str(volume.get("Source")))
        else:
            yield Claim("privileges.options", f"{name} volume type", str(kind))
        if volume.get("MountOptions"):
            yield Claim("privileges.options", f"{name} volume", "mount_options")
    for service in _list(group.get("Services")):
        if service.get("Connect"):
            yield Claim("privileges.options", f"{name} service", "connect")
    modes = [str(n.get("Mode") or "") for n in _list(group.get("Networks"))]
    limit = group.get("MaxRunDuration")
    if limit or timed:
        said = "no time limit" if not limit else f"{limit / _NANO:g}"
        yield Claim("limits.max_run_s", f"{name} max_run_duration", said, limit / _NANO if limit else None)
    for task in _list(group.get("Tasks")):
        yield from _task(task, f"task {task.get('Name')}", modes, own)


def _task(task: Any, name: str, modes: list[str], own: str) -> Iterator[Claim]:
    driver, config = str(task.get("Driver")), task.get("Config") or {}
    yield Claim("jobs.drivers", f"{name} driver", driver)
    yield Claim("jobs.users", f"{name} user", task.get("User") or "")
    modes = [*modes, *(str(n.get("Mode") or "") for n in _list((task.get("Resources") or {}).get("Networks")))]
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
            yield from (_mount(m, field, own) for m in _list(value))
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
    texts = []
    for template in _list(task.get("Templates")):
        yield destination(f"{name} template", str(template.get("DestPath") or ""))
        source = str(template.get("SourcePath") or "")
        if source:
            yield bind(f"{name} template source", source, read_only=True)
        text = str(template.get("EmbeddedTmpl") or "")
        texts.append(text)
        yield from _actions(text, str(template.get("LeftDelim") or "{{"), str(template.get("RightDelim") or "}}"), name)
    for artifact in _list(task.get("Artifacts")):
        place = str(artifact.get("RelativeDest") or "")
        yield destination(f"{name} artifact", place)
        rule = "sources.code" if place.rstrip("/") == "local/code" else "sources.artifacts"
        yield Claim(rule, f"{name} artifact", str(artifact.get("GetterSource") or ""))
    env = {str(k): str(v) for k, v in (task.get("Env") or {}).items()}
    yield from all_gpus(env, f"{name} env")
    yield from index_claims(env, texts, f"{name} template")


def _actions(text: str, left: str, right: str, name: str) -> Iterator[Claim]:
    """Claims of what a template does between its delimiters: which secrets it reads, which functions it calls."""
    for action in re.findall(f"{re.escape(left)}(.*?)(?:{re.escape(right)}|\\Z)", text, re.DOTALL):
        words = _WORDS.findall(re.sub(r"/\*.*?\*/", "", action, flags=re.DOTALL))
        for n, word in enumerate(words):
            if word[0] in '"`.$' or word in _PLAIN:
                continue
            if word not in _READS:
                yield Claim("privileges.options", f"{name} template", word)
                continue
            path = words[n + 1] if n + 1 < len(words) else ""
            literal = path[:1] in ('"', "`") and "\\" not in path
            yield Claim(_READS[word], f"{name} template", path[1:-1].strip("/") if literal else f"${{{path}}}")


def _vault(task: Any, name: str) -> Iterator[Claim]:
    vault = task.get("Vault")
    if vault:
        yield Claim("secrets.vault_roles", f"{name} vault", vault.get("Role") or "default")
        for policy in _list(vault.get("Policies")):
            yield Claim("privileges.options", f"{name} vault", f"vault.policies {policy}")
        if vault.get("Namespace"):
            yield Claim("privileges.options", f"{name} vault", f"vault.namespace {vault['Namespace']}")
    for secret in _list(task.get("Secrets")):
        kind = secret.get("Provider")
        if kind in ("nomad", "vault"):
            yield Claim(f"secrets.{kind}", f"{name} secret", str(secret.get("Path") or "").strip("/"))
        else:
            yield Claim("privileges.options", f"{name} secret", f"secret provider {kind}")


def _models(task: Any, name: str) -> Iterator[Claim]:
    for device in _list((task.get("Resources") or {}).get("Devices")):
        parts = str(device.get("Name")).split("/")
        models = {parts[2]} if len(parts) == 3 else set()
        for constraint in _list(device.get("Constraints")):
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
        count = max(_int(group.get("Count"), 1), _int((group.get("Scaling") or {}).get("Max"), 0))
        sums["disk_mb"] += count * _int((group.get("EphemeralDisk") or {}).get("SizeMB"), 300)
        for task in _list(group.get("Tasks")):
            need = task.get("Resources") or {}
            beyond = _int(need.get("MemoryMaxMB"), 0)
            sums["gpus"] += count * sum(_int(d.get("Count"), 1) for d in _list(need.get("Devices")))
            sums["memory_mb"] += float("inf") if beyond < 0 else count * max(_int(need.get("MemoryMB"), 300), beyond)
            sums["cpu_mhz"] += 0 if need.get("Cores") else count * _int(need.get("CPU"), 100)
            sums["cores"] += count * _int(need.get("Cores"), 0)
    yield from (_number(f"limits.{name}", f"job {name}", total) for name, total in sums.items())


def _number(rule: str, field: str, number: float) -> Claim:
    return Claim(rule, field, f"{number:.15g}", number)


def _int(value: Json, default: int) -> int:
    return default if value is None else int(value)


def _list(value: Json) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
