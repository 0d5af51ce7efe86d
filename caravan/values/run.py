"""What becomes of a run on a cluster: snapshots of its jobs, the judged outcome, the attempt as the report tells it."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from pydantic import ConfigDict, Field

from caravan.values.base import Json, Value
from caravan.values.evaluation import GateReport
from caravan.values.failure import Diagnosis, Repair
from caravan.values.job import PlacementFailure
from caravan.values.record import ENDED as ENDED
from caravan.values.record import EVALUATION_PLACED as EVALUATION_PLACED
from caravan.values.record import EXIT_CODES as EXIT_CODES
from caravan.values.record import Deployment as Deployment
from caravan.values.record import DeploymentState as DeploymentState
from caravan.values.record import Phase as Phase
from caravan.values.record import Purpose as Purpose
from caravan.values.record import Repeats as Repeats
from caravan.values.record import RunEvent as RunEvent
from caravan.values.record import RunRecord as RunRecord
from caravan.values.record import RunRequest as RunRequest
from caravan.values.record import RunStatus as RunStatus
from caravan.values.record import Stretch as Stretch
from caravan.values.record import Watched as Watched
from caravan.values.samples import ResourceUse


class TaskEvent(Value):
    """An event of a task's life, in Nomad's words. `at` is UTC."""

    type: str
    message: str = ""
    at: datetime
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    details: dict[str, str] = Field(default_factory=dict)


class TaskState(Value):
    """A task of an allocation. `state` is pending, running or dead."""

    name: str
    state: str
    failed: bool = False
    restarts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    events: tuple[TaskEvent, ...] = ()

    def terminated(self) -> TaskEvent | None:
        """The last `Terminated` event, which carries exit code and signal, or None."""
        return next((e for e in reversed(self.events) if e.type == "Terminated"), None)


class Allocation(Value):
    """An allocation. `client_status` is pending, running, complete, failed, lost or unknown."""

    id: str
    name: str
    group: str
    node_id: str = ""
    node_name: str = ""
    client_status: str
    client_description: str = ""
    desired_status: str = "run"
    desired_description: str = ""
    previous_id: str | None = None
    next_id: str | None = None
    job_version: int | None = Field(default=None, description="the job's version that it runs; None: not known")
    tasks: tuple[TaskState, ...] = ()


class Snapshot(Value):
    """A job on the cluster at one moment. `reason` says in one line why it is in this phase, where that is known."""

    job_id: str
    at: datetime
    phase: Phase
    job_status: str = ""
    modify_index: int = Field(default=0, description="the job's own JobModifyIndex: another one, another registration")
    version: int = Field(default=0, description="counts the registrations that changed the job")
    stopped: bool = False
    allocations: tuple[Allocation, ...] = ()
    placement_failures: tuple[PlacementFailure, ...] = ()
    reason: str = ""


class Sentinel(Value):
    """The result file that our launch script writes last, inside the allocation. It proves that the script ended."""

    job_id: str
    spec_sha256: str
    exit_code: int


MOST_OF_NOTE: Final = 500
"""Characters of what first steps say of themselves."""


class SmokeResult(Value):
    """What the first phase of a job measured, in the job's own words. None: not seen, and `note` says why.

    `ended`: after its steps, after its time, or the training ended within it, well or not; `unjudged`: it failed in a
    way that tells nothing of the plan; `skipped`: it could not be run. `verdict`: why the rest was not begun.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    steps: int = Field(default=0, ge=0)
    seconds_per_step: float | None = Field(default=None, ge=0, description="the first steps left out")
    peak_gpu_gib: float | None = Field(default=None, ge=0, description="of one GPU, as the device or torch counts it")
    allocated_gib: float | None = Field(default=None, ge=0, description="of it, what torch had in use")
    gpu_total_gib: float | None = Field(default=None, ge=0)
    peak_host_mb: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0, description="the whole phase, loading included")
    first_step_s: float | None = Field(default=None, ge=0, description="until the first step was made")
    processes: int = Field(default=1, ge=1)
    total_steps: int | None = Field(default=None, ge=1, description="of the whole training, all its processes together")
    projected_s: float | None = Field(default=None, ge=0, description="the whole training at this speed")
    left: float = Field(default=1.0, ge=0, le=1, description="share of it that was left to do")
    allowed_s: float | None = Field(default=None, ge=0, description="what that was held against")
    extra_gib: float = Field(default=0.0, ge=0, description="what each GPU needs beside it with all processes")
    usd: float | None = Field(default=None, ge=0, description="the whole training at the price that was given")
    ended: Literal["steps", "time", "finished", "failed", "unjudged", "skipped"] = "steps"
    exit_code: int | None = None
    verdict: Literal["", "time", "memory"] = ""
    note: str = Field(default="", max_length=MOST_OF_NOTE)


SMOKE_PATH: Final = "alloc/data/caravan-smoke.json"
"""Where a job leaves that, in its allocation."""

DRAGGED: Final = 76
"""What a member's script ends with where another member ended before, and that is why."""

SMOKE_OVER: Final = 80
"""Exit code of a job whose first steps say that the rest is beyond what was approved."""


def parse_smoke(data: bytes) -> SmokeResult | None:
    """What a job says of its first phase, or None for what is none."""
    try:
        return SmokeResult.model_validate(json.loads(data))
    except (ValueError, RecursionError):
        return None


class OutcomeKind(StrEnum):
    """How a deployment ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the task ended with an error or was killed
    INTERRUPTED = "interrupted"  # from outside: stopped, preempted, node lost, drained
    EXPIRED = "expired"  # its time limit
    STALLED = "stalled"  # a deadline of ours: it never started, showed no sign of progress, or fell silent
    CHANGED = "changed"  # somebody else registered the job anew: what ran is not what was planned
    NOT_PLACED = "not_placed"  # never got an allocation
    GONE = "gone"  # the job is not there any more
    UNPROVEN = "unproven"  # it looks complete, but exit code, events and sentinel disagree


IN_EVALUATION: Final = "while its model was evaluated: the training had ended well"
"""How the reason of an outcome ends whose job was ended behind the training itself."""


class Outcome(Value):
    """How a deployment ended, judged by task events, exit code and the sentinel together."""

    kind: OutcomeKind
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool = False
    alloc_id: str | None = None
    node_name: str = ""
    task: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the training ended well."""
        return self.kind is OutcomeKind.SUCCEEDED


class Attempt(Value):
    """One deployed attempt as the report tells it."""

    number: int
    job_id: str
    hcl_path: str
    plan_sha256: str
    counts: bool = Field(default=True, description="False when it ended by an interruption from outside")
    outcome: Outcome | None = None
    diagnosis: Diagnosis | None = None
    repair: Repair | None = None
    uses: tuple[ResourceUse, ...] = Field(default=(), description="what each member used, where it was sampled")
    observed: tuple[str, ...] = Field(default=(), description="what that says of a failure, beside its cause")
    resumed: str = Field(default="", description="what it went on from, or why it started anew, in words")
    gate: GateReport | None = Field(default=None, description="what was made of its model, where it trained one")
    changed: dict[str, tuple[Json, Json]] = Field(
        default_factory=dict, description="what the repair changed in the plan: path to (before, after)"
    )
