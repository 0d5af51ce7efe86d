"""Against losses and gradients that are no numbers any more."""

from collections.abc import Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case
from caravan.values.base import Json
from caravan.values.failure import Repair

_LEAST_RATE: Final = 1e-8  # below that nothing is learned any more
_ABSURD: Final = 10.0
"""Above this no optimiser learns: an exponent was mistyped, and a third of it is no better."""
USUAL: Final = {"lora": 2e-4, "qlora": 2e-4}
USUAL_ALL: Final = 2e-5
"""Where such a rate goes: what adapters and all weights are tuned with as a rule, and the training types' defaults."""
_NORM: Final = 1.0
_WARM_UP: Final = 0.05


def divergence(case: Case) -> Iterator[Repair]:
    """Steadier arithmetic where half precision overflows, then smaller steps with clipped gradients, then a warm-up."""
    steady, smaller = _precision(case), _smaller_steps(case)
    yield from case.change(steady, f"{''.join(map(str, steady.values()))} instead of fp16, which overflows")
    told = ", ".join(_told(case, path, value) for path, value in smaller.items())
    yield from case.change(smaller, told)
    yield from case.change(_warm_up(case), f"a warm-up over {_WARM_UP:.0%} of the steps")


def _warm_up(case: Case) -> dict[str, Json]:
    """A share of the steps at a growing rate, where the program has an option for that and does not warm up yet."""
    option = case.profile.option("warmup_ratio", "warmup_proportion", "warmup_fraction")
    if option is None or case.plan.training.warmup or option.default not in (None, 0, 0.0):
        return {}
    return case.heard({f"training.options.{option.flag}": _WARM_UP})


def _told(case: Case, path: str, value: Json) -> str:
    if path == "training.max_grad_norm":
        return f"gradients clipped at {value}"
    return f"lr {value:g} instead of {float(case.plan.get(path)):g}"


def _precision(case: Case) -> dict[str, Json]:
    """bf16 for fp16, where the GPUs can, else fp32. Nothing where the training is not in fp16."""
    if case.plan.training.precision != "fp16":
        return {}
    wider = {} if case.outlook.bf16(case.plan) is False else case.heard({"training.precision": "bf16"})
    return wider or case.heard({"training.precision": "fp32"})


def _smaller_steps(case: Case) -> dict[str, Json]:
    """A third of the learning rate, a tenth once that was not enough, a usual one for an absurd one; and clipping."""
    training = case.plan.training
    values: dict[str, Json] = {}
    values |= smaller_rate(case, *_given_rate(case))
    if training.max_grad_norm is None or training.max_grad_norm > _NORM:
        values |= case.heard({"training.max_grad_norm": _NORM})
    return values


def rate_of(case: Case) -> tuple[str, float]:
    """Where the learning rate stands and what it is; 0.0 where that is not known."""
    path, given = _given_rate(case)
    option = case.taker(path)
    return path, given or number_of(option.default if option is not None else None)


def _given_rate(case: Case) -> tuple[str, float]:
    """Where the learning rate stands and what the plan says of it; 0.0 where it says nothing."""
    option = case.shadow("training.lr")
    path = f"training.options.{option}" if option else "training.lr"
    return path, number_of(case.plan.get(path))


def number_of(value: Json) -> float:
    """A value as a finite number above zero, whatever was typed; else 0.0."""
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if 0 < number < float("inf") else 0.0


def usual_rate(case: Case) -> float:
    """What such a training is tuned with as a rule."""
    return USUAL.get(case.plan.training.method or case.profile.method or "", USUAL_ALL)


def smaller_rate(case: Case, path: str, now: float) -> dict[str, Json]:
    """A third of the learning rate, a tenth once that was not enough, a usual one for an absurd one."""
    rate = float(f"{now / (10 if case.mended(path) else 3):.2g}")
    rate = usual_rate(case) if now > _ABSURD else rate
    return case.heard({path: rate}) if rate >= _LEAST_RATE else {}
