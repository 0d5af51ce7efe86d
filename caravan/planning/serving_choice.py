"""Which model to serve on which GPUs: what a cluster offers, what fits there, what is chosen, what else would. Pure.

The larger model is the better one here, and of what holds it the cheapest an hour. Names of the published checkpoints
are those of the Qwen3 collection on the hub.
"""

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from caravan.planning.catalogue import gpu_like, matches_model
from caravan.planning.cluster_fit import gpu_groups
from caravan.planning.prices import usd_per_hour
from caravan.planning.serving import SERVABLE, longest_context, memory_of, spreads
from caravan.planning.shapes import listed_shape
from caravan.values.errors import UsageError
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.prices import Prices
from caravan.values.serving import Fit, Seat, ServedModel, ServeOptions, Weights
from caravan.values.shape import ModelShape

CONTEXT: Final = 32_768
"""Tokens of prompt and reply where nobody says it: what Qwen3 was trained for without stretching its positions."""
_SHORTER: Final = (CONTEXT, 16_384)
"""Contexts that are tried by themselves. Less is of little use: a profile and the files that matter fill it."""
_BASES: Final = ("Qwen/Qwen3-32B", "Qwen/Qwen3-14B", "Qwen/Qwen3-8B", "Qwen/Qwen3-4B")
"""The models that are chosen by themselves, the best first. What is smaller is served when it is named."""
_USEFUL: Final = 3
"""How many of them are good enough not to take more GPUs for a better one."""
_PUBLISHED: Final = {
    "Qwen/Qwen3-32B": (Weights.FP8, Weights.AWQ),
    "Qwen/Qwen3-14B": (Weights.FP8, Weights.AWQ),
    "Qwen/Qwen3-8B": (Weights.FP8, Weights.AWQ),
    "Qwen/Qwen3-4B": (Weights.FP8, Weights.AWQ),
    "Qwen/Qwen3-1.7B": (Weights.FP8,),
    "Qwen/Qwen3-0.6B": (Weights.FP8,),
    "Qwen/Qwen3-30B-A3B": (Weights.FP8,),
    "Qwen/Qwen3-235B-A22B": (Weights.FP8,),
}
"""Checkpoints with quantised weights that the model's authors publish beside the plain one."""
_SUFFIX: Final = {Weights.FP8: "-FP8", Weights.AWQ: "-AWQ"}
_KINDS: Final = (Weights.BF16, Weights.FP16, Weights.FP8, Weights.AWQ)
_FP8_ABLE: Final = re.compile(
    r"\b(G?H200|H100|H800|H20|G?B[123]00|GB10|L40[SG]?|L20|L4|L2|Ada|Blackwell|RTX (40|50)[5-9]0D?)\b"
)
"""GPUs that compute in 8 bit (capability 8.9 and above: Ada, Hopper, Blackwell)."""
_TOO_OLD: Final = re.compile(r"\b(G?V100S?|[KMP]\d{1,4}[A-Z]?|TITAN ([VZ]|Xp?|Black)|GTX|Xavier)\b", re.IGNORECASE)
"""GPUs below capability 7.5, for which vLLM's CUDA 13 images have no kernels."""
_MOST_SHOWN: Final = 6


class Wish(NamedTuple):
    """What the user said: a model, how many GPUs, of what type, the rest. `volume`: only nodes that have it."""

    model: ServedModel | None = None
    gpus: int | None = None
    gpu_model: str | None = None
    options: ServeOptions = ServeOptions()
    node_pool: str | None = None
    volume: str | None = None


class Choice(NamedTuple):
    """What is served, with the options as they are then, and what else would fit, the better models first."""

    fit: Fit
    options: ServeOptions
    others: tuple[Fit, ...]


# --- models ---------------------------------------------------------------------------------------------------------


def named_model(name: str, weights: Weights | None, shape: ModelShape | None = None) -> ServedModel:
    """The model of that name on the hub; `shape` as the hub tells it, where our own table does not know it.

    How the weights are stored shows in the name (`-FP8`, `-AWQ`), unless it is said. Raises UsageError for a model
    whose shape is not known or that is none to talk to.
    """
    known = listed_shape(name) or shape
    if known is None:
        near = difflib.get_close_matches(name, _known_names(), n=1, cutoff=0.3)
        hint = f"Known are models like {near[0]}." if near else f"Known are models like {_BASES[1]}."
        raise UsageError(f"What {name} needs is not known: neither our table nor the hub tells its shape.", hint=hint)
    if known.family not in SERVABLE:
        raise UsageError(f"{name} is no model to talk to ({known.family}).", hint="Give a model that writes text.")
    return ServedModel(repo=name, shape=known, weights=weights or _stored(name))


