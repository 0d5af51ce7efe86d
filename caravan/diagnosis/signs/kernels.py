"""Signs that a number format, flash-attn or bitsandbytes does not work on this GPU or in this image. Only data."""

from typing import Final

from caravan.diagnosis.sign import Origin, Sign, row
from caravan.values.failure import FailureClass

_F = FailureClass
_LOG: Final = Origin.LOG
_NONE: Final = _F.CUDA_DEVICE_UNAVAILABLE
_BUILD: Final = _F.TORCH_BUILD_MISMATCH
_BF16: Final = _F.BF16_UNSUPPORTED
_FLASH: Final = _F.FLASH_ATTN_UNUSABLE
_BNB: Final = _F.BITSANDBYTES_SETUP
_OLD: Final = _F.CUDA_DRIVER_TOO_OLD

_LIBRARIES: Final = (_F.MISSING_PYTHON_PACKAGE, _F.PACKAGE_VERSION_CONFLICT, _BUILD)
_RAISED: Final = r"^(?:[\w.]+\.)?(?:\w*Error|\w*Exception|SystemExit): "

KERNEL_SIGNS: Final[tuple[Sign, ...]] = (
    # Number formats of newer GPUs.
    row(
        r"\bdoes not support bfloat16\. Please switch dtype to float16"
        r"|Bfloat16 is only supported on GPUs with compute capability",
        _LOG,
        _BF16,
        0.97,
        dtype="bf16",
    ),
    row(
        r"doesn't support bf16/gpu\. You need torch|bf16 mixed precision requires PyTorch >= 1\.10 and a supported"
        r" device",
        _LOG,
        _BF16,
        0.95,
        dtype="bf16",
    ),
    row(r"--tf32 requires Ampere or a newer GPU arch", _LOG, _BF16, 0.97, dtype="tf32"),
    row(
        r"(?i:\btype (?:bf16|bfloat16) is not supported (?:by|on) your (?:device|hardware))"
        r"|Feature '\.bf16'[^;]{0,80}requires \.target sm_80",
        _LOG,
        _BF16,
        0.95,
        dtype="bf16",
    ),
    row(r"\bCUBLAS_STATUS_NOT_SUPPORTED\b.*\bCUDA_R_16BF\b", _LOG, _BF16, 0.9, dtype="bf16"),
    row(
        r"^(?:AssertionError|RuntimeError|ValueError)\b",
        _LOG,
        _BF16,
        0.9,
        _NONE,
        above=r"\bis_bf16_supported\(\)",
        dtype="bf16",
    ),
    row(
        rf"{_RAISED}.*(?i:\b(?:bf16|bfloat16)\b.{{0,80}}\b(?:not supported|unsupported|isn't supported"
        r"|requires (?:an? )?(?:Ampere|GPU|sm_80|compute)|only (?:supported|works|available)"
        r"|needs (?:an? )?Ampere)"
        r"|(?:does not|doesn't|cannot|can't|not) (?:support|do|run|use) (?:bf16|bfloat16))",
        _LOG,
        _BF16,
        0.9,
        dtype="bf16",
    ),
    row(
        r"(?i:\bcompute capability (?:>= ?)?8\.9 or higher required for FP8|\bFP8 (?:\w+ ){0,4}(?:requires"
        r"|only supported).{0,60}(?:8\.9|9\.0|Hopper|Ada|H100))",
        _LOG,
        _BF16,
        0.92,
        dtype="fp8",
    ),
    # flash-attn.
    row(
        r"FlashAttention(?:-\d)? (?:only supports|forward only supports|backward only supports) (?:Ampere|Turing"
        r"|Hopper|SM\d+|sm\d+)[^.]{0,40}|FlashAttention backward for head dim > \d+ requires"
        r"|FlashAttention(?:-\d)? is (?:only|not) (?:supported|available) (?:on|for|with) [^.]{0,60}?"
        r"\b(?:GPUs?|compute capability|Ampere|Turing|Volta)\b",
        _LOG,
        _FLASH,
        0.97,
        *_LIBRARIES,
        kind="gpu",
    ),
    row(
        r"FlashAttention (?:only supports? fp16|forward only supports head dim|only supports head dim)"
        r"|Flash Attention 2(?:\.0)? only supports (?:`?torch\.float16|fp16)",
        _LOG,
        _FLASH,
        0.92,
        kind="dtype",
    ),
    row(r"does not support Flash Attention 2(?:\.0)? yet", _LOG, _FLASH, 0.93, kind="model"),
    row(
        r"(?:flash_attn|rotary_emb|dropout_layer_norm|xentropy_cuda)\S{0,80}\.so[^:]{0,40}: undefined symbol: (?P<"
        r"symbol>\w+)"
        r"|\(required by \S*flash_attn\S*\.so\)",
        _LOG,
        _FLASH,
        0.96,
        *_LIBRARIES,
        kind="abi",
    ),
    row(
        r"FlashAttention-?[23] has been toggled on, but it cannot be used"
        r"|package flash[_-]attn seems to be not installed"
        r"|(?:not found in your environment|requires?|missing|[Pp]lease install|need(?:s)?(?: to install)?|install"
        r"|not installed|import): ?[`'\"]?\bflash[_-]attn\b"
        r"|\bflash[_-]attn(?:ention)?[`'\"]? (?:\(?v?[\d.]+\)? )?(?:is|was|are|must be) (?:not (?:installed"
        r"|available|found)|required|needed|installed)"
        r"|[`']?[Ff]lash[ _-]?[Aa]tt(?:ention|n)[- ]?[23]?[`']? is not (?:installed|available)"
        r"|No module named '?(?:flash_attn|flash_attn_2_cuda|flash_attn_interface)\b",
        _LOG,
        _FLASH,
        0.95,
        *_LIBRARIES,
        kind="missing",
    ),
    # bitsandbytes.
    row(r"\bCUDA Setup failed despite (?:GPU|CUDA) being available", _LOG, _BNB, 0.97, *_LIBRARIES, kind="library"),
    row(
        r"(?P<library>libbitsandbytes_\w+\.so)\S*(?::|\s).{0,40}(?:undefined symbol|cannot open shared object)",
        _LOG,
        _BNB,
        0.95,
        *_LIBRARIES,
        kind="binary",
    ),
    row(
        r"Configured (?:CUDA|ROCm) binary not found|Required library version not found: (?P<library>lib\w+\.so)"
        r"|Could not (?:find|load) (?:the )?bitsandbytes (?:CUDA|native|ROCm)",
        _LOG,
        _BNB,
        0.95,
        *_LIBRARIES,
        kind="binary",
    ),
    row(
        r"^CUDA SETUP: (?:ERROR|Something unexpected happened|Required library version not found)",
        _LOG,
        _BNB,
        0.85,
        kind="binary",
    ),
    row(r"\bbitsandbytes was compiled without GPU support\b", _LOG, _BNB, 0.75, _NONE, mild=True, kind="binary"),
    row(
        r"^AttributeError: 'NoneType' object has no attribute 'c(?:get|adam|quantize|dequantize|gemm|igemm"
        r"|prefetch|percentile)\w*'",
        _LOG,
        _BNB,
        0.93,
        kind="binary",
    ),
    row(r"supported by the bitsandbytes version you have installed", _LOG, _BNB, 0.88, kind="gpu"),
    row(
        r"^Error (?:named symbol not found|no kernel image is available for execution on the device"
        r"|invalid device function|the provided PTX was compiled with an unsupported toolchain\.?) at line \d+ in "
        r"file \S*(?:csrc/|ops\.cu)",
        _LOG,
        _BNB,
        0.95,
        _BUILD,
        _OLD,
        kind="gpu",
    ),
)
