"""The chosen plan beside others that fit, as a table: what each costs in time, money and memory, and what it gives up.

Pure. The rows come from the chooser's grid; a person may take one, and nothing here is ever taken by itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from caravan.planning.batches import ACCUMULATION, MICRO
from caravan.planning.catalogue import USABLE_SHARE, matches_model
from caravan.planning.choose import Choice
from caravan.planning.grid import CHECKPOINTING, KEPT, MODEL, PRECISION, Ground, Point, fewer_counts, points
from caravan.planning.moves import adapters
from caravan.values.base import Json
from caravan.values.dialogue import PlanChoice
from caravan.values.estimate import Alternative
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan

ROWS: Final = 8
_TYPES: Final = 3
_FASTER: Final = 1.25  # times as fast is worth a row of its own, though it costs more
_METHOD: Final = "training.method"
_NEAREST: Final = 4
_FREED: Final = frozenset(
    {MICRO, ACCUMULATION, CHECKPOINTING, MODEL, "resources.gpu_memory_mib", "resources.gpus", "launch.nproc"}
)
_ADAPTED: Final = "adapters are trained instead of the whole model"
_QUANTISED: Final = "the base model is in 4 bits: a little of the quality"


def table(choice: Choice) -> tuple[Alternative, ...]:
    """The plan that was chosen first, then other GPU types, the fastest, other counts, smaller methods; or nothing.

    Every row fits with the margin unless it says otherwise. Where no plan fits, the nearest ones, which overrule what
    was set and say so.
    """
    best, ground = choice.best, choice.ground
    if ground is None:
        return ()
    if best is None:
        return tuple(_row(p, None, ground, loss=loss) for p, loss in _nearest(ground))[:ROWS]
    rows = [_row(best, best, ground, chosen=True)]
    seen = {_key(best)}
    for point, loss in _others(choice, best, ground):
        if _key(point) not in seen and len(rows) < ROWS:
            seen.add(_key(point))
            rows.append(_row(point, best, ground, loss=loss))
    return tuple(rows)


def as_choices(rows: Iterable[Alternative]) -> tuple[PlanChoice, ...]:
    """The rows that are not the plan itself, as a person may take them at the approval."""
    return tuple(PlanChoice(text=r.line(), changes=r.changes, cost_usd=r.cost_usd) for r in rows if not r.chosen)


def _nearest(ground: Ground) -> Iterator[tuple[Point, str]]:
    """What would fit were the fields free that no plan of the grid changes by itself, or were it another training."""
    free = _freed(ground)
    known = points(free)
    safe = [p for p in known if p.safe] or known  # else without a margin, which its row says
    found = sorted(safe, key=lambda p: (p.late(), len(_overruled(p, ground)), p.order()))
    seen: list[frozenset[str]] = []
    for point in found:
        fields = frozenset(point.values) - {PRECISION}
        if len(seen) < _NEAREST and not any(fields >= other for other in seen):
            seen.append(fields)
            told = [f"{path} = {_word(ground.plan.get(path))}" for path in _overruled(point, ground)]
            yield point, f"not as it was set: {', '.join(told)}" if told else ""
    for method, loss in _methods(ground):
        of = next((g for g in (ground, free) if (p := points(g, None, (method,))[:1]) and p[0].safe), None)
        if of is not None:
            yield points(of, None, (method,))[0], loss


def _freed(ground: Ground) -> Ground:
    """The same where a person may be asked: nobody's word stands for the batch, checkpointing and the GPUs."""
    plan, full = (_without(p) for p in (ground.plan, ground.full))
    return ground._replace(plan=plan, full=full)


def _word(value: object) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _without(plan: TrainingPlan) -> TrainingPlan:
    provenance = {path: origin for path, origin in plan.provenance.items() if path not in _FREED}
    return plan.model_copy(update={"provenance": provenance})


def _overruled(point: Point, ground: Ground) -> tuple[str, ...]:
    """The fields that somebody has set and that the point has otherwise."""
    changed = [path for path in point.values if ground.plan.set_by(path) in KEPT]
    wanted = ground.plan.resources.gpu_model
    if ground.plan.set_by(MODEL) in KEPT and wanted and not matches_model(wanted, point.offer.model):
        changed.append(MODEL)
    return tuple(changed)


def _others(choice: Choice, best: Point, ground: Ground) -> Iterator[tuple[Point, str]]:
    safe = [p for p in choice.found if p.safe == best.safe]
    types: dict[str, Point] = {}
    for point in safe:
        types.setdefault(point.offer.model, point)
    others = [p for model, p in types.items() if model != best.offer.model]
    yield from ((p, "") for p in others[:_TYPES])
    timed = [p for p in safe if p.time.step_s is not None]
    fastest = min(timed, key=lambda p: (p.time.step_s.likely if p.time.step_s else 0.0, p.order()), default=None)
    if fastest is not None and (_speed(fastest, best) or 0.0) > _FASTER:
        yield fastest, ""
    if ground.plan.set_by("resources.gpus") not in STANDING:
        for count in fewer_counts(ground):
            yield from ((p, "") for p in points(ground, (count,))[:1] if p.safe)
    for method, loss in _methods(ground):
        yield from ((p, loss) for p in points(ground, (ground.plan.resources.gpus,), (method,))[:1] if p.safe)


