"""What spreading a training over GPUs takes and saves: shards, what is gathered again, buckets for the exchange.

Sources: Rajbhandari et al. 2020 (arXiv 1910.02054), section 3; DeepSpeed's ZeRO documentation (buckets of 5e8 numbers
by default, one more while one is sent; at most 1e9 gathered parameters live); torch's FullyShardedDataParallel: the
root unit (embedding, last norm, output matrix) stays gathered from the forward pass on, and one block is gathered ahead
of the one that is computed; torch's DistributedDataParallel: buckets as large as all gradients together.
"""

from typing import Final, NamedTuple

from caravan.planning.memory.setting import SHARDED_WEIGHTS, Setting, adapters, quantised, width
from caravan.planning.memory.trained import Trained
from caravan.planning.memory.weights import parts_of, quantised_width, weights_bytes
from caravan.values.shape import ModelShape

_BUCKET: Final = 5e8
_BUCKETS: Final = 2
_AHEAD: Final = 2
"""Blocks gathered at once: the one that is computed and the next."""


class Spread(NamedTuple):
    """Bytes on one GPU: its share of the weights, gathered weights of others, buckets, whole gradients of a block."""

    weights: float
    gathered: float
    buckets: float
    whole_gradients: float


def spread(shape: ModelShape, setting: Setting, trained: Trained) -> Spread:
    """The base model's weights as they lie on one GPU, and what the exchange with the others takes."""
    whole = weights_bytes(shape, setting)
    if setting.parallel in SHARDED_WEIGHTS:
        share = 0.0 if setting.offload else whole / setting.gpus
        gathered, gradients = _gathered(shape, setting, whole)
        bucket = _buckets(setting, whole) if setting.parallel == "zero3" else 0.0
        return Spread(share, gathered, bucket, gradients)
    if setting.parallel in ("zero1", "zero2"):
        return Spread(whole, 0.0, _buckets(setting, whole), 0.0)
    if setting.parallel == "ddp" and setting.gpus > 1:
        return Spread(whole, 0.0, trained.gradients, 0.0)
    return Spread(whole, 0.0, 0.0, 0.0)


def _gathered(shape: ModelShape, setting: Setting, whole: float) -> tuple[float, float]:
    """Gathered weights, and a block's gradients before they are spread."""
    where, each = parts_of(shape), width(setting.compute_dtype)
    block = where.block * (quantised_width(setting) if quantised(setting) else each)
    if setting.parallel == "fsdp":
        gathered = (where.embedding + where.head) * each + _AHEAD * block
    else:
        gathered = max(where.embedding * each, _AHEAD * block)
    if setting.parallel == "split" or (setting.gpus == 1 and setting.parallel == "fsdp"):
        return 0.0, 0.0  # nothing is put together again
    gathered = min(gathered, whole / 2)
    frozen = adapters(setting) or setting.method == "freeze"
    return gathered, 0.0 if frozen or setting.gpus == 1 else min(block, whole / 2)


def _buckets(setting: Setting, whole: float) -> float:
    count = _BUCKETS if setting.parallel == "zero3" else 1  # overlap_comm is on by default in stage 3 only
    return min(count * _BUCKET * width(setting.compute_dtype), whole / 2)
