"""What a plan asks for, as claims that a policy judges one by one. It knows no policy, only the names of its rules.

A claim's rule is a policy's dotted path (`limits.gpus`), or `NEVER` for what no policy can allow.
"""

import posixpath
import re
from collections.abc import Iterator
from typing import Final

from caravan.planning.catalogue import matches_model
from caravan.planning.claim import NEVER, Claim
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.command import RUN, output_dir, sink_dir
from caravan.planning.environment_claims import (
    DEFAULT_INDEX,
    UNKNOWN,
    Pair,
    environment_claims,
    names_an_index,
    option_claims,
    pairs_in,
)
from caravan.planning.environments import PREPARING_MHZ, prepares
from caravan.planning.members import network_mode
from caravan.values.job import ClusterFacts
from caravan.values.packages import read_package
from caravan.values.plan import TrainingPlan

INSIDE: Final = ("${NOMAD_ALLOC_DIR}", "${NOMAD_TASK_DIR}", "${NOMAD_SECRETS_DIR}")
"""Directories of the allocation itself."""
CODE_PLACES: Final = ("local/code", "local/code.tar.gz")
"""Where a job downloads its code to; everything else that it downloads is an artifact."""


_SECRET: Final = re.compile(r"[A-Za-z0-9_~./-]{1,128}")


def plan_claims(plan: TrainingPlan, facts: ClusterFacts, own: str = "") -> Iterator[Claim]:
    """Everything a plan asks for that a rule may speak of. `own` is the run's own directory on this machine."""
    yield Claim("jobs.drivers", "driver", plan.driver)
    yield Claim("jobs.namespaces", "namespace", plan.namespace or "default")
    yield Claim("jobs.regions", "region", plan.region or facts.region)
    yield Claim("jobs.node_pools", "node_pool", plan.node_pool or "default")
    for center in plan.datacenters or ("*",):
        yield Claim("jobs.datacenters", "datacenters", center)
    yield Claim("jobs.users", "user", plan.user or "")
    yield Claim("jobs.networks", "network_mode", network_of(plan.driver, network_mode(plan)))
    if plan.driver == "docker":
        yield Claim("images", "image", plan.image or "")
        yield Claim("privileges.runtimes", "docker.runtime", plan.docker.runtime or "runc")
        if plan.docker.ulimits:
            yield Claim("privileges.options", "docker.ulimits", "ulimit")
        if plan.docker.auth is not None:
            yield Claim("privileges.options", "docker.auth", "auth")
    environment = _environment(plan)
    yield from environment_claims(environment, "env")
    yield from _mounts(plan)
    yield from _places(plan, facts, own)
    yield from _sources(plan)
    yield from _packages(plan, environment)
    yield from _amounts(plan, facts)


def _environment(plan: TrainingPlan) -> list[Pair]:
    """All variables of the task, those of templates and, without their values, those of secrets included."""
    told = [pair for template in plan.templates if template.env for pair in pairs_in(template.data)]
    return [*plan.env.items(), *told, *((name, UNKNOWN) for name in plan.secrets)]


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
        yield secret(f"secrets.{where.kind}", "secrets_from.path", where.path)
        if where.kind == "vault":
            yield Claim("secrets.vault_roles", "secrets_from.role", where.role or "default")
            yield from (
                Claim("privileges.options", "secrets_from.policies", f"vault.policies {p}") for p in where.policies
            )


