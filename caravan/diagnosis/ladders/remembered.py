"""What memory knows: changes that worked against the same cause before come first, and those that failed last.

A lesson is another run's, so it is fitted to this plan: room is never less than this failure asks for, lists are added
to, other fields only change where the plan stands as it stood then or the way that this cause wants. A wrong lesson
costs one attempt at most.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.estimate import ROOM
from caravan.values.failure import ChangePlan, FailureClass, PastCase, Repair
from caravan.values.lesson_fields import CODE, LISTS, PROGRAM, REPOSITORY, depends_on_nothing_else, name_of, never
from caravan.values.masking import MASK
from caravan.values.plan import Author, PlanChange

_OWN: Final = (
    *("command", "workdir", "flags.", "training.options.", "env.PYTHONPATH", "dataset.path", "setup.requirements"),
    *("launch.", "config_overlays", "setup.cmd"),
)
"""Fields that speak of one program's own files and options."""
_DOWN: Final = {
    FailureClass.CUDA_OOM: ("training.micro_batch", "training.max_len", "training.lora_rank"),
    FailureClass.HOST_MEMORY_OOM: ("training.micro_batch", "training.num_workers"),
    FailureClass.NUMERIC_DIVERGENCE: ("training.lr", "training.max_grad_norm"),
    FailureClass.OVERFIT: ("training.epochs", "training.max_steps", "training.lr", "training.lora_rank"),
    FailureClass.WORSE_THAN_BASE: ("training.epochs", "training.max_steps", "training.lr"),
    FailureClass.REGRESSED: ("training.epochs", "training.max_steps", "training.lr"),
    FailureClass.MODEL_COLLAPSED: ("training.lr", "training.max_grad_norm"),
}
"""Fields that a repair of the cause only lowers."""
WORKED: Final = "worked before against the same cause"
"""How the reason of a change begins that a lesson has given."""
FAILED: Final = "it failed before against the same cause"
"""What is added to the reason of a repair that is tried last."""
_HERE: Final = ({CODE}, {REPOSITORY, "entry_point"})
"""Keys of the context; all of one of these sets agree with the run where the case is of the same training."""
_ALIKE: Final = (*_HERE, {"base_model", "method"}, {"entry_point", "framework", "driver"})
"""The same for cases that are alike."""
_ALIKE_TRAINING: Final = ({CODE}, {REPOSITORY, PROGRAM}, {"base_model", "method"})
"""The same for what a lesson says of the training itself: an equal name of a file and framework is too little."""
_BATCH, _ACCUMULATION = _BATCHES = "training.micro_batch", "training.grad_accum"
_GPU_MEMORY: Final = (FailureClass.CUDA_OOM, FailureClass.GPU_MEMORY_CONTENDED)


def remembered(case: Case, ladder: Sequence[Repair]) -> Iterator[Repair]:
    """The changes that worked against this cause, fitted to the plan. `ladder`: what would be tried without memory."""
    offered: dict[str, Json] = {}
    for repair in ladder:
        for change in repair.changes if isinstance(repair, ChangePlan) else ():
            offered.setdefault(change.path, change.value)  # the first rung's
    for past in case.cases:
        if past.worked is True and _fits_here(case, past) and MASK not in str([c.value for c in past.changes]):
            told = (past.why or past.text)[:200]
            yield from case.change(_fitted(case, past, offered), f"{WORKED} ({name_of(past)}: {told})")


def followed_in_vain(case: Case) -> bool:
    """Whether the plan that failed followed a lesson already: one attempt is what a wrong one may cost."""
    return any(p.by is Author.REPAIR and p.why.startswith(WORKED) for p in case.plan.provenance.values())


def put_last(case: Case, repairs: Sequence[Repair]) -> tuple[Repair, ...]:
    """The repairs in their order, then those that failed more often than not in a like case, each with its lesson.

    None is left out: where nothing else is left, it is tried once more. What worked in another training is put behind
    only by what failed in this one.
    """
    failures = [past for past in case.cases if past.worked is False and past.changes]
    first, last = list[Repair](), list[Repair]()
    for repair in repairs:
        known = next((past for past in failures if _in_vain(case, past, repair)), None)
        if known is None:
            first.append(repair)
        else:
            last.append(repair.model_copy(update={"why": f"{repair.why} ({FAILED}: {name_of(known)})"}))
    return (*first, *last)


def _in_vain(case: Case, past: PastCase, repair: Repair) -> bool:
    """Whether the case tried what the repair would change, or, of room, no less, and it did not help."""
    if not isinstance(repair, ChangePlan) or not _fits_here(case, past):
        return False
    here = any(keys <= set(past.same) for keys in _HERE)
    if repair.why.startswith(WORKED) and not here:
        return False
    told = dict(changed(past.changes))
    if {change.path for change in repair.changes} != told.keys():
        return False
    return all(_no_more(change, told[change.path], here=here) for change in repair.changes)


