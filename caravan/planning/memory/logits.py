"""The way from the last block to the loss: logits, their 32-bit copies, the loss's gradients.

Sources: transformers' causal language models keep the logits as the output matrix gave them (2 bytes), cast them to
32 bit (4), shift them, which is a copy (4), and cross-entropy keeps the logarithm of the softmax (4): 14 bytes a logit
at the end of the forward pass, which measured steps of growing batches show too; the backward pass has no more. Kernels
that write the gradient over the logits keep 2 + 4 and the gradient of the first (2). A fused loss (Liger) works in as
many chunks as the vocabulary is wider than the stream: a chunk's logits are about as large as the hidden states.
"""

import math
from typing import Final

from caravan.planning.memory.constants import FITTED, Fitted
from caravan.planning.memory.setting import Setting, tokens, width
from caravan.planning.memory.weights import prepared
from caravan.values.shape import Family, ModelShape

_LAST_HIDDEN: Final = 8.0
"""Bytes for each number of the last hidden state: in 32 bit for the last norm, its output, and their gradients."""
_FUSED: Final = 8.0
"""Bytes for each logit of a chunk: in 16 and in 32 bit, and the gradient in place."""
_IN_PLACE: Final = 8.0
"""Bytes for each logit where the gradient is written over it: in 16 and 32 bit, and the gradient in 16 bit."""
_WIDER: Final = 2.0
"""More where the output matrix is in 32 bit, and the logits with it."""
_COMPILED: Final = 2.0
"""Less where a model is compiled: the cast to 32 bit is one kernel with what follows."""
_WITHOUT: Final = (Family.ENCODER, Family.VIT, Family.CNN, Family.DIT, Family.UVIT, Family.UNET, Family.DUAL)
"""Families that are trained with a small head rather than over a vocabulary."""


def logits_bytes(shape: ModelShape, setting: Setting, fitted: Fitted = FITTED) -> float:
    """Bytes between the last block and the loss, of one micro batch."""
    count = tokens(setting)
    last = _LAST_HIDDEN * shape.hidden * count
    if shape.family in _WITHOUT or setting.pooled or not shape.vocab:
        return last
    each = _IN_PLACE if setting.in_place_ce else _eager(setting, fitted)
    whole = each * shape.vocab * count
    if not setting.fused_ce:
        return whole + last
    chunk = count / math.ceil(shape.vocab / shape.hidden) * shape.vocab * _FUSED
    return min(whole, chunk + width(setting.compute_dtype) * shape.hidden * count) + last


def _eager(setting: Setting, fitted: Fitted) -> float:
    """Bytes for each logit where the loss is computed one operation after the other."""
    wider = _WIDER if prepared(setting) else 0.0
    return fitted.each_logit + wider - (_COMPILED if setting.compiled else 0.0)
