"""What an approval keeps of a plan: all that a repair may not change without a question, each field by its digest.

The rule is that every field is kept but for those named here: what repairs are for, and what has a check of its own.
"""

import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from caravan.values.base import Json, sha256_text
from caravan.values.errors import PlanError
from caravan.values.outward import OPTION, narrows, outlets
from caravan.values.plan import TrainingPlan

_BLOCKS: Final = ("setup", "limits", "docker", "launch", "env", "smoke", "model", "dataset", "training")
"""Blocks that are kept field by field; others are kept as a whole."""
_TRAINING: Final = (
    *("method", "micro_batch", "grad_accum", "max_len", "lr", "warmup", "max_grad_norm", "optimizer", "precision"),
    *("tf32", "quant_bits", "grad_checkpointing", "attn", "lora_rank", "num_workers", "seed", "save_total_limit"),
    *("ddp_timeout", "gpu_memory_share", "resize_embeddings"),
    "options",  # by what they say: `caravan.values.outward`
)
_FREE: Final = frozenset(
    {
        *("resources", "flags", "exclude_nodes", "shm_mb", "kill_timeout_s", "image_pull_timeout_s"),
        *(f"training.{name}" for name in _TRAINING),
        *("model.id", "model.source", "dataset.format", "dataset.columns", "dataset.examples"),
        "smoke.on",  # whether it costs anything may change with where it runs
        *("launch.launcher", "launch.nproc", "launch.nodes", "launch.master_port"),
        *("env.TOKENIZERS_PARALLELISM", "env.OMP_NUM_THREADS", "env.PYTORCH_CUDA_ALLOC_CONF"),
        *("env.NCCL_DEBUG", "env.NCCL_IB_DISABLE", "env.NCCL_SOCKET_IFNAME", "env.NCCL_P2P_DISABLE"),
        *("env.NCCL_SHM_DISABLE", "env.PYTHONFAULTHANDLER", "env.MASTER_PORT", "env.CUDA_VISIBLE_DEVICES"),
    }
)
"""What repairs are for: how the same program trains the same model with the same data, and with how much room. How
much of it an approval allows is the envelope's business."""
_ELSEWHERE: Final = frozenset({"image", "mounts", "datacenters", "secrets", "setup.pip", "limits.max_run_s"})
"""What the envelope looks at for itself."""
_PYTHON: Final = re.compile(r"python[\d.]*")


def kept_fields(plan: TrainingPlan) -> dict[str, str]:
    """SHA-256 of each field that stays as it was approved, by its path."""
    return {path: sha256_text(json.dumps(value, sort_keys=True)) for path, value in _fields(plan)}


def not_kept(plan: TrainingPlan, kept: Mapping[str, str]) -> tuple[str, ...]:
    """Paths of the fields that are not as they were approved. A field younger than the approval is not known there."""
    now = kept_fields(plan)
    whole = _SINCE in kept
    changed = [path for path, digest in now.items() if _before(path, kept, digest, whole=whole) != digest]
    changed = [path for path in changed if not (narrows(path) and now[path] == _NOTHING)]
    gone = [path for path in kept if path not in now]
    gone = [path for path in gone if path.startswith("env.") or (path.startswith(OPTION) and kept[path] == _NOTHING)]
    return (*changed, *gone)


def shown(plan: TrainingPlan, path: str) -> Json:
    """The value at one of these paths, for people; None where there is none."""
    if path.startswith(OPTION):
        return next((outlet.value for outlet in outlets(plan) if outlet.path == path), None)
    try:
        return plan.get(path)
    except PlanError:  # below a block that is unset now
        return None


_SINCE: Final = "workdir"
"""Where an approval keeps this field, it keeps all that says where things go."""
_NOTHING: Final = sha256_text("null")


def _before(path: str, kept: Mapping[str, str], digest: str, *, whole: bool) -> str:
    if path in kept:
        return kept[path]
    optional = path.startswith(OPTION) or path.startswith("env.")
    return "" if optional and (whole or not narrows(path)) else digest


def _fields(plan: TrainingPlan) -> Iterator[tuple[str, Json]]:
    for name, value in plan.model_dump(mode="json", exclude={"provenance"}).items():
        inside = {f"{name}.{key}": item for key, item in value.items()} if name in _BLOCKS else {name: value}
        for path, item in inside.items():
            if path in _FREE or path in _ELSEWHERE or narrows(path):
                continue
            if path in _CACHES and str(item).startswith(_KEPT_HERE) and ".." not in str(item):
                continue
            if not (path == _IMPORTS and not _essence(path, item)):
                yield path, _essence(path, item)
    for outlet in outlets(plan):
        yield outlet.path, outlet.essence


_IMPORTS: Final = "env.PYTHONPATH"
_KEPT_HERE: Final = "${NOMAD_ALLOC_DIR}/"
_CACHES: Final = ("env.HF_HOME", "env.TORCH_HOME", "env.TRITON_CACHE_DIR", "env.MPLCONFIGDIR", "env.HOME")
"""Where a program keeps things for itself: in the allocation's own directory it reaches nothing of anybody else's."""


def _essence(path: str, value: Json) -> Json:
    """What of the field is kept: which program, but not where in the repository it lies or with which options."""
    if path == "command" and isinstance(value, list):
        return program_of(value)
    if path == "setup.cmd" and isinstance(value, list):
        return [command for command in value if not _makes_a_directory(str(command))]
    if path == "setup.python" and _PYTHON.fullmatch(posixpath.basename(str(value))):
        return "python"
    if path == _IMPORTS:
        return [entry for entry in str(value).split(":") if entry and (entry[0] in "/$~" or ".." in entry.split("/"))]
    return value


def program_of(command: Iterable[str]) -> Json:
    """Which program a command starts, wherever in the repository it lies and with whatever options."""
    return _program([str(word) for word in command])


def _program(words: list[str]) -> Json:
    """The name of the script, of the module, or the words that are the code themselves."""
    if words and words[0] == "-m":
        return words[:2]
    if words and words[0].startswith("-"):
        return list[Json](words)
    first = words[0] if words else ""
    return posixpath.basename(_words(first)[0] if _words(first) else first)


def _makes_a_directory(command: str) -> bool:
    words = _words(command)
    return len(words) == 4 and words[:3] == ["mkdir", "-p", "--"] and shlex.join(words) == command


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []
