"""Activations of models of images: convolutional detectors, vision and diffusion transformers, U-Nets.

Coarser than for language models, by parameters, image side and batch. Sources: the same count of a block's kept
tensors as for language models on the tokens that an image is cut into (patches of 16 pixels; diffusion in a latent
space of an eighth of the side, patches of 2); for convolutions the feature maps of a ResNet-50, about 110 numbers for
each pixel (He et al. 2015, arXiv 1512.03385, table 1), kept twice (convolution and norm), and growing with the
parameters.
"""

import math
from typing import Final

from caravan.planning.memory.setting import Setting, width
from caravan.values.shape import Family, ModelShape

FOR_IMAGES: Final = (Family.CNN, Family.DIT, Family.UVIT, Family.UNET, Family.VIT)

_SIDE: Final = {Family.CNN: 800, Family.DIT: 1024, Family.UVIT: 256, Family.UNET: 512, Family.VIT: 224}
"""Side of an image where none is given: what such models are usually trained with."""
_PIXELS_A_TOKEN: Final = 16
_KEPT: Final = 34.0
"""Bytes for each number of a block's stream in 16 bit: Korthikanti et al. 2022 (arXiv 2205.05198), section 4."""
_MAPS: Final = 300.0
"""Numbers for each pixel that a ResNet-50 keeps, with a detector's pyramid and heads on top."""
_LATENT: Final = (Family.DIT, Family.UVIT, Family.UNET)
"""Models that are trained on what a frozen autoencoder makes of an image, and on a text's tokens."""
_CODED: Final = 3500.0
"""Bytes for each pixel while the autoencoder codes it: some maps of 128 channels at full size in 32 bit."""
_WORDS: Final = 256.0
"""Tokens of a caption: 77 for CLIP's encoder, 512 for T5's."""
_RESNET50: Final = 0.0256
_ASPECT: Final = 0.6
"""Of a detector's longest side, the share that the shorter one has (800 of 1333 pixels)."""


def image_side(setting: Setting, shape: ModelShape) -> int:
    """Side of an image in pixels: as the setting says, else what models of the family are usually trained with."""
    return setting.image_size or _SIDE[shape.family]


def average_bytes(shape: ModelShape, setting: Setting) -> float:
    """The running average of the weights in 32 bit, which fully trained diffusion models usually keep."""
    trains_all = setting.method == "full"
    return shape.params_b * 4e9 if trains_all and shape.family in (Family.UVIT, Family.UNET) else 0.0


def image_activation_bytes(shape: ModelShape, setting: Setting) -> float:
    """Bytes kept of one micro batch of images."""
    side = float(image_side(setting, shape))
    each = width(setting.compute_dtype)
    if shape.family is Family.CNN:
        grown = math.sqrt(max(0.25, shape.params_b / _RESNET50))
        pixels = float(setting.micro_batch) * side * side * _ASPECT
        return pixels * _MAPS * grown * each
    count = setting.micro_batch * (side / (shape.patch_size or _PIXELS_A_TOKEN)) ** 2
    count += setting.micro_batch * (_WORDS if shape.family in _LATENT else 0.0)
    coded = setting.micro_batch * side * side * _CODED if shape.family in _LATENT else 0.0
    block = count * shape.hidden * _KEPT * each / 2
    if not setting.grad_checkpointing:
        return max(coded, shape.layers * block)
    return max(coded, min(shape.layers * block, shape.layers * count * shape.hidden * each + block))
