"""What a metric's name says: over which data it was taken, whether less of it is better, what it is called elsewhere.

Programs name the same thing `eval_loss`, `val/loss`, `validation.loss` or `valLoss`: a name is read by its words.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, Literal

from caravan.values.metric_names import HELD_OUT, held_out, told_direction, words
from caravan.values.training import MetricSpec

Direction = Literal["min", "max"]

_LEARNT: Final = frozenset({"train", "training", "trn"})
_HOW: Final = frozenset({"avg", "average", "mean", "total", "running", "step", "batch", "epoch", "final", "last"})
"""How a figure was put together: the same figure for all that is judged here."""
_ALIASES: Final = {"acc": "accuracy", "ppl": "perplexity", "err": "error", "nll": "loss", "rewards": "reward"}
_COUNTERS: Final = frozenset(
    {"lr", "epoch", "epochs", "step", "steps", "iter", "iteration", "grad", "time", "runtime", "second"}
    | {"seconds", "sec", "samples", "tokens", "memory", "mfu", "throughput", "speed", "eta", "size", "count", "scale"}
    | {"flos", "flops", "weight", "best", "min", "max", "kl", "entropy", "length", "lengths", "clip", "num"}
)
"""Words of figures that say nothing of how good a model is."""
_MANNERS: Final = frozenset({"rate", "norm"})
"""Words that say so only where no other says how good: `win_rate` and `acc_norm` are figures of a model, as the
evaluation harnesses call them; `rate` and `weight_norm` are not."""
_BOUNDS: Final = frozenset(
    {"best", "lowest", "min", "minimum", "max", "prev", "previous", "old", "init", "initial", "threshold", "thresh"}
    | {"scale", "scaler", "weight", "weights", "coef", "lambda", "patience"}
)
"""Words of what stands at infinity until something better comes, and of what is set and not measured."""
_EPISODES: Final = frozenset({"ep", "eps", "episode", "episodes", "episodic"})


def learnt(name: str) -> bool:
    """Whether the name says that it was taken over what is learned from."""
    return bool(_LEARNT & set(words(name)))


def essence(name: str) -> str:
    """What was taken, without over which data and how it was put together: `eval_acc` and `accuracy` are one."""
    apart = HELD_OUT | _LEARNT | _HOW | {"held", "out"}
    kept = [_ALIASES.get(word, word) for word in words(name) if word not in apart]
    return "_".join(kept)


def is_loss(name: str) -> bool:
    """Whether it is the loss as a whole, and no part or weight of one (`loss_kl`, `box_loss`)."""
    return essence(name) in ("loss", "ce_loss", "lm_loss", "crossentropy", "cross_entropy_loss", "cross_entropy")


def of_training(name: str) -> bool:
    """Whether it is the loss over what is learned from."""
    return is_loss(name) and not held_out(name)


def of_rewards(name: str) -> bool:
    """Whether only a training by rewards (PPO, GRPO, DQN) tells it: its loss need not fall. Episodes are counted by few
    others.
    """
    found = set(words(name))
    return bool(found & {"reward", "rewards", "rew", "episode", "episodes", "episodic"}) or (
        bool(found & {"return", "returns", "ret", "score"}) and bool(found & _EPISODES)
    )


def measures(name: str) -> bool:
    """Whether it was measured at that place: no best of all so far, which begins at infinity, and no setting."""
    return not _BOUNDS & set(words(name))


def counts(name: str) -> bool:
    """Whether the figure says how far or how fast, and not how good."""
    found = words(name)
    if set(found) <= _EPISODES or "lowest" in found:
        return True
    if any(word in _COUNTERS for word in found if word not in _HOW) or not essence(name):
        return True
    return direction(name) is None and any(word in _MANNERS for word in found)


_FAR: Final = frozenset(
    {"lr", "epochs", "steps", "iter", "iters", "iteration", "iterations", "it", "grad", "runtime", "second", "seconds"}
    | {"sec", "secs", "ms", "time", "elapsed", "eta", "speed", "throughput", "mfu", "flos", "flops", "scale", "lrs"}
)
_AMOUNTS: Final = frozenset(
    {"step", "epoch", "batch", "norm", "size", "count", "samples", "tokens", "num", "memory", "mem", "examples"}
)
"""Words that say so only where nothing else says how good: `acc_norm` is an accuracy, `val_loss_epoch` a loss."""


def of_progress(name: str) -> bool:
    """Whether the figure tells of the program, and nothing of the model that it left: steps, rates of learning, times,
    speeds, amounts.
    """
    found = words(name)
    if any(word in _FAR for word in found) or ("learning", "rate") in pairwise(found) or found[-1:] == ("s",):
        return True
    return direction(name) is None and any(word in _AMOUNTS for word in found)


def direction(name: str, definitions: Iterable[MetricSpec] = ()) -> Direction | None:
    """Whether less or more of it is better: as it is defined, else by its words; None where neither says."""
    for one in definitions:
        if one.name == name:
            return one.direction
    return told_direction(name)


def find(names: Iterable[str], wanted: str) -> str | None:
    """The name that is meant by `wanted`: the same, else the only one of that essence."""
    known: Sequence[str] = tuple(names)
    if wanted in known:
        return wanted
    like = [name for name in known if essence(name) and essence(name) == essence(wanted)]
    if held_out(wanted) and len(like) > 1:
        like = [name for name in like if held_out(name)]
    return like[0] if len(like) == 1 else None
