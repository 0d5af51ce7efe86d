"""What the rules change in a drafted plan by what is remembered: lessons that worked, in plans that are alike.

A lesson is another run's and may be another machine's, so it is data: only fields that a repair of the repository's
own program touches are taken over, only where the plan stands as it stood then, and nothing that a person has set. It
reads values only; what is stored, and which cases come first, is the memory's business.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from caravan.planning.catalogue import Prices
from caravan.planning.checks import check_plan
from caravan.planning.cluster_fit import gpu_offers, in_target, with_driver
from caravan.planning.command import read_command, unpassed
from caravan.planning.config_files import reaches
from caravan.planning.estimate import estimate
from caravan.planning.processes import processes
from caravan.values.base import Json
from caravan.values.errors import PlanError
from caravan.values.failure import FailureClass, PastCase
from caravan.values.job import ClusterFacts
from caravan.values.lesson_fields import CODE, LISTS, PACKAGES, depends_on_nothing_else, name_of, never
from caravan.values.masking import MASK
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import RepoProfile

ROOM: Final = ("resources.memory_mb", "resources.disk_mb", "shm_mb", "kill_timeout_s")
"""Fields that only give room: more of it can't make the training another one. They are raised, never lowered."""

OF_THE_PROGRAM: Final = (
    *("training.", "launch.", "command", "workdir", "env.", "flags.", "config_overlays", "model.", "dataset."),
    *PACKAGES,
)
"""Fields that speak of the repository's own program. Where the job runs and what comes from outside (image, mounts,
commands of the set-up) is decided anew in each run."""

_FOLDER: Final = re.compile(r"mkdir -p -- (?!-)(?:[\w-][\w.-]*/?)+")
"""The one command of the set-up that is taken over: a folder of the job's own, which the program wants to write to."""

_BATCH, _ACCUMULATION, _CHECKPOINTING = "training.micro_batch", "training.grad_accum", "training.grad_checkpointing"
_LIKE_TRAINING: Final = (_BATCH, _ACCUMULATION, _CHECKPOINTING)  # the same training in other steps
_GPU: Final = "resources.gpu_model"
GPU_MEMORY: Final = frozenset({FailureClass.CUDA_OOM, FailureClass.GPU_MEMORY_CONTENDED})
"""Causes whose lessons hold for any code that trains the same model by the same method on the same GPU."""


def propose_changes(
    plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
) -> tuple[PlanChange, ...]:
    """What the rules would still change in a drafted plan: process count, and what past cases teach."""
    documented = read_command(profile.launch_command, profile.launcher) if profile.launch_command else None
    counted = processes(plan, documented)
    return (*counted, *remembered_changes(apply_changes(plan, counted), profile, facts, cases))


def remembered_changes(
    plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, cases: Sequence[PastCase]
) -> tuple[PlanChange, ...]:
    """The changes that worked in like plans, fitted to this one, by memory, each with the lesson that it is from.

    A case that failed as often as it worked is not used. A case counts as a whole: where one of its changes makes no
    valid plan, or one that the cluster or the program can't follow, none of them is made.
    """
    found: list[PlanChange] = []
    short = _seen_too_little(cases)
    for case in cases:
        if case.worked is not True or MASK in str([c.value for c in case.changes]):
            continue
        if any(never(change.path) for change in case.changes):
            continue
        changes = tuple(c for c in _fitted(case, plan, profile, facts) if _may(c, plan, short))
        try:
            changed = apply_changes(plan, changes)
            new_problems = set(check_plan(changed, facts)) - set(check_plan(plan, facts))
            if new_problems or set(unpassed(changed)) - set(unpassed(plan)):
                continue
        except PlanError:  # no such field or value; or an option for a field (`flags.`) that no plan has
            continue
        found += [c for c in changes if plan.get(c.path) != changed.get(c.path)]
        plan = changed
    return tuple(found)


