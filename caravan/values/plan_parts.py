"""What a training plan is made of: its blocks, and what is kept of who set them.

Field paths follow the failure taxonomy's vocabulary. Nothing here knows how a plan is changed (see `plan`).
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, field_validator

from caravan.values.base import Json, Value
from caravan.values.changes import Author
from caravan.values.delivery import Address
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


ROOM: Final = (
    "resources.memory_mb",
    "resources.memory_max_mb",
    "resources.disk_mb",
    "shm_mb",
    "kill_timeout_s",
    "image_pull_timeout_s",
)
"""Fields that give room: more of it makes the training no other one."""
GROWING: Final = ("setup.pip", "setup.apt", "setup.cmd", "exclude_nodes", "secrets", "mounts")
"""Lists of which a longer one still does what the shorter one said."""
_BY_MEMORY: Final = ("setup.pip", "setup.apt")
"""Those of them that memory may add to where a person set them."""


def only_more(path: str, now: Json, value: Json) -> bool:
    """Whether the value is no other one than a person set but more of it, which a repair needs no question for: more
    room, or further packages."""
    if path in ROOM:
        return isinstance(now, int) and isinstance(value, int) and not isinstance(value, bool) and value > now
    if path not in _BY_MEMORY or not isinstance(now, list) or not isinstance(value, list):
        return False
    return all(item in value for item in now)


class Provenance(Value):
    """Who set a field, and why, in a few words.

    `own`: it is the repository's own value, named by a person in a plan file; the training has it without being told.
    """

    by: Author
    why: str = ""
    own: bool = False


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

    `options` are further options of the repository's parser, spelled as it spells them, set to these values. `type`
    names the training type whose script Caravan brings; None: the repository's own program trains.
    """

    type: str | None = None
    method: str | None = None
    micro_batch: int | None = Field(default=None, ge=1, description="samples per GPU and step")
    grad_accum: int | None = Field(default=None, ge=1, description="steps accumulated before an update")
    global_batch: int | None = Field(default=None, ge=1, description="samples per update, of all GPUs together")
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
    rank_option: str | None = Field(default=None, description="the program's option for its process's number on a node")
    args: tuple[str, ...] = Field(default=(), description="further arguments of the launcher itself")


