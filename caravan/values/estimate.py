"""What a plan will need, what the budget says to it, and what the user allowed."""

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Final

from pydantic import Field

from caravan.values import plan_parts
from caravan.values.base import Confidence, Json, Value
from caravan.values.errors import PlanError
from caravan.values.guarded import not_kept, shown
from caravan.values.plan import Author, Mount, PlanChange, TrainingPlan
from caravan.values.run import SmokeResult
from caravan.values.shape import ModelShape

ROOM: Final = plan_parts.ROOM
"""Fields that give room: more of it makes the training no other one, so a repair may raise it unasked."""
GROWING: Final = plan_parts.GROWING
"""Lists that a repair may add to unasked; what is added to packages and mounts is looked at for itself."""
MOST_KILL_S: Final = 600
"""How long a task may take to its end unasked: enough to write a large checkpoint, and paid for each time."""
ESSENCE: Final = ("training.max_len", "model.id")
"""Fields that say what is trained: never changed unasked, whoever set them."""

TERMS: Final = ("driver", "node_pool", "datacenters", "constraints", "training.method", "training.quant_bits")
"""Fields that say where and on which terms it runs, and by which method: never changed unasked either."""


class MemoryPart(Value):
    """One line of the memory breakdown, in GiB per GPU."""

    name: str
    gib: float = Field(ge=0)


class Range(Value):
    """A low, a likely and a high figure of the same unit."""

    low: float = Field(ge=0)
    likely: float = Field(ge=0)
    high: float = Field(ge=0)

    def plus(self, other: "Range") -> "Range":
        """Both together, of one unit."""
        return Range(low=self.low + other.low, likely=self.likely + other.likely, high=self.high + other.high)

    def times(self, factor: float) -> "Range":
        """Each figure times a factor of at least 0: a part of it."""
        return Range(low=self.low * factor, likely=self.likely * factor, high=self.high * factor)

    def priced(self, per_hour: float) -> "Range":
        """What so many seconds cost at that price, to a billionth: a time that was bounded by a sum costs no more than
        it, where the last bit of a float would say so.
        """
        low, likely, high = (round(per_hour * s / 3600, 9) for s in (self.low, self.likely, self.high))
        return Range(low=low, likely=likely, high=high)


class Alternative(Value):
    """A plan that fits the cluster, beside others: what it needs, costs and gives up. None: not known.

    Memory in GiB of one GPU, the likely time in seconds, US dollars. `changes` lead to it from the chosen plan.
    """

    text: str
    gpu: str
    gpus: int
    gpu_memory_gib: float
    gpu_memory_high_gib: float
    gpu_total_gib: float
    seconds: float | None = None
    cost_usd: float | None = Field(default=None, description="likely, of the whole run")
    usd_per_hour: float | None = None
    speed: float | None = Field(default=None, description="times as fast as the chosen plan")
    cost_ratio: float | None = Field(default=None, description="times its cost")
    gives_up: str = ""
    chosen: bool = False
    changes: tuple[PlanChange, ...] = ()

    def line(self) -> str:
        """The row in a line."""
        cost = f"about {self.cost_usd:.2f} USD" if self.cost_usd is not None else ""
        hourly = f"{self.usd_per_hour:.2f} USD an hour" if not cost and self.usd_per_hour is not None else ""
        if hourly and self.cost_ratio is not None and not self.chosen:
            hourly += f", {self.cost_ratio:.2g} times the cost"
        faster = f"{self.speed:.2g} times as fast" if self.speed is not None and self.speed > 1.05 else ""
        return "; ".join(part for part in (self.text, cost, hourly, faster, self.gives_up) if part)

    def part(self, share: float) -> "Alternative":
        """Of a training of which that share is left."""
        return self._taking(
            None if self.seconds is None else self.seconds * share,
            None if self.cost_usd is None else self.cost_usd * share,
        )

    def plus(self, taken: Range, money: Range | None) -> "Alternative":
        """With what is done behind the training, whose cost may not be known: time and cost are of the whole, too."""
        return self._taking(
            None if self.seconds is None else self.seconds + taken.likely,
            self.cost_usd if self.cost_usd is None or money is None else self.cost_usd + money.likely,
        )

    def _taking(self, seconds: float | None, cost_usd: float | None) -> "Alternative":
        return self.model_copy(update={"seconds": seconds, "cost_usd": cost_usd})


