"""Checks by what an evaluation measured: against the target, the base, a guess, a fixed set; safety; did it run."""

import math
import re
from collections.abc import Iterator
from statistics import median
from typing import Final

from caravan.gate.courses import MEDIAN_COST, course, noise, told
from caravan.gate.known import Known, check, finite
from caravan.gate.naming import counts, essence, find, learnt
from caravan.values.evaluation import CheckKind, GateCheck, GateVerdict
from caravan.values.metric_names import held_out
from caravan.values.plan import Target

_SURE: Final = 2.0  # standard errors: one false alarm of 44 where nothing is wrong, of normal noise and on one side
_SPREAD: Final = 0.1
"""Standard deviation of the difference of two models' losses over examples, as a share of the loss. An assumption, and
needed only where no more than the mean of a loss is known: it makes a person look, it fails nothing."""
_PLAIN: Final = re.compile(r"[\w.:/-]{1,60}", re.ASCII)
_COURSE: Final = 6  # values of a course in which two levels can be told apart
_FEW: Final = 100  # held-out examples that are taken to be there where their number is not told
_AGREES: Final = 0.1
"""Cohen's kappa (J. Cohen, Educational and Psychological Measurement 20, 1960) below which a classifier guesses: half
of what Landis and Koch (Biometrics 33, 1977) call slight agreement."""


def ran(known: Known) -> GateCheck:
    """Whether the evaluation came to its end. That it did not is no fault of the model: a person looks."""
    result = known.result
    if result is not None and not result.error:
        return check(CheckKind.RAN, GateVerdict.PASS, "the evaluation came to its end")
    if result is not None:
        return check(CheckKind.RAN, GateVerdict.LOOK, f"the evaluation did not come to its end: {result.error}")
    if known.expected:
        return check(CheckKind.RAN, GateVerdict.LOOK, "the evaluation left no result")
    return check(CheckKind.RAN, GateVerdict.UNKNOWN, "nothing was evaluated after the training")


def target(known: Known) -> GateCheck | None:
    """The goal that a person set: reached as it is written, without an allowance. None where no goal was set.

    A goal that was never measured is not reached; where the evaluation that was to measure it did not run, a person
    looks.
    """
    goal = known.plan.target
    if goal is None or goal.goal is None:
        return None
    value = _aimed(known, goal)
    if value is None:
        tried = known.expected and (known.result is None or bool(known.result.error))
        text = f"{goal.metric} was never logged, so the target of {goal.goal:g} can't be judged"
        verdict = GateVerdict.LOOK if tried else GateVerdict.FAIL
        return check(CheckKind.TARGET, verdict, text, metric=goal.metric, limit=goal.goal)
    reached = value <= goal.goal if goal.direction == "min" else value >= goal.goal
    text = f"{goal.metric} is {value:g}, the target is {goal.goal:g}"
    if essence(goal.metric) in _SHARES and 0 < goal.goal <= 1 < value:  # 45 and 0.9: a percentage against a share
        text += ": one of them may be in per cent"
        return check(CheckKind.TARGET, GateVerdict.LOOK, text, metric=goal.metric, value=value, limit=goal.goal)
    verdict = GateVerdict.PASS if reached else GateVerdict.FAIL
    if not reached and _still_better(known, goal):
        text += ", and it was still getting better at the end"
    base = known.held_out.base.get(find(known.held_out.base, goal.metric) or "")
    return check(CheckKind.TARGET, verdict, text, metric=goal.metric, value=value, base=base, limit=goal.goal)


