"""`optimize`: better prompts for the steps that ask a language model, found by DSPy and compared on held-out cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Optimising
    from caravan.values.base import Json
    from caravan.values.optimization import OptimizeOutcome, StepOutcome

StepsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STEP]...", help="questions, plan, diagnose, repair; unsaid: all.", show_default=False),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="KIND=PLACE",
        help="More cases: failures=FILE, cases=FILE, langfuse=DATASET; repeatable.",
    ),
]


def optimize(
    ctx: typer.Context,
    steps: StepsArgument = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="bootstrap (the default), miprov2 or gepa.", show_default=False)
    ] = None,
    max_calls: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Calls of the model in all; 600 unless told otherwise.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Tokens in all; 3 million unless told otherwise.")
    ] = None,
    max_cases: Annotated[
        int | None, typer.Option(min=8, metavar="N", help="Cases of a step that are used; 40 unless told otherwise.")
    ] = None,
    demos: Annotated[
        int | None,
        typer.Option(min=0, max=8, metavar="N", help="Worked examples in a prompt; 3 unless told."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed does the same again.")] = None,
    data: DataOption = None,
    only_data: Annotated[
        bool, typer.Option("--only-data", help="Those of --data alone: neither past runs nor shipped cases.")
    ] = False,
    promote: Annotated[bool, typer.Option("--promote", help="Let runs use what is better at once.")] = False,
    resume: Annotated[str | None, typer.Option(metavar="ID", help="Go on with one that was left.")] = None,
    push_data: Annotated[
        str | None, typer.Option("--push-data", metavar="DATASET", help="Only bring the cases to a LangFuse dataset.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Look for better prompts by DSPy, and keep those that are better on held-out cases."""
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    given = {"max_calls": max_calls, "max_tokens": max_tokens, "max_cases": max_cases, "demos": demos, "seed": seed}
    asked: dict[str, Json] = {name: value for name, value in given.items() if value is not None}
    asked |= {"promote": True} if promote else {}
    asked |= {"only_data": True} if only_data else {}
    asked |= {"data": tuple(data)} if data else {}
    asked |= _chosen(steps, optimizer)
    if resume is not None:
        _only_limits(asked)
    if push_data is not None:
        count = wiring.put_cases(asked, push_data)
        told: dict[str, Json] = {"dataset": push_data, "items": count}
        terminal.document(told) if as_json else terminal.out(f"{count} cases are in the dataset {push_data}.")
        return 0
    with wiring.optimisation(asked, resume, terminal.err) as found:
        _told_before(found, terminal)
        if dry_run:
            if as_json:
                rows = [step.model_dump(mode="json") for step in found.plan()]
                terminal.document({"id": found.id, "steps": rows, "questions_at_most": found.questions_at_most()})
            return 0
        outcome = found.run()
    _told_after(outcome, terminal, as_json=as_json)
    return exit_code(outcome)


def exit_code(outcome: OptimizeOutcome) -> int:
    """0: some step has a better prompt. 1: none has. 5: the model was lost. 130: interrupted."""
    from caravan.values.optimization import Ending

    endings = {step.ending for step in outcome.steps}
    if Ending.INTERRUPTED in endings:
        return 130
    if Ending.MODEL_LOST in endings:
        return 5
    return 0 if outcome.better else 1


def _chosen(steps: list[str] | None, optimizer: str | None) -> dict[str, Json]:
    """Steps and optimiser by their names. Raises UsageError for one that there is not."""
    from caravan.values.optimization import Optimizer, Step

    known, ways = [step.value for step in Step], [way.value for way in Optimizer]
    unknown = [step for step in steps or () if step not in known]
    if unknown:
        raise UsageError(f"There is no step {unknown[0]!r} to optimise.", hint=f"There are: {', '.join(known)}.")
    if optimizer is not None and optimizer not in ways:
        raise UsageError(f"There is no optimiser {optimizer!r}.", hint=f"There are: {', '.join(ways)}.")
    found: dict[str, Json] = {"steps": tuple(dict.fromkeys(steps))} if steps else {}
    return found | ({"optimizer": optimizer} if optimizer else {})


def _only_limits(asked: dict[str, Json]) -> None:
    """What was begun goes on as it was begun; only what it may use, and what becomes of it, may change."""
    other = sorted(set(asked) - {"max_calls", "max_tokens", "promote"})
    if other:
        name = other[0].replace("_", "-")
        raise UsageError(f"An optimisation goes on as it was begun: {name} can't change.", hint="Begin another.")


def _told_before(found: Optimising, terminal: Terminal) -> None:
    """What it will do, and how much that is at most."""
    request = found.request
    terminal.err(f"Optimisation {found.id} by {request.optimizer.value}, seed {request.seed}:")
    for step in found.plan():
        sizes = ", ".join(f"{count} {name.replace('_', '-')}" for name, count in step.cases.items())
        terminal.err(f"  {step.step.value} {step.current}: {sizes} cases{f'; {step.detail}' if step.detail else ''}")
    terminal.err(
        f"  at most {found.questions_at_most()} questions, a call or more each; "
        f"never more than {request.max_calls} calls and {request.max_tokens} tokens"
    )


def _told_after(outcome: OptimizeOutcome, terminal: Terminal, *, as_json: bool) -> None:
    if as_json:
        terminal.document(outcome.model_dump(mode="json") | {"better": outcome.better})
        return
    for step in outcome.steps:
        for line in _lines(step):
            terminal.out(line)
    used = f"{outcome.calls} calls and {outcome.tokens} tokens of {outcome.model}, {outcome.seconds:.1f} s"
    terminal.out(f"Used in all: {used}. {outcome.asked} of the calls were made now.")


def _lines(step: StepOutcome) -> list[str]:
    """One step for people: what came of it, the diff, what to do next."""
    found = [one_line(f"{step.step.value}: {step.detail}", 600)]
    if step.candidate_score is not None and step.current_score is not None:
        held = step.cases.get("held_out", 0)
        found.append(
            f"  on {held} held-out cases: {step.current} {step.current_score:.2f}, "
            f"{step.candidate} {step.candidate_score:.2f}"
        )
    found.append(f"  {step.kept}") if step.kept else None
    found += step.diff.rstrip("\n").split("\n") if step.diff else []
    if step.kept and not step.promoted:
        found.append(f"  Runs use it after: python main.py {step.use}")
    return found
