"""The small grid of plans that a training could have on a cluster: types, counts, batches, checkpointing, precision.

Every point keeps the samples of an update, and leaves what a person, a repair or memory has set. Pure; which point is
taken is `choose`'s to say.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from caravan.planning.batches import ACCUMULATION, MICRO
from caravan.planning.catalogue import gpu_like
from caravan.planning.cluster_fit import GpuOffer, gpu_offers, in_target, most_gpus, with_driver
from caravan.planning.config_files import reaches
from caravan.planning.documented import DISTRIBUTED
from caravan.planning.duration import RunTime, run_time
from caravan.planning.estimate import gpu_size_gib
from caravan.planning.margin import high_of, holds
from caravan.planning.memory import Setting, memory_parts
from caravan.planning.memory_plan import setting_of_plan
from caravan.planning.moves import heard, per_gpu
from caravan.planning.sharded import sharding
from caravan.planning.standing import could_take
from caravan.values.base import Json
from caravan.values.datasets import DatasetSize
from caravan.values.estimate import Range
from caravan.values.job import ClusterFacts
from caravan.values.plan import STANDING, Author, TrainingPlan
from caravan.values.prices import Prices
from caravan.values.repo import RepoProfile
from caravan.values.shape import ModelShape

KEPT: Final = STANDING | {Author.MEMORY}
"""Authors whose GPU, batch and method no point changes: what was said, or seen to fit, beats the formula."""
CHECKPOINTING: Final = "training.grad_checkpointing"
PRECISION: Final = "training.precision"
MODEL: Final = "resources.gpu_model"
_LARGEST: Final = 1 << 16
"""Samples of an update on one process up to which each of its divisors is a micro batch to look at."""


class Ground(NamedTuple):
    """What all points share. `full`: the plan with the repository's own values in the fields that nobody set.

    `factor`: how many times the formula's memory was seen to be needed.
    """

    plan: TrainingPlan
    full: TrainingPlan
    shape: ModelShape
    facts: ClusterFacts
    prices: Prices
    profile: RepoProfile | None = None
    data: DatasetSize | None = None
    factor: float = 1.0


class Point(NamedTuple):
    """One plan of the grid: on which GPU type, with which fields otherwise than the repository or the plan has them.

    Memory in GiB of one GPU with its high end, what that GPU has; the time, and US dollars for the whole run.
    `update_usd` is what one update costs; None: price or speed is not known.
    """

    offer: GpuOffer
    values: Mapping[str, Json]
    plan: TrainingPlan
    gib: float
    high: float
    size: float
    time: RunTime
    cost: Range | None
    update_usd: float | None

    @property
    def safe(self) -> bool:
        """Whether the GPU holds it with the margin."""
        return holds(self.size, self.high)

    @property
    def fits(self) -> bool:
        """Whether it holds the likely figure."""
        return holds(self.size, self.gib)

    @property
    def seconds(self) -> float | None:
        """The likely time of the whole run."""
        return self.time.seconds.likely if self.time.seconds else None

    def late(self) -> bool:
        """Whether it is likely to take longer than the time limit that a person or a repair has set."""
        limit, seconds = self.plan.limits.max_run_s, self.seconds
        mine = self.plan.set_by("limits.max_run_s") in STANDING
        return limit is not None and mine and seconds is not None and seconds > limit

    def order(self) -> tuple[object, ...]:
        """The best first: with the margin, in time, of known cost, the cheapest run; of equal ones the fewest changes.

        Without the margin the one with the most room; without a price the smaller memory counts as the cheaper.
        """
        known = self.cost.likely if self.cost is not None else self.update_usd
        hourly, count = self.offer.usd_per_hour, self.plan.resources.gpus * self.plan.launch.nodes
        plain = self.size * count if hourly is None else hourly * count
        tight = 0.0 if self.safe else self.high / self.size
        step = self.time.step_s.likely if self.time.step_s else 0.0
        cost = plain if known is None else known
        ranks = (not self.safe, self.late(), hourly is None, known is None)
        micro = self.plan.training.micro_batch or 1  # where nothing says which is faster, the larger one is
        changes = (len(self.values), step, -micro if not step else 0)
        return (*ranks, tight, round(cost, 9), *changes, self.size, self.offer.model, str(self.values))


def points(
    ground: Ground, counts: tuple[int, ...] | None = None, methods: tuple[Mapping[str, Json], ...] = ({},)
) -> tuple[Point, ...]:
    """All points that a GPU type of the cluster holds, the best first.

    `counts`: of GPUs on a node; None: the plan's, and larger ones where the program can use them. `methods`: fields of
    other ways to train; `{}` is the plan's own.
    """
    found: list[Point] = []
    checkpoints, precise = tuple(_checkpointing(ground)), _precisions(ground)
    for count in larger_counts(ground) if counts is None else counts:
        amounts = _of_count(ground, count)
        spread = sharding(ground.full, ground.profile) if count * ground.plan.launch.nodes > 1 else ()
        for values in ({}, *spread):
            offers = offers_of(ground, {**amounts, **values}, count)
            for batch in _batches(ground, count) if offers else ():
                for again in checkpoints:
                    for method in methods:
                        fields = {**amounts, **values, **batch, **again, **method}
                        found += _on_types(ground, offers, fields, precise)
    return tuple(sorted(found, key=Point.order))


def larger_counts(ground: Ground) -> tuple[int, ...]:
    """The plan's number of GPUs on a node, and its multiples that one node has and a launcher can start."""
    asked, launch = ground.plan.resources.gpus, ground.plan.launch
    fixed = any(ground.plan.set_by(p) in KEPT for p in ("resources.gpus", "launch.nproc", "launch.nodes"))
    if fixed or launch.launcher not in DISTRIBUTED or launch.nproc != asked:
        return (asked,)
    most = _most(ground)
    return (asked, *(asked * k for k in (2, 4, 8, 16) if asked * k <= most))


