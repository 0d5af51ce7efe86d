"""Against builds that don't fit: torch and the GPU or its driver, attention kernels, quantisation, compilers.

Which versions of torch have kernels for which GPUs is told by its release notes; see `_SINCE` and `_UNTIL`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from caravan.diagnosis.ladders.case import Case, with_item
from caravan.diagnosis.ladders.devices import newer_gpus
from caravan.diagnosis.ladders.packages import requirement_lines
from caravan.diagnosis.ladders.versions import repinned
from caravan.values.base import Json
from caravan.values.distributions import requirement_name
from caravan.values.failure import Repair

# Compute capability → first version of torch whose wheels on the index have kernels for it.
_SINCE: Final = ((12.0, "2.7"), (10.0, "2.7"), (9.0, "2.0"), (8.6, "1.9"), (8.0, "1.7"))
# Compute capability below which → the first version of torch whose wheels on the index have no kernels any more.
_UNTIL: Final = ((5.0, "2.1"), (7.0, "2.8"), (7.5, "2.11"))
_BITSANDBYTES: Final = "bitsandbytes>=0.43.2"  # brings the libraries of all CUDA versions in one wheel
_LIBRARIES: Final = "/usr/local/cuda/lib64:/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu"
_APT: Final[dict[str, str]] = {
    "ar": "build-essential",
    "c++": "build-essential",
    "cargo": "cargo",
    "cc": "build-essential",
    "cc1plus": "build-essential",
    "clang": "clang",
    "cmake": "cmake",
    "ffmpeg": "ffmpeg",
    "g++": "build-essential",
    "gcc": "build-essential",
    "gfortran": "gfortran",
    "git": "git",
    "git-lfs": "git-lfs",
    "ld": "build-essential",
    "libGL.so.1": "libgl1",
    "libaio": "libaio-dev",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libsndfile": "libsndfile1",
    "make": "build-essential",
    "mpicc": "libopenmpi-dev",
    "mpirun": "openmpi-bin",
    "ninja": "ninja-build",
    "pkg-config": "pkg-config",
    "python.h": "python3-dev",
    "rustc": "cargo",
    "swig": "swig",
    "unzip": "unzip",
    "wget": "wget",
}
"""Program or file that a build misses → Debian's package that has it."""
_NVCC: Final = r"\bnvcc\b|CUDA_HOME|CUDA_PATH|cuda_runtime\.h|cublas|cusparse"


def torch_build(case: Case) -> Iterator[Repair]:
    """The torch that has kernels for the GPU, an image with it, another GPU."""
    line = _torch_for(case)
    if line:
        yield from case.change(repinned(case, "torch", line), f"{line}, whose build serves the GPU")
    for image in case.outlook.images(case.plan):
        if image.torch and image.image != case.plan.image and _serves(case, image.torch):
            yield from case.change({"image": image.image}, f"{image.image} with torch {image.torch} for the GPU")
    if case.detail("kind") == "cpu":
        without = [x for x in case.plan.setup.pip if "+cpu" not in x]
        values: dict[str, Json] = {"setup.pip": without} if len(without) < len(case.plan.setup.pip) else {}
        yield from case.change(values, "without the build of torch that knows no CUDA")
    now = case.plan.resources.gpu_model
    for offer in case.outlook.gpus(case.plan) if case.detail("kind") != "cpu" else ():
        if offer.model not in (now, case.detail("gpu")):
            yield from case.change({"resources.gpu_model": offer.model}, f"{offer.model}, which that torch may serve")


def _torch_for(case: Case) -> str:
    """The bounds on torch for the GPU's compute capability; empty where it is not known or nothing binds."""
    capability = _capability(case)
    if capability is None:
        return ""
    since = next((version for least, version in _SINCE if capability >= least), "")
    until = next((version for below, version in _UNTIL if capability < below), "")
    bounds = [*([f">={since}"] if since and capability >= 9.0 else []), *([f"<{until}"] if until else [])]
    return f"torch{','.join(bounds)}" if bounds else ""


