"""The state of a run as LangGraph checkpoints it: small frozen values only; no logs, no clients, no file contents."""

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from pydantic import Field

from caravan.values.base import Json, Value
from caravan.values.dialogue import Answer, Ask, PlanChoice, Question
from caravan.values.estimate import BudgetVerdict, Envelope, Estimate, Measured
from caravan.values.evaluation import GateReport
from caravan.values.failure import Diagnosis, Evidence, PastCase, Repair
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.run import Attempt, Deployment, Outcome, RunRequest, RunStatus
from caravan.values.secrets import SecretOffer
from caravan.values.training import DataReport, TrainingChoice

Update = dict[str, Any]
"""A node's partial update: field name of RunState → new value."""


_Item = TypeVar("_Item")


def joined(first: Iterable[_Item], second: Iterable[_Item]) -> tuple[_Item, ...]:
    """The items of both in order, each once."""
    return tuple(dict.fromkeys((*first, *second)))


class RunState(Value):
    """Everything the nodes hand on. `sequence` numbers the job ids; `fixes` counts repairs of any kind."""

    run_id: str
    request: RunRequest
    profile: RepoProfile | None = None
    training: TrainingChoice | None = Field(
        default=None, description="the training type whose script Caravan brings; None: the repository's own trains"
    )
    data: DataReport | None = Field(default=None, description="what a look at the data of such a run has found")
    data_seen: str = Field(default="", description="digest of the plan's fields that the look depended on")
    data_sha256: str = Field(default="", description="of the data's content, where it is seen from here")
    questions: tuple[Question, ...] = ()
    answers: tuple[Answer, ...] = ()
    asked_back: tuple[str, ...] = Field(default=(), description="ids of contradictions that a person was shown")
    code_digest: str = Field(default="", description="by which the same training code is known again")
    known_by: dict[str, Json] = Field(default_factory=dict, description="digests of where it is and of its parts")
    cases: tuple[PastCase, ...] = ()
    remembered: tuple[PastCase, ...] = Field(default=(), description="cases that the first plan was changed by")

    plan: TrainingPlan | None = None
    avoid_nodes: tuple[str, ...] = Field(default=(), description="nodes that a retry keeps away from")
    estimate: Estimate | None = None
    budget: BudgetVerdict | None = None
    envelope: Envelope | None = None
    wished: dict[str, Json] = Field(
        default_factory=dict, description="what a person had set when a repair came before the first approval"
    )

    choices: tuple[PlanChoice, ...] = Field(default=(), description="other plans that fit, until a person has decided")
    unplaced: TrainingPlan | None = Field(default=None, description="the plan without a place that `choices` change")
    turn: Literal["deploy", "approve", "estimate"] = Field(
        default="deploy", description="where approval leads: on, to its next question, or to the plan that was chosen"
    )

    asking: Ask | None = Field(default=None, description="what approval asks, as it is shown: the reply is to this")

    offer: SecretOffer | None = Field(default=None, description="what is known of the job's secrets, by name")

    sequence: int = 1
    deployment: Deployment | None = Field(default=None, description="the deployment of this sequence number")
    lost: bool = Field(default=False, description="the registered job is gone: a person decides")
    lost_usd: float = Field(default=0.0, description="what that job had cost when it was last seen")
    deployed_plans: tuple[str, ...] = Field(default=(), description="digests of the plans that were deployed")
    attempts: tuple[Attempt, ...] = ()
    ran: TrainingPlan | None = Field(default=None, description="the plan of the last attempt that failed")
    before: int = Field(default=0, description="attempts made before a person took the ended run up again")
    fixes: int = 0
    interruptions: int = 0
    reached: float = Field(default=0.0, description="share of the training in its last checkpoint, where that is known")
    written: bool | None = Field(
        default=None,
        description="whether its outputs hold a checkpoint to go on from; None: it can't be seen from here",
    )
    exhausted: str = Field(
        default="", description="why a job that was well was ended: its time or its money was over; a person decides"
    )

    outcome: Outcome | None = None
    failure: Evidence | None = None
    diagnosis: Diagnosis | None = None
    answered: Diagnosis | None = Field(default=None, description="the failure that the plan's last repair is against")
    memory_beyond: float = Field(
        default=1.0, description="how many times the formula's GPU memory an attempt was seen to need at least"
    )
    measured: Measured | None = Field(default=None, description="what the first steps of the last such phase showed")
    tried: tuple[Repair, ...] = ()

    metrics: dict[str, float] = Field(default_factory=dict, description="last logged value of each metric")
    gate: GateReport | None = Field(default=None, description="what was made of the last trained model")
    evaluating: Deployment | None = Field(default=None, description="the job that evaluates the last trained model")
    registered: str = Field(default="", description="`name@version` under which the model is registered")
    spent_usd: float = 0.0
    warnings: tuple[str, ...] = ()
    status: RunStatus = RunStatus.RUNNING
    detail: str = ""

    def need_plan(self) -> TrainingPlan:
        """The plan, in nodes that come after `make_plan`."""
        if self.plan is None:
            raise AssertionError("no plan yet")  # a wrong edge in the graph, never a user's error
        return self.plan

    def need_profile(self) -> RepoProfile:
        """The profile, in nodes that come after `analyze_codebase`."""
        if self.profile is None:
            raise AssertionError("no profile yet")
        return self.profile

    def need_estimate(self) -> Estimate:
        """The estimate, in nodes that come after `estimate`."""
        if self.estimate is None:
            raise AssertionError("no estimate yet")
        return self.estimate

    def need_deployment(self) -> Deployment:
        """The deployment, in nodes that come after `generate_spec`."""
        if self.deployment is None:
            raise AssertionError("no deployment yet")
        return self.deployment

    def counted_attempts(self) -> int:
        """Deployed attempts, those left out that were interrupted from outside."""
        return sum(1 for a in self.attempts[self.before :] if a.counts)
