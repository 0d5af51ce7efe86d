"""What `estimate` is asked about, gathered: the training, the GPU types to be had, the data; from words or a plan."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, NamedTuple

from caravan.planning.bare import described, typed
from caravan.planning.calculator import Figure, Offer, catalogue_offers, cluster_offers, figure
from caravan.planning.catalogue import CATALOGUE, gpu_like, matches_model
from caravan.planning.prices import usd_per_hour
from caravan.planning.trial import trial_plan
from caravan.terminal.estimate_model import known_model
from caravan.terminal.text import one_line
from caravan.values.datasets import DatasetSize
from caravan.values.errors import UsageError
from caravan.values.prices import MOST_USD, Prices
from caravan.values.run import RunRequest
from caravan.values.target import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from caravan.planning.memory import Setting
    from caravan.terminal.plan_view import DrawnUp
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.estimate import Estimate
    from caravan.values.plan import TrainingPlan
    from caravan.values.repo import RepoProfile
    from caravan.values.shape import ModelShape


class Typed(NamedTuple):
    """What stands on the command line."""

    fields: Mapping[str, Json]
    sets: tuple[str, ...] = ()
    gpu: str | None = None
    gpu_memory: float | None = None
    price: float | None = None
    rows: int | None = None
    epochs: float | None = None
    max_steps: int | None = None
    cluster: str | None = None
    inventory: Path | None = None


class Sheet(NamedTuple):
    """All that the figures are made of. `shape` None: the model isn't known, and the notes say what to give."""

    name: str
    shape: ModelShape | None
    setting: Setting
    needed: Figure | None
    offers: tuple[Offer, ...]
    where: str
    """Whose GPU types these are, in words."""
    named: Offer | None
    plan: TrainingPlan
    data: DatasetSize | None
    notes: tuple[str, ...]
    on_cpu: Estimate | None = None
    """The plan's own estimate, where it asks for no GPU and names no model that one could hold."""


def sheet_of_words(wiring: Wiring, asked: Typed) -> Sheet:
    """The sheet of a training that options describe. Raises UsageError for what can't be meant."""
    fields = dict(asked.fields)
    if isinstance(fields.get("lora_targets"), str):
        fields["lora_targets"] = typed("lora_targets", str(fields["lora_targets"]))
    for text in asked.sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r} isn't field=value.", hint="For example --set hidden=4096.")
        fields[name.strip()] = typed(name.strip(), value.strip())
    _amounts(asked)
    known, told = known_model(wiring, fields.get("model"))
    found = described(fields, known)
    offers, where, prices = _offers(wiring, asked)
    named, notes = _named(asked, offers, prices)
    plan = trial_plan(found.setting, gpu=named.name if named else None, epochs=asked.epochs, max_steps=asked.max_steps)
    size = f"{found.shape.params_b:.3g} B parameters"
    name = f"{fields['model']} ({size})" if fields.get("model") else size
    return Sheet(
        name,
        found.shape,
        found.setting,
        figure(found.shape, found.setting),
        offers,
        where,
        named,
        plan,
        _data(asked),
        (*found.notes, *told, *notes),
    )


def sheet_of_file(wiring: Wiring, asked: Typed, file: str) -> Sheet:
    """The sheet of a plan file, without its repository. Raises UsageError for what is wrong in it."""
    from caravan.planning.answers import parse_set
    from caravan.terminal.inputs import read_plan_at
    from caravan.values.plan import TrainingPlan, apply_changes

    nothing = TrainingPlan(goal=file, command=("train",))
    read = read_plan_at(file, wiring.secrets())
    plan = apply_changes(nothing, (*read.changes, *(parse_set(text) for text in asked.sets)))
    return _of_plan(wiring, asked, plan, None, read.notes)


def sheet_of_plan(wiring: Wiring, asked: Typed, found: DrawnUp) -> Sheet:
    """The sheet of the plan that was drawn up for a repository. Raises UsageError where none was made."""
    state = found.state
    if state is None or state.plan is None:
        raise UsageError("No plan was made of the repository.", hint="See what `plan` says of it.")
    sheet = _of_plan(wiring, asked, state.plan, state.profile, ())
    without = sheet.shape is None and state.plan.resources.gpus == 0 and asked.gpu is None
    return sheet._replace(on_cpu=state.estimate) if without else sheet


