"""A program's words and variables with the plan's values, in the repository's own options; and what none of them takes.

Pure text work. It knows the plan and nothing of clusters or files.
"""

from typing import Final, NamedTuple

from caravan.planning.batches import all_together, batch_flags
from caravan.planning.config_files import key_takes, switches
from caravan.planning.documented import DISTRIBUTED, Documented, read_command
from caravan.planning.words import flag_text, is_variable, plain, same_flag, set_flag, slot_of, switched
from caravan.values.base import Json
from caravan.values.plan import Author, OutputSink, TrainingPlan

__all__ = [
    "ALLOC_DIR",
    "DISTRIBUTED",
    "OUTPUTS_IN_ALLOCATION",
    "RUN",
    "VOLUME_MOUNT",
    "Documented",
    "command_line",
    "command_variables",
    "flag_text",
    "output_dir",
    "passed_values",
    "read_command",
    "same_flag",
    "set_flag",
    "sink_dir",
    "told_by",
    "unpassed",
]

ALLOC_DIR: Final = "${NOMAD_ALLOC_DIR}"
OUTPUTS_IN_ALLOCATION: Final = f"{ALLOC_DIR}/data/outputs"
VOLUME_MOUNT: Final = "/caravan/outputs"
"""Where a task sees the volume that takes its outputs, unless the plan mounts it elsewhere."""
RUN: Final = "${NOMAD_META_caravan_run}"
"""The run's id as the job knows it: a volume has a directory for each run, so that none overwrites another's."""
ADAPTERS: Final = ("lora", "qlora")
_COUNTS: Final = ("resources.gpus", "launch.nodes")
"""Fields that a program is told whoever has set them: what it has by itself is another machine's."""


class Told(NamedTuple):
    """What an entry of a plan's `flags` is about: `training.precision=bf16` the value of a field, `resources.gpus:ids`
    the field in another form."""

    field: str
    form: str
    wanted: str | None


def told_by(path: str) -> Told:
    """The parts of a key of a plan's `flags`. Forms: `ids` (0,1,…), `world` (on all nodes), `float`, `int`, `global`
    (samples of an update) and `step` (of a step, on all GPUs)."""
    bare, choice, wanted = path.partition("=")
    field, _, form = bare.partition(":")
    return Told(field, form, wanted if choice else None)


def is_meant(told: Told, value: Json) -> bool:
    """Whether the value of a field is the one that the entry stands for: QLoRA is LoRA on a quantised model."""
    text = flag_text(value)
    return text == told.wanted or (told.field == "training.method" and told.wanted == "lora" and text in ADAPTERS)


def output_dir(plan: TrainingPlan) -> str:
    """Where the training shall write: as set, or where the plan's outputs go."""
    return plan.training.output_dir or sink_dir(plan.outputs)


def sink_dir(sink: OutputSink) -> str:
    """The directory of an output place as the task sees it. What goes to a URL is written in the allocation first."""
    if sink.kind in ("allocation", "url") or not sink.location:
        return OUTPUTS_IN_ALLOCATION
    if sink.kind == "volume":
        mount = sink.location if sink.location.startswith("/") else VOLUME_MOUNT
        return f"{mount.rstrip('/')}/{RUN}"
    return sink.location


def passed_values(plan: TrainingPlan) -> dict[str, Json]:
    """Plan path → value for every field that the command must carry: those that are not the repository's own."""
    values: dict[str, Json] = {}
    for path in plan.flags:
        field = told_by(path).field
        value = output_dir(plan) if field == "training.output_dir" else plan.get(field)
        if field == "dataset.path" and plan.data is not None and plan.data.destination and not plan.data.link:
            repaired = plan.set_by("dataset.path") is Author.REPAIR  # then it is another path than was delivered
            value = value if repaired else plan.data.destination  # where it lies in the job
        if value is not None and (field in _COUNTS or not plan.is_own(field)):
            values[field] = value
    return values


def _told(plan: TrainingPlan, told: Told, values: dict[str, Json]) -> Json:
    """The value that the entry's option is given; None where it is not told."""
    if told.form in ("global", "step"):
        return all_together(plan, told.field, told.form, values)
    value = values.get(told.field)
    if told.form == "ids" and isinstance(value, int):
        return ",".join(map(str, range(value))) or "cpu"
    if told.form == "world" and isinstance(value, int):
        return value * plan.launch.nodes
    if told.form == "float" and isinstance(value, int | float):
        return repr(float(value))
    if told.form == "int" and isinstance(value, float) and value != int(value):
        return None
    return value