def _aimed(known: Known, goal: Target) -> float | None:
    """The target's figure: as a command of the user's printed it, as the evaluation measured the model that is kept,
    as the training logged it last. A training's own loss is none of a held-out set.
    """
    if (name := find(known.own, goal.metric)) is not None:
        return known.own[name]
    tuned = known.held_out.tuned
    if held_out(goal.metric) or goal.metric not in known.logged:
        name = find(tuned, goal.metric)
        if name is not None:
            return tuned[name]
    if goal.metric in known.logged:
        return known.logged[goal.metric]
    # `Acc` of a log with `Train Acc` and `Val Acc` is the one on held-out data.
    apart = [one for one in known.logged if held_out(one)]
    plain = [one for one in known.logged if not held_out(one)]
    unsided = [one for one in plain if not learnt(one)]
    tries = (apart,) if held_out(goal.metric) else (plain,) if learnt(goal.metric) else (unsided, apart, plain)
    name = next((name for names in tries if (name := find(names, goal.metric)) is not None), None)
    return known.logged[name] if name is not None else None


def _still_better(known: Known, goal: Target) -> bool:
    """Whether the logged course of the target's figure had its best values last: a longer training may reach it."""
    name = find(known.logged, goal.metric)
    values = [point.value for point in course(known.rows, name)] if name is not None else []
    if len(values) < _COURSE:
        return False
    sign = 1 if goal.direction == "min" else -1
    before, last = (median(sign * value for value in part) for part in (values[-6:-3], values[-3:]))
    return last < before - _SURE * MEDIAN_COST * noise(values) * math.sqrt(2 / 3)


def base(known: Known) -> Iterator[GateCheck]:
    """Better than the model that it began from, and of a classifier: better than guessing."""
    if known.metric:
        yield _against_base(known)
        yield from _against_guess(known)


def _against_base(known: Known) -> GateCheck:
    """The held-out figure must be better than the base's by `evaluation.better_by`. Worse by no more than two standard
    errors of the difference is for a person to look at: it may be chance.
    """
    name, sides = known.metric, known.held_out
    value, was, way = sides.tuned.get(name), sides.base.get(name), known.direction(name)
    kind = CheckKind.BASE
    if not finite(value) or value is None or way is None:
        text = f"held-out {name} is not known as a number, or it is not known whether less of it is better"
        return check(kind, GateVerdict.UNKNOWN, text, metric=name)
    if not finite(was) or was is None:
        text = f"held-out {name} is {told(value)}, and that of the base model was not measured"
        return check(kind, GateVerdict.UNKNOWN, text, metric=name, value=value)
    sign = 1 if way == "min" else -1
    limit = was - sign * known.plan.evaluation.better_by * abs(was)
    worse = sign * (value - limit)  # above nought: it misses the limit
    text = f"held-out {name} is {told(value)}, the base model's {told(was)}"
    if limit != was:
        text += f", and {told(limit)} was asked for"
    if worse < 0 or (worse == 0 and limit != was):
        return check(kind, GateVerdict.PASS, text, metric=name, value=value, base=was, limit=limit)
    if worse <= _SURE * _standard_error(name, value, was, sides.samples):
        text += ": no better, but the difference may be chance"
        return check(kind, GateVerdict.LOOK, text, metric=name, value=value, base=was, limit=limit)
    text += ": the tuned model is worse" if sign * (value - was) > 0 else ": the tuned model is not better by that"
    return check(kind, GateVerdict.FAIL, text, metric=name, value=value, base=was, limit=limit)


def _standard_error(name: str, value: float, was: float, samples: int | None) -> float:
    """Of the difference of two models' figures on the same examples: for a share at most that of two binomials, as if
    each had its own examples; else by the usual spread of a loss.
    """
    count = samples or _FEW
    if essence(name) in _SHARES and 0 <= value <= 1 and 0 <= was <= 1:
        return math.sqrt((value * (1 - value) + was * (1 - was)) / count)
    return _SPREAD * abs(was) / math.sqrt(count)


_SHARES: Final = (
    *("accuracy", "accuracy_norm", "f1", "macro_f1", "micro_f1", "recall", "precision", "exact_match", "em", "error"),
    *("win_rate", "success_rate", "pass_rate", "hit_rate", "error_rate"),
)


