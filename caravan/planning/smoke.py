"""The first phase of a job: whether it has one, what it runs, and what its measurement says about the whole.

Pure. It knows the plan and what was measured, and nothing of files, clusters or how the phase is run.
"""

import json
from typing import Final, NamedTuple

from caravan.planning.command import DISTRIBUTED, output_dir, same_flag
from caravan.planning.launchers import launch_words
from caravan.planning.overlays import overlays_of
from caravan.values.base import Json, sha256_text
from caravan.values.estimate import Estimate, Range
from caravan.values.plan import Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import Launcher
from caravan.values.run import SmokeResult

SCRATCH: Final = "${NOMAD_TASK_DIR}/smoke"
"""Where the phase writes; removed at its end."""

_OUTPUTS: Final = f"{SCRATCH}/outputs"
_REPLICATING: Final = (Launcher.TORCHRUN, Launcher.ACCELERATE)
"""Launchers whose processes each hold the whole model, unless something says otherwise."""
_SHARDING: Final = ("fsdp", "zero", "deepspeed", "tensor_parallel", "tp_size", "pipeline", "megatron", "device_map")
_SIDE: Final = ("seed", "output_dir", "save_total_limit", "resume_from", "report_to", "ddp_timeout", "lr", "warmup")
"""Fields of the training that change neither its speed nor its memory."""
_SPREAD: Final = 0.25
"""By how much the whole may take longer than ten steps say: evaluations, checkpoints, a slower epoch's end."""


class Gate(NamedTuple):
    """What the measurement is held against, inside the job. None: not known, and then nothing is stopped.

    Seconds that are approved for this job, US dollars an hour for all nodes, GiB that each GPU needs more than the one
    of the phase, the steps of the whole training, and the share of it that is left to do.
    """

    allowed_s: float | None = None
    usd_per_hour: float | None = None
    extra_gib: float = 0.0
    total_steps: int | None = None
    left: float = 1.0


class SmokePhase(NamedTuple):
    """The phase as the launch script runs it; `limited` are the words with a step limit of the program's own."""

    words: tuple[str, ...]
    limited: tuple[str, ...]
    numbers: str
    copied: bool
    nodes: int
    scratch: str = SCRATCH


def smoke_changes(plan: TrainingPlan, estimate: Estimate, wanted: bool | None) -> tuple[PlanChange, ...]:
    """Whether the plan's jobs begin with the phase: as the settings want it, else where the run costs money.

    It never stands against what a person said.
    """
    costs = bool(estimate.usd_per_hour)
    on: bool | None = (costs or None) if wanted is None else wanted
    why = "as the settings say"
    if wanted is None and costs:
        why = f"it costs {estimate.usd_per_hour:.2f} USD an hour: a few steps say whether it is worth it"
    if on and (against := refusal(plan)):
        on, why = False, against
    if on == plan.smoke.on:
        return ()
    return (PlanChange(path="smoke.on", value=on, by=Author.ESTIMATE, why=why),)


def refusal(plan: TrainingPlan) -> str:
    """Why the plan's training can't have such a phase; empty where it can."""
    if plan.launch.launcher is Launcher.NOTEBOOK:
        return "a notebook can't be run for some steps only"
    if not _told_outputs(plan) and not _copied(plan):
        return "the program has no option for where it writes: some steps would write where the training does"
    if plan.launch.nodes > 1 and not reduced(plan):
        return f"the model may be spread over all {plan.launch.nodes} nodes: fewer of them would say nothing"
    return ""


def _told_outputs(plan: TrainingPlan) -> bool:
    return plan.flag("training.output_dir") is not None or output_dir(plan) in " ".join(plan.command)


def _copied(plan: TrainingPlan) -> bool:
    """Whether the code is ours to copy, so that what is written beside it is written beside the copy."""
    return plan.code.kind in ("archive", "git")