def _settings(plan: TrainingPlan) -> list[tuple[str, Json, Told]]:
    """(flag, value, entry) of what the program is told, positional arguments first, the last of them foremost."""
    values = passed_values(plan)
    entries = [(flag, told_by(path)) for path, flag in plan.flags.items()]
    entries.sort(key=lambda e: -(slot if (slot := slot_of(e[0])) is not None else -1))
    given = [(flag, _told(plan, told, values), told) for flag, told in entries]
    return [(flag, value, told) for flag, value, told in given if value is not None]


def command_line(plan: TrainingPlan) -> tuple[str, ...]:
    """The program and its arguments with the plan's values in the repository's own flags.

    A field that the repository set itself keeps its own default: no flag is passed for it.
    """
    words = plan.command
    for flag, value, told in _settings(plan):
        if is_variable(flag):
            continue
        if told.wanted is not None:
            words = switched(words, flag, is_meant(told, value))
        elif not (told.field in _COUNTS and value == 0 and "gpu" not in plain(flag).lower()):
            words = set_flag(words, flag, value)
    for flag, value in plan.training.options.items():
        if not is_variable(flag) and not _repaired(plan, flag):
            words = set_flag(words, _as_spelled(plan, flag), value)
    return words


def _repaired(plan: TrainingPlan, option: str) -> bool:
    """Whether a repair has set the field that a further option stands for: what was typed there is what failed."""
    fields = {told_by(path).field for path, flag in plan.flags.items() if same_flag(option, flag)}
    return plan.set_by(f"training.options.{option}") is not Author.REPAIR and any(
        plan.set_by(field) is Author.REPAIR for field in fields
    )


def _as_spelled(plan: TrainingPlan, option: str) -> str:
    """A further option, joined to its value by `=` where the program takes all of its options so."""
    joins = any(flag.startswith("--") and flag.endswith("=") for flag in plan.flags.values())
    return f"{option}=" if joins and option.startswith("--") and not option.endswith("=") else option


def command_variables(plan: TrainingPlan) -> dict[str, str]:
    """The environment variables by which the program is told the plan's values, where it reads such ones."""
    found: dict[str, str] = {}
    for flag, value, told in _settings(plan):
        if not is_variable(flag):
            continue
        if told.wanted is None:
            found[flag[1:]] = flag_text(value)
        elif is_meant(told, value):
            found[flag[1:].partition(" ")[0]] = flag.partition(" ")[2] or "1"
        elif " " not in flag:  # a yes or no, whose default may be yes
            found[flag[1:]] = "0"
    for flag, value in plan.training.options.items():
        if is_variable(flag):
            found[flag[1:]] = flag_text(value)
    return found


def unpassed(plan: TrainingPlan) -> tuple[str, ...]:
    """Fields that somebody set and that neither a flag nor a config key takes: the training won't follow them."""
    named = plan.training.model_dump(exclude={"options", "type"})  # a type is whose program it is, not told to it
    fields = [f"training.{k}" for k, v in named.items() if v is not None]
    fields += [p for p in ("model.id", "dataset.path") if plan.get(p) is not None]
    asked = [f for f in fields if plan.set_by(f) not in (Author.REPOSITORY, Author.DEFAULT) and not plan.is_own(f)]
    return tuple(sorted(f for f in asked if not _has_flag(plan, f)))


def _has_flag(plan: TrainingPlan, field: str) -> bool:
    value = flag_text(plan.get(field))
    entries = {path: flag for path, flag in plan.flags.items() if told_by(path).field == field}
    if any(t.wanted is None or is_meant(t, value) for t in map(told_by, entries)) or key_takes(plan, field, value):
        return True
    if field == "training.global_batch" and batch_flags(plan):
        return True
    # A switch that is left away says something too: fp32 without `--fp16`, no checkpointing without its switch.
    bare = any("|" in flag or " " not in flag.strip() for flag in entries.values())
    return value in _WITHOUT.get(field, ("False",)) and (bare or switches(plan, field))


_WITHOUT: Final = {"training.precision": ("fp32",), "training.method": ("full",)}
