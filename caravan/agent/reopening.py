"""A run that ended with something for a person is taken up again: with what they have set or mended meanwhile.

Its history stays; attempts and fixes are counted anew, what was spent is not. The plan is approved as a first one is.
"""

from collections.abc import Sequence
from typing import Final

from caravan.agent.reproducing import must_stay
from caravan.agent.state import RunState, Update
from caravan.values.errors import UsageError
from caravan.values.plan import PlanChange, apply_changes
from caravan.values.run import RunEvent, RunStatus

REOPENED: Final = "reopened"
"""Kind of the run's event."""
TAKEN_UP: Final = (RunStatus.ESCALATED, RunStatus.FAILED)
AS_NODE: Final = "fix_iteration"
"""The person's change stands where a repair would stand: the estimate comes next."""


def since_reopened(events: Sequence[RunEvent]) -> Sequence[RunEvent]:
    """The events since the run was last taken up: what its nodes have noted of this time."""
    begun = max((n for n, event in enumerate(events, start=1) if event.kind == REOPENED), default=0)
    return events[begun:]


def reopened(state: RunState, changes: Sequence[PlanChange]) -> Update:
    """The state with these changes by a person, before its estimate. Raises PlanError for a change that can't be made,
    UsageError for a run that has no plan."""
    if state.plan is None:
        raise UsageError(f"Run {state.run_id} has no plan to go on with.", hint="Start the training again.")
    must_stay(state, tuple(changes))
    used = state.deployment is not None and state.deployment.attempt == state.sequence
    clean = ("failure", "diagnosis", "answered", "outcome", "asking", "unplaced", "envelope", "deployment")
    return {
        **dict.fromkeys(clean),
        "plan": apply_changes(state.plan, changes),
        "request": state.request.model_copy(update={"sets": (*state.request.sets, *changes)}),
        "status": RunStatus.RUNNING,
        "detail": "",
        "exhausted": "",
        "fixes": 0,
        "interruptions": 0,
        "tried": (),
        "choices": (),
        "wished": {},
        "lost": False,
        "turn": "deploy",
        "before": len(state.attempts),
        "sequence": state.sequence + used,
    }