def foreseen(plan: TrainingPlan, profile: RepoProfile, cases: Iterable[PastCase]) -> tuple[str, ...]:
    """What is told before the plan costs anything: that this code failed with settings like these, and that nothing is
    known that mends it. What came from outside the job, and causes that the plan now meets otherwise, are left out."""
    told = []
    for case in cases:
        if case.worked is True or case.failure is None or case.failure in _FROM_OUTSIDE or CODE not in case.same:
            continue
        if case.context.get("launch_command") != profile.launch_command or not _as_it_failed(case, plan):
            continue
        when = f" on {case.last_seen:%Y-%m-%d}" if case.last_seen else ""
        tried = " and what was tried then did not help" if case.changes else ""
        told.append(
            f"memory: with settings like these this code failed{when} with {case.failure.replace('_', ' ')}{tried}, "
            f"and nothing is known that mends it: {case.text.partition(chr(10))[0][:200]} ({name_of(case)})"
        )
    return tuple(dict.fromkeys(told))[:_FORESEEN]


def _as_it_failed(case: PastCase, plan: TrainingPlan) -> bool:
    """Whether what is known of the plan that failed is what this plan says, in room no more than that."""
    if any(_now(plan, path) != value for path, value in case.before.items() if path not in ROOM):
        return False
    for name, path in _SETTINGS.items():
        had, now = case.context.get(name), _now(plan, path)
        if had is not None and had != now and not (path in ROOM and isinstance(had, int) and isinstance(now, int)):
            return False
        if path in ROOM and isinstance(had, int) and isinstance(now, int) and now > had:
            return False
    return True


_SETTINGS: Final = {
    **{"driver": "driver", "gpus": "resources.gpus", "memory_mb": "resources.memory_mb", "image": "image"},
    **{"micro_batch": _BATCH, "max_len": "training.max_len", "method": "training.method", "base_model": "model.id"},
}
"""Parts of a lesson's context that say how the plan was set → the plan's field."""
_FORESEEN: Final = 3
_F = FailureClass
_FROM_OUTSIDE: Final = frozenset(
    (
        *(_F.INTERRUPTED_EXTERNALLY, _F.NO_FAILURE, _F.NOMAD_API_UNREACHABLE, _F.NOMAD_OBJECT_NOT_FOUND),
        *(_F.POLICY_DENIED, _F.ACL_PERMISSION_DENIED, _F.REGISTRY_AUTH_DENIED, _F.TEMPLATE_SECRET_UNAVAILABLE),
        *(_F.PLACEMENT_RESOURCES_EXHAUSTED, _F.PLACEMENT_GPU_UNAVAILABLE, _F.PLACEMENT_CONSTRAINT_FILTERED),
        *(_F.IMAGE_PULL_TRANSIENT, _F.GPU_NODE_BROKEN, _F.GPU_MEMORY_CONTENDED, _F.PORT_CONFLICT, _F.NCCL_TIMEOUT),
        *(_F.CONTAINER_NAME_CONFLICT, _F.HF_GATED_AUTH, _F.HUB_RATE_LIMITED, _F.NETWORK_UNREACHABLE),
        *(_F.RENDEZVOUS_PORT_IN_USE, _F.DEPLOY_PROGRESS_DEADLINE),
    )
)
"""Causes that lie outside the job: the next time they may be gone."""


def used_cases(plan: TrainingPlan, cases: Iterable[PastCase]) -> tuple[PastCase, ...]:
    """The cases that the plan follows in full: all that they changed holds, and something of it is by memory."""
    said = [p.why for p in plan.provenance.values() if p.by is Author.MEMORY]
    named = (case for case in cases if any(name_of(case) in why for why in said))
    return tuple(case for case in named if all(_holds(plan, case, change) for change in case.changes))


def _seen_too_little(cases: Iterable[PastCase]) -> dict[str, int]:
    """The most of each room with which this training was seen to fail: path → amount."""
    short: dict[str, int] = {}
    for case in cases:
        for change in case.changes:
            if change.path not in ROOM or not depends_on_nothing_else(case, change.path):
                continue
            had = change.value if case.worked is False else case.before.get(change.path)
            if isinstance(had, int) and not isinstance(had, bool):
                short[change.path] = max(had, short.get(change.path, 0))
    return short


