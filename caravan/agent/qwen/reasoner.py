"""ModelReasoner: the ports Reasoner and Adviser. The rules answer first, the model refines, the guard decides.

On any fault of the model the rules' answer stands, and the run says so. Nothing here has effects.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from caravan.agent.model.window import Part
from caravan.agent.qwen import diagnosis as causes
from caravan.agent.qwen import given
from caravan.agent.qwen import patch as patches
from caravan.agent.qwen import plan as plans
from caravan.agent.qwen import profile as profiles
from caravan.agent.qwen import questions as asked
from caravan.agent.qwen import repairs as mending
from caravan.agent.qwen.asking import Asker
from caravan.agent.qwen.guard import Ground, Refused
from caravan.agent.qwen.replies import (
    DiagnosisReply,
    PatchReply,
    PlanReply,
    ProfileReply,
    QuestionsReply,
    RepairsReply,
    SummaryReply,
)
from caravan.agent.qwen.summary import checked
from caravan.agent.qwen.tools import Sight, log_text, of_repository, of_run
from caravan.agent.qwen.views import diagnosis_view, evidence_view, profile_view
from caravan.agent.rules import RuleReasoner
from caravan.ports import Toolbox
from caravan.values.dialogue import Question
from caravan.values.failure import Diagnosis, Evidence, PastCase, Repair
from caravan.values.job import ClusterFacts
from caravan.values.plan import PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile

_MOST: Final = 3.0  # what the step is about
_MORE: Final = 2.0
_LESS: Final = 1.0


@dataclass(frozen=True)
class ModelReasoner:
    """The rules, refined by a language model. `sight` is what it may look at beside the repository."""

    rules: RuleReasoner
    asker: Asker
    sight: Sight = field(default_factory=Sight)

    @property
    def name(self) -> str:
        """The model's, for provenance and traces."""
        return self.asker.name

    def refine_profile(self, profile: RepoProfile, prompt: str, toolbox: Toolbox) -> RepoProfile:
        """The profile, corrected where a line of the repository shows that it is wrong or open."""
        step, found = "refine_profile", self.rules.refine_profile(profile, prompt, toolbox)
        parts = [Part(name="prompt", text=prompt, worth=_MOST), Part(name="profile", text=profile_view(found))]
        tools = (*of_repository(toolbox), *of_run(self.sight))
        answer = self.asker.ask(step, "refine_profile", ProfileReply, parts, tools=tools)
        if answer is None:
            return found
        better, taken, refused = profiles.refined(found, prompt, toolbox, *answer)
        self._told(step, answer[1], taken, refused)
        return better

    def questions(
        self, profile: RepoProfile, prompt: str, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[Question, ...]:
        """The rules' questions, in better words and order, and what else only the user can know."""
        step, found = "questions", self.rules.questions(profile, prompt, facts, cases)
        parts = given.for_questions(found, profile, prompt, facts, cases)
        answer = self.asker.ask(step, "questions", QuestionsReply, parts)
        if answer is None:
            return found
        better, taken, refused = asked.worded(found, profile, prompt, *answer, facts)
        self._told(step, answer[1], taken, refused)
        return better

    def propose(
        self, plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[PlanChange, ...]:
        """The rules' changes, then the model's, each with its reason."""
        step, found = "propose", self.rules.propose(plan, profile, facts, cases)
        drafted = apply_changes(plan, found)
        parts = given.for_plan(drafted, profile, facts, cases)
        answer = self.asker.ask(step, "plan", PlanReply, parts, thinking=True)
        if answer is None:
            return found
        taken, refused = plans.proposed(answer[0], Ground(drafted, profile, facts), answer[1])
        self._told(step, answer[1], plans.told(taken), refused)
        return (*found, *taken)

    def diagnose(self, evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> Diagnosis:
        """The rules' cause; where they know none or are unsure, the model's, if its quotes stand."""
        step, found = "diagnose", self.rules.diagnose(evidence, plan, cases)
        if found.confidence >= causes.SURE:
            return found
        parts = given.for_diagnosis(evidence, plan, cases)
        answer = self.asker.ask(step, "diagnose", DiagnosisReply, parts, thinking=True, tools=of_run(self.sight))
        if answer is None:
            return found
        better, why = causes.judged(answer[0], found, evidence, self._log(), answer[1])
        taken = (f"{better.failure.value}: {better.cause}",) if not why else ()
        refused = (Refused(answer[0].failure[:40], f"{why}; {found.failure.value} by the rules stands"),) if why else ()
        self._told(step, answer[1], taken, refused)
        return better

    def repairs(
        self,
        diagnosis: Diagnosis,
        plan: TrainingPlan,
        profile: RepoProfile,
        cases: Sequence[PastCase],
        facts: ClusterFacts,
        toolbox: Toolbox,
    ) -> tuple[Repair, ...]:
        """The rules' ladder. The model is asked when it is at its end (`further_repairs`)."""
        return self.rules.repairs(diagnosis, plan, profile, cases, facts, toolbox)

    def further_repairs(
        self,
        diagnosis: Diagnosis,
        plan: TrainingPlan,
        profile: RepoProfile,
        cases: Sequence[PastCase],
        facts: ClusterFacts,
        toolbox: Toolbox,
        tried: Sequence[Repair],
    ) -> tuple[Repair, ...]:
        """The model's repairs against a cause that is known, none of them tried before."""
        step = "repairs"
        if not mending.worth_asking(diagnosis):
            return ()
        parts = given.for_repairs(diagnosis, tried, plan, profile, facts, cases)
        tools = (*of_repository(toolbox), *of_run(self.sight))
        answer = self.asker.ask(step, "repair", RepairsReply, parts, thinking=True, tools=tools)
        if answer is None:
            return ()
        ground = Ground(plan, profile, facts, lambda path: profiles.is_file(toolbox, path), mending=True)
        taken, refused = mending.proposed(answer[0], ground, diagnosis, tried, answer[1])
        self._told(step, answer[1], mending.told(taken), refused)
        return taken

    def patch(
        self, diagnosis: Diagnosis, evidence: Evidence, files: Sequence[str], read: Callable[[str], str | None]
    ) -> tuple[str, str]:
        """A change of the files that the traceback leads through; none where it leads through none."""
        shown = patches.sources(evidence.log_lines, files, read)
        if not shown:
            return "", ""
        parts = [
            Part(name="diagnosis", text=diagnosis_view(diagnosis), worth=_MOST),
            Part(name="evidence", text=evidence_view(evidence), worth=_MORE),
            Part(name="files", text=shown, worth=_LESS),
        ]
        answer = self.asker.ask("patch", "patch", PatchReply, parts, thinking=True)
        if answer is None:
            return "", ""
        diff, refused = patches.made(answer[0], files, read, self.asker.secrets)
        why = plans.reason(answer[0].why or "a change of the code", answer[1])
        self._told("patch", answer[1], (f"a change of the code ({why})",) if diff else (), refused)
        return (diff, f"A change of the code is suggested {why}.") if diff else ("", "")

    def summary(self, report: str) -> tuple[str, str]:
        """A summary and the model's name, where every figure and name of it stands in the report; else twice empty."""
        answer = self.asker.ask("summary", "report_summary", SummaryReply, [Part(name="report", text=report)])
        if answer is None:
            return "", ""
        text, why = checked(answer[0].summary, report)
        self._told("summary", answer[1], (), (Refused("summary", why),) if why else ())
        return (text, answer[1]) if text else ("", "")

    def _told(self, step: str, model: str, taken: Sequence[str], refused: Sequence[Refused]) -> None:
        self.asker.voice.by_model(step, model, taken=taken, refused=[r.line() for r in refused])

    def _log(self) -> Iterator[str]:
        """The run's copied logs, for quotes of lines that the evidence has not."""
        return (log_text(path) for path in self.sight.logs())
