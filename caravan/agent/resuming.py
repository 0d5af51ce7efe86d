"""Going on from a checkpoint as the agent sees it: what the job took up, what is left to do, when more is asked for.

The job chooses the checkpoint (`templates/resume.py`) and leaves a record, which is the job's word and checked here.
"""

import json
from typing import Final

from pydantic import ConfigDict, Field, ValidationError

from caravan.agent.context import Context
from caravan.agent.logs import TERMINAL
from caravan.agent.state import RunState
from caravan.diagnosis.sign import NOT_ENDED
from caravan.planning.resume import done_share, goes_on, incompatible
from caravan.values.base import Json, Value
from caravan.values.errors import ClusterError
from caravan.values.estimate import Estimate
from caravan.values.masking import mask
from caravan.values.plan import TrainingPlan
from caravan.values.run import Deployment, Outcome, OutcomeKind, Phase, RunEvent, Snapshot

RECORD: Final = "alloc/data/caravan-resume.json"
"""Where the job leaves what it took up, as the cluster's file calls name it."""

KIND: Final = "resumed"
"""Kind of the event that is stored of it."""

_EVERY_S: Final = 5.0
"""Seconds between two looks for the record of a job that runs."""


class Rejected(Value):
    """A checkpoint that was not taken, and why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(max_length=500)
    why: str = Field(default="", max_length=500)


class Record(Value):
    """What the job took up: the checkpoint's name below the output directory, None where it starts anew."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str | None = Field(default=None, max_length=500)
    step: int | None = Field(default=None, ge=0)
    anew_because: str = Field(default="", max_length=1000)
    rejected: tuple[Rejected, ...] = Field(default=(), max_length=100)

    def in_words(self) -> str:
        """A line for a person; empty for a first start, of which there is nothing to say."""
        refused = "; ".join(f"not {r.name}: {r.why}" for r in self.rejected[:3])
        if self.name:
            return f"resumed from {self.name}{f' ({refused})' if refused else ''}"
        why = "; ".join(text for text in (self.anew_because, refused) if text)
        return f"starts anew: {why}" if why else ""


def parse_record(data: bytes) -> Record | None:
    """The record, or None for what is none: the job may have written anything."""
    try:
        return Record.model_validate(json.loads(data))
    except (ValueError, RecursionError, ValidationError):
        return None


class TakenUp:
    """Looks for the record of each allocation of one deployment; what is found is stored and said once."""

    def __init__(self, context: Context, plan: TrainingPlan, deployment: Deployment) -> None:
        self._context = context
        self._deployment = deployment
        self._wanted = goes_on(plan)
        self._again = 0.0
        known = context.store.events(deployment.run_id) if self._wanted else ()
        self._seen = {str(event.data.get("alloc_id")) for event in known if event.kind == KIND}

    def look(self, snapshot: Snapshot) -> None:
        """Look for it, once in some seconds, and at the end."""
        now = self._context.clock.monotonic()
        unseen = [a for a in snapshot.allocations if a.id not in self._seen]
        if not self._wanted or not unseen or snapshot.phase in (Phase.QUEUED, Phase.GONE):
            return
        if now < self._again and not any(a.client_status in TERMINAL for a in unseen):
            return
        self._again = now + _EVERY_S
        for allocation in unseen:
            try:
                data = self._context.cluster.read_file(allocation.id, RECORD)
            except ClusterError:  # not started, collected, denied, not reached: the job goes on without us
                continue
            record = parse_record(data) if data is not None else None
            if record is not None:
                self._seen.add(allocation.id)
                self._keep(record, allocation.id)

    def _keep(self, record: Record, alloc_id: str) -> None:
        context, attempt = self._context, self._deployment.attempt
        words = mask(record.in_words(), context.secrets)
        if not words:
            return
        text = f"attempt {attempt} {words}"
        name = mask(record.name, context.secrets) if record.name else None
        data: dict[str, Json] = {"attempt": attempt, "alloc_id": alloc_id, "name": name, "step": record.step}
        context.store.add_event(
            self._deployment.run_id, RunEvent(at=context.clock.now(), kind=KIND, text=text, data=data)
        )
        context.progress.note(f"{text[0].upper()}{text[1:]}")


def told_of(run_id: str, attempt: int, context: Context) -> str:
    """What the attempt went on from, or why it started anew, in words; empty where there was nothing to say."""
    told = [e.text for e in context.store.events(run_id) if e.kind == KIND and e.data.get("attempt") == attempt]
    return told[-1].removeprefix(f"attempt {attempt} ") if told else ""


def reached(state: RunState, log: bytes) -> float:
    """The share of the training that its last checkpoint holds as far as logs say; nothing of another lineage's."""
    plan = state.need_plan()
    if not goes_on(plan):
        return 0.0
    before = state.reached if state.ran is None or not incompatible(state.ran, plan) else 0.0
    return max(before, done_share(log.decode("utf-8", "replace")) or 0.0)


def left_of(state: RunState, plan: TrainingPlan) -> float:
    """The share of the training that is left for this plan: all of it where it can't take up what was reached."""
    if not state.reached or state.ran is None or not goes_on(plan) or incompatible(state.ran, plan):
        return 1.0
    return 1.0 - state.reached


def for_the_rest(estimate: Estimate, left: float) -> Estimate:
    """The estimate of time and money for what is left of the training."""
    if left >= 1.0:
        return estimate
    told = f"{1 - left:.0%} of the training is in its last checkpoint: time and cost are of the rest"
    return estimate.model_copy(
        update={
            "seconds": estimate.seconds.times(left) if estimate.seconds is not None else None,
            "cost_usd": estimate.cost_usd.times(left) if estimate.cost_usd is not None else None,
            "assumptions": (told, *estimate.assumptions),
            "alternatives": tuple(row.part(left) for row in estimate.alternatives),
        }
    )


def used_up(plan: TrainingPlan, outcome: Outcome | None) -> str:
    """Why a job that can go on was ended though it was well: its time or its money was over; else empty."""
    if outcome is None or outcome.kind is not OutcomeKind.EXPIRED or outcome.reason.endswith(NOT_ENDED):
        return ""
    return (outcome.reason or "the time limit is over") if goes_on(plan) else ""
