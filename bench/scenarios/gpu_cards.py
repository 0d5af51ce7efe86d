"""Cards, drivers and builds that do not serve a training, played: too old, not seen, too few, held, broken."""

from typing import Final

from bench.scenario import Expected
from bench.scenarios.stand_in import gpu_node
from bench.scenarios.stand_in_trainers import filled, hf, own, played
from caravan.values.failure import FailureClass

_F: Final = FailureClass
_4090: Final = gpu_node("desk", "NVIDIA GeForce RTX 4090", 24564)
_T4: Final = gpu_node("old", "Tesla T4", 15360)
_V100: Final = gpu_node("older", "Tesla V100-SXM2-16GB", 16384)
_A10: Final = gpu_node("newer", "NVIDIA A10", 23028)
_TWO: Final = (
    gpu_node("node-a", "NVIDIA GeForce RTX 4090", 24564),
    gpu_node("node-b", "NVIDIA GeForce RTX 4090", 24564),
)
_SMALL: Final = "python train.py --per_device_train_batch_size 4"
_FIXED_BF16: Final = own(batch=2, depth=12, dim=768, length=512).replace(
    "    card = runtime.start()\n", "    card = runtime.start()\n    runtime.wants_bf16(card)\n"
)
_GPUS_OPTION: Final = own(
    batch=2, depth=12, dim=768, length=512, options='\n    p.add_argument("--gpus", type=int, default=1)'
).replace(
    "    card = runtime.start()\n",
    "    for number in range(args.gpus):\n        card = runtime.start(number)\n",
)
_OLD_DRIVER: Final = gpu_node(
    "cellar", "NVIDIA GeForce RTX 3090", 24576, attributes={"driver.nvidia.version": "470.82.01"}
)
_NEW_DRIVER: Final = gpu_node("loft", "NVIDIA GeForce RTX 3090", 24576)
_BNB: Final = hf(
    "gpt2-medium", batch=2, options='\n    parser.add_argument("--load_in_8bit", action="store_true")', start="@BNB@"
)


def _with_bnb() -> str:
    call = '\n    if "bnb" in args.optim or args.load_in_8bit:\n        runtime.wants_bitsandbytes()'
    return filled(_BNB, {"BNB": call})


WHEELS: Final = {
    "torch==1.13.1": {"torch/__init__.py": '__version__ = "1.13.1+cu117"\n'},
    "torch==2.4.1": {"torch/__init__.py": '__version__ = "2.4.1+cu121"\n'},
    "torch==2.7.1": {"torch/__init__.py": '__version__ = "2.7.1+cu128"\n'},
    "bitsandbytes==0.41.1": {"bitsandbytes/__init__.py": '__version__ = "0.41.1"\n'},
    "bitsandbytes==0.43.3": {"bitsandbytes/__init__.py": '__version__ = "0.43.3"\n'},
}
"""Stand-ins that `pip` finds: only their versions are of interest."""

