"""What a report is made of: a run's values, handed in by whoever knows them. None or empty: not reached, not known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caravan.values.curves import AttemptCurves
from caravan.values.dialogue import Answer, Question
from caravan.values.estimate import Estimate
from caravan.values.evaluation import GateReport
from caravan.values.plan import TrainingPlan
from caravan.values.registry import ModelVersion, RunResult
from caravan.values.repo import RepoProfile
from caravan.values.run import Attempt, Outcome, RunEvent, RunRecord


@dataclass(frozen=True)
class Material:
    """`metrics`: the last logged value of each; `trace`: where the run's trace is; `secrets`: values to mask;
    `reserved_usd`: what the whole run might spend; `place`: where its outputs are, in words; `summary`: what a language
    model named `summary_by` said of the report; `versions`: of programs, by name. US dollars, times in UTC.
    """

    record: RunRecord
    plan: TrainingPlan | None = None
    profile: RepoProfile | None = None
    estimate: Estimate | None = None
    attempts: Sequence[Attempt] = ()
    outcome: Outcome | None = None
    events: Sequence[RunEvent] = ()
    questions: Sequence[Question] = ()
    answers: Sequence[Answer] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    gate: GateReport | None = None
    result: RunResult | None = None
    model: ModelVersion | None = None
    registered: str = ""
    place: str = ""
    curves: Sequence[AttemptCurves] = ()
    warnings: Sequence[str] = ()
    trace: str | None = None
    secrets: Sequence[str] = ()
    reserved_usd: float | None = None
    summary: str = ""
    summary_by: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
