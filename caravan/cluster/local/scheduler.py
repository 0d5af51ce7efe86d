"""Where an allocation fits: feasibility, resources left, ranking, and the reasons in Nomad's words and counts. Pure.

Filtering and bin packing follow Nomad's description of its scheduler
(https://developer.hashicorp.com/nomad/docs/concepts/scheduling/how-scheduling-works): constraints filter, resources
exhaust; nodes of a computed class that has been filtered once count as `computed class ineligible`.
"""

import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from caravan.cluster.local import constraints, nodes
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.resources import Usage, exhausted_sum, fit, has_devices, usage_of
from caravan.cluster.local.words import JsonDict

_CLASS = "computed class ineligible"
_SCORES_KEPT = 5


@dataclass
class Metrics:
    """Why nodes were not taken, as Nomad's AllocMetric."""

    pool: str
    in_pool: int = 0
    available: Counter[str] = field(default_factory=Counter)
    evaluated: int = 0
    filtered: int = 0
    exhausted: int = 0
    constraint_filtered: Counter[str] = field(default_factory=Counter)
    class_filtered: Counter[str] = field(default_factory=Counter)
    dimension_exhausted: Counter[str] = field(default_factory=Counter)
    class_exhausted: Counter[str] = field(default_factory=Counter)
    resources_exhausted: JsonDict = field(default_factory=dict)
    eligibility: dict[str, bool] = field(default_factory=dict)
    scores: list[JsonDict] = field(default_factory=list)
    coalesced: int = 0

    def filter(self, node: Node, why: str) -> None:
        """Count a node that is not feasible."""
        self.filtered += 1
        self.constraint_filtered[why] += 1
        if node.node_class:
            self.class_filtered[node.node_class] += 1

    def exhaust(self, node: Node, dimension: str) -> None:
        """Count a node that has no room."""
        self.exhausted += 1
        self.dimension_exhausted[dimension] += 1
        if node.node_class:
            self.class_exhausted[node.node_class] += 1

    def shown(self) -> JsonDict:
        """The metric as the API shows it."""
        return {
            "AllocationTime": 0,
            "ClassExhausted": dict(self.class_exhausted) or None,
            "ClassFiltered": dict(self.class_filtered) or None,
            "CoalescedFailures": self.coalesced,
            "ConstraintFiltered": dict(self.constraint_filtered) or None,
            "DimensionExhausted": dict(self.dimension_exhausted) or None,
            "NodePool": self.pool,
            "NodesAvailable": dict(self.available),
            "NodesEvaluated": self.evaluated,
            "NodesExhausted": self.exhausted,
            "NodesFiltered": self.filtered,
            "NodesInPool": self.in_pool,
            "QuotaExhausted": None,
            "ResourcesExhausted": self.resources_exhausted or None,
            "ScoreMetaData": self.scores or None,
            "Scores": None,
        }


@dataclass(frozen=True)
class Placement:
    """A node for an allocation, and what it gets there (`resources.fit`), with the metric that explains it."""

    node: Node
    resources: JsonDict
    metrics: Metrics


def place(job: JsonDict, group: JsonDict, machines: Sequence[Node], allocs: Iterable[JsonDict]) -> Placement | Metrics:
    """The best node for one allocation of a group, or the metric that says why there is none.

    `allocs` are those that hold resources, in Nomad's shape, those that this evaluation has placed included.
    """
    held = list(allocs)
    metrics = Metrics(pool=job["NodePool"])
    best: tuple[float, Node, JsonDict] | None = None
    for node in _candidates(job, machines, metrics):
        metrics.evaluated += 1
        if not _feasible(job, group, node, held, metrics, machines):
            continue
        usage = usage_of(a for a in held if a["NodeID"] == node.id)
        got = fit(node, group, usage)
        if isinstance(got, str):
            metrics.exhaust(node, got)
            continue
        score = _score(job, group, node, usage, got, held, metrics)
        if best is None or score > best[0]:
            best = (score, node, got)
    if best is None:
        if metrics.exhausted:
            metrics.resources_exhausted = exhausted_sum(group, metrics.dimension_exhausted)
        return metrics
    metrics.scores = sorted(metrics.scores, key=lambda s: -float(s["NormScore"]))[:_SCORES_KEPT]
    return Placement(best[1], best[2], metrics)


def _candidates(job: JsonDict, machines: Sequence[Node], metrics: Metrics) -> list[Node]:
    pooled = [n for n in machines if job["NodePool"] in ("all", n.node_pool)]
    taken = [n for n in pooled if any(fnmatch.fnmatchcase(n.datacenter, dc) for dc in job["Datacenters"])]
    metrics.available.update(n.datacenter for n in taken)
    metrics.in_pool = len(taken)
    return taken


def known_of(node: Node) -> dict[str, str]:
    """What `${...}` in constraints means on a node."""
    known = nodes.properties(node)
    known.update({f"attr.{k}": v for k, v in nodes.attributes(node).items()})
    known.update({f"meta.{k}": v for k, v in node.meta.items()})
    return known


def _feasible(
    job: JsonDict, group: JsonDict, node: Node, held: list[JsonDict], metrics: Metrics, machines: Sequence[Node]
) -> bool:
    klass = nodes.computed_class(node)
    rules = _rules(job, group)
    escaped = any("unique." in str(rule.get(side) or "") for rule in rules for side in ("LTarget", "RTarget"))
    if metrics.eligibility.get(klass) is False and not escaped:
        metrics.filter(node, _CLASS)
        return False
    why = _class_reason(job, group, node)
    if not escaped:
        metrics.eligibility[klass] = why is None
    why = (
        why
        or _volume_reason(group, node)
        or _distinct_reason(job, group, node, rules, held)
        or _property_reason(job, group, node, held, machines)
    )
    if why:
        metrics.filter(node, why)
    return why is None


