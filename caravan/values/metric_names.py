"""Which of the metrics that a repository logs its training is judged by, and names that are written in words. Names
only; it knows no plan.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

LOWER_IS_BETTER: Final = frozenset(
    {"loss", "nll", "ce", "crossentropy", "perplexity", "ppl", "error", "err", "wer", "cer", "ter", "mer"}
    | {"mae", "mse", "rmse", "mape", "bpc", "bpb", "bits", "fid", "eer", "ece", "brier"}
)
HIGHER_IS_BETTER: Final = frozenset(
    {"accuracy", "acc", "f1", "bleu", "sacrebleu", "rouge", "rouge1", "rouge2", "meteor", "chrf", "bertscore"}
    | {"reward", "rewards", "rew", "return", "returns", "precision", "recall", "auc", "auroc", "roc", "map", "mrr"}
    | {"ndcg", "iou", "miou", "dice", "r2", "pearson", "spearman", "kappa", "mcc", "matthews", "exact", "em", "score"}
    | {"success", "win", "psnr", "ssim", "top1", "top5", "pass", "hit", "hits", "similarity", "cosine", "margin"}
    | {"margins"}
)
_JOINED: Final = ("loss", "perplexity", "error")  # long enough to be meant inside a word too: `trainloss`
_NO_JUDGE: Final = frozenset(
    {"lr", "learning_rate", "epoch", "step", "steps", "global_step", "grad_norm", "time", "memory", "tokens", "mfu"}
)
_PARTS: Final = frozenset({"train", "training", "val", "valid", "validation", "eval", "evaluation", "test", "testing"})
"""Names of a part of the data alone: they say where something was measured, and not what."""
_RATES: Final = ("/s", "per_second", "per_sec", "_time", "throughput", "runtime")
_PER_SECOND: Final = re.compile(r"(?:_per_|/)s(?:ec(?:ond)?)?$")
_HELD_OUT: Final = ("eval", "val", "test", "dev")

_WORDS: Final = re.compile(r"[a-z]+\d?|[A-Z]+(?![a-z])\d?|[A-Z][a-z]+\d?|\d+")
HELD_OUT: Final = frozenset(
    {"eval", "evaluation", "val", "valid", "validation", "test", "testing", "dev", "heldout", "holdout"}
)
"""Words of names of figures over data that nothing is learned from."""

_SAID_BEFORE: Final = (
    *("training", "train", "validation", "valid", "val", "evaluation", "eval", "testing", "test", "dev", "held-out"),
    *("best", "lowest", "minimum", "min", "previous", "prev", "initial"),
    *("discriminator", "generator", "critic", "actor", "policy", "gradient", "value", "entropy", "kl", "adversarial"),
    *("reconstruction", "recon", "auxiliary", "aux", "regularization", "contrastive", "episodic", "episode"),
)
_HOW_MADE: Final = ("average", "avg", "mean", "total", "running", "epoch", "set")  # change nothing of what is meant
QUALIFIED: Final = (
    rf"(?:(?:{'|'.join(_SAID_BEFORE)})(?![A-Za-z0-9_-])[\])]?[.:]?[ \t]{{1,2}}"
    rf"(?:(?:{'|'.join(_HOW_MADE)}):?[ \t]{{1,2}})*)"
)
"""Pattern, without regard to case, of a word before a metric's name that says of what it is, and the blanks behind:
`train loss`, `Val. Loss`, `[test] loss`, `Test set: Average loss`, `discriminator loss`."""
_QUALIFIER: Final = re.compile(rf"(?<![\w-])(?:{'|'.join(_SAID_BEFORE)})(?![\w-])", re.IGNORECASE)


def words(name: str) -> tuple[str, ...]:
    """The words of a name in small letters: `valLoss`, `val/loss` and `val_loss` have the same."""
    return tuple(word.lower() for word in _WORDS.findall(name))


def held_out(name: str) -> bool:
    """Whether the name says that it was taken over data that nothing is learned from."""
    found = words(name)
    return any(word in HELD_OUT for word in found) or ("held", "out") in pairwise(found)


def joined(before: str, name: str) -> str:
    """The name of a metric that is written in several words, as one in small letters: `train_loss` for `Train Loss`."""
    return "_".join([*_QUALIFIER.findall(before), name]).replace("-", "_").lower()


def spelling(name: str) -> str:
    """The name as one of several that mean the same quantity: `tokens/s` for `tokens_per_second` too."""
    return _PER_SECOND.sub("/s", name.lower())


def judging(metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics that say how good a training is, without rates, counters and rates of learning."""
    return tuple(
        m
        for m in dict.fromkeys(metrics)
        if m.lower().strip(" :/_-") not in _NO_JUDGE | _PARTS and not any(r in m.lower() for r in _RATES)
    )


def clear_metric(metrics: Sequence[str]) -> str | None:
    """The one that is meant beyond doubt: the only one, or the only one on held-out data; else None."""
    able = judging(metrics)
    held_out = [m for m in able if m.lower().startswith(_HELD_OUT)]
    if len(held_out) == 1:
        return held_out[0]
    return able[0] if len(able) == 1 else None


def told_direction(metric: str) -> Literal["min", "max"] | None:
    """Whether less or more of it is better, by the words of its name; None where none of them says it."""
    found = words(metric)
    if not LOWER_IS_BETTER.isdisjoint(found):
        return "min"
    return None if HIGHER_IS_BETTER.isdisjoint(found) else "max"


def direction_of(metric: str) -> Literal["min", "max"]:
    """The same for a metric that must have one: where its words say nothing, more of it is better, unless it is some
    loss or error."""
    return told_direction(metric) or ("min" if any(word in metric.lower() for word in _JOINED) else "max")
