"""What a plan will need, what the budget says to it, and what the user allowed."""

from enum import StrEnum

from pydantic import Field

from caravan.values.base import Confidence, Value
from caravan.values.plan import Mount, TrainingPlan


class MemoryPart(Value):
    """One line of the memory breakdown, in GiB per GPU."""

    name: str
    gib: float = Field(ge=0)


class Range(Value):
    """A low, a likely and a high figure of the same unit."""

    low: float = Field(ge=0)
    likely: float = Field(ge=0)
    high: float = Field(ge=0)


class Estimate(Value):
    """What the plan will need. None: not known, and `assumptions` says why.

    Memory in GiB per GPU and MB of host memory, time in seconds, cost in US dollars.
    """

    gpu_memory_gib: float | None = Field(default=None, ge=0)
    breakdown: tuple[MemoryPart, ...] = ()
    gpu: str | None = Field(default=None, description="GPU type that the plan would get")
    gpu_total_gib: float | None = None
    host_memory_mb: int | None = None
    seconds: Range | None = None
    cost_usd: Range | None = None
    usd_per_hour: float | None = None
    fits: bool | None = None
    assumptions: tuple[str, ...] = ()
    confidence: Confidence = 0.0


class Verdict(StrEnum):
    """What the budget says."""

    WITHIN = "within"
    OVER_SOFT = "over_soft"
    OVER_HARD = "over_hard"


class BudgetVerdict(Value):
    """The budget's verdict on an estimate; `text` is one line for a person."""

    verdict: Verdict
    soft_usd: float
    hard_usd: float
    spent_usd: float = 0.0
    text: str = ""


class Envelope(Value):
    """What the user approved. A repair inside it goes on without asking; outside, the user is asked again."""

    cost_usd: float = Field(ge=0)
    unknown_cost: bool = Field(default=False, description="the user approved a plan whose cost is not known")
    methods: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    datacenters: tuple[str, ...] = ()

    def objections(self, plan: TrainingPlan, cost_usd: float | None) -> tuple[str, ...]:
        """Why `plan` at `cost_usd` (all attempts so far and this one) is outside; empty when it is inside.

        A cost of None is not known, and inside only where the user approved that.
        """
        found = []
        if cost_usd is None:
            if not self.unknown_cost:
                found.append("its cost is not known")
        elif cost_usd > self.cost_usd:
            found.append(f"cost {cost_usd:.2f} USD is over the approved {self.cost_usd:.2f} USD")
        if plan.training.method and plan.training.method not in self.methods:
            found.append(f"method {plan.training.method} was not approved")
        if plan.image and plan.image not in self.images:
            found.append(f"image {plan.image} was not approved")
        found += [f"mount {m.source} at {m.destination} was not approved" for m in plan.mounts if m not in self.mounts]
        if self.datacenters != ("*",):
            found += [f"datacenter {d} was not approved" for d in plan.datacenters if d not in self.datacenters]
        return tuple(found)
