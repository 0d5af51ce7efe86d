"""Which checkpoint a training goes on from: the newest one in the output folder that is whole and of this training."""

import json
import re
import struct
from pathlib import Path
from typing import Any

from shared.files import read_json
from shared.refusals import Refused, note

BOUND = "caravan.json"
"""In each checkpoint: what its training can't change."""
OURS = ".caravan"
ASIDE = f"{OURS}/set-aside"
_NAME = re.compile(r"checkpoint-(\d+)")
_WEIGHTS = re.compile(r"(?:adapter_)?model(?:-\d+-of-\d+)?\.safetensors|pytorch_model_fsdp\w*|global_step\d+")


def newest(output: Path, bound: dict[str, Any]) -> Path | None:
    """The newest checkpoint that is whole and bound to the same; why another is not taken is told."""
    for path in checkpoints(output):
        why = problem(path) or changed(path, bound)
        if not why:
            return path
        note(f"{path.name} is not taken: {why}")
    return None


def chosen(asked: str, output: Path, bound: dict[str, Any]) -> Path | None:
    """The checkpoint for `--resume-from-checkpoint`: `auto`, `never`, or a path, which must be good."""
    if asked == "never":
        return None
    if asked == "auto":
        return newest(output, bound)
    path = Path(asked)
    if path.is_dir() and not _NAME.fullmatch(path.name) and checkpoints(path):
        path = checkpoints(path)[0]
    why = "there is no such folder" if not path.is_dir() else problem(path) or changed(path, bound)
    if why:
        raise Refused("checkpoint", f"can't go on from it: {why}", path)
    return path


def check_same(found: list[str], output: Path) -> None:
    """Refuse to begin where processes would go on from different checkpoints (`""`: none): they would wait for ever.

    So it is where several machines write to disks of their own.
    """
    if len(set(found)) > 1:
        names = ", ".join(sorted({name or "none" for name in found}))
        raise Refused("checkpoint", f"processes see different ones ({names}): all machines must share it", output)


def set_aside(output: Path, kept: Path | None) -> None:
    """Move checkpoints that were not gone on from to where none is looked for: a later start must not take them."""
    for path in checkpoints(output):
        if kept is not None and (path == kept or _step(path) <= _step(kept)):
            continue
        target, number = output / ASIDE / path.name, 2
        while target.exists():
            target, number = output / ASIDE / f"{path.name}.{number}", number + 1
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def checkpoints(output: Path) -> list[Path]:
    """Folders `checkpoint-N`, the newest first."""
    if not output.is_dir():
        return []
    return sorted((p for p in output.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    named = _NAME.fullmatch(path.name)
    return int(named[1]) if named else 0


def problem(path: Path) -> str:
    """Why a checkpoint is not whole, in a few words; empty where it is."""
    try:
        return _lacks(path)
    except OSError as error:
        return f"it can't be read: {error.strerror or error}"


def _lacks(path: Path) -> str:
    state = read_json(path / "trainer_state.json")
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        return "trainer_state.json is missing or not whole"
    names = {p.name for p in path.iterdir()}
    if not any(_WEIGHTS.fullmatch(name) for name in names):
        return "it has no weights"
    sharded = any(name.startswith(("global_step", "pytorch_model_fsdp")) for name in names)
    needed = {"rng_state"} if sharded else {"optimizer", "scheduler", "rng_state"}
    for word in sorted(needed):
        if not any(name.startswith(word) for name in names):
            return f"it has no {word}"
    return next((f"{p.name} is cut off" for p in sorted(path.glob("*.safetensors")) if not _whole(p)), "")


def _whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says: eight bytes of length, JSON, then the tensors."""
    with path.open("rb") as stream:
        head = stream.read(8)
        if len(head) < 8 or (length := struct.unpack("<Q", head)[0]) > 100_000_000:
            return False
        try:
            tensors = json.loads(stream.read(length))
            ends = [int(t["data_offsets"][1]) for name, t in tensors.items() if name != "__metadata__"]
        except (ValueError, AttributeError, TypeError, LookupError):  # no JSON, or none of such a file
            return False
    return bool(path.stat().st_size == 8 + length + max(ends, default=0))


def changed(path: Path, bound: dict[str, Any]) -> str:
    """What the checkpoint is bound to and has changed since, in a few words."""
    before = read_json(path / BOUND)
    if not isinstance(before, dict):
        return ""  # of another program: whether it fits shows when it is loaded
    names = [name for name in bound if before.get(name) != bound[name]]
    return f"its training had another {', '.join(names)}" if names else ""