def reduced(plan: TrainingPlan) -> bool:
    """Whether one process tells of all: each holds the whole model, as far as the command says."""
    launch = plan.launch
    if launch.launcher not in _REPLICATING or launch.nproc * launch.nodes == 1:
        return False
    words = " ".join((*launch.args, *plan.command, *map(str, plan.training.options.items()))).lower()
    told = f"{words} {json.dumps([o.values for o in plan.config_overlays])} {' '.join(plan.env)}".lower()
    configured = launch.launcher is Launcher.ACCELERATE and "--config_file" in words
    return not configured and not any(sign in told for sign in _SHARDING)


def smoke_phase(plan: TrainingPlan, gate: Gate) -> SmokePhase | None:
    """The phase of the plan's job, or None where it has none."""
    if not plan.smoke.on or refusal(plan) or not plan.command:
        return None
    small = _small(plan)
    limited: tuple[str, ...] = ()
    if plan.flag("training.max_steps") is not None:
        limited = launch_words(_with(small, {"training.max_steps": plan.smoke.steps}))
    return SmokePhase(
        words=launch_words(small),
        limited=limited,
        numbers=json.dumps(_numbers(plan, gate), sort_keys=True),
        copied=_copied(plan),
        nodes=plan.launch.nodes,
    )


def _small(plan: TrainingPlan) -> TrainingPlan:
    """The plan whose command the phase runs: on scratch, without reports, on one process where that is enough."""
    values: dict[str, Json] = {"training.output_dir": _OUTPUTS, "training.resume_from": None}
    if plan.flag("training.report_to") is not None:
        values["training.report_to"] = "none"
    launch: dict[str, Json] = {"nodes": 1, "rdzv_endpoint": None, "master_port": None}
    if reduced(plan):
        launch |= {"nproc": 1, "args": [a for a in plan.launch.args if a != "--multi_gpu"]}
    small = _with(plan, {**values, **{f"launch.{name}": value for name, value in launch.items()}})
    known = output_dir(plan)  # also where a person has typed it
    words = tuple(_OUTPUTS if w == known else w.replace(f"={known}", f"={_OUTPUTS}") for w in small.command)
    return small.model_copy(update={"command": words})


def _with(plan: TrainingPlan, values: dict[str, Json]) -> TrainingPlan:
    """The plan with these values, whatever else is said to the same options of the program."""
    changes = [PlanChange(path=path, value=value, by=Author.USER) for path, value in values.items()]
    covered = {option for path in values if (option := _covering(plan, path)) is not None}
    options: dict[str, Json] = {o: v for o, v in plan.training.options.items() if o not in covered}
    if covered:
        changes.append(PlanChange(path="training.options", value=options, by=Author.USER))
    return apply_changes(plan, changes)


def _covering(plan: TrainingPlan, path: str) -> str | None:
    """The further option that stands over a field: the program is told its value, whatever the field says."""
    flag = plan.flag(path)
    return None if flag is None else next((o for o in plan.training.options if same_flag(o, flag)), None)


def _number(plan: TrainingPlan, path: str) -> float | None:
    """A number as the program is told it."""
    option = _covering(plan, path)
    value = plan.get(path) if option is None else plan.training.options[option]
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if 0 < number < 1e12 else None


def _numbers(plan: TrainingPlan, gate: Gate) -> dict[str, Json]:
    """What the phase is told, as `templates/smoke.py` reads it."""
    launch, few, fixed = plan.launch, reduced(plan), _number(plan, "training.max_steps")
    here = 1 if few else launch.nproc
    return {
        "steps": plan.smoke.steps,
        "max_s": plan.smoke.max_s,
        "processes": launch.nproc * launch.nodes,
        "here": here,
        "gpus": 1 if few and plan.resources.gpus > 1 else None,
        "max_steps": None if fixed is None else max(1, round(fixed)),
        "total_steps": gate.total_steps,
        "allowed_s": gate.allowed_s,
        "usd_per_hour": gate.usd_per_hour,
        "extra_gib": gate.extra_gib if few else 0.0,
        "left": gate.left,
        "overlays": _overlays(plan),
    }


