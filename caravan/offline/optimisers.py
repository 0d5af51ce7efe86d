"""DSPy's optimisers on one step: each looks for candidates, which the trials keep; the best of them is chosen here.

An optimiser's own word on its success counts for nothing. Importing this module does not load DSPy.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final

from caravan.offline.ledger import BudgetEnd, Ledger, ModelLost
from caravan.offline.program import Studio, example_of, lm_of, load_dspy, program_of, quiet
from caravan.offline.scoring import RIGHT
from caravan.offline.split import Sides
from caravan.offline.trials import mean
from caravan.values.optimization import Optimizer, Step
from caravan.values.prompts import Prompt

SHUFFLES: Final = 4
"""Sets of worked examples that bootstrap tries."""
ROUNDS: Final = 2
"""Answers to a training case that are looked at for a right one."""
INSTRUCTIONS: Final = 4
"""Instructions that MIPROv2 proposes, and sets of worked examples that it combines them with."""
TRIALS: Final = 8
"""Combinations of them that it measures."""
EVALUATIONS: Final = 8
"""Times that GEPA may measure as many cases as dev has."""
MINIBATCH: Final = 3
"""Cases of one reflection of GEPA."""
HOPELESS: Final = 8
"""Proposals that all fail, after which GEPA is stopped: it would go on as long as it has cases to look at."""
_KEEP: Final = (
    "The instructions are the whole first part of a prompt. Keep every place in double braces, like {{name}}, as it "
    "is, and every line that speaks of data blocks. Name no examples' own names, paths or figures: the instructions "
    "must hold for cases that nobody has seen."
)
"""What GEPA is told beside its own prompt."""


@dataclass
class Search:
    """What a search came to: how many instructions were proposed and failed, and why it ended before its end."""

    proposals: int = 0
    failed: int = 0
    why: list[str] = field(default_factory=list)
    ended: BudgetEnd | ModelLost | None = None
    log: StringIO = field(default_factory=StringIO)


def questions_at_most(optimizer: Optimizer, sizes: Mapping[str, int]) -> int:
    """How many questions an optimisation of a step asks at most, the comparison included: an upper bound.

    A question is one call, more where a reply must be asked for again or tools are called.
    """
    train, dev, held_out = (sizes[name] for name in ("train", "dev", "held_out"))
    found = {
        Optimizer.BOOTSTRAP: ROUNDS * train + SHUFFLES * dev,
        # Data summaries (at most ten), one proposal for each instruction, and what examples they are shown.
        Optimizer.MIPROV2: train * (INSTRUCTIONS + 1) + (TRIALS + 2) * dev + 12 + 2 * INSTRUCTIONS,
        Optimizer.GEPA: (EVALUATIONS + 1) * dev + 2 * MINIBATCH + EVALUATIONS * dev // MINIBATCH + 1,
    }
    return found[optimizer] + dev + 2 * held_out


def search(optimizer: Optimizer, step: Step, studio: Studio, sides: Sides, *, demos: int, seed: int) -> Search:
    """Look for candidates; they are in the studio's trials afterwards, measured on dev where there was room."""
    dspy, found = load_dspy(), Search()
    ledger = studio.trials.ledger
    with _Stopped(ledger), quiet(dspy, found.log, lm_of(dspy, ledger)):
        _SEARCHES[optimizer](dspy, step, studio, sides, demos, seed, found)
    found.ended = ledger.ended
    return found


class _Stopped:
    """Ends a search that can ask no more. DSPy wraps what ended it, or raises an exception of no kind at all: it is
    known by the ledger's own word. Any other exception passes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __enter__(self) -> None:
        """Nothing is begun."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, Exception) and self._ledger.ended is not None


def best(studio: Studio, sides: Sides) -> Prompt | None:
    """The candidate of the highest mean on dev among those measured on all of it; None: the current prompt is.

    Of equal ones the shorter, which costs less in every run.
    """
    current = studio.trials.known(studio.current, sides.dev) or []
    ranked = []
    for prompt in studio.trials.prompts.values():
        scores = studio.trials.known(prompt, sides.dev)
        if scores is not None and prompt.version != studio.current.version:
            ranked.append((-mean(scores), _length(prompt), prompt.version, prompt))
    ranked.sort(key=lambda row: row[:3])
    return ranked[0][3] if ranked and -ranked[0][0] > mean(current) else None


def _length(prompt: Prompt) -> int:
    return len(prompt.text) + sum(len(demo.given) + len(demo.answer) for demo in prompt.demos)


