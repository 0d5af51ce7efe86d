"""Signs that nothing failed: a run that ended well, or that went on after all that frightened in its log. Only data.

They hold only where no end is known that speaks against them. What came to its end lived through its warnings; what
only goes on falls to every other cause.
"""

from typing import Final

from caravan.diagnosis.looks import ended_well, goes_on
from caravan.diagnosis.sign import ENDED_BADLY, Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG

# What a warning may speak of.
_WARNED: Final = (
    *(_F.CUDA_DRIVER_TOO_OLD, _F.CUDA_DEVICE_UNAVAILABLE, _F.TORCH_BUILD_MISMATCH, _F.BITSANDBYTES_SETUP, _F.CUDA_OOM),
    *(_F.FLASH_ATTN_UNUSABLE, _F.NCCL_ERROR, _F.NCCL_TIMEOUT, _F.RENDEZVOUS_UNREACHABLE, _F.NUMERIC_DIVERGENCE),
    *(
        _F.PROCESS_HANG,
        _F.PACKAGE_VERSION_CONFLICT,
        _F.CHECKPOINT_UNUSABLE,
        _F.NETWORK_UNREACHABLE,
        _F.HUB_RATE_LIMITED,
    ),
    *(_F.BUILD_TOOLCHAIN_MISSING, _F.MISSING_PYTHON_PACKAGE, _F.WANDB_LOGIN_MISSING, _F.GPU_NODE_BROKEN),
)

HEALTHY_SIGNS: Final[tuple[Sign, ...]] = (
    row(ended_well, _LOG, _F.NO_FAILURE, 0.8, *_WARNED, unless=ENDED_BADLY),
    row(goes_on, _LOG, _F.NO_FAILURE, 0.6, unless=ENDED_BADLY),
)
