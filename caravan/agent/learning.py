"""What a run was seen to need goes into the store, and what earlier runs left there into its estimates.

What follows from measurements is `caravan.planning.learned`'s and pure. An id is made of run, attempt and kind, so that
a node that runs twice stores each once.
"""

import math
import re
from typing import Final, Literal

from caravan.agent.context import Context
from caravan.agent.metrics import metric_rows
from caravan.agent.smoke import tells
from caravan.agent.state import RunState
from caravan.planning.estimate import with_repository
from caravan.planning.learned import Subject, subject_of
from caravan.planning.model_shape import shape_for
from caravan.values.measurement import Measurement
from caravan.values.plan import TrainingPlan
from caravan.values.run import Outcome, SmokeResult

Kind = Literal["first_steps", "run", "out_of_memory"]

_PEAK: Final = re.compile(r"(?=.*(?:peak|max))(?=.*(?:gpu|cuda|vram|device))(?=.*(?:mem|vram|alloc|reserv)).*", re.I)
_WORD: Final = re.compile(r"(?<![\w/-])[A-Za-z][\w./-]{0,40}")
_UNITS: Final = (("gib", 1.0), ("gb", 1e9 / (1 << 30)), ("mib", 1 / 1024), ("mb", 1e6 / (1 << 30)))
_STEPS: Final = re.compile(r"(?:train_)?steps_per_second")
"""Names of metrics that tell the peak of GPU memory with its unit, and the speed of a whole training."""


def learned(state: RunState, context: Context, plan: TrainingPlan) -> tuple[Measurement, ...]:
    """What earlier runs were seen to need that says something of such a plan; this run's own is known otherwise."""
    if plan.resources.gpus == 0:
        return ()
    full = with_repository(plan, state.profile)
    subject = subject_of(full, shape_for(full, state.profile).shape)
    if not subject.model and not subject.family:
        return ()
    found = context.store.measurements(model=subject.model, family=subject.family, method=subject.method)
    return tuple(m for m in found if m.run_id != state.run_id)


def subject_now(state: RunState) -> Subject | None:
    """By which measurements of the run's plan are known; None of a plan without GPUs, and before its estimate."""
    plan, estimate = state.plan, state.estimate
    if plan is None or estimate is None or not plan.resources.gpus:
        return None
    full = with_repository(plan, state.profile)
    return subject_of(full, estimate.shape or shape_for(full, state.profile).shape, estimate.gpu)


def keep_first_steps(state: RunState, context: Context, attempt: int, found: SmokeResult | None) -> None:
    """Store what the first steps of an attempt showed; nothing of those that showed nothing."""
    if found is None or not tells(found):
        return
    peak = None if found.peak_gpu_gib is None else found.peak_gpu_gib + found.extra_gib
    allocated = None if found.allocated_gib is None else found.allocated_gib + found.extra_gib
    _keep(state, context, attempt, "first_steps", peak, allocated, found.seconds_per_step)


def keep_run(state: RunState, context: Context, outcome: Outcome | None, log: str) -> None:
    """Store what a training that ended well has logged of its speed and of its peak; `log` is the log's end."""
    if outcome is None or not outcome.succeeded or not state.attempts:
        return
    names = tuple({w for w in _WORD.findall(log) if _PEAK.fullmatch(w)})
    rows = [pair for row in metric_rows(log.splitlines(), names=names) for pair in row.items()]
    rate = next((v for name, v in reversed(rows) if _STEPS.fullmatch(name) and 0 < v < math.inf), None)
    peaks = [(name.lower(), gib) for name, v in rows if (gib := _peak_gib(name, v)) is not None]
    allocated = max((gib for name, gib in peaks if "alloc" in name), default=None)
    logged = max((gib for name, gib in peaks if "alloc" not in name), default=allocated)
    # What the device itself was seen to hold goes before what the training says of it.
    held = max((gib for use in state.attempts[-1].uses if (gib := use.gpu_peak_gib)), default=logged)
    held = max((gib for gib in (held, allocated) if gib is not None), default=None)
    _keep(state, context, state.attempts[-1].number, "run", held, allocated, None if rate is None else 1 / rate)


def keep_out_of_memory(state: RunState, context: Context, beyond: float) -> None:
    """Store that the attempt ran out of GPU memory, and by what it needs more; `beyond`: times the formula's figure."""
    formula = _formula_gib(state)
    if formula is None or not state.attempts or beyond <= 1:
        return
    _keep(state, context, state.attempts[-1].number, "out_of_memory", None, None, None, least_gib=formula * beyond)


def _keep(
    state: RunState,
    context: Context,
    attempt: int,
    kind: Kind,
    peak_gib: float | None,
    allocated_gib: float | None,
    step_s: float | None,
    *,
    least_gib: float | None = None,
) -> None:
    estimate = state.estimate
    subject = subject_now(state)
    if estimate is None or subject is None or not (peak_gib or step_s or least_gib):
        return
    context.store.add_measurement(
        Measurement(
            **subject._asdict(),
            id=f"{state.run_id}/{attempt}/{kind}",
            run_id=state.run_id,
            attempt=attempt,
            at=context.clock.now(),
            kind=kind,
            predicted_gib=_formula_gib(state),
            peak_gib=peak_gib,
            allocated_gib=allocated_gib,
            least_gib=least_gib,
            predicted_step_s=estimate.step_s,
            step_s=step_s,
        )
    )


def _formula_gib(state: RunState) -> float | None:
    """The formula's figure, without what this run or others were seen to need."""
    known = state.estimate
    figure = None if known is None else known.formula_gib or known.gpu_memory_gib
    return None if not figure else figure / max(1.0, state.memory_beyond)


def _peak_gib(name: str, value: float) -> float | None:
    """A logged peak of GPU memory in GiB, where its name says that it is one and in which unit."""
    if not value > 0 or not _PEAK.fullmatch(name):
        return None
    words = re.split(r"[^a-z]+", name.lower())
    factor = next((factor for unit, factor in _UNITS if unit in words), None)
    gib = None if factor is None else value * factor
    return gib if gib is not None and gib < 1000 else None