def _methods(ground: Ground) -> Iterator[tuple[Mapping[str, Json], str]]:
    """Adapters instead of the whole model, and on 4 bits, where the program has them and nobody set the method."""
    if any(ground.plan.set_by(p) in STANDING for p in (_METHOD, "training.quant_bits")):
        return
    for move in adapters(ground.full):
        four = move.values.get(_METHOD) == "qlora" or "training.quant_bits" in move.values
        whole = (ground.full.training.method or "full").lower() == "full"
        yield move.values, "; ".join(t for t in (_ADAPTED if whole else "", _QUANTISED if four else "") if t)


def _key(point: Point) -> tuple[str, str]:
    return point.offer.model, str(sorted(point.values.items()))


def _speed(point: Point, best: Point | None) -> float | None:
    """Times as fast as the other; None: not known."""
    if best is None or point.time.step_s is None or best.time.step_s is None:
        return None
    return best.time.step_s.likely / point.time.step_s.likely


def _ratio(point: Point, best: Point | None) -> float | None:
    """Times the other's cost; None: not known, or that one costs nothing."""
    if best is None or point.update_usd is None or not best.update_usd:
        return None
    return round(point.update_usd / best.update_usd, 3)


def _row(point: Point, best: Point | None, ground: Ground, *, loss: str = "", chosen: bool = False) -> Alternative:
    speed = _speed(point, best)
    notes = [] if point.safe else ["no margin: it may run out of memory"]
    if point.plan.resources.gpus > (best.plan if best else ground.plan).resources.gpus:
        notes.append("more GPUs at once")
    if point.late():
        notes.append("longer than the time limit")
    notes += _longer(point, best)
    changes = () if chosen else _changes(point, best, ground)
    return Alternative(
        text=_words(point),
        gpu=point.offer.model,
        gpus=point.plan.resources.gpus * point.plan.launch.nodes,
        gpu_memory_gib=round(point.gib, 2),
        gpu_memory_high_gib=round(point.high, 2),
        gpu_total_gib=round(point.size, 2),
        seconds=point.seconds,
        cost_usd=None if point.cost is None else round(point.cost.likely, 4),
        usd_per_hour=_hourly(point),
        speed=None if speed is None else round(speed, 3),
        cost_ratio=_ratio(point, best),
        gives_up="; ".join((*([loss] if loss else []), *notes)),
        chosen=chosen,
        changes=changes,
    )


def _longer(point: Point, best: Point | None) -> list[str]:
    """How many times as long the whole run takes, by the times that are shown; where they aren't known, a step."""
    if best is not None and point.seconds and best.seconds:
        ratio, of = point.seconds / best.seconds, ""
    else:
        speed = _speed(point, best)
        ratio, of = (1.0, "") if speed is None else (1 / speed, " a step")
    return [f"{ratio:.2g} times as long{of}"] if ratio > 1.05 else []


def _hourly(point: Point) -> float | None:
    price = point.offer.usd_per_hour
    return None if price is None else price * point.plan.resources.gpus * point.plan.launch.nodes


def _changes(point: Point, best: Point | None, ground: Ground) -> tuple[PlanChange, ...]:
    """What leads from the chosen plan to the row, as a person's own word."""
    values: dict[str, Json] = {}
    before = best.values if best is not None else {}
    for path in {**before, **point.values}:
        value = point.values.get(path, ground.full.get(path))
        if value != before.get(path, ground.full.get(path)):
            values[path] = value
    if best is None or point.offer.model != best.offer.model:
        values |= {MODEL: point.offer.model, "resources.gpu_prefer": []}
    need = point.high if point.safe else point.gib
    values["resources.gpu_memory_mib"] = min(round(need / USABLE_SHARE * 1024), round(point.size * 1024))
    why = f"instead: {_words(point)}"[:300]
    return tuple(PlanChange(path=p, value=v, by=Author.USER, why=why) for p, v in values.items())


def _words(point: Point) -> str:
    """The row in a few words: `2 x NVIDIA L4, micro batch 4 x 8, checkpointing`."""
    count = point.plan.resources.gpus * point.plan.launch.nodes
    training = point.plan.training
    parts = [f"{count} x {point.offer.model}"]
    if training.micro_batch is not None:
        parts.append(f"micro batch {training.micro_batch} x {training.grad_accum or 1}")
    parts += ["checkpointing"] if training.grad_checkpointing else []
    parts += [training.precision] if training.precision else []
    if _METHOD in point.values or "training.quant_bits" in point.values:
        parts.append(str(point.values.get(_METHOD, "4 bits")))
    if {"launch.args", "training.options"} & point.values.keys():
        parts.append("spread by FSDP")
    return ", ".join(parts)
