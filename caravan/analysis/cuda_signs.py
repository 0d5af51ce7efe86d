"""Which CUDA a repository was made for: `+cu118` versions, index addresses, conda packages, images. Pure.

What a torch version means for CUDA is not known here.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from caravan.analysis.requirements import Declaration
from caravan.values.distributions import normal
from caravan.values.environment import CudaSign, Dockerfile, PackageIndex, Wanted
from caravan.values.places import SourceLine

GPU_ONLY: Final = frozenset(
    {"apex", "bitsandbytes", "causal-conv1d", "cupy", "cupy-cuda11x", "cupy-cuda12x", "deepspeed", "flash-attn"}
    | {"flashinfer-python", "mamba-ssm", "nvidia-dali-cuda110", "nvidia-dali-cuda120", "tensorrt", "tinycudann"}
    | {"transformer-engine", "triton", "unsloth", "vllm", "xformers", "flash-linear-attention", "liger-kernel"}
    | {"faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "onnxruntime-gpu", "auto-gptq", "autoawq", "spconv-cu118"}
)
"""Distributions that do their work on a CUDA GPU alone."""
_LOCAL: Final = re.compile(
    r"\+cu(\d{2,3})\b|\[cuda(\d{2})(?:[-_]\w+)?\]|[-_]cu(?:da)?(\d{2,3})x?(?=\s*(?:[=<>!~\[;@]|$))"
)
_ADDRESS: Final = re.compile(r"/cu(\d{3})\b|cuda(\d{2,3})\b|/cu(\d{2})\b")
_IMAGE: Final = re.compile(r"cuda[:-]?(\d{1,2}\.\d)|-cu(\d{3})\b|/cuda:(\d{1,2}\.\d)")
_CONDA: Final = frozenset({"cudatoolkit", "cuda-toolkit", "pytorch-cuda", "cuda", "cuda-version", "cuda-nvcc"})


def dotted_cuda(digits: str) -> str:
    """`118` → `11.8`, `12` → `12`."""
    return digits if len(digits) < 3 or "." in digits else f"{digits[:2]}.{digits[2:]}"


def cuda_signs(
    lines: Iterable[Wanted],
    indexes: Iterable[PackageIndex],
    declarations: Sequence[Declaration],
    dockerfile: Dockerfile | None,
) -> tuple[CudaSign, ...]:
    """Everything that names a CUDA version, the closest to what is installed first."""
    found: dict[tuple[str | None, str], CudaSign] = {}
    for sign in (*_pins(lines), *_indexes(indexes), *_of_conda(declarations), *_of_image(dockerfile)):
        found.setdefault((sign.version, sign.kind), sign)
    return tuple(found.values())


def _pins(lines: Iterable[Wanted]) -> Iterator[CudaSign]:
    for wanted in lines:
        match = _LOCAL.search(wanted.line.partition(";")[0])
        if match:
            yield CudaSign(version=dotted_cuda(match[1] or match[2] or match[3]), kind="pin", where=wanted.where)


def _indexes(indexes: Iterable[PackageIndex]) -> Iterator[CudaSign]:
    for index in indexes:
        match = _ADDRESS.search(index.url)
        if match:
            yield CudaSign(version=dotted_cuda(next(filter(None, match.groups()))), kind="index", where=index.where)


def _of_conda(declarations: Sequence[Declaration]) -> Iterator[CudaSign]:
    for declared in declarations:
        for name, version, where in declared.conda:
            number = re.match(r"\d+(?:\.\d+)?", version)
            if name in _CONDA and number:
                yield CudaSign(version=number[0], kind="conda", where=where)


def _of_image(dockerfile: Dockerfile | None) -> Iterator[CudaSign]:
    match = _IMAGE.search(dockerfile.base or "") if dockerfile and dockerfile.trains else None
    if match and dockerfile:
        yield CudaSign(version=dotted_cuda(next(filter(None, match.groups()))), kind="image", where=dockerfile.where)


def gpu_only(lines: Iterable[Wanted]) -> tuple[Wanted, ...]:
    """The lines of packages that work on a CUDA GPU alone."""
    from packaging.requirements import Requirement

    return tuple(w for w in lines if normal(Requirement(w.line).name) in GPU_ONLY)


def index_in(words: Sequence[str], where: SourceLine) -> Iterator[PackageIndex]:
    """The index addresses among the words of a pip command."""
    for word, following in zip(words, (*words[1:], ""), strict=True):
        key, _, value = word.partition("=")
        if key in ("-i", "--index-url", "--extra-index-url", "-f", "--find-links"):
            address = value or following
            if "://" in address:
                yield PackageIndex(url=address.strip("'\""), where=where)
