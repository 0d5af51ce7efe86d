"""Which of the settings' base images fits: by torch's version, Python, CUDA and the nodes' driver. Pure.

No image is named here: they come from the settings, and who checks that they exist is not known.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from caravan.planning.conflicts import python_range
from caravan.planning.cuda import image_driver, is_older, pinned
from caravan.values.environment import BaseImage, PythonWish, RepoEnvironment

_USUAL = ("3.11", "3.12", "3.10", "3.13", "3.9", "3.8")  # where most wheels are, first
_BEST_FIRST = 8  # of the reasons that are told


class Choice(NamedTuple):
    """The image and, in words, what it was chosen by."""

    image: BaseImage
    why: str


def choose_image(
    images: Sequence[BaseImage],
    environment: RepoEnvironment,
    *,
    gpu: bool,
    drivers: Iterable[str | None],
    nvcc: bool = False,
) -> Choice | None:
    """The fittest image; None where none fits. `drivers`: of the nodes that may get the job (None: not known).

    An image with the very torch that is asked for comes first, then one of the Python that is wished, then one that
    asks less of the driver. What an image is not said to have is not counted on.
    """
    oldest = [d for d in drivers if d]
    torch = pinned(environment.declared, "torch")
    uses_torch = torch is not None or any(n.requirement == "torch" for n in environment.missing)
    cuda = next((s.version for s in environment.cuda if s.version), None)
    best: tuple[tuple[float, ...], Choice] | None = None
    for place, image in enumerate(images):
        if not _may(image, environment, gpu=gpu, drivers=oldest):
            continue
        reasons = []
        has_torch = bool(
            image.torch and uses_torch and (torch is None or torch[0].contains(image.torch, prereleases=True))
        )
        if image.torch and not has_torch:
            continue  # another torch than is asked for would only be replaced
        if has_torch:
            asked = f", as {torch[1].where.text_of()} asks" if torch and str(torch[0]) else ""
            reasons.append(f"it has torch {image.torch}{asked}")
        wished = bool(image.python and (p := wished_python(environment)) and p[0] == image.python)
        if wished and (p := wished_python(environment)):
            reasons.append(f"Python {image.python} ({p[1]})")
        elif image.python:
            reasons.append(f"Python {image.python}")
        same_cuda = bool(cuda and image.cuda and image.cuda == cuda)
        if image.cuda and gpu:
            driver = image_driver(image.cuda)
            reasons.append(f"CUDA {image.cuda}" + (f" for driver {driver} and newer" if driver else ""))
        score = (
            has_torch,
            same_cuda,
            wished,
            nvcc and image.nvcc,
            image.tools,
            Version(image.torch or "0") if torch and not str(torch[0]) else 0,
            -place,
        )
        ranked = tuple(float(s) if not isinstance(s, Version) else _number(s) for s in score)
        if best is None or ranked > best[0]:
            best = ranked, Choice(image, ", ".join(reasons[:_BEST_FIRST]) or "the first that fits")
    return best[1] if best else None


def _number(version: Version) -> float:
    return version.major * 1000 + version.minor


def _may(image: BaseImage, environment: RepoEnvironment, *, gpu: bool, drivers: Sequence[str]) -> bool:
    """Whether nothing speaks against it: not the bounds on Python, not the driver of every node."""
    if image.cuda and not gpu:
        return False
    if image.cuda and drivers and all(is_older(d, image_driver(image.cuda)) for d in drivers):
        return False
    return image.python is None or python_fits(image.python, environment)


def python_fits(python: str, environment: RepoEnvironment) -> bool:
    """Whether a minor version of Python is within the repository's bounds, and torch has wheels for it."""
    if not all(allows(w, python) for w in environment.pythons if w.required):
        return False
    known = python_range(environment.declared)
    return known is None or Version(known[0]) <= Version(python) <= Version(known[1])


def newest_python(environment: RepoEnvironment) -> str | None:
    """The version that was used, else the newest usual one that fits; None where nothing asks for any."""
    wished = wished_python(environment)
    if wished and python_fits(wished[0], environment):
        return wished[0]
    if not environment.pythons and python_range(environment.declared) is None:
        return None
    return next((p for p in _USUAL if python_fits(p, environment)), None)


def allows(wish: PythonWish, python: str) -> bool:
    """Whether a wish allows a minor version: with any patch of it."""
    try:
        specifier = SpecifierSet(wish.specifier)
    except InvalidSpecifier:
        return True
    return any(specifier.contains(f"{python}.{patch}") for patch in (0, 9, 30))


def wished_python(environment: RepoEnvironment) -> tuple[str, str] | None:
    """The minor version that the repository was used with, as a file says it, and the place; None: nothing says one."""
    for wish in environment.pythons:
        if not wish.required and wish.specifier.startswith("==") and wish.specifier.endswith(".*"):
            return wish.specifier[2:-2], wish.where.text_of()
    return None


def has_python(image: str) -> bool:
    """Whether an image that a Dockerfile comes from is one that brings Python along, by its name."""
    name = image.lower()
    known = ("python", "pytorch", "tensorflow", "jax", "conda", "huggingface", "transformers", "mamba", "deepspeed")
    return any(word in name for word in known)
