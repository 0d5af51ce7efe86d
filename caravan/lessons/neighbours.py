"""Which causes are taken for one another: a symmetric table, and how near two causes are.

A log may say the same failure in words that are read as another cause, or as none. Where the diagnosis is not sure, a
lesson of a neighbouring cause may be the right one, if its words or what it names agree.
"""

from typing import Final

from caravan.values.failure import FailureClass as F

NO_CAUSE: Final = frozenset({F.UNKNOWN, F.NO_FAILURE})
"""Causes that say nothing in common: they are near to every other, and two of them are alike only by their words."""

GROUPS: Final[tuple[frozenset[F], ...]] = (
    # An import that fails names what is not there, is of another version, or is not built for this machine.
    frozenset(
        {F.MISSING_PYTHON_PACKAGE, F.PACKAGE_VERSION_CONFLICT, F.ENTRYPOINT_NOT_FOUND, F.FLASH_ATTN_UNUSABLE}
        | {F.BITSANDBYTES_SETUP, F.BUILD_TOOLCHAIN_MISSING, F.USER_CODE_BUG, F.TORCH_BUILD_MISMATCH}
    ),
    # "No such file": a program, a script, a model or data.
    frozenset(
        {F.BUILD_TOOLCHAIN_MISSING, F.ENTRYPOINT_NOT_FOUND, F.DATA_PATH_MISSING, F.CHECKPOINT_UNUSABLE}
        | {F.HUB_NOT_FOUND, F.OUTPUT_PERMISSION_DENIED}
    ),
    # Room of some kind ran out, and the process was killed or crashed of it.
    frozenset(
        {F.HOST_MEMORY_OOM, F.SHM_TOO_SMALL, F.CUDA_OOM, F.GPU_MEMORY_CONTENDED, F.PROCESS_CRASH_NATIVE, F.DISK_FULL}
    ),
    # Processes don't find each other, or one of them died and the others only say that they waited.
    frozenset(
        {F.NCCL_ERROR, F.NCCL_TIMEOUT, F.RENDEZVOUS_UNREACHABLE, F.RENDEZVOUS_PORT_IN_USE, F.LAUNCHER_MISCONFIGURED}
        | {F.PROCESS_HANG, F.NETWORK_UNREACHABLE, F.SHM_TOO_SMALL, F.GPU_COUNT_MISMATCH, F.PORT_CONFLICT}
    ),
    # A program or library refuses what it is told, or what a newer one is told.
    frozenset(
        {F.TRAINING_CONFIG_INVALID, F.CLI_ARGS_INVALID, F.PACKAGE_VERSION_CONFLICT, F.DATASET_FORMAT_ERROR}
        | {F.USER_CODE_BUG, F.INDEX_OUT_OF_RANGE, F.CHECKPOINT_UNUSABLE, F.BF16_UNSUPPORTED, F.FLASH_ATTN_UNUSABLE}
        | {F.NUMERIC_DIVERGENCE, F.LAUNCHER_MISCONFIGURED}
    ),
    # The GPU, its driver and what was built for it don't go together.
    frozenset(
        {F.TORCH_BUILD_MISMATCH, F.CUDA_DRIVER_TOO_OLD, F.CUDA_DEVICE_UNAVAILABLE, F.GPU_NODE_BROKEN}
        | {F.BF16_UNSUPPORTED, F.FLASH_ATTN_UNUSABLE, F.BITSANDBYTES_SETUP, F.PROCESS_CRASH_NATIVE}
        | {F.GPU_COUNT_MISMATCH, F.INDEX_OUT_OF_RANGE, F.CUDA_OOM}
    ),
    # What is fetched from outside was not there, not allowed, or not reached.
    frozenset(
        {F.HUB_NOT_FOUND, F.HF_GATED_AUTH, F.HUB_RATE_LIMITED, F.NETWORK_UNREACHABLE, F.WANDB_LOGIN_MISSING}
        | {F.DATA_PATH_MISSING, F.DATASET_FORMAT_ERROR, F.ARTIFACT_DOWNLOAD_FAILED}
    ),
    # A place can't be written, or has no room.
    frozenset({F.OUTPUT_PERMISSION_DENIED, F.DISK_FULL, F.DATA_PATH_MISSING, F.OUTPUTS_MISSING}),
    # The training came to its end, and what it learnt is too little.
    frozenset({F.UNDERFIT, F.TARGET_MISSED, F.MODEL_COLLAPSED}),
    # It learnt too fast or too long, and got worse than it was.
    frozenset({F.OVERFIT, F.WORSE_THAN_BASE, F.REGRESSED, F.MODEL_COLLAPSED, F.NUMERIC_DIVERGENCE}),
    # The cluster has no place for it.
    frozenset(
        {F.PLACEMENT_RESOURCES_EXHAUSTED, F.PLACEMENT_GPU_UNAVAILABLE, F.PLACEMENT_CONSTRAINT_FILTERED}
        | {F.CLUSTER_TARGET_MISMATCH, F.DRIVER_UNAVAILABLE, F.VOLUME_UNAVAILABLE, F.DEPLOY_PROGRESS_DEADLINE}
    ),
    # The image is not got.
    frozenset({F.IMAGE_NOT_FOUND, F.REGISTRY_AUTH_DENIED, F.IMAGE_PULL_TRANSIENT, F.ARCH_MISMATCH}),
)
"""Causes that are confused, each group with its reason."""


def near(one: F | None, other: F | None) -> bool:
    """Whether one cause may have been taken for the other: equal ones are near, and so is one that is not known."""
    if one is other or {one, other} & {None, *NO_CAUSE}:
        return True
    return any(one in group and other in group for group in GROUPS)
