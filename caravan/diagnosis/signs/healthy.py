"""Signs that nothing failed: a run that ended well, or that went on after all that frightened in its log. Only data.

They hold only where no end is known that speaks against them. What came to its end lived through its warnings; what
only goes on falls to every other cause.
"""

from typing import Final

from caravan.diagnosis.looks import ended_as_told, ended_well, goes_on, nothing_saved, nothing_written
from caravan.diagnosis.sign import ENDED_BADLY, TOLD_BY_EVENTS, Origin, Sign, row
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
    _F.ARTIFACT_DOWNLOAD_FAILED,
)

HEALTHY_SIGNS: Final[tuple[Sign, ...]] = (
    row(ended_well, _LOG, _F.NO_FAILURE, 0.8, *_WARNED, unless=ENDED_BADLY),
    row(
        ended_as_told,
        Origin.EVENT,
        _F.NO_FAILURE,
        0.9,
        *(
            _F.IMAGE_PULL_TRANSIENT,
            _F.ARTIFACT_DOWNLOAD_FAILED,
            _F.TEMPLATE_SECRET_UNAVAILABLE,
            _F.REGISTRY_AUTH_DENIED,
        ),
        *(_F.IMAGE_NOT_FOUND, _F.NETWORK_UNREACHABLE, _F.BIND_MOUNT_REJECTED, _F.VOLUME_UNAVAILABLE, _F.PORT_CONFLICT),
        *(_F.CONTAINER_NAME_CONFLICT, _F.GPU_NODE_BROKEN, _F.NOMAD_API_UNREACHABLE, _F.DISK_FULL),
        given=TOLD_BY_EVENTS,
    ),
    # It ended well, and left nothing behind.
    row(nothing_written, _LOG, _F.OUTPUTS_MISSING, 0.9, _F.NO_FAILURE, _F.DATA_PATH_MISSING, _F.CHECKPOINT_UNUSABLE),
    row(r"^the training ended well but wrote nothing to (?P<path>.+)", Origin.JUDGED, _F.OUTPUTS_MISSING, 0.95),
    row(nothing_saved, _LOG, _F.OUTPUTS_MISSING, 0.72, _F.NO_FAILURE),
    row(goes_on, _LOG, _F.NO_FAILURE, 0.6, unless=ENDED_BADLY),
)