def _may(change: PlanChange, plan: TrainingPlan, short: dict[str, int]) -> bool:
    """Whether what a person set leaves it to memory: room that is no more than what failed, and further packages."""
    if plan.set_by(change.path) not in STANDING or change.path not in ROOM:
        return True  # of packages the plan itself sees to it
    now = plan.get(change.path)
    return isinstance(now, int) and now <= short.get(change.path, -1)


def _fitted(case: PastCase, plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts) -> Iterator[PlanChange]:
    if case.failure in GPU_MEMORY:
        if _same_training(case, plan) and _same_gpu(case, plan, profile, facts):
            yield from _fitting_gpu(case, plan, facts)
        return
    if case.context.get("entry_point") != profile.entry_point:
        return
    if not all(depends_on_nothing_else(case, change.path) for change in case.changes):
        return
    if not all(_stands(case, plan, change) for change in case.changes):
        return
    for change in case.changes:
        now = _now(plan, change.path)
        if change.path in ROOM:
            value = _room(change, now, plan, facts) if _same_training(case, plan) else now
        elif change.path.startswith(OF_THE_PROGRAM) or _is_folders(case, change):
            value = _moved(change.path, now, case.before.get(change.path, now), change.value)
        elif change.path == _GPU and now is None and CODE in case.same:  # another type did not serve this very code
            value = change.value if change.value in _offered(plan, facts) else now
        else:
            continue
        if value != now:
            yield _by_memory(case, change.path, value)


def _stands(case: PastCase, plan: TrainingPlan, change: PlanChange) -> bool:
    """Whether the plan stands as it stood when the lesson was taught; packages are added to whatever is there."""
    if change.path in (*ROOM, *LISTS) or not change.path.startswith(OF_THE_PROGRAM) or change.path not in case.before:
        return True
    return _now(plan, change.path) in (case.before[change.path], change.value)


def _is_folders(case: PastCase, change: PlanChange) -> bool:
    """Whether all that the change adds to the set-up is folders of the job's own."""
    if change.path != "setup.cmd" or not isinstance(change.value, list):
        return False
    had = case.before.get(change.path) or []
    new = [item for item in change.value if not isinstance(had, list) or item not in had]
    return bool(new) and all(isinstance(item, str) and _FOLDER.fullmatch(item) for item in new)


def _same_training(case: PastCase, plan: TrainingPlan) -> bool:
    """Whether model and method are those of the case; what neither names is the same program's own."""
    return _equal(case.context.get("base_model"), plan.model.id) and _equal(
        case.context.get("method"), plan.training.method
    )


def _same_gpu(case: PastCase, plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts) -> bool:
    """Whether the plan would get the case's type of GPU, and, with other code, trains a named model as it did."""
    if CODE not in case.same and None in (plan.model.id, plan.training.method):
        return False
    lengths = case.context.get("max_len"), plan.training.max_len
    if None not in lengths and lengths[0] != lengths[1]:
        return False
    model = plan.resources.gpu_model or estimate(plan, facts, prices=Prices(), profile=profile).gpu
    return model is not None and _equal(case.context.get("gpu_model"), model)


def _equal(one: Json, other: Json) -> bool:
    return str(one or "").casefold() == str(other or "").casefold()


def _fitting_gpu(case: PastCase, plan: TrainingPlan, facts: ClusterFacts) -> Iterator[PlanChange]:
    """What made it fit, and the GPU on which it did: the chooser would else find a smaller one, by the formula.

    A lesson in which the training itself was changed (quantised, shorter) is left to a repair, which asks.
    """
    if any(c.path.startswith(("training.", "model.")) and c.path not in _LIKE_TRAINING for c in case.changes):
        return
    moved = next((c.value for c in case.changes if c.path == _GPU), None)
    smaller = tuple(_smaller(case, plan))
    yield from smaller
    offered = _offered(plan, facts)
    wanted = moved if moved in offered else case.context.get("gpu_model") if smaller and len(offered) > 1 else None
    if wanted is not None and plan.resources.gpu_model is None:
        yield _by_memory(case, _GPU, wanted)


