"""Against a model that came out of its training and is not good enough: how long, how fast and how much is learned.

What changes here starts the training anew: no checkpoint of the old one is gone on from (`caravan.planning.resume`).
"""

from collections.abc import Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.diagnosis.ladders.numbers import number_of, rate_of, smaller_rate, usual_rate
from caravan.values.base import Json
from caravan.values.failure import Repair

_LONGER: Final = 2.0
_FASTER: Final = 3.0
_FAST: Final = 10.0  # times the usual rate: no training is tried at a higher one
_SLOW: Final = 0.1  # of the usual rate: below that it is the first suspect
_RANKS: Final = (4, 256)
_NORM: Final = 1.0
_WARM_UP: Final = 0.05
_ADAPTERS: Final = ("lora", "qlora", "dora")
_DECAY: Final = 0.1
_DROPOUT: Final = 0.1


def underfit(case: Case) -> Iterator[Repair]:
    """Twice the epochs or steps, then three times the learning rate, then an adapter of twice the rank; a rate far
    below the usual one is raised first."""
    longer, faster = list(_longer(case)), list(_faster(case))
    _, now = rate_of(case)
    slow = 0 < now < _SLOW * usual_rate(case)
    yield from (*faster, *longer) if slow or _was_mended(case) else (*longer, *faster)
    yield from _rank(case, _LONGER, "learns more")


def overfit(case: Case) -> Iterator[Repair]:
    """Fewer epochs or steps, down to where held-out loss was best; then a lower learning rate, a smaller adapter, more
    decay and dropout."""
    shorter, slower = list(_shorter(case, _best(case))), list(_slower(case))
    yield from (*slower, *shorter) if _was_mended(case) else (*shorter, *slower)
    yield from _rank(case, 0.5, "learns less by heart")
    yield from _regular(case)


def worse(case: Case) -> Iterator[Repair]:
    """A lower learning rate, then half the epochs or steps, then an adapter in place of all weights."""
    yield from _slower(case)
    yield from _shorter(case, 0.5)
    yield from _adapter(case)


def regressed(case: Case) -> Iterator[Repair]:
    """A lower learning rate, then an adapter in place of all weights, then half the epochs or steps."""
    yield from _slower(case)
    yield from _adapter(case)
    yield from _shorter(case, 0.5)


def collapsed(case: Case) -> Iterator[Repair]:
    """A lower learning rate with clipped gradients, then a warm-up."""
    norm = case.plan.training.max_grad_norm
    values = smaller_rate(case, *rate_of(case))
    if norm is None or norm > _NORM:
        values |= case.heard({"training.max_grad_norm": _NORM})
    yield from case.change(values, "smaller steps: the model came to one answer for everything")
    warm = {} if case.plan.training.warmup else case.heard({"training.warmup": _WARM_UP})
    option = case.profile.option("warmup_ratio", "warmup_proportion", "warmup_fraction")
    if not case.plan.training.warmup and option is not None and option.default in (None, 0, 0.0):
        warm = case.heard({f"training.options.{option.flag}": _WARM_UP})
    yield from case.change(warm, f"a warm-up over {_WARM_UP:.0%} of the steps")


def missed(case: Case) -> Iterator[Repair]:
    """Twice the epochs or steps, where the metric was still getting better at the end; else a person decides."""
    if case.detail("still"):
        yield from _longer(case)


def _was_mended(case: Case) -> bool:
    return any(case.mended(path) for path in ("training.epochs", "training.max_steps"))


def _length(case: Case) -> tuple[str, float]:
    """The field that says how long it trains, and its value: steps where they are given, which then count alone."""
    for path in ("training.max_steps", "training.epochs"):
        option = case.shadow(path)
        where = f"training.options.{option}" if option else path
        taker = case.taker(path)
        value = number_of(case.plan.get(where)) or number_of(taker.default if taker is not None else None)
        if value:
            return where, value
    return "training.epochs", 0.0


def _as_told(case: Case, path: str, value: float) -> Json:
    """A length as the program takes it: whole where it has only whole ones."""
    taker = case.taker(path)
    whole = path.endswith("steps") or value >= 1 or (taker is not None and taker.type == "int")
    return max(1, round(value)) if whole else float(f"{value:.3g}")


def _longer(case: Case) -> Iterator[Repair]:
    path, now = _length(case)
    value = _as_told(case, path, _LONGER * now) if now else None
    if value is not None:
        yield from case.change(
            case.heard({path: value}), f"{_named(path)} {value} instead of {now:g}: it learns longer"
        )


def _shorter(case: Case, share: float) -> Iterator[Repair]:
    """That share of the epochs or steps."""
    path, now = _length(case)
    value = _as_told(case, path, share * now) if now else None
    if isinstance(value, int | float) and 0 < value < now:
        unit, best = case.detail("unit"), case.detail("best")
        why = f"held-out loss was best at {unit} {best}" if unit and best else "it learns less by heart"
        yield from case.change(case.heard({path: value}), f"{_named(path)} {value} instead of {now:g}: {why}")


def _best(case: Case) -> float:
    """The share of the training after which held-out loss was best; half where that is not known."""
    best, whole = case.number("best"), case.number("of")
    return best / whole if best and whole and best < whole else 0.5


def _named(path: str) -> str:
    return "steps" if path.endswith("steps") else "epochs" if path.startswith("training.epochs") else path


def _slower(case: Case) -> Iterator[Repair]:
    values = smaller_rate(case, *rate_of(case))
    path, now = rate_of(case)
    yield from case.change(values, f"lr {values.get(path)} instead of {now:g}: smaller steps keep more of the base")


def _faster(case: Case) -> Iterator[Repair]:
    path, now = rate_of(case)
    most = _FAST * usual_rate(case)
    rate = float(f"{min(now * _FASTER, most):.2g}")
    if 0 < now < _SLOW * usual_rate(case):
        rate = usual_rate(case)
    if 0 < now < rate:
        yield from case.change(case.heard({path: rate}), f"lr {rate:g} instead of {now:g}: it learns faster")


def _rank(case: Case, times: float, why: str) -> Iterator[Repair]:
    """An adapter of another rank, where one is trained."""
    training = case.plan.training
    taker = case.taker("training.lora_rank")
    given = training.lora_rank if training.lora_rank is not None else taker.default if taker is not None else None
    if not isinstance(given, int) or isinstance(given, bool) or (training.method or case.profile.method) == "full":
        return
    rank = min(_RANKS[1], max(_RANKS[0], round(given * times)))
    if (rank - given) * (times - 1) > 0:
        values = case.heard({"training.lora_rank": rank})
        yield from case.change(values, f"rank {rank} instead of {given}: the adapter {why}")


def _adapter(case: Case) -> Iterator[Repair]:
    """An adapter, where all weights are trained and the program can train one."""
    if (case.plan.training.method or case.profile.method or "full") in ("full", "sft", "finetune"):
        values = case.heard({"training.method": "lora"})
        yield from case.change(values, "an adapter instead of all weights: the base stays as it is")


def _regular(case: Case) -> Iterator[Repair]:
    """More of what keeps a model from learning by heart, where the program has an option for it."""
    values: dict[str, Json] = {}
    for value, *names in ((_DECAY, "weight_decay"), (_DROPOUT, "lora_dropout", "dropout")):
        option = case.profile.option(*(str(name) for name in names))
        if option is None:
            continue
        given = case.plan.training.options.get(option.flag, option.default)
        known = given if isinstance(given, int | float) else 0.0
        if known < value:
            values |= case.heard({f"training.options.{option.flag}": value})
    yield from case.change(values, "more decay and dropout, against learning by heart")
