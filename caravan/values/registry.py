"""Results of runs as they are compared, and the models that passed: versions, their files, their stages."""

import difflib
import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from caravan.values.base import Json, Value, sha256_text
from caravan.values.errors import UsageError
from caravan.values.evaluation import GateReport
from caravan.values.run import RunStatus
from caravan.values.training import MetricSpec

MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
ModelName = Annotated[str, Field(pattern=MODEL_NAME)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CodeVersion(Value):
    """The code that was trained with: its commit, where it has one, and the SHA-256 of the archive that was sent."""

    source: str = Field(default="", description="path or URL without credentials, as the run was asked for")
    commit: str | None = None
    uncommitted: tuple[str, ...] = Field(default=(), description="files that were not as committed")
    sha256: str | None = None


class DataVersion(Value):
    """The data that was trained with. `sha256` None: it was not seen from here."""

    path: str | None = None
    sha256: str | None = None
    rows: int | None = None


class Forecast(Value):
    """What was estimated beside what was measured. GiB of one GPU, seconds, US dollars; None: not known."""

    memory_gib: float | None = None
    measured_gib: float | None = None
    seconds: float | None = None
    measured_s: float | None = None
    usd: float | None = None
    measured_usd: float | None = None


class RunResult(Value):
    """What a run came to, as comparing, reproducing and registering need it; stored when the run ends.

    `plan` is the last plan as JSON without its provenance; `family` is that of `values.family`: runs
    of one family differ by chance alone. `metrics` are the figures that the model is known by: the gate's, else the
    last logged ones. `reproduces`: the run that this one repeats.
    """

    run_id: str
    ended_at: datetime
    status: RunStatus
    prompt: str = ""
    plan: dict[str, Json]
    plan_sha256: Sha256
    family: Sha256
    seed: int | None = None
    image: str | None = Field(default=None, description="by digest where it is known")
    code: CodeVersion = Field(default_factory=CodeVersion)
    data: DataVersion = Field(default_factory=DataVersion)
    metrics: dict[str, float] = Field(default_factory=dict)
    gate: GateReport | None = None
    forecast: Forecast = Field(default_factory=Forecast)
    attempts: int = 0
    cost_usd: float = 0.0
    reproduces: str | None = None


class ModelFile(Value):
    """A file of a model, by its path below the model's address."""

    path: str
    bytes: int = Field(ge=0)
    sha256: Sha256


def files_digest(files: Iterable[ModelFile]) -> str:
    """SHA-256 of a list of files: of the text that `sha256sum` prints of them, ordered by their paths' bytes."""
    lines = (f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path.encode()))
    return sha256_text("".join(lines))


class ModelFiles(Value):
    """Where a model's files are. `address`: a path, an fsspec URL without credentials, `volume:NAME/PATH`, or
    `allocation:ID/PATH`, which is gone once the cluster forgets the job. `files` empty: they could not be listed.
    """

    address: str
    files: tuple[ModelFile, ...] = ()
    sha256: Sha256 | None = Field(default=None, description="of the list of files: `files_digest`")


class ModelStage(StrEnum):
    """How far a model is trusted."""

    CANDIDATE = "candidate"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


class ModelVersion(Value):
    """A registered model. `version` counts from 1 within its name; 0 of one that is not registered yet.

    At most one version of a name is in production. A run is registered once: the run's id says whether it is.
    """

    name: ModelName
    version: int = Field(default=0, ge=0)
    run_id: str
    created_at: datetime
    stage: ModelStage = ModelStage.CANDIDATE
    base_model: str | None = Field(default=None, description="hub id or path of what it was trained from")
    parent: str | None = Field(default=None, description="`name@version` of the registered model it was trained from")
    method: str | None = None
    kind: str = Field(default="", description="`model`, `adapter`, or empty where that is not known")
    files: ModelFiles
    metrics: dict[str, float] = Field(default_factory=dict)
    base_metrics: dict[str, float] = Field(default_factory=dict)
    definitions: tuple[MetricSpec, ...] = ()
    gate: GateReport | None = None
    code: CodeVersion = Field(default_factory=CodeVersion)
    data: DataVersion = Field(default_factory=DataVersion)
    plan_sha256: Sha256
    by: str = Field(default="", description="who registered it")
    why: str = Field(default="", description="why, where the gate alone did not")

    @property
    def ref(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


class StageMove(Value):
    """A model's move from one stage to another. `at` is UTC."""

    ref: str
    at: datetime
    before: ModelStage | None
    after: ModelStage
    by: str = ""
    why: str = ""


class ModelRef(Value):
    """What names a model: the name alone (its newest version), or the name with a version or a stage."""

    name: str
    version: int | None = None
    stage: ModelStage | None = None


def parse_ref(text: str) -> ModelRef:
    """`name`, `name@VERSION` or `name@STAGE`. Raises UsageError for what is none of these."""
    name, at, rest = text.partition("@")
    shown = text.encode("utf-8", "replace").decode("utf-8")
    if not re.fullmatch(MODEL_NAME, name):
        raise UsageError(f"{shown!r} names no model.", hint="Write NAME, NAME@VERSION or NAME@STAGE.")
    if not at:
        return ModelRef(name=name)
    if re.fullmatch(r"v?[1-9][0-9]{0,8}", rest, re.ASCII):
        return ModelRef(name=name, version=int(rest.removeprefix("v")))
    if rest in set(ModelStage):
        return ModelRef(name=name, stage=ModelStage(rest))
    stages = ", ".join(ModelStage)
    raise UsageError(f"{shown!r} names no version and no stage.", hint=f"Stages are {stages}; versions count from 1.")


def no_model(ref: ModelRef, names: Iterable[str], versions: Iterable[ModelVersion]) -> UsageError:
    """The error for a ref that names nothing. `names`: those there are; `versions`: those of the ref's name."""
    there = [f"{model.version} ({model.stage.value})" for model in versions]
    if there:
        what = f"version {ref.version}" if ref.version else f"version in {ref.stage.value if ref.stage else '?'}"
        return UsageError(f"Model {ref.name} has no {what}.", hint=f"There is {', '.join(there[:10])}.")
    close = {name.lower(): name for name in names}
    alike = [close[found] for found in difflib.get_close_matches(ref.name.lower(), close, n=5, cutoff=0.5)]
    hint = f"Like it: {', '.join(alike)}." if alike else "`main.py models list` lists them."
    return UsageError(f"There is no model {ref.name}.", hint=hint)
