"""An optimisation from its cases to a better prompt, step by step; what was begun is gone on with from its folder.

`CARAVAN_HOME/optimize/<id>/` holds `request.json`, `cases.jsonl`, `prompts.json`, `replies.jsonl`, `trials.jsonl` and
`result.json`. To go on is to do it all again: what was asked is answered from the folder.
"""

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from caravan.offline import optimisers
from caravan.offline.cases import Case, lines_of, read_lines
from caravan.offline.compare import compared, is_better
from caravan.offline.keeper import Keeper, Promoted
from caravan.offline.ledger import BudgetEnd, Ledger, ModelLost
from caravan.offline.program import Studio, load_dspy
from caravan.offline.scoring import Proof, Verdict
from caravan.offline.split import Sides, split
from caravan.offline.trials import Trials, mean
from caravan.ports import ChatModel, Clock
from caravan.values.base import Json, canonical_json
from caravan.values.errors import StateError, UsageError
from caravan.values.optimization import LABEL, Ending, OptimizeOutcome, OptimizeRequest, Step, StepOutcome
from caravan.values.prompts import Prompt

_MORE: Final = 1.25
"""Times the calls that the current prompt took on the held-out cases: held back for the candidate."""
_MORE_TOKENS: Final = 3.0
"""Likewise of tokens: a candidate has worked examples."""
_TELL: Final = 10  # answers after which it is said how far it has come
Told = Callable[[str], None]


@dataclass
class Optimisation:
    """One optimisation over its folder. `varied`: the model asked without a fixed seed; `told` hears how it goes."""

    id: str
    folder: Path
    request: OptimizeRequest
    cases: Sequence[Case]
    keeper: Keeper
    chat: ChatModel
    proof: Proof
    clock: Clock
    varied: ChatModel | None = None
    secrets: tuple[str, ...] = ()
    told: Told = lambda _: None

    def plan(self) -> list[StepOutcome]:
        """What there is to do: for each step its cases and the version in force; nothing is asked."""
        return [self._begun(step, *self._sides(step)) for step in self.request.steps]

    def questions_at_most(self) -> int:
        """How many questions are asked at most, all steps together."""
        found = 0
        for step in self.request.steps:
            sides, groups = self._sides(step)
            if not sides.lacking(groups):
                found += optimisers.questions_at_most(self.request.optimizer, sides.sizes())
        return found

    def run(self) -> OptimizeOutcome:
        """Optimise each step. What ends it early, a budget, Ctrl-C or a lost model, is the outcome of its step."""
        load_dspy()
        begin = self.clock.monotonic()
        self._write("request.json", canonical_json(self.request.model_dump(mode="json")))
        self._write("cases.jsonl", lines_of(self.cases))
        prompts = self._prompts()
        limits = {"max_calls": self.request.max_calls, "max_tokens": self.request.max_tokens}
        ledger = Ledger(self.folder, self.chat, varied=self.varied, **limits)
        done = list[StepOutcome]()
        for step in self.request.steps:
            found = self._step(step, prompts[step.value], ledger)
            done.append(found)
            self.told(f"{step.value}: {found.detail}")
            if found.ending in (Ending.INTERRUPTED, Ending.MODEL_LOST):
                break
        outcome = OptimizeOutcome(
            id=self.id,
            optimizer=self.request.optimizer,
            model=ledger.name,
            steps=tuple(done),
            calls=ledger.calls,
            tokens=ledger.tokens,
            asked=ledger.asked,
            seconds=round(self.clock.monotonic() - begin, 3),
            request=self.request.model_dump(mode="json"),
        )
        self._write("result.json", outcome.model_dump_json(indent=1))
        return outcome

    def _prompts(self) -> dict[str, Prompt]:
        """The prompts as they were when it began: what it is compared with does not change under it."""
        path = self.folder / "prompts.json"
        if path.exists():
            return {name: Prompt.model_validate(d) for name, d in json.loads(path.read_text("utf-8")).items()}
        found = {step.value: self.keeper.get(step.value) for step in Step}
        self._write("prompts.json", json.dumps({n: p.model_dump(mode="json") for n, p in found.items()}, indent=1))
        return found

    def _sides(self, step: Step) -> tuple[Sides, dict[str, str]]:
        return split([case for case in self.cases if case.step is step], self.request.max_cases)

    def _begun(self, step: Step, sides: Sides, groups: dict[str, str], current: Prompt | None = None) -> StepOutcome:
        lacking = sides.lacking(groups)
        version = (current or self.keeper.get(step.value)).version
        detail = f"too few cases: {lacking}. Give more with --data." if lacking else ""
        return StepOutcome(step=step, ending=Ending.FEW_CASES, detail=detail, cases=sides.sizes(), current=version)

    def _step(self, step: Step, current: Prompt, ledger: Ledger) -> StepOutcome:
        sides, groups = self._sides(step)
        found = self._begun(step, sides, groups, current)
        if found.detail:
            return found
        trials = Trials(ledger, self.proof, self.folder, self.secrets, self._measured(step))
        studio = Studio(current, [*sides.train, *sides.dev, *sides.held_out], trials)
        try:
            return self._optimised(step, studio, sides, groups, found)
        except BudgetEnd as error:
            return _ended(found, Ending.BUDGET, error.line())
        except ModelLost as error:
            return _ended(found, Ending.MODEL_LOST, error.line())
        except KeyboardInterrupt:
            ledger.ended = BudgetEnd("It was interrupted.")  # what still asks in the background asks no more
            return _ended(found, Ending.INTERRUPTED, f"interrupted. Go on with --resume {self.id}.")

    def _optimised(
        self, step: Step, studio: Studio, sides: Sides, groups: dict[str, str], found: StepOutcome
    ) -> StepOutcome:
        trials, request = studio.trials, self.request
        ledger = trials.ledger
        self.told(f"{step.value}: the prompt in force, {studio.current.version}, on {len(sides.dev)} dev cases")
        dev = trials.scores(studio.current, sides.dev)
        calls, tokens = ledger.calls, ledger.tokens
        held = trials.scores(studio.current, sides.held_out)
        found = found.model_copy(update={"current_score": round(mean(held), 6)})
        if min([*dev, *held]) >= 1.0:
            return _ended(found, Ending.ALL_RIGHT, "the prompt in force is right on all cases: nothing to better")
        room = (len(sides.held_out), 0) if calls == ledger.calls else (ledger.calls - calls, ledger.tokens - tokens)
        ledger.hold = (int(_MORE * room[0]) + 1, int(_MORE_TOKENS * room[1]))
        self.told(f"{step.value}: {request.optimizer.value} looks for candidates (dev {mean(dev):.2f})")
        searched = optimisers.search(request.optimizer, step, studio, sides, demos=request.demos, seed=request.seed)
        self._write(f"{step.value}.log", searched.log.getvalue())
        if isinstance(searched.ended, ModelLost):
            raise searched.ended
        ledger.lift()
        found = found.model_copy(
            update={
                "tried": len(trials.prompts) - 1,
                "proposals": searched.proposals,
                "failed": searched.failed,
            }
        )
        best = optimisers.best(studio, sides)
        if best is None:
            return _none(found, searched)
        return self._compared(best, studio, sides, groups, held, found)

    def _compared(
        self, best: Prompt, studio: Studio, sides: Sides, groups: dict[str, str], held: list[float], found: StepOutcome
    ) -> StepOutcome:
        """The best candidate beside the current prompt on the held-out cases; a better one is kept."""
        found = found.model_copy(update={"candidate": best.version, "diff": difference(studio.current, best)})
        self.told(f"{found.step.value}: {best.version} is compared on {len(sides.held_out)} held-out cases")
        scores = studio.trials.scores(best, sides.held_out)
        marks = [groups[case.id] for case in sides.held_out]
        interval = compared(held, scores, marks, seed=self.request.seed)
        found = found.model_copy(update={"candidate_score": round(mean(scores), 6), "interval": interval})
        if not is_better(interval):
            return _ended(found, Ending.NOT_BETTER, f"no improvement that is sure: {interval.line()}")
        kept = self.keeper.keep(best, LABEL)
        promoted = self.keeper.promote(best) if self.request.promote else Promoted(done=False, said="")
        where = "; ".join(filter(None, (kept.where, promoted.said)))
        update = {"kept": where, "use": kept.use, "promoted": promoted.done}
        return _ended(found.model_copy(update=update), Ending.BETTER, f"better: {interval.line()}")

    def _measured(self, step: Step) -> Callable[[Prompt, Case, Verdict], None]:
        seen = [0]

        def told(prompt: Prompt, case: Case, verdict: Verdict) -> None:  # noqa: ARG001
            seen[0] += 1
            if not seen[0] % _TELL:
                self.told(f"{step.value}: {seen[0]} answers judged, now those of {prompt.version}")

        return told

    def _write(self, name: str, text: str) -> None:
        """A file of the folder, whole or not at all."""
        part = self.folder / f".{name}.part"
        try:
            part.write_text(text, "utf-8")
            part.replace(self.folder / name)
        except OSError as error:
            raise StateError(f"{self.folder / name} can't be written: {error.strerror}.") from error


