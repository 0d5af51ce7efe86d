"""What a plan asks for, as claims that a policy judges one by one. It knows no policy, only the names of its rules.

A claim's rule is a policy's dotted path (`limits.gpus`), or `NEVER` for what no policy can allow.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from caravan.planning.catalogue import matches_model
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.command import sink_dir
from caravan.values.job import ClusterFacts
from caravan.values.plan import TrainingPlan

NEVER: Final = "never"
DEFAULT_INDEX: Final = "https://pypi.org/simple"
"""Where pip and uv look when nobody tells them."""
INDEX_VARIABLES: Final = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"),
)
_INDEX_OPTION: Final = re.compile(
    r"(?:--index-url|--extra-index-url|--find-links|--default-index)(?:\s+|=)['\"]?([^\s'\"]+)"
)
_FROM_URL: Final = re.compile(r"\s@\s+(\S+://\S+)|^((?:git\+)?\w+://\S+)")
INSIDE: Final = ("${NOMAD_ALLOC_DIR}", "${NOMAD_TASK_DIR}", "${NOMAD_SECRETS_DIR}")
"""Directories of the allocation itself."""


class Claim(NamedTuple):
    """Something that is asked for: the rule that speaks of it, the field that asks, and what it asks for."""

    rule: str
    field: str
    value: str
    number: float | None = None


def plan_claims(plan: TrainingPlan, facts: ClusterFacts, own: str = "") -> Iterator[Claim]:
    """Everything a plan asks for that a rule may speak of. `own` is the run's own directory on this machine."""
    yield Claim("jobs.drivers", "driver", plan.driver)
    yield Claim("jobs.namespaces", "namespace", plan.namespace or "default")
    yield Claim("jobs.regions", "region", plan.region or facts.region)
    yield Claim("jobs.node_pools", "node_pool", plan.node_pool or "default")
    for center in plan.datacenters or ("*",):
        yield Claim("jobs.datacenters", "datacenters", center)
    yield Claim("jobs.users", "user", plan.user or "")
    yield Claim("jobs.networks", "network_mode", network_of(plan.driver, plan.network_mode))
    if plan.driver == "docker":
        yield Claim("images", "image", plan.image or "")
        yield Claim("privileges.runtimes", "docker.runtime", plan.docker.runtime or "runc")
    yield from all_gpus(plan.env, "env.NVIDIA_VISIBLE_DEVICES")
    yield from _mounts(plan)
    yield from _places(plan, facts, own)
    yield from _sources(plan)
    yield from _packages(plan)
    yield from _amounts(plan, facts)


def all_gpus(env: Mapping[str, str], field: str) -> Iterator[Claim]:
    """A claim on GPUs beside those that Nomad hands out: the container runtime gives what this variable names."""
    if env.get("NVIDIA_VISIBLE_DEVICES", "") not in ("", "void", "none"):
        yield Claim("privileges.options", field, "NVIDIA_VISIBLE_DEVICES")


def network_of(driver: str, mode: str | None, group_mode: str = "") -> str:
    """The network that a task has: docker's own bridge where nothing is said, the node's for drivers without one."""
    if driver in ("docker", "podman"):
        return mode or (group_mode if group_mode not in ("", "host") else "bridge")
    return group_mode or "host"


def _mounts(plan: TrainingPlan) -> Iterator[Claim]:
    for mount in plan.mounts:
        if mount.kind == "bind":
            yield bind("mounts", mount.source, read_only=mount.read_only)
        else:
            yield Claim(f"mounts.{mount.kind}_volumes", "mounts", mount.source)
    if plan.secrets:
        where = plan.secrets_from
        yield Claim(f"secrets.{where.kind}", "secrets_from.path", where.path.strip("/"))
        if where.kind == "vault":
            yield Claim("secrets.vault_roles", "secrets_from.role", where.role or "default")
            yield from (
                Claim("privileges.options", "secrets_from.policies", f"vault.policies {p}") for p in where.policies
            )


def bind(field: str, source: str, *, read_only: bool) -> Claim:
    """A claim on a directory of the node; one inside the allocation is none that a policy could mind."""
    path = source.strip()
    begin = next((place for place in INSIDE if path == place or path.startswith(f"{place}/")), None)
    climbs = ".." in path.split("/")
    if begin or not path.startswith("/"):
        if climbs or "${" in path.removeprefix(begin or "") or not path:
            return Claim(NEVER, field, source or "(nothing)")
        return Claim("inside", field, path)
    if climbs or "${" in path or "\0" in path:  # what `..` behind a link means, only the node knows
        return Claim(NEVER, field, source)
    rule = "mounts.bind_read_only" if read_only else "mounts.bind"
    return Claim(rule, field, posixpath.normpath("/" + path.lstrip("/")))


