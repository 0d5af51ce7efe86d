"""How much room on a disk a training's checkpoints take. Pure; an estimate, rough on the high side of nothing.

A checkpoint of all weights is the weights and two states of 4 bytes for each (Adam's moments, as PyTorch keeps them:
https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html); one of an adapter the same of its own weights in
4 bytes. At the end the model is written once more.
"""

from collections.abc import Mapping
from typing import Final

from caravan.values.base import Json

_STATES: Final = 8
_FULL: Final = 4
_LAYERS_OF_ONE: Final = 7  # linear layers of a block with a gate: q, k, v, o, gate, up, down


def adapter_parameters(config: Mapping[str, Json] | None, rank: int) -> int | None:
    """Parameters of an adapter of that rank on all linear layers; None where the config tells no sizes."""
    hidden, layers = _count(config, "hidden_size", "n_embd", "d_model"), _count(config, "num_hidden_layers", "n_layer")
    if not hidden or not layers:
        return None
    inner = _count(config, "intermediate_size", "n_inner") or 4 * hidden
    return layers * rank * (4 * 2 * hidden + (_LAYERS_OF_ONE - 4) * (hidden + inner))


def needed_bytes(trained: int, *, whole: bool, kept: int, weights: int | None = None) -> int:
    """Bytes of `kept` checkpoints of `trained` parameters and of the model at the end.

    `weights`: bytes of the weights as they are saved, where all are trained (`whole`); else 4 a parameter.
    """
    saved = weights if whole and weights else _FULL * trained
    return kept * (saved + _STATES * trained) + saved


def _count(config: Mapping[str, Json] | None, *names: str) -> int | None:
    found = ((config or {}).get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and n > 0), None)
