"""What a person is asked and what they reply: questions before the plan, approval, the fate of a lost job."""

from enum import StrEnum

from pydantic import Field

from caravan.values.base import Json, Value
from caravan.values.estimate import BudgetVerdict, Envelope, Estimate
from caravan.values.plan import PlanChange, TrainingPlan
from caravan.values.repo import SourceLine


class Question(Value):
    """A question for the user: only about what changes the plan and can't be found.

    `path` is the plan field that the answer sets; `choices` may be empty (free text).
    """

    id: str
    text: str
    path: str
    default: Json = None
    choices: tuple[Json, ...] = ()
    reason: str = ""
    evidence: tuple[SourceLine, ...] = ()
    required: bool = Field(default=False, description="there is no default that a plan could be made with")
    cost_of_wrong: float = Field(default=0.0, description="rank: what a wrong guess would cost, higher first")
    by: str = Field(default="", description="`worded by` or `asked by` which language model; empty: the rules")


class Answer(Value):
    """An answer: the value and whether a person gave it or the default was taken.

    `question_id` may be a plan path: what a person said beside what was asked.
    """

    question_id: str
    value: Json = None
    by_user: bool = True
    words: str = Field(default="", description="the words that said it, where they said more than the value")
    recalled: str = Field(default="", description="where it was answered before: `as in run X on DATE`")


class AskKind(StrEnum):
    """What a person is asked."""

    QUESTIONS = "questions"
    APPROVAL = "approval"
    LOST_JOB = "lost_job"  # a registered job is gone: deploy the plan again under a new id?
    SECRETS = "secrets"  # write secrets that the job needs from this environment to the cluster?


class PlanChoice(Value):
    """Another plan that a person may take instead: what it changes, in a line, and what it would cost."""

    text: str
    changes: tuple[PlanChange, ...] = ()
    cost_usd: float | None = None


class Ask(Value):
    """What the agent waits for: the payload of an interrupt, with all that a person needs in view to answer it."""

    kind: AskKind
    text: str
    questions: tuple[Question, ...] = ()
    plan: TrainingPlan | None = None
    estimate: Estimate | None = None
    budget: BudgetVerdict | None = None
    envelope: Envelope | None = Field(default=None, description="what approving would grant")
    objections: tuple[str, ...] = Field(default=(), description="why it is not approved already")
    warnings: tuple[str, ...] = ()
    choices: tuple[PlanChoice, ...] = Field(default=(), description="the nearest other plans that fit")
    names: tuple[str, ...] = Field(default=(), description="names of the secrets that are asked about")
    attempt: int = 1
    job_id: str = ""
    hcl_path: str = ""


class Reply(Value):
    """A person's reply to an Ask: answers to its questions, yes / no to its approval, or one of its choices."""

    answers: tuple[Answer, ...] = ()
    approved: bool | None = None
    choice: int | None = Field(default=None, ge=1, description="number of the choice taken instead")
    budget_usd: float | None = Field(default=None, ge=0, description="with a yes: what the whole run may cost")
    why: str = ""
