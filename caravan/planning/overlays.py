"""The plan's values in the repository's config files: what the job lays over its copy of each. Pure.

The rule is the flags': a value that the repository has itself is not touched.
"""

from collections.abc import Iterator

from caravan.planning.command import flag_text, output_dir
from caravan.planning.config_files import accepts, changeable, copies, in_place
from caravan.values.base import Json
from caravan.values.plan import ConfigKey, ConfigOverlay, TrainingPlan


def overlays_of(plan: TrainingPlan) -> tuple[ConfigOverlay, ...]:
    """The plan's overlays with the values that its config keys take. What a person or a repair laid over stands."""
    found = {overlay.path: overlay for overlay in plan.config_overlays}
    for key, value in _taken(plan):
        overlay = found.get(key.path, ConfigOverlay(path=key.path))
        if key.key not in overlay.values:
            found[key.path] = overlay.model_copy(update={"values": {**overlay.values, key.key: value}})
    held = plan.config_keys.get("training.resume_from")
    if plan.resume is not None and held is not None and held.path in copies(plan):
        found.setdefault(held.path, ConfigOverlay(path=held.path))  # a copy in which the job names the checkpoint
    return tuple(found.values())


def _taken(plan: TrainingPlan) -> Iterator[tuple[ConfigKey, Json]]:
    for path, key in plan.config_keys.items():
        field, choice, wanted = path.partition("=")
        value = output_dir(plan) if field == "training.output_dir" else plan.get(field)
        if value is None or plan.is_own(field) or not changeable(plan, key.path):
            continue
        if choice:
            yield key, flag_text(value) == wanted
        elif accepts(path, key, value):
            yield key, int(value) if isinstance(value, float) and value == int(value) and abs(value) < 1e15 else value


def targets(plan: TrainingPlan) -> tuple[str, ...]:
    """For each overlay where its copy goes: empty for the file's own place in the code."""
    there = copies(plan)
    return tuple("" if in_place(plan) else there.get(overlay.path, "") for overlay in overlays_of(plan))


def overlay_problems(plan: TrainingPlan) -> Iterator[str]:
    """What speaks against the overlays that the plan names itself, in words."""
    for overlay in plan.config_overlays:
        parts = overlay.path.split("/")
        if overlay.path.startswith("/") or ".." in parts:
            yield f"config_overlays: {overlay.path} is not in the code: name a path below it."
        elif not changeable(plan, overlay.path):
            yield (
                f"config_overlays: {overlay.path} lies in a directory that is not the job's own, and the command "
                "doesn't name it: nothing there is ever changed."
            )
