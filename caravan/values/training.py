"""A training type: a fine-tune that Caravan brings a script for. And what a look at its data has found.

A type is one folder: `type.yaml` (this value), the script's template, its evaluation, its requirements. It holds no
code that the agent runs: what it renders runs in the job alone.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from caravan.values.base import Json, Value

TypeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]


class DataFormat(StrEnum):
    """How a data set's rows tell what is learned from them."""

    TEXT = "text"  # one text: language modelling
    CHAT = "chat"  # a list of messages with role and content
    INSTRUCTION = "instruction"  # instruction, maybe input, and output; also prompt and completion
    CLASSIFICATION = "classification"  # a text and its label
    PAIRS = "pairs"  # anchor and positive, maybe negative
    IMAGES = "images"  # a folder for each label, or a table of image files and labels


class MetricSpec(Value):
    """A metric that a type's runs log."""

    name: str
    title: str = ""
    unit: str = ""
    direction: Literal["min", "max"] = "min"
    type: Literal["number", "integer", "share"] = "number"


class Knob(Value):
    """A value of a type that a person may set. `path` is the plan's field; empty: an option of the script alone.

    `flag` is the script's option. A knob without a default is left to the script or the estimate. `requirements` is a
    file beside the script that is installed as well where the option is given and is on (not off, false, none or 0).
    """

    name: str
    flag: str
    path: str = ""
    type: Literal["integer", "number", "boolean", "text", "choice"] = "text"
    default: Json = None
    choices: tuple[Json, ...] = ()
    least: float | None = None
    most: float | None = None
    requirements: str = ""
    about: str = ""


class TrainingType(Value):
    """One type, as its folder's `type.yaml` says it.

    `aliases`: another name → plan paths that it sets (`lora` → training.method lora). `words`: what a person says who
    wants this type. `columns`: role of a column → names under which it is known. `files`: template in the folder →
    name beside the script; `entry` is the one that is started, `evaluation` the one that evaluates a trained model.
    """

    name: TypeName
    title: str
    about: str
    words: tuple[str, ...] = ()
    aliases: dict[str, dict[str, Json]] = Field(default_factory=dict)
    formats: tuple[DataFormat, ...]
    columns: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    knobs: tuple[Knob, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    target: str | None = Field(default=None, description="name of the metric that a run is judged by")
    entry: str = "train.py"
    evaluation: str = "evaluate.py"
    files: dict[str, str] = Field(default_factory=dict)
    requirements: tuple[str, ...] = Field(default=(), description="pinned packages that the script needs")
    model_is: Literal["causal-lm", "encoder", "vision", "any"] = "any"
    default_model: str | None = None


class DataKind(StrEnum):
    """What is wrong with data, or remarkable about it."""

    MISSING = "missing"  # no such file, or no permission
    EMPTY = "empty"
    MALFORMED = "malformed"  # no JSON, a row of another width, no UTF-8, a broken Parquet file
    COLUMN_MISSING = "column_missing"
    EMPTY_ROW = "empty_row"
    DUPLICATES = "duplicates"
    LEAK = "leak"  # rows of the test data that are in the training data
    ROLES = "roles"  # a conversation that no chat template takes
    NO_CHAT_TEMPLATE = "no_chat_template"
    LABEL = "label"  # not of the labels, one class only, a number out of range
    ALL_TOO_LONG = "all_too_long"
    TOO_LONG = "too_long"  # some are cut
    NOT_READ = "not_read"  # what could not be looked at from here
    MODEL_MISSING = "model_missing"  # no such model, or one without what this training needs
    OUTPUT_UNWRITABLE = "output_unwritable"
    DISK_FULL = "disk_full"  # no room for the checkpoints


class DataProblem(Value):
    """One problem. `fatal`: the training would fail or be worthless. `line` counts from 1. The text names no content of
    a row beyond what is needed to find it: data samples leave the machine only where a person asks for it."""

    kind: DataKind
    text: str
    file: str = ""
    line: int | None = None
    fatal: bool = True


class Lengths(Value):
    """How long sequences are, in tokens; `estimated` where no tokenizer could be asked and characters were counted."""

    count: int
    median: int
    p95: int
    longest: int
    cut: int = Field(default=0, description="how many are longer than the limit")
    limit: int | None = None
    estimated: bool = False


class DataReport(Value):
    """What a look at the data has found. `looked_at` rows of `rows` (None: unknown); the whole where they are equal."""

    format: DataFormat | None = None
    files: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: int | None = None
    looked_at: int = 0
    sha256: str | None = None
    labels: tuple[str, ...] = ()
    lengths: Lengths | None = None
    problems: tuple[DataProblem, ...] = ()

    @property
    def fatal(self) -> tuple[DataProblem, ...]:
        """The problems for which nothing should be launched."""
        return tuple(problem for problem in self.problems if problem.fatal)


class TrainingChoice(Value):
    """The type that a run is trained with. `digest` is that of the rendered files: a run keeps those that it has.

    `sets`: plan paths that the name by which it was asked for sets beside the type. `sure`: how sure the choice is, of
    `others`; 1 where a person named it. `data` and `model` are what was found or named, None where nothing was.
    """

    type: TypeName
    digest: str
    sets: dict[str, Json] = Field(default_factory=dict)
    data: str | None = None
    eval_data: str | None = None
    model: str | None = None
    format: DataFormat | None = None
    sure: float = Field(default=1.0, ge=0, le=1)
    others: tuple[TypeName, ...] = ()
    why: str = ""