def _capability(case: Case) -> float | None:
    """`8.6` or `sm_86` as 8.6; None: not named."""
    said = case.detail("capability")
    found = re.search(r"(\d+)\.(\d+)", said) or re.search(r"(\d+)(\d)[a-f]?\b", said)
    return float(f"{found[1]}.{found[2]}") if found else None


def _serves(case: Case, version: str) -> bool:
    """Whether that torch has kernels for the GPU, as far as is known."""
    capability = _capability(case)
    if capability is None:
        return True
    since = next((v for least, v in _SINCE if capability >= least), "0")
    until = next((v for below, v in _UNTIL if capability < below), "99")
    return _numbers(since) <= _numbers(version) < _numbers(until)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])


def old_driver(case: Case) -> Iterator[Repair]:
    """Nodes whose driver is known to be newer: the training stays as it is. Else an image of an older CUDA, an older
    torch, then another node, whose driver may be newer; the node first where the job installs no torch."""
    newer = _newer_drivers(case)
    yield from case.change(newer, "only nodes whose GPU driver is newer")
    elsewhere = tuple(_other_node(case))
    if not _installs(case, "torch"):
        yield from elsewhere
    bound = case.outlook.torch_below(case.plan)
    for image in case.outlook.images(case.plan):
        if image.cuda and image.image != case.plan.image:
            yield from case.change({"image": image.image}, f"{image.image}, whose CUDA {image.cuda} the driver runs")
            break
    if bound:
        yield from case.change(repinned(case, "torch", f"torch<{bound}"), f"torch older than {bound}, for the driver")
    yield from elsewhere


def _other_node(case: Case) -> Iterable[Repair]:
    """Another node, unless all of them are known to have no newer driver."""
    here, others = _driver_of(case, case.diagnosis.node_name), case.others()
    told = [_driver_of(case, node.name) for node in others]
    if here and told and all(driver and driver <= here for driver in told):
        return ()
    return case.change(case.avoiding(), f"another node than {case.diagnosis.node_name}, whose driver is too old")


def _newer_drivers(case: Case) -> dict[str, Json]:
    """The nodes left out whose driver is no newer than the one that was too old; nothing where none is known newer."""
    here = _driver_of(case, case.diagnosis.node_name)
    told = {node.name: _driver_of(case, node.name) for node in case.others()}
    if not here or not any(driver and driver > here for driver in told.values()):
        return {}
    old = [name for name, driver in told.items() if driver and driver <= here]
    out = dict.fromkeys((*case.plan.exclude_nodes, case.diagnosis.node_name, *old))
    return {"exclude_nodes": list(out)} if len(out) > len(case.plan.exclude_nodes) else {}


def _driver_of(case: Case, name: str) -> tuple[int, ...]:
    """The oldest driver of the node's NVIDIA GPUs as numbers; empty: not known."""
    node = next((n for n in case.facts.nodes if n.name == name), None)
    if node is None:
        return ()
    own = node.attributes.get("driver.nvidia.version", "")
    told = [d.driver or own for d in node.devices if d.type == "gpu" and d.vendor == "nvidia"]
    known = [tuple(map(int, text.split("."))) for text in told if text and re.fullmatch(r"\d{1,9}(?:\.\d{1,9})*", text)]
    return min(known, default=())


def _installs(case: Case, name: str) -> bool:
    """Whether the job or a file of the repository that says what to install asks for the package."""
    files = dict.fromkeys((*filter(None, (case.plan.setup.requirements,)), *case.looks.dependencies()))
    lines = (line for file in files for line in requirement_lines(file, case.looks.read(file)))
    return any(requirement_name(line) == name for line in (*case.plan.setup.pip, *lines))


