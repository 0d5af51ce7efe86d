"""Shapes of well-known language models: what the memory formula needs of them.

Facts only; it knows no plan. Source: the `config.json` of each model on its hub page, the parameter count from its
weights' index. A model that is not listed is sized by the parameter count in its name, which is said to be rougher.
"""

import re
from typing import Final

from caravan.values.shape import ModelShape

Shape = ModelShape
"""The older name."""


def _listed(
    params_b: float,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    intermediate: int,
    vocab: int,
    gated: bool = True,
) -> ModelShape:
    return ModelShape(
        params_b=params_b,
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        intermediate=intermediate,
        vocab=vocab,
        gated=gated,
        source="the table of known models",
    )


_SHAPES: Final[dict[str, Shape]] = {
    "qwen2.5-0.5b": _listed(0.494, 896, 24, 14, 2, 4864, 151936),
    "qwen2.5-1.5b": _listed(1.544, 1536, 28, 12, 2, 8960, 151936),
    "qwen2.5-3b": _listed(3.086, 2048, 36, 16, 2, 11008, 151936),
    "qwen2.5-7b": _listed(7.616, 3584, 28, 28, 4, 18944, 152064),
    "qwen2.5-14b": _listed(14.77, 5120, 48, 40, 8, 13824, 152064),
    "qwen2.5-32b": _listed(32.764, 5120, 64, 40, 8, 27648, 152064),
    "qwen2.5-72b": _listed(72.706, 8192, 80, 64, 8, 29568, 152064),
    "qwen2-7b": _listed(7.616, 3584, 28, 28, 4, 18944, 152064),
    "qwen3-0.6b": _listed(0.596, 1024, 28, 16, 8, 3072, 151936),
    "qwen3-1.7b": _listed(1.721, 2048, 28, 16, 8, 6144, 151936),
    "qwen3-4b": _listed(4.022, 2560, 36, 32, 8, 9728, 151936),
    "qwen3-8b": _listed(8.191, 4096, 36, 32, 8, 12288, 151936),
    "qwen3-14b": _listed(14.768, 5120, 40, 40, 8, 17408, 151936),
    "qwen3-32b": _listed(32.762, 5120, 64, 64, 8, 25600, 151936),
    "llama-7b": _listed(6.738, 4096, 32, 32, 32, 11008, 32000),
    "llama-2-7b": _listed(6.738, 4096, 32, 32, 32, 11008, 32000),
    "llama-2-13b": _listed(13.016, 5120, 40, 40, 40, 13824, 32000),
    "llama-2-70b": _listed(68.977, 8192, 80, 64, 8, 28672, 32000),
    "llama-3-8b": _listed(8.03, 4096, 32, 32, 8, 14336, 128256),
    "llama-3.1-8b": _listed(8.03, 4096, 32, 32, 8, 14336, 128256),
    "llama-3.1-70b": _listed(70.554, 8192, 80, 64, 8, 28672, 128256),
    "llama-3.1-405b": _listed(405.853, 16384, 126, 128, 8, 53248, 128256),
    "llama-3.2-1b": _listed(1.236, 2048, 16, 32, 8, 8192, 128256),
    "llama-3.2-3b": _listed(3.213, 3072, 28, 24, 8, 8192, 128256),
    "llama-3.3-70b": _listed(70.554, 8192, 80, 64, 8, 28672, 128256),
    "tinyllama-1.1b": _listed(1.1, 2048, 22, 32, 4, 5632, 32000),
    "vicuna-7b": _listed(6.738, 4096, 32, 32, 32, 11008, 32000),
    "vicuna-13b": _listed(13.016, 5120, 40, 40, 40, 13824, 32000),
    "mistral-7b": _listed(7.242, 4096, 32, 32, 8, 14336, 32000),
    "mixtral-8x7b": _listed(46.703, 4096, 32, 32, 8, 14336, 32000),
    "gemma-2b": _listed(2.506, 2048, 18, 8, 1, 16384, 256000),
    "gemma-7b": _listed(8.538, 3072, 28, 16, 16, 24576, 256000),
    "gemma-2-2b": _listed(2.614, 2304, 26, 8, 4, 9216, 256000),
    "gemma-2-9b": _listed(9.242, 3584, 42, 16, 8, 14336, 256000),
    "phi-1_5": _listed(1.418, 2048, 24, 32, 32, 8192, 51200, gated=False),
    "phi-2": _listed(2.78, 2560, 32, 32, 32, 10240, 51200, gated=False),
    "phi-3-mini": _listed(3.821, 3072, 32, 32, 32, 8192, 32064),
    "gpt2": _listed(0.124, 768, 12, 12, 12, 3072, 50257, gated=False),
    "gpt2-medium": _listed(0.355, 1024, 24, 16, 16, 4096, 50257, gated=False),
    "gpt2-large": _listed(0.774, 1280, 36, 20, 20, 5120, 50257, gated=False),
    "gpt2-xl": _listed(1.558, 1600, 48, 25, 25, 6400, 50257, gated=False),
    "bloomz-7b1": _listed(7.069, 4096, 30, 32, 32, 16384, 250880, gated=False),
    "falcon-7b": _listed(7.217, 4544, 32, 71, 1, 18176, 65024, gated=False),
    "smollm2-135m": _listed(0.135, 576, 30, 9, 3, 1536, 49152),
    "smollm2-360m": _listed(0.362, 960, 32, 15, 5, 2560, 49152),
    "smollm2-1.7b": _listed(1.711, 2048, 24, 32, 32, 8192, 49152),
}

_SIZE: Final = re.compile(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)\s*([bm])(?![a-z0-9])", re.IGNORECASE)


def shape_of(model_id: str) -> Shape | None:
    """The shape of a model by its hub id or path, the longest known name in it first; else by the size in its name.

    None when neither tells anything.
    """
    name = model_id.rstrip("/").rsplit("/", 1)[-1].lower().replace("meta-", "")
    for known in sorted(_SHAPES, key=len, reverse=True):
        if re.search(rf"(?<![a-z0-9]){re.escape(known)}(?![a-z0-9.])", name):
            return _SHAPES[known]
    size = _SIZE.search(name.replace("_", "-"))
    if size is None:
        return None
    billions = float(size[2]) * (int(size[1]) if size[1] else 1) / (1000 if size[3].lower() == "m" else 1)
    return guessed_shape(billions) if 0.001 <= billions <= 2000 else None


def guessed_shape(params_b: float) -> Shape:
    """A usual decoder of that many billion parameters: depth and width grow together.

    params = 12 · layers · hidden² (Kaplan et al. 2020, arXiv 2001.08361) with hidden = 128 · layers, as the listed
    models have it within about a third.
    """
    layers = max(2, round((params_b * 1e9 / (12 * 128**2)) ** (1 / 3)))
    hidden = 128 * layers
    return ModelShape(
        params_b=params_b,
        hidden=hidden,
        layers=layers,
        heads=max(1, hidden // 128),
        kv_heads=max(1, hidden // 128),
        intermediate=4 * hidden,
        vocab=32000,
        gated=False,
        exact=False,
        source=f"guessed from {params_b:g} B parameters",
    )
