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
from caravan.values.plan import TrainingPlan

_BLOCKS: Final = ("setup", "limits", "docker", "launch", "env", "smoke")
"""Blocks that are kept field by field; others are kept as a whole."""
_FREE: Final = frozenset(
    {
        *("training", "resources", "dataset", "model", "flags", "workdir", "exclude_nodes", "shm_mb"),
        *("kill_timeout_s", "image_pull_timeout_s", "setup.requirements"),
        "smoke.on",  # whether it costs anything may change with where it runs
        *("launch.launcher", "launch.nproc", "launch.nodes", "launch.master_port"),
        *("env.TOKENIZERS_PARALLELISM", "env.OMP_NUM_THREADS", "env.PYTORCH_CUDA_ALLOC_CONF", "env.WANDB_MODE"),
        *("env.NCCL_DEBUG", "env.NCCL_IB_DISABLE", "env.NCCL_SOCKET_IFNAME", "env.HF_HUB_OFFLINE"),
    }
)
"""What repairs are for: how the same program trains the same model with the same data, and with how much room."""
_ELSEWHERE: Final = frozenset({"image", "mounts", "datacenters", "secrets", "setup.pip", "limits.max_run_s"})
"""What the envelope looks at for itself."""
_PYTHON: Final = re.compile(r"python[\d.]*")


def kept_fields(plan: TrainingPlan) -> dict[str, str]:
    """SHA-256 of each field that stays as it was approved, by its path."""
    return {path: sha256_text(json.dumps(value, sort_keys=True)) for path, value in _fields(plan)}


def not_kept(plan: TrainingPlan, kept: Mapping[str, str]) -> tuple[str, ...]:
    """Paths of the fields that are not as they were approved. A field younger than the approval is not known there."""
    now = kept_fields(plan)
    changed = [
        path for path, digest in now.items() if kept.get(path, "" if path.startswith("env.") else digest) != digest
    ]
    return (*changed, *(path for path in kept if path.startswith("env.") and path not in now))


def _fields(plan: TrainingPlan) -> Iterator[tuple[str, Json]]:
    for name, value in plan.model_dump(mode="json", exclude={"provenance"}).items():
        inside = {f"{name}.{key}": item for key, item in value.items()} if name in _BLOCKS else {name: value}
        for path, item in inside.items():
            if path not in _FREE and path not in _ELSEWHERE and not (path == _IMPORTS and not _essence(path, item)):
                yield path, _essence(path, item)


_IMPORTS: Final = "env.PYTHONPATH"


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
