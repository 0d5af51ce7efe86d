"""The training plan: the one source of truth, and everything that speaks about it.

Answers, rules, the language model, memory and repairs change only this value, through `apply_changes`; every field
keeps who set it and why. The field paths follow the failure taxonomy's vocabulary, so that a fix named there is a
field here.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from caravan.values.base import Json, Value, sha256_text
from caravan.values.errors import PlanError
from caravan.values.packages import read_package
from caravan.values.repo import Launcher

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


def _still(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("no part of it may be empty, `.` or `..`: what is meant must be what is written")
    return path


SecretPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_~./-]{1,128}$"), AfterValidator(_still)]
"""The path of a secret: Vault's client resolves `..` in it, so that another one would be read than is written."""


class Author(StrEnum):
    """Who set a field of the plan."""

    DEFAULT = "default"
    REPOSITORY = "repository"
    CLUSTER = "cluster"
    ESTIMATE = "estimate"
    MEMORY = "memory"
    MODEL = "model"
    ANSWER = "answer"
    USER = "user"
    REPAIR = "repair"


STANDING = frozenset({Author.ANSWER, Author.USER, Author.REPAIR})
"""Authors whose fields no rule, estimate, memory or model may change afterwards."""


class Provenance(Value):
    """Who set a field, and why, in a few words."""

    by: Author
    why: str = ""


class PlanChange(Value):
    """One change of one field. `path` is dotted (`training.micro_batch`, `env.HF_HOME`); `value` None unsets it."""

    path: str
    value: Json = None
    by: Author
    why: str = ""


class ModelChoice(Value):
    """The base model: a hub id or a path, and where it comes from."""

    id: str | None = None
    source: Literal["hub", "path", "repository", "scratch"] | None = None
    revision: str | None = None


class Dataset(Value):
    """The training data: a hub id or a path as the job sees it."""

    path: str | None = None
    format: str | None = None
    columns: tuple[str, ...] = ()
    examples: int | None = Field(default=None, ge=0)


class Training(Value):
    """What is trained with which hyperparameters. None: the repository's own value stays.

    `options` are further options of the repository's parser, spelled as it spells them, set to these values.
    """

    method: str | None = None
    micro_batch: int | None = Field(default=None, ge=1, description="samples per GPU and step")
    grad_accum: int | None = Field(default=None, ge=1, description="steps accumulated before an update")
    max_len: int | None = Field(default=None, ge=1, description="tokens per sequence")
    lr: float | None = Field(default=None, gt=0)
    epochs: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    warmup: float | None = Field(default=None, ge=0)
    max_grad_norm: float | None = Field(default=None, gt=0)
    optimizer: str | None = None
    precision: Literal["fp32", "tf32", "fp16", "bf16"] | None = None
    tf32: bool | None = None
    quant_bits: Literal[4, 8] | None = None
    grad_checkpointing: bool | None = None
    attn: str | None = None
    lora_rank: int | None = Field(default=None, ge=1)
    num_workers: int | None = Field(default=None, ge=0)
    seed: int | None = None
    output_dir: str | None = None
    save_total_limit: int | None = Field(default=None, ge=1)
    resume_from: str | None = None
    report_to: str | None = None
    ddp_timeout: int | None = Field(default=None, ge=1, description="seconds")
    gpu_memory_share: float | None = Field(default=None, gt=0, le=1)
    resize_embeddings: bool | None = None
    options: dict[str, Json] = Field(default_factory=dict)


class Launch(Value):
    """The launcher and its process layout."""

    launcher: Launcher = Launcher.PYTHON
    nproc: int = Field(default=1, ge=1, description="processes per node")
    nodes: int = Field(default=1, ge=1)
    master_port: int | None = Field(default=None, ge=1, le=65535)
    rdzv_endpoint: str | None = None
    args: tuple[str, ...] = Field(default=(), description="further arguments of the launcher itself")


