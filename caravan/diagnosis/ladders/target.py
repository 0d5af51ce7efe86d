"""Against a job that the cluster refuses, can't place or can't start: its target, driver, volumes, ports and names.

What is chosen instead is what the cluster's nodes are known to have.
"""

import difflib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.placement import elsewhere
from caravan.values.base import Json
from caravan.values.failure import Repair, Requery, Wait
from caravan.values.job import NodeFacts

_LIKE: Final = 0.6  # of a volume's or a pool's name that is meant
_AWAY_S: Final = (60, 600)
_DRIVERS: Final = ("docker", "podman", "exec", "raw_exec")
"""Task drivers that can start a training, those that keep it apart from the node first."""
_REFUSED: Final[dict[str, str]] = {
    "affinity": "affinities",
    "hostname": "container_name",
    "image_pull_timeout": "image_pull_timeout_s",
    "kill_timeout": "kill_timeout_s",
    "max_run_duration": "limits.max_run_s",
    "memory_max": "resources.memory_max_mb",
    "network_mode": "network_mode",
    "port": "ports",
    "priority": "priority",
    "progress_deadline": "progress_deadline_s",
    "region": "region",
    "runtime": "docker.runtime",
    "shm_size": "shm_mb",
    "spread": "spreads",
    "static": "ports",
    "ulimit": "docker.ulimits",
    "work_dir": "docker.work_dir",
}
"""Nomad's name of what it refuses → the plan field that it is made of. The job runs without each of them."""


def refused(case: Case) -> Iterator[Repair]:
    """Without what Nomad refuses, where the message names it and the job can do without."""
    name = case.detail("field").strip("\"'").rpartition(".")[2].lower()
    path = _REFUSED.get(name) or next((p for n, p in _REFUSED.items() if name and n in name.split("_")), None)
    if path and case.plan.get(path) not in (None, [], {}):
        yield from case.change({path: None}, f"without {path}, which Nomad refuses")


def asked_wrongly(_: Case) -> Iterator[Repair]:
    """The cluster is asked again: an id or the moment was wrong, not the job."""
    yield Requery(why="the cluster does not know what was asked for; it is asked again")


def no_such_target(case: Case) -> Iterator[Repair]:
    """The region, namespace, node pool or datacenters that exist and whose nodes could take the job."""
    kind, plan = case.detail("kind"), case.plan
    if plan.region and kind in ("", "region"):
        yield from case.change({"region": None}, f"the server's own region instead of {plan.region}")
    if plan.namespace and kind in ("", "namespace"):
        yield from case.change({"namespace": None}, f"the namespace default instead of {plan.namespace}")
    if kind in ("", "datacenter") and plan.datacenters != ("*",):
        yield from _placed(case, {"datacenters": ["*"]}, "any datacenter, because none is there by that name")
    if kind in ("", "node_pool", "datacenter"):
        pools = dict.fromkeys(n.node_pool for n in case.facts.usable_nodes())
        nearest = sorted(pools, key=lambda name: -_likeness(name, plan.node_pool or "default"))
        for pool in nearest:
            if pool != (plan.node_pool or "default"):
                why = f"the node pool {pool}, whose nodes could take the job"
                yield from _placed(case, {"node_pool": pool, "datacenters": ["*"]}, why)


def constraint(case: Case) -> Iterator[Repair]:
    """Without the constraint that excludes every node, the named one alone first."""
    named = case.detail("attribute").strip("${}")
    kept = [c for c in case.plan.constraints if not named or named not in c.attribute.strip("${}")]
    if len(kept) < len(case.plan.constraints):
        left = [c.model_dump(mode="json") for c in kept]
        yield from case.change({"constraints": left or None}, f"without the constraint on {named or 'nodes'}")
    if case.plan.resources.gpu_driver and "driver" in named:
        yield from case.change({"resources.gpu_driver": None}, "any GPU driver, because no node has the one asked for")


def task_driver(case: Case) -> Iterator[Repair]:
    """Another task driver that the nodes report healthy, those that keep the job apart from the node first."""
    plan = case.plan
    for name in _DRIVERS:
        if name == plan.driver:
            continue
        values: dict[str, Json] = {"driver": name}
        if name == "docker" and not plan.image:
            image = case.outlook.image or next((i.image for i in case.outlook.images(plan)), None)
            if image is None:
                continue
            values["image"] = image
        if name == "raw_exec" and any(m.kind != "bind" for m in plan.mounts):
            continue  # it can't mount them
        yield from _placed(case, values, f"the driver {name}, which nodes have, instead of {plan.driver}")


def volume(case: Case) -> Iterator[Repair]:
    """A volume of nearly that name that the nodes have, at the same place; a cache is done without."""
    missing = case.detail("volume")
    for mount in case.plan.mounts:
        if mount.kind == "bind" or (missing and mount.source != missing):
            continue
        offered = [("host", n) for node in case.facts.usable_nodes() for n in node.host_volumes]
        offered += [("csi", name) for name in case.facts.csi_volumes or ()]
        near = sorted(dict.fromkeys(offered), key=lambda o: -_likeness(o[1], mount.source))
        for kind, name in near[:3]:
            if (kind, name) != (mount.kind, mount.source) and _likeness(name, mount.source) >= _LIKE:
                other = mount.model_copy(update={"kind": kind, "source": name})
                yield from _placed(case, _mounts(case, mount, other), f"the volume {name} instead of {mount.source}")
        yield from _without_cache(case, mount)


