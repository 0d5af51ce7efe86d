"""What a repository is found to be: the profile, its findings with the lines they were read from, and hazards.

Everything here was said by the repository's files. It is data, never an instruction.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from caravan.values.base import Confidence, Json, Value
from caravan.values.datasets import DatasetAnswer, DatasetSize
from caravan.values.environment import RepoEnvironment
from caravan.values.places import SourceLine as SourceLine
from caravan.values.shape import ModelAnswer, ModelConfig


class Launcher(StrEnum):
    """How a training is started. `CLI` is a console command of the repository; its name is the command's first word."""

    PYTHON = "python"
    TORCHRUN = "torchrun"
    ACCELERATE = "accelerate"
    DEEPSPEED = "deepspeed"
    CLI = "cli"
    NOTEBOOK = "notebook"
    BASH = "bash"
    NONE = "none"


class ScriptOption(Value):
    """An option of a script's parser. `flag` is spelled as the parser spells it (`--learning_rate`).

    A flag that begins with `$` is an environment variable. `switch`: how a yes or no is given without a value: `on` by
    the flag, `off` by the flag for no, `pair` by it or its kin with `no`; None: with a value, or as the style has it.
    """

    flag: str
    default: Json = None
    type: str | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    help: str = ""
    aliases: tuple[str, ...] = Field(default=(), description="its other spellings")
    switch: Literal["on", "off", "pair"] | None = None
    requirements: str = Field(default="", description="file that is installed as well where the option is on")


class HyperparameterFlag(Value):
    """The flag that sets a key hyperparameter (None: nothing sets it) and its default.

    With `file`, `flag` is a key of that configuration, which no option of the command line overrides.
    """

    flag: str | None = None
    default: Json = None
    file: str | None = None


class ConfigValue(Value):
    """A hyperparameter that a configuration file of the repository holds. `key` is dotted, `line` counts from 1."""

    file: str
    key: str
    value: Json = None
    line: int = Field(default=0, ge=0)


class EntryCandidate(Value):
    """One way in which the repository may be trained."""

    entry_point: str
    launcher: Launcher
    score: float
    reasons: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    evidence: tuple[SourceLine, ...] = ()


class Hazard(Value):
    """Something in the repository that a batch job dies of or that a user should know."""

    kind: str
    text: str
    evidence: tuple[SourceLine, ...] = ()


class GitState(Value):
    """Where the repository stands in git. `dirty_files` counts uncommitted changes, `pushed` may be unknown."""

    commit: str
    branch: str | None = None
    remote_url: str | None = None
    dirty_files: int = 0
    pushed: bool | None = None
    uncommitted: tuple[str, ...] = Field(default=(), description="paths of uncommitted changes, the first of them")
    prefix: str = Field(default="", description="the directory's path in its git repository; empty at its top")
    unknown: str = Field(default="", description="why uncommitted changes could not be looked for")


class Checkpoints(Value):
    """The checkpoints that the code writes as it goes on, and how it takes one up again.

    `names` are patterns (`checkpoint-*.npz`), files' or directories'. `taken_up`: `argument`: the code goes on from one
    that it is given; `itself`: it looks for the last one; None: nothing says that it can.
    """

    kind: Literal["trainer", "lightning", "files"]
    names: tuple[str, ...] = ()
    taken_up: Literal["argument", "itself"] | None = None


class RepoProfile(Value):
    """What was found in a repository. Field names follow the contract of `analyze --json`."""

    root: str
    tree_digest: str = Field(description="SHA-256 over the files' paths and contents that were considered")
    is_training_repo: bool
    entry_point: str | None = None
    launcher: Launcher = Launcher.NONE
    cli_name: str | None = Field(default=None, description="console command, when the launcher is `cli`")
    launch_command: str | None = None
    launch_cwd: str = "."
    prep_commands: tuple[str, ...] = ()
    framework: str | None = None
    libraries: tuple[str, ...] = ()
    method: str | None = None
    base_model: str | None = None
    dataset: str | None = None
    config_files: tuple[str, ...] = ()
    dependency_files: tuple[str, ...] = ()
    python_requires: str | None = None
    docker: str | None = None
    num_gpus: int | None = None
    distributed: str | None = None
    env_vars_needed: tuple[str, ...] = ()
    cli_style: str | None = None
    options: tuple[ScriptOption, ...] = ()
    takes: dict[str, str] = Field(
        default_factory=dict,
        description="plan path → option, spelled as the plan's `flags` are, where the program declares it",
    )
    key_hyperparameters: dict[str, HyperparameterFlag] = Field(default_factory=dict)
    config_values: tuple[ConfigValue, ...] = Field(
        default=(), description="what the files that the entry point reads its configuration from say"
    )
    metrics_logged: tuple[str, ...] = ()
    checkpoints: Checkpoints | None = None
    hazards: tuple[Hazard, ...] = ()
    candidates: tuple[EntryCandidate, ...] = ()
    evidence: dict[str, tuple[SourceLine, ...]] = Field(default_factory=dict)
    confidence: dict[str, Confidence] = Field(default_factory=dict)
    refined: dict[str, str] = Field(
        default_factory=dict, description="fields that a language model has corrected: which one, and why"
    )
    environment: RepoEnvironment | None = Field(
        default=None, description="what the entry needs to be installed, and where the files say so"
    )
    model_configs: tuple[ModelConfig, ...] = Field(
        default=(), description="configs of models that files hold or code builds, the likeliest first"
    )
    data_sizes: tuple[DatasetSize, ...] = Field(default=(), description="data files of the repository")
    models_on_hub: tuple[ModelAnswer, ...] = Field(default=(), description="what the hub said of models, if asked")
    datasets_on_hub: tuple[DatasetAnswer, ...] = Field(default=(), description="what it said of data sets")
    git: GitState | None = None
    notes: tuple[str, ...] = Field(default=(), description="what could not be read, and why")
    named_so: tuple[str, ...] = Field(
        default=(), description="files whose name says that they train, where nothing was found that does"
    )
    files: int = 0
    bytes: int = 0

    def option(self, *names: str) -> ScriptOption | None:
        """The parser's option spelled as one of `names` (dashes and underscores alike), or None."""
        wanted = {n.lstrip("-").replace("-", "_") for n in names}
        return next((o for o in self.options if o.flag.lstrip("-").replace("-", "_") in wanted), None)

    def contract(self) -> dict[str, Json]:
        """The document that `analyze --json` prints; `launcher` is `cli:<name>` for a console command."""
        document: dict[str, Json] = self.model_dump(mode="json", exclude={"root"})
        if self.launcher is Launcher.CLI and self.cli_name:
            document["launcher"] = f"cli:{self.cli_name}"
        return document
