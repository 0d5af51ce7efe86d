"""Whether a config file can be changed in the job, and which field a key of one takes.

A plan's `config_keys` are spelled as its `flags` are: a path, or `path=value` for a key that is true or false. Pure; it
knows neither the repository nor the command line's flags.
"""

import posixpath
from collections.abc import Container
from typing import Final

from caravan.values.base import Json
from caravan.values.plan import ConfigKey, TrainingPlan

COPIES: Final = "${NOMAD_TASK_DIR}/configs"
"""Where a changed copy is put when the code's directory is not the job's own."""

_METHODS: Final = ("full", "lora", "freeze", "dora", "oft")
"""Values that a key takes which says how it is fine-tuned; `qlora` is another key beside it."""


def in_place(plan: TrainingPlan) -> bool:
    """Whether the job has a copy of the code to itself, in which files may be changed."""
    return plan.code.kind in ("archive", "git")


def copies(plan: TrainingPlan) -> dict[str, str]:
    """Config file → the copy that the command is given in its place, as far as the command names the file."""
    if in_place(plan):
        return {}
    files = {o.path for o in plan.config_overlays} | {k.path for k in plan.config_keys.values()}
    named = {path for word in (*plan.command, *plan.launch.args) if (path := _meant(word, plan.workdir)) in files}
    return {path: f"{COPIES}/{path}" for path in sorted(named)}


def changeable(plan: TrainingPlan, path: str) -> bool:
    """Whether the job can see that file changed: in its own copy of the code, in its own container, or elsewhere."""
    return in_place(plan) or (plan.code.kind == "image" and plan.driver == "docker") or path in copies(plan)


def with_copies(plan: TrainingPlan, words: tuple[str, ...], laid: Container[str]) -> tuple[str, ...]:
    """The command's words with the changed copies of the files in `laid`; a file that isn't changed stays."""
    there = {path: copy for path, copy in copies(plan).items() if path in laid}
    found = []
    for word in words:
        name, equals, value = word.rpartition("=")
        copy = there.get(_meant(word, plan.workdir))
        found.append(word if copy is None else f"{name}{equals}{copy}" if word != value else copy)
    return tuple(found)


def _meant(word: str, workdir: str) -> str:
    """The path from the code's root that a word of the command (`conf.yaml`, `--config=conf.yaml`) would name."""
    return posixpath.normpath(posixpath.join(workdir or ".", word.rpartition("=")[2] or "."))


def reaches(plan: TrainingPlan, field: str) -> bool:
    """Whether a flag or a key of a config takes the field, whatever its value."""
    key = plan.config_keys.get(field)
    taken = any(path == field or path.startswith(f"{field}:") for path in plan.flags)
    return taken or (key is not None and changeable(plan, key.path))


def key_takes(plan: TrainingPlan, field: str, value: str) -> bool:
    """Whether a key of a config that can be changed holds the field, or is the switch for that value (as text)."""
    held = {p: k for p, k in plan.config_keys.items() if p in (field, f"{field}={value}") and accepts(p, k, value)}
    return any(changeable(plan, key.path) for key in held.values())


def switches(plan: TrainingPlan, field: str) -> bool:
    """Whether keys that are true or false stand for values of the field."""
    return any(p.startswith(f"{field}=") and changeable(plan, k.path) for p, k in plan.config_keys.items())


def accepts(path: str, key: ConfigKey, value: Json) -> bool:
    """Whether the key takes that value of its field."""
    last = key.key.rpartition(".")[2]
    return not (path == "training.method" and last == "finetuning_type") or value in _METHODS


def laid_over(plan: TrainingPlan, path: str, key: str, value: Json) -> Json:
    """The plan's overlays, as JSON, with one key of one file set beside what is there; what is set already stays."""
    overlays: list[dict[str, Json]] = [o.model_dump(mode="json") for o in plan.config_overlays]
    held = next((o for o in overlays if o["path"] == path), None)
    if held is None:
        overlays.append({"path": path, "values": {key: value}})
    else:
        held["values"] = {key: value, **dict(held["values"] or {})}
    return list[Json](overlays)
