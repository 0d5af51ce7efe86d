"""The ladders: for each cause the repairs worth trying, in order, and the mechanism that every rung goes through.

Only what is new is offered: no rung repeats what the plan says, makes no valid plan, is known not to fit, or changes
what the program can't be told. A further cause is a further row of `LADDERS`; its rungs are in `ladders/`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from caravan.diagnosis.ladders import (
    arguments,
    builds,
    data,
    devices,
    distributed,
    gated,
    hub,
    launch,
    memory,
    numbers,
    packages,
    placement,
    room,
    settings,
    stalls,
    target,
    versions,
)
from caravan.diagnosis.ladders.case import Case, Rung
from caravan.diagnosis.ladders.remembered import followed_in_vain, put_last, remembered
from caravan.values.errors import PlanError
from caravan.values.failure import ChangePlan, FailureClass, Repair
from caravan.values.plan import TrainingPlan, apply_changes

LADDERS: Final[dict[FailureClass, tuple[Rung, ...]]] = {
    FailureClass.JOBSPEC_INVALID: (target.refused,),
    FailureClass.NOMAD_OBJECT_NOT_FOUND: (target.asked_wrongly,),
    FailureClass.CLUSTER_TARGET_MISMATCH: (target.no_such_target,),
    FailureClass.PLACEMENT_CONSTRAINT_FILTERED: (target.constraint, placement.nearest),
    FailureClass.PLACEMENT_RESOURCES_EXHAUSTED: (placement.no_place,),
    FailureClass.PLACEMENT_GPU_UNAVAILABLE: (placement.no_place,),
    FailureClass.DRIVER_UNAVAILABLE: (target.task_driver,),
    FailureClass.VOLUME_UNAVAILABLE: (target.volume,),
    FailureClass.DEPLOY_PROGRESS_DEADLINE: (target.unhealthy,),
    FailureClass.INTERRUPTED_EXTERNALLY: (placement.elsewhere, placement.longer_end),
    FailureClass.IMAGE_NOT_FOUND: (launch.image_not_found,),
    FailureClass.IMAGE_PULL_TRANSIENT: (stalls.image_pull,),
    FailureClass.GPU_NODE_BROKEN: (devices.broken_node,),
    FailureClass.CUDA_DRIVER_TOO_OLD: (builds.old_driver,),
    FailureClass.BIND_MOUNT_REJECTED: (target.bind_mount,),
    FailureClass.PORT_CONFLICT: (target.port_taken,),
    FailureClass.CONTAINER_NAME_CONFLICT: (target.name_taken,),
    FailureClass.ENTRYPOINT_NOT_FOUND: (launch.entry_point,),
    FailureClass.ARCH_MISMATCH: (target.other_architecture,),
    FailureClass.ARTIFACT_DOWNLOAD_FAILED: (target.artifact,),
    FailureClass.HOST_MEMORY_OOM: (memory.host_memory,),
    FailureClass.DISK_FULL: (room.disk_full,),
    FailureClass.OUTPUT_PERMISSION_DENIED: (room.not_writable,),
    FailureClass.CUDA_OOM: (memory.cuda_memory,),
    FailureClass.GPU_MEMORY_CONTENDED: (devices.contended,),
    FailureClass.SHM_TOO_SMALL: (room.shared_memory,),
    FailureClass.CUDA_DEVICE_UNAVAILABLE: (devices.no_device,),
    FailureClass.GPU_COUNT_MISMATCH: (devices.wrong_count,),
    FailureClass.TORCH_BUILD_MISMATCH: (builds.torch_build,),
    FailureClass.BF16_UNSUPPORTED: (devices.precision,),
    FailureClass.FLASH_ATTN_UNUSABLE: (builds.attention,),
    FailureClass.BITSANDBYTES_SETUP: (builds.quantisation,),
    FailureClass.BUILD_TOOLCHAIN_MISSING: (builds.toolchain,),
    FailureClass.INDEX_OUT_OF_RANGE: (settings.index,),
    FailureClass.NUMERIC_DIVERGENCE: (numbers.divergence,),
    FailureClass.NCCL_TIMEOUT: (distributed.collective_timeout,),
    FailureClass.NCCL_ERROR: (distributed.nccl,),
    FailureClass.RENDEZVOUS_PORT_IN_USE: (distributed.port_in_use,),
    FailureClass.RENDEZVOUS_UNREACHABLE: (distributed.unreachable,),
    FailureClass.LAUNCHER_MISCONFIGURED: (distributed.launcher,),
    FailureClass.PROCESS_HANG: (stalls.hang,),
    FailureClass.PROCESS_CRASH_NATIVE: (stalls.native_crash,),
    FailureClass.MISSING_PYTHON_PACKAGE: (packages.missing_package,),
    FailureClass.PACKAGE_VERSION_CONFLICT: (versions.version_conflict,),
    FailureClass.CLI_ARGS_INVALID: (arguments.bad_arguments,),
    FailureClass.TRAINING_CONFIG_INVALID: (settings.contradiction,),
    FailureClass.CHECKPOINT_UNUSABLE: (settings.checkpoint,),
    FailureClass.DATA_PATH_MISSING: (data.missing_path,),
    FailureClass.DATASET_FORMAT_ERROR: (settings.columns,),
    FailureClass.HUB_NOT_FOUND: (hub.not_on_hub,),
    FailureClass.HUB_RATE_LIMITED: (hub.rate_limited,),
    FailureClass.NETWORK_UNREACHABLE: (hub.network,),
    FailureClass.WANDB_LOGIN_MISSING: (hub.tracker,),
    FailureClass.OUTPUTS_MISSING: (settings.nothing_saved,),
    FailureClass.RUN_TOO_LONG: (stalls.whole_run,),
    FailureClass.UNDERFIT: (gated.underfit,),
    FailureClass.OVERFIT: (gated.overfit,),
    FailureClass.WORSE_THAN_BASE: (gated.worse,),
    FailureClass.MODEL_COLLAPSED: (gated.collapsed,),
    FailureClass.REGRESSED: (gated.regressed,),
    FailureClass.TARGET_MISSED: (gated.missed,),
}
"""The rungs against each cause, in order. A rung gives any number of repairs, or none where it does not apply."""

_TOLD: Final = ("training.", "flags.", "model.", "dataset.", "command", "launch.")
"""Fields that reach the training through its command line alone."""


def ladder(case: Case) -> tuple[Repair, ...]:
    """The repairs to try against a cause, the most promising first; empty where nothing can be mended here.

    What memory knows to have worked comes first, whatever the cause, but once in a run; a change that failed before
    in a like case comes last.
    """
    if case.diagnosis.escalate:
        return ()
    known = tuple(_new(case, (r for build in LADDERS.get(case.diagnosis.failure, ()) for r in build(case))))
    lessons = tuple(_in_its_own_name(case, remembered(case, known), known))
    return put_last(case, tuple(_new(case, (*known, *lessons) if followed_in_vain(case) else (*lessons, *known))))


def mendable(failure: FailureClass) -> bool:
    """Whether there is a ladder against this cause at all."""
    return failure in LADDERS


def _in_its_own_name(case: Case, lessons: Iterable[Repair], known: Sequence[Repair]) -> Iterator[Repair]:
    """The lessons; one that comes to the ladder's first repair is told as that: memory has added nothing to it."""
    first = _plan(case, known[0]) if known else None
    for lesson in lessons:
        plan = _plan(case, lesson)
        yield known[0] if plan is not None and first is not None and plan.digest() == first.digest() else lesson


