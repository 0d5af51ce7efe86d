"""The ports: what the agent needs from outside, as Protocols. Each has a real and a fake implementation.

A port speaks in our values and raises our errors (`caravan.values.errors`); what is foreign stays behind it.
Implementations: Cluster in `caravan/cluster/`, Reasoner and Adviser in `caravan/agent/`, Memory in `memory.py`,
Tracer in `observability.py`, Store and RunFolder in `caravan/runs/`, PromptBook in `prompts.py`, Toolbox in `tools.py`,
Clock and Progress in `caravan/terminal/` and `main.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Protocol, runtime_checkable

from caravan.values.base import Json
from caravan.values.datasets import DatasetAnswer
from caravan.values.delivery import Parcel
from caravan.values.dialogue import Question
from caravan.values.environment import ImageAnswer, Resolution
from caravan.values.failure import Diagnosis, Evidence, Exported, Lesson, PastCase, Repair
from caravan.values.handover import Carried
from caravan.values.job import (
    CheckResult,
    ClusterFacts,
    DryRun,
    FileEntry,
    RegisteredJob,
    ServiceAddress,
    TokenFacts,
)
from caravan.values.measurement import Measurement
from caravan.values.model import Message, ModelReply, ToolSpec
from caravan.values.plan import CodeSource, ImageBuild, PlanChange, TrainingPlan
from caravan.values.prompts import GivenVersion, KeptVersion, Prompt, PushedVersion
from caravan.values.registry import ModelStage, ModelVersion, RunResult, StageMove
from caravan.values.repo import RepoProfile
from caravan.values.reports import RunReport
from caravan.values.run import Deployment, Outcome, RunEvent, RunRecord, RunStatus, Sentinel, Snapshot
from caravan.values.shape import ModelAnswer
from caravan.values.spending import Cap, Reservation, Room, SpendingRow
from caravan.values.training import MetricSpec


class Clock(Protocol):
    """Time. The only place where anybody waits."""

    def now(self) -> datetime:
        """The time in UTC, aware."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait. A fake returns at once and moves its time on."""

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait for the event for at most that long; whether it is set. A fake that need not wait moves its time on."""


class Cluster(Protocol):
    """A Nomad cluster, real or built-in. Every method may raise a ClusterError."""

    def facts(self) -> ClusterFacts:
        """Version and node inventory as they are now."""

    def parse(self, hcl: str) -> Json:
        """The cluster's own canonical JSON for a job in HCL. Raises JobRefused with its words and positions."""

    def check(self, job: Json) -> DryRun:
        """Validate and plan a job without registering it. An invalid job is an answer (`errors`), not an exception."""

    def find(self, job_id: str, namespace: str = "default") -> RegisteredJob | None:
        """The job registered under that id, also a stopped one, or None."""

    def register(self, job: Json, *, replaces: int = 0) -> RegisteredJob:
        """Register a job under an id that must be new, or in place of the one of that modify index (check-and-set).

        Raises JobConflict when the id is taken, JobRefused when it is invalid, ClusterUnreachable when no answer
        came: then it may have been registered, and `find` tells.
        """

    def snapshot(self, job_id: str, namespace: str = "default") -> Snapshot:
        """The job now. A job that is not there has phase `gone`."""

    def watch(self, job_id: str, namespace: str = "default") -> Iterator[Snapshot]:
        """Snapshots, one at once and one for each change, until one has phase `ended` or `gone`.

        Yields the last snapshot again at least every few seconds, so that the caller can look at its deadlines.
        Short outages of the cluster are ridden out; a long one raises ClusterUnreachable.
        """

    def services(self, name: str, namespace: str = "default") -> tuple[ServiceAddress, ...]:
        """Where the service of that name (of Nomad's own provider) is registered; empty: nowhere."""

    def checks(self, alloc_id: str) -> tuple[CheckResult, ...]:
        """What the checks of an allocation's services (of Nomad's own provider) said last."""

    def logs(self, alloc_id: str, task: str, stream: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """Up to `limit` bytes of `stdout` or `stderr` from `offset` on; empty when there is nothing more (yet)."""

    def read_file(self, alloc_id: str, path: str) -> bytes | None:
        """A file of the allocation (`alloc/data/x`), or None where there is none."""

    def follow_log(self, alloc_id: str, task: str, stream: str, *, offset: int = 0) -> Iterator[bytes]:
        """Bytes of a log from `offset` on as they are written, until the task is over.

        Yields empty bytes at least every few seconds. Raises JobNotFound when there is no such log.
        """

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        """What is in a directory of the allocation (`alloc/data`), or None where there is none."""

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        """Up to `limit` bytes of a file of the allocation from `offset` on; empty at its end.

        Raises JobNotFound when it is not there.
        """

    def variable_names(self, path: str, namespace: str = "default") -> frozenset[str] | None:
        """The names of a Nomad variable's items, None where there is no such variable. Values never come back.

        Raises ClusterDenied when the token may not read it.
        """

    def write_variable(self, path: str, items: Mapping[str, str], namespace: str = "default") -> None:
        """Set items of a Nomad variable by check-and-set; other items stay. Raises JobConflict when it changed."""

    def remove_variable(self, path: str, namespace: str = "default") -> None:
        """Remove a Nomad variable. One that is not there is no error."""

    def token(self) -> TokenFacts | None:
        """What the cluster says of the token in use; None where it asks for none or knows no ACL."""

    def stop(self, job_id: str, namespace: str = "default", *, purge: bool = False) -> None:
        """Stop a job. A job that is not there is no error."""


class Toolbox(Protocol):
    """What a reasoner may look at: read-only, bounded, without secrets."""

    def read_file(self, path: str, *, start: int = 1, lines: int = 200) -> str:
        """Lines of a file of the repository. Raises UsageError for a path outside, denied or not text."""

    def list_directory(self, path: str = ".") -> tuple[str, ...]:
        """Names in a directory of the repository, directories with a slash at their end."""

    def search(self, text: str, *, limit: int = 50) -> tuple[str, ...]:
        """`file:line: text` rows in which `text` occurs, ignoring case."""

    def find(self, name: str, *, limit: int = 20) -> tuple[str, ...]:
        """Paths of the repository's files and directories (those with a slash at their end) whose last part is `name`.

        A `name` with slashes is matched from the path's end. The shortest paths first.
        """


class Reasoner(Protocol):
    """What needs judgement. The rules are one implementation, a language model the other.

    No method has effects. What a reasoner returns is a proposal: it passes the same checks whoever made it.
    """

    @property
    def name(self) -> str:
        """`rules` or the model's name, for provenance and traces."""

    def refine_profile(self, profile: RepoProfile, prompt: str, toolbox: Toolbox) -> RepoProfile:
        """The profile, better understood in the light of the user's sentence."""

    def questions(
        self, profile: RepoProfile, prompt: str, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[Question, ...]:
        """What only the user can know and the plan needs: at most five, the costliest to guess wrong first."""

    def propose(
        self, plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
    ) -> tuple[PlanChange, ...]:
        """Changes to a drafted plan, from the repository, the prompt and past cases. May be empty."""

    def diagnose(self, evidence: Evidence, plan: TrainingPlan, cases: Sequence[PastCase]) -> Diagnosis:
        """The cause of a failure. What is unknown stays `unknown`."""

    def repairs(
        self,
        diagnosis: Diagnosis,
        plan: TrainingPlan,
        profile: RepoProfile,
        cases: Sequence[PastCase],
        facts: ClusterFacts,
        toolbox: Toolbox,
    ) -> tuple[Repair, ...]:
        """The ladder: repairs in the order in which to try them. Empty: nothing can be mended here."""


class Adviser(Protocol):
    """What only a language model can add. No method has effects or raises; nothing to say is an empty answer.

    What it says is a proposal as a reasoner's is.
    """

    def further_repairs(
        self,
        diagnosis: Diagnosis,
        plan: TrainingPlan,
        profile: RepoProfile,
        cases: Sequence[PastCase],
        facts: ClusterFacts,
        toolbox: Toolbox,
        tried: Sequence[Repair],
    ) -> tuple[Repair, ...]:
        """Repairs to try when no repair of the reasoner can be taken; `tried` are those of this run."""

    def patch(
        self, diagnosis: Diagnosis, evidence: Evidence, files: Sequence[str], read: Callable[[str], str | None]
    ) -> tuple[str, str]:
        """A change of the user's code as a unified diff, and what it follows from in a sentence; twice empty: none.

        `files` are the paths that may be changed, `read` gives the text of one as it is.
        """

    def summary(self, report: str) -> tuple[str, str]:
        """A few sentences on the report for the person who asked for the run, and who says them; twice empty: none."""


class ChatModel(Protocol):
    """A language model behind an OpenAI-compatible server. It has no effects and sees only what it is given."""

    @property
    def name(self) -> str:
        """The model's name, for provenance and traces."""

    def ask(
        self,
        messages: Sequence[Message],
        *,
        step: str,
        schema: Json = None,
        tools: Sequence[ToolSpec] = (),
        thinking: bool = False,
    ) -> ModelReply:
        """One reply. `schema` (a JSON schema) asks the server for structured output; the text is not parsed here.

        `step` names who asks, for budgets and traces. Raises ModelError, whose fault says why there is no reply.
        """


class Memory(Protocol):
    """Long-term memory of failures and what mended them. Losing it loses no run: callers go on without."""

    def recall(
        self, *, text: str, diagnosis: Diagnosis | None, context: dict[str, Json], limit: int = 5
    ) -> tuple[PastCase, ...]:
        """Cases like this one, the most fitting first, each with why. Raises ServiceError when memory is down."""

    def remember(self, lesson: Lesson) -> str:
        """Store a lesson and return its id; an equal one is merged, so remembering twice is remembering once."""

    def all(self, *, limit: int = 1000) -> tuple[PastCase, ...]:
        """What is stored, the newest first."""

    def forget(self, case_id: str) -> bool:
        """Remove a lesson for good; False when there is none of that id."""

    def export(self) -> tuple[dict[str, Json], ...]:
        """Every lesson as a record that `restore` takes, with its counts, times and sources; the oldest first."""

    def note_export(self, path: Path) -> None:
        """Note that all lessons are written to that file now; told before it is written, so that no copy is missed."""

    def exports_of(self, case_id: str) -> tuple[Exported, ...]:
        """The files to which the lesson was exported from here, the oldest first; also once it is forgotten."""

    def restore(self, record: Json) -> bool:
        """Store an exported lesson: True when it is new, False when it was merged into the equal one that is there.

        Restoring twice is restoring once. Raises UsageError for what is no such record.
        """

    def close(self) -> None:
        """Let go of the store; a later call opens it again."""


class Span(Protocol):
    """An open span of a trace."""

    @property
    def id(self) -> str:
        """The span's id."""

    def set(self, **attributes: Json) -> None:
        """Add attributes. Values are masked and bounded by the tracer."""


@runtime_checkable
class Tracer(Protocol):
    """Tracing. It never raises and never holds the run up."""

    def span(self, name: str, kind: str = "span", **attributes: Json) -> AbstractContextManager[Span]:
        """A span around a block, whose exceptions pass through.

        Kinds: run, node, cluster, memory, reasoner, generation, tool.
        """

    def event(self, name: str, **attributes: Json) -> None:
        """A moment inside the current span."""

    def url(self) -> str | None:
        """Where the trace can be seen: a web address, or the local file's path."""

    def close(self) -> None:
        """Write out what is left."""


class Store(Protocol):
    """Runs, deployments and events. Every method is one transaction; all writes may be repeated without harm."""

    def create_run(self, run: RunRecord) -> None:
        """Store a new run. Raises StateError when the id is taken by another request."""

    def run(self, run_id: str) -> RunRecord:
        """The run of that id, or the only one whose id begins so. Raises UsageError when there is none or several."""

    def runs(self, *, limit: int = 50) -> tuple[RunRecord, ...]:
        """The newest runs first."""

    def update_run(
        self,
        run_id: str,
        *,
        status: RunStatus | None = None,
        node: str | None = None,
        detail: str | None = None,
        cost_usd: float | None = None,
        spent_since: datetime | None = None,
    ) -> None:
        """Change the given fields and `updated_at`. A run that has ended keeps its status, whoever ended it.

        `cost_usd` is what the run has cost in all; what is new of it counts for the days since `spent_since`, or since
        it was told last if that is later; None: for today.
        """

    def reopen_run(self, run_id: str) -> None:
        """A run that failed or was handed over runs again. Raises UsageError for one that did neither."""

    def intend(self, deployment: Deployment) -> Deployment:
        """Store the intent to deploy; the stored deployment comes back, which may be further on after a crash.

        Raises StateError when that job id is stored with another spec.
        """

    def save_deployment(self, deployment: Deployment) -> None:
        """Replace a stored deployment (matched by its job id)."""

    def deployments(self, run_id: str) -> tuple[Deployment, ...]:
        """The run's deployments in the order of their attempts."""

    def add_event(self, run_id: str, event: RunEvent) -> None:
        """Append an event; one with equal time, kind and text is stored once."""

    def events(self, run_id: str) -> tuple[RunEvent, ...]:
        """The run's events in order of time."""

    def spent_usd(self, *, since: datetime | None = None) -> float:
        """What all runs since then have cost, in US dollars."""

    def rooms(self, run_id: str, caps: Sequence[Cap]) -> tuple[Room, ...]:
        """What is left under each cap for that run, in their order; other running runs count with what they reserved.

        Spending counts for the day on which it was told (`update_run`), also of runs that were deleted since.
        """

    def reserve(self, run_id: str, *, need_usd: float, want_usd: float, caps: Sequence[Cap]) -> Reservation:
        """Reserve for the whole run, what it has spent included: `want_usd`, or less down to `need_usd`, as is left.

        One step: of two runs that ask at once, one gets the last money. What is reserved counts against the others
        while the run is running, in place of what was reserved for it before. Raises UsageError for an unknown run.
        """

    def reserved_usd(self, run_id: str) -> float | None:
        """What is reserved for the whole run; None: nothing was."""

    def spending(self) -> tuple[SpendingRow, ...]:
        """What each user's runs have spent in each month, the newest month first."""

    def add_measurement(self, measurement: Measurement) -> None:
        """Store what a run was seen to need, once for its id. It outlives its run."""

    def measurements(self, *, model: str, family: str, method: str, limit: int = 500) -> tuple[Measurement, ...]:
        """The newest of the model, and of others of its family under the same method; the oldest first."""

    def save_result(self, result: RunResult) -> None:
        """Store what a run came to, in place of what was stored of it before. It goes with its run."""

    def result(self, run_id: str) -> RunResult | None:
        """What the run came to; None while it has not ended, or ended before results were kept."""

    def results(self, *, family: str | None = None, limit: int = 200) -> tuple[RunResult, ...]:
        """The newest results first; `family`: those of runs whose plans differ in their seed alone."""

    def delete_run(self, run_id: str) -> None:
        """Remove a run with its deployments, events and result. A model that is registered of it stays."""

    def close(self) -> None:
        """Let go of the database."""


class ModelRegistry(Protocol):
    """The models that runs have brought forth. It outlives the runs: deleting one leaves its model registered.

    A `ref` is `name` (its newest version), `name@VERSION` or `name@STAGE`. A method raises UsageError for a ref that
    names nothing, with names that are like it, and StateError for what the database does.
    """

    def register(self, model: ModelVersion) -> ModelVersion:
        """Register it under the next version of its name; the model of a run that is registered comes back as it is.

        The definitions of its metrics are stored with it.
        """

    def model(self, ref: str) -> ModelVersion:
        """The model."""

    def of_run(self, run_id: str) -> ModelVersion | None:
        """The model that the run brought forth."""

    def models(
        self, *, name: str | None = None, stage: ModelStage | None = None, limit: int = 200
    ) -> tuple[ModelVersion, ...]:
        """The newest first."""

    def move(self, ref: str, stage: ModelStage, *, by: str, why: str, at: datetime) -> tuple[StageMove, ...]:
        """Move it to a stage: what moved, it and the one that it takes the place of, which is archived.

        Empty where it is in that stage already. At most one version of a name is in production, also where two
        processes promote at once.
        """

    def moves(self, ref: str) -> tuple[StageMove, ...]:
        """Its moves, the oldest first."""

    def definitions(self) -> tuple[MetricSpec, ...]:
        """What is known of metrics, by name: those of registered models and of stored results."""

    def close(self) -> None:
        """Let go of the database."""


class RunFolder(Protocol):
    """The folder of one run, and its sole writer. Files appear whole: written under another name, then renamed."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def outputs(self) -> Path:
        """Where the run's outputs go on a cluster that shares this machine's files; made on first use."""

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run: raises RunBusy, with the other agent's process id, while another process holds it."""

    def is_held(self) -> bool:
        """Whether somebody holds the run now. Only looked at: nothing is written, and no agent is kept from it."""

    def holder(self) -> int | None:
        """The id of the process that holds the run now; None: nobody does, or it has not said so yet."""

    def save_code(self, files: Iterable[tuple[str, bytes, int]]) -> CodeSource:
        """Pack (relative path, content, file mode) into code.tar.gz, the same bytes for the same files.

        A code archive that is already there is kept: a run trains one version of the code.
        """

    def take_code(self, archive: Path, sha256: str) -> CodeSource:
        """Copy another run's archive of code into this folder. Raises StateError where its bytes are others by now."""

    @property
    def agent_log(self) -> Path:
        """Where a background agent writes what it does; the folder is made on first use."""

    def save_agent(self, document: Json) -> None:
        """Write down which process is the run's background agent."""

    def agent(self) -> Json:
        """What `save_agent` wrote, or None."""

    def save_carried(self, carried: Carried) -> None:
        """Write down what holds for the run where it comes from."""

    def carried(self) -> Carried | None:
        """What `save_carried` wrote, or None for a run that began here."""

    def papers(self) -> dict[str, str]:
        """Plan, job files and report by their names: what is written of a run, without logs and outputs."""

    def save_papers(self, papers: Mapping[str, str]) -> None:
        """Write what `papers` gave. Raises StateError, before anything is written, for a name that is none of those."""

    def save_plan(self, plan: TrainingPlan) -> Path:
        """Write plan.yaml."""

    def save_job(self, attempt: int, hcl: str, job: Json, *, name: str = "job") -> Path:
        """Write a job of the attempt, NAME.nomad.hcl and its JSON; the HCL's path comes back.

        `name` is `job`, the training's, or `eval-` and a number, an evaluation's.
        """

    def load_job(self, attempt: int, *, name: str = "job") -> tuple[str, Json]:
        """The job's HCL and JSON as saved."""

    def append_log(self, alloc_id: str, task: str, stream: str, data: bytes) -> None:
        """Append masked bytes to the copy of a task's log."""

    def log_size(self, alloc_id: str, task: str, stream: str) -> int:
        """How many bytes of the task's log (before masking) have been copied: the offset to go on from."""

    def log_files(self) -> tuple[Path, ...]:
        """The copies of task logs, oldest first."""

    def append_samples(self, alloc_id: str, data: bytes) -> None:
        """Append masked bytes to the copy of what the sampler of an allocation's task wrote."""

    def samples_size(self, alloc_id: str) -> int:
        """How many bytes of it (before masking) have been copied: the offset to go on from."""

    def samples(self, alloc_id: str) -> bytes:
        """The copy as far as it goes; empty where there is none."""

    def save_patch(self, text: str) -> Path:
        """Write suggested.patch: a change of the user's code that is suggested, and nobody applies but the user."""

    def save_report(self, report: RunReport) -> Path:
        """Write REPORT.md, whose path comes back, and report.html beside it where there is a page."""

    def delete(self) -> None:
        """Remove the folder and all that is in it."""


class Courier(Protocol):
    """Brings code, data and images to where the nodes can fetch them. All of it may be repeated without harm.

    What goes wrong is a ServiceError, or a UsageError for what must be changed first (a missing driver or program).
    """

    def public(self, url: str) -> bool | None:
        """Whether a git remote answers without credentials; None: that was not to be found out."""

    def measure(self, path: Path, told: Callable[[str], None], most: int | None = None) -> Parcel:
        """What sending the file or directory would send; known again as long as nothing in it has changed.

        What may hold a secret, by its name, and links that lead out of the directory are left out and named. More than
        `most` bytes are a UsageError, before any are read.
        """

    def put(self, path: Path, url: str, parcel: Parcel, told: Callable[[str], None]) -> bool:
        """Put the file, or the directory as one tar file, at the URL, whole or not at all; False: it was there.

        What arrived is looked at: size, and checksum where reading it again is cheap.
        """

    def build(self, archive: Path, build: ImageBuild, log: Path, told: Callable[[str], None]) -> str:
        """Build an image from the code in an archive and push it, unless that was done from here before; its digest.

        Raises ServiceError when the registry can't be reached, BuildFailed when the image can't be built, UsageError
        when the archive is another than the plan was made with.
        """


class Resolver(Protocol):
    """Whether requirements can be installed together, as an index answers. It never raises and installs nothing."""

    def resolve(self, lines: Sequence[str], *, python: str | None, indexes: Sequence[str] = ()) -> Resolution:
        """What would be installed for the lines (PEP 508) on Linux and that minor version of Python.

        `indexes`: what the repository's own files tell pip beside the site's index.
        """


class ImageRegistry(Protocol):
    """Whether registries have images. It never raises, pulls nothing and sends no credentials."""

    def look(self, image: str) -> ImageAnswer:
        """What the image's registry says of it."""

    def look_at(self, images: Sequence[str]) -> tuple[ImageAnswer, ...]:
        """Several at once, in their order."""


class ModelHub(Protocol):
    """What a hub of models and data sets says of them. It never raises, downloads no weights and no data."""

    def model(self, name: str, revision: str | None = None) -> ModelAnswer:
        """The model's config and the number of its parameters, as far as the hub shows them."""

    def dataset(self, name: str) -> DatasetAnswer:
        """The rows and bytes of the data set's splits, as far as the hub shows them."""


class PromptBook(Protocol):
    """The prompts of the steps, by name, with their version."""

    def get(self, name: str) -> Prompt:
        """The version of the prompt that is in force. Raises UsageError for an unknown name.

        It never waits long for a server: what can't be had in time is what was had last, or what is shipped.
        """

    def names(self) -> tuple[str, ...]:
        """All names."""


class PromptShelf(Protocol):
    """The versions of prompts: shipped, kept in CARAVAN_HOME, and in LangFuse where the settings name one.

    What asks LangFuse raises ServiceError, and UsageError where the settings name none; so do unknown names.
    """

    @property
    def label(self) -> str:
        """The label whose versions runs use."""

    @property
    def langfuse(self) -> str:
        """LangFuse's host; empty where the settings name none."""

    @property
    def managed(self) -> bool:
        """Whether runs take the versions that LangFuse has under the label."""

    def given(self, name: str) -> GivenVersion | None:
        """What LangFuse gave to runs last; None where nothing is kept of it. It is not asked."""

    def names(self) -> tuple[str, ...]:
        """All names."""

    def shipped(self, name: str) -> Prompt:
        """The version that comes with Caravan."""

    def kept(self, name: str) -> tuple[KeptVersion, ...]:
        """The kept versions, newest first."""

    def keep(self, prompt: Prompt, *, why: str, labels: Sequence[str] = ()) -> KeptVersion:
        """Keep a version; one that is kept already gets the labels. Raises UsageError for a text that can't be used."""

    def label_kept(self, name: str, version: str | None, label: str) -> None:
        """Give the label to a kept version, from the one that has it; None: to none, what is shipped holds again."""

    def remote(self, name: str, *, label: str | None = None, number: int | None = None) -> PushedVersion | None:
        """LangFuse's version with that label or number, whether or not it can be used; None where there is none."""

    def remote_labels(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """The prompts that LangFuse has: the number of the newest version of each, and all their labels."""

    def push(self, prompt: Prompt, *, labels: Sequence[str] = (), message: str = "") -> PushedVersion:
        """Bring a version to LangFuse, with labels. None is made where its newest has the same content."""

    def label_remote(self, name: str, number: int, label: str) -> None:
        """Give the label to a version in LangFuse; from then on runs use it, where it is theirs."""


class Progress(Protocol):
    """What a person sees while the agent works. Never raises; a program's implementation does nothing."""

    def node(self, name: str, text: str = "") -> None:
        """The agent entered a node."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """The cluster said something new about the job."""

    def attempt(
        self,
        number: int,
        limit: int,
        *,
        usd_per_hour: float | None,
        max_run_s: int | None,
        metric: str | None = None,
        spent_usd: float = 0.0,
    ) -> None:
        """A job is watched from now on: the `number`-th of at most `limit` attempts. The price is per running hour.

        `metric` is the plan's target metric, `spent_usd` what the attempts before have cost.
        """

    def log(self, stream: str, lines: Sequence[str]) -> None:
        """The task wrote these lines (masked)."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """The task logged these metrics together, in the order of its lines; a value may be nan or infinite."""

    def used(self, text: str) -> None:
        """What the task uses now of GPUs, memory, cores and disk, in words."""

    def repair(self, cause: str, repair: str, changed: Mapping[str, tuple[Json, Json]]) -> None:
        """A failure's cause, what is done about it, and what that changes in the plan: path to (before, after)."""

    def note(self, text: str) -> None:
        """Something worth a line."""


Judge = Callable[[Snapshot, Sentinel | None, str], Outcome]
"""Judges a deployment's end: last snapshot, sentinel, expected SHA-256 of the spec (`caravan.cluster.watch.judge`)."""
