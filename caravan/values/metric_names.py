"""Which of the metrics that a repository logs its training is judged by. Names only; it knows no plan."""

from collections.abc import Sequence
from typing import Final, Literal

_LOWER_IS_BETTER: Final = ("loss", "perplexity", "ppl", "error", "wer", "cer", "mae", "mse", "rmse", "bpc", "bits")
_NO_JUDGE: Final = frozenset(
    {"lr", "learning_rate", "epoch", "step", "steps", "global_step", "grad_norm", "time", "memory", "tokens", "mfu"}
)
_PARTS: Final = frozenset({"train", "training", "val", "valid", "validation", "eval", "evaluation", "test", "testing"})
"""Names of a part of the data alone: they say where something was measured, and not what."""
_RATES: Final = ("/s", "per_second", "per_sec", "_time", "throughput", "runtime")
_HELD_OUT: Final = ("eval", "val", "test", "dev")


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


def direction_of(metric: str) -> Literal["min", "max"]:
    """Whether less or more of it is better, by its name."""
    return "min" if any(word in metric.lower() for word in _LOWER_IS_BETTER) else "max"