class Estimate(Value):
    """What the plan will need. None: not known, and `assumptions` says why.

    Memory in GiB per GPU and MB of host memory, time in seconds, cost in US dollars.
    """

    gpu_memory_gib: float | None = Field(default=None, ge=0)
    gpu_memory_high_gib: float | None = Field(
        default=None, ge=0, description="what the GPU must hold: the figure and its margin"
    )
    breakdown: tuple[MemoryPart, ...] = ()
    gpu: str | None = Field(default=None, description="GPU type that the plan would get")
    gpu_total_gib: float | None = None
    host_memory_mb: int | None = None
    seconds: Range | None = None
    cost_usd: Range | None = None
    usd_per_hour: float | None = None
    fits: bool | None = None
    smoke: SmokeResult | None = Field(default=None, description="the measurement that the figures come from")
    formula_gib: float | None = Field(default=None, description="GPU memory by the formula, where it was measured")
    formula_host_mb: int | None = Field(default=None, description="likewise")
    formula_seconds: Range | None = Field(default=None, description="likewise")
    step_s: float | None = Field(default=None, ge=0, description="seconds of an optimizer step by the formula")
    evaluation_s: Range | None = Field(default=None, description="of the time that what the evaluation takes")
    learned_ratio: float | None = Field(
        default=None, description="times the formula's GPU memory, as earlier runs were measured; None: none says it"
    )
    assumptions: tuple[str, ...] = ()
    confidence: Confidence = 0.0
    shape: ModelShape | None = Field(default=None, description="the model's, with where it is known from")
    alternatives: tuple[Alternative, ...] = Field(
        default=(), description="the chosen plan and others that fit this cluster, with what each costs and gives up"
    )


class Measured(Value):
    """What the first steps of a deployed job showed, and of which plans it tells (`caravan.planning.smoke`)."""

    key: str
    attempt: int
    smoke: SmokeResult


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
    limit: str = Field(default="", description="the limit that is exceeded; empty: none")
    left_usd: float | None = Field(default=None, description="what is left under it, or under the hard limit")
    shared: bool = Field(default=False, description="it is a limit over several runs: no --budget raises it")


