"""Constraints that a job does not state but implies, as Nomad's servers add them when a job is sent. Pure.

What a group uses (Consul's services, signals, bridge networks, Vault) must be there on the node: else placement fails
with these constraints' words.
"""

from collections.abc import Iterable, Iterator

from caravan.cluster.local.words import JsonDict

_CNI = ("bridge", "firewall", "host-local", "loopback", "portmap")

SIGNALS = ",".join(
    f"SIG{name}"
    for name in (
        *("ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "NULL", "PIPE"),
        *("PROF", "QUIT", "SEGV", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2"),
        *("WINCH", "XCPU", "XFSZ"),
    )
)
"""The signals that a Linux node knows, as its attribute `os.signals` lists them."""


def with_implied(job: JsonDict) -> JsonDict:
    """The canonical job with its implied constraints; a job that implies none comes back as it is."""
    groups = [_group(g) for g in job["TaskGroups"] or []]
    if all(new is old for new, old in zip(groups, job["TaskGroups"] or [], strict=True)):
        return job
    return {**job, "TaskGroups": groups}


def _group(group: JsonDict) -> JsonDict:
    rules: list[JsonDict] = list(group["Constraints"] or [])
    before = len(rules)
    for left, operand, right, whole in _wanted(group):
        known = any(
            r.get("LTarget") == left and (not whole or (r.get("Operand"), r.get("RTarget")) == (operand, right))
            for r in rules
        )
        if not known:
            rules.append({"LTarget": left, "Operand": operand, "RTarget": right})
    tasks = [_task(t) for t in group["Tasks"] or []]
    if len(rules) == before and all(n is o for n, o in zip(tasks, group["Tasks"] or [], strict=True)):
        return group
    return {**group, "Constraints": rules or None, "Tasks": tasks}


def _task(task: JsonDict) -> JsonDict:
    """A task's own Consul services bind the task."""
    rules = list(task["Constraints"] or [])
    if not _by("consul", task["Services"]) or any(r.get("LTarget") == "${attr.consul.version}" for r in rules):
        return task
    return {
        **task,
        "Constraints": [*rules, {"LTarget": "${attr.consul.version}", "Operand": "semver", "RTarget": ">= 1.8.0"}],
    }


def _wanted(group: JsonDict) -> Iterator[tuple[str, str, str, bool]]:
    """Attribute, operator and value of each, and whether only the very same constraint makes it needless."""
    tasks, services = group["Tasks"] or [], group["Services"] or []
    every = [*services, *(s for t in tasks for s in t["Services"] or [])]
    if any(t["Vault"] for t in tasks):
        yield "${attr.vault.version}", "semver", ">= 0.6.1", False
    signals = sorted({s for t in tasks for s in _signals(t)})
    if signals:
        yield "${attr.os.signals}", "set_contains", ",".join(signals), True
    if _by("nomad", every):
        yield "${attr.nomad.service_discovery}", "=", "true", True
    if any(s.get("Checks") for s in every if s.get("Provider") == "nomad"):
        yield "${attr.nomad.version}", "semver", ">= 1.4.0", True
    if _by("consul", services):
        yield "${attr.consul.version}", "semver", ">= 1.8.0", False
    if any((n.get("Mode") or "") == "bridge" for n in group["Networks"] or []):
        for plugin in _CNI:
            yield f"${{attr.plugins.cni.version.{plugin}}}", "semver", ">= 0.4.0", False


def _by(provider: str, services: Iterable[JsonDict] | None) -> bool:
    return any((s.get("Provider") or "consul") == provider for s in services or [])


def _signals(task: JsonDict) -> Iterator[str]:
    if task["KillSignal"]:
        yield task["KillSignal"]
    for template in task["Templates"] or []:
        if template["ChangeMode"] == "signal":
            yield template["ChangeSignal"]
    if task["Vault"] and task["Vault"].get("ChangeMode") == "signal":
        yield task["Vault"].get("ChangeSignal") or ""
