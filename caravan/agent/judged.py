"""What the gate is given of a run, and its report: the metrics of the training's log, and what an evaluation measured.

It judges nothing itself (`caravan.gate`). What jobs wrote is data: bounded, checked, without secrets.
"""

from pathlib import Path
from typing import Final, NamedTuple

from caravan.agent.context import Context
from caravan.agent.logs import task_logs
from caravan.agent.metrics import metric_rows
from caravan.agent.state import RunState
from caravan.agent.training_lines import by_log, training_end
from caravan.gate.judging import judge
from caravan.planning.evaluating import evaluation_words, in_last_phase
from caravan.values.errors import ClusterError, UsageError
from caravan.values.evaluation import EVALUATION_PATH, EvaluationResult, GateReport, parse_evaluation
from caravan.values.masked import masked_value
from caravan.values.training import MetricSpec

_MOST_BYTES: Final = 4 << 20
"""Of an evaluation's answer that are read: 20 generations and some thousand ids are less than one million."""
_LOG_BYTES: Final = 16 << 20
"""Of a training's log that are read for its metrics, from its end."""
_MOST_ROWS: Final = 200_000


class TrainingLog(NamedTuple):
    """The training's own log, as far as it is read: without its first steps and its evaluation. `names`: metrics that
    are known by their names. `whole`: it begins where the training began; None: it may.
    """

    text: str
    names: tuple[str, ...]
    whole: bool | None


def training_log(state: RunState, context: Context) -> TrainingLog:
    """The log of the training that ended last."""
    plan, outcome = state.need_plan(), state.outcome
    wanted = (plan.target.metric if plan.target else None, plan.evaluation.metric)
    names = (*(name for name in wanted if name), *state.need_profile().metrics_logged)
    logs: tuple[tuple[Path, ...], ...] = ()
    if outcome is not None and outcome.alloc_id:
        logs = by_log(task_logs(context, outcome.alloc_id, outcome.task))
    ends = [training_end(parts, _LOG_BYTES // len(logs)) for parts in logs]
    resumed = bool(state.attempts) and state.attempts[-1].resumed.startswith("resumed from")
    text = b"\n".join(data for data, _ in ends).decode("utf-8", "replace")
    return TrainingLog(text, names, False if resumed or any(cut for _, cut in ends) else None)


def measured(state: RunState, context: Context) -> EvaluationResult | None:
    """What the last phase of the training's job measured; None where it has none, or that left nothing.

    In any other job of a training such a file is the training's own: nothing of ours wrote it.
    """
    outcome = state.outcome
    if not in_last_phase(state.need_plan()):
        return None
    return answer_in(outcome.alloc_id, context) if outcome is not None and outcome.alloc_id else None


def answer_in(alloc_id: str, context: Context) -> EvaluationResult | None:
    """What an evaluation has left in that allocation, without secrets; None: nothing, or nothing that can be read."""
    try:
        data = context.cluster.read_part(alloc_id, EVALUATION_PATH, offset=0, limit=_MOST_BYTES)
    except ClusterError:  # not there, collected, denied, not reached: then it is not known
        return None
    found = parse_evaluation(data)
    return masked_value(found, context.secrets) if found is not None else None


def gate_report(
    state: RunState, context: Context, result: EvaluationResult | None, log: TrainingLog, *, expected: bool = True
) -> GateReport:
    """What the gate makes of the last trained model. `expected` False: what its plan would evaluate is not there."""
    rows = list(metric_rows(log.text.splitlines(), names=log.names))[-_MOST_ROWS:]
    plan = state.need_plan()
    return judge(
        plan,
        result=result,
        rows=rows,
        definitions=definitions_of(state, context),
        expected=expected and plan.evaluation.on is not False and evaluation_words(plan) is not None,
        whole=log.whole,
    )


def definitions_of(state: RunState, context: Context) -> tuple[MetricSpec, ...]:
    """What the training type says of the metrics that it logs; nothing of a repository's own program."""
    if state.training is None:
        return ()
    try:
        return context.types().get(state.training.type).type.metrics
    except UsageError:  # the type has gone since
        return ()