def _places(plan: TrainingPlan, facts: ClusterFacts, own: str) -> Iterator[Claim]:
    """Paths of the node that the code is read from or the results are written to."""
    out = sink_dir(plan.outputs)
    seen = facts.shared_files or plan.driver not in ("docker", "exec")
    if seen and plan.outputs.kind == "path" and out.startswith("/") and not is_own(out, own):
        yield bind("outputs.location", out, read_only=False)
    code = plan.code
    if code.kind == "archive" and "://" not in code.location and code.location and not is_own(code.location, own):
        yield bind("code.location", code.location, read_only=True)
    destinations = [("artifacts", a.destination) for a in plan.artifacts]
    for field, path in (*destinations, *(("templates", t.destination) for t in plan.templates)):
        yield destination(field, path)


def destination(field: str, path: str) -> Claim:
    """A claim on the place in the task's directory where a file is put."""
    begin = next((place for place in INSIDE if path == place or path.startswith(f"{place}/")), "")
    rest = path.removeprefix(begin)
    leaves = ".." in rest.split("/") or "${" in rest or (not begin and rest.startswith("/"))
    return Claim(NEVER if leaves else "inside", field, path)


def is_own(path: str, own: str) -> bool:
    """Whether the path is in the run's own directory, without climbing."""
    return bool(own) and ".." not in path.split("/") and posixpath.normpath(path).startswith(f"{own.rstrip('/')}/")


def _sources(plan: TrainingPlan) -> Iterator[Claim]:
    code = plan.code
    if code.kind == "git" or (code.kind == "archive" and "://" in code.location):
        yield Claim("sources.code", "code.location", code.location)
    for artifact in plan.artifacts:
        yield Claim("sources.artifacts", "artifacts", artifact.source)
    if plan.outputs.kind == "url":
        yield Claim("sources.outputs", "outputs.location", plan.outputs.location)


def _packages(plan: TrainingPlan) -> Iterator[Claim]:
    setup = plan.setup
    told = list(index_claims(plan.env, (*setup.pip, *setup.cmd)))
    told += [
        Claim("sources.package_indexes", "setup.pip", (m[1] or m[2]).removeprefix("git+"))
        for line in setup.pip
        if (m := _FROM_URL.search(line))
    ]
    yield from told
    names = ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
    installs = setup.pip or setup.requirements or plan.outputs.kind == "url"
    if installs and not any(plan.env.get(name) for name in names):
        yield Claim("sources.package_indexes", "env.PIP_INDEX_URL", DEFAULT_INDEX)


def index_claims(env: Mapping[str, str], texts: Iterable[str], field: str = "setup") -> Iterator[Claim]:
    """Claims on package indexes that variables or options in texts name."""
    for name in INDEX_VARIABLES:
        for url in env.get(name, "").split():
            yield Claim("sources.package_indexes", f"env.{name}", url.rpartition("=")[2] if name == "UV_INDEX" else url)
    for text in texts:
        for url in _INDEX_OPTION.findall(text):
            yield Claim("sources.package_indexes", field, url)


def _amounts(plan: TrainingPlan, facts: ClusterFacts) -> Iterator[Claim]:
    need, limits = plan.resources, plan.limits
    numbers = {
        "limits.gpus": ("resources.gpus", need.gpus),
        "limits.memory_mb": _memory(need.memory_mb, need.memory_max_mb),
        "limits.cpu_mhz": ("resources.cpu_mhz", 0 if need.cores else need.cpu_mhz),
        "limits.cores": ("resources.cores", need.cores or 0),
        "limits.disk_mb": ("resources.disk_mb", need.disk_mb),
        "limits.priority": ("priority", plan.priority),
        "limits.attempts": ("limits.attempts", limits.attempts),
    }
    for rule, (field, number) in numbers.items():
        yield Claim(rule, field, str(number), number)
    run = limits.max_run_s
    yield Claim("limits.max_run_s", "limits.max_run_s", "no time limit" if run is None else str(run), run)
    if need.gpus:
        meant = {g.model for n in facts.nodes for g in gpu_groups(n) if matches_model(need.gpu_model or "", g.model)}
        models = sorted(meant) if need.gpu_model and need.gpu_model not in meant and meant else [need.gpu_model or ""]
        yield from (Claim("limits.gpu_models", "resources.gpu_model", model) for model in models)


def _memory(least: int, most: int | None) -> tuple[str, int]:
    if most is not None and most > least:
        return "resources.memory_max_mb", most
    return "resources.memory_mb", least
