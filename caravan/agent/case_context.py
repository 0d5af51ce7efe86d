"""By what a case is found again: what is trained how by which code, what the plan asks for, what the failure names.

Small values only, no secrets, and of paths those that the repository itself has. Pure functions of a run's state.
"""

import re
from collections.abc import Iterable
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from caravan.agent.state import RunState
from caravan.values.base import Json
from caravan.values.distributions import normal
from caravan.values.failure import Diagnosis
from caravan.values.fingerprint import shape
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile

SUBJECT: Final = ("module", "package", "option", "path", "program", "image")
"""What a diagnosis names that tells two failures of one cause apart: another missing package is another failure."""
_NAMED: Final = ("column", *SUBJECT, "symbol", "library", "variable", "dtype", "dimension", "repo")
"""What else it may name that a case is found again by."""
PLACES: Final = {
    "driver": "driver",
    "gpu_model": "resources.gpu_model",
    "gpus": "resources.gpus",
    "memory_mb": "resources.memory_mb",
    "micro_batch": "training.micro_batch",
    "max_len": "training.max_len",
    "precision": "training.precision",
    "nodes": "launch.nodes",
    "gpu_driver": "resources.gpu_driver",
}
"""Parts of the context that are the plan's and that a repair may change → the plan's field."""
_PACKAGES: Final = frozenset(
    {"torch", "transformers", "peft", "trl", "accelerate", "deepspeed", "bitsandbytes", "flash-attn", "datasets"}
    | {"tokenizers", "numpy", "pytorch-lightning", "lightning", "diffusers", "jax", "tensorflow", "keras", "xformers"}
    | {"triton", "torchvision", "timm", "sentence-transformers", "unsloth", "vllm", "safetensors", "huggingface-hub"}
)
"""Packages whose versions decide whether a repair of then is one now."""
_LINES, _LINE = 3, 300  # decisive lines of a failure, and characters of each, that it is found again by
_LONGEST: Final = 120  # characters of an image's name and of a subject


def case_context(state: RunState) -> dict[str, Json]:
    """The context of the run as it is: also of the failure at hand, where there is one."""
    failed = named(state.diagnosis) if state.diagnosis else {}
    return plan_context(state) | failed


def plan_context(state: RunState) -> dict[str, Json]:
    """The context of what is trained, without a failure."""
    profile, plan = state.need_profile(), state.plan
    context: dict[str, Json] = {
        "framework": profile.framework,
        "method": plan.training.method if plan else profile.method,
        "base_model": plan.model.id if plan else profile.base_model,
        "entry_point": profile.entry_point,
        "code_digest": state.code_digest or None,
        **state.known_by,
        "tree_digest": profile.tree_digest,
        "launch_command": profile.launch_command,
    }
    versions = versions_of(profile, plan)
    if versions:
        context["versions"] = versions
    if plan is None:
        return context
    context |= {name: plan.get(path) for name, path in PLACES.items()}
    if plan.image:
        context["image"] = image_name(plan.image)
    estimate = state.estimate
    if plan.resources.gpus and context["gpu_model"] is None and estimate:
        context["gpu_model"] = estimate.gpu  # the type it gets, though the plan leaves the choice open
    if estimate and estimate.shape:
        context["params_b"] = float(f"{estimate.shape.params_b:.3g}")
    if plan.resources.gpus and estimate and estimate.gpu_total_gib:
        context["gpu_memory_gib"] = round(estimate.gpu_total_gib)
    return context


def named(diagnosis: Diagnosis) -> dict[str, Json]:
    """What the failure names (`subject`, `package=einops`), of which kind of its cause it is, and the shapes of its
    decisive lines (`said`), so that it is found again where it is read as another cause."""
    found = subject_of(diagnosis)
    said = list(dict.fromkeys(s for s in (shape(line)[:_LINE] for line in diagnosis.lines[:_LINES]) if s))
    if said:
        found["said"] = said
    kind = diagnosis.details.get("kind") or diagnosis.details.get("where")
    return found | ({"kind": kind[:_LONGEST]} if kind else {})


def subject_of(diagnosis: Diagnosis) -> dict[str, Json]:
    """What the failure names first, as one entry of a context; empty where it names nothing."""
    details = diagnosis.details
    told = [f"{name}={details[name]}"[:_LONGEST] for name in _NAMED if name in details]
    if "module" in details and "symbol" in details:  # of one module many things may be missing
        told = [f"symbol={details['module']}.{details['symbol']}"[:_LONGEST]]
    return {"subject": told[0]} if told else {}


def image_name(image: str) -> str:
    """The image's name and tag without its registry and digest: who keeps it where is nobody else's business."""
    name = image.partition("@")[0]
    host, slash, rest = name.partition("/")
    own = slash and ("." in host or ":" in host or host == "localhost")
    return (rest if own else name)[:_LONGEST]


def versions_of(profile: RepoProfile, plan: TrainingPlan | None) -> dict[str, Json]:
    """Package → the version that is pinned: by the repository's files, by the image's name, by the plan's packages.

    The later of these stands over the earlier. A bound is no version, and is left out.
    """
    declared = [w.line for w in profile.environment.declared] if profile.environment else []
    image = _of_image(plan.image) if plan and plan.image else {}
    own = plan.setup.pip if plan else ()
    return dict(sorted((_pins(declared) | image | _pins(own)).items()))


def _pins(lines: Iterable[str]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for line in lines:
        try:
            required = Requirement(line)
        except InvalidRequirement:
            continue
        pins = [s.version for s in required.specifier if s.operator in ("==", "===", "~=")]
        if normal(required.name) in _PACKAGES and pins:
            found[normal(required.name)] = pins[0].removesuffix(".*")
    return found


def _of_image(image: str) -> dict[str, Json]:
    """What an image's name tells of its packages: `pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime`."""
    name, _, tag = image_name(image).rpartition(":")
    found: dict[str, Json] = {}
    cuda = re.search(r"(?:cuda|cu)-?(\d+\.\d+)", tag) or (re.match(r"(\d+\.\d+)", tag) if "cuda" in name else None)
    if cuda is not None:
        found["cuda"] = cuda[1]
    torch = re.match(r"v?(\d+\.\d+(?:\.\d+)?)", tag) if "pytorch" in name or name.endswith("torch") else None
    if torch is not None and int(torch[1].partition(".")[0]) < _YEARS:
        found["torch"] = torch[1]
    return found


_YEARS: Final = 10  # NVIDIA's own tags are of years and months, `24.05`