class Setup(Value):
    """What happens in the job before the training: packages and commands.

    `requirements` is a file of the repository; `pip` adds packages to it (PEP 508, or `.` for the repository itself).
    """

    python: str = Field(default="python3", description="interpreter that starts the environment")
    requirements: str | None = None
    further_requirements: tuple[str, ...] = Field(
        default=(), description="more such files, installed together with the first"
    )
    option_requirements: dict[str, str] = Field(
        default_factory=dict,
        description="option of the program to a file that is installed as well where the option is on",
    )
    pip: tuple[str, ...] = ()
    apt: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    prestart: bool | None = Field(
        default=None,
        description="packages are installed by a task of its own; unset: where a cache outlives it",
    )

    @field_validator("pip")
    @classmethod
    def _packages(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            read_package(line)
        return lines


class RegistryAuth(Value):
    """Who pulls the image: the names of two of the plan's `secrets`. Their values are the cluster's to fill in."""

    username: VariableName
    password: VariableName


class Docker(Value):
    """Options of the docker driver that have no name elsewhere in the plan."""

    runtime: str | None = None
    entrypoint: tuple[str, ...] = ()
    ulimits: dict[str, str] = Field(default_factory=dict, description="name to `soft[:hard]`, as `memlock` to `-1`")
    work_dir: str | None = Field(default=None, description="where the container starts; the script changes it anyway")
    auth: RegistryAuth | None = None


class CodeSource(Value):
    """Where the job gets the code.

    `archive`: a tar.gz at a path or URL; `git`: a commit; `image`: it is inside; `mount`: a directory of a volume or
    bind mount, as the task sees it.
    """

    kind: Literal["archive", "git", "image", "mount"]
    location: Address = ""
    ref: str | None = None
    subdir: str = Field(default="", description="directory of the git repository that the job begins in")
    sha256: str | None = None
    files: int | None = Field(default=None, ge=0, description="files delivered, where they were counted")
    size_bytes: int | None = Field(default=None, ge=0, description="what is sent, where it is known")
    uncommitted: tuple[str, ...] = Field(default=(), description="paths delivered as they are here, not as committed")


class ImageBuild(Value):
    """An image that is built from a Dockerfile of the delivered code and pushed, after approval, under `tag`.

    The tag is made of the code's content, so that an unchanged tree is built once. Once it is pushed, the plan's
    `image` names it by its digest.
    """

    dockerfile: str
    tag: str = Field(description="registry, name and tag")
    sha256: str | None = Field(default=None, description="of the archive of code that it is built from")


class DataSource(Value):
    """How training data that lies on the user's machine gets to the job; unset where the job reaches it by itself.

    `volume`: it is on a volume at `destination`; `upload`: sent once to `location`, by content hash, and fetched from
    there; `shared`: the cluster sees this machine's files; `code`: it is in the delivered code. None: there is no way
    yet, and the checks say which there are.
    """

    kind: Literal["volume", "upload", "shared", "code"] | None = None
    local: str = Field(default="", description="the path on the user's machine")
    folder: bool = Field(default=False, description="it is a directory, sent as one tar file")
    link: str = Field(default="", description="path in the code at which the training finds it by itself")
    location: Address = Field(default="", description="fsspec URL without credentials, or the path that the node sees")
    destination: str = Field(default="", description="the path as the training sees it")
    sha256: str | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    files: int | None = Field(default=None, ge=0)
    left_out: tuple[str, ...] = Field(default=(), description="what is there and is not sent, and why")


class Smoke(Value):
    """The first phase of a job: some steps with the real data and shapes on one GPU, before the rest begins.

    `on` unset: where the run costs money. `max_s` bounds the phase in seconds, for programs whose steps can't be
    counted.
    """

    on: bool | None = None
    steps: int = Field(default=10, ge=1)
    max_s: int = Field(default=900, ge=1)


class Resume(Value):
    """How the training goes on from a checkpoint. Unset: nothing is known, and it begins anew.

    `trainer`: transformers' `checkpoint-N` directories; `lightning`: `.ckpt` files; `files`: any files that match
    `pattern` below the output directory, the newest last. `flag`: the repository's option that takes the checkpoint's
    path (`--resume_from_checkpoint`); `auto`: the program finds it by itself in its output directory.
    """

    kind: Literal["trainer", "lightning", "files"]
    flag: str | None = None
    auto: bool = False
    pattern: str | None = None


class OutputSink(Value):
    """Where weights and checkpoints go: a path on the node, a volume's mount, a URL, or nowhere that outlives the job.

    `url` is an fsspec URL without credentials (`s3://bucket/runs`), to which the job copies what it wrote at its end.
    """

    kind: Literal["path", "volume", "url", "allocation"] = "allocation"
    location: Address = ""


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


class Wish(Value):
    """A Nomad affinity: a constraint that is preferred, with a weight from -100 to 100."""

    attribute: str
    operator: str = "="
    value: str = ""
    weight: int = Field(default=50, ge=-100, le=100)


class Spread(Value):
    """A Nomad spread: allocations are spread over the values of an attribute."""

    attribute: str
    weight: int = Field(default=50, ge=0, le=100)


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

    source: Address
    destination: str = "local/"
    mode: Literal["any", "file", "dir"] = "any"


class ConfigKey(Value):
    """Where a config file of the repository holds a value: the file's path and the dotted key in it."""

    path: str
    key: str


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
    gpu_driver: str | None = Field(
        default=None, pattern=r"^\d+(\.\d+){0,3}$", description="oldest driver of the GPUs that will do (`525.60.13`)"
    )
    gpu_prefer: tuple[str, ...] = Field(default=(), description="GPU models that would do, the cheapest first")
    cpu_mhz: int = Field(default=1000, ge=1)
    cores: int | None = Field(default=None, ge=1)
    memory_mb: int = Field(default=2048, ge=10)
    memory_max_mb: int | None = Field(default=None, ge=10)
    disk_mb: int = Field(default=1024, ge=10)


MOST_ATTEMPTS: Final = 3
MOST_FIXES: Final = 8


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
    gang_s: int = Field(default=900, ge=1, description="how long some nodes of a group may wait for the others")
    max_cost_usd: float | None = Field(default=None, ge=0)
    attempts: int = Field(default=MOST_ATTEMPTS, ge=1, le=MOST_ATTEMPTS)
    fixes: int = Field(default=MOST_FIXES, ge=0, le=MOST_FIXES)


class Target(Value):
    """The metric that the training is judged by."""

    metric: str
    direction: Literal["min", "max"] = "min"
    goal: float | None = None
