"""What earlier runs were seen to need, held against what the formulas said of them: corrections of a new estimate.

A pure function of measurements. The nearer a run was to the plan, the more it counts: the same plan is taken as it was
measured, runs of the same model and method by their median ratio to the formula, runs of the same kind of model and
method by that ratio drawn towards 1. It knows no formula, no cluster and no store.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from caravan.values.base import Json, sha256_text
from caravan.values.estimate import MemoryPart, method_of
from caravan.values.measurement import Measurement
from caravan.values.plan import TrainingPlan
from caravan.values.shape import ModelShape

MOST: Final = 2.0
"""By how many times runs of other plans may change the formula's memory, up or down; more is said, and not done."""
MOST_SPEED: Final = 4.0
"""The same for the time of a step, whose formula errs by more."""
_DRAWN: Final = 4.0
"""Runs of other models count as n of n + 4: one run of another model moves the estimate by a fifth of its error."""
_NEAR: Final = 0.5
"""Closeness from which on an out-of-memory of a run of this model says something of this plan."""
_HAIR: Final = 1.001  # more than was seen to be too little
_SIDE: Final = (
    *("seed", "output_dir", "save_total_limit", "resume_from", "report_to", "ddp_timeout", "lr", "warmup"),
    *("epochs", "max_steps", "options"),
)
"""Fields of the training that change neither memory nor the time of a step; further options are looked at apart."""


class Subject(NamedTuple):
    """A plan as measurements know one; `gpu` is the type that it would get."""

    key: str
    model: str
    shape_digest: str
    family: str
    method: str
    precision: str | None
    quant_bits: int | None
    micro_batch: int | None
    max_len: int | None
    grad_checkpointing: bool | None
    gpus: int
    nodes: int
    parallel: str
    gpu: str | None = None


class Correction(NamedTuple):
    """By how many times the formula's figure is taken; `exact`: this very plan was measured. `text` says why."""

    ratio: float
    text: str
    run_id: str
    exact: bool = False


class _Seen(NamedTuple):
    measurement: Measurement
    ratio: float
    weight: float


def subject_of(plan: TrainingPlan, shape: ModelShape | None, gpu: str | None = None) -> Subject:
    """The plan, with the repository's values in it, as measurements know it."""
    training, launch = plan.training, plan.launch
    known = shape.model_dump_json(exclude={"source", "model_type"}) if shape is not None and shape.exact else ""
    many = launch.nproc * launch.nodes > 1
    return Subject(
        key=plan_key(plan),
        model=plan.model.id or "",
        shape_digest=sha256_text(known)[:16] if known else "",
        family=shape.family.value if shape is not None else "",
        method=(method_of(plan) or "full").lower(),
        precision=training.precision,
        quant_bits=training.quant_bits,
        micro_batch=training.micro_batch,
        max_len=training.max_len,
        grad_checkpointing=training.grad_checkpointing,
        gpus=plan.resources.gpus,
        nodes=launch.nodes,
        parallel=launch.launcher.value if many else "",
        gpu=gpu,
    )


def plan_key(plan: TrainingPlan) -> str:
    """By which a plan is known again in another run: what memory and speed hang on, without paths of one run."""
    training = plan.training.model_dump(mode="json", exclude=set(_SIDE))
    options = {k: v for k, v in sorted(plan.training.options.items()) if "/" not in str(v)}
    parts: list[Json] = [
        plan.model.model_dump(mode="json"),
        plan.dataset.path,
        training,
        options,
        [plan.launch.launcher.value, plan.launch.nproc, plan.launch.nodes],
        [word for word in plan.command if not word.startswith("/") and "=/" not in word],
        plan.resources.gpus,
    ]
    return sha256_text(json.dumps(parts, sort_keys=True, default=str))


def memory_correction(
    subject: Subject, formula_gib: float, seen: Sequence[Measurement], least: float = 1.0
) -> Correction | None:
    """What runs say of the formula's GPU memory for this plan; None: no run says anything of it.

    `least` is what this run itself was seen to need beyond the formula: it is never gone below.
    """
    same = [m for m in seen if m.key == subject.key and (m.peak_gib or m.least_gib)]
    if same and formula_gib > 0:
        return _as_measured(subject, formula_gib, same, least)
    found = _pooled(subject, seen, lambda m: _ratio(m.peak_gib, m.predicted_gib), MOST, any_gpu=True)
    bound = _not_below(subject, seen)
    if found is None and bound is None:
        return None
    if bound is not None and (found is None or bound.ratio > found.ratio):
        found = bound
    if found is None or found.ratio >= least or least <= 1:
        return found
    return found._replace(ratio=least)


def speed_correction(subject: Subject, seen: Sequence[Measurement]) -> Correction | None:
    """What runs on the plan's GPU type say of the formula's time of a step; None: no run says anything of it."""
    return _pooled(
        subject,
        [m for m in seen if m.gpu == subject.gpu],
        lambda m: _ratio(m.step_s, m.predicted_step_s),
        MOST_SPEED,
        any_gpu=False,
    )


def _as_measured(subject: Subject, formula_gib: float, same: Sequence[Measurement], least: float) -> Correction:
    """This very plan has run: the most that it was seen to need."""
    most = max(same, key=lambda m: max(m.peak_gib or 0.0, (m.least_gib or 0.0) * _HAIR))
    gib = max(most.peak_gib or 0.0, (most.least_gib or 0.0) * _HAIR)
    text = f"measured: {_told(most, subject)}"
    return Correction(max(gib / formula_gib, least if least > 1 else 0.0), text, most.run_id, exact=True)


