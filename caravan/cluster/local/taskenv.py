"""What a task is told: its environment, and the meaning of `${...}` in its configuration. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.cluster.local import nodes
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.words import JsonDict

_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_PLAIN = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_INHERITED = (
    "CURL_CA_BUNDLE",
    "DOCKER_HOST",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LANGUAGE",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_INHERITED_PREFIXES = ("LC_", "PIP_", "UV_")
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY")


def inheritable(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that tasks may have: where programs are and how the network is reached, no secrets."""
    return {
        name: value
        for name, value in environment.items()
        if (name in _INHERITED or name.startswith(_INHERITED_PREFIXES))
        and not any(word in name.upper() for word in _SECRET_WORDS)
    }


@dataclass(frozen=True)
class TaskPlace:
    """Where a task's files are: the allocation's shared directory and the task's own."""

    alloc_dir: Path
    task_dir: Path

    @property
    def local(self) -> Path:
        """The task's directory for what it needs."""
        return self.task_dir / "local"

    @property
    def secrets(self) -> Path:
        """The task's directory for what nobody else may read."""
        return self.task_dir / "secrets"


def task_environment(
    job: JsonDict, group: JsonDict, task: JsonDict, body: JsonDict, node: Node, place: TaskPlace
) -> dict[str, str]:
    """Nomad's variables for a task of an allocation (`body`), with the task's own `env`, resolved."""
    held = body["AllocatedResources"]["Tasks"][task["Name"]]
    index = re.search(r"\[(\d+)\]$", body["Name"])
    told = {
        "NOMAD_ALLOC_DIR": str(place.alloc_dir),
        "NOMAD_ALLOC_ID": body["ID"],
        "NOMAD_ALLOC_INDEX": index.group(1) if index else "0",
        "NOMAD_ALLOC_NAME": body["Name"],
        "NOMAD_CPU_CORES": ",".join(str(c) for c in held["Cpu"]["ReservedCores"] or []),
        "NOMAD_CPU_LIMIT": str(held["Cpu"]["CpuShares"]),
        "NOMAD_DC": node.datacenter,
        "NOMAD_GROUP_NAME": group["Name"],
        "NOMAD_JOB_ID": job["ID"],
        "NOMAD_JOB_NAME": job["Name"],
        "NOMAD_MEMORY_LIMIT": str(held["Memory"]["MemoryMB"]),
        "NOMAD_NAMESPACE": job["Namespace"],
        "NOMAD_PARENT_CGROUP": "nomad.slice",  # Nomad's default; it tells every task
        "NOMAD_REGION": job["Region"],
        "NOMAD_SECRETS_DIR": str(place.secrets),
        "NOMAD_SHORT_ALLOC_ID": body["ID"][:8],
        "NOMAD_TASK_DIR": str(place.local),
        "NOMAD_TASK_NAME": task["Name"],
    }
    told |= _meta(job, group, task) | _ports(body) | _devices(held)
    known = _known(told, node)
    for name, value in (task["Env"] or {}).items():
        told[name] = resolve(str(value), known)
    return told


def _meta(job: JsonDict, group: JsonDict, task: JsonDict) -> dict[str, str]:
    merged = {**(job["Meta"] or {}), **(group["Meta"] or {}), **(task["Meta"] or {})}
    told: dict[str, str] = {}
    for name, value in merged.items():
        safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
        told[f"NOMAD_META_{safe}"] = told[f"NOMAD_META_{safe.upper()}"] = str(value)
    return told


def _ports(body: JsonDict) -> dict[str, str]:
    told: dict[str, str] = {}
    for port in body["AllocatedResources"]["Shared"]["Ports"] or []:
        label = re.sub(r"[^A-Za-z0-9_]", "_", port["Label"])
        told |= {
            f"NOMAD_ADDR_{label}": f"{port['HostIP']}:{port['Value']}",
            f"NOMAD_HOST_PORT_{label}": str(port["Value"]),
            f"NOMAD_IP_{label}": port["HostIP"],
            f"NOMAD_PORT_{label}": str(port["Value"]),
        }
    return told


def _devices(held: JsonDict) -> dict[str, str]:
    """Which cards the task has, as NVIDIA's runtime and CUDA read it."""
    ids = [i for d in held["Devices"] or [] if d["Vendor"] == "nvidia" for i in d["DeviceIDs"]]
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(ids), "CUDA_VISIBLE_DEVICES": ",".join(ids)} if ids else {}


def _known(environment: Mapping[str, str], node: Node) -> dict[str, str]:
    known = dict(environment)
    known |= {f"env.{k}": v for k, v in environment.items()}
    known |= {f'env["{k}"]': v for k, v in environment.items()}
    known |= nodes.properties(node)
    known |= {f"attr.{k}": v for k, v in nodes.attributes(node).items()}
    known |= {f"meta.{k}": v for k, v in node.meta.items()}
    return known


def resolve(text: str, known: Mapping[str, str]) -> str:
    """A text with each `${...}` that is known replaced; what is not known stays, as in Nomad."""
    return _REFERENCE.sub(lambda found: known.get(found.group(1).strip(), found.group(0)), text)


def resolver(environment: Mapping[str, str], node: Node) -> Callable[[str], str]:
    """What gives the meaning of `${...}` in a text."""
    known = _known(environment, node)
    return lambda text: resolve(text, known)


def resolve_all(value: Any, environment: Mapping[str, str], node: Node) -> Any:
    """A driver's configuration with all its texts resolved."""
    known = _known(environment, node)
    # HCL's escape: what follows two dollars is no reference, and one of them goes.
    return _walked(value, lambda text: "${".join(resolve(part, known) for part in text.split("$${")))


def unknown_references(value: Any, environment: Mapping[str, str], node: Node) -> list[str]:
    """What is wrong with the `${...}` of a driver's configuration, in the words of HCL, which evaluates it. Anywhere
    else in a job a name that is not known stays as it is; here it is an error."""
    known = _known(environment, node)
    found: list[str] = []

    def look(text: str) -> str:
        for reference in _REFERENCE.finditer(text.replace("$${", "")):
            name = reference.group(1).strip()
            if name not in known and (said := _wrong(name, known)):
                found.append(said)
        return text

    _walked(value, look)
    return found


def _wrong(name: str, known: Mapping[str, str]) -> str:
    """Why a reference has no value; empty for what is no plain reference."""
    if re.fullmatch(r'env\["[^"]*"\]', name):
        return "Invalid index: The given key does not identify an element in this collection value."
    if not _PLAIN.fullmatch(name):
        return ""
    parts = name.split(".")
    roots = {key.partition(".")[0] for key in known if "[" not in key}
    if parts[0] not in roots:
        like = next((root for root in sorted(roots) if _alike(parts[0], root)), "")
        return f'Unknown variable: There is no variable named "{parts[0]}".' + (
            f' Did you mean "{like}"?' if like else ""
        )
    for depth in range(2, len(parts) + 1):
        path = ".".join(parts[:depth])
        if not any(key == path or key.startswith(path + ".") for key in known):
            return f'Unsupported attribute: This object does not have an attribute named "{parts[depth - 1]}".'
    return ""


def _alike(one: str, other: str) -> bool:
    """Whether fewer than three changes of a character make one name the other."""
    row = list(range(len(other) + 1))
    for i, char in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (char != wanted))
    return row[-1] < 3


def _walked(part: Any, change: Callable[[str], str]) -> Any:
    if isinstance(part, str):
        return change(part)
    if isinstance(part, list):
        return [_walked(p, change) for p in part]
    if isinstance(part, dict):
        return {k: _walked(v, change) for k, v in part.items()}
    return part
