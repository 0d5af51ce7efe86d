"""Optimising prompts: what is asked for, what it may use, and what came of it. Nothing here asks a model."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from caravan.values.base import Json, Value


class Step(StrEnum):
    """The steps whose prompts can be optimised, by the prompt's name."""

    QUESTIONS = "questions"
    PLAN = "plan"
    DIAGNOSE = "diagnose"
    REPAIR = "repair"


class Optimizer(StrEnum):
    """How better prompts are looked for."""

    BOOTSTRAP = "bootstrap"  # worked examples out of answers that were right
    MIPROV2 = "miprov2"  # the model proposes instructions; they are combined with worked examples
    GEPA = "gepa"  # the model reads what went wrong and rewrites the instructions


class Ending(StrEnum):
    """How the work on one step ended."""

    BETTER = "better"  # a candidate is better on the held-out cases
    NOT_BETTER = "not_better"  # the best candidate is not, or not surely
    NO_CANDIDATE = "no_candidate"  # nothing but the current prompt came out of it
    FAILED_PROPOSALS = "failed_proposals"  # the optimiser ended as if all were well, and each of its proposals failed
    ALL_RIGHT = "all_right"  # the current prompt is right on all cases: there is nothing to better
    FEW_CASES = "few_cases"  # too few cases to tell anything
    BUDGET = "budget"  # calls or tokens were used up before a candidate could be compared
    INTERRUPTED = "interrupted"
    MODEL_LOST = "model_lost"  # the model did not answer any more


LABEL: Final = "candidate"
"""The label of a version that was found better and that nobody has promoted."""


_SELDOM: Final = 0.001


class OptimizeRequest(Value):
    """What to optimise, how, and what it may use. `data`: `KIND=PLACE` each (failures, cases, langfuse)."""

    steps: tuple[Step, ...] = tuple(Step)
    optimizer: Optimizer = Optimizer.BOOTSTRAP
    max_calls: int = Field(default=600, ge=1, description="questions to the model in all, retries included")
    max_tokens: int = Field(default=3_000_000, ge=1, description="tokens of questions and replies in all")
    max_cases: int = Field(default=40, ge=8, description="cases of one step that are used")
    demos: int = Field(default=3, ge=0, le=8, description="worked examples that a prompt may have")
    seed: int = 0
    data: tuple[str, ...] = ()
    only_data: bool = Field(default=False, description="neither past runs nor shipped cases: `data` alone")
    promote: bool = False


class Interval(Value):
    """The difference of two means on the same cases, with the bounds between which it lies with that confidence.

    `chance`: how often, of 1, chance alone gives that much or more (one-sided).
    """

    difference: float
    low: float
    high: float
    confidence: float = 0.95
    chance: float = 1.0

    def line(self) -> str:
        """For people: `+0.31 (95% interval +0.12 to +0.50, by chance 0.8%)`."""
        interval = f"{self.confidence:.0%} interval {self.low:+.2f} to {self.high:+.2f}"
        by_chance = "less than 0.1%" if self.chance < _SELDOM else f"{self.chance:.1%}"
        return f"{self.difference:+.2f} ({interval}, by chance {by_chance})"


class StepOutcome(Value):
    """What came of one step. Scores are means from 0 to 1 over the held-out cases, where they were measured."""

    step: Step
    ending: Ending
    detail: str = ""
    cases: dict[str, int] = Field(default_factory=dict, description="how many of train, dev, held_out")
    current: str = Field(default="", description="version of the prompt in force")
    candidate: str = Field(default="", description="version of the best candidate; empty: none")
    current_score: float | None = None
    candidate_score: float | None = None
    interval: Interval | None = None
    tried: int = Field(default=0, description="candidates that were measured")
    proposals: int = Field(default=0, description="instructions that the model was asked for")
    failed: int = Field(default=0, description="of these, what could not be used")
    diff: str = Field(default="", description="the change of the prompt as a unified diff")
    kept: str = Field(default="", description="where the candidate is kept, in words; empty: nowhere")
    use: str = Field(default="", description="the command by which runs use it; empty: nothing is kept")
    promoted: bool = False


class OptimizeOutcome(Value):
    """What came of an optimisation. `calls` and `tokens`: what it used through all resumes; `asked`: calls just now."""

    id: str
    optimizer: Optimizer
    model: str
    steps: tuple[StepOutcome, ...] = ()
    calls: int = 0
    tokens: int = 0
    asked: int = 0
    seconds: float = 0.0
    request: dict[str, Json] = Field(default_factory=dict)

    @property
    def better(self) -> bool:
        """Whether any step has a better prompt now."""
        return any(step.ending is Ending.BETTER for step in self.steps)
