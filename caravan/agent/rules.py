"""The rule engine: the deterministic reasoner that needs nothing and is the default."""

from collections.abc import Sequence
from dataclasses import dataclass

from caravan.diagnosis.repair import ladder
from caravan.diagnosis.rules import diagnose
from caravan.planning.catalogue import Prices
from caravan.planning.estimate import estimate
from caravan.planning.questions import draft_questions
from caravan.planning.remembered import propose_changes
from caravan.ports import Toolbox
from caravan.values.dialogue import Question
from caravan.values.failure import Diagnosis, Evidence, PastCase, Repair
from caravan.values.job import ClusterFacts
from caravan.values.plan import PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile


@dataclass(frozen=True)
class RuleReasoner:
    """Answers from analysis, planning and diagnosis alone."""

    prices: Prices

    @property
    def name(self) -> str:
        """For provenance and traces."""
        return "rules"

    def refine_profile(self, profile: RepoProfile, prompt: str, toolbox: Toolbox) -> RepoProfile:  # noqa: ARG002
        """The rules have read all they can: the profile as it is."""
        return profile

    def questions(
        self, profile: RepoProfile, prompt: str, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[Question, ...]:
        """What the profile and the prompt leave open."""
        return draft_questions(profile, prompt, facts, cases)

    def propose(
        self, plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[PlanChange, ...]:
        """Changes that past cases and the repository suggest."""
        return propose_changes(plan, profile, facts, tuple(cases))

    def diagnose(self, evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> Diagnosis:
        """The cause by rules; unknown stays unknown."""
        return diagnose(evidence, plan, cases)

    def repairs(
        self,
        diagnosis: Diagnosis,
        plan: TrainingPlan,
        profile: RepoProfile,  # noqa: ARG002
        cases: Sequence[PastCase],
        facts: ClusterFacts,
        toolbox: Toolbox,  # noqa: ARG002
    ) -> tuple[Repair, ...]:
        """The ladder of the diagnosed class."""

        def fits(candidate: TrainingPlan) -> bool | None:
            return estimate(candidate, facts, prices=self.prices).fits

        return ladder(diagnosis, plan, cases, facts, fits)
