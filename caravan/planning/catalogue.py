"""The GPU catalogue: names as NVML and Nomad report them, memory, speed and a typical price.

Facts only. It knows no plan and no cluster.

Sources: names and memory as `nvidia-smi` prints them (vendor data where no output was seen); dense TFLOPS without
sparsity (of GeForce cards with sums in fp32), bandwidths of memory and links from the vendors' data sheets; price =
median of public on-demand list prices for one GPU, from price lists of providers of 2025's second half, collected
2026-11. Providers move prices often: they are defaults that a user overrides (`Prices`).
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from caravan.values.prices import Prices

__all__ = [
    "CATALOGUE",
    "USABLE_SHARE",
    "Gpu",
    "Prices",
    "gpu_like",
    "gpu_named",
    "matches_model",
    "same_model",
    "whole_of",
]


class Gpu(NamedTuple):
    """A GPU type. Memory in MiB as NVML says, dense TFLOPS (bf16 None: not supported), US dollars an hour or None.

    Bandwidth in GB/s: of its memory, and of its link to other GPUs of the node in one direction (NVLink, else PCIe).
    """

    name: str
    vendor: str
    memory_mib: int
    bf16_tflops: float | None
    fp16_tflops: float
    fp32_tflops: float
    bandwidth_gbs: float
    link_gbs: float
    usd_per_hour: float | None


USABLE_SHARE: Final = 0.97
"""Share of a GPU's memory that torch can use: 0.971 to 0.994 over 13 types seen in public out-of-memory messages."""

