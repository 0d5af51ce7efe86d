"""What libraries change of a training's memory, by the words with which they are named.

Facts of the libraries, each from its own code: Liger and cut-cross-entropy never write all logits; Unsloth's and
fms-acceleration's fused operations ("foak") and the cross-entropy of flash-attn and apex keep the logits once and
write the gradient over them. Unsloth and fms-acceleration's loaders leave a quantised model in 16 bit,
instead of having peft cast what is not quantised to 32 bit. Lightning's Fabric, and litgpt with it, loads a checkpoint
under FSDP by gathering all weights on every GPU (`load_raw`). torchtune
and litgpt have LoRA layers of their own, whose adapters are of the model's type.
"""

import re
from typing import Final, NamedTuple


class Kernels(NamedTuple):
    """What the libraries do; the fields are those of `Setting`."""

    fused_ce: bool = False
    in_place_ce: bool = False
    narrow: bool = False
    gathered_load: bool = False
    own_adapters: bool = False


_ON: Final = r"(?!\w*['\"]?\s*[=:]\s*['\"]?(?:false|0|no|none|off)\b)"
_CHUNKED: Final = re.compile(
    r"(?<![a-z])(?:liger|cut[-_ ]?cross[-_ ]?entropy|fused[-_ ]?linear[-_ ]?cross[-_ ]?entropy)" + _ON
)
_IN_PLACE: Final = re.compile(
    r"(?<![a-z])(?:unsloth|foak\b|fast[-_ ]?kernels|fused[-_ ]?ops[-_ ]?and[-_ ]?kernels"
    r"|(?:flash|flash[-_ ]?attn|apex|triton|fast)[-_ ]?(?:x|cross[-_ ]?)entropy)" + _ON
)
_NARROW: Final = re.compile(r"(?<![a-z])(?:unsloth|foak\b|fast[-_ ]?kernels|accelerated[-_ ]?peft)" + _ON)
_GATHERS: Final = re.compile(r"(?<![a-z_])(?:lit-?gpt|lightning[-_ .]fabric)(?!\w*\.py|[- ]model)" + _ON)
_OWN: Final = re.compile(r"(?<![a-z_])(?:torchtune|lit-?gpt)(?!\w*\.py|[- ]model)" + _ON)
_OFF: Final = re.compile(r"\b(?:no|not|without|w/o)[-_ ]+(?:\w+[-_ ]+)?$")


def kernels_named(words: str) -> Kernels:
    """What the libraries named in `words` change; a name after "no" or "without", or that is set to false, is not."""
    plain = words.lower()
    return Kernels(
        _names(_CHUNKED, plain),
        _names(_IN_PLACE, plain),
        _names(_NARROW, plain),
        _names(_GATHERS, plain),
        _names(_OWN, plain),
    )


def _names(pattern: re.Pattern[str], words: str) -> bool:
    return any(not _OFF.search(words[: found.start()]) for found in pattern.finditer(words))
