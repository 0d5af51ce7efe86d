"""Signs that the GPU or its driver does not serve the training. Only data.

CUDA's, PyTorch's, TensorFlow's and JAX's words, those of the driver and its kernel messages. Of a warning the
program's own end may say more, so warnings are less sure than errors.
"""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_NONE: Final = _F.CUDA_DEVICE_UNAVAILABLE
_COUNT: Final = _F.GPU_COUNT_MISMATCH
_BUILD: Final = _F.TORCH_BUILD_MISMATCH
_BNB: Final = _F.BITSANDBYTES_SETUP
_OLD: Final = _F.CUDA_DRIVER_TOO_OLD
_NODE: Final = _F.GPU_NODE_BROKEN

_RAISED: Final = r"^(?:[\w.]+\.)?(?:\w*Error|\w*Exception|SystemExit): "

GPU_SIGNS: Final[tuple[Sign, ...]] = (
    # No GPU is seen.
    row(r"\bFound no NVIDIA driver on your system\b", _LOG, _NONE, 0.95, kind="driver"),
    row(
        r"\bNo (?:CUDA|HIP|XPU) GPUs are available\b|\bno (?:CUDA|ROCm)-capable device is detected\b"
        r"|\bcannot find any torch accelerator\b",
        _LOG,
        _NONE,
        0.93,
        kind="device",
    ),
    row(r"\bcudaErrorNoDevice\b|\bCUDA_ERROR_NO_DEVICE\b", _LOG, _NONE, 0.85, kind="device"),
    row(r"\bno GPUs found!|\bProcessGroupNCCL is only supported with GPUs\b", _LOG, _NONE, 0.95, kind="device"),
    row(r"CUDA device but torch\.cuda\.is_available\(\) is False", _LOG, _NONE, 0.93, kind="device"),
    row(
        r"\b(?:fp16 mixed precision requires a GPU|can only be used on CUDA(?: or \w+)? devices"
        r"|bf16/gpu\. You need to assign use_cpu)",
        _LOG,
        _NONE,
        0.9,
        kind="device",
    ),
    row(
        r"\bNo supported gpu backend found|Accelerator` can not run on your system|your machine only has: \[\]"
        r"|\bno GPU resources available\b|\b0 active drivers \(\[\]\)|^ValueError: Cuda is not available",
        _LOG,
        _NONE,
        0.93,
        _COUNT,
        _F.TRAINING_CONFIG_INVALID,
        kind="device",
    ),
    row(
        r"^ImportError: libcuda\.so\.1: cannot open shared object",
        _LOG,
        _NONE,
        0.93,
        _F.PACKAGE_VERSION_CONFLICT,
        kind="driver",
    ),
    row(
        r"\bNVML(?:Error_|_ERROR_)(?:LibraryNotFound|LIBRARY_NOT_FOUND|DriverNotLoaded)"
        r"|NVML Shared Library Not Found",
        _LOG,
        _NONE,
        0.8,
        kind="driver",
    ),
    row(
        r"Unknown backend:? '?(?:gpu|cuda)'? requested|Unable to initialize backend '(?:cuda|gpu)'",
        _LOG,
        _NONE,
        0.8,
        kind="device",
    ),
    row(
        r"(?i:\bThe NVIDIA driver was not detected\b|\bnvidia-smi: (?:command )?not found)",
        _LOG,
        _NONE,
        0.7,
        mild=True,
        kind="driver",
    ),
    row(
        rf"{_RAISED}.*(?i:\b(?:no (?:CUDA|GPU)s?(?: device)?s? (?:is |are |was |were )?(?:available|found|detected"
        r"|visible)"
        r"|(?:CUDA|GPUs?)(?: device)? (?:is|are|was)? ?(?:not (?:available|found|detected|visible)|unavailable"
        r"|needed|required)))",
        _LOG,
        _NONE,
        0.85,
        kind="device",
    ),
    row(
        r"^(?:AssertionError|SystemExit|RuntimeError)\b",
        _LOG,
        _NONE,
        0.75,
        above=r"^\s+assert (?:torch|th)\.cuda\.(?:is_available\(\)|device_count\(\))",
        kind="device",
    ),
    row(r"torch\.cuda\.is_available\(\): False", _LOG, _NONE, 0.9, _COUNT, kind="device"),
    # More processes than GPUs.
    row(r"\binvalid device ordinal\b", _LOG, _COUNT, 0.95, _NODE),
    row(
        r"\bcudaErrorInvalidDevice\b|^AssertionError: Invalid device id\b|\bdevice < num_gpus INTERNAL ASSERT FAILED",
        _LOG,
        _COUNT,
        0.92,
    ),
    row(r"\bDuplicate GPU detected\b", _LOG, _COUNT, 0.95, _F.NCCL_ERROR, mild=True),
    row(
        r"You requested gpu: \[(?P<want>[\d, ]*)\]|your machine only has: \[(?P<have>\d[\d, ]*)\]",
        _LOG,
        _COUNT,
        0.95,
        _F.TRAINING_CONFIG_INVALID,
    ),
    row(r"\bNo slot '(?P<want>\d+)' specified on host", _LOG, _COUNT, 0.93),
    row(r"\bInvalid CUDA '(?:--)?device[= ](?P<want>[\d,]+)' requested", _LOG, _COUNT, 0.92, _F.CLI_ARGS_INVALID),
    row(r"on CUDA device (?P<want>\d+) but torch\.cuda\.device_count\(\) is (?P<have>\d+)", _LOG, _COUNT, 0.9),
    row(
        r"[Rr]equested more processes \((?P<want>\d+)\) than there are available slots \((?P<have>\d+)\)",
        _LOG,
        _COUNT,
        0.93,
        _F.LAUNCHER_MISCONFIGURED,
    ),
    row(r"Less than two GPU ids were configured", _LOG, _COUNT, 0.9),
    row(
        r"(?i:\bworld[ _]size \((?P<want>\d+)\) is larger than the number of available GPUs \((?P<have>\d+)\))",
        _LOG,
        _COUNT,
        0.93,
    ),
    row(r"(?i:\bnumber of required GPUs exceeds the total number of available GPUs\b)", _LOG, _COUNT, 0.92),
    row(
        rf"{_RAISED}.*\b(?i:need|needs|want|wants|require|requires|requested|request|expect|expects|expected"
        rf"|asked for)\b\D{{0,30}}"
        r"(?P<want>\d+)\D{0,12}\b(?:GPU|gpu|CUDA device|device)s?\b\D{0,60}\b(?:only|but|found|have|has|available"
        r"|visible|got|there)\b\D{0,40}(?P<have>\d+)",
        _LOG,
        _COUNT,
        0.9,
        _NONE,
    ),
    row(
        rf"{_RAISED}.*\b(?:only|found|have|has|got|sees)\b\D{{0,20}}(?P<have>\d+)\D{{0,12}}\b(?:GPU|gpu"
        r"|CUDA device|device)s?\b"
        r"\D{0,60}\b(?:needs?|required?|requires|requested|expect(?:ed|s)?|want(?:ed|s)?"
        r"|asked)\b\D{0,30}(?P<want>\d+)",
        _LOG,
        _COUNT,
        0.88,
        _NONE,
    ),
    row(
        r"(?i:\b(?:nproc\w*|(?:local_)?world_?size|num_?gpus?|n_?gpus?|devices|processes"
        r"|ranks)\b\D{0,30}(?P<want>\d+)\D{0,40}"
        r"(?:greater|larger|more|exceeds?|>|only)\D{0,60}(?P<have>\d+)\D{0,12}(?:gpu|device|card)s?\b"
        r"|\b(?:greater|larger|more|exceeds?|>)\D{0,30}\b(?:number of |available |visible )+(?:gpu|device|card)s\b"
        r"|\bnot enough gpus\b)",
        _LOG,
        _COUNT,
        0.82,
        _NONE,
        _F.USER_CODE_BUG,
        _F.TRAINING_CONFIG_INVALID,
    ),
    # PyTorch is not built for this GPU.
    row(
        r"\bTorch not compiled with CUDA enabled\b|\bPyTorch was (?:built|compiled) without CUDA\b",
        _LOG,
        _BUILD,
        0.96,
        _NONE,
        kind="cpu",
    ),
    row(
        r"Could not run '(?P<symbol>\S+)' with arguments from the 'CUDA' backend"
        r"|not implemented for backend.{0,20}CUDA",
        _LOG,
        _BUILD,
        0.93,
        _F.USER_CODE_BUG,
        _F.PACKAGE_VERSION_CONFLICT,
        kind="cpu",
    ),
    row(
        r"a CUDA-enabled jaxlib is not installed|\bTensorFlow (?:binary )?was not built with CUDA"
        r"|not built with (?:CUDA|GPU) (?:kernel )?support",
        _LOG,
        _BUILD,
        0.75,
        _NONE,
        mild=True,
        kind="cpu",
    ),
    row(r"\bDistributed package doesn't have NCCL built in\b", _LOG, _BUILD, 0.92, kind="cpu"),
    row(
        r"\bno kernel image is available for execution on the device\b",
        _LOG,
        _BUILD,
        0.95,
        _F.NCCL_ERROR,
        kind="capability",
    ),
    row(
        # What ROCm says of it, and CUDA of a library beside PyTorch.
        r"\bhipErrorNoBinaryForGpu\b|\bUnable to find code object for all current devices\b"
        r"|\b(?:CUDA|HIP) error: invalid device function\b|\b(?:cuda|hip)ErrorInvalidDeviceFunction\b"
        r"|\bCannot read \S*TensileLibrary\w*\.dat\b",
        _LOG,
        _BUILD,
        0.93,
        _F.PROCESS_CRASH_NATIVE,
        _F.USER_CODE_BUG,
        _F.NCCL_ERROR,
        kind="capability",
    ),
    row(
        r"\bcudaErrorNoKernelImageForDevice\b|\bCUDA_ERROR_NO_BINARY_FOR_GPU\b|device kernel image is invalid",
        _LOG,
        _BUILD,
        0.92,
        kind="capability",
    ),
    row(
        r"(?:GPU\d+ )?(?P<gpu>[A-Z][\w -]{2,60}?) with CUDA capability (?P<capability>sm_\d+\w?) is not compatible"
        r" with the current PyTorch",
        _LOG,
        _BUILD,
        0.75,
        mild=True,
        kind="capability",
    ),
    row(
        r"Found GPU\d+ (?P<gpu>.{3,60}?) which is of (?:cuda )?capability (?P<capability>\d+\.\d+)",
        _LOG,
        _BUILD,
        0.7,
        mild=True,
        kind="capability",
    ),
    row(
        r"ptxas fatal\s+: Value '(?P<capability>sm_\d+\w?)' is not defined for option 'gpu-name'"
        r"|nvcc fatal\s+: Unsupported gpu architecture|FATAL: kernel `\w+` is for sm\w+, but was built for",
        _LOG,
        _BUILD,
        0.92,
        kind="capability",
    ),
    # The driver is older than the CUDA that is used.
    row(
        r"NVIDIA driver on your system is too old \(found version (?P<have>\d+)\)",
        _LOG,
        _OLD,
        0.95,
        _NONE,
        _BUILD,
        _BNB,
    ),
    row(
        r"NVIDIA driver on your system is too old \(found version (?P<have>\d+)\)",
        _LOG,
        _OLD,
        0.75,
        _NONE,
        _BNB,
        mild=True,
    ),
    row(
        r"CUDA driver version is insufficient for CUDA runtime version|\bcudaErrorInsufficientDriver\b"
        r"|PTX was compiled with an unsupported toolchain|\bCUDA_ERROR_UNSUPPORTED_PTX_VERSION\b",
        _LOG,
        _OLD,
        0.95,
        _NONE,
        _BUILD,
        _F.NCCL_ERROR,
    ),
    row(
        r"unsupported display driver / cuda driver combination"
        r"|forward compatibility was attempted on non supported HW"
        r"|\bCUDA_ERROR_(?:SYSTEM_DRIVER_MISMATCH|COMPAT_NOT_SUPPORTED_ON_DEVICE)\b",
        _LOG,
        _OLD,
        0.88,
        _NONE,
    ),
    row(
        r"(?:This container was built for NVIDIA Driver Release (?P<want>[\d.]+) or later, but"
        r"|driver version (?P<have>[\d.]+) is older than)",
        _LOG,
        _OLD,
        0.75,
        _NONE,
        mild=True,
    ),
    row(
        r"Found CUDA version (?P<have>\d+), but JAX was built against version (?P<want>\d+), which is newer"
        r"|Unsupported \.version (?P<want2>[\d.]+); current version is '(?P<have2>[\d.]+)'",
        _LOG,
        _OLD,
        0.93,
        _NONE,
        mild=True,
    ),
    row(
        r"(?i:\b(?:NVIDIA |GPU |CUDA |the )?driver(?:'s)?(?: version)?\b.{0,60}\b(?:too old|out ?dated"
        r"|older than (?:required|the minimum)|insufficient|not recent enough|needs? to be (?:updated|upgraded))\b"
        r"|\b(?:update|upgrade) your (?:GPU |NVIDIA |CUDA )?drivers?\b)",
        _LOG,
        _OLD,
        0.82,
        _NONE,
        _F.USER_CODE_BUG,
    ),
)