def _plan(case: Case, repair: Repair) -> TrainingPlan | None:
    return _mended(case, repair) if isinstance(repair, ChangePlan) else None


def _new(case: Case, repairs: Iterable[Repair]) -> Iterator[Repair]:
    """The repairs that change something, each plan once."""
    seen: set[str] = {case.plan.digest()}
    for repair in repairs:
        if not isinstance(repair, ChangePlan):
            key = repair.canonical()
        else:
            mended = _mended(case, repair)
            if mended is None:
                continue
            key = mended.digest()
        if key not in seen:
            seen.add(key)
            yield repair


def _mended(case: Case, repair: ChangePlan) -> TrainingPlan | None:
    """The plan after the change, or None where it is no valid one, does not fit, or the program would not notice."""
    try:
        mended = apply_changes(case.plan, repair.changes)
    except PlanError:
        return None
    if mended.digest() == case.plan.digest() or _too_large(case, mended):
        return None
    if _half_unknown_to_the_gpu(case, mended):
        return None
    told = all(change.path.startswith(_TOLD) for change in repair.changes)
    if told and case.outlook.words(mended) == case.outlook.words(case.plan):
        return None
    paths = {change.path for change in repair.changes if change.value is not None}
    return None if paths & set(case.outlook.unheard(mended)) else mended


def _half_unknown_to_the_gpu(case: Case, mended: TrainingPlan) -> bool:
    """Whether the change brings in bf16 where the GPUs are known not to compute in it: a lesson may be of others."""
    brought = mended.training.precision == "bf16" != case.plan.training.precision
    return brought and case.outlook.bf16(mended) is False


def _too_large(case: Case, mended: TrainingPlan) -> bool:
    """Whether the change is known to make it too large for the GPU; against memory that ran out, whether it still is.

    An estimate that did not hold the plan before to fit says nothing: it was wrong, or the batch is chosen anew.
    """
    trusted = case.diagnosis.failure is FailureClass.CUDA_OOM or case.outlook.fits(case.plan) is True
    return trusted and case.outlook.fits(mended) is False
