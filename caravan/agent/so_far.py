"""What a run has come to so far, of which no result was stored: it still runs, or ended before results were kept."""

from caravan.agent.state import RunState
from caravan.agent.versions import result_of
from caravan.values.registry import RunResult
from caravan.values.run import RunRecord


def result_so_far(state: RunState, record: RunRecord) -> RunResult:
    """The result by the run's last checkpoint, without what was measured beside its metrics; it must have a plan."""
    return result_of(state, at=record.updated_at, status=record.status, cost_usd=record.cost_usd)
