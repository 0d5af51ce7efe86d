"""What frameworks need of CUDA, the GPUs' driver and Python: facts by version, held against what nodes report.

Facts and pure questions. It changes no plan.
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from caravan.planning.catalogue import gpu_named
from caravan.planning.cluster_fit import driver_of, gpu_groups
from caravan.values.distributions import normal
from caravan.values.environment import RepoEnvironment, Wanted
from caravan.values.job import NodeFacts

# CUDA that torch's wheels on the index bring: their requirement on nvidia-cuda-runtime or cuda-toolkit, as resolved
# from the index in 2026-11. Python: the versions for which the index has such a wheel.
TORCH: Final[dict[str, tuple[str, str, str]]] = {
    "1.12": ("10.2", "3.7", "3.10"),
    "1.13": ("11.7", "3.7", "3.11"),
    "2.0": ("11.7", "3.8", "3.11"),
    "2.1": ("12.1", "3.8", "3.11"),
    "2.2": ("12.1", "3.8", "3.12"),
    "2.3": ("12.1", "3.8", "3.12"),
    "2.4": ("12.1", "3.8", "3.12"),
    "2.5": ("12.4", "3.9", "3.13"),
    "2.6": ("12.4", "3.9", "3.13"),
    "2.7": ("12.6", "3.9", "3.13"),
    "2.8": ("12.8", "3.9", "3.13"),
    "2.9": ("12.8", "3.10", "3.14"),
    "2.10": ("12.8", "3.10", "3.14"),
    "2.11": ("13.0", "3.10", "3.14"),
    "2.12": ("13.0", "3.10", "3.14"),
    "2.13": ("13.0", "3.10", "3.14"),
    "2.14": ("13.0", "3.10", "3.14"),
}
"""Minor version of torch → CUDA of its wheels, oldest and newest Python."""
# tensorflow.org/install/source#gpu, the table of tested builds.
TENSORFLOW: Final[dict[str, tuple[str, str, str]]] = {
    "2.10": ("11.2", "3.7", "3.10"),
    "2.11": ("11.2", "3.7", "3.10"),
    "2.12": ("11.8", "3.8", "3.11"),
    "2.13": ("11.8", "3.8", "3.11"),
    "2.14": ("11.8", "3.9", "3.11"),
    "2.15": ("12.2", "3.9", "3.11"),
    "2.16": ("12.3", "3.9", "3.12"),
    "2.17": ("12.3", "3.9", "3.12"),
    "2.18": ("12.5", "3.9", "3.12"),
    "2.19": ("12.5", "3.9", "3.12"),
    "2.20": ("12.5", "3.9", "3.13"),
}
# NVIDIA, CUDA Compatibility, table "Minimum Required Driver Version for CUDA Minor Version Compatibility" (Linux);
# for 10.2, which has none, the driver of the toolkit.
OLDEST_DRIVER: Final[dict[int, str]] = {10: "440.33", 11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""Major version of CUDA → the oldest driver on which what was built with any of its minor versions runs."""
# NVIDIA, CUDA Toolkit Release Notes, table "CUDA Toolkit and Corresponding Driver Versions" (Linux x86_64).
TOOLKIT_DRIVER: Final[dict[str, str]] = {
    "10.2": "440.33",
    "11.0": "450.36.06",
    "11.1": "455.23",
    "11.2": "460.27.03",
    "11.3": "465.19.01",
    "11.4": "470.42.01",
    "11.5": "495.29.05",
    "11.6": "510.39.01",
    "11.7": "515.43.04",
    "11.8": "520.61.05",
    "12.0": "525.60.13",
    "12.1": "530.30.02",
    "12.2": "535.54.03",
    "12.3": "545.23.06",
    "12.4": "550.54.14",
    "12.5": "555.42.02",
    "12.6": "560.28.03",
    "12.8": "570.26",
    "12.9": "575.51.03",
    "13.0": "580.65.06",
}
"""CUDA version → the driver that came with it: what an image of that version asks of a node without a data center's
GPU, by NVIDIA_REQUIRE_CUDA."""
AMPERE: Final = frozenset({"flash-attn", "transformer-engine", "flash-linear-attention"})
"""Packages that need a GPU of compute capability 8.0 (Ampere) or newer, by their READMEs."""


class Need(NamedTuple):
    """A CUDA version (None: not known), the oldest driver for it, and why in a few words. `sure`: by a pin."""

    cuda: str | None
    driver: str | None
    why: str
    sure: bool = True