def _metric(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001
    """The score as it was judged when the case was answered."""
    return float(prediction.score)


def _bootstrap(dspy: Any, step: Step, studio: Studio, sides: Sides, demos: int, seed: int, found: Search) -> None:
    """Sets of worked examples out of right answers to training cases in other orders, each measured on dev."""
    shuffled = random.Random(seed)  # noqa: S311
    for _ in range(SHUFFLES):
        order = list(sides.train)
        shuffled.shuffle(order)
        teacher = dspy.BootstrapFewShot(
            metric=_metric,
            metric_threshold=RIGHT,
            max_bootstrapped_demos=demos,
            max_labeled_demos=0,
            max_rounds=ROUNDS,
            max_errors=1,
        )
        trainset = [example_of(dspy, studio, case) for case in order]
        made = teacher.compile(program_of(dspy, studio, step), trainset=trainset)
        prompt = studio.prompt(made.ask.signature.instructions, [dict(demo) for demo in made.ask.demos])
        if prompt is not None and prompt.version != studio.current.version:
            studio.trials.scores(prompt, sides.dev)
    if len(studio.trials.prompts) < 2:
        found.why.append("no answer to a training case was right, so that there is no worked example")


def _miprov2(dspy: Any, step: Step, studio: Studio, sides: Sides, demos: int, seed: int, found: Search) -> None:
    """Instructions that the model proposes, combined with worked examples, by Bayesian search."""
    optimiser = dspy.MIPROv2(
        metric=_metric,
        metric_threshold=RIGHT,
        auto=None,
        num_candidates=INSTRUCTIONS,
        max_bootstrapped_demos=demos,
        max_labeled_demos=0,
        num_threads=1,
        max_errors=1,
        seed=seed,
    )
    before = set(studio.refused)
    try:
        made = optimiser.compile(
            program_of(dspy, studio, step),
            trainset=[example_of(dspy, studio, case) for case in sides.train],
            valset=[example_of(dspy, studio, case) for case in sides.dev],
            num_trials=TRIALS,
            minibatch=False,
            program_aware_proposer=False,
        )
        prompt = studio.prompt(made.ask.signature.instructions, [dict(demo) for demo in made.ask.demos])
        if prompt is not None:
            studio.trials.scores(prompt, sides.dev)
    finally:
        _count(studio, before, found)


def _gepa(dspy: Any, step: Step, studio: Studio, sides: Sides, demos: int, seed: int, found: Search) -> None:  # noqa: ARG001
    """Instructions that the model rewrites after it has read what went wrong."""
    from dspy.teleprompt.gepa import InstructionProposer

    inner = InstructionProposer(additional_instructions=_KEEP)

    def proposer(candidate: Any, reflective_dataset: Any, components_to_update: Sequence[str]) -> Any:
        found.proposals += 1
        try:
            made = inner(
                candidate=candidate,
                reflective_dataset=reflective_dataset,
                components_to_update=components_to_update,
            )
        except Exception as error:
            if studio.trials.ledger.ended is not None:  # DSPy has wrapped it: nothing was proposed
                found.proposals -= 1
            else:
                found.failed += 1
                found.why.append(f"a proposal could not be read ({type(error).__name__})")
            raise
        if all(studio.prompt(text, ()) is None for text in made.values()):
            found.failed += 1
            found.why += [studio.refused[text] for text in made.values() if text in studio.refused]
        return made

    def metric(gold: Any, pred: Any, trace: Any = None, name: Any = None, steps: Any = None) -> Any:  # noqa: ARG001
        return dspy.Prediction(score=float(pred.score), feedback=str(pred.feedback))

    optimiser = dspy.GEPA(
        metric=metric,
        max_metric_calls=EVALUATIONS * len(sides.dev) + MINIBATCH,
        reflection_minibatch_size=MINIBATCH,
        reflection_lm=dspy.settings.lm,
        instruction_proposer=proposer,
        use_merge=False,
        num_threads=1,
        seed=seed,
        gepa_kwargs={"stop_callbacks": [lambda _: studio.trials.ledger.ended is not None or _hopeless(found)]},
    )
    made = optimiser.compile(
        program_of(dspy, studio, step),
        trainset=[example_of(dspy, studio, case) for case in sides.train],
        valset=[example_of(dspy, studio, case) for case in sides.dev],
    )
    prompt = studio.prompt(made.ask.signature.instructions, ())
    if prompt is not None:
        studio.trials.scores(prompt, sides.dev)


def _hopeless(found: Search) -> bool:
    """Whether the model has shown that it proposes nothing that can be used."""
    return found.failed >= HOPELESS and found.failed == found.proposals


def _count(studio: Studio, before: set[str], found: Search) -> None:
    """What of the instructions that were proposed could be used."""
    refused = [head for head in studio.refused if head not in before]
    heads = {prompt.text for prompt in studio.trials.prompts.values()} - {studio.current.text}
    found.proposals = len(refused) + len(heads)
    found.failed = len(refused)
    found.why += [studio.refused[head] for head in refused]


_SEARCHES: Final = {Optimizer.BOOTSTRAP: _bootstrap, Optimizer.MIPROV2: _miprov2, Optimizer.GEPA: _gepa}
