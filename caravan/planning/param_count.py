"""How many parameters a shape has: the matrices of its blocks, its embedding and its output matrix.

Pure arithmetic. Source: the layers as Vaswani et al. 2017 (arXiv 1706.03762) have them, with grouped keys and values
(Ainslie et al. 2023, arXiv 2305.13245), gated MLPs (Shazeer 2020, arXiv 2002.05202), experts (Fedus et al. 2021, arXiv
2101.03961) and latent attention (DeepSeek-V2, arXiv 2405.04434). Biases are left out: less than 0.2 % of any decoder.
"""

from caravan.values.shape import Family, ModelShape

_STEM = 3
"""Channels of an image: a patch of p pixels a side is projected by 3 · p² · hidden weights."""


def attention_params(shape: ModelShape) -> int:
    """Weights of one block's attention."""
    if shape.latent is not None:
        latent, query = shape.latent, shape.latent.nope_dim + shape.latent.rope_dim
        wide = shape.heads * query
        queries = latent.q_rank * (shape.hidden + wide) if latent.q_rank else shape.hidden * wide
        down = shape.hidden * (latent.kv_rank + latent.rope_dim)
        up = latent.kv_rank * shape.heads * (latent.nope_dim + latent.v_dim)
        return queries + down + up + shape.heads * latent.v_dim * shape.hidden
    return shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)


def mlp_params(shape: ModelShape, *, sparse: bool) -> int:
    """Weights of one block's MLP; with experts and their router in a sparse block."""
    matrices = 3 if shape.gated else 2
    if not sparse:
        return matrices * shape.hidden * shape.intermediate
    width = shape.experts * shape.moe_intermediate + shape.shared_intermediate
    return matrices * shape.hidden * width + shape.experts * shape.hidden


def counted_params(shape: ModelShape, *, positions: int = 0) -> int:
    """Parameters of a transformer of that shape; `positions` are the rows of a learned table of positions.

    Of a shape that is no transformer (convolutions, diffusion) it tells nothing that could be relied on.
    """
    sparse = max(0, shape.layers - shape.dense_layers) if shape.experts else 0
    dense = shape.layers - sparse
    blocks = shape.layers * (attention_params(shape) + 2 * shape.hidden)
    blocks += dense * mlp_params(shape, sparse=False) + sparse * mlp_params(shape, sparse=True)
    if shape.family is Family.ENCDEC:  # a decoder's block attends to the encoder too
        blocks += (shape.layers - shape.encoder_layers) * (attention_params(shape) + shape.hidden)
    ends = shape.vocab * shape.hidden * (2 if shape.tied is False else 1)
    ends += positions * shape.hidden + _STEM * shape.patch_size**2 * shape.hidden
    tower = counted_params(shape.vision) if shape.vision is not None else 0
    return blocks + ends + tower
