"""The first steps of a job as the agent sees them: what they are held against, what they showed, what follows.

It reads the answer that the job leaves, which is the job's word and checked; it ends nothing and asks nobody.
"""

from collections.abc import Callable
from typing import Final

from caravan.agent.context import Context
from caravan.agent.logs import TERMINAL
from caravan.agent.resuming import left_of
from caravan.agent.state import RunState, Update
from caravan.diagnosis.sign import SMOKE_MEMORY, SMOKE_TIME
from caravan.planning.estimate import with_repository
from caravan.planning.smoke import Gate, by_measurement, needed_s, reduced, speed_key, steps_of
from caravan.values.amounts import duration
from caravan.values.base import Json
from caravan.values.errors import ClusterDenied, ClusterError
from caravan.values.estimate import Estimate, Measured
from caravan.values.failure import Evidence
from caravan.values.masking import mask
from caravan.values.plan import TrainingPlan
from caravan.values.run import (
    MOST_OF_NOTE,
    SMOKE_PATH,
    Deployment,
    Phase,
    RunEvent,
    SmokeResult,
    Snapshot,
    parse_smoke,
)

KIND: Final = "smoke"
"""Kind of the event that is stored of it."""

_EVERY_S: Final = (5.0, 60.0)
"""Seconds between two looks for the answer of a job that runs: the first time and at most; each time twice as long,
because a job whose environment is prepared for an hour is not asked a thousand times.
"""

_DDP_PART: Final = "gradients"
"""Part of the memory that each process holds a second time while it is exchanged with the others."""


def gate(plan: TrainingPlan, state: RunState, context: Context) -> Gate | None:
    """What the plan's first steps are held against; None where its speed was measured in this run already."""
    if state.measured is not None and state.measured.key == speed_key(plan):
        return None
    known = state.estimate or Estimate()
    parts = {part.name: part.gib for part in known.breakdown}
    return Gate(
        allowed_s=_allowed_s(plan, known, state, context),
        usd_per_hour=known.usd_per_hour,
        extra_gib=parts.get(_DDP_PART, 0.0) if reduced(plan) else 0.0,
        total_steps=steps_of(with_repository(plan, state.profile)),
        left=left_of(state, plan),
    )


def _allowed_s(plan: TrainingPlan, known: Estimate, state: RunState, context: Context) -> float | None:
    """Seconds that approving this job grants: its time limit, and what is left of the money at its price."""
    granted = state.envelope.cost_usd if state.envelope is not None else 0.0
    limit = state.request.budget_usd if state.request.budget_usd is not None else context.limits.soft_usd
    whole = state.spent_usd + known.cost_usd.high if known.cost_usd is not None else 0.0
    left = max(granted, limit, whole) - state.spent_usd
    bounds: list[float] = [] if plan.limits.max_run_s is None else [float(plan.limits.max_run_s)]
    if known.usd_per_hour:
        bounds.append(max(left, 0.0) / known.usd_per_hour * 3600)
    return min(bounds, default=None)


