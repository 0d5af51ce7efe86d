"""Samples of an update: what one GPU sees in a step, what all of them make together, and how a program is told.

Pure: it knows the plan alone. Scripts count one GPU's samples, those of a step on all GPUs, or those of an update.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from caravan.planning.config_files import reaches
from caravan.planning.documented import DISTRIBUTED
from caravan.values.base import Json
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan

MICRO: Final = "training.micro_batch"
ACCUMULATION: Final = "training.grad_accum"
GLOBAL: Final = "training.global_batch"
_FIXED: Final = STANDING | {Author.ESTIMATE, Author.MEMORY}
_OBSERVED: Final = (Author.REPAIR, Author.ESTIMATE, Author.MEMORY)
"""Authors who make a batch smaller because it does not fit."""


def processes(plan: TrainingPlan) -> int:
    """How many of the program's processes, or GPUs of one, work on one update."""
    launch = plan.launch
    if launch.launcher in DISTRIBUTED:
        return launch.nproc * launch.nodes
    return max(1, plan.resources.gpus) * launch.nodes


def effective_batch(plan: TrainingPlan) -> int | None:
    """The samples of an update as the job will be told; None where that is not known."""
    training = plan.training
    if training.micro_batch is None:
        return training.global_batch
    fixed = training.global_batch is not None and _takes_all(plan) and plan.flag(ACCUMULATION) is None
    if fixed and not _shrunk(plan):
        return training.global_batch
    return training.micro_batch * _accumulated(plan) * processes(plan)


def _accumulated(plan: TrainingPlan) -> int:
    """The steps of an update; one where the program is not told of more and has none of its own."""
    told = reaches(plan, ACCUMULATION) or plan.is_own(ACCUMULATION)
    return (plan.training.grad_accum or 1) if told else 1


def batch_text(plan: TrainingPlan) -> str:
    """The samples of an update in words: `64 = 4 a GPU x 2 accumulated x 8 processes`; empty where not known."""
    whole, training = effective_batch(plan), plan.training
    if whole is None or training.micro_batch is None:
        return "" if whole is None else str(whole)
    count = processes(plan)
    if training.micro_batch * (training.grad_accum or 1) * count == whole:
        unit = "process" if plan.resources.gpus == 0 else "GPU"
        many = "1 process" if count == 1 else f"{count} processes"
        return f"{whole} = {training.micro_batch} a {unit} x {training.grad_accum or 1} accumulated x {many}"
    return f"{whole}, {training.micro_batch} a GPU at a time on {count}"