SCENARIOS: Final = (
    played(
        "bf16-volta",
        hf("gpt2", batch=4),
        "python train.py --bf16 --per_device_train_batch_size 4",
        _V100,
        failure=_F.BF16_UNSUPPORTED,
        changed=("training.precision",),
    ),
    played(
        "bf16-in-the-code",
        _FIXED_BF16,
        "python train.py",
        _T4,
        _A10,
        failure=_F.BF16_UNSUPPORTED,
        changed=("resources.gpu_model", "exclude_nodes"),
    ),
    played(
        "flash-not-installed",
        hf("gpt2", batch=4, attention="flash_attention_2", flash=False),
        _SMALL,
        _4090,
        failure=_F.FLASH_ATTN_UNUSABLE,
        changed=("training.attn",),
    ),
    played(
        "flash-turing",
        hf("gpt2", batch=4, attention="flash_attention_2"),
        f"{_SMALL} --fp16",
        _T4,
        failure=_F.FLASH_ATTN_UNUSABLE,
        changed=("training.attn",),
    ),
    played(
        "driver-too-old-other-node",
        hf("gpt2", batch=2),
        _SMALL,
        _OLD_DRIVER,
        _NEW_DRIVER,
        failure=_F.CUDA_DRIVER_TOO_OLD,
        changed=("exclude_nodes", "retry_elsewhere", "resources.gpu_driver", "affinities"),
    ),
    played(
        "driver-too-old-other-torch",
        hf("gpt2", batch=2),
        _SMALL,
        _OLD_DRIVER,
        failure=_F.CUDA_DRIVER_TOO_OLD,
        files={"requirements.txt": "torch\n"},
        changed=("setup",),
    ),
    played(
        "no-gpu-asked-for",
        hf("gpt2", batch=2),
        _SMALL,
        _4090,
        failure=_F.CUDA_DEVICE_UNAVAILABLE,
        changed=("resources.gpus",),
        sets=("resources.gpus=0",),
        expected=Expected.ESCALATED,
    ),
    played(
        "cards-of-another-machine",
        hf("gpt2", batch=2),
        _SMALL,
        _4090,
        failure=_F.CUDA_DEVICE_UNAVAILABLE,
        also=(_F.GPU_COUNT_MISMATCH,),
        sets=("env.CUDA_VISIBLE_DEVICES=2,3",),
        expected=Expected.ESCALATED,  # a person set it
    ),
    played(
        "more-cards-than-given",
        _GPUS_OPTION,
        "python train.py --gpus 2",
        gpu_node("pair", "NVIDIA GeForce RTX 4090", 24564, 2),
        failure=_F.GPU_COUNT_MISMATCH,
        changed=("resources.gpus", "training.options", "flags", "command"),
        sets=("resources.gpus=1",),
    ),
    played(
        "held-by-another",
        hf("gpt2-large", batch=4),
        f"{_SMALL} --bf16",
        *_TWO,
        facts={"node-a": {"held_mib": 22900}},
        failure=_F.GPU_MEMORY_CONTENDED,
        changed=("retry_elsewhere", "exclude_nodes", "affinities"),
        also=(_F.CUDA_OOM,),
    ),
    played(
        "ecc-node",
        hf("gpt2", batch=2),
        _SMALL,
        *_TWO,
        facts={"node-a": {"broken": "ecc"}},
        failure=_F.GPU_NODE_BROKEN,
        changed=("retry_elsewhere", "exclude_nodes", "affinities"),
    ),
    played(
        "xid-node",
        hf("gpt2", batch=2),
        _SMALL,
        *_TWO,
        facts={"node-b": {"broken": "xid"}, "node-a": {"broken": "xid"}},
        failure=_F.GPU_NODE_BROKEN,
        expected=Expected.ESCALATED,
        changed=("retry_elsewhere",),
    ),
    played(
        "broken-alone",
        hf("gpt2", batch=2),
        _SMALL,
        _4090,
        facts={"desk": {"broken": "unknown"}},
        failure=_F.GPU_NODE_BROKEN,
        expected=Expected.ESCALATED,
    ),
    played(
        "bitsandbytes-old",
        _with_bnb(),
        f"{_SMALL} --optim adamw_bnb_8bit",
        _4090,
        failure=_F.BITSANDBYTES_SETUP,
        files={"requirements.txt": "bitsandbytes==0.41.1\n"},
        changed=("setup", "training.optimizer"),
    ),
    played(
        "torch-of-the-cpu",
        hf("gpt2", batch=2),
        _SMALL,
        _4090,
        torch="2.4.1+cpu",
        failure=_F.TORCH_BUILD_MISMATCH,
        expected=Expected.ESCALATED,
    ),
    played(
        "torch-older-than-the-card",
        hf("gpt2", batch=2),
        _SMALL,
        gpu_node("blackwell", "NVIDIA GeForce RTX 5090", 32607),
        failure=_F.TORCH_BUILD_MISMATCH,
        files={"requirements.txt": "torch==2.4.1\n"},
        changed=("setup",),
    ),
)
