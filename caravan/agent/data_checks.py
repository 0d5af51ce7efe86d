"""The data of a run with a training type, looked at before anything is launched.

Where this is called: `make_plan`, before a person is asked to approve, and once more where a repair has changed what
was looked at. Problems that are fatal end the run before its job is registered; the others are told at approval.
"""

from collections.abc import Callable

from caravan.agent.context import Context
from caravan.agent.data_look import look as _look
from caravan.agent.state import RunState, Update
from caravan.agent.training import source_of
from caravan.analysis.tree import SourceTree
from caravan.training.data.lengths import enough
from caravan.values.base import Json, sha256_text
from caravan.values.base import canonical_json as canonical
from caravan.values.plan import TrainingPlan
from caravan.values.training import DataProblem, DataReport, TrainingChoice, TrainingType

Look = Callable[[TrainingType, TrainingChoice, TrainingPlan, SourceTree, Context], DataReport]
"""A look at a plan's data. It raises nothing for what is wrong with them: that is what it reports."""

_LOOKED_AT = (
    "dataset",
    "model",
    "training.output_dir",
    "training.save_total_limit",
    "training.max_len",
    "training.method",
    "data",
    "training.options",
    "outputs",
)


def data_report(plan: TrainingPlan, state: RunState, context: Context, look: Look | None = None) -> DataReport | None:
    """What the plan's data are; None where the repository's own program trains, or a cluster is not asked for."""
    choice = state.training
    if choice is None or plan.dataset.path is None:
        return None
    return (look or _look)(context.types().get(choice.type).type, choice, plan, source_of(state, context), context)


def looked_at(plan: TrainingPlan) -> str:
    """A digest of the fields that a look depends on: another one, and the data are looked at again."""
    document: dict[str, Json] = {path: plan.get(path) for path in _LOOKED_AT}
    return sha256_text(canonical(document))


def seen_again(state: RunState, context: Context) -> tuple[RunState, Update]:
    """The state with another look at the data where the plan's are others by now, and the update that keeps it."""
    plan = state.need_plan()
    if state.training is None or looked_at(plan) == state.data_seen:
        return state, {}
    update: Update = {"data": data_report(plan, state, context), "data_seen": looked_at(plan)}
    return state.model_copy(update=update), update


def fatal(report: DataReport | None) -> tuple[str, ...]:
    """The lines for which nothing is launched, as the scripts write them, so that one diagnosis reads both."""
    return tuple(_line(problem) for problem in report.fatal) if report else ()


def warned(report: DataReport | None) -> tuple[str, ...]:
    """What a person should know before they approve, a line for each."""
    if report is None:
        return ()
    return (*(_told(p) for p in report.problems if not p.fatal), *_shorter(report))


def _shorter(report: DataReport) -> tuple[str, ...]:
    """That a shorter limit would do: memory and time are estimated by it."""
    less = enough(report.lengths) if report.lengths else None
    if report.lengths is None or less is None:
        return ()
    told = f"the longest row has {'about ' * report.lengths.estimated}{report.lengths.longest} tokens"
    return (f"{told}: training.max_len={less} would do, by which memory and time are estimated",)


def _line(problem: DataProblem) -> str:
    return f"caravan-train: {problem.kind.value}: {_told(problem)}"


def _told(problem: DataProblem) -> str:
    where = f"{problem.file}{f':{problem.line}' if problem.line else ''}: " if problem.file else ""
    return f"{where}{problem.text}"