class Setup(Value):
    """What happens in the job before the training: packages and commands.

    `requirements` is a file of the repository; `pip` adds packages to it (PEP 508, or `.` for the repository itself).
    """

    python: str = Field(default="python3", description="interpreter that starts the environment")
    requirements: str | None = None
    pip: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()

    @field_validator("pip")
    @classmethod
    def _packages(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            read_package(line)
        return lines


class Docker(Value):
    """Options of the docker driver that have no name elsewhere in the plan."""

    runtime: str | None = None
    entrypoint: tuple[str, ...] = ()


class CodeSource(Value):
    """Where the job gets the code. `archive`: a tar.gz at a path or URL; `git`: a commit; `image`: it is inside."""

    kind: Literal["archive", "git", "image"]
    location: str = ""
    ref: str | None = None
    sha256: str | None = None


class OutputSink(Value):
    """Where weights and checkpoints go: a path on the node, a volume's mount, a URL, or nowhere that outlives the job.

    `url` is an fsspec URL without credentials (`s3://bucket/runs`), to which the job copies what it wrote at its end.
    """

    kind: Literal["path", "volume", "url", "allocation"] = "allocation"
    location: str = ""


class SecretSource(Value):
    """Where the job's secrets come from, by reference: a Nomad variable's items or a Vault secret's fields.

    A Vault path is as Vault's API has it: with `/data/` in it (`secret/data/training`) it is of a KV version 2 store.
    """

    kind: Literal["nomad", "vault"] = "nomad"
    path: SecretPath = "nomad/jobs"
    role: str | None = Field(default=None, description="Vault role of the job; unset: the cluster's default")
    policies: tuple[str, ...] = Field(default=(), description="Vault policies, where the cluster has no roles for jobs")


class Mount(Value):
    """A host volume, CSI volume or bind mount. `source` is its name or host path, `destination` a path in the task."""

    kind: Literal["host", "csi", "bind"]
    source: str
    destination: str
    read_only: bool = True


class Constraint(Value):
    """A Nomad constraint or affinity target: `attribute` `operator` `value`."""

    attribute: str
    operator: str = "="
    value: str = ""


class Port(Value):
    """A port label; `static` None asks for a dynamic one."""

    label: str
    static: int | None = Field(default=None, ge=1, le=65535)


class TemplateFile(Value):
    """A text rendered into the task directory; `env` makes its lines environment variables."""

    destination: str
    data: str
    env: bool = False


class Artifact(Value):
    """Something the client downloads before the task starts (go-getter source)."""

    source: str
    destination: str = "local/"
    mode: Literal["any", "file", "dir"] = "any"


class ConfigOverlay(Value):
    """A config file of the repository that the job sees replaced or with dotted keys overridden."""

    path: str
    values: dict[str, Json] = Field(default_factory=dict)
    text: str | None = None


class Resources(Value):
    """What the task needs. GPU memory in MiB, host memory and disk in MB as Nomad counts them."""

    gpus: int = Field(default=0, ge=0)
    gpu_vendor: str = "nvidia"
    gpu_model: str | None = None
    gpu_memory_mib: int | None = Field(default=None, ge=1)
    cpu_mhz: int = Field(default=1000, ge=1)
    cores: int | None = Field(default=None, ge=1)
    memory_mb: int = Field(default=2048, ge=10)
    memory_max_mb: int | None = Field(default=None, ge=10)
    disk_mb: int = Field(default=1024, ge=10)


class Limits(Value):
    """Deadlines in seconds, money in US dollars, deployed attempts and fixes of the run as a whole.

    Waiting for room costs nothing, and a shared cluster frees its GPUs over night: a day. An image of 20 GB takes half
    an hour at 10 MB/s; a pull that tells of its progress begins `start_s` anew. Until the first line packages are
    installed quietly, and 140 GB of weights take 50 minutes at 50 MB/s: two hours. A program that logs once an epoch
    is silent for hours, and ending a training that is well costs more than a hang: six hours.
    """

    max_run_s: int | None = Field(default=None, ge=1)
    queue_s: int = Field(default=86400, ge=1, description="how long it may wait for room on the cluster")
    start_s: int = Field(default=3600, ge=1, description="from its place on a node to the start of its task")
    first_sign_s: int = Field(default=7200, ge=1, description="from the task's start to its first line of log")
    silence_s: int = Field(default=21600, ge=1, description="how long a running task may write nothing")
    max_cost_usd: float | None = Field(default=None, ge=0)
    attempts: int = Field(default=3, ge=1, le=3)
    fixes: int = Field(default=8, ge=0, le=8)


class Target(Value):
    """The metric that the training is judged by."""

    metric: str
    direction: Literal["min", "max"] = "min"
    goal: float | None = None


class TrainingPlan(Value):
    """What to train, how it is started, where code, data and outputs are, what it needs, where it may run."""

    goal: str
    model: ModelChoice = ModelChoice()
    dataset: Dataset = Dataset()
    training: Training = Training()
    target: Target | None = None

    launch: Launch = Launch()
    command: tuple[str, ...] = Field(description="program and its arguments, without the launcher's own")
    flags: dict[str, str] = Field(
        default_factory=dict,
        description="plan path → the repository's flag that takes its value; `path=value` → a flag without a value",
    )
    workdir: str = "."
    env: dict[str, str] = Field(default_factory=dict)
    setup: Setup = Setup()
    config_overlays: tuple[ConfigOverlay, ...] = ()
    code: CodeSource = CodeSource(kind="image")
    outputs: OutputSink = OutputSink()

    job_type: Literal["batch", "service"] = "batch"
    driver: str = "docker"
    image: str | None = None
    image_pull_timeout_s: int | None = Field(default=None, ge=1)
    docker: Docker = Docker()
    user: str | None = None
    container_name: str | None = None
    network_mode: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    templates: tuple[TemplateFile, ...] = ()
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[VariableName, ...] = Field(
        default=(), description="names of environment variables given by reference"
    )
    secrets_from: SecretSource = SecretSource()
    ports: tuple[Port, ...] = ()

    resources: Resources = Resources()
    shm_mb: int | None = Field(default=None, ge=1)
    namespace: str | None = None
    region: str | None = None
    node_pool: str | None = None
    datacenters: tuple[str, ...] = ("*",)
    constraints: tuple[Constraint, ...] = ()
    exclude_nodes: tuple[str, ...] = ()
    priority: int = Field(default=50, ge=1, le=100)
    kill_timeout_s: int = Field(default=30, ge=1)
    progress_deadline_s: int | None = Field(default=None, ge=1)
    limits: Limits = Limits()

    provenance: dict[str, Provenance] = Field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of the plan without its provenance: two plans that would run the same have the same digest."""
        return sha256_text(self.canonical(exclude={"provenance"}))

    def get(self, path: str) -> Json:
        """The JSON value at a dotted path. Raises PlanError for a path that no plan has."""
        here: Any = self.model_dump(mode="json")
        walked: list[str] = []
        for key in split_path(path):
            walked.append(key)
            if here is None and walked[0] == "target" and key in Target.model_fields:
                return None  # no target yet: its fields can be set all the same
            if not isinstance(here, dict):
                raise PlanError(f"The plan has no field {path!r}.")
            if key not in here and walked[0] not in _FREE_ROOTS and tuple(walked[:2]) not in _FREE_PAIRS:
                raise PlanError(f"The plan has no field {path!r}.")
            here = here.get(key)
        return here

    def set_by(self, path: str) -> Author:
        """Who set the field at `path`: the entry of its longest recorded prefix, else the default."""
        parts = split_path(path)
        for n in range(len(parts), 0, -1):
            found = self.provenance.get(".".join(parts[:n]))
            if found is not None:
                return found.by
        return Author.DEFAULT


# Fields whose keys are the user's: env.ANY_NAME, training.options.--any-flag, flags.any.plan.path.
_FREE_ROOTS = frozenset({"env", "flags"})
_FREE_PAIRS = frozenset({("training", "options")})


def split_path(path: str) -> list[str]:
    """A dotted path's parts; the key of a free mapping (`env.`, `flags.`, `training.options.`) keeps its own dots."""
    for prefix in ("env.", "flags.", "training.options."):
        if path.startswith(prefix) and len(path) > len(prefix):
            return [*prefix.rstrip(".").split("."), path[len(prefix) :]]
    return path.split(".")


def apply_changes(plan: TrainingPlan, changes: Iterable[PlanChange]) -> TrainingPlan:
    """The plan with the changes made in order and provenance recorded, validated as a whole.

    A change by an author without standing (rule, estimate, memory, model) to a field that the user, an answer or a
    repair has set is left out. Raises PlanError, naming the field, for an unknown path or an invalid value; then
    nothing is changed.
    """
    document = plan.model_dump(mode="json", exclude={"provenance"})
    provenance = dict(plan.provenance)
    current = plan
    for change in changes:
        if change.by not in STANDING and current.set_by(change.path) in STANDING:
            continue
        current.get(change.path)  # raises for a path that no plan has
        _put(document, split_path(change.path), change.value)
        provenance[change.path] = Provenance(by=change.by, why=change.why)
        try:
            current = TrainingPlan.model_validate({**document, "provenance": provenance})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"]) or change.path
            raise PlanError(f"{where}: {first['msg']} (got {change.value!r}).") from error
        if not _in_64_bits(current.get(change.path)):
            raise PlanError(f"{change.path}: no computer counts that far (got {str(change.value)[:50]}).")
    return current


def _in_64_bits(value: Json) -> bool:
    """Whether every whole number in the value fits a signed 64-bit word, as checkpoints and clusters keep them."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 63
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return all(_in_64_bits(item) for item in items)


def _put(document: dict[str, Any], path: list[str], value: Json) -> None:
    *parents, last = path
    for key in parents:
        if document.get(key) is None:
            document[key] = {}
        document = document[key]
    if value is None:
        document.pop(last, None)  # back to the field's default
    else:
        document[last] = value


def plan_diff(before: TrainingPlan, after: TrainingPlan) -> dict[str, tuple[Json, Json]]:
    """The fields in which two plans differ, as dotted path → (before, after). Lists count as one value."""
    a, b = (dict(_leaves(p.model_dump(mode="json", exclude={"provenance"}))) for p in (before, after))
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def _leaves(value: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Json]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item