def fewer_counts(ground: Ground) -> tuple[int, ...]:
    """Smaller numbers of GPUs on a node, for a person to choose from."""
    asked, launch = ground.plan.resources.gpus, ground.plan.launch
    if launch.launcher not in DISTRIBUTED or launch.nproc != asked:
        return ()
    return tuple(asked // k for k in (2, 4, 8) if asked % k == 0 and asked // k >= 1)


def _most(ground: Ground) -> int:
    nodes = with_driver(in_target(ground.plan, ground.facts), ground.plan.driver)
    wanted = ground.plan.resources.gpu_model if ground.plan.set_by(MODEL) in KEPT else None
    return most_gpus(nodes, ground.plan.resources.gpu_vendor, wanted)


def _of_count(ground: Ground, count: int) -> dict[str, Json]:
    asked = ground.plan.resources.gpus
    if count == asked:
        return {}
    amounts = {path: _in_room(ground, path, value, count) for path, value in per_gpu(ground.plan, count).items()}
    return {"resources.gpus": count, "launch.nproc": count, **amounts}


def _in_room(ground: Ground, path: str, value: Json, count: int) -> Json:
    """A usual amount, or nine tenths of what the largest node with so many GPUs has, as a first plan takes it."""
    nodes = with_driver(in_target(ground.plan, ground.facts), ground.plan.driver)
    able = [n for n in nodes if most_gpus([n], ground.plan.resources.gpu_vendor) >= count]
    most = max((getattr(n, path.rpartition(".")[2], 0) for n in able), default=0)
    return min(value, int(most * 0.9)) if isinstance(value, int) and most * 0.9 >= 10 else value


def offers_of(ground: Ground, values: Mapping[str, Json], count: int) -> tuple[GpuOffer, ...]:
    """The types of which a node has so many and room for the rest; of a person's own type only that."""
    trial = with_values(ground.plan, values)
    if ground.plan.set_by(MODEL) not in KEPT:
        trial = with_values(trial, {MODEL: None})
    least = trial.resources.gpu_memory_mib if trial.set_by("resources.gpu_memory_mib") in STANDING else None
    if least is None:
        trial = with_values(trial, {"resources.gpu_memory_mib": None})
    if count != ground.plan.resources.gpus and not could_take(trial, ground.facts):
        return ()
    offers = gpu_offers(trial, ground.facts, ground.prices)
    return tuple(o for o in offers if least is None or (gpu_size_gib(o) or 0) * 1024 >= least)


def _batches(ground: Ground, count: int) -> Iterator[dict[str, Json]]:
    """Micro batch and accumulation that make the same update; the plan's own pair where nothing else may be."""
    training, asked = ground.full.training, ground.plan.resources.gpus
    micro, steps = training.micro_batch, training.grad_accum or 1
    whole, rest = divmod((micro or 1) * steps * asked, count)
    if rest:
        return
    free = {path: ground.plan.set_by(path) not in KEPT and reaches(ground.plan, path) for path in (MICRO, ACCUMULATION)}
    if micro is None:
        if count == asked:
            yield {}
        return
    sizes = _divisors(whole, micro) if free[MICRO] else (micro,)
    for size in sizes:
        if whole % size == 0 and (free[ACCUMULATION] or whole // size == steps):
            pair: dict[str, Json] = {MICRO: size, ACCUMULATION: whole // size}
            before = {MICRO: micro, ACCUMULATION: steps}
            yield {path: value for path, value in pair.items() if value != before[path]}


def _divisors(whole: int, micro: int) -> tuple[int, ...]:
    if whole <= _LARGEST:
        return tuple(n for n in range(1, whole + 1) if whole % n == 0)
    return tuple(n for n in (micro >> k for k in range(micro.bit_length())) if n and whole % n == 0)


def _checkpointing(ground: Ground) -> Iterator[dict[str, Json]]:
    yield {}
    if ground.plan.set_by(CHECKPOINTING) in KEPT:
        return
    other = not ground.full.training.grad_checkpointing
    if heard(ground.plan, {CHECKPOINTING: other}):
        yield {CHECKPOINTING: other}


class _Precisions(NamedTuple):
    """Which 16-bit types the program can be told; `free`: nobody wants another, `needed`: bf16 is what it uses now."""

    free: bool
    needed: bool
    told: frozenset[str]


def _precisions(ground: Ground) -> _Precisions:
    now = ground.full.training.precision
    free = ground.plan.set_by(PRECISION) not in KEPT and now in (None, "bf16")
    told = frozenset(t for t in ("bf16", "fp16") if free and (t == now or heard(ground.plan, {PRECISION: t})))
    return _Precisions(free, now is not None and ground.plan.set_by(MODEL) not in KEPT, told)


def _on_types(
    ground: Ground, offers: tuple[GpuOffer, ...], values: Mapping[str, Json], precise: _Precisions
) -> Iterator[Point]:
    by_type: dict[str | None, _Need] = {}
    for offer in offers:
        size, wanted = gpu_size_gib(offer), _precision(ground, offer, precise)
        if size is None or wanted is None:
            continue
        name = str(wanted.get(PRECISION))
        if name not in by_type:
            by_type[name] = _need(ground, {**values, **wanted})
        if holds(size, by_type[name].gib):
            yield _point(ground, offer, size, by_type[name])


def _precision(ground: Ground, offer: GpuOffer, precise: _Precisions) -> dict[str, Json] | None:
    """The type to compute in on that GPU where nobody set one that it can't do; None: it can't be told another."""
    kind = gpu_like(offer.model)
    if not precise.free or kind is None:
        return {}
    wanted = "bf16" if kind.bf16_tflops is not None else "fp16"
    if wanted in precise.told:
        return {} if wanted == ground.full.training.precision else {PRECISION: wanted}
    return None if precise.needed else {}


class _Need(NamedTuple):
    """A plan of the grid before it has a GPU type, and the memory that it needs."""

    values: Mapping[str, Json]
    plan: TrainingPlan
    setting: Setting
    gib: float
    high: float


def _need(ground: Ground, values: Mapping[str, Json]) -> _Need:
    trial = with_values(ground.full, values)
    setting, _ = setting_of_plan(trial, ground.shape, ground.profile)
    parts = memory_parts(ground.shape, setting)
    gib, high = (ground.factor * n for n in (sum(p.gib for p in parts), high_of(parts, ground.shape, setting)))
    return _Need(values, trial, setting, gib, high)


def _point(ground: Ground, offer: GpuOffer, size: float, need: _Need) -> Point:
    trial, kind, price = need.plan, gpu_like(offer.model), offer.usd_per_hour
    time = run_time(trial, ground.shape, need.setting, kind, ground.data)
    hourly = None if price is None else price * trial.resources.gpus * trial.launch.nodes
    update = None if hourly is None or time.step_s is None else time.step_s.likely * hourly / 3600
    cost = None if hourly is None or time.seconds is None else time.seconds.priced(hourly)
    return Point(offer, need.values, trial, need.gib, need.high, size, time, cost, update)


def with_values(plan: TrainingPlan, values: Mapping[str, Json]) -> TrainingPlan:
    """The plan with these fields, not validated: for reckoning only."""
    blocks: dict[str, dict[str, object]] = {}
    for path, value in values.items():
        block, _, name = path.partition(".")
        if name:
            blocks.setdefault(block, {})[name] = tuple(value) if isinstance(value, list) else value
    update: dict[str, object] = {path: value for path, value in values.items() if "." not in path}
    update |= {block: getattr(plan, block).model_copy(update=fields) for block, fields in blocks.items()}
    return plan.model_copy(update=update)