def _against_guess(known: Known) -> Iterator[GateCheck]:
    """A classifier's accuracy must be above that of who answers without a model (`majority`, `chance`). It guesses
    where it has less than a tenth of what there was to gain above that, and its number of examples can't tell the
    two apart.
    """
    sides = known.held_out
    name = find(sides.tuned, "accuracy")
    known_by = ("majority", "chance", name)
    guesses = [value for key, value in sides.guess.items() if key in known_by and finite(value) and 0 <= value < 1]
    value = sides.tuned.get(name) if name else None
    if not guesses or name is None or value is None or not 0 <= value <= 1:
        return
    guess = max(guesses)
    least = guess + _AGREES * (1 - guess)
    error = math.sqrt(value * (1 - value) / (sides.samples or _FEW))
    text = f"held-out {name} is {told(value)}, and who always guesses the same has {told(guess)}"
    verdict = GateVerdict.PASS
    if value + _SURE * error < least and value - _SURE * error <= guess:
        verdict, text = GateVerdict.FAIL, f"{text}: no better than guessing"
    elif value <= guess or value + _SURE * error < least:
        verdict, text = GateVerdict.LOOK, f"{text}: hardly better, if at all"
    yield check(CheckKind.BASE, verdict, text, metric=name, value=value, base=guess, limit=least)


def regression(known: Known) -> Iterator[GateCheck]:
    """Each figure of the fixed set may be worse than the base's by `evaluation.regression_drop`, a share of the base's.

    The set is the same each time and says of itself what may not get worse: no allowance for chance is made.
    """
    sides = known.fixed
    share = known.plan.evaluation.regression_drop
    kind = CheckKind.REGRESSION
    if sides is None:
        if known.plan.evaluation.regression and known.expected:
            yield check(kind, GateVerdict.LOOK, "the fixed set was not measured")
        return
    for name, value in sides.tuned.items():
        was, way = sides.base.get(name), known.direction(name)
        if counts(name) or way is None or was is None or not finite(was):
            continue
        sign = 1 if way == "min" else -1
        limit = was + sign * share * abs(was)
        text = f"{name} on the fixed set is {told(value)}, the base model's {told(was)}"
        verdict = GateVerdict.PASS
        if not finite(value) or sign * (value - limit) > 1e-9 * abs(limit):
            ids = known.result.regressed if known.result else ()
            verdict, text = GateVerdict.FAIL, f"{text}: it regressed{_some(ids)}"
        yield check(kind, verdict, text, metric=name, value=value, base=was, limit=limit)


def _some(ids: tuple[str, ...]) -> str:
    """Some of the ids, those that are names: a set is a person's or somebody's file, and may say anything."""
    plain = [one for one in ids if _PLAIN.fullmatch(one)][:5]
    return f" ({', '.join(plain)}{', …' if len(ids) > len(plain) else ''})" if plain else ""


def canary(known: Known) -> GateCheck | None:
    """At most `evaluation.canary_failures` of the canary prompts may be answered unsafely. That the base model does the
    same is said, and excuses nothing: it is the tuned model that will be asked.
    """
    found = known.result.canary if known.result else None
    asked = bool(known.plan.evaluation.canary)
    if found is None or not found.prompts:
        text = "the canary prompts were not answered"
        return check(CheckKind.CANARY, GateVerdict.LOOK, text) if asked and known.expected else None
    limit = known.plan.evaluation.canary_failures
    if max(len(found.failed), len(found.base_failed or ())) > found.prompts:
        text = f"the canary prompts that are said to have failed are more than the {found.prompts} that there were"
        return check(CheckKind.CANARY, GateVerdict.LOOK, text)
    value = len(found.failed) / found.prompts
    before = len(found.base_failed) / found.prompts if found.base_failed is not None else None
    text = f"{len(found.failed)} of {found.prompts} canary prompts are answered unsafely"
    if found.failed and found.base_failed is not None:
        text += f", by the base model {len(found.base_failed)}"
    verdict = GateVerdict.FAIL if value > limit else GateVerdict.PASS
    if verdict is GateVerdict.FAIL:
        text += _some(found.failed)
    return check(CheckKind.CANARY, verdict, text, metric="canary", value=value, base=before, limit=limit)
