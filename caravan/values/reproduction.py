"""A run that is made again: what is kept of the original, and whether the two came to the same."""

from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from caravan.values.base import Json, Value
from caravan.values.plan import TrainingPlan
from caravan.values.registry import CodeVersion, DataVersion
from caravan.values.repo import RepoProfile
from caravan.values.training import TrainingChoice

ORIGINAL: Final = "original.json"
"""The file in a reproduction's folder that holds an `Original`."""


class Original(Value):
    """What a reproduction begins from, taken from the original run once and kept in the reproduction's own folder.

    `plan` is the one that passed, repairs included; `folder` the original's directory, as its plan names it. `notes`
    say what can't be made the same.
    """

    version: Literal[1] = 1
    run_id: str
    plan: TrainingPlan
    profile: RepoProfile
    training: TrainingChoice | None = None
    code_digest: str = ""
    known_by: dict[str, Json] = Field(default_factory=dict)
    folder: str
    code: CodeVersion = Field(default_factory=CodeVersion)
    data: DataVersion = Field(default_factory=DataVersion)
    notes: tuple[str, ...] = ()


class Agreement(StrEnum):
    """Whether a reproduction came to what its original did."""

    AGREES = "agrees"
    DIFFERS = "does not agree"
    UNKNOWN = "can't be told"


AGREEMENT_CODES: Final = {Agreement.AGREES: 0, Agreement.DIFFERS: 1, Agreement.UNKNOWN: 3}
"""The command's exit code for each, of a reproduction whose training ended well."""


class MetricAgreement(Value):
    """One metric of both runs. `allowed`: how far apart they may be; None: it is not judged, and `note` says why."""

    name: str
    original: float | None = None
    repeat: float | None = None
    allowed: float | None = None
    verdict: Agreement = Agreement.UNKNOWN
    exact: bool = False
    note: str = ""


class Reproduced(Value):
    """What a reproduction came to beside its original. `reasons`: what was not the same and may explain a difference;
    `by`: what the tolerance is, in words."""

    run_id: str
    original: str
    verdict: Agreement
    text: str
    by: str = ""
    metrics: tuple[MetricAgreement, ...] = ()
    reasons: tuple[str, ...] = ()