class Envelope(Value):
    """What the user approved. A repair inside it goes on without asking; outside, the user is asked again."""

    cost_usd: float = Field(ge=0)
    unknown_cost: bool = Field(default=False, description="the user approved a plan whose cost is not known")
    methods: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    datacenters: tuple[str, ...] = ()
    packages: tuple[str, ...] = Field(default=(), description="requirement lines that may be installed")
    held: dict[str, Json] | None = Field(
        default=None,
        description="fields that a repair changes only after asking: plan path to value; None in an older approval",
    )
    unheard: tuple[str, ...] = Field(default=(), description="fields that the program does not follow, as approved")
    lessons: tuple[str, ...] = Field(default=(), description="ids of lessons of others that may say what is run")
    kept: dict[str, str] | None = Field(
        default=None,
        description="SHA-256 of the fields that no repair changes unasked; None in an older approval",
    )
    run_s: int | None = Field(default=None, description="longest run in seconds, where `kept` is given; None: any")
    most: dict[str, int] | None = Field(
        default=None,
        description="largest amounts approved: `gpus` and `nodes` of the whole job, `kill_timeout_s`; None in an older "
        "approval",
    )
    lengths: dict[str, float] = Field(
        default_factory=dict, description="epochs and steps as approved, where they are known: fewer need no question"
    )
    secrets: tuple[str, ...] = Field(default=(), description="names of secrets that the job may get")
    lacking: tuple[str, ...] = Field(default=(), description="names of those that it was approved without")

    def objections(
        self,
        plan: TrainingPlan,
        cost_usd: float | None,
        *,
        trusted: Collection[str] = (),
        unheard: Collection[str] = (),
    ) -> tuple[str, ...]:
        """Why `plan` at `cost_usd` (all attempts so far and this one) is outside; empty when it is inside.

        A cost of None is not known, and inside only where the user approved that. `trusted` are requirement lines that
        need no question, `unheard` the fields somebody set that the program would not follow.
        """
        found = list(_repaired(plan) if self.held is None else beyond_held(plan, self.held))
        found += self._not_kept(plan)
        found += self._too_many(plan, cost_usd)
        if cost_usd is None:
            if not self.unknown_cost:
                found.append("its cost is not known")
        elif cost_usd > self.cost_usd:
            found.append(f"cost {cost_usd:.2f} USD is over the approved {self.cost_usd:.2f} USD")
        method = method_of(plan)
        if method and method not in self.methods:
            found.append(f"method {method} was not approved")
        if plan.image and plan.image not in self.images:
            found.append(f"image {plan.image} was not approved")
        found += [f"mount {m.source} at {m.destination} was not approved" for m in plan.mounts if m not in self.mounts]
        if self.datacenters != ("*",):
            found += [f"datacenter {d} was not approved" for d in plan.datacenters if d not in self.datacenters]
        unknown = [line for line in plan.setup.pip if line not in self.packages and line not in trusted]
        found += [
            f"package {line}, which a log names, is neither well known nor in the repository's requirements"
            for line in unknown
        ]
        found += [f"{p} = {plan.get(p)} would not be followed any more" for p in unheard if p not in self.unheard]
        return tuple(found)

    def _not_kept(self, plan: TrainingPlan) -> Iterator[str]:
        """What is otherwise than it was approved, whoever changed it; fields that are held are looked at as such."""
        if self.kept is None:
            return
        for path in not_kept(plan, self.kept):
            if path in self.lengths and _shorter(plan, path, self.lengths[path]):
                continue
            if path in GROWING or path not in (self.held or {}):
                yield f"{path} would be {_text(shown(plan, path))}, which was not approved{_why(plan, path)}"
        longest = plan.limits.max_run_s
        if self.run_s is not None and (longest is None or longest > self.run_s):
            yield f"limits.max_run_s would be {_text(longest)}, and {self.run_s} was approved"
        for name in plan.secrets:
            if name not in self.secrets:
                yield f"the secret {name} was not approved{_why(plan, 'secrets')}"

    def _too_many(self, plan: TrainingPlan, cost_usd: float | None) -> Iterator[str]:
        """What costs more than was approved where no sum of money bounds it: more GPUs, more nodes, a longer end."""
        most = self.most or {}
        longest = max(MOST_KILL_S, most.get("kill_timeout_s", 0))
        if plan.kill_timeout_s > longest and (self.most is not None or _by_repair(plan, "kill_timeout_s")):
            yield f"kill_timeout_s would be {plan.kill_timeout_s}, and at most {longest} needs no question"
        if cost_usd:  # the approved sum bounds it
            return
        for name, amount in amounts(plan).items():
            if name in most and amount > most[name] and name != "kill_timeout_s":
                yield f"{name} would be {amount} in all, and {most[name]} were approved"
        if self.most is None and cost_usd is None:
            for path in ("launch.nodes", "resources.gpus"):
                if _by_repair(plan, path):
                    yield f"{path} would be {plan.get(path)} by a repair, at a cost that is not known"


def amounts(plan: TrainingPlan) -> dict[str, int]:
    """What of a plan costs by the piece, with all members of the job together."""
    nodes = plan.launch.nodes
    return {"gpus": nodes * plan.resources.gpus, "nodes": nodes, "kill_timeout_s": plan.kill_timeout_s}


