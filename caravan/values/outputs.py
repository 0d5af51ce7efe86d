"""What a job says of its outputs: the summary that it leaves in its allocation, and the manifest of a copy.

Both are written inside the job, so what they say is data to be checked. Nothing here reads a file.
"""

import json
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from caravan.values.base import Value
from caravan.values.file_names import is_safe
from caravan.values.registry import ModelFile, files_digest

SUMMARY_PATH: Final = "alloc/data/caravan-outputs.json"
"""Where the launch script leaves its summary, in the allocation."""

MANIFEST: Final = "caravan-manifest.json"
"""The name of the file that is written last below a copy's address: with it the copy is whole."""

NOT_COPIED: Final = 79
"""Exit code of a job whose training ended well and whose outputs could not be copied."""


class _Said(Value):
    """A value out of a job's own file: what it says beyond our fields is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class NewestFile(_Said):
    """The file that was written last. `at` in seconds since 1970, UTC."""

    name: str
    at: float


class FoundFile(_Said):
    """A file outside the output directory, by its path in the code."""

    name: str
    bytes: int = Field(ge=0)


class Elsewhere(_Said):
    """Large files that the training wrote into the directory of its code, and the largest of them."""

    files: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)
    largest: tuple[FoundFile, ...] = ()


class Copied(_Said):
    """What came of copying to a URL. `complete`: every file and the manifest are there."""

    to: str
    files: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)
    complete: bool = False
    error: str = ""


class Kept(_Said):
    """Files that the training wrote beside its code and that the job brought into the output directory, which was
    empty. `left`: those that it could not bring, and `error` why. `largest`: names of the largest of all.
    """

    files: int = Field(default=0, ge=0)
    bytes: int = Field(default=0, ge=0)
    left: int = Field(default=0, ge=0)
    largest: tuple[str, ...] = ()
    error: str = ""


class TrainedModel(_Said):
    """The trained model among the outputs, without checkpoints. `path`: its directory below the output directory, `.`
    for that itself. `sha256` is one value for all files (`caravan.values.registry.files_digest`), None where not all of
    them could be read in time: `error` says why, and `files` holds those that were. `architectures` and `task` are what
    its configuration and its adapter's say; None of a job that did not tell it yet.
    """

    path: str
    kind: Literal["model", "adapter", ""] = ""
    architectures: tuple[str, ...] | None = Field(default=None, max_length=10)
    task: str = Field(default="", max_length=100)
    files: tuple[ModelFile, ...] = ()
    bytes: int = Field(default=0, ge=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    seconds: float | None = Field(default=None, ge=0)
    error: str = ""


class OutputSummary(_Said):
    """The output directory as the job saw it at its end. `whole` False: too many files to count them all. `model` is
    None where no model was looked for (a job that failed or was stopped) or none was found.
    """

    directory: str
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
    newest: NewestFile | None = None
    elsewhere: Elsewhere = Field(default_factory=Elsewhere)
    copied: Copied | None = None
    kept: Kept | None = None
    model: TrainedModel | None = None
    whole: bool = True

    @field_validator("model", mode="before")
    @classmethod
    def _believable(cls, told: Any) -> Any:
        """A model whose list of files can't be one counts as not listed: what it says else of the outputs stands."""
        objection = _against(told) if isinstance(told, dict) else ""
        return {"path": ".", "error": objection} if objection else told


MOST_MODEL_FILES: Final = 2000
"""Files of one model that are believed, as many as a job lists at most (`templates/model_files.py`)."""


def _against(model: dict[str, Any]) -> str:
    """What speaks against what a job says of its model's files; empty: nothing."""
    files = model.get("files") or ()
    if len(files) > MOST_MODEL_FILES:
        return f"its job lists more than {MOST_MODEL_FILES} files of it"
    names = [model.get("path"), *(file.get("path") for file in files if isinstance(file, dict))]
    if any(not isinstance(name, str) or not (name == "." or is_safe(name)) for name in names):
        return "its job names what is no file below the outputs"
    try:
        listed = [ModelFile.model_validate(file) for file in files]
    except ValidationError:
        return "its job's list of its files can't be read"
    if model.get("sha256") not in (None, files_digest(listed)):
        return "its job's list of its files has another checksum than it says"
    return ""


class ManifestFile(_Said):
    """A file of a copy. Its SHA-256 in hexadecimal digits."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Said):
    """The files of a copy by their paths below its address, and those copied earlier that were gone at the end."""

    complete: bool = False
    files: dict[str, ManifestFile] = Field(default_factory=dict)
    earlier: dict[str, ManifestFile] = Field(default_factory=dict)


def parse_summary(data: bytes) -> OutputSummary | None:
    """The summary in a job's file, or None for what is none."""
    try:
        return OutputSummary.model_validate(json.loads(data))
    except (ValueError, RecursionError, ValidationError):
        return None


def parse_manifest(data: bytes) -> Manifest | None:
    """The manifest in a file, or None for what is none."""
    try:
        return Manifest.model_validate(json.loads(data))
    except (ValueError, RecursionError, ValidationError):
        return None
