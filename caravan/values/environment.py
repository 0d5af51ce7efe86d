"""What a repository needs to be installed, what a cluster's settings offer for it, and what looking for it answered.

Values alone: who reads the files, resolves versions or asks a registry is not known here.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from caravan.values.base import Value
from caravan.values.base_image import BaseImage as BaseImage
from caravan.values.places import SourceLine


class Wanted(Value):
    """A PEP 508 requirement (or pip's own line for a package of the repository) and the place that says it."""

    line: str = Field(max_length=500)
    where: SourceLine


class ImportNeed(Value):
    """A package that the entry's code imports and no dependency file brings. `requirement` None: nobody knows it."""

    module: str
    requirement: str | None = None
    where: SourceLine


class PythonWish(Value):
    """A Python version that a file asks for. `required`: it is a bound (`>=3.9`), not what the author happened to use.

    `specifier` is PEP 440's (`==3.10.*` for a version that was used).
    """

    specifier: str
    required: bool = False
    where: SourceLine


class CudaSign(Value):
    """A CUDA version that something in the repository was made for; `version` None: any, as for CUDA-only packages."""

    version: str | None = Field(default=None, description="`12.1`")
    kind: Literal["pin", "index", "image", "conda", "package"]
    where: SourceLine


class SystemPackage(Value):
    """A package of the system, by its name for apt on Debian and Ubuntu, and what asks for it."""

    name: str
    why: str
    where: SourceLine


class PackageIndex(Value):
    """An index or page of links that the repository's own files tell pip to use."""

    url: str
    where: SourceLine


class Dockerfile(Value):
    """A Dockerfile as read. `trains`: it makes an environment for training; `why` says what speaks for or against."""

    path: str
    base: str | None = Field(default=None, description="the image that the last stage comes from")
    trains: bool
    why: str
    apt: tuple[SystemPackage, ...] = ()
    where: SourceLine


class RepoEnvironment(Value):
    """What an entry needs to be installed. `requirements` are files that are installed together, `own` the package of
    the repository itself (`.`, `./sub[train]`), `pip` further lines; `declared` is all that these ask for together.
    """

    requirements: tuple[str, ...] = ()
    own: str | None = None
    pip: tuple[Wanted, ...] = ()
    declared: tuple[Wanted, ...] = ()
    missing: tuple[ImportNeed, ...] = ()
    pythons: tuple[PythonWish, ...] = ()
    cuda: tuple[CudaSign, ...] = ()
    gpu_only: tuple[Wanted, ...] = Field(default=(), description="packages that work on a CUDA GPU alone")
    system: tuple[SystemPackage, ...] = ()
    indexes: tuple[PackageIndex, ...] = ()
    dockerfile: Dockerfile | None = None
    notes: tuple[str, ...] = ()


class Resolution(Value):
    """What became of resolving requirement lines. `resolved` None: nobody could say (`text` says why).

    `packages` are `name==version` of everything that would be installed; `text` the resolver's words where it can't be.
    """

    resolved: bool | None = None
    packages: tuple[str, ...] = ()
    text: str = ""
    cached: bool = False


class ImageState(StrEnum):
    """What a registry says of an image."""

    THERE = "there"
    ABSENT = "absent"  # the registry answered, and has no such tag or repository
    DENIED = "denied"  # it wants credentials, or hides that there is none
    UNKNOWN = "unknown"  # no answer, or none that can be read


class ImageAnswer(Value):
    """A registry's answer about an image. `digest` is that of its manifest, where it says one."""

    image: str
    state: ImageState
    text: str = ""
    digest: str | None = None