def _rules(job: JsonDict, group: JsonDict) -> list[JsonDict]:
    return [*(job["Constraints"] or []), *_group_rules(group)]


def _group_rules(group: JsonDict) -> list[JsonDict]:
    rules = list(group["Constraints"] or [])
    for task in group["Tasks"]:
        rules += task["Constraints"] or []
    return rules


def _class_reason(job: JsonDict, group: JsonDict, node: Node) -> str | None:
    """What is wrong with all nodes of this class, in the order in which Nomad looks."""
    known = known_of(node)

    def unmet(rules: list[JsonDict]) -> str | None:
        plain = (r for r in rules if not (r.get("Operand") or "=").startswith("distinct_"))
        return next((constraints.describe(r) for r in plain if not constraints.holds(r, known)), None)

    missing = any(task["Driver"] not in node.drivers for task in group["Tasks"])
    return (
        unmet(job["Constraints"] or [])
        or ("missing drivers" if missing else None)
        or unmet(_group_rules(group))
        or (None if has_devices(node, group) else "missing devices")
        or _network_reason(group)
    )


def _volume_reason(group: JsonDict, node: Node) -> str | None:
    asked = (group["Volumes"] or {}).values()
    for volume in asked:
        if volume.get("Type") == "csi":
            continue
        offered = node.host_volumes.get(volume.get("Source") or "")
        if offered is None or (offered.read_only and not volume.get("ReadOnly")):
            return "missing compatible host volumes"
    missing = [str(v.get("Source") or "") for v in asked if v.get("Type") == "csi"]
    return f"missing CSI volume(s) {', '.join(missing)}" if missing else None


def _network_reason(group: JsonDict) -> str | None:
    for network in (group["Networks"] or [])[:1]:
        mode = network.get("Mode") or "host"
        if mode == "none":
            return None
        if mode != "host":
            return "missing network"
        for port in [*(network.get("ReservedPorts") or []), *(network.get("DynamicPorts") or [])]:
            name = port.get("HostNetwork") or "default"
            if name != "default":
                return f'missing host network "{name}" for port "{port["Label"]}"'
    return None


def _property_reason(
    job: JsonDict, group: JsonDict, node: Node, held: list[JsonDict], machines: Sequence[Node]
) -> str | None:
    """`distinct_property`: only so many allocations of the job (or group) where a property has one value."""
    listed = [(r, False) for r in job["Constraints"] or []] + [(r, True) for r in group["Constraints"] or []]
    for rule, of_group in listed:
        if rule.get("Operand") != "distinct_property":
            continue
        target = rule.get("LTarget") or ""
        value = constraints.resolve(target, known_of(node))
        if value is None:
            return f'missing property "{target}"'
        alike = {n.id for n in machines if constraints.resolve(target, known_of(n)) == value}
        own = [a for a in held if a["JobID"] == job["ID"] and (not of_group or a["TaskGroup"] == group["Name"])]
        used = sum(a["NodeID"] in alike for a in own)
        if used >= int(rule.get("RTarget") or 1):
            return f"distinct_property: {target}={value} used by {used} allocs"
    return None


def _distinct_reason(
    job: JsonDict, group: JsonDict, node: Node, rules: list[JsonDict], held: list[JsonDict]
) -> str | None:
    """`distinct_hosts`: no other allocation of the job (of the group, when the group says so) on the node."""
    job_wide = any((r.get("Operand") == "distinct_hosts") for r in job["Constraints"] or [])
    if not any(r.get("Operand") == "distinct_hosts" for r in rules):
        return None
    for alloc in held:
        same = alloc["JobID"] == job["ID"] and (job_wide or alloc["TaskGroup"] == group["Name"])
        if same and alloc["NodeID"] == node.id:
            return "distinct_hosts"
    return None


def _score(
    job: JsonDict, group: JsonDict, node: Node, usage: Usage, got: JsonDict, held: list[JsonDict], metrics: Metrics
) -> float:
    """Bin packing (the fuller node is better), apart from the job's other allocations, affinities. Recorded."""
    cpu = 1 - (usage.cpu + got["cpu"]) / node.cpu_mhz
    memory = 1 - (usage.memory + got["memory"]) / node.memory_mb
    scores: dict[str, float] = {"binpack": (20.0 - (10.0**cpu + 10.0**memory)) / 18.0}
    clashes = sum(a["NodeID"] == node.id and a["JobID"] == job["ID"] and a["TaskGroup"] == group["Name"] for a in held)
    scores["job-anti-affinity"] = -(clashes + 1) / max(1, group["Count"]) if clashes else 0.0
    scores["node-affinity"] = _affinity(job, group, node)
    counted = [v for k, v in scores.items() if v or k == "binpack"]
    norm = sum(counted) / len(counted)
    metrics.scores.append({"NodeID": node.id, "NormScore": norm, "Scores": {**scores, "node-reschedule-penalty": 0.0}})
    return norm


def _affinity(job: JsonDict, group: JsonDict, node: Node) -> float:
    wishes: list[dict[str, Any]] = list(job["Affinities"] or []) + list(group["Affinities"] or [])
    for task in group["Tasks"]:
        wishes += task["Affinities"] or []
    total = sum(abs(w.get("Weight") or 50) for w in wishes)
    if not total:
        return 0.0
    known = known_of(node)
    return float(sum((w.get("Weight") or 50) for w in wishes if constraints.holds(w, known)) / total)
