"""The training plan: the one source of truth, and everything that speaks about it.

Answers, rules, the language model, memory and repairs change only this value, through `apply_changes`; every field
keeps who set it and why. The field paths follow the failure taxonomy's vocabulary, so that a fix named there is a
field here.
"""

import types
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import Field, ValidationError

from caravan.values.base import Json, Value, sha256_text
from caravan.values.changes import STANDING, Author, PlanChange
from caravan.values.errors import PlanError
from caravan.values.evaluation import Evaluation
from caravan.values.plan_parts import (
    Artifact,
    CodeSource,
    ConfigKey,
    ConfigOverlay,
    Constraint,
    Dataset,
    DataSource,
    Docker,
    ImageBuild,
    Launch,
    Limits,
    ModelChoice,
    Mount,
    OutputSink,
    Port,
    Provenance,
    RegistryAuth,
    Resources,
    Resume,
    SecretPath,
    SecretSource,
    Setup,
    Smoke,
    Spread,
    Target,
    TemplateFile,
    Training,
    VariableName,
    Wish,
    only_more,
)

__all__ = [
    "STANDING",
    "Artifact",
    "Author",
    "CodeSource",
    "ConfigKey",
    "ConfigOverlay",
    "Constraint",
    "DataSource",
    "Dataset",
    "Docker",
    "Evaluation",
    "ImageBuild",
    "Launch",
    "Limits",
    "ModelChoice",
    "Mount",
    "OutputSink",
    "PlanChange",
    "Port",
    "Provenance",
    "RegistryAuth",
    "Resources",
    "Resume",
    "SecretPath",
    "SecretSource",
    "Setup",
    "Smoke",
    "Spread",
    "Target",
    "TemplateFile",
    "Training",
    "TrainingPlan",
    "VariableName",
    "Wish",
    "apply_changes",
    "block_in",
    "plan_diff",
    "split_path",
]


_OF_TYPE: Final = (
    *("command", "flags", "launch", "training", "target", "workdir", "config_keys"),
    *("setup.requirements", "setup.further_requirements", "setup.option_requirements"),
)
"""Fields that say what program trains and how: where a training type's script does, its definition has said them."""


class TrainingPlan(Value):
    """What to train, how it is started, where code, data and outputs are, what it needs, where it may run."""

    goal: str
    model: ModelChoice = Field(default_factory=ModelChoice)
    dataset: Dataset = Field(default_factory=Dataset)
    training: Training = Field(default_factory=Training)
    target: Target | None = None

    launch: Launch = Field(default_factory=Launch)
    command: tuple[str, ...] = Field(description="program and its arguments, without the launcher's own")
    flags: dict[str, str] = Field(
        default_factory=dict,
        description="plan path → the repository's flag that takes its value; `path=value` → a flag without a value",
    )
    workdir: str = "."
    env: dict[str, str] = Field(default_factory=dict)
    setup: Setup = Field(default_factory=Setup)
    config_overlays: tuple[ConfigOverlay, ...] = ()
    config_keys: dict[str, ConfigKey] = Field(
        default_factory=dict, description="plan path → where a config of the repository holds its value"
    )
    code: CodeSource = Field(default_factory=lambda: CodeSource(kind="image"))
    data: DataSource | None = None
    build: ImageBuild | None = None
    outputs: OutputSink = Field(default_factory=OutputSink)
    resume: Resume | None = None
    smoke: Smoke = Field(default_factory=Smoke)
    evaluation: Evaluation = Field(default_factory=Evaluation)

    job_type: Literal["batch", "service"] = "batch"
    driver: str = "docker"
    image: str | None = None
    image_pull_timeout_s: int | None = Field(default=None, ge=1)
    docker: Docker = Field(default_factory=Docker)
    user: str | None = None
    container_name: str | None = None
    network_mode: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    templates: tuple[TemplateFile, ...] = ()
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[VariableName, ...] = Field(
        default=(), description="names of environment variables given by reference"
    )
    secrets_from: SecretSource = Field(default_factory=SecretSource)
    ports: tuple[Port, ...] = ()

    resources: Resources = Field(default_factory=Resources)
    shm_mb: int | None = Field(default=None, ge=1)
    namespace: str | None = None
    region: str | None = None
    node_pool: str | None = None
    datacenters: tuple[str, ...] = ("*",)
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Wish, ...] = ()
    spreads: tuple[Spread, ...] = ()
    exclude_nodes: tuple[str, ...] = ()
    priority: int = Field(default=50, ge=1, le=100)
    kill_timeout_s: int = Field(default=30, ge=1)
    progress_deadline_s: int | None = Field(default=None, ge=1)
    limits: Limits = Field(default_factory=Limits)

    provenance: dict[str, Provenance] = Field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of the plan without its provenance: two plans that would run the same have the same digest."""
        return sha256_text(self.canonical(exclude={"provenance"}))

    def get(self, path: str) -> Json:
        """The JSON value at a dotted path. Raises PlanError for a path that no plan has."""
        here: Any = self.model_dump(mode="json")
        block: type[Value] | None = TrainingPlan
        free = False
        for key in split_path(path):
            if not free and (block is None or key not in block.model_fields):
                raise PlanError(f"The plan has no field {path!r}.")
            # A block that is not there yet has fields all the same: they can be set.
            here = here.get(key) if isinstance(here, dict) else None
            annotation = None if free or block is None else block.model_fields[key].annotation
            block, free = block_in(annotation), get_origin(annotation) is dict
        return here

    def flag(self, path: str) -> str | None:
        """The option that takes the field's value, however it is spelled there (`training.max_steps:int`), or None."""
        return next((flag.rstrip("= ") for told, flag in self.flags.items() if told.partition(":")[0] == path), None)

    def set_by(self, path: str) -> Author:
        """Who set the field at `path`: the entry of its longest recorded prefix, else the default."""
        parts = split_path(path)
        for n in range(len(parts), 0, -1):
            found = self.provenance.get(".".join(parts[:n]))
            if found is not None:
                return found.by
        return Author.DEFAULT

    def whose(self, path: str) -> str:
        """Who set the field, as a person is told: as `set_by`, but what a training type's definition says is the type's
        (`type sft`), though it stands like a repository's own."""
        author = self.set_by(path)
        if author is Author.REPOSITORY and self.training.type and path.startswith(_OF_TYPE):
            return f"type {self.training.type}"
        return author.value

    def is_own(self, path: str) -> bool:
        """Whether the field has the repository's own value, so that nothing needs to be passed to its program."""
        origin = self.provenance.get(path)
        return origin is not None and (origin.own or origin.by is Author.REPOSITORY)

    def asked(self, path: str) -> bool:
        """Whether a person or a repair set the field, and not only confirmed what is the repository's own."""
        return self.set_by(path) in STANDING and not self.is_own(path)


