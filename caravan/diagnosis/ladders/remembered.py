"""What memory knows: changes that worked against the same cause before come first, and those that failed last.

A lesson is another run's, so it is fitted to this plan: room is never less than this failure asks for, lists are added
to, and what goes the wrong way is left out. A wrong lesson costs one attempt at most.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.values.base import Json
from caravan.values.estimate import ROOM
from caravan.values.failure import ChangePlan, FailureClass, PastCase, Repair
from caravan.values.plan import PlanChange

_LISTS: Final = ("setup.pip", "setup.apt", "setup.cmd", "exclude_nodes", "mounts")
_OWN: Final = (
    "command",
    "workdir",
    "flags.",
    "training.options.",
    "env.PYTHONPATH",
    "dataset.path",
    "setup.requirements",
)
"""Fields that speak of one repository's own files and options."""
_DOWN: Final = {
    FailureClass.CUDA_OOM: ("training.micro_batch", "training.max_len", "training.lora_rank"),
    FailureClass.HOST_MEMORY_OOM: ("training.micro_batch", "training.num_workers"),
    FailureClass.NUMERIC_DIVERGENCE: ("training.lr", "training.max_grad_norm"),
}
"""Fields that a repair of the class only lowers."""
_ALIKE: Final = (("tree_digest",), ("repository",), ("entry_point", "framework"), ("base_model", "method"))
"""Parts of a context; two cases are alike where one of these is known and equal."""


def remembered(case: Case, ladder: Sequence[Repair]) -> Iterator[Repair]:
    """The changes that worked against this cause, fitted to the plan. `ladder`: what would be tried without memory."""
    for past in case.cases:
        if past.worked is not True or not _fits_here(case, past):
            continue
        values = _fitted(case, past.changes, ladder)
        yield from case.change(values, f"worked before against the same cause: {past.why or past.text}"[:300])


def failed_before(case: Case) -> list[list[tuple[str, Json]]]:
    """The changes that were tried under the same fingerprint and did not help."""
    print_ = case.diagnosis.fingerprint
    return [changed(c.changes) for c in case.cases if c.worked is False and print_ and c.fingerprint == print_]


def changed(changes: Iterable[PlanChange]) -> list[tuple[str, Json]]:
    """Changes as (path, value), without who made them and why."""
    return [(change.path, change.value) for change in changes]


def _fits_here(case: Case, past: PastCase) -> bool:
    """Whether the case is of the same fingerprint, or of the same cause in a like context."""
    diagnosis = case.diagnosis
    if diagnosis.fingerprint and past.fingerprint == diagnosis.fingerprint:
        return past.failure in (None, diagnosis.failure)
    if past.failure is not diagnosis.failure or diagnosis.failure is FailureClass.UNKNOWN:
        return False
    return any(_equal(case, past, keys) for keys in _ALIKE)


def _equal(case: Case, past: PastCase, keys: Sequence[str]) -> bool:
    here = _context(case)
    return all(here.get(k) is not None and str(here[k]) == str(past.context.get(k)) for k in keys)


def _context(case: Case) -> dict[str, Json]:
    profile, plan = case.profile, case.plan
    return {
        "tree_digest": profile.tree_digest or None,
        "entry_point": profile.entry_point,
        "framework": profile.framework,
        "base_model": plan.model.id or profile.base_model,
        "method": plan.training.method or profile.method,
    }


def _fitted(case: Case, changes: Sequence[PlanChange], ladder: Sequence[Repair]) -> dict[str, Json]:
    """The remembered values as this plan can take them; empty where one that it hangs on can't be taken."""
    known = [(c.path, c.value) for r in ladder if isinstance(r, ChangePlan) for c in r.changes]
    offered = dict(reversed(known))  # the first rung's value for each field
    values: dict[str, Json] = {}
    for change in changes:
        now, value = case.plan.get(change.path) if _exists(case, change.path) else None, change.value
        if change.path in ROOM:
            value = _room(case, change, now, offered.get(change.path))
        elif change.path in _LISTS and isinstance(value, list) and isinstance(now, list):
            value = [*now, *(item for item in value if item not in now)]
        elif change.path in _DOWN.get(case.diagnosis.failure, ()) and _rises(now, value):
            return {}
        if change.path.startswith(_OWN) and not _same_repository(case, change):
            return {}
        if value != now:
            values[change.path] = value
    return values if _all_heard(case, values) else {}


def _same_repository(case: Case, change: PlanChange) -> bool:
    """Whether the lesson's own words about a repository are about this one."""
    return any(
        change in past.changes
        and (_equal(case, past, ("tree_digest",)) or _equal(case, past, ("entry_point", "framework")))
        for past in case.cases
    )


def _all_heard(case: Case, values: dict[str, Json]) -> bool:
    spoken = [p for p in values if p.startswith(("training.", "model.", "dataset.")) and "options." not in p]
    return all(case.hears(path, values[path]) for path in spoken)


def _exists(case: Case, path: str) -> bool:
    return case.tried({path: None}) is not None


def _room(case: Case, change: PlanChange, now: Json, offered: Json) -> Json:
    """The larger of what is remembered and what would be tried without memory, within the largest node."""
    amounts = [a for a in (change.value, offered) if isinstance(a, int | float) and not isinstance(a, bool)]
    if not amounts:
        return change.value if change.value is None else now
    takers, most = case.outlook.takers(case.plan), int(max(amounts))
    if change.path == "resources.memory_mb":
        most = min(most, max((n.memory_mb for n in takers), default=0))
    if change.path == "resources.disk_mb":
        most = min(most, max((n.disk_mb for n in takers), default=0))
    return max(most, now) if isinstance(now, int) else most


def _rises(now: Json, value: Json) -> bool:
    numbers = (int, float)
    return isinstance(now, numbers) and isinstance(value, numbers) and value >= now