def pinned(lines: Iterable[Wanted], name: str) -> tuple[SpecifierSet, Wanted] | None:
    """All that the lines say of a distribution's version together, with the line that says most; None: it is not named.

    Lines with a marker that does not hold on Linux are left out.
    """
    found: SpecifierSet | None = None
    place: Wanted | None = None
    for wanted in lines:
        required = Requirement(wanted.line)
        if normal(required.name) != name or not on_linux(required):
            continue
        if place is None or (len(str(required.specifier)) > len(str(found))):
            place = wanted
        found = required.specifier if found is None else found & required.specifier
    return None if found is None or place is None else (found, place)


def on_linux(required: Requirement) -> bool:
    """Whether the requirement's marker may hold on Linux; an unclear one does."""
    text = str(required.marker or "")
    return not re.search(
        r"(?:sys_platform|platform_system)\s*==\s*['\"](?:win32|darwin|Windows|Darwin)['\"]", text
    ) or (" or " in text)


def minor_of(specifier: SpecifierSet, table: dict[str, tuple[str, str, str]]) -> tuple[str | None, bool]:
    """The newest minor version in the table that the specifier leaves, and whether it leaves no other one.

    None where it also leaves versions newer than the table, or none of it.
    """
    left = [m for m in table if any(specifier.contains(f"{m}.{patch}") for patch in range(6))]
    newer = specifier.contains("99.0")
    return (left[-1] if left and not newer else None), len(left) == 1 and not newer


def cuda_need(environment: RepoEnvironment, image_torch: str | None = None) -> Need | None:
    """What the installed packages need; None where nothing says that they use CUDA. `image_torch`: the image has it."""
    marked = next((s for s in environment.cuda if s.kind in ("pin", "index", "conda") and s.version), None)
    if marked and marked.version:
        return Need(
            marked.version, oldest_driver(marked.version), f"{marked.where.text_of()} is for CUDA {marked.version}"
        )
    lines = (*environment.declared, *_added(environment))
    for name, table in (("torch", TORCH), ("tensorflow", TENSORFLOW)):
        found = pinned(lines, name)
        if found is None:
            continue
        specifier, place = found
        if name == "torch" and image_torch and specifier.contains(image_torch, prereleases=True):
            cuda = TORCH[known][0] if (known := ".".join(image_torch.split(".")[:2])) in TORCH else None
            return Need(cuda, oldest_driver(cuda), f"the image has torch {image_torch}")
        minor, only = minor_of(specifier, table)
        cuda = table[minor][0] if minor else None
        said = f"{name} {minor}" if minor else f"the newest {name}"
        return Need(cuda, oldest_driver(cuda), f"{said} ({place.where.text_of()})", sure=only)
    extra = next((m for w in lines if (m := re.search(r"jax\[cuda(1[123])", w.line))), None)
    if extra:
        return Need(extra[1], oldest_driver(extra[1]), f"jax for CUDA {extra[1]}")
    if environment.gpu_only:
        wanted = environment.gpu_only[0]
        return Need(None, None, f"{wanted.line} ({wanted.where.text_of()}) works on a CUDA GPU alone", sure=False)
    return None


def _added(environment: RepoEnvironment) -> Iterable[Wanted]:
    return (Wanted(line=n.requirement, where=n.where) for n in environment.missing if n.requirement)


def oldest_driver(cuda: str | None) -> str | None:
    """The oldest driver that runs what was built for that CUDA; None where that is not known."""
    return OLDEST_DRIVER.get(int(cuda.split(".")[0])) if cuda else None


def image_driver(cuda: str | None) -> str | None:
    """The driver for which an image of that CUDA starts on any GPU; None where that is not known."""
    return TOOLKIT_DRIVER.get(cuda or "") or oldest_driver(cuda)


def driver_of_node(node: NodeFacts) -> str | None:
    """The oldest driver of the node's NVIDIA GPUs that it reports; None: not known."""
    told = [d for g in gpu_groups(node, "nvidia") if (d := driver_of(node, g))]
    return min(told, key=Version) if told else None


def version_of(text: str) -> Version | None:
    """A driver's version; None for what is none."""
    try:
        return Version(text.strip())
    except InvalidVersion:
        return None


def is_older(driver: str | None, needed: str | None) -> bool:
    """Whether a driver is known to be too old. What is not known speaks for it."""
    have, want = (version_of(d) if d else None for d in (driver, needed))
    return have is not None and want is not None and have < want


def newest_torch_for(driver: str) -> str | None:
    """The first minor version of torch whose wheels that driver can't run (`2.11`): a bound for what is installed."""
    too_new = (m for m, (cuda, _, _) in TORCH.items() if is_older(driver, oldest_driver(cuda)))
    return next(too_new, None)


def below_ampere(node: NodeFacts) -> bool:
    """Whether all GPUs of the node are known to be older than Ampere (compute capability 8.0, bf16)."""
    groups = gpu_groups(node, "nvidia")
    known = [gpu_named(g.model) for g in groups]
    return bool(groups) and all(g is not None and g.bf16_tflops is None for g in known)