CATALOGUE: Final[tuple[Gpu, ...]] = (
    Gpu("NVIDIA GB200", "nvidia", 189471, 2500, 2500, 80, 8000, 900, None),
    Gpu("NVIDIA B200", "nvidia", 183359, 2250, 2250, 75, 8000, 900, 5.195),
    Gpu("NVIDIA B300 SXM6 AC", "nvidia", 275040, 2250, 2250, 75, 8000, 900, 6.99),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Server Edition", "nvidia", 97887, 503.8, 503.8, 120, 1792, 64, 1.69),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "nvidia", 97887, 503.8, 503.8, 125, 1792, 64, 1.69),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "nvidia", 97887, 503.8, 503.8, 110, 1792, 64, 1.69),
    Gpu("NVIDIA GeForce RTX 5090", "nvidia", 32607, 209.5, 209.5, 104.8, 1792, 64, 0.46),
    Gpu("NVIDIA GH200 480GB", "nvidia", 97871, 990, 990, 67, 4000, 450, None),
    Gpu("NVIDIA H200", "nvidia", 143771, 989, 989, 67, 4800, 450, 3.5),
    Gpu("NVIDIA H100 80GB HBM3", "nvidia", 81559, 989, 989, 67, 3350, 450, 2.95),
    Gpu("NVIDIA H100 PCIe", "nvidia", 81559, 756, 756, 51, 2000, 64, 2.595),
    Gpu("NVIDIA H100 NVL", "nvidia", 95830, 835, 835, 60, 3900, 300, None),
    Gpu("NVIDIA H20", "nvidia", 97871, 148, 148, 44, 4000, 450, None),
    Gpu("NVIDIA H800", "nvidia", 81559, 989, 989, 67, 3350, 200, None),
    Gpu("NVIDIA A100-SXM4-80GB", "nvidia", 81920, 312, 312, 19.5, 2039, 300, 2.04),
    Gpu("NVIDIA A100 80GB PCIe", "nvidia", 81920, 312, 312, 19.5, 1935, 32, 1.37),
    Gpu("NVIDIA A100-SXM4-40GB", "nvidia", 40960, 312, 312, 19.5, 1555, 300, 3.045),
    Gpu("NVIDIA A100-PCIE-40GB", "nvidia", 40960, 312, 312, 19.5, 1555, 32, 1.99),
    Gpu("NVIDIA A800-SXM4-80GB", "nvidia", 81920, 312, 312, 19.5, 2039, 200, None),
    Gpu("NVIDIA A30", "nvidia", 24576, 165, 165, 10.3, 933, 32, 0.34),
    Gpu("NVIDIA A40", "nvidia", 46068, 149.7, 149.7, 37.4, 696, 32, 0.69),
    Gpu("NVIDIA A10", "nvidia", 23028, 125, 125, 31.2, 600, 32, 1.29),
    Gpu("NVIDIA A10G", "nvidia", 23028, 70, 70, 31.5, 600, 32, 1.006),
    Gpu("NVIDIA L40S", "nvidia", 46068, 362, 362, 91.6, 864, 32, 1.5484),
    Gpu("NVIDIA L40", "nvidia", 46068, 181, 181, 90.5, 864, 32, 1.07),
    Gpu("NVIDIA L20", "nvidia", 46068, 119.5, 119.5, 59.8, 864, 32, None),
    Gpu("NVIDIA L4", "nvidia", 23034, 121, 121, 30.3, 300, 32, 0.44),
    Gpu("NVIDIA RTX 6000 Ada Generation", "nvidia", 49140, 364, 364, 91.1, 960, 32, 0.9081),
    Gpu("NVIDIA GeForce RTX 4090", "nvidia", 24564, 165.2, 165.2, 82.6, 1008, 32, 0.54),
    Gpu("NVIDIA GeForce RTX 4080", "nvidia", 16376, 97.5, 97.5, 48.7, 717, 32, None),
    Gpu("NVIDIA RTX A6000", "nvidia", 49140, 154.8, 154.8, 38.7, 768, 32, 0.79),
    Gpu("NVIDIA RTX A5000", "nvidia", 24564, 111, 111, 27.8, 768, 32, 0.34),
    Gpu("NVIDIA RTX A4000", "nvidia", 16376, 76.7, 76.7, 19.2, 448, 32, 0.12),
    Gpu("NVIDIA GeForce RTX 3090", "nvidia", 24576, 71, 71, 35.6, 936, 32, 0.28),
    Gpu("NVIDIA GeForce RTX 3090 Ti", "nvidia", 24564, 80, 80, 40, 1008, 32, None),
    Gpu("NVIDIA GeForce RTX 3060", "nvidia", 12288, 25.5, 25.5, 12.7, 360, 32, 0.07),
    Gpu("Tesla T4", "nvidia", 15360, None, 65, 8.1, 320, 16, 0.526),
    Gpu("Tesla V100-SXM2-16GB", "nvidia", 16384, None, 125, 15.7, 900, 150, 0.79),
    Gpu("Tesla V100-SXM2-32GB", "nvidia", 32768, None, 125, 15.7, 900, 150, None),
    Gpu("Tesla P100-PCIE-16GB", "nvidia", 16384, None, 18.7, 9.3, 732, 16, None),
    Gpu("NVIDIA GeForce RTX 2080 Ti", "nvidia", 11264, None, 53.8, 13.4, 616, 16, None),
    Gpu("Quadro RTX 6000", "nvidia", 24576, None, 130.5, 16.3, 672, 16, 0.69),
    Gpu("AMD Instinct MI355X", "amd", 294912, 2500, 2500, 157.3, 8000, 538, None),
    Gpu("AMD Instinct MI325X", "amd", 262144, 1307.4, 1307.4, 163.4, 6000, 448, None),
    Gpu("AMD Instinct MI300X", "amd", 196592, 1307.4, 1307.4, 163.4, 5300, 448, 1.99),
    Gpu("AMD Instinct MI250X", "amd", 65536, 191.5, 191.5, 23.9, 1638, 200, None),
    Gpu("NVIDIA H200 NVL", "nvidia", 143771, 835, 835, 60, 4800, 450, None),
    Gpu("NVIDIA RTX 5000 Ada Generation", "nvidia", 32760, 261, 261, 65.3, 576, 32, None),
    Gpu("NVIDIA RTX 4500 Ada Generation", "nvidia", 24570, 158, 158, 39.6, 432, 32, None),
    Gpu("NVIDIA RTX 4000 Ada Generation", "nvidia", 20475, 107, 107, 26.7, 360, 32, None),
    Gpu("NVIDIA GeForce RTX 5080", "nvidia", 16303, 112.6, 112.6, 56.3, 960, 64, None),
    Gpu("NVIDIA GeForce RTX 5070 Ti", "nvidia", 16303, 87.9, 87.9, 43.9, 896, 64, None),
    Gpu("NVIDIA GeForce RTX 4080 SUPER", "nvidia", 16376, 104.4, 104.4, 52.2, 736, 32, None),
    Gpu("NVIDIA GeForce RTX 4070 Ti SUPER", "nvidia", 16376, 88.2, 88.2, 44.1, 672, 32, None),
    Gpu("NVIDIA GeForce RTX 3080 Ti", "nvidia", 12288, 68.2, 68.2, 34.1, 912, 32, None),
    Gpu("NVIDIA GeForce RTX 3080", "nvidia", 10240, 59.5, 59.5, 29.8, 760, 32, None),
    Gpu("NVIDIA GeForce RTX 3070", "nvidia", 8192, 40.6, 40.6, 20.3, 448, 32, None),
    Gpu("NVIDIA A2", "nvidia", 15356, 18, 18, 4.5, 200, 16, None),
    Gpu("Tesla V100-PCIE-16GB", "nvidia", 16384, None, 112, 14, 900, 16, None),
    Gpu("Tesla V100-PCIE-32GB", "nvidia", 32768, None, 112, 14, 900, 16, None),
    Gpu("NVIDIA TITAN RTX", "nvidia", 24576, None, 130.5, 16.3, 672, 16, None),
    Gpu("Quadro RTX 8000", "nvidia", 49152, None, 130.5, 16.3, 672, 16, None),
    Gpu("Quadro RTX 5000", "nvidia", 16384, None, 89.2, 11.2, 448, 16, None),
)