def all_together(plan: TrainingPlan, field: str, form: str, values: Mapping[str, Json]) -> int | None:
    """What an option that counts the samples of all GPUs is given for a field; None where nobody has set it.

    `global`: the samples of an update; `step`: those of a step, before any accumulation.
    """
    training = plan.training
    if training.micro_batch is None or (field not in values and not _shrunk(plan)):
        return None
    accumulated = _accumulated(plan) if form == "global" else 1
    asked = training.global_batch
    if asked is not None and plan.asked(GLOBAL) and not _shrunk(plan):
        return asked if form == "global" else max(1, asked // (training.grad_accum or 1))
    return training.micro_batch * accumulated * processes(plan)


def _shrunk(plan: TrainingPlan) -> bool:
    return plan.set_by(MICRO) in _OBSERVED or plan.set_by(ACCUMULATION) in _OBSERVED


def _takes_all(plan: TrainingPlan) -> bool:
    return plan.flag(GLOBAL) is not None or GLOBAL in plan.config_keys


def batch_flags(plan: TrainingPlan) -> bool:
    """Whether batch and accumulation, as they are told, make the samples of an update that were asked for."""
    training = plan.training
    if training.micro_batch is None or not reaches(plan, MICRO):
        return False
    return training.micro_batch * (training.grad_accum or 1) * processes(plan) == training.global_batch


def settled_batch(
    plan: TrainingPlan, documented: int | None, own: Mapping[str, Json] | None = None
) -> tuple[PlanChange, ...]:
    """What the batch of one GPU and the accumulation have to be, so that together they make what was asked for.

    `documented`: the processes that the documented command counts on; where fewer or more are planned and nobody has
    asked for a batch, the samples of an update stay. `own`: the repository's own values by plan path, from which it
    is counted anew each time. What a person, the estimate or memory has set is not touched.
    """
    own = own or {}
    if plan.training.global_batch is not None and plan.asked(GLOBAL):
        return tuple(_for_all(plan, plan.training.global_batch, own))
    if plan.training.micro_batch is None:
        return ()
    if _takes_all(plan):
        return tuple(_beside_own(plan))
    return tuple(_as_before(plan, documented, own)) if documented else ()


def _for_all(plan: TrainingPlan, asked: int, own: Mapping[str, Json]) -> Iterator[PlanChange]:
    """Batch and accumulation for an update of that many samples; the largest batch of a GPU that was meant before."""
    count = processes(plan)
    micro = plan.training.micro_batch if plan.set_by(MICRO) in _FIXED else _whole(own.get(MICRO))
    each, rest = divmod(asked, count)
    why = f"an update of {asked} samples on {count} {'processes' if count > 1 else 'process'}"
    if each == 0 or (rest and not _takes_all(plan)):
        each, why = max(1, each), f"{why}: {max(1, each) * count} is the nearest that they can share"
    accumulates = reaches(plan, ACCUMULATION) or (_takes_all(plan) and plan.flag(MICRO) is not None)
    if not reaches(plan, MICRO) or not accumulates:
        size, steps = each, 1
    elif micro is not None and plan.set_by(MICRO) in _FIXED:
        size, steps = micro, max(1, round(each / micro))
        if size * steps != each:
            why = f"{why}: {size} x {steps} x {count} is the nearest with {size} a GPU"
    else:
        size = next(n for n in range(min(micro or each, each), 0, -1) if each % n == 0)
        steps = each // size
    yield from _changed(plan, {MICRO: size, ACCUMULATION: steps}, why)


def _whole(value: Json) -> int | None:
    """A number of samples or steps, also where it was read as text."""
    text = str(value)
    return int(text) if text.isdecimal() and text.isascii() and 0 < int(text) < 1 << 31 else None


def _beside_own(plan: TrainingPlan) -> Iterator[PlanChange]:
    """The repository's own number for all GPUs: its share is what one of them sees; one that is asked may need more."""
    whole, micro, count = plan.training.global_batch, plan.training.micro_batch, processes(plan)
    if whole is None or micro is None:
        return
    if plan.flag(MICRO) is None and MICRO not in plan.config_keys:
        if plan.is_own(MICRO):
            why = f"its share of {whole} on {count}"
            yield from _changed(
                plan, {MICRO: max(1, whole // (count * (plan.training.grad_accum or 1)))}, why, own=True
            )
    elif micro * count > whole and not plan.is_own(MICRO):
        yield PlanChange(path=GLOBAL, value=micro * count, by=Author.DEFAULT, why=f"{micro} a GPU on {count}")


def _as_before(plan: TrainingPlan, documented: int, own: Mapping[str, Json]) -> Iterator[PlanChange]:
    """Another accumulation where other processes are planned than documented, so that an update is what it was."""
    count, steps = processes(plan), _whole(own.get(ACCUMULATION)) or 1
    kept = plan.set_by(MICRO) in _FIXED or plan.set_by(ACCUMULATION) in _FIXED
    if kept or not reaches(plan, ACCUMULATION) or steps * documented % count:
        return
    wanted = steps * documented // count
    if wanted != (plan.training.grad_accum or 1):
        why = f"an update of as many samples as on the {documented} documented processes, now on {count}"
        yield PlanChange(path=ACCUMULATION, value=wanted, by=Author.DEFAULT, why=why)


def _changed(plan: TrainingPlan, values: Mapping[str, int], why: str, *, own: bool = False) -> Iterator[PlanChange]:
    by = Author.REPOSITORY if own else Author.DEFAULT
    for path, value in values.items():
        now = plan.get(path)
        if now != value and plan.set_by(path) not in _FIXED and not (now is None and value == 1):
            yield PlanChange(path=path, value=value, by=by, why=why)