def _of_plan(
    wiring: Wiring, asked: Typed, plan: TrainingPlan, profile: RepoProfile | None, notes: tuple[str, ...]
) -> Sheet:
    from caravan.planning.dataset_size import dataset_size
    from caravan.planning.estimate import with_repository
    from caravan.planning.memory import Setting
    from caravan.planning.memory_plan import setting_of_plan
    from caravan.planning.model_shape import shape_for
    from caravan.values.plan import Author, PlanChange, apply_changes

    _amounts(asked)
    told = {"training.epochs": asked.epochs, "training.max_steps": asked.max_steps}
    plan = apply_changes(plan, [PlanChange(path=p, value=v, by=Author.USER) for p, v in told.items() if v is not None])
    full = with_repository(plan, profile)
    shape, said = shape_for(full, profile)
    setting, assumed = setting_of_plan(full, shape, profile) if shape is not None else (Setting(), [])
    offers, where, prices = _offers(wiring, asked)
    wanted = asked if asked.gpu is not None else asked._replace(gpu=plan.resources.gpu_model)
    named, more = _named(wanted, offers, prices)
    if full.resources.gpus == 0:
        more = (*more, "the plan asks for no GPU: the figures are those of one that it could be given")
        full = full.model_copy(update={"resources": full.resources.model_copy(update={"gpus": 1})})
    data = _data(asked) or dataset_size(full, profile)
    needed = figure(shape, setting) if shape is not None else None
    name = full.model.id or "the model"
    lines = tuple(dict.fromkeys((*notes, *said, *assumed, *more)))
    return Sheet(name, shape, setting, needed, offers, where, named, full, data, lines)


def _amounts(asked: Typed) -> None:
    """Raises UsageError for amounts that can't be meant."""
    limits = {
        "--rows": (asked.rows, 1e13),
        "--epochs": (asked.epochs, 1e6),
        "--max-steps": (asked.max_steps, 1e10),
        "--gpu-memory": (asked.gpu_memory, 1e4),
    }
    for option, (value, most) in limits.items():
        if value is not None and not (math.isfinite(value) and 0 < value <= most):
            raise UsageError(f"{option} {value:g} can't be meant.", hint=f"Give a number above 0, up to {most:g}.")
    if asked.price is not None and not (math.isfinite(asked.price) and 0 <= asked.price <= MOST_USD):
        raise UsageError(f"--price {asked.price:g} is no price.", hint="Give US dollars for a GPU hour, 0 or more.")


def _data(asked: Typed) -> DatasetSize | None:
    return None if asked.rows is None else DatasetSize(name="the data", rows=asked.rows, source="--rows")


def _offers(wiring: Wiring, asked: Typed) -> tuple[tuple[Offer, ...], str, Prices]:
    """The GPU types to choose from, whose they are, and the prices that count."""
    if asked.cluster is None and asked.inventory is None:
        prices = _prices(wiring, asked, RunRequest(prompt="estimate", source=".", cluster=NOWHERE))
        return catalogue_offers(prices), "the catalogue", prices
    with wiring.aside(asked.inventory) as aside:
        target = aside.target("local" if asked.inventory is not None else asked.cluster)
        request = RunRequest(
            prompt="estimate", source=".", cluster=target.address, namespace=target.namespace, profile=target.profile
        )
        facts = aside.cluster(request).facts()
        prices = _prices(aside, asked, request)
    where = f"the inventory {asked.inventory}" if asked.inventory is not None else "the cluster"
    return cluster_offers(facts, prices), where, prices


def _prices(wiring: Wiring, asked: Typed, request: RunRequest) -> Prices:
    return wiring.prices(request) if asked.price is None else Prices(usd_per_gpu_hour=asked.price)


def _named(asked: Typed, offers: tuple[Offer, ...], prices: Prices) -> tuple[Offer | None, tuple[str, ...]]:
    """The GPU that is asked about, and what was assumed of it. Raises UsageError for one of which nothing is known."""
    if asked.gpu is None:
        if asked.gpu_memory is None:
            return None, ()
        return Offer(f"a GPU with {asked.gpu_memory:g} GiB", asked.gpu_memory, asked.price, "as you give it"), ()
    wanted = one_line(asked.gpu, 80)
    here = [o for o in offers if matches_model(wanted, o.name)]
    if asked.gpu_memory is not None:
        known = next((o for o in here if abs(o.memory_gib - asked.gpu_memory) <= 0.07 * asked.gpu_memory), None)
        price = usd_per_hour(known.name if known else wanted, prices)
        return Offer(known.name if known else wanted, asked.gpu_memory, price.usd, price.source), ()
    if here:
        best = min(here, key=lambda o: (o.memory_gib, o.usd_per_hour is None, o.usd_per_hour or 0.0, o.name))
        others = f", the smallest of {len(here)} that it may mean" if len(here) > 1 else ""
        return best, (f"{wanted} is taken as {best.name}{others}",) if best.name != wanted else ()
    kind = gpu_like(wanted)
    if kind is None:
        names = [g.name for g in CATALOGUE]
        near = difflib.get_close_matches(wanted.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
        meant = f" Did you mean {next(n for n in names if n.lower() == near[0])}?" if near else ""
        raise UsageError(
            f"The GPU {wanted} isn't in the catalogue.{meant}",
            hint="Give its memory with --gpu-memory GIB, and its price with --price USD.",
        )
    price = usd_per_hour(kind.name, prices)
    elsewhere = (f"{kind.name} is in the catalogue, and not among these nodes' GPUs",) if asked.cluster else ()
    return Offer(kind.name, kind.memory_mib / 1024, price.usd, price.source), elsewhere
