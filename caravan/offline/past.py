"""Cases out of past runs: failures whose cause a later success has confirmed, and the repairs that mended them. Pure.

What a run only believed is no truth: nothing is taken from a run that did not succeed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from caravan.agent.qwen.diagnosis import NOT_ITS
from caravan.agent.state import RunState
from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.offline.cases import Allowed, Case, Expected, Mend
from caravan.values.failure import ChangePlan, Diagnosis, FailureClass, Repair
from caravan.values.job import ClusterFacts
from caravan.values.masked import masked_value
from caravan.values.masking import mask
from caravan.values.optimization import Step
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.run import Attempt, RunRecord, RunStatus

_SURE: Final = 0.5
"""A cause that nobody was surer of is no label, though a later attempt went well."""


def of_run(
    record: RunRecord, state: RunState, logs: Mapping[int, str], facts: ClusterFacts, secrets: tuple[str, ...] = ()
) -> Iterator[Case]:
    """The cases of one run. `logs`: attempt's number → its copied task logs as text."""
    if record.status is not RunStatus.SUCCEEDED or state.plan is None:
        return
    attempts = [a for a in state.attempts if a.diagnosis is not None and a.counts]
    plans = _plans(state.plan, attempts)
    for n, (attempt, plan) in enumerate(zip(attempts, plans, strict=True)):
        diagnosis = attempt.diagnosis
        later = [a.diagnosis.failure for a in attempts[n + 1 :] if a.diagnosis is not None]
        if diagnosis is None or attempt.repair is None or diagnosis.failure in later or _unsure(diagnosis):
            continue
        marks = (f"fingerprint:{diagnosis.fingerprint}",) if diagnosis.fingerprint else ()
        name = f"{record.id}-a{attempt.number}"
        masked, cause = masked_value(plan, secrets), masked_value(diagnosis, secrets)
        if masked is None or cause is None:  # no case: what stood where the mask is now was needed
            continue
        log = logs.get(attempt.number, "")
        if log and diagnosis.lines and diagnosis.failure not in NOT_ITS:
            evidence = evidence_of_text(mask(log, secrets).encode(), TextKind.TASK_STDERR)
            yield Case(
                id=f"{name}-diagnose",
                step=Step.DIAGNOSE,
                source="run",
                alike=marks,
                plan=masked,
                facts=facts,
                evidence=evidence,
                expected=Expected(failure=diagnosis.failure),
            )
        if state.profile is not None:
            yield Case(
                id=f"{name}-repair",
                step=Step.REPAIR,
                source="run",
                alike=marks,
                plan=masked,
                profile=state.profile.model_copy(update={"root": ""}),
                facts=facts,
                diagnosis=cause,
                expected=Expected(mends=(_mend(attempt.repair),)),
            )


def _unsure(diagnosis: Diagnosis) -> bool:
    return diagnosis.failure is FailureClass.UNKNOWN or diagnosis.confidence < _SURE


def _plans(last: TrainingPlan, attempts: Sequence[Attempt]) -> list[TrainingPlan]:
    """The plan of each attempt, from the last back: what each repair changed is put back."""
    found, plan = list[TrainingPlan](), last
    for attempt in reversed(attempts):
        mine = {path: by for path, by in plan.provenance.items() if path not in attempt.changed}
        back = [PlanChange(path=p, value=before, by=Author.REPOSITORY) for p, (before, _) in attempt.changed.items()]
        plan = apply_changes(plan.model_copy(update={"provenance": mine}), back)
        found.append(plan)
    return found[::-1]


def _mend(repair: Repair) -> Mend:
    if not isinstance(repair, ChangePlan):
        return Mend(kind=repair.kind)
    return Mend(fields={change.path: Allowed(one_of=(change.value,)) for change in repair.changes})
