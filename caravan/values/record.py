"""A run as the store keeps it: what was asked for, where it stands, its deployments, what happened.

It is apart from `run.py` because a list of runs needs nothing else: no plan, no diagnosis, no figures.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import Field

from caravan.values.base import Json, Value
from caravan.values.changes import PlanChange


class Repeats(Value):
    """That a run repeats another one. `tolerance`: share of the original's value by which a metric may be off; None:
    as the spread over seeds, else the default, has it. `anyway`: also where the data are others by now. `source`: what
    is opened in place of the repository, which may have changed since: the code that was kept, or its commit.
    """

    run_id: str
    source: str = ""
    tolerance: float | None = Field(default=None, ge=0)
    anyway: bool = False


class RunRequest(Value):
    """What the user asked for. `source` is a path or a URL without credentials; `sets` are `--set`, already typed."""

    prompt: str
    source: str
    cluster: str = Field(
        default="local", description="`local` or the address: resolved once, so that a resumed run finds its job"
    )
    namespace: str = Field(default="default", description="Nomad namespace of the run's jobs")
    profile: str = Field(default="", description="name of the cluster profile that the address came from")
    answers: dict[str, Json] = Field(default_factory=dict)
    sets: tuple[PlanChange, ...] = ()
    yes: bool = False
    budget_usd: float | None = Field(default=None, ge=0)
    dry_run: bool = False
    plan_file: str = Field(default="", description="the plan file that `sets` came from, as it was named")
    send_secrets: bool = Field(default=False, description="write missing secrets to the cluster without asking")
    reproduces: Repeats | None = Field(default=None, description="the run that this one repeats, with its plan")


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    WAITING = "waiting"  # for a person: a question or an approval
    PLANNED = "planned"  # ended before deployment because --dry-run asked so
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ESCALATED = "escalated"  # ended with something only a person can mend
    REJECTED = "rejected"  # the user said no
    STOPPED = "stopped"


ENDED = frozenset(
    {
        RunStatus.PLANNED,
        RunStatus.SUCCEEDED,
        RunStatus.FAILED,
        RunStatus.ESCALATED,
        RunStatus.REJECTED,
        RunStatus.STOPPED,
    }
)
"""Statuses from which a run does not go on by itself."""

EXIT_CODES: dict[RunStatus, int] = {
    RunStatus.RUNNING: 130,  # left running: interrupted, or another agent has it
    RunStatus.WAITING: 3,
    RunStatus.PLANNED: 0,
    RunStatus.SUCCEEDED: 0,
    RunStatus.FAILED: 1,
    RunStatus.ESCALATED: 3,
    RunStatus.REJECTED: 3,
    RunStatus.STOPPED: 130,
}
"""The command's exit code for each status a run can be left in."""


class RunRecord(Value):
    """A run as the store keeps it."""

    id: str
    created_at: datetime
    updated_at: datetime
    status: RunStatus = RunStatus.RUNNING
    node: str = ""
    request: RunRequest
    detail: str = Field(default="", description="the reason of the status in one line")
    cost_usd: float = 0.0
    user: str = Field(default="", description="who began it; empty: it was not known then")


class RunEvent(Value):
    """Something that happened in a run, for `show`, the web page and later analysis. `data` is small."""

    at: datetime
    kind: str
    text: str = ""
    data: dict[str, Json] = Field(default_factory=dict)


class Phase(StrEnum):
    """What a job is doing, for a person."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"


class DeploymentState(StrEnum):
    """How far a deployment is known to have come."""

    INTENDED = "intended"  # stored before the registration
    REGISTERED = "registered"  # the cluster has it
    FINISHED = "finished"  # judged
    UNKNOWN = "unknown"  # was registered, is gone


class Stretch(StrEnum):
    """The parts of a deployment that have a deadline each."""

    QUEUED = "queued"  # no node has taken it
    GANG = "gang"  # some members of a group have a place and wait for the others
    START = "start"  # image, artifacts, templates: placed, but no task runs
    FIRST_SIGN = "first_sign"  # a task runs and has written nothing yet
    SILENCE = "silence"  # a task runs and has written something
    RUN = "run"  # beside the others: it runs longer than it may, and nothing on the cluster ends it
    BUDGET = "budget"  # beside the others too: the approved money is used up


class Watched(Value):
    """How much of a deadline is used up, as the agent that watched last stored it.

    `mark` is what the deadline counts from: as soon as it is another one, the deadline begins anew. `at` and
    `monotonic` are the two clocks when this was stored. `since` is when the job can have been placed at the earliest,
    and `age_s` how long ago that was when this was stored, by the clock that never jumps.
    """

    stretch: Stretch = Stretch.QUEUED
    mark: str = ""
    spent_s: float = 0.0
    ran_mark: str = ""
    ran_s: float = Field(default=0.0, description="how long the allocations of `ran_mark` have had a running task")
    at: datetime
    monotonic: float
    since: datetime | None = None
    age_s: float = 0.0
    noted: bool = Field(default=False, description="it was said that half of the time is over")
    alarm: str = Field(default="", description="why the job was stopped: its deadline passed. Stored before the stop")


class Purpose(StrEnum):
    """What a job of a run is for."""

    TRAIN = "train"
    EVALUATE = "evaluate"  # of the model that the training of the same attempt left


MODEL_CALL: Final = "model_call"
"""Kind of the events that tell a call of a language model."""

EVALUATION_PLACED: Final = "evaluation_placed"
"""Kind of the event that says to which node an evaluation's job came; a training's is `placed`."""


class Deployment(Value):
    """One deployed job of an attempt. `spec_sha256` recognises the registered job as this spec."""

    run_id: str
    attempt: int = Field(ge=1)
    purpose: Purpose = Purpose.TRAIN
    job_id: str
    namespace: str = "default"
    spec_sha256: str
    plan_sha256: str
    state: DeploymentState = DeploymentState.INTENDED
    registered_at: datetime | None = None
    eval_id: str | None = None
    job_modify_index: int | None = None
    hcl_path: str | None = None
    watched: Watched | None = Field(default=None, description="kept in the store alone; None before it is registered")
