"""How far the versions are apart under which a lesson was learned and under which it would be followed.

The rule: a step is a minor release of a library with a major version (torch 2.4 to 2.5), or two of one that is still
at 0 (peft 0.9 to 0.11: such libraries release a minor version every month or two, the others about every three).
Another major version is four steps and the minor releases since. What a cause depends on loses half of its weight in
`HALF_STEPS` steps, a year of torch's releases; the drivers of GPUs change their major version with their branch.
The reason: libraries rename and remove with minor and major releases, so that a change that mended a failure then may
name what is no more, or mend what does not fail any more. Days alone don't tell that: a plan may pin old versions.
"""

import functools
import re
from collections.abc import Mapping
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion

from caravan.values.base import Json
from caravan.values.failure import FailureClass as F

Context = Mapping[str, Json]

HALF_STEPS: Final = 4.0
_WEAK: Final = 4.0  # times as many steps where a cause is no matter of versions
_MAJOR: Final = 4.0  # steps
_MOST: Final = 32.0  # steps that are told apart
SEEN: Final = 8
"""Versions of a package that a lesson keeps, the newest."""

_OF_BUILDS: Final = ("torch", "cuda", "flash-attn", "bitsandbytes", "xformers", "triton", "gpu_driver", "image")
_OF_INTERFACES: Final = (
    *("transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "torch", "numpy", "deepspeed"),
    *("pytorch-lightning", "lightning", "diffusers", "jax", "tensorflow", "keras", "python"),
)
DEPENDS: Final[dict[F, tuple[str, ...]]] = {
    F.CUDA_DRIVER_TOO_OLD: ("gpu_driver", "torch", "cuda", "image"),
    F.TORCH_BUILD_MISMATCH: _OF_BUILDS,
    F.FLASH_ATTN_UNUSABLE: _OF_BUILDS,
    F.BITSANDBYTES_SETUP: _OF_BUILDS,
    F.BUILD_TOOLCHAIN_MISSING: _OF_BUILDS,
    F.PROCESS_CRASH_NATIVE: _OF_BUILDS,
    F.NCCL_ERROR: ("torch", "cuda", "gpu_driver", "image"),
    F.NCCL_TIMEOUT: ("torch", "gpu_driver"),
    F.GPU_NODE_BROKEN: ("gpu_driver",),
    F.ENTRYPOINT_NOT_FOUND: ("image",),
    F.ARCH_MISMATCH: ("image",),
    F.MISSING_PYTHON_PACKAGE: ("image", "python"),
    F.PACKAGE_VERSION_CONFLICT: _OF_INTERFACES,
    F.CLI_ARGS_INVALID: _OF_INTERFACES,
    F.TRAINING_CONFIG_INVALID: _OF_INTERFACES,
    F.CHECKPOINT_UNUSABLE: _OF_INTERFACES,
    F.DATASET_FORMAT_ERROR: _OF_INTERFACES,
    F.USER_CODE_BUG: _OF_INTERFACES,
    F.HUB_NOT_FOUND: ("transformers", "datasets", "diffusers"),
}
"""What a cause depends on, so that another version of it makes a lesson old."""


def versions_of(context: Context) -> dict[str, tuple[str, ...]]:
    """Package → the versions under which it was seen; `image` and `gpu_driver` count as such."""
    found: dict[str, tuple[str, ...]] = {}
    for name, told in _mapping(context.get("versions")).items():
        found[name] = (str(told),)
    for name, told in _mapping(context.get("versions_seen")).items():
        if isinstance(told, list | tuple):
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *map(str, told))))
    if context.get("gpu_driver"):
        found["gpu_driver"] = (*found.get("gpu_driver", ()), str(context["gpu_driver"]))
    return found


def seen_together(one: Context, other: Context) -> dict[str, Json]:
    """The versions of both, package → versions in order, of those that were seen in more than one."""
    a, b = versions_of(one), versions_of(other)
    both = {name: {*a.get(name, ()), *b.get(name, ())} for name in sorted(a.keys() | b.keys())}
    return {name: sorted(seen, key=_order)[-SEEN:] for name, seen in both.items() if len(seen) > 1}


@functools.lru_cache(maxsize=16_384)  # one recall compares the same few versions with those of every candidate
def steps(a: str, b: str, name: str = "") -> float:
    """How many steps two versions are apart, by the rule above."""
    x, y = _numbers(a), _numbers(b)
    old, new = min(x, y), max(x, y)
    if name == "gpu_driver":  # branches: 470, 535, 550
        return 0.0 if old[0] == new[0] else _MAJOR
    if new[0] == old[0]:
        return (new[1] - old[1]) / (2.0 if new[0] == 0 else 1.0)
    return _MAJOR * (new[0] - old[0]) + new[1]


def apart(have: Context, want: Context, failure: F | None) -> float:
    """The most steps that what the cause depends on is apart, from the nearest version seen; 0 where none is known.

    Of packages that it does not depend on a quarter of the steps count. The largest, not the sum: libraries are
    raised together.
    """
    mine, theirs = versions_of(have), versions_of(want)
    depends = DEPENDS.get(failure, ()) if failure else ()
    most = 0.0
    for name in mine.keys() & theirs.keys():
        least = min(steps(a, b, name) for a in mine[name] for b in theirs[name])
        most = max(most, least if name in depends else least / _WEAK)
    if "image" in depends and _other_image(have, want):
        most = max(most, HALF_STEPS / 2)
    return min(most, _MOST)


def spread(have: Context, want: Context) -> float | None:
    """How alike the versions are as a whole, 0 to 1; None where no package is known of both."""
    mine, theirs = versions_of(have), versions_of(want)
    shared = mine.keys() & theirs.keys()
    if not shared:
        return None
    least = [min(steps(a, b, name) for a in mine[name] for b in theirs[name]) for name in shared]
    return float(sum(0.5 ** (s / HALF_STEPS) for s in least) / len(least))


def holds(have: Context, want: Context) -> bool:
    """Whether a lesson holds under the versions of what is sought: inside the bounds that it names (`holds`), where
    they are known. One that is for a single version needs to know that it is this one."""
    known = versions_of(want)
    for name, bounds in _mapping(have.get("holds")).items():
        try:
            allowed = SpecifierSet(str(bounds))
            inside = [allowed.contains(version, prereleases=True) for version in known.get(name, ())[:1]]
        except (InvalidSpecifier, InvalidVersion):
            continue
        if False in inside or (not inside and "==" in str(bounds)):
            return False
    return True


def _other_image(have: Context, want: Context) -> bool:
    a, b = have.get("image"), want.get("image")
    return bool(a) and bool(b) and str(a).casefold() != str(b).casefold()


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _numbers(version: str) -> tuple[int, int]:
    major, minor = [*(int(n[:6]) for n in re.findall(r"\d+", version)[:2]), 0, 0][:2]
    return major, minor


def _order(version: str) -> tuple[list[int], str]:
    return [int(n[:6]) for n in re.findall(r"\d+", version)[:4]], version
