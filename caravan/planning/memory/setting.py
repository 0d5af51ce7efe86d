"""What the memory estimate needs of a training, and the sizes of number types.

Plain values; it knows no plan and no cluster. A field that is None is not known, and takes the commonest habit, which
is named beside it.
"""

import math
from typing import Final, NamedTuple

GIB: Final = 1024**3

ADAPTERS: Final = ("lora", "qlora", "dora")
SHARDED_WEIGHTS: Final = ("zero3", "fsdp", "split")
SHARDED_GRADIENTS: Final = ("zero2", "zero3", "fsdp", "split")
SHARDED_STATES: Final = ("zero1", "zero2", "zero3", "fsdp", "split")
ZERO: Final = ("zero1", "zero2", "zero3")

_BYTES: Final = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0}
_MOST: Final = 1e12
"""No count of a training is larger; more is held to this, so that no product overflows."""


class Setting(NamedTuple):
    """A training, as memory sees it. `parallel`: as `names.parallel_kind` says; batch and length are per GPU."""

    method: str = "full"
    weights_dtype: str = "bf16"
    compute_dtype: str = "bf16"
    quant_bits: int | None = None
    optimizer: str = "adamw"
    micro_batch: int = 1
    seq_len: int = 1024
    lora_rank: int = 8
    lora_targets: tuple[str, ...] = ("q", "v")
    trainable_params: float | None = None
    grad_checkpointing: bool = False
    flash_attention: bool = False
    fused_ce: bool = False
    """The loss is computed with the output matrix in chunks: no logits are ever written out whole."""
    in_place_ce: bool = False
    """Logits are written once, and the loss's gradient over them."""
    gathered_load: bool = False
    """Under FSDP, the checkpoint is loaded by gathering all weights on every GPU."""
    own_adapters: bool = False
    """Adapters are of the base model's type, and may adapt the output matrix, which peft's recipes train whole."""
    narrow: bool = False
    """A quantised model is left in 16 bit where it is not quantised, instead of being cast to 32 bit by peft."""
    master_fp32: bool = False
    gpus: int = 1
    parallel: str = "none"
    quant_type: str | None = None
    """nf4, bnb-nf4, nf4-dq, gptq …; not known: 4-bit blocks with their constants quantised again."""
    grad_accum: int | None = None
    """Micro batches an update; not known: several, as fine-tuning mostly has it."""
    offload: bool = False
    """Optimizer states, and with zero3 and fsdp the weights, live in host memory."""
    compiled: bool = False
    varying: bool = False
    """Batches differ in length (padded to their longest, not packed), which fragments what the allocator reserves."""
    metric: str | None = None
    """What is asked for: allocated, active, reserved, nvml; not known: what the GPU must have (nvml)."""
    texts: int = 1
    """Texts of a sample, each a sequence of its own: an anchor, its positive, perhaps its negative."""
    pooled: bool = False
    """A small head over the model's output is trained: no loss over the vocabulary."""
    image_size: int | None = None
    """Side of an image in pixels, for models of images."""


def width(dtype: str) -> float:
    """Bytes of one number of that type; what is not known counts as 16 bit."""
    return _BYTES.get(dtype, 2.0)


def held(setting: Setting) -> Setting:
    """The setting with its counts inside what can be: at least 1, and never so large that a product overflows."""
    mixed = setting.parallel in ZERO and width(setting.compute_dtype) < width(setting.weights_dtype)
    return setting._replace(
        weights_dtype=setting.compute_dtype if mixed else setting.weights_dtype,  # DeepSpeed casts the model
        micro_batch=_count(setting.micro_batch),
        seq_len=_count(setting.seq_len),
        texts=_count(setting.texts),
        lora_rank=_count(setting.lora_rank),
        gpus=_count(setting.gpus),
        trainable_params=_params(setting.trainable_params),
        image_size=None if setting.image_size is None else min(_count(setting.image_size), 1_000_000),
    )


def tokens(setting: Setting) -> float:
    """Tokens of one micro batch on one GPU."""
    return float(setting.micro_batch) * float(setting.texts) * float(setting.seq_len)


def quantised(setting: Setting) -> bool:
    """Whether the base model's matrices are held in 8 bits or fewer."""
    return setting.quant_bits is not None and 0 < setting.quant_bits <= 8


def adapters(setting: Setting) -> bool:
    """Whether adapters are trained beside frozen weights."""
    return setting.method in ADAPTERS


def _count(number: int) -> int:
    return int(min(max(number, 1), _MOST))


def _params(number: float | None) -> float | None:
    if number is None or math.isnan(number):
        return None
    return min(max(float(number), 0.0), 1e15)
