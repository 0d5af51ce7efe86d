"""Signs that a node's card or its driver is at fault, whatever the training does. Only data.

The driver's kernel messages (Xid, ECC, a card off the bus), NVML's and CUDA's words for them.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_NODE: Final = _F.GPU_NODE_BROKEN

# What a driver or a card that does not work looks like from within a program.
_FOLLOWS: Final = (
    *(_F.CUDA_DEVICE_UNAVAILABLE, _F.NCCL_ERROR, _F.NCCL_TIMEOUT, _F.PROCESS_CRASH_NATIVE),
    *(_F.INTERRUPTED_EXTERNALLY, _F.USER_CODE_BUG, _F.PROCESS_HANG, _F.BITSANDBYTES_SETUP),
)

GPU_NODE_SIGNS: Final[tuple[Sign, ...]] = (
    row(
        r"\bNVRM: Xid \([^)]{1,60}\): (?P<xid>4[68]|6[1-4]|7[49]|8[19]|9[245]|11[09]|12[0-9]|13[6-9]|14[0-9]"
        r"|15[0-9])\b",
        _LOG,
        _NODE,
        0.95,
        *_FOLLOWS,
        mild=True,
        kind="xid",
    ),
    row(
        r"(?i:\buncorrectable (?:ECC|NVLink) error|\bCUDA_ERROR_(?:ECC|NVLINK)_UNCORRECTABLE|\bcontained ECC error"
        r"|\bdouble[ -]bit ECC)",
        _LOG,
        _NODE,
        0.96,
        *_FOLLOWS,
        kind="ecc",
    ),
    row(
        r"(?i:fallen off the bus|\bGPU is lost\b|\bgpu.{0,40}requires reset|reset gpu to activate"
        r"|\bUnable to determine the device handle for gpu)",
        _LOG,
        _NODE,
        0.95,
        *_FOLLOWS,
        mild=True,
        kind="bus",
    ),
    # The driver does not get its card to work; AMD's says so in its own words.
    row(
        r"\bNVRM: .*(?:RmInitAdapter failed|rm_init_adapter failed|Cannot attach gpu)"
        r"|\bNVRM: The NVIDIA probe routine failed|\berror calling nvml\.Init\b",
        _LOG,
        _NODE,
        0.93,
        *_FOLLOWS,
        mild=True,
        kind="uninitialised",
    ),
    row(
        r"\bamdgpu: .*(?:GPU reset(?:\(\d+\))? failed|\bring \S+ timeout|GPU Recovery Failed|hw init failed"
        r"|uncorrectable hardware errors? detected|failed to init hardware)",
        _LOG,
        _NODE,
        0.93,
        *_FOLLOWS,
        mild=True,
        kind="bus",
    ),
    row(
        r"(?i:driver/library version mismatch)|\bdoes not match DSO version\b|NVML_ERROR_LIB_RM_VERSION_MISMATCH",
        (Origin.EVENT, _LOG),
        _NODE,
        0.95,
        *_FOLLOWS,
        kind="mismatch",
    ),
    row(
        r"Failed to initialize NVML: Unknown Error|NVML: GPU access blocked|NVMLError_(?:GpuIsLost|Unknown)\b",
        _LOG,
        _NODE,
        0.92,
        *_FOLLOWS,
        kind="uninitialised",
    ),
    row(
        r"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver",
        _LOG,
        _NODE,
        0.9,
        *_FOLLOWS,
        kind="uninitialised",
    ),
    row(
        r"\bsystem not yet initialized\b|\bCUDA_ERROR_SYSTEM_NOT_READY\b|Error 304: OS call failed",
        _LOG,
        _NODE,
        0.92,
        *_FOLLOWS,
        kind="uninitialised",
    ),
    row(
        r"CUDA unknown error - this may be due to an incorrectly set up environment",
        _LOG,
        _NODE,
        0.92,
        *_FOLLOWS,
        kind="uninitialised",
    ),
    row(
        r"CUDA initialization: (?:CUDA unknown error|Unexpected error from cudaGetDeviceCount\(\))(?!.*Error (?:10"
        r"1|803|804|35):)",
        _LOG,
        _NODE,
        0.72,
        *_FOLLOWS,
        mild=True,
        kind="uninitialised",
    ),
    row(
        r"\b(?:CUDA error: (?:unknown error\b|hardware stack error)|CUDA_ERROR_UNKNOWN\b|cudaErrorUnknown\b)",
        _LOG,
        _NODE,
        0.9,
        *_FOLLOWS,
        kind="uninitialised",
    ),
    row(
        r"\bCUDA error: (?:initialization error|the launch timed out and was terminated)",
        _LOG,
        _NODE,
        0.7,
        *_FOLLOWS[:1],
        kind="uninitialised",
    ),
)
