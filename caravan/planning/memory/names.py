"""Kinds of methods, optimizers and ways of spreading, by the names that trainers and people have for them."""

import re
from typing import Final

_OPTIMIZERS: Final = ("adafactor", "lion", "galore", "apollo", "muon", "lomo", "lamb")
_LIKE_LORA: Final = ("adalora", "rslora", "pissa", "loha", "lokr", "lora_plus", "lora+", "olora", "vera", "longlora")
_FEW: Final = ("prompt", "prefix", "p_tuning", "ptuning", "ia3", "bitfit", "freeze", "layernorm", "linear_probe")
"""Methods that train next to nothing beside a frozen model."""
_SPLIT: Final = ("tp", "pp", "mp", "tensor", "pipeline", "megatron", "device_map", "naive")
_STAGE: Final = re.compile(r"zero[-_ ]?(?:stage)?[-_ ]?([123])")


def optimizer_kind(name: str | None) -> str:
    """The kind of an optimizer that a trainer names (`paged_adamw_8bit`, `adamw_torch_fused`)."""
    plain = (name or "adamw").lower().replace("-", "_")
    found = next((kind for kind in _OPTIMIZERS if kind in plain), None)
    if found is None and "sgd" in plain:
        found = "sgd_momentum" if "momentum" in plain else "sgd"
    if found is None:
        found = "adamw_fused" if "fused" in plain else "adamw"
    bits = next((b for b in ("8bit", "4bit") if b in plain or b.replace("b", "_b") in plain), "")
    return ("paged_" if "paged" in plain else "") + (found.removesuffix("_fused") + bits if bits else found)


def method_kind(name: str | None) -> str:
    """full, lora, qlora, dora or freeze."""
    plain = (name or "full").lower().replace("-", "_")
    if plain in ("full", "lora", "qlora", "dora", "freeze"):
        return plain
    if any(word in plain for word in _FEW):
        return "freeze"
    if "qlora" in plain or "dora" in plain:
        return "qlora" if "qlora" in plain else "dora"
    return "lora" if "lora" in plain or plain in _LIKE_LORA else "full"


def parallel_kind(name: str | None) -> str:
    """none, ddp, zero1, zero2, zero3, fsdp, or split: each GPU holds its own layers, or slices of all."""
    plain = (name or "none").lower()
    stage = _STAGE.search(plain)
    if stage:
        return f"zero{stage[1]}"
    if "fsdp" in plain or "hsdp" in plain:
        return "fsdp"
    if "ddp" in plain or plain in ("dp", "data"):
        return "ddp"
    return "split" if any(plain == word or (len(word) > 2 and word in plain) for word in _SPLIT) else "none"
