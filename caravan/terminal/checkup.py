"""What a cluster's answers mean for a person who wants to train on it: findings, from facts alone. Asks nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from caravan.values.amounts import duration
from caravan.values.checkup import Area, Finding, Heard, Level
from caravan.values.job import ClusterKind
from caravan.values.proxies import is_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from caravan.values.checkup import Examination
    from caravan.values.job import ClusterFacts, NodeFacts, TokenFacts

POLICY: Final = "docs/examples/nomad-policy.hcl"
_SOON_S: Final = 24 * 3600  # a token that ends sooner may end during a run
_SHOWN: Final = 6  # names in a line
_MIB_PER_GIB: Final = 1024


class Right(NamedTuple):
    """A probe, what it stands for, what gives the right, and what is left out without it ("": nothing goes)."""

    probe: str
    what: str
    grant: str
    without: str = ""


RIGHTS: Final = (
    Right("nodes", "read the nodes", 'node { policy = "read" }'),
    Right("parse", "parse a job", "capability parse-job of the namespace"),
    Right("validate", "validate a job", "capability read-job of the namespace"),
    Right("plan", "plan a job, and so to submit one", "capability submit-job of the namespace"),
    Right("read-job", "read jobs", "capability read-job of the namespace"),
    Right("read-logs", "read logs", "capability read-logs of the namespace"),
    Right("read-fs", "read files of an allocation", "capability read-fs of the namespace"),
    Right(
        "events",
        "follow events",
        "capability read-job of the namespace",
        "a job's changes are found by blocking queries instead",
    ),
    Right("agent", "read the agent", 'agent { policy = "read" }', "the version is taken from the nodes"),
    Right(
        "variables",
        "read Nomad variables",
        'variables { path "nomad/jobs*" { capabilities = ["read"] } } in the namespace',
        "whether a job's secrets are there is not known before it runs",
    ),
)
"""The rights that runs need, each with the probe that shows it."""


def cluster_findings(exam: Examination, now: datetime) -> tuple[Finding, ...]:
    """All findings about a cluster. What could not be asked is `skipped`: it hangs on something that failed."""
    if exam.probe("leader").heard in (Heard.UNREACHABLE, Heard.FAILED):
        rest = _finding("the rest", Level.SKIPPED, "Nothing else of the cluster could be looked at.")
        return (*_address(exam), rest)
    return tuple(
        finding
        for part in (
            _address(exam),
            _version(exam),
            _token(exam, now),
            _rights(exam, now),
            _targets(exam, now),
            _nodes(exam),
        )
        for finding in part
    )


def _finding(name: str, level: Level, text: str, hint: str = "") -> Finding:
    return Finding(area=Area.CLUSTER, name=name, level=level, text=text, hint=hint)


def _ok(name: str, text: str) -> Finding:
    return _finding(name, Level.OK, text)


def _warning(name: str, text: str, hint: str = "") -> Finding:
    return _finding(name, Level.WARNING, text, hint)


def _address(exam: Examination) -> Iterator[Finding]:
    leader = exam.probe("leader")
    if leader.heard in (Heard.UNREACHABLE, Heard.FAILED):
        yield _finding("address", Level.FAILURE, leader.message, leader.hint)
        return
    milliseconds = max(1, round(leader.seconds * 1000))
    yield _ok("address", f"{exam.address} answered in {milliseconds} ms.")
    if exam.verified is False:
        hint = "Set NOMAD_CACERT to the cluster's CA certificate and unset NOMAD_SKIP_VERIFY."
        yield _warning("TLS", "Certificates are not checked: whoever is in between can read the token.", hint)
    elif exam.verified:
        yield _ok("TLS", "The server's certificate is trusted.")
    elif not _local(exam.address):
        text = "The connection is not encrypted: the token goes over the network as it is."
        yield _warning("TLS", text, "Use the cluster's https address.")
    if not leader.found:
        text = "The servers have no leader: nothing can be registered." if leader.heard is Heard.OK else leader.message
        yield _finding("leader", Level.FAILURE, text, leader.hint or "Ask the cluster's administrators.")
    else:
        yield _ok("leader", f"The leader is {leader.found}.")


def _local(address: str) -> bool:
    return address.startswith("unix:") or is_here(urlsplit(address).hostname or "")


def _version(exam: Examination) -> Iterator[Finding]:
    facts, nodes = exam.facts, exam.probe("nodes")
    if facts is None:
        if nodes.heard is Heard.FAILED:
            yield _finding("version", Level.FAILURE, nodes.message, nodes.hint)
        else:
            yield _finding("version", Level.SKIPPED, "Not known: the nodes could not be read.")
        return
    if not facts.version:
        yield _warning("version", "The version isn't known: newer features are left out.")
        return
    what = "the built-in cluster, for trying" if facts.kind is ClusterKind.BUILTIN else "Nomad"
    yield _ok("version", f"{what} {facts.version}".strip())
    for line in exam.left_out:
        yield _warning("version", line)


def _token(exam: Examination, now: datetime) -> Iterator[Finding]:
    probe, token = exam.probe("token"), exam.token
    if probe.heard is Heard.SKIPPED:
        yield _finding("token", Level.SKIPPED, "Not asked.")
    elif _missing(exam):
        why = exam.kept_back or "No token was sent, and the cluster asks for one."
        hint = "" if exam.kept_back else "Set NOMAD_TOKEN, or token_env or token_file in a cluster profile."
        yield _finding("token", Level.FAILURE, why, hint)
    elif probe.heard is not Heard.OK:
        yield _finding("token", Level.FAILURE, probe.message, probe.hint)
    elif token is None:
        builtin = exam.facts is not None and exam.facts.kind is ClusterKind.BUILTIN
        known = "It tells nothing about its token." if builtin else "The cluster knows no tokens."
        yield _ok("token", known if exam.has_token else "The cluster asks for no token.")
    else:
        yield from _known_token(token, now)


def _known_token(token: TokenFacts, now: datetime) -> Iterator[Finding]:
    named = f"{token.name or 'without a name'}, " + (
        "a management token" if token.management else f"policies {', '.join(token.policies) or 'none'}"
    )
    left = None if token.expires_at is None else (token.expires_at - now).total_seconds()
    if left is None:
        yield _ok("token", f"{named}; it does not expire.")
    elif left <= 0:
        text = f"{named}; it has expired on {token.expires_at:%Y-%m-%d %H:%M} UTC."
        yield _finding("token", Level.FAILURE, text, "Get a new one and set NOMAD_TOKEN to it.")
        return
    else:
        level = Level.WARNING if left < _SOON_S else Level.OK
        hint = "A run that takes longer needs a new one." if level is Level.WARNING else ""
        yield _finding("token", level, f"{named}; it expires in {duration(left)}.", hint)
    if token.management:
        hint = f"The least that works is {POLICY}."
        yield _warning("token", "A management token may do everything, and runs need little of that.", hint)


def _missing(exam: Examination) -> bool:
    """Whether something was denied and no token was sent: then that is what is wrong, and not what a policy says."""
    return not exam.has_token and any(p.heard is Heard.DENIED for p in exam.probes)


def _useless(exam: Examination, now: datetime) -> bool:
    """Whether the token itself is what is wrong: what it may do says nothing then."""
    ended = exam.token is not None and exam.token.expires_at is not None and exam.token.expires_at <= now
    return ended or _missing(exam) or exam.probe("token").heard in (Heard.DENIED, Heard.FAILED)


def _rights(exam: Examination, now: datetime) -> Iterator[Finding]:
    useless = _useless(exam, now)
    for right in RIGHTS:
        probe, name = exam.probe(right.probe), f"may {right.probe}"
        if probe.heard is Heard.DENIED and useless:
            yield _finding(name, Level.SKIPPED, "Not known: see token.")
        elif probe.heard is Heard.DENIED:
            level = Level.WARNING if right.without else Level.FAILURE
            text = f"The token may not {right.what}" + (f": {right.without}." if right.without else ".")
            yield _finding(name, level, text, f"Add to its policy: {right.grant} (see {POLICY}).")
        elif probe.heard is Heard.SKIPPED:
            yield _finding(name, Level.SKIPPED, "Not asked.")
        elif probe.heard in (Heard.UNREACHABLE, Heard.FAILED):
            level = Level.WARNING if right.without else Level.FAILURE
            yield _finding(name, level, probe.message, probe.hint)
        elif probe.heard is Heard.ABSENT and right.probe in ("read-logs", "read-fs"):
            yield _ok(name, f"Nobody forbids to {right.what}; sure it is once an allocation has run.")
        else:
            yield _ok(name, f"The token may {right.what}.")


def _targets(exam: Examination, now: datetime) -> Iterator[Finding]:
    """Namespace and region that are set; what has no list that may be read is not known."""
    spaces, regions = exam.probe("namespaces").found, exam.probe("regions").found
    if isinstance(spaces, list):
        if exam.namespace in spaces:
            yield _ok("namespace", f"{exam.namespace} is there.")
        else:
            hint = f"Set NOMAD_NAMESPACE to one of: {_listed(spaces)}."
            text = f"There is no namespace {exam.namespace} that the token may see."
            yield _finding("namespace", Level.FAILURE, text, hint)
    region = exam.facts.region if exam.facts else ""
    if isinstance(regions, list) and region:
        if region in regions:
            yield _ok("region", f"{region} is there.")
        else:
            hint = f"Set NOMAD_REGION to one of: {_listed(regions)}."
            yield _finding("region", Level.FAILURE, f"There is no region {region}.", hint)
    scheduler = exam.probe("scheduler").found
    if isinstance(scheduler, dict):
        over = "on" if scheduler.get("oversubscription") else "off: memory_max_mb has no effect"
        preempts = "batch jobs can be preempted" if scheduler.get("preemption") else "batch jobs are not preempted"
        yield _ok("scheduler", f"Memory oversubscription is {over}; {preempts}.")
        if scheduler.get("closed"):
            text = "The cluster takes no new jobs now, but from management tokens."
            yield _finding("scheduler", Level.FAILURE, text, "Ask the cluster's administrators.")
    elif exam.probe("scheduler").heard is Heard.DENIED and not _useless(exam, now):
        hint = 'operator { policy = "read" } in its policy would show it.'
        yield _warning(
            "scheduler", "Whether memory oversubscription is on isn't known: the token may not read it.", hint
        )


def _nodes(exam: Examination) -> Iterator[Finding]:
    facts = exam.facts
    if facts is None:
        if exam.probe("leader").heard is Heard.OK:
            yield _finding("nodes", Level.SKIPPED, "Nodes, drivers, GPUs and volumes could not be looked at.")
        return
    usable = facts.usable_nodes()
    away = [n for n in facts.nodes if n not in usable]
    pools = sorted({n.node_pool for n in usable})
    if not usable:
        text = f"None of {len(facts.nodes)} nodes takes new work." if facts.nodes else "The cluster has no node."
        yield _finding("nodes", Level.FAILURE, text, "Ask the cluster's administrators.")
        return
    centers = sorted({n.datacenter for n in usable})
    text = f"{_counted(len(usable), 'node')} in pools {_listed(pools)}, datacenters {_listed(centers)}."
    yield _ok("nodes", text)
    if away:
        names = _listed([n.name for n in away])
        yield _warning("nodes", f"{_counted(len(away), 'node')} down, drained or not eligible: {names}.")
    if "default" not in pools:
        hint = "Name a pool with --set node_pool=NAME, or in a cluster profile."
        yield _warning("node pools", "No usable node is in the pool `default`, where jobs go that name none.", hint)
    yield from _drivers(usable)
    yield from _gpus(usable)
    yield from _volumes(facts, usable)


def _drivers(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    ours = ("docker", "exec", "raw_exec")
    healthy = {d: [n.name for n in nodes if d in n.drivers and n.drivers[d].healthy] for d in ours}
    parts = [f"{d} on {_counted(len(names), 'node')}" for d, names in healthy.items() if names]
    if parts:
        yield _ok("drivers", f"{', '.join(parts)}.")
    else:
        yield _finding("drivers", Level.FAILURE, f"No node has a healthy driver of {', '.join(ours)}.")
    sick = [f"{d} on {n.name}" for n in nodes for d in ours if d in n.drivers and not n.drivers[d].healthy]
    if sick:
        yield _warning("drivers", f"Not healthy: {_listed(sick)}.", "Jobs go to the other nodes.")


def _gpus(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    found: dict[tuple[str, int | None, bool], list[tuple[str, int]]] = {}
    for node in nodes:
        for device in node.devices:
            if device.type == "gpu" and device.count:
                key = (device.model, device.memory_mib, device.declared)
                found.setdefault(key, []).append((node.name, device.count))
    for (model, memory, declared), where in sorted(found.items(), key=lambda i: i[0][0]):
        size = f" ({memory / _MIB_PER_GIB:.0f} GiB)" if memory else ""
        total, most = sum(n for _, n in where), max(n for _, n in where)
        text = f"{total} × {model}{size} on {_listed([name for name, _ in where])}, at most {most} on a node."
        yield _ok("GPUs", text + (" They are declared, not real." if declared else ""))
    if not found:
        yield _warning("GPUs", "No node tells of a GPU.", "If there are some, Nomad's nvidia plug-in is missing.")
        return
    versions = sorted({f"{k} {v}" for n in nodes for k, v in n.attributes.items() if _tells_cuda(k)})
    if versions:
        yield _ok("GPU software", f"{_listed(versions)}.")
    bare = [n.name for n in nodes if _without_runtime(n)]
    if bare:
        hint = "Docker jobs see no GPU there: the nvidia container toolkit is missing."
        yield _warning("GPU software", f"GPUs but no nvidia runtime in docker: {_listed(bare)}.", hint)


def _tells_cuda(attribute: str) -> bool:
    return ("nvidia" in attribute or "cuda" in attribute) and "version" in attribute


def _without_runtime(node: NodeFacts) -> bool:
    docker = node.drivers.get("docker")
    gpus = any(d.type == "gpu" and d.vendor == "nvidia" and d.count and not d.declared for d in node.devices)
    return bool(gpus and docker and docker.healthy and docker.runtimes and "nvidia" not in docker.runtimes)


def _volumes(facts: ClusterFacts, nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    writable = {v for n in nodes for v, volume in n.host_volumes.items() if not volume.read_only}
    every = {v for n in nodes for v in n.host_volumes}
    if facts.shared_files:
        yield _ok("volumes", "Jobs see this machine's files: outputs go into the run's folder.")
    elif every or facts.csi_volumes:
        parts = [f"host volumes for outputs: {_listed(writable)}"] if writable else []
        parts += [f"host volumes to read from: {_listed(every - writable)}"] if every - writable else []
        parts += [f"CSI volumes: {_listed(facts.csi_volumes)}"] if facts.csi_volumes else []
        yield _ok("volumes", f"{'; '.join(parts)}.")
    if not facts.shared_files and not writable and not facts.csi_volumes:
        hint = "Ask for a host or CSI volume, or give a bucket: --set outputs=s3://BUCKET/runs."
        yield _warning("outputs", "There is no volume to write to: what a job writes vanishes with it.", hint)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(names: Iterable[object]) -> str:
    every = list(dict.fromkeys(str(n) for n in names))
    every = sorted(every)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return (", ".join(every[:_SHOWN]) or "none") + more