def bind_mount(case: Case) -> Iterator[Repair]:
    """A host volume of the nodes that holds the path; a cache is done without."""
    if case.detail("kind") == "privilege" and case.plan.docker.runtime:
        yield from case.change({"docker.runtime": None}, "without a container runtime of its own")
    for mount in case.plan.mounts:
        if mount.kind != "bind" or (case.detail("path") and case.detail("path") not in (mount.source, "")):
            continue
        for node in case.outlook.takers(case.plan):
            for name, there in sorted(node.host_volumes.items()):
                if there.path and posixpath.normpath(there.path) == posixpath.normpath(mount.source):
                    other = mount.model_copy(update={"kind": "host", "source": name})
                    yield from case.change(_mounts(case, mount, other), f"the nodes' volume {name} is {mount.source}")
        yield from _without_cache(case, mount)


def _mounts(case: Case, old: Any, new: Any) -> dict[str, Json]:
    kept = [m if m != old else new for m in case.plan.mounts]
    return {"mounts": [m.model_dump(mode="json") for m in kept if m is not None]}


def _without_cache(case: Case, mount: Any) -> Iterable[Repair]:
    """Only what is there for speed may be missing: data and outputs are what the training is for."""
    if "cache" not in f"{mount.source} {mount.destination}".lower():
        return ()
    values: dict[str, Json] = _mounts(case, mount, None)
    inside = mount.destination.rstrip("/")
    values |= {f"env.{n}": None for n, v in case.plan.env.items() if v == inside or v.startswith(f"{inside}/")}
    return case.change(values, f"without the cache {mount.source}: what it held is downloaded again")


def unhealthy(case: Case) -> Iterator[Repair]:
    """As a batch job, which needs no health, or with a longer deadline."""
    if case.plan.job_type == "service":
        yield from case.change({"job_type": "batch"}, "a batch job, which only has to end")
        longer = 4 * (case.plan.progress_deadline_s or 600)
        yield from case.change({"progress_deadline_s": longer}, f"{longer} s to become healthy")
    yield from elsewhere(case)


def port_taken(case: Case) -> Iterator[Repair]:
    """Dynamic ports instead of those that are taken; then another node."""
    taken, plan = case.detail("port"), case.plan
    free = [p.model_copy(update={"static": None}) if taken in ("", str(p.static)) else p for p in plan.ports]
    values: dict[str, Json] = {}
    if list(plan.ports) != free:
        values["ports"] = [p.model_dump(mode="json") for p in free]
    if plan.launch.master_port is not None and taken in ("", str(plan.launch.master_port)):
        values["launch.master_port"] = None
    yield from case.change(values, "a port that the cluster chooses, because the one that was asked for is taken")
    yield from elsewhere(case)


def name_taken(case: Case) -> Iterator[Repair]:
    """Without a name of its own for the container; then another node."""
    if case.plan.container_name:
        yield from case.change({"container_name": None}, "without a fixed name for the container, which is taken")
    yield from elsewhere(case)


def artifact(case: Case) -> Iterator[Repair]:
    """Again after a while where the network failed; as a plain file where it could not be unpacked; another node."""
    kind, plan = case.detail("kind"), case.plan
    if kind == "unpack":
        plain = [a.model_copy(update={"mode": "file"}) if _named(case, a.source) else a for a in plan.artifacts]
        if list(plan.artifacts) != plain:
            values = {"artifacts": [a.model_dump(mode="json") for a in plain]}
            yield from case.change(values, "the artifact as it is, not unpacked")
    if kind in ("", "network", "host", "checksum"):
        first, longer = (Wait(seconds=seconds, why="an artifact did not come") for seconds in _AWAY_S)
        yield first
        yield from elsewhere(case)
        yield longer


def _named(case: Case, source: str) -> bool:
    url = case.detail("url")
    return not url or url.split("?")[0] in source or source in url


def other_architecture(case: Case) -> Iterator[Repair]:
    """Nodes of the image's own architecture; else an image of the settings."""
    wanted = case.detail("image_arch").rpartition("/")[2] or _other_than(case)
    takers = case.outlook.takers(case.plan)
    known = [n for n in takers if n.attributes.get("cpu.arch")]
    right = [n.name for n in known if n.attributes["cpu.arch"] == wanted]
    wrong = [n.name for n in known if n.attributes["cpu.arch"] != wanted]
    if wanted and right and wrong:
        out = [*case.plan.exclude_nodes, *wrong]
        yield from case.change({"exclude_nodes": out}, f"only nodes of the image's architecture, {wanted}")
    elif wanted and len(known) < len(takers):
        of_image = {"attribute": "${attr.cpu.arch}", "operator": "=", "value": wanted}
        kept = [c.model_dump(mode="json") for c in case.plan.constraints]
        yield from case.change({"constraints": [*kept, of_image]}, f"only nodes of the image's architecture, {wanted}")
    for image in case.outlook.images(case.plan):
        if image.image != case.plan.image:
            yield from case.change({"image": image.image}, f"{image.image}, which has builds for several architectures")
            return


def _other_than(case: Case) -> str:
    """The image's architecture where only the node's is known: of two that are in use, the other one."""
    node = next((n for n in case.facts.nodes if n.name == case.diagnosis.node_name), None)
    here = case.detail("node_arch").rpartition("/")[2] or (node.attributes.get("cpu.arch", "") if node else "")
    return {"amd64": "arm64", "arm64": "amd64"}.get(here, "")


def _placed(case: Case, values: Mapping[str, Json], why: str) -> Iterable[Repair]:
    """The change, where nodes that are known could take the plan then."""
    plan = case.tried(values)
    if plan is None or (case.facts.nodes and not _takers(case, plan)):
        return ()
    return case.change(values, why)


def _takers(case: Case, plan: Any) -> tuple[NodeFacts, ...]:
    return tuple(case.outlook.takers(plan))


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.casefold(), b.casefold()).ratio()