def attention(case: Case) -> Iterator[Repair]:
    """The attention of torch itself, by the field or the program's option; then without the package, newer GPUs."""
    yield from case.change(case.heard({"training.attn": "sdpa"}), "torch's own attention instead of flash-attn")
    switch = case.option(*_FLASH)
    if switch:
        values = case.heard({f"training.options.{switch}": False})
        yield from case.change(values, f"{switch} off: flash-attn can't be used")
    yield from case.change(case.heard({"training.attn": "eager"}), "plain attention instead of flash-attn")
    kept = [line for line in case.plan.setup.pip if requirement_name(line) != "flash-attn"]
    if len(kept) < len(case.plan.setup.pip):
        yield from case.change({"setup.pip": kept}, "without flash-attn, which does not fit torch")
    if case.detail("kind") == "gpu":
        yield from newer_gpus(case)


_FLASH: Final = (
    *("use_flash_attn", "use_flash_attention", "use_flash_attention_2", "flash_attn", "flash_attention"),
    *("use_flash_attn_2", "enable_flash_attn", "flash"),
)


def quantisation(case: Case) -> Iterator[Repair]:
    """A bitsandbytes that brings its libraries, the image's CUDA libraries on the path, adapters without quantising."""
    yield from case.change(
        repinned(case, "bitsandbytes", _BITSANDBYTES), f"{_BITSANDBYTES}, which brings its libraries"
    )
    known = case.plan.env.get("LD_LIBRARY_PATH")
    if case.detail("kind") in ("", "library") and case.plan.driver == "docker" and known is None:
        yield from case.change({"env.LD_LIBRARY_PATH": _LIBRARIES}, "the image's CUDA libraries are found")
    training = case.plan.training
    if training.method == "qlora":
        values = case.heard({"training.method": "lora"})
        yield from case.change(values, "LoRA without quantising, which needs more GPU memory")
    if training.quant_bits is not None:
        yield from case.change({"training.quant_bits": None}, "without quantising, which needs more GPU memory")
    if training.optimizer and "8bit" in training.optimizer:
        yield from case.change(case.heard({"training.optimizer": "adamw_torch"}), "torch's own optimiser")


def toolchain(case: Case) -> Iterator[Repair]:
    """An image with CUDA's compiler where that is missing; else what the build misses, by the system's packages."""
    if case.detail("program") in ("nvcc", "CUDA_HOME") or case.says(_NVCC):
        for image in case.outlook.images(case.plan):
            if image.nvcc and image.image != case.plan.image:
                yield from case.change({"image": image.image}, f"{image.image}, which has CUDA's compiler")
                break
        yield from _without_built(case)
        return
    yield from _system_packages(case)
    program = case.detail("program").rpartition("/")[2]
    if program in ("ninja", "cmake"):
        added = with_item(case.plan.setup.pip, program)
        yield from case.change({"setup.pip": added}, f"{program} from Python's index")
    for image in case.outlook.images(case.plan):
        if image.tools and image.image != case.plan.image:
            yield from case.change({"image": image.image}, f"{image.image}, which has a compiler")
            break
    yield from _without_built(case)


def _system_packages(case: Case) -> Iterable[Repair]:
    if case.plan.driver != "docker":
        return ()  # a node's own packages stay as they are
    program = case.detail("program").rpartition("/")[2]
    names = [name for name in _APT if program.lower().startswith(name.lower())]
    found = _APT[max(names, key=len)] if names else None  # gcc-12 is gcc; git-lfs is not git
    wanted = [found] if found else ["build-essential", "ninja-build"]
    added = [*case.plan.setup.apt, *(p for p in wanted if p not in case.plan.setup.apt)]
    values: dict[str, Json] = {"setup.apt": added} if len(added) > len(case.plan.setup.apt) else {}
    return case.change(values, f"{' and '.join(wanted)} for what is built on the spot")


def _without_built(case: Case) -> Iterable[Repair]:
    """Without flash-attn, where it is ours to install and torch's own attention does the same."""
    kept = [line for line in case.plan.setup.pip if requirement_name(line) != "flash-attn"]
    values = case.heard({"training.attn": "sdpa"}) if "flash" in case.detail("package") else {}
    if len(kept) == len(case.plan.setup.pip) or not values:
        return ()
    return case.change(
        {**values, "setup.pip": kept}, "torch's own attention instead of flash-attn, which must be built"
    )