class FirstSteps:
    """Looks for the answer of one deployment's first steps; `found` is it, and `told` gets it, once it is there."""

    def __init__(
        self,
        context: Context,
        plan: TrainingPlan,
        deployment: Deployment,
        told: Callable[[SmokeResult], object] = bool,
    ) -> None:
        self._context, self._told = context, told
        self._deployment = deployment
        self._wanted = bool(plan.smoke.on)
        self._again = 0.0
        self._every = _EVERY_S[0]
        self.found: SmokeResult | None = self._stored() if self._wanted else None

    def _stored(self) -> SmokeResult | None:
        for event in self._context.store.events(self._deployment.run_id):
            if event.kind == KIND and event.data.get("attempt") == self._deployment.attempt:
                return SmokeResult.model_validate(event.data["result"])
        return None

    def look(self, snapshot: Snapshot) -> None:
        """Look for it, once in some seconds, and at the end; what is found is stored and said."""
        now = self._context.clock.monotonic()
        if not self._wanted or self.found is not None or snapshot.phase in (Phase.QUEUED, Phase.GONE):
            return
        if now < self._again and not any(a.client_status in TERMINAL for a in snapshot.allocations):
            return
        self._again, self._every = now + self._every, min(2 * self._every, _EVERY_S[1])
        for allocation in snapshot.allocations:
            if (found := self._read(allocation.id)) is not None:
                self._keep(found)
                return

    def _read(self, alloc_id: str) -> SmokeResult | None:
        try:
            data = self._context.cluster.read_file(alloc_id, SMOKE_PATH)
        except ClusterDenied:
            self._wanted = False  # its log says the same
            return None
        except ClusterError:  # not started, collected, not reached: the job goes on without us
            return None
        return parse_smoke(data) if data is not None else None

    def _keep(self, found: SmokeResult) -> None:
        context, deployment = self._context, self._deployment
        # Cut: a mask may be longer than what it stands for, and a state that can't be read again is a lost run.
        self.found = found = found.model_copy(update={"note": mask(found.note, context.secrets)[:MOST_OF_NOTE]})
        text = in_words(found)
        data: dict[str, Json] = {"attempt": deployment.attempt, "result": found.model_dump(mode="json")}
        context.store.add_event(deployment.run_id, RunEvent(at=context.clock.now(), kind=KIND, text=text, data=data))
        context.progress.note(f"First steps: {text}")
        self._told(found)


def measured(state: RunState, attempt: int, found: SmokeResult | None) -> Update:
    """What the run knows from now on: the measurement, the estimate by it, and by how much the formula was short."""
    if found is None or not tells(found):
        return {}
    plan, known = state.need_plan(), state.need_estimate()
    kept = Measured(key=speed_key(plan), attempt=attempt, smoke=found)
    update: Update = {"measured": kept, "estimate": by_measurement(known, found, max_run_s=plan.limits.max_run_s)}
    formula = known.formula_gib or known.gpu_memory_gib
    if found.peak_gpu_gib and formula and found.peak_gpu_gib > formula:
        update["memory_beyond"] = state.memory_beyond * found.peak_gpu_gib / formula
    return update


def tells(found: SmokeResult) -> bool:
    """Whether the first steps tell something of the training."""
    return found.steps > 0 and found.ended not in ("failed", "skipped", "unjudged")


def with_first_steps(evidence: Evidence, found: SmokeResult | None, usd_per_hour: float | None) -> Evidence:
    """The evidence with what the first steps said, where the job ended in or behind them."""
    if found is None:
        return evidence
    if found.ended == "failed":
        return evidence.model_copy(update={"phase": KIND})
    line = ""
    needed = needed_s(found)
    if found.verdict == "time" and needed is not None and found.projected_s is not None:
        allowed = duration(found.allowed_s) if found.allowed_s is not None else "less"
        line = f"{SMOKE_TIME} ({needed} s): {_priced(found.projected_s * found.left, usd_per_hour)}; {allowed}"
    elif found.verdict == "memory" and found.allocated_gib is not None and found.gpu_total_gib is not None:
        line = f"{SMOKE_MEMORY}: {found.allocated_gib + found.extra_gib:.2f} GiB of {found.gpu_total_gib:.2f} GiB"
    return evidence.model_copy(update={"phase": KIND, "events": (*evidence.events, line)}) if line else evidence


def in_words(found: SmokeResult) -> str:
    """The measurement as a line for a person."""
    if found.ended == "skipped":
        return f"not made; {found.note}"
    if found.ended == "failed":
        return f"the training failed in them, with exit code {found.exit_code}"
    said = [f"{found.steps} steps"]
    said += [f"{found.seconds_per_step:.3g} s/step"] if found.seconds_per_step is not None else []
    said += [f"peak {found.peak_gpu_gib:.1f} GiB"] if found.peak_gpu_gib is not None else []
    if found.projected_s is not None:
        cost = f", {found.usd:.2f} USD" if found.usd is not None else ""
        said.append(f"whole run about {duration(found.projected_s)}{cost}")
    said += [found.note] if found.note else []
    return "; ".join(said)


def _priced(seconds: float, usd_per_hour: float | None) -> str:
    cost = f" ({seconds * usd_per_hour / 3600:.2f} USD)" if usd_per_hour else ""
    return f"{duration(seconds)}{cost}"
