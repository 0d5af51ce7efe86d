"""How long a job takes: its start, the steps of the training, what comes between and after them.

Pure. It knows the plan, the model's shape, how it is trained, the GPU type and the data's size; whatever it assumes
beyond these it says. Waiting for room on the cluster is not counted: nobody is charged for it, and nobody knows it.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from caravan.planning.batches import processes
from caravan.planning.catalogue import Gpu
from caravan.planning.memory import Setting, trained_params
from caravan.planning.memory.setting import ADAPTERS
from caravan.planning.speed import Work, spread, step_time
from caravan.planning.startup import Stage, start_stages
from caravan.values.amounts import duration
from caravan.values.base import Json
from caravan.values.datasets import CHARS_PER_TOKEN, DatasetSize
from caravan.values.estimate import Range
from caravan.values.plan import TrainingPlan
from caravan.values.shape import Family, ModelShape

_FILLED: Final = (0.1, 0.35, 1.0)
"""Mean length of samples as a share of the longest that is let in, where nothing is known of them: published runs on
instruction data have 0.1 to 0.4; texts that are cut or packed fill it."""
_EPOCHS: Final = (1.0, 3.0, 5.0)
"""Passes over the data where nothing says how many: transformers' and most recipes' default is 3."""
_INEXACT: Final = 1.3  # rows that were counted on a part of the data
_CHARS: Final = 1.5  # characters of a token: 2.5 in code, 5 in plain English
_EVALUATION: Final = (0.0, 0.04, 0.25)
"""Share of the training's time that evaluations take: forward passes over a held-out twentieth, some times."""
_SAVE_EVERY: Final = 500
"""Steps between checkpoints where nothing says it: transformers' default."""
_DISK: Final = (2e9, 5e8, 1e8)
"""Bytes a second at which a checkpoint is written: NVMe, a usual disk, a network volume."""
_CORE_TFLOPS: Final = 0.04
"""Of one CPU core: 8 fp32 numbers at once, multiplied and added, at 2.5 GHz, twice (AVX2)."""
_CORE_MHZ: Final = 2500
_CPU_SPREAD: Final = 5.0
_MOST_S: Final = 3.2e9
"""A hundred years in seconds: what takes longer is a mistake in a number."""
_IMAGES: Final = (Family.VIT, Family.DIT, Family.DUAL)
_SAYS_PACKING: Final = ("packing", "sample_packing", "pack_dataset", "packed")
_SAYS_SAVING: Final = ("save_steps", "save_every", "save_interval", "checkpoint_every", "ckpt_interval")


class Named(NamedTuple):
    """How a person gives the data's size and the number of steps."""

    rows: str = "dataset.examples"
    steps: str = "training.max_steps"


class RunTime(NamedTuple):
    """The seconds of a job, of one step, and the steps; None: not known, and the notes say why and what to give."""

    seconds: Range | None
    notes: tuple[str, ...]
    step_s: Range | None = None
    steps: int | None = None


class _Much(NamedTuple):
    """A likely number and by what factors it may be less and more."""

    likely: float
    less: float = 1.0
    more: float = 1.0


def run_time(
    plan: TrainingPlan,
    shape: ModelShape | None,
    setting: Setting,
    gpu: Gpu | None,
    data: DatasetSize | None,
    named: Named = Named(),  # noqa: B008 - a plain value
) -> RunTime:
    """The time of the plan's job on GPUs of that type (None: on CPUs, or the type isn't known).

    `named`: what the notes call that which a person may give.
    """
    if plan.resources.gpus and gpu is None:
        return RunTime(None, ("time isn't estimated: the speed of its GPU type isn't known; first steps tell it",))
    if shape is None:
        return RunTime(None, ("time isn't estimated: the shape of the model isn't known; first steps tell its speed",))
    kind = gpu or cpu_as_gpu(plan)
    length, packed = _length(setting, data), _says(plan, _SAYS_PACKING)
    work = work_of(plan, shape, setting, 1.0 if packed else length.likely)
    step = step_time(work, kind)
    if step is None:
        why = f"models of this kind ({shape.family.value}) have no formula for it; first steps tell their speed"
        return RunTime(None, (f"time isn't estimated: {why}",))
    steps, of_steps = _steps(plan, setting, data, length.likely if packed else 1.0, named)
    each = _Much(step.seconds, *_of_a_step(plan, work, kind, step.seconds, length))
    step_s = _range(each)
    said = f"{duration(step.seconds)} a step of {step.tokens:,} tokens ({step.tokens_per_s:,.0f} tokens/s)"
    on = f"{work.gpus} x {kind.name}" if plan.resources.gpus else f"{_cores(plan):g} CPU cores"
    if steps is None:
        return RunTime(None, (f"time: {said} on {on}", of_steps), step_s)
    taken = _Much(steps.likely * each.likely, _both(steps.less, each.less), _both(steps.more, each.more))
    if not taken.likely * taken.more < _MOST_S:
        why = f"{of_steps} would take more than a hundred years, at {duration(each.likely)} a step: check these numbers"
        return RunTime(None, (f"time isn't estimated: {why}",), step_s)
    stages = (
        *start_stages(plan, shape, setting),
        Stage("evaluations", *(taken.likely * share for share in _EVALUATION)),
        _checkpoints(plan, shape, setting, steps.likely),
    )
    notes = (f"time: {steps.likely:,.0f} steps, {said} on {on}; {of_steps}", _beside(stages), _lengths(length, data))
    whole = _with_stages(_range(taken), stages)
    return RunTime(whole, tuple(n for n in notes if n), step_s, max(1, round(steps.likely)))