def lengths(plan: TrainingPlan) -> dict[str, float]:
    """How long a plan trains, by its fields that say so."""
    told = {"training.epochs": plan.training.epochs, "training.max_steps": plan.training.max_steps}
    return {path: float(value) for path, value in told.items() if value is not None}


def _shorter(plan: TrainingPlan, path: str, approved: float) -> bool:
    """Whether a repair has it train for less than was approved: it costs less, and the gate judges what comes of it."""
    now = lengths(plan).get(path)
    return now is not None and now < approved and _by_repair(plan, path)


def largest(plan: TrainingPlan, before: Envelope | None) -> dict[str, int]:
    """The amounts of a plan that is approved, or larger ones that were approved before."""
    had = (before.most if before else None) or {}
    return {name: max(amount, had.get(name, 0)) for name, amount in amounts(plan).items()}


def _by_repair(plan: TrainingPlan, path: str) -> bool:
    return plan.set_by(path) is Author.REPAIR


def method_of(plan: TrainingPlan) -> str | None:
    """The training method; adapters on a 4-bit model are `qlora`, whichever fields say so."""
    method, adapters = plan.training.method, ("lora", "dora")
    return "qlora" if plan.training.quant_bits == 4 and method in (None, *adapters) else method


def beyond_held(plan: TrainingPlan, held: Mapping[str, Json]) -> tuple[str, ...]:
    """What the plan does otherwise than these fields say; more room and longer lists count as the same."""
    return tuple(_difference(plan, path, value) for path, value in held.items() if not _kept(plan, path, value))


def _repaired(plan: TrainingPlan) -> tuple[str, ...]:
    """What repairs changed, more room and longer lists left out: for an approval that does not say what it holds."""
    paths = [path for path, origin in plan.provenance.items() if origin.by is Author.REPAIR]
    return tuple(
        f"{path} would be {_text(_get(plan, path))} by a repair, and the approval before does not say what may change"
        for path in paths
        if path not in (*ROOM, *GROWING)
    )


def held_fields(plan: TrainingPlan, before: Envelope | None) -> dict[str, Json]:
    """The fields that a person set, or had set before a repair changed them with approval, and the essence."""
    said = (Author.USER, Author.ANSWER)
    paths = [path for path, origin in plan.provenance.items() if origin.by in said]
    if before is not None and before.held is None:  # what a repair changed may have been a person's before
        paths += [path for path in plan.provenance if plan.set_by(path) is Author.REPAIR]
    held = dict.fromkeys((*paths, *((before.held or ()) if before else ()), *ESSENCE, *TERMS))
    return {path: plan.get(path) for path in held}


def _kept(plan: TrainingPlan, path: str, value: Json) -> bool:
    """Whether the plan still does what was approved for the field; more room and longer lists count as that."""
    now = _get(plan, path)
    if now == value:
        return True
    if path == "resources.memory_max_mb" and now is None:  # reserved now, which is surer
        return isinstance(value, int) and plan.resources.memory_mb >= value
    if path in ROOM:
        return isinstance(now, int) and (value is None or now > value)
    if path in GROWING and isinstance(now, list) and isinstance(value, list):
        return all(item in now for item in value)
    return False


def _difference(plan: TrainingPlan, path: str, value: Json) -> str:
    return f"{path} would be {_text(_get(plan, path))} instead of {_text(value)}{_why(plan, path)}"


def _why(plan: TrainingPlan, path: str) -> str:
    origin = plan.provenance.get(path)
    return f": {origin.why}" if origin and origin.why else ""


def _get(plan: TrainingPlan, path: str) -> Json:
    try:
        return plan.get(path)
    except PlanError:  # below a block that is unset now
        return None


def _text(value: Json) -> str:
    return "unset" if value is None else str(value)
