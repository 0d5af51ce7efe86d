"""The textbook formula for GPU memory: weights, gradients, optimizer states, activations, logits, CUDA context.

Pure arithmetic on a model's shape and a training's settings; it knows no plan and no cluster. Sources:

- states: Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054), section 3.1: for Adam two states a parameter, a
  gradient a parameter; sharding over N GPUs divides the sharded parts by N (ZeRO-2: gradients and states; ZeRO-3 and
  FSDP: weights too);
- activations of a layer: Korthikanti et al. 2022 (arXiv 2205.05198), section 4: s·b·h·(34 + 5·a·s/h) bytes in 16 bit;
  without the 5·a·s/h term when attention is computed blockwise; with full checkpointing 2·s·b·h a layer and one
  layer's activations at a time;
- low-rank adapters: Hu et al. 2021 (arXiv 2106.09685): r·(d_in + d_out) parameters for each adapted matrix;
- 4-bit weights: Dettmers et al. 2023 (arXiv 2305.14314): 0.5 byte and 4/64 byte of block constants a parameter; the
  embedding and the output matrix stay in 16 bit.
"""

from typing import Final, NamedTuple

from caravan.planning.shapes import Shape
from caravan.values.estimate import MemoryPart

GIB: Final = 1024**3
CONTEXT_GIB: Final = 0.5
"""CUDA context and cuBLAS workspaces: 0.3 to 0.8 GiB on recent types; the middle."""
FRAGMENTATION: Final = 0.03
"""What the caching allocator holds on top, as a share of the rest."""

_BYTES: Final = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0}
_STATES: Final = {
    "adamw": 8.0,
    "adam": 8.0,
    "paged_adamw": 8.0,
    "adamw8bit": 2.0,
    "paged_adamw8bit": 2.0,
    "sgd": 0.0,
    "sgd_momentum": 4.0,
    "lion": 4.0,
    "adafactor": 0.1,
}
"""Bytes of optimizer state for each trained parameter in fp32."""


class Setting(NamedTuple):
    """What the formula needs of a training. `parallel`: none, ddp, zero2, zero3 or fsdp."""

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
    master_fp32: bool = False
    gpus: int = 1
    parallel: str = "none"


def memory_parts(shape: Shape, setting: Setting) -> tuple[MemoryPart, ...]:
    """The parts of the peak memory of one GPU, in GiB; their sum is the estimate."""
    trained = trained_params(shape, setting)
    sharded_weights = setting.gpus if setting.parallel in ("zero3", "fsdp") else 1
    sharded_states = setting.gpus if setting.parallel in ("zero2", "zero3", "fsdp") else 1
    parts = {
        "weights": _weights_bytes(shape, setting) / sharded_weights,
        "adapter": 0.0 if setting.method == "full" else trained * 4,
        "gradients": trained * _gradient_bytes(setting) / sharded_states,
        "optimizer states": trained * _state_bytes(setting) / sharded_states,
        "activations": _activation_bytes(shape, setting),
        "logits": _logit_bytes(shape, setting),
    }
    in_gib = {name: size / GIB for name, size in parts.items() if size > 0}
    in_gib["allocator slack"] = FRAGMENTATION * sum(in_gib.values())
    in_gib["CUDA context"] = CONTEXT_GIB
    return tuple(MemoryPart(name=name, gib=round(size, 4)) for name, size in in_gib.items())


def trained_params(shape: Shape, setting: Setting) -> float:
    """How many parameters are trained: all, or those of the adapters."""
    if setting.trainable_params is not None:
        return setting.trainable_params
    if setting.method not in ("lora", "qlora", "dora"):
        return shape.params_b * 1e9
    head = shape.hidden // shape.heads
    out = {
        "q": shape.heads * head,
        "k": shape.kv_heads * head,
        "v": shape.kv_heads * head,
        "o": shape.hidden,
        "gate": shape.intermediate,
        "up": shape.intermediate,
        "down": shape.hidden,
    }
    wide = {"down": shape.intermediate, "o": shape.heads * head}
    targets = out if "all" in setting.lora_targets else {t: out[t] for t in setting.lora_targets if t in out}
    if not shape.gated:
        targets = {t: n for t, n in targets.items() if t != "gate"}
    return float(shape.layers * setting.lora_rank * sum(wide.get(t, shape.hidden) + n for t, n in targets.items()))


def _weights_bytes(shape: Shape, setting: Setting) -> float:
    params = shape.params_b * 1e9
    if setting.quant_bits not in (4, 8):
        return params * _BYTES.get(setting.weights_dtype, 2.0)
    outside = min(params, 2.0 * shape.vocab * shape.hidden)
    each = 0.5 + 4 / 64 if setting.quant_bits == 4 else 1.0
    return outside * 2 + (params - outside) * each


def _gradient_bytes(setting: Setting) -> float:
    return _BYTES.get(setting.weights_dtype, 2.0) if setting.method not in ("lora", "qlora", "dora") else 4.0


def _state_bytes(setting: Setting) -> float:
    states = _STATES.get(setting.optimizer, 8.0)
    adapter = setting.method in ("lora", "qlora", "dora")
    if not adapter and setting.weights_dtype in ("bf16", "fp16") and not setting.master_fp32:
        states /= 2 if states in (8.0, 4.0) else 1  # torch keeps Adam's states in the parameters' own type
    return states + (4.0 if setting.master_fp32 else 0.0)


def _activation_bytes(shape: Shape, setting: Setting) -> float:
    tokens = setting.micro_batch * setting.seq_len
    width = _BYTES.get(setting.compute_dtype, 2.0) / 2
    scores = 0.0 if setting.flash_attention else 5 * shape.heads * setting.seq_len / shape.hidden
    layer = tokens * shape.hidden * (34 + scores) * width
    if setting.grad_checkpointing:
        return shape.layers * tokens * shape.hidden * 2 * width + layer
    return shape.layers * layer


def _logit_bytes(shape: Shape, setting: Setting) -> float:
    if setting.fused_ce:
        return 0.0
    each = _BYTES.get(setting.compute_dtype, 2.0) + 8  # logits, their fp32 copy and its gradient
    return setting.micro_batch * setting.seq_len * shape.vocab * each
