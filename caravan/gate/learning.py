"""Checks of how the training went: did it learn at all, did it learn too long, are its figures numbers."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from typing import Final

from caravan.gate.courses import (
    MEDIAN_COST,
    STEPS,
    Course,
    Point,
    above,
    begins_late,
    course,
    first_window,
    noise,
    smooth,
    told,
)
from caravan.gate.known import Known, check, finite
from caravan.gate.naming import counts, essence, is_loss, measures, of_training
from caravan.values.evaluation import CheckKind, GateCheck, GateVerdict
from caravan.values.metric_names import held_out

_SURE: Final = 2.0  # standard errors
_LEAST: Final = 6  # values by which a course can be judged at all
_ENOUGH: Final = 30  # values by which it can be told that it learnt nothing
_FIRST: Final = 5  # values of the shortest beginning that is looked at: a fine-tune learns most in its first steps
_FEW_TIMES: Final = 3.0  # times that share, where too few values are known for their noise to be told
_ROSE: Final = 0.2  # share by which a training loss must have risen to be called diverged
_FAR: Final = 3.0  # times its first value, from which on a loss is far above it, however few values are known
_BY: Final = 0.1  # share by which another figure must have got better to speak for a training whose loss did not
_DIVERGED: Final = ": the training diverged"
_KEPT: Final = 0.25
"""Of what was gained on the examples that were learned, so much must hold on others; else a person looks."""


def finite_figures(known: Known) -> GateCheck:
    """No loss that ended as no number, and no output that is none.

    A held-out loss that never was a number tells nothing where the training's own ended as one: programs log such
    where there is no held-out data. Where the loss as a whole is a number, a part of it that is none is for a person.
    """
    losses = {n: value for n, value in known.logged.items() if "loss" in n.lower() and measures(n)}
    own = any(math.isfinite(value) for name, value in losses.items() if not held_out(name))
    ever = {name for row in known.rows for name, value in row.items() if math.isfinite(value)}
    lost = [n for n, v in losses.items() if not math.isfinite(v) and (n in ever or not held_out(n) or not own)]
    kind = CheckKind.FINITE
    whole = any(math.isfinite(value) for name, value in losses.items() if of_training(name))
    worst = next((name for name in lost if is_loss(name) or not whole), "")
    if worst:
        text = f"the last {worst} is {losses[worst]}: the training diverged"
        return check(kind, GateVerdict.FAIL, text, metric=worst)
    sides = known.held_out
    bad = [name for name, value in sides.tuned.items() if not math.isfinite(value)]
    if bad and finite(sides.base.get(bad[0])):
        text = f"held-out {bad[0]} of the tuned model is {sides.tuned[bad[0]]}: the training diverged"
        return check(kind, GateVerdict.FAIL, text, metric=bad[0], base=sides.base.get(bad[0]))
    share = known.result.collapse.get("non_finite", 0.0) if known.result else 0.0
    if not share <= 0:  # also where it is no number itself
        text = f"{share:.0%} of the model's outputs are no numbers: the training diverged"
        return check(kind, GateVerdict.FAIL, text, metric="non_finite", value=share, limit=0.0)
    if lost:
        text = f"the last {lost[0]} is {losses[lost[0]]}, though the loss as a whole is a number"
        return check(kind, GateVerdict.LOOK, text, metric=lost[0])
    if bad:
        text = f"held-out {bad[0]} is no number, and was none of the base model either"
        return check(kind, GateVerdict.LOOK, text, metric=bad[0])
    odd = next((n for n, value in known.own.items() if not math.isfinite(value) and measures(n)), None)
    if odd is not None:
        return check(kind, GateVerdict.LOOK, f"{odd}, as the evaluation printed it, is no number", metric=odd)
    if not losses and not sides.tuned:
        return check(kind, GateVerdict.UNKNOWN, "no loss is known")
    return check(kind, GateVerdict.PASS, "all losses are numbers")


def learnt(known: Known) -> GateCheck:
    """The loss on what is learned from must have fallen by `evaluation.underfit`, a share of where it began.

    Where an evaluation measured base and tuned model on the same learned examples, that decides: it is paired and has
    no noise of batches. Else the log does. What has become better on held-out data has learnt, whatever a loss says.
    """
    measured = _measured(known)
    found = measured if measured is not None else _logged(known)
    if found.verdict not in (GateVerdict.FAIL, GateVerdict.LOOK) or not _better(known):
        return found
    milder = GateVerdict.LOOK if found.verdict is GateVerdict.FAIL else GateVerdict.PASS
    text = f"{found.text}, though it is better on held-out data"
    return found.model_copy(update={"verdict": milder, "text": text})


def _measured(known: Known) -> GateCheck | None:
    """By the losses of base and tuned model on examples that were learned from; None where they were not measured."""
    name = next((one for one in known.learnt.tuned if is_loss(one)), None)
    was, now = (side.get(name or "") for side in (known.learnt.base, known.learnt.tuned))
    if name is None or was is None or now is None or not finite(was) or not finite(now):
        return None
    limit = was - known.plan.evaluation.underfit * abs(was)
    text = f"the loss on what was learned fell from the base model's {told(was)} to {told(now)}"
    if now > limit:
        text = f"the loss on what was learned is {told(now)} after the training, it was {told(was)} before: underfit"
    if now > was + _ROSE * abs(was):
        text = f"{name} rose from {told(was)} to {told(now)} on what was learned: the training diverged"
    verdict = GateVerdict.FAIL if now > limit else GateVerdict.PASS
    return check(CheckKind.LEARNT, verdict, text, metric=name, value=now, base=was, limit=limit)


def _logged(known: Known) -> GateCheck:
    """By the training's own loss: levels (medians) of its first and last parts, held against the noise of both.

    It has fallen where some beginning (5 values, a tenth, a third) lies above the end by the share that is asked for
    and by two standard errors. It has not where none of these, nor the first value or two, speaks for it by one, and
    the thirds are so well known that they would show it. Between the two nothing can be told from noise; neither can it
    from fewer than 30 values: all may have been learned before the first was logged.
    """
    name, points = known.learning
    kind = CheckKind.LEARNT
    if known.by_rewards:
        return check(kind, GateVerdict.UNKNOWN, "trained by rewards: its loss need not fall", metric=name)
    late = begins_late(points) if known.whole is None else not known.whole
    if late and len(points) >= _LEAST:
        text = f"{name} is known from a later part of the training only: where it began is not known"
        return check(kind, GateVerdict.UNKNOWN, text, metric=name, value=points[-1].value)
    values = [point.value for point in points]
    found = None if late else _never_below(name, points)
    if found is None and len(points) < _LEAST:
        text = f"{len(points)} values of {name or 'a training loss'} were logged: too few to judge by"
        return check(kind, GateVerdict.UNKNOWN, text, metric=name)
    found = found or _fallen(name, values, known.plan.evaluation.underfit)
    other = _got_better(known, name) if found.verdict is GateVerdict.FAIL else ""
    if not other:
        return found
    text = f"{found.text.removesuffix(_DIVERGED)}, though {other} got better"
    return found.model_copy(update={"verdict": GateVerdict.LOOK, "text": text})


def _never_below(name: str, points: Course) -> GateCheck | None:
    """A loss whose every later value lies above its first: a rate that is far too high throws a model off within its
    first steps, and what follows may even fall again without ever coming back. None where that is not so.

    It diverged where its end lies above the first value by a fifth and by four standard errors; the noise is that of
    the logarithms, since a loss that blew up is noisy in proportion to itself. It also did where every later value is
    above three times the first, or where the end is and too few values are known for their noise to be told. A person
    looks at few values that never got below the first, and where only the noise of the first may explain it: it may be
    of one batch where the later ones are means of many.
    """
    values = [point.value for point in points]
    if len(values) < 2 or values[0] <= 0 or min(values[1:]) <= values[0]:
        return None
    first, later = values[0], values[1:]
    end = later[-max(1, len(later) // 3) :]
    level = median(end)
    told_of = partial(check, CheckKind.LEARNT, metric=name, value=level, base=first, limit=first)
    spread, window = noise([math.log(value) for value in later]), first_window(points)
    even, own = (spread * math.sqrt(times + MEDIAN_COST**2 / len(end)) for times in (1.0, window))
    rise = math.log(level / first)
    enough = len(values) >= _LEAST and level > (1 + _ROSE) * first
    far = min(later) > _FAR * first or (len(values) < _LEAST and level > _FAR * first)
    if far or (enough and rise > 2 * _SURE * own):
        return told_of(GateVerdict.FAIL, f"{name} rose from {told(first)} to {told(level)}{_DIVERGED}")
    if len(values) < _LEAST or (enough and rise > 2 * _SURE * even):
        text = f"{name} went from {told(first)} to {told(values[-1])} and never got below where it began"
        return told_of(GateVerdict.LOOK, text)
    return None


def _fallen(name: str, values: Sequence[float], share: float) -> GateCheck:
    count, spread = len(values), noise(values)
    sizes = sorted({min(_FIRST, count // 2), max(1, count // 10), count // 3})
    parts = [_Part(values, size, max(size, count // 10), spread) for size in sizes]
    first = max(parts, key=lambda part: part.fall - _SURE * part.error)
    third = parts[-1]
    level = max(abs(first.begin), 1e-9)
    text = f"{name} went from {told(first.begin)} to {told(first.end)}"
    limit = first.begin - share * level
    told_of = partial(check, CheckKind.LEARNT, metric=name, value=first.end, base=first.begin, limit=limit)
    if first.fall >= max(share * level, _SURE * first.error):
        return told_of(GateVerdict.PASS, text)
    low = min(parts, key=lambda part: part.begin)
    least = max(_ROSE * abs(low.begin), (_SURE if count >= _ENOUGH else 2 * _SURE) * low.error)
    # A training that blew up is noisy at its end alone; its ranks say what its standard error hides.
    ranked = count >= _ENOUGH and -low.fall > _ROSE * abs(low.begin) and above(low.last, low.first) > _SURE
    if (-low.fall > least or ranked) and -third.fall > 0:
        text = f"{name} rose from {told(low.begin)} to {told(low.end)}{_DIVERGED}"
        return told_of(GateVerdict.FAIL, text)
    first_ones = [_Part(values, size, max(1, count // 10), spread) for size in (1, 2)]
    speaks = any(part.fall - part.error > share * level for part in (*parts, *first_ones))
    if count >= _ENOUGH and not speaks and third.fall + _SURE * third.error < share * level:
        return told_of(GateVerdict.FAIL, f"{text}: underfit")
    return told_of(GateVerdict.LOOK, f"{text}: that can't be told from its noise")


class _Part:
    """A beginning of `size` values against an end of `last`: their medians, the fall between, its standard error."""

    def __init__(self, values: Sequence[float], size: int, last: int, spread: float) -> None:
        self.first, self.last = values[:size], values[-last:]
        self.begin, self.end = median(self.first), median(self.last)
        self.fall = self.begin - self.end
        self.error = MEDIAN_COST * spread * math.sqrt(1 / size + 1 / last)


def _got_better(known: Known, loss: str) -> str:
    """Another figure of the training itself that got better for sure, by a tenth and twice the noise of a median: the
    score of a game, the part of a loss whose other part is weighted up on the way (a VAE's KL divergence). A loss that
    rises beside it may do so by design. Empty where there is none.
    """
    for name in known.logged:
        way = known.direction(name)
        if way is None or held_out(name) or counts(name) or essence(name) in (essence(loss), "perplexity"):
            continue
        values = [point.value if way == "min" else -point.value for point in course(known.rows, name)]
        if len(values) < _LEAST:
            continue
        size = max(2, len(values) // 5)
        part = _Part(values, size, size, noise(values))
        if part.fall > _BY * abs(part.begin) and part.fall > _SURE * part.error:
            return name
    return ""


def _better(known: Known) -> bool:
    """Whether held-out data says that something was learnt: measured against the base, or logged."""
    share = known.plan.evaluation.underfit
    value, was = known.held_out.tuned.get(known.metric), known.held_out.base.get(known.metric)
    way = known.direction(known.metric) if known.metric else None
    if value is not None and was is not None and way is not None and finite(value) and finite(was):
        return (was - value if way == "min" else value - was) > share * abs(was)
    for name, points in known.apart.items():
        sign = 1 if known.direction(name) == "min" else -1
        values = smooth([sign * p.value for p in points])
        gained = values[0] - values[-1] if len(values) > 1 else 0.0
        least = share * abs(values[0]) if len(values) > 3 else _FEW_TIMES * share * abs(values[0])
        if gained > least + _SURE * noise([point.value for point in points]):
            return True
    return False


def overfit(known: Known) -> Iterator[GateCheck]:
    """Held-out loss past its best, and learned by heart what does not hold on other data."""
    yield from _past_best(known)
    yield from _gap(known)


def _past_best(known: Known) -> Iterator[GateCheck]:
    """The last held-out loss may lie above the lowest so far by `evaluation.overfit`, a share of the lowest (the
    criterion "generalization loss" of L. Prechelt, Early Stopping - But When?, 1998), and by the noise of both.

    Where the lowest is that of the base (step 0), the tuned model is worse than it. From eight values on both are
    medians of three neighbours, since a lowest value of many is low by chance. It is for a person to look at where the
    model that was kept measures as good as the best, or where another held-out figure, by which it is judged, is at its
    best at the end: a classifier's loss may rise while its answers get better.
    """
    name, points = next(iter(known.apart.items()), ("", ()))
    if len(points) < 2:
        return
    sign = 1 if known.direction(name) == "min" else -1
    raw = [sign * point.value for point in points]
    even = smooth(raw)
    at = min(range(len(even)), key=even.__getitem__)
    best, last = even[at], even[-1]
    limit = best + known.plan.evaluation.overfit * abs(best) + _SURE * noise(raw)
    told_of = partial(check, CheckKind.OVERFIT, metric=name, value=sign * last, base=sign * best, limit=sign * limit)
    if last <= limit:
        text = f"{name} is {told(sign * last)} at the end, {told(sign * best)} at its best"
        yield told_of(GateVerdict.PASS, text)
        return
    excuse = _excuse(known, name, limit * sign, sign)
    if _before(known, name, points[at]) and not known.held_out.base:
        text = (
            f"{name} went from {told(sign * best)} before the training to {told(sign * last)}: the tuned model is worse"
        )
        found = told_of(GateVerdict.FAIL, text)
        if excuse:
            found = told_of(GateVerdict.LOOK, f"{text}, though {excuse}")
        yield found.model_copy(update={"kind": CheckKind.BASE})
        return
    place, whole = points[at].place, points[-1].place.partition(" ")[2]
    where = f" at {place} of {whole}" if place and whole else f" at evaluation {at + 1} of {len(points)}"
    went = "rose" if sign == 1 else "fell"
    text = f"{name} {went} from its best of {told(sign * best)}{where} to {told(sign * last)}: overfit"
    if excuse:
        yield told_of(GateVerdict.LOOK, f"{text}, though {excuse}")
    else:
        yield told_of(GateVerdict.FAIL, text)


def _before(known: Known, name: str, best: Point) -> bool:
    """Whether the best was measured before the training: its own row says step 0; or epoch 0, and a loss of the
    training was logged behind it and none before or with it. The first epoch of many loops is the 0th, and is over by
    then.
    """
    if 0 not in (best.step, best.epoch):
        return False
    learning, first = known.learning[0], next((n for n, row in enumerate(known.rows) if name in row), None)
    if first is None or known.rows[first][name] != best.value:
        return False
    row = known.rows[first]
    if best.step == 0 and any(row.get(one) == 0 for one in STEPS):
        return True
    here = next((n for n, one in enumerate(known.rows) if learning and learning in one), None)
    return best.epoch == 0 and here is not None and here > first


def _excuse(known: Known, name: str, limit: float, sign: int) -> str:
    """Why a held-out loss past its best need not mean that the model is; empty where nothing speaks for it."""
    kept = next((v for n, v in known.held_out.tuned.items() if essence(n) == essence(name)), None)
    if kept is not None and finite(kept) and sign * kept <= sign * limit:
        return f"the model that was kept has {told(kept)}"
    for other, points in known.apart.items():
        way = known.direction(other)
        values = smooth([point.value if way == "min" else -point.value for point in points])
        if essence(other) == essence(name) or essence(other) == "perplexity" or len(values) < 2 or way is None:
            continue
        best = min(values)
        if abs(values[-1] - best) <= 0.01 * abs(best):
            return f"{other} is at its best at the end"
    return ""


def _gap(known: Known) -> Iterator[GateCheck]:
    """How far held-out loss lies above that on what was learned, beyond the base model's own such gap: what was learned
    by heart. With a gap beyond `evaluation.overfit` of the base's held-out loss, a model that is no better on held-out
    data is overfit; one that holds there less than a quarter of what it gained is for a person to look at.
    """
    sides = (known.held_out.tuned, known.learnt.tuned, known.held_out.base, known.learnt.base)
    name = next((one for one in known.held_out.tuned if is_loss(one)), "")
    found = [side.get(name) for side in sides]
    if any(not finite(value) for value in found):
        return
    apart, own, apart_before, own_before = (float(value or 0.0) for value in found)
    excess = (apart - own) - (apart_before - own_before)
    limit = known.plan.evaluation.overfit * abs(apart_before)
    gained, held = own_before - own, apart_before - apart
    text = (
        f"{name} fell by {told(gained)} on what was learned and {'fell' if held > 0 else 'rose'} by {told(abs(held))} "
        "on held-out data"
    )
    verdict = GateVerdict.PASS
    if excess > limit and gained > 0 and held <= 0:
        verdict, text = GateVerdict.FAIL, f"{text}: overfit"
    elif excess > limit and held < _KEPT * gained:
        verdict, text = GateVerdict.LOOK, f"{text}: much of it was learned by heart"
    elif gained <= 0:
        text = f"{name} did not fall on what was learned"
    yield check(CheckKind.OVERFIT, verdict, text, metric=name, value=excess, limit=limit)
