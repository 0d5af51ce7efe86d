"""What lies between the tensors and what the GPU must have: the allocator's reserve and the CUDA context.

A figure of torch's `max_memory_allocated` has none of it, `max_memory_reserved` has the allocator's slack, and what
the driver shows (nvidia-smi, NVML) also the CUDA context with its loaded kernels and communication buffers. Sources:
torch's notes on CUDA semantics (caching allocator: blocks of 512 bytes, segments of 2 and 20 MiB, larger ones rounded
to 2 MiB); the fitted shares are in `constants.py`.
"""

from typing import Final, NamedTuple

from caravan.planning.memory.constants import FITTED, Fitted
from caravan.planning.memory.setting import GIB, Setting

_WORKSPACE_GIB: Final = 0.03
"""cuBLAS's workspace, which torch allocates itself: 8 MiB a stream, 32 MiB on Hopper."""
_INSIDE: Final = ("allocated", "active")


class Sizes(NamedTuple):
    """Bytes that stay (weights, states), pass (activations), are logits, and are gathered from other GPUs."""

    staying: float = 0.0
    passing: float = 0.0
    logits: float = 0.0
    gathered: float = 0.0


def runtime_gib(setting: Setting, sizes: Sizes, fitted: Fitted = FITTED) -> dict[str, float]:
    """Named parts in GiB on top of these bytes."""
    if setting.metric in _INSIDE:
        return {"workspace": _WORKSPACE_GIB}
    # What is reserved and free is given back when memory is short: it is seen, but it is no need.
    seen = setting.varying and setting.metric is not None
    slack = fitted.held_slack * sizes.staying + fitted.slack * sizes.passing + fitted.logits_slack * sizes.logits
    slack += fitted.gathered_slack * sizes.gathered
    if seen:  # logits of another length go where activations were, as far as they fit there
        slack += max(0.0, fitted.varying_slack * sizes.logits - sizes.passing)
    slack /= GIB
    if setting.metric == "reserved":
        return {"allocator slack": slack + _WORKSPACE_GIB}
    context = fitted.context_gib + (fitted.exchange_gib if setting.gpus > 1 else 0.0)
    return {"allocator slack": slack + _WORKSPACE_GIB, "CUDA context": context}
