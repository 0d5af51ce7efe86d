"""The rule engine: the deterministic reasoner that needs nothing and is the default."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from caravan.analysis.dependencies import is_dependency_file
from caravan.diagnosis.ladders.case import Case, GpuChoice, Looks, Outlook
from caravan.diagnosis.repair import ladder
from caravan.diagnosis.rules import diagnose
from caravan.planning.alternatives import nearest
from caravan.planning.catalogue import Prices, gpu_named, matches_model
from caravan.planning.cluster_fit import gpu_groups, gpu_offers, takers
from caravan.planning.command import unpassed
from caravan.planning.draft import with_fitting_flags
from caravan.planning.environment_plan import fitting_images, torch_bound
from caravan.planning.estimate import beyond_formula, estimate, gpu_size_gib
from caravan.planning.flags import field_of, typed_changes
from caravan.planning.questions import draft_questions
from caravan.planning.remembered import propose_changes
from caravan.planning.script import told_words
from caravan.planning.standing import members_placed
from caravan.ports import Toolbox
from caravan.values.dialogue import Question
from caravan.values.environment import BaseImage
from caravan.values.errors import UsageError
from caravan.values.failure import Diagnosis, Evidence, FailureClass, PastCase, Repair
from caravan.values.job import ClusterFacts
from caravan.values.plan import PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile

_READ_LINES = 400


@dataclass(frozen=True)
class RuleReasoner:
    """Answers from analysis, planning and diagnosis alone. `image`: the settings' own one; `images`: those that jobs
    may start from."""

    prices: Prices
    image: str | None = field(default=None, kw_only=True)
    images: tuple[BaseImage, ...] = field(default=(), kw_only=True)

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
        return draft_questions(profile, prompt, facts, cases, image=self.image)

    def propose(
        self, plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[PlanChange, ...]:
        """Changes that past cases and the repository suggest."""
        typed = () if with_fitting_flags(plan, profile).flags != plan.flags else typed_changes(plan)
        return (*typed, *propose_changes(apply_changes(plan, typed), profile, facts, tuple(cases)))

    def diagnose(self, evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> Diagnosis:
        """The cause by rules; unknown stays unknown."""
        return diagnose(evidence, plan, cases)

    def repairs(
        self,
        diagnosis: Diagnosis,
        plan: TrainingPlan,
        profile: RepoProfile,
        cases: Sequence[PastCase],
        facts: ClusterFacts,
        toolbox: Toolbox,
    ) -> tuple[Repair, ...]:
        """The ladder of the diagnosed class, after what memory knows."""
        outlook = outlook_of(diagnosis, plan, facts, self.prices, self.image, self.images, profile)
        return ladder(Case(diagnosis, plan, profile, facts, tuple(cases), outlook, looks_of(lambda: toolbox, profile)))


def outlook_of(
    diagnosis: Diagnosis,
    plan: TrainingPlan,
    facts: ClusterFacts,
    prices: Prices,
    image: str | None = None,
    images: Sequence[BaseImage] = (),
    profile: RepoProfile | None = None,
) -> Outlook:
    """What planning answers about the failed plan's successors: estimates know what the failure has shown."""

    def estimated(candidate: TrainingPlan, beyond: float = 1.0) -> bool | None:
        return estimate(candidate, facts, prices=prices, profile=profile, beyond=beyond).fits

    beyond = 1.0
    if diagnosis.failure is FailureClass.CUDA_OOM:
        beyond = beyond_formula(estimate(plan, facts, prices=prices, profile=profile), diagnosis.details)

    def gpus(candidate: TrainingPlan) -> tuple[GpuChoice, ...]:
        any_model = candidate.resources.model_copy(update={"gpu_model": None})
        offers = gpu_offers(candidate.model_copy(update={"resources": any_model}), facts, prices)
        return tuple(GpuChoice(offer.model, gpu_size_gib(offer)) for offer in offers)

    def bf16(candidate: TrainingPlan) -> bool | None:
        groups = [g for n in takers(candidate, facts) for g in gpu_groups(n, candidate.resources.gpu_vendor)]
        known = [gpu_named(g.model) for g in groups]
        return None if not known or None in known else all(g is not None and g.bf16_tflops for g in known)

    return Outlook(
        fits=lambda candidate: estimated(candidate, beyond),
        takers=lambda candidate: takers(candidate, facts),
        holds=lambda candidate: members_placed(candidate, facts) >= candidate.launch.nodes,
        words=told_words,
        unheard=unpassed,
        host_need_mb=lambda candidate: estimate(candidate, facts, prices=prices, profile=profile).host_memory_mb,
        field_of=field_of,
        gpus=gpus,
        images=lambda candidate: fitting_images(candidate, profile, facts, images),
        torch_below=lambda candidate: torch_bound(candidate, facts),
        bf16=bf16,
        matches=matches_model,
        nearest=lambda candidate: nearest(
            candidate, facts, estimate=lambda p: estimate(p, facts, prices=prices, profile=profile), prices=prices
        ),
        image=image,
    )


def looks_of(toolbox: Callable[[], Toolbox], profile: RepoProfile) -> Looks:
    """Looks by the toolbox, which is only made when somebody looks. What can't be seen is not there."""
    opened = cache(toolbox)

    def find(name: str) -> tuple[str, ...]:
        try:
            return opened().find(name)
        except UsageError:
            return ()

    def read(path: str) -> str:
        try:
            text = opened().read_file(path, lines=_READ_LINES)
        except UsageError:
            return ""
        return re.sub(r"^\d+: ", "", text, flags=re.MULTILINE)

    def dependencies() -> tuple[str, ...]:
        try:
            beside = tuple(name for name in opened().list_directory() if is_dependency_file(name))
        except UsageError:
            beside = ()
        return tuple(dict.fromkeys((*profile.dependency_files, *beside)))

    return Looks(find, read, dependencies)
