"""What a job does before its first step, and how long that takes: image, packages, code, data, model, warm-up.

Pure. Sizes are the plan's where it says them; bandwidths and the rest are assumptions, named here.
"""

from typing import Final, NamedTuple

from caravan.planning.environments import requirement_files
from caravan.planning.memory import Setting
from caravan.values.plan import TrainingPlan
from caravan.values.shape import ModelShape


class Stage(NamedTuple):
    """A part of the job and its seconds: at best, likely, at worst."""

    name: str
    low: float
    likely: float
    high: float


_NETWORK: Final = (1e9, 1e8, 2e7)
"""Bytes a second from registries, package indexes and hubs to a node: 8 Gbit/s, 800 Mbit/s, 160 Mbit/s."""
_READ: Final = (2e9, 5e8, 1e8)
"""Bytes a second from a node's disk or a volume into memory."""
_IMAGES: Final = (("devel", 8e9), ("runtime", 3.5e9), ("python:", 4e8), ("slim", 2e8), ("alpine", 5e7))
"""Compressed sizes of images by a word of their names, as their registries list them."""
_IMAGE: Final = 5e9
"""The same where the name says nothing: a framework with CUDA."""
_TORCH: Final = ("torch", "tensorflow", "jax", "vllm", "deepspeed")
_TORCH_BYTES: Final = 3e9  # wheels of torch with CUDA's libraries
_PLAIN_BYTES: Final = 2e8  # of a dozen usual packages


def start_stages(plan: TrainingPlan, shape: ModelShape | None, setting: Setting) -> tuple[Stage, ...]:
    """The stages before the first step."""
    found = [_image(plan), _packages(plan), _fetched(plan), _model(plan, shape, setting), _warm_up(plan, setting)]
    if plan.smoke.on:
        found.append(Stage("first steps", 30.0, 120.0, float(max(120, plan.smoke.max_s))))
    return tuple(s for s in found if s is not None and s.high > 0)


def _image(plan: TrainingPlan) -> Stage | None:
    """Pulling the image; nothing where the node has it, or where the driver needs none."""
    if plan.driver != "docker" or not plan.image:
        return None
    size = next((size for word, size in _IMAGES if word in plan.image), _IMAGE)
    return Stage("image", 0.0, size / _NETWORK[1] * 1.5, size / _NETWORK[2] * 1.5)  # and half as long to unpack


def _packages(plan: TrainingPlan) -> Stage | None:
    setup = plan.setup
    lines = (*setup.pip, *requirement_files(plan))
    if not lines and not setup.apt and not setup.cmd:
        return None
    # a file of requirements of a training names its framework; the image may have it already
    heavy = bool(setup.requirements) or any(word in line.lower() for line in lines for word in _TORCH)
    size = (_TORCH_BYTES if heavy else _PLAIN_BYTES) if lines else 0.0
    further = 20.0 * bool(setup.apt) + 10.0 * len(setup.cmd)
    likely = size / _NETWORK[1] + (30.0 if heavy else 10.0) * bool(lines) + further
    return Stage("packages", min(5.0, likely), likely, size / _NETWORK[2] + 300.0 * bool(lines) + further * 10)


def _fetched(plan: TrainingPlan) -> Stage | None:
    """Fetching code and data to the node, by their sizes where these are known."""
    code = plan.code.size_bytes or 0
    data = plan.data
    moved = data.size_bytes or 0 if data is not None and data.kind == "upload" else 0
    size = float(code + moved)
    hub = float(plan.dataset.path is not None and data is None)
    least, likely, most = (size / rate for rate in _NETWORK)
    return Stage("code and data", least, likely + 2 + 20 * hub, most + 10 + 300 * hub)


def _model(plan: TrainingPlan, shape: ModelShape | None, setting: Setting) -> Stage | None:
    """Downloading the weights, where they are on a hub, and reading them on every process."""
    if shape is None or plan.model.source == "scratch":
        return None
    size = shape.params_b * 1e9 * (4 if setting.weights_dtype == "fp32" and shape.params_b < 1 else 2)
    read = [size / rate for rate in _READ]
    if plan.model.source in ("path", "repository"):
        return Stage("model", *read)
    fetched = [0.0, size / _NETWORK[1], size / _NETWORK[2]]  # a cache may have it
    return Stage("model", *(r + f for r, f in zip(read, fetched, strict=True)))


def _warm_up(plan: TrainingPlan, setting: Setting) -> Stage:
    """Imports, CUDA's start, tokenizing the first samples, compiling."""
    compiled = 120.0 if setting.compiled else 0.0
    few = 10.0 if not plan.resources.gpus else 30.0
    return Stage("warm-up", 5.0, few + compiled, 180.0 + compiled * 5)