def _overlays(plan: TrainingPlan) -> dict[str, Json]:
    """What is laid over the config files in the copy of the code: outputs go to scratch, reports to nobody."""
    laid = {overlay.path for overlay in overlays_of(plan)} if _copied(plan) else set()
    found: dict[str, dict[str, Json]] = {}
    for field, value in (("training.output_dir", "{outputs}"), ("training.report_to", "none")):
        key = plan.config_keys.get(field)
        if key is not None and key.path in laid:
            found.setdefault(key.path, {})[key.key] = value
    return dict[str, Json](found)


def steps_of(plan: TrainingPlan) -> int | None:
    """The optimizer steps of the whole training, where the plan's fields say it; the repository's own filled in."""
    whole = _number(plan, "training.max_steps")
    if whole is not None:
        return max(1, round(whole))
    names = ("epochs", "micro_batch", "grad_accum")
    epochs, micro, accumulated = (_number(plan, f"training.{name}") for name in names)
    if plan.dataset.examples is None or epochs is None or micro is None:
        return None
    spread = plan.launch.nproc * plan.launch.nodes if plan.launch.launcher in DISTRIBUTED else 1
    return max(1, round(plan.dataset.examples * epochs / (micro * (accumulated or 1) * spread)))


def speed_key(plan: TrainingPlan) -> str:
    """By which a plan is known whose speed and memory a measurement tells: what both hang on is in it."""
    training = plan.training.model_dump(mode="json", exclude=set(_SIDE))
    parts: list[Json] = [
        plan.model.model_dump(mode="json"),
        plan.dataset.model_dump(mode="json"),
        training,
        plan.launch.model_dump(mode="json"),
        list(plan.command),
        [o.model_dump(mode="json") for o in plan.config_overlays],
        [plan.resources.gpus, plan.resources.gpu_model],
    ]
    return sha256_text(json.dumps(parts, sort_keys=True))


def by_measurement(formula: Estimate, smoke: SmokeResult, *, max_run_s: int | None) -> Estimate:
    """The estimate with what the first steps showed in place of what was computed; that stays beside it."""
    notes = [n for n in formula.assumptions if not n.startswith("time")]
    update: dict[str, object] = {
        "smoke": smoke,
        "formula_gib": formula.formula_gib or formula.gpu_memory_gib,
        "formula_host_mb": formula.host_memory_mb,
        "formula_seconds": formula.seconds,
        "confidence": 0.9,
    }
    if smoke.peak_gpu_gib is not None:
        update["gpu_memory_gib"] = smoke.peak_gpu_gib
        update["fits"] = smoke.verdict != "memory"
        notes.append(f"GPU memory: measured over {smoke.steps} steps; the formula said {_gib(formula.gpu_memory_gib)}")
    if smoke.peak_host_mb is not None:
        update["host_memory_mb"] = max(1, round(smoke.peak_host_mb))
    whole = smoke.projected_s
    if whole is not None:
        longest = whole * (1 + _SPREAD)
        high = longest if max_run_s is None else min(longest, max(max_run_s, whole))
        seconds = Range(low=whole * 0.9, likely=whole, high=high)
        update["seconds"] = seconds
        if formula.usd_per_hour is not None:
            update["cost_usd"] = seconds.priced(formula.usd_per_hour)
        speed = f"{smoke.seconds_per_step:.3g} s" if smoke.seconds_per_step is not None else "their time"
        notes.append(
            f"time: measured, {speed} a step and {smoke.total_steps} steps; what GPUs tell each other is not in it"
        )
    else:
        notes += [n for n in formula.assumptions if n.startswith("time")]
    return formula.model_copy(update={**update, "assumptions": tuple(notes)})


def _gib(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.1f} GiB"


def needed_s(smoke: SmokeResult) -> int | None:
    """The time limit, in seconds, under which the whole training as it was measured comes to its end."""
    return None if smoke.projected_s is None else -int(-smoke.projected_s * smoke.left * (1 + _SPREAD) // 60) * 60