def block_in(annotation: Any) -> type[Value] | None:
    """The block that a field of that type holds, also an optional one; None for anything else."""
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, Value)), None)


def _mappings(block: type[Value], prefix: str = "") -> Iterator[str]:
    """The fields whose keys are the user's: `env.ANY_NAME`, `training.options.--any-flag`, `flags.any.plan.path`."""
    for name, field in block.model_fields.items():
        inner = block_in(field.annotation)
        if inner is not None:
            yield from _mappings(inner, f"{prefix}{name}.")
        elif get_origin(field.annotation) is dict:
            yield f"{prefix}{name}."


_FREE: Final = tuple(_mappings(TrainingPlan))


def split_path(path: str) -> list[str]:
    """A dotted path's parts; the key of a free mapping (`env.`, `flags.`, …) keeps its own dots."""
    for prefix in _FREE:
        if path.startswith(prefix) and len(path) > len(prefix):
            return [*prefix.rstrip(".").split("."), path[len(prefix) :]]
    return path.split(".")


def apply_changes(plan: TrainingPlan, changes: Iterable[PlanChange]) -> TrainingPlan:
    """The plan with the changes made in order and provenance recorded, validated as a whole.

    A change by an author without standing (rule, estimate, memory, model) to a field that the user, an answer or a
    repair has set is left out; memory may add to it (`only_more`). Raises PlanError, naming the field, for an unknown
    path or an invalid value; then nothing is changed.
    """
    document = plan.model_dump(mode="json", exclude={"provenance"})
    provenance = dict(plan.provenance)
    current = plan
    for change in changes:
        if change.by not in STANDING and current.set_by(change.path) in STANDING and not _adds(current, change):
            continue
        current.get(change.path)  # raises for a path that no plan has
        _put(document, split_path(change.path), change.value)
        own = change.confirms and current.is_own(change.path) and current.get(change.path) == change.value
        provenance[change.path] = Provenance(by=change.by, why=change.why, own=own)
        try:
            current = TrainingPlan.model_validate({**document, "provenance": provenance})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"]) or change.path
            got = "" if "holds a secret" in first["msg"] else f" (got {change.value!r})"
            raise PlanError(f"{where}: {first['msg']}{got}.") from error
        if not _in_64_bits(current.get(change.path)):
            raise PlanError(f"{change.path}: no computer counts that far (got {str(change.value)[:50]}).")
    return current


def _adds(plan: TrainingPlan, change: PlanChange) -> bool:
    return change.by is Author.MEMORY and only_more(change.path, plan.get(change.path), change.value)


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