def _with_stages(training: Range, stages: Iterable[Stage]) -> Range:
    low, likely, high = (sum(column) for column in zip(*((s.low, s.likely, s.high) for s in stages), strict=True))
    return Range(low=training.low + low, likely=training.likely + likely, high=training.high + high)


def bounded(found: RunTime, limit: int | None) -> RunTime:
    """The time under the plan's limit; where only the limit is known, it is the time."""
    if limit is None:
        more = ("time: limits.max_run_s would bound it",) if found.seconds is None else ()
        return found._replace(notes=(*found.notes, *more))
    seconds, notes = found.seconds, found.notes
    if seconds is None:
        notes = (*notes, "time: the speed isn't known, so the time limit is taken as the time")
        return found._replace(seconds=Range(low=0, likely=limit, high=limit), notes=notes)
    if seconds.likely > limit:
        share = limit / seconds.likely
        notes = (f"time: the limit of {duration(limit)} would end it at about {share:.0%} of the training", *notes)
    held = Range(low=min(seconds.low, limit), likely=min(seconds.likely, limit), high=min(seconds.high, limit))
    return found._replace(seconds=held, notes=notes)


def work_of(plan: TrainingPlan, shape: ModelShape, setting: Setting, filled: float = 1.0) -> Work:
    """The plan's training as speed sees it; `filled`: the share of the longest sequence that samples have."""
    adapter = setting.method in ADAPTERS
    count = processes(plan) if plan.resources.gpus else 1
    length = max(1, round(min(setting.seq_len, 1 << 30) * filled))
    if shape.family in _IMAGES and shape.image_size and shape.patch_size:
        length = max(1, (shape.image_size // shape.patch_size) ** 2)
    return Work(
        shape=shape,
        full=not adapter and setting.method != "freeze",
        rank=min(setting.lora_rank, 1 << 20) if adapter else 0,
        adapted=7 if "all" in setting.lora_targets else len(setting.lora_targets) or 7,
        dora=setting.method == "dora",
        trainable_b=trained_params(shape, setting) / 1e9,
        compute=setting.compute_dtype if plan.resources.gpus else "fp32",
        quant_bits=setting.quant_bits,
        micro_batch=min(setting.micro_batch * setting.texts, 1 << 30),
        pooled=setting.pooled,
        seq_len=length,
        grad_accum=min(plan.training.grad_accum or 1, 1 << 30),
        checkpointing=setting.grad_checkpointing,
        flash=setting.flash_attention,
        compiled=setting.compiled or _says(plan, ("torch_compile", "compile")),
        fused_ce=setting.fused_ce,
        optimizer=setting.optimizer,
        gpus=count,
        nodes=plan.launch.nodes if plan.resources.gpus else 1,
        parallel=setting.parallel,
        offload=setting.offload,
    )


def cpu_as_gpu(plan: TrainingPlan) -> Gpu:
    """The CPU that the plan asks for, in the terms of the catalogue: all of its cores, memory of a usual server."""
    flops = _cores(plan) * _CORE_TFLOPS
    memory = plan.resources.memory_mb
    return Gpu("CPU", "cpu", memory, flops, flops, flops, min(10.0 * _cores(plan), 100.0), 1.0, None)


def _cores(plan: TrainingPlan) -> float:
    need = plan.resources
    return float(need.cores or max(1.0, round(need.cpu_mhz / _CORE_MHZ, 1)))


def _length(setting: Setting, data: DatasetSize | None) -> _Much:
    """The share of the longest sequence that a sample has in the mean."""
    if data is not None and data.mean_chars:
        share = data.mean_chars / CHARS_PER_TOKEN / max(1, setting.seq_len)
        likely = min(1.0, max(share, 1e-6))
        return _Much(likely, _CHARS, min(_CHARS, 1 / likely))
    low, likely, high = _FILLED
    return _Much(likely, likely / low, high / likely)


def _of_a_step(plan: TrainingPlan, work: Work, kind: Gpu, likely: float, length: _Much) -> tuple[float, float]:
    """By what factors a step may take less and more: the formula's own error, and what lengths do."""
    own = spread(work) if plan.resources.gpus else _CPU_SPREAD
    if work.shape.exact is False:
        own = _both(own, 1.5)
    if _says(plan, _SAYS_PACKING) or work.shape.family in _IMAGES:
        return own, own
    factors = []
    for share in (1 / length.less, length.more):
        other = step_time(work._replace(seq_len=max(1, round(work.seq_len * share))), kind)
        factors.append(other.seconds / likely if other else 1.0)
    return _both(own, max(1.0, 1 / factors[0])), _both(own, max(1.0, factors[1]))


def _steps(
    plan: TrainingPlan, setting: Setting, data: DatasetSize | None, packing: float, named: Named
) -> tuple[_Much | None, str]:
    """The steps of the training and what they come from; without them, what to give."""
    training = plan.training
    if training.max_steps is not None:
        return _Much(training.max_steps), f"{named.steps} = {training.max_steps:,}"
    rows = data.rows if data is not None else None
    if not rows:
        give = f"give {named.rows} or {named.steps}"
        return None, f"time isn't estimated: how many examples the data has isn't known; {give}"
    less = more = 1.0 if data is None or data.exact else _INEXACT
    epochs = training.epochs
    passes = f"{epochs or 0:g} epoch{'' if epochs == 1 else 's'}"
    if epochs is None:
        passes = f"epochs taken as {_EPOCHS[1]:g}"
        less, more = _both(less, _EPOCHS[1] / _EPOCHS[0]), _both(more, _EPOCHS[2] / _EPOCHS[1])
    update = setting.micro_batch * (training.grad_accum or 1) * (processes(plan) if plan.resources.gpus else 1)
    count = max(1.0, rows * packing / update) * (_EPOCHS[1] if epochs is None else epochs)
    source = data.source if data is not None else ""
    return _Much(max(1.0, count), less, more), f"{rows:,} rows ({source or 'as known'}), {passes}, {update} an update"


def _checkpoints(plan: TrainingPlan, shape: ModelShape, setting: Setting, steps: float) -> Stage:
    """Writing weights and states: of adapters only these, of a full training all and the optimizer's."""
    trained = trained_params(shape, setting)
    each = trained * (2 + (2 if "8bit" in setting.optimizer else 8)) + 1e6
    every = next((v for v in _values(plan, _SAYS_SAVING) if v >= 1), float(_SAVE_EVERY))
    count = max(1.0, steps / every) + 1
    return Stage("checkpoints", *(count * each / rate for rate in _DISK))


def _beside(stages: Iterable[Stage]) -> str:
    """What of the time is not training, the larger parts by name."""
    known = sorted((s for s in stages if s.likely >= 1), key=lambda s: -s.likely)
    told = ", ".join(f"{s.name} {duration(s.likely)}" for s in known[:4])
    return f"time: {duration(sum(s.likely for s in known))} of it beside the steps ({told})" if told else ""


def _lengths(length: _Much, data: DatasetSize | None) -> str:
    if data is not None and data.mean_chars:
        return f"time: samples have {data.mean_chars:,.0f} characters in the mean, {CHARS_PER_TOKEN:g} for a token"
    return f"time: samples taken to fill {length.likely:.0%} of the sequence length in the mean (10 % to all of it)"


def _says(plan: TrainingPlan, names: tuple[str, ...]) -> bool:
    """Whether an option of the program or a key of its configs of such a name is on."""
    return any(value is True or str(value).lower() in ("true", "1", "yes") for _, value in _told(plan, names))


def _values(plan: TrainingPlan, names: tuple[str, ...]) -> Iterator[float]:
    for _, value in _told(plan, names):
        try:
            number = float(str(value))
        except ValueError:
            continue
        if 0 < number < 1e12:
            yield number


def _told(plan: TrainingPlan, names: tuple[str, ...]) -> Iterator[tuple[str, Json]]:
    """What the program is told under such names: further options, words of the command, keys laid over its configs."""
    found = [*plan.training.options.items(), *(i for o in plan.config_overlays for i in o.values.items())]
    for word, after in pairwise((*plan.command, "")):
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            found.append((name, value if equals else "true" if after.startswith("-") or not after else after))
    yield from ((n, v) for n, v in found if n.lstrip("-").replace("-", "_").rpartition(".")[2].lower() in names)


def _both(one: float, other: float) -> float:
    """The factor of two that have nothing to do with each other."""
    return math.exp(math.hypot(math.log(max(one, 1.0)), math.log(max(other, 1.0))))


def _range(much: _Much) -> Range:
    return Range(low=much.likely / much.less, likely=much.likely, high=much.likely * much.more)