def _known_names() -> tuple[str, ...]:
    return tuple(name for name in _PUBLISHED)


def _stored(name: str) -> Weights:
    found = re.search(r"[-_](fp8|awq|int4|4bit)\b", name, re.IGNORECASE)
    if found is None:
        return Weights.BF16
    return Weights.FP8 if found[1].lower() == "fp8" else Weights.AWQ


def variants(base: ServedModel, weights: Weights | None) -> tuple[ServedModel, ...]:
    """The checkpoints of a model: as it was named, and, unless a kind is said, those that its authors publish too.

    Raises UsageError for 4 bit of which no checkpoint is known: vLLM makes none itself.
    """
    if weights is Weights.AWQ and base.weights is not weights and weights not in _PUBLISHED.get(base.repo, ()):
        raise UsageError(f"No AWQ checkpoint of {base.repo} is known.", hint="Name one, or give --quantization fp8.")
    kinds = (weights,) if weights else (base.weights, *_PUBLISHED.get(base.repo, ()))
    return tuple(
        base.model_copy(update={"repo": _checkpoint(base.repo, kind), "weights": kind}) for kind in dict.fromkeys(kinds)
    )


def _checkpoint(repo: str, kind: Weights) -> str:
    """The published checkpoint of that kind, else the plain one, which vLLM then makes 8 bit itself."""
    return f"{repo}{_SUFFIX[kind]}" if kind in _PUBLISHED.get(repo, ()) else repo


def makes_fp8(model: ServedModel) -> bool:
    """Whether vLLM has to quantise the plain weights as it loads them."""
    return model.weights is Weights.FP8 and _stored(model.repo) is not Weights.FP8


# --- GPUs -----------------------------------------------------------------------------------------------------------


def seats(facts: ClusterFacts, prices: Prices, wish: Wish) -> tuple[Seat, ...]:
    """The GPUs that the cluster offers for a docker job of that pool: for each model the most of one node."""
    found: dict[str, Seat] = {}
    for node in _nodes(facts, wish):
        for group in gpu_groups(node, "nvidia"):
            if wish.gpu_model and not matches_model(wish.gpu_model, group.model):
                continue
            price = usd_per_hour(group.model, prices, node)
            known = gpu_like(group.model)
            memory = group.memory_mib or (known.memory_mib if known else None)
            before = found.get(group.model)
            dearer = max(
                (p for p in (price.usd, before.usd_per_hour if before else None) if p is not None), default=None
            )
            found[group.model] = Seat(
                gpu_model=group.model,
                memory_mib=min((m for m in (memory, before.memory_mib if before else None) if m), default=None),
                gpus=max(group.count, before.gpus if before else 1),
                usd_per_hour=dearer,
                price_source=price.source,
                declared=group.declared or (before.declared if before else False),
            )
    return tuple(found.values())


def _nodes(facts: ClusterFacts, wish: Wish) -> Iterator[NodeFacts]:
    pool, driver = wish.node_pool or "default", wish.options.driver
    for node in facts.usable_nodes():
        there = driver in node.drivers and node.drivers[driver].healthy
        near = any(fnmatch.fnmatchcase(node.datacenter, d) for d in wish.options.datacenters)
        has = wish.volume is None or wish.volume in node.host_volumes or wish.volume in (facts.csi_volumes or ())
        if there and near and has and pool in ("all", node.node_pool):
            yield node


def runs_on(model: str, weights: Weights) -> bool:
    """Whether vLLM's CUDA image runs weights of that kind on a GPU of that name."""
    if _TOO_OLD.search(model):
        return False
    known = gpu_like(model)
    old = known is not None and known.bf16_tflops is None  # Turing knows 16 bit of the other kind alone
    if weights is Weights.FP8:
        return bool(_FP8_ABLE.search(model))
    return weights is Weights.AWQ or (weights is Weights.FP16) == old


# --- the choice -----------------------------------------------------------------------------------------------------


