"""The few numbers of the memory estimate that are fitted, not derived, each with what it stands for.

`python -m bench.vram --fit` fits them anew and prints how far they move when one source is left out.
"""

from typing import Final, NamedTuple


class Fitted(NamedTuple):
    """Fitted numbers; their defaults are what the estimate uses."""

    stream: float = 1.0
    """Copies of the stream between blocks that live during a block's backward pass: gradients and the output."""
    adapter_input: float = 1.5
    """Bytes for each number of an adapted matrix's input: dropout's output and mask, and casts."""
    sharded_adapter: float = 13.0
    """The same on top where FSDP spreads 32-bit adapters as units of their own: the input in 32 bit, dropped out."""
    compiled: float = 0.72
    """Share of a block's kept tensors that is left when the block is compiled and cheap ones are recomputed."""
    slack: float = 0.1
    """Share of a block's tensors, which come and go, that the caching allocator reserves on top."""
    logits_slack: float = 0.3
    """The same of the logits: few very large blocks in several types, which rarely fit each other's place."""
    varying_slack: float = 1.7
    """Of the logits too, where batches differ in length, so that freed blocks fit even less."""
    wide_stream: float = 0.0
    """Share of the way from 16 to 32 bit that the stream of a model quantised by bitsandbytes goes."""
    wide_kept: float = 0.8
    """The same for what its blocks keep where nothing is checkpointed."""
    each_logit: float = 12.5
    """Bytes of each logit at the loss: three times 32 bit in transformers."""
    held_slack: float = 0.07
    """The same for what stays: rounding of blocks, and segments that are partly used."""
    context_gib: float = 1.3
    """CUDA context, loaded kernels and cuBLAS, outside the allocator, where a driver's figure is asked for."""
    exchange_gib: float = 0.5
    """Buffers of NCCL on top, where there are several GPUs."""
    cap_share: float = 0.9
    """Length of the longest batch that was seen where only a cap on the length is known."""


FITTED: Final = Fitted()
