"""The policy's judgement: a plan, the job that would be registered, and money, held against an administrator's rules.

Pure. What is asked for comes as claims (`claims`, `job_claims`); each rule has one row that says how it is matched.
What a rule can't make out is denied.
"""

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from caravan.planning.addresses import address_matches, read_address
from caravan.planning.catalogue import matches_model
from caravan.planning.claim import NEVER, Claim
from caravan.planning.claims import plan_claims
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.job_claims import job_claims
from caravan.values.base import Json
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.plan import Author, PlanChange, TrainingPlan
from caravan.values.policy import Denial, Policies, Policy, PolicyFile, Spending
from caravan.values.references import image_matches, read_image

Match = Callable[[str, str], bool]


def plan_denials(plan: TrainingPlan, facts: ClusterFacts, policies: Policies, *, own: str = "") -> tuple[Denial, ...]:
    """What the policies deny of a plan; empty where it is allowed. `own`: the run's own directory, always allowed."""
    return _denials(tuple(plan_claims(plan, facts, own)), policies) if policies.files else ()


def job_denials(job: Json, policies: Policies, *, own: str = "", timed: bool = True) -> tuple[Denial, ...]:
    """What the policies deny of a job in Nomad's JSON. `timed`: this Nomad holds time limits itself."""
    return _denials(tuple(job_claims(job, own=own, timed=timed)), policies) if policies.files else ()


def spending_denials(spending: Spending, policies: Policies) -> tuple[Denial, ...]:
    """What the policies deny of the money that would be spent. A cost that is not known is over every limit."""
    found = []
    for file in policies.files:
        rules = file.policy.money
        ahead = spending.ahead_usd
        sums = {
            "per_run_usd": (rules.per_run_usd, spending.run_usd, "the run's cost"),
            "per_day_usd": (rules.per_day_usd, None if ahead is None else spending.day_usd + ahead, "today's cost"),
            "per_month_usd": (
                rules.per_month_usd,
                None if ahead is None else spending.month_usd + ahead,
                "this month's cost",
            ),
            "per_user_month_usd": (
                rules.per_user_month_usd,
                None if ahead is None else spending.user_month_usd + ahead,
                "the user's cost this month",
            ),
        }
        for name, (limit, total, what) in sums.items():
            if limit is None or (total is not None and total <= limit):
                continue
            value = "not known (set limits.max_run_s or a price)" if total is None else f"{total:.2f} USD"
            found.append(_denied(file, Claim(f"money.{name}", what, value), f"{limit:.2f} USD"))
    return tuple(found)


def _denials(claims: Sequence[Claim], policies: Policies) -> tuple[Denial, ...]:
    found = [d for file in policies.files for c in claims for d in _judged(c, file)]
    return tuple(dict.fromkeys(found))


def _judged(claim: Claim, file: PolicyFile) -> Iterator[Denial]:
    policy = file.policy
    if claim.rule == "inside":
        return
    if claim.rule == NEVER:
        yield _denied(file, claim._replace(rule="what any policy forbids"), "")
    elif claim.rule == "images":
        yield from _image(claim, file)
    elif claim.rule in ("mounts.bind", "mounts.bind_read_only"):
        yield from _bind(claim, file)
    elif claim.rule == "privileges.privileged":
        if not policy.privileges.privileged:
            yield _denied(file, claim, "false")
    elif claim.rule in _NUMBERS:
        yield from _amount(claim, file)
    else:
        allowed = rule_of(policy, claim.rule)
        match = _MATCHERS.get(claim.rule, name_matches)
        if allowed is not None and not any(match(claim.value, pattern) for pattern in allowed):
            yield _denied(file, claim, _nearest(claim.value, allowed))


def rule_of(policy: Policy, rule: str) -> Any:
    """A rule's value by its dotted path."""
    table, _, name = rule.partition(".")
    return getattr(getattr(policy, table), name)


def _image(claim: Claim, file: PolicyFile) -> Iterator[Denial]:
    rules, image = file.policy.images, read_image(claim.value)
    if rules.allow is not None and not (image and any(image_matches(image, p) for p in rules.allow)):
        yield _denied(file, claim._replace(rule="images.allow"), _nearest(claim.value, rules.allow))
    registry = image.registry if image else ""
    if rules.registries is not None and not any(name_matches(registry, p) for p in rules.registries):
        nearest = _nearest(registry, rules.registries)
        yield _denied(file, claim._replace(rule="images.registries"), f"an image of {nearest}" if nearest else "")
    if rules.require_digest and not (image and image.digest):
        yield _denied(file, claim._replace(rule="images.require_digest"), "the image pinned by @sha256:…")


def image_allowed(image: str, policies: Policies) -> bool:
    """Whether all policies allow a job to run that image."""
    claim = Claim("images", "image", image)
    return not any(True for file in policies.files for _ in _image(claim, file))


def _bind(claim: Claim, file: PolicyFile) -> Iterator[Denial]:
    rules = file.policy.mounts
    if rules.bind is None:
        return
    reading = claim.rule == "mounts.bind_read_only"
    allowed = (*rules.bind, *(rules.bind_read_only if reading else ()))
    if not any(prefix == "/" or claim.value == prefix or claim.value.startswith(f"{prefix}/") for prefix in allowed):
        hint = _nearest(claim.value, allowed)
        if any(claim.value == p or claim.value.startswith(f"{p}/") for p in rules.bind_read_only):
            hint = f"{claim.value}, read only"
        yield _denied(file, claim._replace(rule="mounts.bind"), hint)


