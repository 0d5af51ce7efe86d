"""Numbers and devices: which process writes, the precision of the arithmetic, what transformers is told of both."""

import argparse
import os
from typing import Any

from shared.parallel import parallel_arguments, world


def is_main() -> bool:
    """Whether this process is the one that writes and prints, as torchrun and accelerate number them."""
    return os.environ.get("RANK", "0") == "0"


def precision(asked: str) -> str:
    """bf16 where the GPU has it, fp16 on older ones, fp32 without any; or what was asked for."""
    import torch

    if asked != "auto":
        return asked
    if not torch.cuda.is_available():
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def dtype_of(name: str) -> Any:
    """The torch dtype of a precision."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def device_arguments(args: argparse.Namespace, numbers: str) -> dict[str, Any]:
    """What transformers' training arguments are told of devices. `numbers` is the precision, none of them `auto`."""
    import torch

    gpu = torch.cuda.is_available()
    spread = parallel_arguments(args.fsdp, args.deepspeed, args.grad_checkpointing)
    return {
        "bf16": numbers == "bf16",
        "fp16": numbers == "fp16",
        "use_cpu": not gpu,
        "dataloader_pin_memory": gpu,
        "dataloader_num_workers": args.num_workers,
        "ddp_find_unused_parameters": False if world() > 1 else None,
        "gradient_checkpointing": args.grad_checkpointing and "fsdp" not in spread,  # FSDP then does it by itself
        **spread,
    }


def gpu_peak() -> dict[str, float]:
    """The most memory that this process held on its GPU so far, in GiB; empty without one."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"gpu_peak_gib": round(torch.cuda.max_memory_reserved() / 2**30, 3)}
