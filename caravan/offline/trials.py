"""What was measured: which prompt answered which case how rightly. Every candidate is kept in `trials.jsonl`.

A candidate is measured by what a run would do with it. It knows no optimiser.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from caravan.offline.cases import Case
from caravan.offline.ledger import Ledger, Rollout
from caravan.offline.scoring import Proof, Verdict, judge
from caravan.offline.steps import answered
from caravan.values.errors import StateError
from caravan.values.prompts import Prompt


@dataclass(frozen=True)
class Trial:
    """A case as one prompt answered it."""

    reply: BaseModel | None
    verdict: Verdict


@dataclass
class Trials:
    """Measures prompts on cases. `told` hears of each new measurement: the prompt, the case, the verdict."""

    ledger: Ledger
    proof: Proof
    folder: Path
    secrets: tuple[str, ...] = ()
    told: Callable[[Prompt, Case, Verdict], None] = lambda _prompt, _case, _verdict: None
    prompts: dict[str, Prompt] = field(default_factory=dict)
    _done: dict[tuple[str, str, int], Trial] = field(default_factory=dict)

    def measure(self, prompt: Prompt, case: Case, rollout: int = 0) -> Trial:
        """Put the case to the model with this prompt, once. Raises BudgetEnd, ModelLost."""
        key = (prompt.version, case.id, rollout)
        if key not in self._done:
            self._keep(prompt)
            chat = Rollout(self.ledger, rollout) if rollout else self.ledger
            answer = answered(case, prompt, chat, self.secrets)
            trial = Trial(answer.reply, judge(case, answer.reply, answer.why, self.proof))
            self._done[key] = trial
            self.told(prompt, case, trial.verdict)
        return self._done[key]

    def scores(self, prompt: Prompt, cases: Sequence[Case]) -> list[float]:
        """The score of each case, in their order."""
        return [self.measure(prompt, case).verdict.score for case in cases]

    def known(self, prompt: Prompt, cases: Sequence[Case]) -> list[float] | None:
        """The same of what was measured before; None where a case was not."""
        found = [self._done.get((prompt.version, case.id, 0)) for case in cases]
        return None if None in found else [trial.verdict.score for trial in found if trial is not None]

    def _keep(self, prompt: Prompt) -> None:
        """Keep each candidate once, with what makes it a prompt."""
        if prompt.version in self.prompts:
            return
        self.prompts[prompt.version] = prompt
        document = {"version": prompt.version, "prompt": prompt.model_dump(mode="json", exclude_defaults=True)}
        try:
            with (self.folder / "trials.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(f"{json.dumps(document, ensure_ascii=False)}\n")
        except OSError as error:
            raise StateError(f"{self.folder} can't be written: {error.strerror}.") from error


def mean(scores: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(scores) / len(scores) if scores else 0.0
