"""The GPU catalogue: names as NVML and Nomad report them, memory, speed and a typical price, and what is paid.

Facts only. It knows no plan and no cluster.

Sources: names and memory as `nvidia-smi` prints them (vendor data where no output was seen); dense TFLOPS without
sparsity from the vendors' data sheets; price = median of public on-demand list prices for one GPU, collected 2026-11.
Providers move prices often: they are defaults that a user overrides (`Prices`).
"""

import re
from typing import Final, NamedTuple

from pydantic import Field

from caravan.values.base import Value


class Gpu(NamedTuple):
    """A GPU type. Memory in MiB as NVML says, dense TFLOPS (bf16 None: not supported), US dollars an hour or None."""

    name: str
    vendor: str
    memory_mib: int
    bf16_tflops: float | None
    fp16_tflops: float | None
    usd_per_hour: float | None


class Prices(Value):
    """What the user says a GPU hour costs, in US dollars: for every GPU, or for each model by its name.

    An empty value means the catalogue's typical prices. 0 is a price: GPUs that cost nothing extra.
    """

    usd_per_gpu_hour: float | None = Field(default=None, ge=0)
    by_model: dict[str, float] = Field(default_factory=dict)


USABLE_SHARE: Final = 0.97
"""Share of a GPU's memory that torch can use: 0.971 to 0.994 over 13 types seen in public out-of-memory messages."""

CATALOGUE: Final[tuple[Gpu, ...]] = (
    Gpu("NVIDIA GB200", "nvidia", 189471, 2500, 2500, None),
    Gpu("NVIDIA B200", "nvidia", 183359, 2250, 2250, 5.195),
    Gpu("NVIDIA B300 SXM6 AC", "nvidia", 275040, 2250, 2250, 6.99),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Server Edition", "nvidia", 97887, 503.8, 503.8, 1.69),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "nvidia", 97887, 503.8, 503.8, 1.69),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "nvidia", 97887, 503.8, 503.8, 1.69),
    Gpu("NVIDIA GeForce RTX 5090", "nvidia", 32607, 209.5, 209.5, 0.46),
    Gpu("NVIDIA GH200 480GB", "nvidia", 97871, 990, 990, None),
    Gpu("NVIDIA H200", "nvidia", 143771, 989, 989, 3.5),
    Gpu("NVIDIA H100 80GB HBM3", "nvidia", 81559, 989, 989, 2.95),
    Gpu("NVIDIA H100 PCIe", "nvidia", 81559, 756, 756, 2.595),
    Gpu("NVIDIA H100 NVL", "nvidia", 95830, 835, 835, None),
    Gpu("NVIDIA H20", "nvidia", 97871, 148, 148, None),
    Gpu("NVIDIA H800", "nvidia", 81559, 989, 989, None),
    Gpu("NVIDIA A100-SXM4-80GB", "nvidia", 81920, 312, 312, 2.04),
    Gpu("NVIDIA A100 80GB PCIe", "nvidia", 81920, 312, 312, 1.37),
    Gpu("NVIDIA A100-SXM4-40GB", "nvidia", 40960, 312, 312, 3.045),
    Gpu("NVIDIA A100-PCIE-40GB", "nvidia", 40960, 312, 312, 1.99),
    Gpu("NVIDIA A800-SXM4-80GB", "nvidia", 81920, 312, 312, None),
    Gpu("NVIDIA A30", "nvidia", 24576, 165, 165, 0.34),
    Gpu("NVIDIA A40", "nvidia", 46068, 149.7, 149.7, 0.69),
    Gpu("NVIDIA A10", "nvidia", 23028, 125, 125, 1.29),
    Gpu("NVIDIA A10G", "nvidia", 23028, 70, 70, 1.006),
    Gpu("NVIDIA L40S", "nvidia", 46068, 362, 362, 1.5484),
    Gpu("NVIDIA L40", "nvidia", 46068, 181, 181, 1.07),
    Gpu("NVIDIA L20", "nvidia", 46068, 119.5, 119.5, None),
    Gpu("NVIDIA L4", "nvidia", 23034, 121, 121, 0.44),
    Gpu("NVIDIA RTX 6000 Ada Generation", "nvidia", 49140, 364, 364, 0.9081),
    Gpu("NVIDIA GeForce RTX 4090", "nvidia", 24564, 165.2, 165.2, 0.54),
    Gpu("NVIDIA GeForce RTX 4080", "nvidia", 16376, 97.5, 97.5, None),
    Gpu("NVIDIA RTX A6000", "nvidia", 49140, 154.8, 154.8, 0.79),
    Gpu("NVIDIA RTX A5000", "nvidia", 24564, 111, 111, 0.34),
    Gpu("NVIDIA RTX A4000", "nvidia", 16376, 76.7, 76.7, 0.12),
    Gpu("NVIDIA GeForce RTX 3090", "nvidia", 24576, 71, 71, 0.28),
    Gpu("NVIDIA GeForce RTX 3090 Ti", "nvidia", 24564, 80, 80, None),
    Gpu("NVIDIA GeForce RTX 3060", "nvidia", 12288, 25.5, 25.5, 0.07),
    Gpu("Tesla T4", "nvidia", 15360, None, 65, 0.526),
    Gpu("Tesla V100-SXM2-16GB", "nvidia", 16384, None, 125, 0.79),
    Gpu("Tesla V100-SXM2-32GB", "nvidia", 32768, None, 125, None),
    Gpu("Tesla P100-PCIE-16GB", "nvidia", 16384, None, 18.7, None),
    Gpu("NVIDIA GeForce RTX 2080 Ti", "nvidia", 11264, None, 53.8, None),
    Gpu("Quadro RTX 6000", "nvidia", 24576, None, 130.5, 0.69),
    Gpu("AMD Instinct MI355X", "amd", 294912, 2500, 2500, None),
    Gpu("AMD Instinct MI325X", "amd", 262144, 1307.4, 1307.4, None),
    Gpu("AMD Instinct MI300X", "amd", 196592, 1307.4, 1307.4, 1.99),
    Gpu("AMD Instinct MI250X", "amd", 65536, 191.5, 191.5, None),
)


def _key(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    return " ".join(w for w in words if w not in {"nvidia", "tesla", "amd"})


def gpu_named(name: str) -> Gpu | None:
    """The catalogue's GPU of exactly that name; vendor words, case and dashes don't count."""
    return next((g for g in CATALOGUE if _key(g.name) == _key(name)), None)


def matches_model(wanted: str, model: str) -> bool:
    """Whether a node's device `model` is what a plan calls `wanted`: all of its words, `A100` or `a100 80gb`."""
    have = set(_key(model).split())
    return all(
        w in have or (w.rstrip("gb").isdigit() and w in _key(model).replace(" ", "")) for w in _key(wanted).split()
    )


def usd_per_hour(model: str, prices: Prices) -> tuple[float | None, str]:
    """The price of an hour of one GPU of that model and where it is from; None when nobody knows it."""
    for name, price in prices.by_model.items():
        if _key(name) == _key(model):
            return price, "your price for this model"
    if prices.usd_per_gpu_hour is not None:
        return prices.usd_per_gpu_hour, "your price"
    known = gpu_named(model)
    if known is None or known.usd_per_hour is None:
        return None, f"no price is known for {model}; give one with CARAVAN_USD_PER_GPU_HOUR"
    return known.usd_per_hour, "typical list price, on demand"
