"""Which facets of a context decide whether a repair of one run helps in another, by cause: a table."""

from collections.abc import Iterable
from typing import Final

from caravan.values.failure import FailureClass as F

_AMOUNTS: Final = {"size": 4.0, "method": 4.0, "gpu_memory": 3.0, "gpu": 2.0, "model": 0.7, "framework": 0.5}
_SHARED: Final = {"batch": 0.3, "length": 0.3, "precision": 0.5, "gpus": 0.3, "kind": 0.5}
_PROGRAM: Final = {"subject": 3.0, "framework": 1.5, "versions": 1.5, "kind": 1.0, "method": 0.7, "model": 0.7}
_BUILD: Final = {
    "subject": 2.0,
    "gpu": 2.5,
    "image": 1.5,
    "versions": 2.0,
    "framework": 1.0,
    "kind": 1.5,
    "method": 0.5,
}
_MACHINES: Final = {"gpus": 3.0, "nodes": 3.0, "gpu": 0.7, "image": 1.0, "framework": 0.7, "kind": 1.0, "driver": 1.0}
_PLACE: Final = {"driver": 2.0, "gpu": 1.5, "gpus": 1.5, "kind": 2.0, "image": 1.0}
_LEARNING: Final = {"model": 4.0, "method": 4.0, "size": 1.0, "batch": 0.5, "framework": 0.5, "kind": 0.5}
"""What a rate, a number of epochs or a rank is right for: the model, and how it is trained."""
_OF_A_GATE: Final = (F.UNDERFIT, F.OVERFIT, F.WORSE_THAN_BASE, F.MODEL_COLLAPSED, F.REGRESSED, F.TARGET_MISSED)
_ANY: Final = {"subject": 2.0, "framework": 1.5, "method": 1.0, "model": 1.0, "driver": 0.7, "kind": 1.0, "gpu": 0.7}

BY_CONTEXT: Final = frozenset(
    {
        *(F.CUDA_OOM, F.GPU_MEMORY_CONTENDED, F.HOST_MEMORY_OOM, F.NUMERIC_DIVERGENCE, F.DISK_FULL, F.RUN_TOO_LONG),
        *(F.SHM_TOO_SMALL, F.BF16_UNSUPPORTED, F.PLACEMENT_RESOURCES_EXHAUSTED, F.PLACEMENT_GPU_UNAVAILABLE),
        *(F.OUTPUTS_MISSING, F.PROCESS_HANG, F.CUDA_DRIVER_TOO_OLD, F.TORCH_BUILD_MISMATCH, F.NCCL_TIMEOUT),
        *_OF_A_GATE,
    }
)
"""Causes that say the same whatever failed: every kill and every NaN reads alike, so that what was trained how on what
decides, and not the words."""

WEIGHTS: Final[dict[F, dict[str, float]]] = {
    # How much is needed follows from the model's size, the method and the GPU, so that these weigh most.
    F.CUDA_OOM: _AMOUNTS | _SHARED,
    F.GPU_MEMORY_CONTENDED: _AMOUNTS | _SHARED,
    F.HOST_MEMORY_OOM: _AMOUNTS | _SHARED | {"gpu": 0.2, "gpu_memory": 0.2, "driver": 0.5, "framework": 3.0},
    F.NUMERIC_DIVERGENCE: {"model": 4.0, "method": 3.0, "precision": 2.0, "framework": 0.5, "size": 1.0, "kind": 0.5},
    **dict.fromkeys(_OF_A_GATE, _LEARNING),
    F.RUN_TOO_LONG: _AMOUNTS | _SHARED,
    F.DISK_FULL: {"size": 3.0, "method": 3.0, "driver": 1.0, "framework": 0.5, "model": 0.5, "kind": 1.5},
    F.SHM_TOO_SMALL: {"driver": 2.0, "framework": 3.0, "method": 0.3, "gpus": 0.7, "kind": 1.5, "image": 0.7},
    F.BF16_UNSUPPORTED: {"gpu": 5.0, "framework": 1.0, "method": 0.5, "kind": 1.0, "versions": 0.5, "model": 0.3},
    # What is built fits a GPU, an image and versions, or not.
    F.FLASH_ATTN_UNUSABLE: _BUILD | {"gpu": 5.0},  # its kernels are written for generations of GPUs
    F.BITSANDBYTES_SETUP: _BUILD,
    F.TORCH_BUILD_MISMATCH: _BUILD | {"gpu": 5.0, "versions": 3.0, "framework": 0.5, "method": 0.2},
    F.CUDA_DRIVER_TOO_OLD: {"versions": 5.0, "image": 2.0, "gpu": 1.0, "framework": 0.3, "kind": 1.0},
    F.BUILD_TOOLCHAIN_MISSING: _BUILD | {"subject": 4.0, "gpu": 0.3},
    F.PROCESS_CRASH_NATIVE: _BUILD,
    # What a program or a library is told fits its versions, and is named.
    F.PACKAGE_VERSION_CONFLICT: _PROGRAM,
    F.MISSING_PYTHON_PACKAGE: _PROGRAM | {"subject": 5.0, "image": 0.7},
    F.CLI_ARGS_INVALID: _PROGRAM | {"code": 2.0},
    F.TRAINING_CONFIG_INVALID: _PROGRAM,
    F.CHECKPOINT_UNUSABLE: _PROGRAM,
    F.DATASET_FORMAT_ERROR: _PROGRAM,
    F.USER_CODE_BUG: _PROGRAM | {"code": 3.0},
    F.INDEX_OUT_OF_RANGE: _PROGRAM | {"model": 3.0},
    # Files are those of one repository.
    F.DATA_PATH_MISSING: _ANY | {"code": 3.0, "repository": 3.0},
    F.ENTRYPOINT_NOT_FOUND: _ANY | {"code": 3.0, "repository": 3.0},
    # Processes find each other by machines and networks.
    F.NCCL_ERROR: _MACHINES,
    F.NCCL_TIMEOUT: _MACHINES,
    F.RENDEZVOUS_UNREACHABLE: _MACHINES,
    F.RENDEZVOUS_PORT_IN_USE: _MACHINES,
    F.LAUNCHER_MISCONFIGURED: _MACHINES | {"framework": 2.0},
    F.GPU_COUNT_MISMATCH: _MACHINES,
    # Where it is placed is the cluster's matter.
    F.CUDA_DEVICE_UNAVAILABLE: _PLACE,
    F.GPU_NODE_BROKEN: _PLACE,
    F.PLACEMENT_CONSTRAINT_FILTERED: _PLACE,
    F.PLACEMENT_RESOURCES_EXHAUSTED: _PLACE,
    F.PLACEMENT_GPU_UNAVAILABLE: _PLACE,
}
PLAN: Final = {
    **{"code": 6.0, "repository": 4.0, "model": 3.0, "method": 2.0, "gpu": 2.0, "gpu_memory": 1.0, "size": 1.5},
    **{"framework": 1.0, "gpus": 0.5, "batch": 0.5, "length": 0.5, "versions": 0.7, "driver": 0.5},
}
"""Before anything failed: what is trained how by which code."""


def deciding(failure: F | None, names: Iterable[str]) -> tuple[str, ...]:
    """Those of the facets that a repair against the cause depends on more than on most."""
    share = weights(failure)
    return tuple(name for name in names if share.get(name, 0.0) >= _MUCH)


_MUCH: Final = 2.5


def weights(failure: F | None) -> dict[str, float]:
    """Facet → its weight against that cause; before a failure (None) those of a plan."""
    return PLAN if failure is None else WEIGHTS.get(failure, _ANY)