def _smaller(case: PastCase, plan: TrainingPlan) -> Iterator[PlanChange]:
    """A batch no larger than the one that fitted, at the same effective batch, and checkpointing where it helped."""
    values = {change.path: change.value for change in case.changes}
    batch, fitting = plan.training.micro_batch, values.get(_BATCH)
    if _set(plan, _BATCH, _ACCUMULATION):
        pass
    elif batch is None and CODE in case.same:  # the program's own batch, whatever it is: as it was then
        yield from (_by_memory(case, path, values[path]) for path in (_BATCH, _ACCUMULATION) if values.get(path))
    elif isinstance(fitting, int) and batch is not None and fitting < batch:
        smaller = max(n for n in range(1, fitting + 1) if batch % n == 0)
        yield _by_memory(case, _BATCH, smaller)
        if reaches(plan, _ACCUMULATION):
            yield _by_memory(case, _ACCUMULATION, (plan.training.grad_accum or 1) * (batch // smaller))
    if values.get(_CHECKPOINTING) is True and plan.training.grad_checkpointing is not True:
        yield _by_memory(case, _CHECKPOINTING, value=True)


def _offered(plan: TrainingPlan, facts: ClusterFacts) -> set[str]:
    """The types of GPU that the plan could be given."""
    return {offer.model for offer in gpu_offers(plan, facts, Prices())} if plan.resources.gpus else set()


def _set(plan: TrainingPlan, *paths: str) -> bool:
    return any(plan.set_by(path) in STANDING for path in paths)


def _room(change: PlanChange, now: Json, plan: TrainingPlan, facts: ClusterFacts) -> Json:
    """The larger of what the plan has and what was needed, within what the largest node has."""
    value = change.value
    if not isinstance(value, int) or isinstance(value, bool):
        return now
    nodes = with_driver(in_target(plan, facts), plan.driver)
    field = change.path.removeprefix("resources.")
    if field in ("memory_mb", "disk_mb"):
        value = min(value, max((getattr(n, field) for n in nodes), default=0) or value)
    return value if value > (now or 0) else now


def _moved(path: str, now: Json, before: Json, after: Json) -> Json:
    """The value after the same change: set where the plan stands as it stood, lists added to, else left as it is."""
    if now == before:
        return after
    if path in LISTS and isinstance(now, list) and isinstance(after, list):
        had = before if isinstance(before, list) else []
        return [*now, *(item for item in after if item not in had and item not in now)]
    return now


def _holds(plan: TrainingPlan, case: PastCase, change: PlanChange) -> bool:
    """Whether the plan says what the case's change says, or more of the same. Places don't count."""
    now, value = _now(plan, change.path), change.value
    if change.path in ROOM:
        return isinstance(now, int) and isinstance(value, int) and now >= value
    if case.failure in GPU_MEMORY and change.path in (_BATCH, _ACCUMULATION):
        return change.path == _ACCUMULATION or (isinstance(now, int) and isinstance(value, int) and now <= value)
    if not change.path.startswith(OF_THE_PROGRAM) and change.path != _GPU:
        return True
    if isinstance(now, list) and isinstance(value, list):
        return all(item in now for item in value if item not in (case.before.get(change.path) or []))
    return bool(now == value)


def _now(plan: TrainingPlan, path: str) -> Json:
    try:
        return plan.get(path)
    except PlanError:  # a lesson of a version whose plans had other fields
        return None


def _by_memory(case: PastCase, path: str, value: Json) -> PlanChange:
    run, what = case.source.partition("/")[0], "needed" if path in ROOM else "it worked"
    told = "noted by hand" if run in ("", "user") else f"{what} in run {run}"
    if run.startswith("imported:"):
        told = "noted by hand elsewhere" if run == "imported:user" else f"{what} elsewhere, in run {run[9:]}"
    when = f" on {case.last_seen:%Y-%m-%d}" if case.last_seen else ""
    cause = f" against {case.failure.replace('_', ' ')}" if case.failure else ""
    return PlanChange(path=path, value=value, by=Author.MEMORY, why=f"{told}{when}{cause} ({name_of(case)})")
