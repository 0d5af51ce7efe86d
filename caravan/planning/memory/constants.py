"""The few numbers of the memory estimate that are fitted, not derived, each with what it stands for.

`python -m bench.vram --fit` fits them anew and prints how far they move when one source is left out.
"""

from typing import Final, NamedTuple


class Fitted(NamedTuple):
    """Fitted numbers; their defaults are what the estimate uses."""

    stream: float = 4.0
    """Copies of the stream between blocks that live during a block's backward pass: gradients and the output."""
    adapter_input: float = 3.0
    """Bytes for each number of an adapted matrix's input: dropout's output and mask, and casts."""
    sharded_adapter: float = 10.0
    """The same on top where FSDP spreads 32-bit adapters as units of their own: the input in 32 bit, dropped out."""
    compiled: float = 0.72
    """Share of a block's kept tensors that is left when the block is compiled and cheap ones are recomputed."""
    slack: float = 0.10
    """Share of what comes and goes within a step that the caching allocator reserves on top."""
    held_slack: float = 0.02
    """The same for what stays: rounding of blocks, and segments that are partly used."""
    context_gib: float = 0.8
    """CUDA context, loaded kernels, cuBLAS and NCCL, outside the allocator, where a driver's figure is asked for."""
    cap_share: float = 0.8
    """Length of the longest batch that was seen where only a cap on the length is known."""


FITTED: Final = Fitted()