def choose(facts: ClusterFacts, prices: Prices, wish: Wish) -> Choice:
    """What to serve. Raises UsageError saying what does not fit, with the nearest that does."""
    offered = seats(facts, prices, wish)
    if not offered:
        raise UsageError(_no_gpu(facts, wish), hint=_NO_GPU_HINT)
    if wish.model is None:  # how large a model may be is not guessed
        unknown, offered = offered, tuple(seat for seat in offered if seat.memory_mib is not None)
        if not offered:
            names = ", ".join(seat.gpu_model for seat in unknown[:_MOST_SHOWN])
            raise UsageError(f"How much memory {names} has is not known.", hint=_NAME_ONE)
    bases = (wish.model,) if wish.model else tuple(named_model(name, None) for name in _BASES)
    for context in (wish.options.context,) if wish.options.context else _SHORTER:
        fits = _fits(bases, offered, wish, context)
        if fits:
            best = fits[0]
            others = tuple(_cheaper(fits[1:], best))
            options = wish.options.model_copy(update={"context": context, "weights": best.model.weights})
            return Choice(best, options, others[:_MOST_SHOWN])
    raise _does_not_fit(bases, offered, wish)


_NAME_ONE: Final = f"Name a model that fits there, like {_BASES[-1]}-AWQ, which takes some 10 GiB."
_NO_GPU_HINT: Final = (
    "Use a cluster with NVIDIA GPUs, or set CARAVAN_MODEL_URL to a server that is elsewhere (docs/model.md). "
    "A program of your own is served without GPUs: --gpus 0 --set command='[...]'."
)


def _no_gpu(facts: ClusterFacts, wish: Wish) -> str:
    every = sorted({g.model for n in facts.usable_nodes() for g in gpu_groups(n)})
    if not every:
        return "The cluster has no GPU that it tells of, and vLLM's image needs one."
    where = f" in the pool {wish.node_pool}" if wish.node_pool else ""
    volume = f" with the volume {wish.volume}" if wish.volume else ""
    what = f"{wish.gpu_model} " if wish.gpu_model else "NVIDIA "
    return (
        f"No node{where}{volume} has a {what}GPU and a healthy {wish.options.driver} driver; the cluster's GPUs: "
        f"{', '.join(every[:_MOST_SHOWN])}."
    )


def _fits(bases: Sequence[ServedModel], offered: Sequence[Seat], wish: Wish, context: int | None) -> list[Fit]:
    """All that fit, the best first: first those on one GPU; on several only where none of the useful ones does."""
    rank = {base.repo: place for place, base in enumerate(bases)}
    found = [(rank[base.repo], fit) for base in bases for fit in _of(base, offered, wish, context)]
    alone = {place for place, fit in found if fit.seat.gpus == 1}
    enough = wish.gpus is None and any(place < _USEFUL for place in alone)

    def order(item: tuple[int, Fit]) -> tuple[bool, bool, int, int, float, int]:
        place, fit = item
        several = enough and fit.seat.gpus > 1
        price = fit.seat.usd_per_hour if fit.seat.usd_per_hour is not None else float("inf")
        return fit.memory.budget is None, several, place, fit.seat.gpus, price, _KINDS.index(fit.model.weights)

    return [fit for _, fit in sorted(found, key=order)]


def _of(base: ServedModel, offered: Sequence[Seat], wish: Wish, context: int | None) -> Iterator[Fit]:
    length = context or CONTEXT
    if base.longest is not None and length > base.longest:
        return
    for model in variants(base, wish.options.weights):
        for seat in offered:
            for kind in _on(seat, model, wish.options.weights):
                for gpus in spreads(model.shape, kind, seat.gpus):
                    if wish.gpus not in (None, gpus):
                        continue
                    fit = fit_of(model.model_copy(update={"weights": kind}), seat, gpus, length, wish.options)
                    if fit.memory.fits:
                        yield fit


def _on(seat: Seat, model: ServedModel, said: Weights | None) -> tuple[Weights, ...]:
    """How the weights can be held there: plain ones as what the GPU knows, unless that is said."""
    plain = (Weights.BF16, Weights.FP16)
    kinds = plain if model.weights in plain and said is None else (model.weights,)
    return tuple(kind for kind in kinds if runs_on(seat.gpu_model, kind))


def fit_of(model: ServedModel, seat: Seat, gpus: int, context: int, options: ServeOptions) -> Fit:
    """The model on so many of the seat's GPUs, whether or not it fits."""
    price = None if seat.usd_per_hour is None else seat.usd_per_hour * gpus
    memory = memory_of(
        model.shape, model.weights, gpus=gpus, context=context, options=options, memory_mib=seat.memory_mib
    )
    return Fit(model=model, seat=seat.model_copy(update={"gpus": gpus, "usd_per_hour": price}), memory=memory)


