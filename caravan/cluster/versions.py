"""Nomad's versions and what Caravan can use on each. Pure: text → features.

That 1.10.5 has no `max_run_duration` and 2.0.6 has it is recorded; the versions between are Nomad's own word. Must not
know how the version came here.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple

from caravan.values.errors import ClusterError


class Version(NamedTuple):
    """A version's numbers. Pre-releases and editions (`-dev`, `-rc.1`, `+ent`) count as the release that they name."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


MINIMUM: Final = Version(1, 6, 0)
"""The oldest Nomad that Caravan works with: node pools, on which jobs are placed, came with it."""


class Feature(StrEnum):
    """What Nomad has learnt since MINIMUM and Caravan uses where it is there."""

    DYNAMIC_HOST_VOLUMES = "volumes made on a node while it runs"
    MAX_RUN_DURATION = "a job's own time limit"


_SINCE: Final = {
    Feature.DYNAMIC_HOST_VOLUMES: Version(1, 10, 0),
    Feature.MAX_RUN_DURATION: Version(2, 0, 2),
}

_INSTEAD: Final = {
    Feature.DYNAMIC_HOST_VOLUMES: "host volumes are those of the nodes' configurations",
    Feature.MAX_RUN_DURATION: "the job's start script and Caravan's watch hold the time limit",
}

_VERSION: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-+.].*)?", re.ASCII)


def parse_version(text: str) -> Version | None:
    """The numbers of a version such as `1.10.5+ent`, `2.0.6-dev` or `v1.6.0-rc.1`; None for what is none."""
    found = _VERSION.fullmatch(text.strip())
    return Version(*(int(g or 0) for g in found.groups())) if found else None


def features(version: Version | None) -> frozenset[Feature]:
    """What a version has. Of an unknown version nothing is presumed."""
    return frozenset(f for f, since in _SINCE.items() if version is not None and version >= since)


def left_out(version: Version | None) -> tuple[str, ...]:
    """A line for each feature that a version lacks: since when it is there, and what happens without it."""
    there = features(version)
    return tuple(f"Nomad {_SINCE[f]} brought {f.value}; without it {_INSTEAD[f]}." for f in Feature if f not in there)


def require(text: str) -> Version | None:
    """The version, when Caravan works with it; None for one that can't be read, which is let pass.

    Raises ClusterError for one that is older than MINIMUM.
    """
    version = parse_version(text)
    if version is not None and version < MINIMUM:
        raise ClusterError(
            f"The cluster runs Nomad {text}, and Caravan needs {MINIMUM} or later.",
            hint="Ask its administrators to upgrade it, or choose another cluster.",
        )
    return version
