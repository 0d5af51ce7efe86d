"""What a look at an installation and its cluster has found: answers to probes, and findings with what to do."""

from enum import StrEnum

from pydantic import Field

from caravan.values.base import Json, Value
from caravan.values.job import ClusterFacts, TokenFacts


class Heard(StrEnum):
    """What came of a probe."""

    OK = "ok"
    DENIED = "denied"  # the token lacks the right
    ABSENT = "absent"  # what was asked for is not there; that was for the asker to see
    UNREACHABLE = "unreachable"
    FAILED = "failed"  # another answer than Nomad's, or a refusal
    SKIPPED = "skipped"  # not asked: one before it has failed, or the time was up


class Probe(Value):
    """One question that changes nothing, and its answer. `seconds` until it came; `found` is what was read of it."""

    name: str
    heard: Heard
    message: str = Field(default="", description="the error's words, without secrets")
    hint: str = ""
    seconds: float = 0.0
    found: Json = None


class Examination(Value):
    """What a cluster answered. `left_out`: a line for each thing that its version lacks."""

    address: str
    namespace: str = "default"
    has_token: bool = False
    kept_back: str = Field(default="", description="why a token that is set was not sent to this cluster")
    verified: bool | None = Field(default=None, description="TLS certificates are checked; None: no TLS")
    probes: tuple[Probe, ...] = ()
    facts: ClusterFacts | None = None
    token: TokenFacts | None = None
    left_out: tuple[str, ...] = ()

    def probe(self, name: str) -> Probe:
        """The probe of that name; one that was not made counts as skipped."""
        return next((p for p in self.probes if p.name == name), Probe(name=name, heard=Heard.SKIPPED))


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


class Area(StrEnum):
    """What a finding is about; a failure's area decides the command's exit code."""

    SETTINGS = "settings"
    CLUSTER = "cluster"
    SERVICE = "service"


AREA_EXIT_CODES = {Area.SETTINGS: 2, Area.CLUSTER: 4, Area.SERVICE: 5}
"""Exit code where something of the area has failed; the first area counts."""


class Finding(Value):
    """One check: what was looked at, how it stands, in a line, and what to do about it."""

    area: Area
    name: str
    level: Level
    text: str
    hint: str = ""
