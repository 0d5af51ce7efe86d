"""Spreading a model over several GPUs: what transformers is told for `--fsdp` and `--deepspeed`. Plain data.

Both need one process for each GPU, as torchrun and accelerate start them. Blocks of the model are sharded one by one,
as the model itself names them; what is saved is whole, so that one process can load it.
"""

import os
from copy import deepcopy
from typing import Any

from shared.refusals import Refused, note

FSDP: dict[str, dict[str, Any]] = {
    "full_shard": {"reshard_after_forward": True},  # weights, gradients and optimiser states: the least memory
    "shard_grad_op": {"reshard_after_forward": False},  # weights stay whole from forward to backward: faster
    "full_shard_offload": {"reshard_after_forward": True, "cpu_offload": True},  # and they rest in host memory
}
_OF_ALL_FSDP: dict[str, Any] = {
    "version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "state_dict_type": "FULL_STATE_DICT",
}

_HOST = {"device": "cpu", "pin_memory": True}
DEEPSPEED: dict[str, dict[str, Any]] = {
    "zero2": {"stage": 2},  # gradients and optimiser states
    "zero3": {"stage": 3},  # weights too
    "zero2_offload": {"stage": 2, "offload_optimizer": _HOST},
    "zero3_offload": {"stage": 3, "offload_optimizer": _HOST, "offload_param": _HOST},
}
_OF_ALL_ZERO: dict[str, Any] = {
    "overlap_comm": True,
    "contiguous_gradients": True,
    "reduce_bucket_size": "auto",
}
_OF_ZERO3: dict[str, Any] = {
    "stage3_prefetch_bucket_size": "auto",
    "stage3_param_persistence_threshold": "auto",
    "stage3_gather_16bit_weights_on_model_save": True,
}
_OF_ALL_DEEPSPEED: dict[str, Any] = {
    "bf16": {"enabled": "auto"},
    "fp16": {"enabled": "auto"},
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    # torch's optimiser, by transformers: DeepSpeed's own would be compiled in the job, which needs a CUDA compiler
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "steps_per_print": 1_000_000_000,
    "wall_clock_breakdown": False,
}


def world() -> int:
    """How many processes train together, as their launcher says it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def fsdp_config(name: str, checkpointing: bool = False) -> dict[str, Any]:
    """What transformers takes as `fsdp_config`. Activations are then recomputed by FSDP itself, which gathers once."""
    more = {"activation_checkpointing": True} if checkpointing else {}
    return {**_OF_ALL_FSDP, **FSDP[name], **more}


def deepspeed_config(name: str) -> dict[str, Any]:
    """A DeepSpeed configuration. Every `auto` is filled in by transformers from the training's own options."""
    zero = deepcopy(DEEPSPEED[name])
    more = _OF_ZERO3 if zero["stage"] == 3 else {"allgather_bucket_size": 500_000_000}
    return {**deepcopy(_OF_ALL_DEEPSPEED), "zero_optimization": {**zero, **_OF_ALL_ZERO, **more}}


def parallel_arguments(fsdp: str = "off", deepspeed: str = "off", checkpointing: bool = False) -> dict[str, Any]:
    """The arguments of `TrainingArguments` that spread a model; none for `off`, and none for one process.

    Raises Refused for both at once, and for DeepSpeed where it is not installed.
    """
    if fsdp != "off" and deepspeed != "off":
        raise Refused("options", "--fsdp and --deepspeed shard the same weights: give one of them")
    if fsdp == "off" and deepspeed == "off":
        return {}
    if world() == 1:
        note("one process has nobody to share weights with: they are kept whole")
        return {}
    if fsdp != "off":
        return {"fsdp": True, "fsdp_config": fsdp_config(fsdp, checkpointing), **_talk(fsdp)}
    _check_deepspeed()
    return {"deepspeed": deepspeed_config(deepspeed)}


def _talk(name: str) -> dict[str, Any]:
    """By what processes talk: what rests in host memory (the norm of its gradients) goes by gloo, the rest by NCCL."""
    return {"ddp_backend": "cuda:nccl,cpu:gloo"} if "cpu_offload" in FSDP[name] else {}


def blocks_to_shard(model: Any) -> list[str]:
    """The names of the classes that are sharded one by one: the model's repeated blocks.

    A model also names what holds its input embedding (`BertEmbeddings`), which must be kept whole on one device;
    accelerate shards the embedding by itself, and what lies in a sharded part already can't be sharded again.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    named = set(getattr(base, "_no_split_modules", None) or ())
    embedding = base.get_input_embeddings() if hasattr(base, "get_input_embeddings") else None
    holding = {type(m).__name__ for m in base.modules() if any(inner is embedding for inner in m.modules())}
    return sorted(named - holding)


def by_blocks(arguments: dict[str, Any], model: Any) -> dict[str, Any]:
    """The arguments of `parallel_arguments` for this model: FSDP is told the classes of its blocks."""
    if "fsdp_config" not in arguments:
        return arguments
    classes = blocks_to_shard(model)
    more = {"transformer_layer_cls_to_wrap": classes} if classes else {}
    return {**arguments, "fsdp_config": {**arguments["fsdp_config"], **more}}


def _check_deepspeed() -> None:
    from importlib.util import find_spec

    if find_spec("deepspeed") is None:
        raise Refused("options", "--deepspeed needs the package deepspeed, which is not installed")