def _amount(claim: Claim, file: PolicyFile) -> Iterator[Denial]:
    limit = rule_of(file.policy, claim.rule)
    if limit is not None and (claim.number is None or not claim.number <= limit):
        yield _denied(file, claim, str(limit))


def _denied(file: PolicyFile, claim: Claim, nearest: str) -> Denial:
    value = claim.value or "(none)"
    return Denial(field=claim.field, value=value[:200], rule=claim.rule, file=file.path, nearest=nearest)


def _nearest(value: str, allowed: Iterable[str]) -> str:
    """The allowed value that is most like it; empty where nothing is allowed."""
    return next(iter(difflib.get_close_matches(value, list(allowed), n=1, cutoff=0.0)), "")


def name_matches(value: str, pattern: str) -> bool:
    """Whether a name is what a pattern allows. A name that is only known on the node is allowed by `*` alone."""
    if pattern == "*":
        return True
    return bool(value) and "${" not in value and fnmatch.fnmatchcase(value, pattern)


def _center(value: str, pattern: str) -> bool:
    """A job's datacenter may be a pattern itself: then it is allowed where the policy names that very pattern."""
    if any(c in value for c in "*?["):
        return pattern in (value, "*")
    return name_matches(value, pattern)


def _address(value: str, pattern: str) -> bool:
    address = read_address(value)
    return pattern == "*" or (address is not None and address_matches(address, pattern))


def _store(value: str, pattern: str) -> bool:
    """A place for results. One that is chained (`a://…::b://…`) would be another than it looks like."""
    return pattern == "*" or ("::" not in value and _address(value, pattern))


def _model(value: str, pattern: str) -> bool:
    """A type of GPU by its name, or by some of its words (`A100`). A job that names none may get any."""
    if pattern == "*":
        return True
    if any(c in pattern for c in "*?["):
        return name_matches(value.lower(), pattern.lower())
    return bool(value) and matches_model(pattern, value)


_MATCHERS: Final[dict[str, Match]] = {
    "jobs.datacenters": _center,
    "sources.code": _address,
    "sources.artifacts": _address,
    "sources.outputs": _store,
    "sources.package_indexes": _address,
    "limits.gpu_models": _model,
}
"""How a value is held against a rule's patterns, where it is not by name."""
_NUMBERS: Final = frozenset(
    f"limits.{name}"
    for name in ("gpus", "memory_mb", "cpu_mhz", "cores", "disk_mb", "max_run_s", "priority", "attempts")
)


def within(facts: ClusterFacts, policies: Policies) -> ClusterFacts:
    """The cluster as far as the policies allow it, so that plans are made for what they may have.

    Where they leave nothing, the cluster as it is: then the denial says why.
    """
    left = tuple(n for node in facts.nodes if (n := _node_within(node, policies)) is not None)
    return facts.model_copy(update={"nodes": left}) if left else facts


def _node_within(node: NodeFacts, policies: Policies) -> NodeFacts | None:
    drivers, devices = dict(node.drivers), node.devices
    for file in policies.files:
        jobs, models = file.policy.jobs, file.policy.limits.gpu_models
        pools, centers, allowed = jobs.node_pools, jobs.datacenters, jobs.drivers
        if pools is not None and not any(name_matches(node.node_pool, p) for p in pools):
            return None
        if centers is not None and not any(name_matches(node.datacenter, p) for p in centers):
            return None
        if allowed is not None:
            drivers = {name: d for name, d in drivers.items() if any(name_matches(name, p) for p in allowed)}
        if models is not None:
            devices = tuple(d for d in devices if d.type != "gpu" or any(_model(d.model, p) for p in models))
    return node.model_copy(update={"drivers": drivers, "devices": devices}) if drivers else None


def fill(plan: TrainingPlan, facts: ClusterFacts, policies: Policies, gpu: str | None = None) -> tuple[PlanChange, ...]:
    """What the policies want named and nobody has: time limit, datacenters, user, GPU type, as the cluster's word.

    `gpu` is the type that the estimate counts on. What the user has set is never touched.
    """
    wanted: dict[str, Json] = {}
    for file in policies.files:
        jobs, limits = file.policy.jobs, file.policy.limits
        longest = limits.max_run_s
        if longest is not None and plan.limits.max_run_s is None:
            wanted["limits.max_run_s"] = min(longest, wanted.get("limits.max_run_s", longest))
        if jobs.datacenters is not None and plan.datacenters == ("*",) and "*" not in jobs.datacenters:
            before = wanted.get("datacenters", sorted({n.datacenter for n in facts.usable_nodes()}))
            wanted["datacenters"] = [c for c in before if any(name_matches(c, p) for p in jobs.datacenters)]
        if jobs.users is not None and plan.user is None:
            wanted.setdefault("user", next((u for u in jobs.users if not any(c in u for c in "*?[")), None))
        if limits.gpu_models is not None and plan.resources.gpus and plan.resources.gpu_model is None:
            models = sorted({g.model for n in within(facts, policies).usable_nodes() for g in gpu_groups(n)})
            only = models[0] if len(models) == 1 else None
            wanted["resources.gpu_model"] = gpu if gpu in models else only
    return tuple(
        PlanChange(path=path, value=value, by=Author.CLUSTER, why="the policy wants it named")
        for path, value in wanted.items()
        if value not in (None, [])
    )
