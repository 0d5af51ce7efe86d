"""Runs side by side: what differs in plans, code and data, metrics with their spread over seeds, time and cost."""

from enum import StrEnum
from typing import Literal

from pydantic import ConfigDict

from caravan.values.base import Json, Value
from caravan.values.plan import TrainingPlan
from caravan.values.registry import RunResult
from caravan.values.run import RunStatus


class Subject(Value):
    """A run that is compared. `plan` says who set its fields; `note`: why its result is not one that was kept.

    `named`: the user named it; else it was taken along as another seed of a named one.
    """

    result: RunResult
    plan: TrainingPlan
    note: str = ""
    named: bool = True


class Judged(StrEnum):
    """What a difference of two groups comes to."""

    BETTER = "better"
    WORSE = "worse"
    DIFFERS = "differs"  # and nothing says which way is better
    WITHIN_NOISE = "within the noise"
    NOISE_NOT_KNOWN = "noise not known"
    EQUAL = "equal"
    NOT_COMPARABLE = "not comparable"
    NOT_JUDGED = "not judged"  # of the machine, a counter, or measured in one of them alone


class Spread(Value):
    """One metric of one group. `n`: seeds that count; `deviation` is that of a sample, None of one seed."""

    n: int = 0
    mean: float | None = None
    deviation: float | None = None
    values: tuple[float, ...] = ()


class Versus(Value):
    """A group beside the first one: the difference of their means, its 95 % interval, how sure, and by which test.

    `p_all`: the p-value as it counts among all differences that were looked at (Holm); None: nothing was tested.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    judged: Judged
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_all: float | None = None
    method: str = ""
    text: str = ""


class MetricRow(Value):
    """A metric over all groups, in their order. `best`: number of the group with the best mean; None: not told.

    `base`: what the models were before their training, where that was measured.
    """

    name: str
    title: str = ""
    unit: str = ""
    direction: Literal["min", "max"] | None = None
    type: str = "number"
    groups: tuple[Spread, ...]
    base: tuple[float | None, ...] = ()
    best: int | None = None
    versus: tuple[Versus | None, ...] = ()


class Group(Value):
    """Runs that chance alone tells apart. `seeds`: those that are known; `notes`: what of it does not count, and why.

    `repeats`: runs that were made again with a seed that is counted already.
    """

    label: str
    runs: tuple[str, ...]
    family: str
    seeds: tuple[int, ...] = ()
    taken: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class FieldRow(Value):
    """A field in which the groups' plans differ: its value and who set it, in the groups' order."""

    path: str
    values: tuple[Json, ...]
    by: tuple[str, ...] = ()


class SourceRow(Value):
    """Code, data or image of the groups: in words, in their order. `same` None: not known."""

    name: str
    values: tuple[str, ...]
    same: bool | None = None


class CostRow(Value):
    """What a run took: estimated beside measured. Seconds, US dollars, GiB of one GPU; None: not known."""

    run_id: str
    group: str
    status: RunStatus
    attempts: int = 0
    seconds: float | None = None
    measured_s: float | None = None
    usd: float | None = None
    measured_usd: float | None = None
    memory_gib: float | None = None
    measured_gib: float | None = None
    note: str = ""


class Comparison(Value):
    """Runs side by side. `head` is what is said before any figure; `comparable` None: that can't be told."""

    groups: tuple[Group, ...]
    comparable: bool | None = None
    head: tuple[str, ...] = ()
    sources: tuple[SourceRow, ...] = ()
    plan: tuple[FieldRow, ...] = ()
    metrics: tuple[MetricRow, ...] = ()
    costs: tuple[CostRow, ...] = ()
    notes: tuple[str, ...] = ()
