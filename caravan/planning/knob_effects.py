"""What a knob of a training type does to a GPU's memory and to the speed, by the estimate that every plan goes through.

Pure. A reference is a usual training of a type; each row of its table is that training with one thing changed. Samples
fill their length as far as the estimate takes it where nothing is known of the data.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from caravan.planning.catalogue import gpu_named
from caravan.planning.duration import work_of
from caravan.planning.estimate import gpu_memory_high
from caravan.planning.margin import holds
from caravan.planning.memory import memory_parts
from caravan.planning.memory_plan import setting_of_plan
from caravan.planning.shapes import shape_of
from caravan.planning.speed import step_time
from caravan.values.base import Json
from caravan.values.plan import Author, Launch, PlanChange, Resources, TrainingPlan, apply_changes
from caravan.values.repo import Launcher

FILLED: Final = 0.35
"""Mean length of samples as a share of the longest, where they are padded: the estimate's own likely figure."""
GPU: Final = "NVIDIA H100 80GB HBM3"

Changes = Mapping[str, Json]


class Variation(NamedTuple):
    """A knob with another value: its name in the type, the value in words, the plan's fields that it changes."""

    knob: str
    value: str
    changes: Changes


class Reference(NamedTuple):
    """A usual training of a type: its name there, what it is in words, the plan's fields, and what is varied."""

    type: str
    title: str
    model: str
    changes: Changes
    variations: tuple[Variation, ...]
    images: bool = False


class Effect(NamedTuple):
    """What the estimate says of one training. GiB of each GPU, likely and with the margin that a GPU must hold.

    `samples_per_s` of all GPUs together; None where the formula knows no speed.
    """

    knob: str
    value: str
    gib: float
    high: float
    fits: bool
    samples_per_s: float | None


def effects(reference: Reference) -> tuple[Effect, ...]:
    """The reference itself (a row without a knob), then each variation. Raises PlanError for a field that no plan has.

    Raises KeyError for a model or GPU that the shipped tables don't know.
    """
    rows = (Variation("", "as above", {}), *reference.variations)
    return tuple(_effect(reference, row) for row in rows)


def _effect(reference: Reference, row: Variation) -> Effect:
    shape, gpu = shape_of(reference.model), gpu_named(GPU)
    if shape is None or gpu is None:
        raise KeyError(f"no figures of {reference.model} or {GPU}")
    plan = _plan(reference, row)
    setting, _ = setting_of_plan(plan, shape)
    parts = memory_parts(shape, setting)
    gib = sum(part.gib for part in parts)
    high = gpu_memory_high(plan, parts, shape) or gib
    filled = 1.0 if reference.images or not setting.varying else FILLED
    step = step_time(work_of(plan, shape, setting, filled), gpu)
    samples = None if step is None else _samples(plan) / step.seconds * (1.0 if setting.varying else 1 / FILLED)
    return Effect(row.knob, row.value, gib, high, holds(gpu.memory_mib / 1024, high), samples)


def _samples(plan: TrainingPlan) -> int:
    """Sequences of one update."""
    training = plan.training
    return (training.micro_batch or 1) * (training.grad_accum or 1) * max(1, plan.resources.gpus)


def _plan(reference: Reference, row: Variation) -> TrainingPlan:
    changes = {**reference.changes, **row.changes}
    gpus = changes.get("resources.gpus")
    count = gpus if isinstance(gpus, int) else 1
    plan = TrainingPlan(
        goal=reference.title,
        command=("train.py",),
        launch=Launch(launcher=Launcher.TORCHRUN if count > 1 else Launcher.PYTHON, nproc=count),
        resources=Resources(gpus=count, gpu_model=GPU),
    )
    changes["training.type"] = reference.type
    made = (PlanChange(path=path, value=value, by=Author.DEFAULT) for path, value in changes.items())
    return apply_changes(plan, made)