def _pooled(
    subject: Subject,
    seen: Iterable[Measurement],
    ratio: Callable[[Measurement], float | None],
    most: float,
    *,
    any_gpu: bool,
) -> Correction | None:
    """The median ratio of the runs, weighed by closeness; those of other models only where there is none of this."""
    known = [(m, r) for m in seen if m.method == subject.method and (r := ratio(m)) is not None]
    mine = [_Seen(m, r, closeness(subject, m, any_gpu=any_gpu)) for m, r in known if _same_model(subject, m)]
    if mine:
        whose, found = "of this model and method", _median(mine)
        drawn = found.ratio
    else:
        alike = [_Seen(m, r, closeness(subject, m, any_gpu=any_gpu)) for m, r in known if m.family == subject.family]
        if not alike or not subject.family:
            return None
        mine, whose, found = alike, f"of other {subject.family} models under this method", _median(alike)
        runs = len({s.measurement.run_id for s in alike})
        drawn = math.exp(math.log(found.ratio) * runs / (runs + _DRAWN))
    held = min(max(drawn, 1 / most), most)
    nearest = max(mine, key=lambda s: (s.weight, s.measurement.at)).measurement
    runs = len({s.measurement.run_id for s in mine})
    count = f"{runs} run{'' if runs == 1 else 's'} {whose}"
    beyond = f" (they say {drawn:.2f} times: more than {most:g} times is not believed)" if held != drawn else ""
    text = f"taken {held:.2f} times, by {count}{beyond}; measured: {_told(nearest, subject)}"
    return Correction(held, text, nearest.run_id)


def _not_below(subject: Subject, seen: Sequence[Measurement]) -> Correction | None:
    """The largest ratio that out-of-memory errors of runs of this model and method say is too little."""
    found = [
        (r * _HAIR, m)
        for m in seen
        if m.method == subject.method
        and _same_model(subject, m)
        and closeness(subject, m, any_gpu=True) >= _NEAR
        and (r := _ratio(m.least_gib, m.predicted_gib)) is not None
    ]
    if not found:
        return None
    ratio, most = max(found, key=lambda one: one[0])
    if ratio <= 1:
        return None  # the formula says so already
    held = min(ratio, MOST)
    beyond = f" (it says {ratio:.2f} times: more than {MOST:g} times is not believed)" if held != ratio else ""
    return Correction(held, f"taken {held:.2f} times{beyond}; measured: {_told(most, subject)}", most.run_id)


def with_measured(parts: Sequence[MemoryPart], ratio: float, run_id: str) -> tuple[MemoryPart, ...]:
    """The parts of the formula that add up to `ratio` times their sum: what is more is a part of its own."""
    if ratio <= 1:
        return tuple(p.model_copy(update={"gib": p.gib * ratio}) for p in parts)
    more = (ratio - 1) * sum(p.gib for p in parts)
    return (*parts, MemoryPart(name=f"measured beyond the formula (run {run_id[:8]})", gib=round(more, 4)))


def closeness(subject: Subject, other: Measurement, *, any_gpu: bool) -> float:
    """How much a run says of the plan, from 1 (the same in all that counts) towards 0."""
    weight = 1.0
    for mine, theirs in ((subject.micro_batch, other.micro_batch), (subject.max_len, other.max_len)):
        if mine and theirs:
            weight *= math.exp(-abs(math.log(mine / theirs)) / 2)
        elif mine != theirs:
            weight *= 0.7
    for differs, factor in (
        (bool(subject.grad_checkpointing) != bool(other.grad_checkpointing), 0.5),
        ((subject.gpus * subject.nodes, subject.parallel) != (other.gpus * other.nodes, other.parallel), 0.5),
        ((subject.precision, subject.quant_bits) != (other.precision, other.quant_bits), 0.3),
        (any_gpu and subject.gpu != other.gpu, 0.8),
    ):
        weight *= factor if differs else 1.0
    return weight


def _same_model(subject: Subject, other: Measurement) -> bool:
    """By its name, or by a shape that is the same to the last number: then it needs the same."""
    if subject.model and subject.model == other.model:
        return True
    return bool(subject.shape_digest) and subject.shape_digest == other.shape_digest


def _median(seen: Sequence[_Seen]) -> _Seen:
    """The weighted median by ratio; of an even split the larger, which is the safer."""
    ordered = sorted(seen, key=lambda s: -s.ratio)
    half, passed = sum(s.weight for s in ordered) / 2, 0.0
    for one in ordered:
        passed += one.weight
        if passed >= half:
            return one
    return ordered[-1]


def _ratio(measured: float | None, predicted: float | None) -> float | None:
    return measured / predicted if measured and predicted else None


def _told(m: Measurement, subject: Subject) -> str:
    """The run in words: what it needed, and what of it differs from the plan."""
    if m.kind == "out_of_memory":
        said = f"ran out of memory and needs more than {m.least_gib or 0:.1f} GiB"
    else:
        parts = [f"{m.peak_gib:.1f} GiB"] if m.peak_gib else []
        parts += [f"{m.step_s:.3g} s a step"] if m.step_s else []
        said = f"needed {' and '.join(parts)}"
    where = []
    for name, theirs, mine in (
        ("micro batch", m.micro_batch, subject.micro_batch),
        ("sequence length", m.max_len, subject.max_len),
        ("GPUs", m.gpus * m.nodes, subject.gpus * subject.nodes),
    ):
        if theirs and theirs != mine:
            where.append(f"{name} {theirs} (this plan: {mine or 'not said'})")
    if m.model and m.model != subject.model:
        where.append(m.model)
    at = f" at {', '.join(where)}" if where else ""
    return f"run {m.run_id[:8]} on {m.at:%Y-%m-%d} {said}{at}"
