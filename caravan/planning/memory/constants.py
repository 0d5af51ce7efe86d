"""The few numbers of the memory estimate that are fitted, not derived, each with what it stands for.

Fitted over published figures of 18 sources, 290 of them those that `python -m bench.vram` scores. "Left out" says how
far a number moves when it is fitted on that command's figures without one of their sources; --fit fits all anew. Where
the figures hardly tell values apart, the larger is taken: what is estimated too low runs out of memory.
"""

from typing import Final, NamedTuple


class Fitted(NamedTuple):
    """Fitted numbers; their defaults are what the estimate uses."""

    stream: float = 1.0
    """Copies of the stream between blocks that live during a block's backward pass: gradients and the output.

    Left out: 0."""
    adapter_input: float = 2.0
    """Bytes for each number of an adapted matrix's input: dropout's output and mask, and casts.

    Left out: 0."""
    sharded_adapter: float = 13.0
    """The same on top where FSDP spreads 32-bit adapters as units of their own, in the block that is at work alone.

    All figures that show it recompute their blocks, so it is counted for one block and never for all of them.

    Left out: 13 to 16; one source alone shows it, and without that nothing tells its values apart."""
    compiled: float = 0.72
    """Share of a gated block's kept tensors that is left when it is compiled and cheap ones are recomputed.

    Left out: 0.72."""
    slack: float = 0.1
    """Share of a block's tensors, which come and go, that the caching allocator reserves on top.

    Left out: 0 to 0.05."""
    logits_slack: float = 0.3
    """The same of the logits: few very large blocks in several types, which rarely fit each other's place.

    Left out: 0.1 to 0.2."""
    varying_slack: float = 2.0
    """More where batches differ in length: each longer one needs new blocks, beyond what activations left free.

    Left out: 2 to 2.4."""
    wide_kept: float = 0.8
    """Share of the way from 16 to 32 bit that a quantised model's blocks keep where nothing is checkpointed.

    Left out: 0.6 to 0.8."""
    each_logit: float = 14.0
    """Bytes of each logit at the loss: three times 32 bit in transformers, and the 16-bit ones; see `logits.py`.

    Left out: 14."""
    gathered_slack: float = 0.5
    """The same of weights that are gathered again: they are put together on a stream of their own, whose blocks the
    others can't take at once, and copied out of a buffer.

    Left out: 0.5 to 1."""
    other: float = 0.02
    """Share of all on top, of tensors that are not counted one by one: rotary tables, masks, labels, metrics, the
    step's lists and scalars, temporaries of norms and casts, rounding to 512 bytes and to 2 MiB.

    Left out: 0 to 0.03."""
    held_slack: float = 0.07
    """Reserved on top of what stays: rounding of blocks, and segments that are partly used.

    Left out: 0.07 to 0.15."""
    context_gib: float = 1.3
    """CUDA context, loaded kernels and cuBLAS, outside the allocator, where a driver's figure is asked for.

    Left out: 1.3 to 1.5."""
    exchange_gib: float = 1.0
    """Buffers of NCCL on top, where there are several GPUs.

    Left out: 0 to 1.5."""
    cap_share: float = 0.9
    """Length of the longest batch that was seen, of the cap, where only a cap on the length is known.

    Left out: 0.9 to 1."""


FITTED: Final = Fitted()