def _no_more(change: PlanChange, failed: Json, *, here: bool) -> bool:
    if change.value == failed:
        return True
    return here and change.path in ROOM and _number(change.value) and _number(failed) and change.value <= failed


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
    return any(keys <= set(past.same) for keys in _ALIKE)


def _fitted(case: Case, past: PastCase, offered: dict[str, Json]) -> dict[str, Json]:
    """The lesson's values as this plan can take them; empty where one of them can't be taken: it counts as a whole."""
    values: dict[str, Json] = {}
    for change in past.changes:
        if not _may_speak(past, change.path) or not _there(case, change):
            return {}
        try:
            now = case.plan.get(change.path)
        except PlanError:  # a lesson of a version whose plans had other fields
            return {}
        if change.path in ROOM:
            value = _room(case, past, change, now, offered.get(change.path))
        elif change.path in _BATCHES and case.diagnosis.failure in _GPU_MEMORY:
            continue  # together, below
        elif change.path in _DOWN.get(case.diagnosis.failure, ()):
            value = _scaled(past, change, now)
            if not _lower(now, value):
                return {}
        else:
            value = _moved(change.path, now, past.before.get(change.path, now), change.value)
        if value != now:
            values[change.path] = value
    batches = _in_smaller_steps(case, past)
    if batches is None:
        return {}
    values |= batches
    spoken = [p for p in values if p.startswith(("training.", "model.", "dataset.")) and "options." not in p]
    return values if all(case.hears(path, values[path]) for path in spoken) else {}


def _may_speak(past: PastCase, path: str) -> bool:
    """Whether the lesson may say anything of a field here: every kill and every NaN has the same fingerprint, so that
    this alone says nothing of how something else is trained."""
    if never(path) or (path.startswith(_OWN) and not depends_on_nothing_else(past, path)):
        return False
    return not path.startswith("training.") or any(keys <= set(past.same) for keys in _ALIKE_TRAINING)


def _there(case: Case, change: PlanChange) -> bool:
    """Whether the nodes that a change leaves out are this cluster's: those of another say nothing here."""
    if change.path != "exclude_nodes" or not isinstance(change.value, list):
        return True
    return {str(name) for name in change.value} <= {node.name for node in case.facts.nodes}


def _in_smaller_steps(case: Case, past: PastCase) -> dict[str, Json] | None:
    """The lesson's smaller batch at the effective batch that this plan has; None where it would become another one."""
    told = {c.path: c.value for c in past.changes if c.path in _BATCHES}
    if not told or case.diagnosis.failure not in _GPU_MEMORY:
        return {}
    batch, steps, most = case.plan.training.micro_batch, case.plan.training.grad_accum or 1, told.get(_BATCH)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1 or batch is None or most >= batch:
        return None
    smaller = max(n for n in range(1, most + 1) if batch % n == 0)
    values: dict[str, Json] = {_BATCH: smaller, _ACCUMULATION: steps * (batch // smaller)}
    return values if all(case.hears(path, value) for path, value in values.items()) else None


def _scaled(past: PastCase, change: PlanChange, now: Json) -> Json:
    """A rate in the proportion in which it was changed; other values as they are told."""
    before, after = past.before.get(change.path), change.value
    if change.path != "training.lr" or not (_number(now) and _number(before) and _number(after)) or not before:
        return after
    return float(f"{now * after / before:.2g}")


def _room(case: Case, past: PastCase, change: PlanChange, now: Json, offered: Json) -> Json:
    """The larger of what is remembered for this code and what would be tried without memory, within the largest
    node."""
    told = change.value if depends_on_nothing_else(past, change.path) else None
    amounts = [a for a in (told, offered) if isinstance(a, int) and not isinstance(a, bool)]
    if not amounts:
        return now
    takers, most = case.outlook.takers(case.plan), max(amounts)
    if change.path == "resources.memory_mb":
        most = min(most, max((n.memory_mb for n in takers), default=0))
    if change.path == "resources.disk_mb":
        most = min(most, max((n.disk_mb for n in takers), default=0))
    return max(most, now) if isinstance(now, int) else most


def _moved(path: str, now: Json, before: Json, after: Json) -> Json:
    """The value after the same change: lists are added to; others are set where the plan stands as it stood."""
    if path in LISTS and isinstance(now, list) and isinstance(after, list):
        had = before if isinstance(before, list) and before != now else []
        return [*now, *(item for item in after if item not in had and item not in now)]
    return after if now == before else now


def _lower(now: Json, value: Json) -> bool:
    return _number(value) and (now is None or (_number(now) and value < now))


def _number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