def _cheaper(fits: Iterable[Fit], best: Fit) -> Iterator[Fit]:
    """Of the others those worth a look: each model once, with what is cheapest for it."""
    seen = {best.model.shape.params_b}
    for fit in fits:
        if fit.model.shape.params_b not in seen:
            seen.add(fit.model.shape.params_b)
            yield fit


def _does_not_fit(bases: Sequence[ServedModel], offered: Sequence[Seat], wish: Wish) -> UsageError:
    """What is in the way, and the nearest that fits: a shorter context, other weights, more GPUs, a smaller model."""
    base, context = bases[-1] if wish.model is None else bases[0], wish.options.context or CONTEXT
    if base.longest is not None and context > base.longest:
        text = f"{base.repo} was made for {base.longest} tokens, and a context of {context} is asked for."
        return UsageError(text, hint=f"Give --context {base.longest}.")
    able = [
        (s, kind)
        for m in variants(base, wish.options.weights)
        for s in offered
        for kind in _on(s, m, wish.options.weights)
    ]
    most = max(s.gpus for s in offered)
    names = ", ".join(f"{s.gpus} × {s.gpu_model}" for s in offered[:_MOST_SHOWN])
    if not able:
        kinds = wish.options.weights or base.weights
        return UsageError(f"None of the cluster's GPUs ({names}) runs weights in {kinds}.", hint=_other_kind(offered))
    counts = {n for s, kind in able for n in spreads(base.shape, kind, s.gpus)}
    if wish.gpus is not None and wish.gpus not in counts:
        said = f"at most {most} are on one node" if wish.gpus > most else "its heads and matrices can't be shared so"
        text = f"{base.repo} can't be spread over {wish.gpus} GPUs: {said}."
        return UsageError(text, hint=f"Give --gpus {' or '.join(map(str, sorted(counts)))}.")
    near = _nearest(base, offered, wish)
    least = _least(base, offered, wish, context)
    text = f"{base.repo} with a context of {context} does not fit on {names}"
    if least is not None and least.memory.budget is not None:
        text += (
            f": on {least.seat.gpus} × {least.seat.gpu_model} it needs {least.memory.needed:.1f} GiB of "
            f"{least.memory.budget:.1f} GiB a GPU"
        )
    return UsageError(f"{text}.", hint=near)


def _least(base: ServedModel, offered: Sequence[Seat], wish: Wish, context: int) -> Fit | None:
    """Of all ways to serve it, the one that lacks least."""
    fits = [
        fit_of(model.model_copy(update={"weights": kind}), seat, gpus, context, wish.options)
        for model in variants(base, wish.options.weights)
        for seat in offered
        for kind in _on(seat, model, wish.options.weights)
        for gpus in spreads(model.shape, kind, seat.gpus)
        if wish.gpus in (None, gpus)
    ]
    return min(fits, key=lambda f: f.memory.needed - (f.memory.budget or 0.0), default=None)


def _nearest(base: ServedModel, offered: Sequence[Seat], wish: Wish) -> str:
    """What would fit, the least change first."""
    free = wish.options.model_copy(update={"weights": None})
    context = wish.options.context or CONTEXT
    least = _least(base, offered, wish, context)
    shorter = longest_context(least.memory) if least is not None else 0
    if shorter >= 8192:
        return f"A context of {shorter} fits: --context {shorter}."
    for said, other in (
        ("--gpus {gpus}", wish._replace(gpus=None)),
        ("--quantization {kind}", wish._replace(options=free)),
        ("--quantization {kind} --gpus {gpus}", wish._replace(options=free, gpus=None)),
    ):
        found = _fits((base,), offered, other, context)
        if found:
            return f"It fits with {said.format(gpus=found[0].seat.gpus, kind=found[0].model.weights)}."
    smaller = [named_model(name, None) for name in _PUBLISHED]
    smaller = [m for m in smaller if m.shape.params_b < base.shape.params_b]
    for model in sorted(smaller, key=lambda m: -m.shape.params_b):
        found = _fits((model,), offered, wish._replace(options=free), min(context, model.longest or context))
        if found:
            return f"The nearest that fits is {found[0].model.repo}."
    return "No Qwen3 fits on these GPUs: use larger ones, or set CARAVAN_MODEL_URL to a server that is elsewhere."


def _other_kind(offered: Sequence[Seat]) -> str:
    able = [kind for kind in _KINDS if any(runs_on(s.gpu_model, kind) for s in offered)]
    return f"They run {', '.join(able)} (--quantization)." if able else _NO_GPU_HINT