def begun(folder: Path) -> tuple[OptimizeRequest, list[Case]]:
    """What an optimisation that was begun there was asked for, and its cases. Raises UsageError for none."""
    try:
        request: Json = json.loads((folder / "request.json").read_text("utf-8"))
        cases = (folder / "cases.jsonl").read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"There is no optimisation {folder.name} to go on with.") from error
    return OptimizeRequest.model_validate(request), list(read_lines(cases, "cases.jsonl"))


def difference(before: Prompt, after: Prompt) -> str:
    """The change of a prompt as a unified diff, its worked examples behind its text."""
    rows = difflib.unified_diff(
        _shown(before).splitlines(keepends=True),
        _shown(after).splitlines(keepends=True),
        fromfile=f"{before.name} {before.version}",
        tofile=f"{after.name} {after.version}",
    )
    return "".join(row if row.endswith("\n") else f"{row}\n" for row in rows)


def _shown(prompt: Prompt) -> str:
    demos = "".join(
        f"\n=== example {n}, given\n{demo.given}\n=== example {n}, answer\n{demo.answer}\n"
        for n, demo in enumerate(prompt.demos, 1)
    )
    return f"{prompt.text.rstrip()}\n{demos}"


def _ended(found: StepOutcome, ending: Ending, detail: str) -> StepOutcome:
    return found.model_copy(update={"ending": ending, "detail": detail})


def _none(found: StepOutcome, searched: optimisers.Search) -> StepOutcome:
    """Nothing better on dev: because nothing came, because each proposal failed, or because the budget ended."""
    why = "; ".join(dict.fromkeys(searched.why[:3]))
    if searched.proposals and searched.failed >= searched.proposals:
        text = f"the optimiser failed: all of its {searched.proposals} proposals could not be used ({why})"
        return _ended(found, Ending.FAILED_PROPOSALS, text)
    if searched.ended is not None:
        return _ended(found, Ending.BUDGET, f"no candidate before the end. {searched.ended.line()}")
    if not found.tried:
        return _ended(found, Ending.NO_CANDIDATE, f"no candidate came of it{f': {why}' if why else ''}")
    return _ended(found, Ending.NOT_BETTER, f"none of {found.tried} candidates is better on the dev cases")