def secret(rule: str, field: str, path: str) -> Claim:
    """A claim on a secret. A path that its store might read as another one is none that a policy can allow."""
    path = path.strip("/")
    plain = _SECRET.fullmatch(path) and not any(part in ("", ".", "..") for part in path.split("/"))
    return Claim(rule if plain else NEVER, field, path)


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
    # docker's task has files of its own, and so has exec's: its /etc and the like are copies. Any other driver's task
    # sees the node's.
    bare = plan.driver not in ("docker", "exec")
    out = sink_dir(plan.outputs)
    if (bare or facts.shared_files) and plan.outputs.kind == "path" and out.startswith("/") and not is_own(out, own):
        yield bind("outputs.location", out, read_only=False)
    code, data = plan.code, plan.data
    if code.kind == "archive" and "://" not in code.location and code.location and not is_own(code.location, own):
        yield bind("code.location", code.location, read_only=True)
    if code.kind == "mount" and facts.shared_files and not bare and code.location:
        yield bind("code.location", code.location, read_only=True)
    if data is not None and data.location.startswith("/") and data.kind in ("shared", "upload"):
        yield bind("data.location", data.location, read_only=True)
    if bare:
        yield from _on_the_node(plan, own)
    destinations = [("artifacts", a.destination) for a in plan.artifacts]
    for field, path in (*destinations, *(("templates", t.destination) for t in plan.templates)):
        yield destination(field, path)


def _on_the_node(plan: TrainingPlan, own: str) -> Iterator[Claim]:
    """Where a task works and writes that sees the node's own files: those of its own directory are nobody's matter."""
    workdir = plan.workdir or "."
    places = {"workdir": workdir, "training.output_dir": output_dir(plan).replace(RUN, "run")}
    if plan.code.kind in ("image", "mount") and plan.code.location:
        places["code.location"] = plan.code.location
    scheme, _, rest = plan.outputs.location.partition(":")
    if plan.outputs.kind == "url" and scheme.lower() in ("file", "local"):
        places["outputs.location"] = rest.removeprefix("//")
    for field, path in places.items():
        if is_own(path, own):
            continue
        if not path.startswith(("/", "${")):
            path = posixpath.normpath(posixpath.join(workdir if field == "training.output_dir" else ".", path))
        if path == ".." or path.startswith("../"):
            yield Claim("mounts.bind", field, path)  # out of the code, to where no rule could name it
        else:
            yield bind(field, path, read_only=False)


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
    if plan.data is not None and plan.data.kind == "upload" and "://" in plan.data.location:
        yield Claim("sources.artifacts", "data.location", plan.data.location)
    for artifact in plan.artifacts:
        yield Claim("sources.artifacts", "artifacts", artifact.source)
    if plan.outputs.kind == "url":
        yield Claim("sources.outputs", "outputs.location", plan.outputs.location)


def _packages(plan: TrainingPlan, environment: list[Pair]) -> Iterator[Claim]:
    setup = plan.setup
    yield from option_claims(setup.cmd, "setup.cmd")
    for line in setup.pip:
        try:
            package = read_package(line)
        except ValueError:
            yield Claim(NEVER, "setup.pip", line)
            continue
        if package.url is not None:
            yield Claim("sources.package_indexes", "setup.pip", re.sub(r"^(?:git|hg|svn|bzr)\+", "", package.url))
    installs = setup.pip or setup.requirements or plan.outputs.kind == "url"
    if installs and not names_an_index(environment):
        yield Claim("sources.package_indexes", "env.PIP_INDEX_URL", DEFAULT_INDEX)


def _amounts(plan: TrainingPlan, facts: ClusterFacts) -> Iterator[Claim]:
    need, limits, nodes = plan.resources, plan.limits, plan.launch.nodes  # a job is counted with all its members
    memory, amount = _memory(need.memory_mb, need.memory_max_mb)
    # A task that prepares the environment is over before the training begins, and has no cores of its own.
    cpu = (PREPARING_MHZ if prepares(plan) else 0) if need.cores else need.cpu_mhz
    numbers = {
        "limits.gpus": ("resources.gpus", need.gpus * nodes),
        "limits.memory_mb": (memory, amount * nodes),
        "limits.cpu_mhz": ("resources.cpu_mhz", cpu * nodes),
        "limits.cores": ("resources.cores", (need.cores or 0) * nodes),
        "limits.disk_mb": ("resources.disk_mb", need.disk_mb * nodes),
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
