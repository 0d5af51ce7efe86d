"""A case: what a step of a run was, or would be, given, and what is right. Read and written as JSON lines.

A case holds values, not texts: what the model is shown of them is made by the same code as in a run.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

from pydantic import Field, ValidationError

from caravan.values.base import Json, Value
from caravan.values.dialogue import Question
from caravan.values.errors import UsageError
from caravan.values.failure import Diagnosis, Evidence, FailureClass, Repair
from caravan.values.job import ClusterFacts, ClusterKind, NodeFacts
from caravan.values.masking import mask_json
from caravan.values.optimization import Step
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile

PAPER: Final = ClusterFacts(
    kind=ClusterKind.NONE,
    address="",
    nodes=(NodeFacts(id="n1", name="node-1", cpu_mhz=48_000, cores=16, memory_mb=131_072, disk_mb=1_000_000),),
)
"""A cluster for cases that say nothing of theirs."""
ANYWHERE: Final = TrainingPlan(goal="a failure without a run", command=("train.py",))


class Allowed(Value):
    """Values that are right: one of these, or a number within bounds; none of it said: any."""

    one_of: tuple[Json, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: Json) -> bool:
        """Whether the value is right."""
        if self.one_of:
            return any(value == right and isinstance(value, bool) == isinstance(right, bool) for right in self.one_of)
        if self.at_least is None and self.at_most is None:
            return value is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)


class Expected(Value):
    """What is right, as far as the case's step is judged by it.

    diagnose: `failure`. plan: `fields` that end with an allowed value; none of them: nothing is to be changed.
    repair: `mends`, any one of which mends: a kind alone, or plan fields; empty: nothing mends. questions: `paths`,
    the plan fields that must be asked about.
    """

    failure: FailureClass | None = None
    fields: dict[str, Allowed] = Field(default_factory=dict)
    mends: tuple["Mend", ...] = ()
    paths: tuple[str, ...] = ()


class Mend(Value):
    """A repair that mends: of that kind, and for a change of the plan with these fields."""

    kind: Annotated[str, Field(pattern="^(change_plan|wait|retry_elsewhere|requery)$")] = "change_plan"
    fields: dict[str, Allowed] = Field(default_factory=dict)


class Case(Value):
    """A case of one step. `alike`: cases that share one of these are like each other and stay on one side."""

    id: str = Field(min_length=1)
    step: Step
    source: str = ""
    alike: tuple[str, ...] = ()
    prompt: str = ""
    profile: RepoProfile = RepoProfile(root="", tree_digest="", is_training_repo=True)
    facts: ClusterFacts = PAPER
    plan: TrainingPlan = ANYWHERE
    questions: tuple[Question, ...] = ()
    evidence: Evidence | None = None
    diagnosis: Diagnosis | None = None
    tried: tuple[Repair, ...] = ()
    files: dict[str, str] = Field(default_factory=dict, description="files of the repository that can be looked at")
    expected: Expected = Expected()


def case_of(document: Json, where: str, secrets: tuple[str, ...] = ()) -> Case:
    """A case out of JSON, its secrets masked. Raises UsageError that says what is wrong with it, at `where`."""
    try:
        case = Case.model_validate(mask_json(document, secrets))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the case"
        raise UsageError(f"{where} is no case: {place}: {first['msg']}.", hint="See docs/optimise.md.") from error
    if case.step is Step.DIAGNOSE and (case.evidence is None or case.expected.failure is None):
        raise UsageError(f"{where} is no case: diagnose needs `evidence` and `expected.failure`.")
    if case.step is Step.REPAIR and case.diagnosis is None:
        raise UsageError(f"{where} is no case: repair needs a `diagnosis`.")
    return case


def read_lines(text: str, where: str, secrets: tuple[str, ...] = ()) -> Iterator[Case]:
    """The cases of JSON lines. Raises UsageError for a line that is none."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield case_of(loaded(line, f"{where}, line {number}"), f"{where}, line {number}", secrets)


def loaded(line: str, where: str) -> Json:
    """The JSON value of a line. Raises UsageError."""
    try:
        return json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where} is no JSON: {error}.") from error


def lines_of(cases: Iterable[Case]) -> str:
    """The cases as JSON lines, without what is as it is by default."""
    return "".join(f"{json.dumps(plain(case), ensure_ascii=False, sort_keys=True)}\n" for case in cases)


def plain(case: Case) -> dict[str, Json]:
    """The case as JSON, without defaults."""
    document: dict[str, Json] = case.model_dump(mode="json", exclude_defaults=True)
    return document | {"step": case.step.value}