@lru_cache(maxsize=4096)
def _key(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    return " ".join(w for w in words if w not in {"nvidia", "tesla", "amd"})


_OTHER_NAMES: Final = {
    "NVIDIA A100-SXM-80GB": "NVIDIA A100-SXM4-80GB",
    "NVIDIA A100-SXM-40GB": "NVIDIA A100-SXM4-40GB",
    "NVIDIA A100-PCIE-80GB": "NVIDIA A100 80GB PCIe",
    "NVIDIA H100 80GB HBM2e": "NVIDIA H100 PCIe",
    "Tesla V100-DGXS-32GB": "Tesla V100-SXM2-32GB",
    "Tesla V100-SXM3-32GB": "Tesla V100-SXM2-32GB",
}
"""Names that other drivers print for the same parts."""


def same_model(name: str, other: str) -> bool:
    """Whether both are one model's name; vendor words, case and dashes don't count."""
    return _key(name) == _key(other) != ""


@lru_cache(maxsize=1024)
def gpu_named(name: str) -> Gpu | None:
    """The catalogue's GPU of exactly that name; vendor words, case and dashes don't count."""
    meant = next((n for other, n in _OTHER_NAMES.items() if _key(other) == _key(name)), name)
    return next((g for g in CATALOGUE if _key(g.name) == _key(meant)), None)


_MIG: Final = re.compile(r"\bmig[\s:-]+(\d)g\.(\d{1,3})gb(?:\+\w+)?\s*$", re.IGNORECASE)
_QUARTERS: Final = ("a30", "rtx pro 6000")
"""How the names start of the types that are cut into quarters; others have 7 parts of processors and 8 of memory."""
_MEMORY_PARTS: Final = {1: (1 / 8, 1 / 4), 2: (1 / 4,), 3: (1 / 2,), 4: (1 / 2,), 7: (1.0,)}
"""Shares of the memory that a slice of so many parts of the processors may have; from NVIDIA's MIG user guide."""


@lru_cache(maxsize=1024)
def gpu_like(name: str) -> Gpu | None:
    """The catalogue's GPU of that name, a MIG slice of one, or the least of those that a shorter name may mean.

    None: a type that the catalogue doesn't know; nothing is assumed of it.
    """
    known = gpu_named(name)
    if known is not None or not _key(name):
        return known
    if (cut := _MIG.search(name)) is not None:
        able = _cut_from(name[: cut.start()], int(cut[1]), int(cut[2]))
        return _slice(able, name, int(cut[1]), int(cut[2])) if able else None
    meant = [g for g in CATALOGUE if matches_model(name, g.name)]
    return min(meant, key=lambda g: (g.memory_mib, g.fp16_tflops, g.bandwidth_gbs), default=None)


def whole_of(name: str) -> tuple[str, float] | None:
    """Of which GPU that is a MIG slice, and the share of it that counts for a price; None: it is no slice."""
    cut = _MIG.search(name)
    if cut is None or not (able := _cut_from(name[: cut.start()], int(cut[1]), int(cut[2]))):
        return None
    parts = _parts(able[0], int(cut[1]), int(cut[2]))
    said = name[: cut.start()].strip()
    return None if parts is None else (said if gpu_named(said) else able[0].name, max(parts))


def _cut_from(name: str, compute: int, memory_gb: int) -> list[Gpu]:
    """The GPUs of that name, or of those that a shorter name may mean, which are cut like that: the least first."""
    if not _key(name):
        return []
    exact = gpu_named(name)
    meant = [exact] if exact is not None else [g for g in CATALOGUE if matches_model(name, g.name)]
    able = [g for g in meant if _parts(g, compute, memory_gb) is not None]
    able = [g for g in able if _is_offered(g, compute, memory_gb)] or able
    dearest = float("inf")
    return sorted(able, key=lambda g: (g.memory_mib, g.fp16_tflops, g.bandwidth_gbs, g.usd_per_hour or dearest))


def _quarters(whole: Gpu) -> bool:
    return _key(whole.name).startswith(_QUARTERS)


def _is_offered(whole: Gpu, compute: int, memory_gb: int) -> bool:
    """Whether a slice of so many parts has that memory on that GPU: `3g.40gb` is the half of 80 GB, never of 40."""
    shares = (compute / 4,) if _quarters(whole) else _MEMORY_PARTS.get(compute, ())
    held = memory_gb * 1000 / (whole.memory_mib * 1.048576)
    return any(0.88 * share <= held <= 1.06 * share for share in shares)  # names round, and some memory stays back


def _parts(whole: Gpu, compute: int, memory_gb: int) -> tuple[float, float] | None:
    """The shares of processors and memory; None where no GPU of the type is cut like that."""
    part = compute / (4 if _quarters(whole) else 7)
    held = memory_gb * 1000 / (whole.memory_mib * 1.048576)
    return (part, min(held, 1.0)) if 0 < part <= 1 and 0 < held <= 1.05 else None


def _slice(able: list[Gpu], name: str, compute: int, memory_gb: int) -> Gpu | None:
    """A slice of the first of these GPUs: its part of the processors, and of the memory with its bandwidth.

    It talks to no other GPU, and costs no more than the cheapest whole one that it can be cut from.
    """
    whole = able[0]
    parts = _parts(whole, compute, memory_gb)
    if parts is None:
        return None
    part, held = parts
    wholes = [g.usd_per_hour for g in able if g.usd_per_hour is not None]
    price = None if whole.usd_per_hour is None else round(min(whole.usd_per_hour * max(parts), *wholes), 4)
    return Gpu(
        name,
        whole.vendor,
        min(whole.memory_mib, round(memory_gb * 0.95 * 1024)),  # 9728 MiB for 10 GB, as nvidia-smi has it
        None if whole.bf16_tflops is None else whole.bf16_tflops * part,
        whole.fp16_tflops * part,
        whole.fp32_tflops * part,
        whole.bandwidth_gbs * held,
        min(whole.link_gbs, 16),
        price,
    )


def matches_model(wanted: str, model: str) -> bool:
    """Whether a node's device `model` is what a plan calls `wanted`: all of its words, `A100` or `a100 80gb`."""
    have = set(_key(model).split())
    return all(
        w in have or (w.rstrip("gb").isdigit() and w in _key(model).replace(" ", "")) for w in _key(wanted).split()
    )
