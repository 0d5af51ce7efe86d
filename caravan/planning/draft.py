"""The first plan: what the repository says, what the cluster has, defaults, and what the user said, in that order.

Every field that is set keeps who set it and why. It reads values only: no file, no network.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from caravan.planning.answers import changes_from
from caravan.planning.cluster_fit import gpu_groups, in_target, most_gpus, with_driver
from caravan.planning.config_keys import configured, repository_values
from caravan.planning.derived import with_derived
from caravan.planning.documented import Documented
from caravan.planning.environment_plan import base_image, environment_changes, setup_values
from caravan.planning.environments import cache_changes
from caravan.planning.flags import fitting, typed_changes
from caravan.planning.mentioned import mentioned_changes
from caravan.planning.program import documented_start, has_own_program, program_words
from caravan.planning.secrets import needed_secrets
from caravan.planning.spelling import canonical
from caravan.planning.spoken import spoken
from caravan.planning.whose import whose_changes
from caravan.values.base import Json
from caravan.values.environment import BaseImage
from caravan.values.job import ClusterFacts, ClusterKind, NodeFacts
from caravan.values.masking import MASK
from caravan.values.metric_names import clear_metric, direction_of
from caravan.values.plan import Author, CodeSource, OutputSink, PlanChange, TrainingPlan, apply_changes
from caravan.values.repo import Launcher, RepoProfile
from caravan.values.run import RunRequest

GPU_LIBRARIES: Final = frozenset(
    {"torch", "pytorch", "transformers", "trl", "peft", "accelerate", "deepspeed", "bitsandbytes", "diffusers"}
    | {"unsloth", "axolotl", "vllm", "flash-attn", "jax", "jaxlib", "flax", "tensorflow", "keras", "lightning"}
    | {"pytorch-lightning", "torchvision", "timm", "xformers", "cupy", "cuda", "nccl"}
)
"""Frameworks and libraries whose trainings are meant for a GPU."""
_CPU_MHZ, _MEMORY_MB, _DISK_MB = 1000, 2048, 2048
_GPU_CPU_MHZ, _GPU_MEMORY_MB, _GPU_DISK_MB = 8000, 32768, 51200


def wants_gpu(profile: RepoProfile) -> bool:
    """Whether the repository trains on GPUs, by what it documents or imports."""
    if profile.num_gpus is not None:
        return profile.num_gpus > 0
    used = {name.lower() for name in (*profile.libraries, profile.framework or "")}
    return bool(used & GPU_LIBRARIES)


def draft_plan(
    profile: RepoProfile,
    request: RunRequest,
    facts: ClusterFacts,
    *,
    code: CodeSource,
    outputs: OutputSink,
    image: str | None,
    place: Iterable[PlanChange] = (),
    now: datetime | None = None,
    images: Sequence[BaseImage] = (),
) -> TrainingPlan:
    """A whole plan. `image`: the one that the settings name for docker jobs. `place`: where the cluster wants jobs.

    `images`: those that the settings offer where nothing names one. `now`: aware, in the user's zone; without it no
    deadline of the sentence is read.

    Raises PlanError when a `--set` or an answer gives a value that the field doesn't take.
    """
    documented = documented_start(profile)
    words = program_words(profile, documented)
    plan = TrainingPlan(goal=request.prompt, command=words, code=code, outputs=outputs)
    plan = apply_changes(plan, _from_repository(plan, profile, documented))
    # First, so that what is derived sees it; standing keeps it.
    plan = apply_changes(plan, _said(profile, request, facts, now))
    plan = with_typed_values(plan, profile)
    plan = apply_changes(plan, mentioned_changes(plan, profile, documented, request.prompt))
    if any(change.confirms for change in request.sets):  # a plan file: after all that the sentence says
        plan = with_typed_values(apply_changes(plan, (*_struck(plan, request.sets), *request.sets)), profile)
    plan = apply_changes(plan, tuple(whose_changes(plan, profile, request.prompt)))
    plan = apply_changes(plan, place)
    plan = apply_changes(plan, _where(plan, profile, facts, image, images))
    plan = apply_changes(plan, _gpus(plan, profile, facts))
    plan = apply_changes(plan, _machine(plan, facts))
    plan = apply_changes(plan, cache_changes(plan))
    plan = apply_changes(plan, environment_changes(plan, profile, facts, images))
    return with_derived(plan, profile, request.prompt)


def with_fitting_flags(plan: TrainingPlan, profile: RepoProfile) -> TrainingPlan:
    """The plan without the profile's flags where its command starts another program: they are not that one's.

    Where it starts the profile's, what a person typed for these flags is what the fields say.
    """
    if has_own_program(plan, profile):
        return plan.model_copy(update={"flags": {}, "config_keys": {}})
    return with_typed_values(plan, profile)


def with_typed_values(plan: TrainingPlan, profile: RepoProfile) -> TrainingPlan:
    """The plan with what a person typed in the command as the values of its fields, by that person."""
    return plan if has_own_program(plan, profile) else apply_changes(plan, typed_changes(plan))


def _change(path: str, value: Json, by: Author, why: str) -> PlanChange:
    return PlanChange(path=path, value=value, by=by, why=why)


def _from_repository(plan: TrainingPlan, profile: RepoProfile, documented: Documented | None) -> tuple[PlanChange, ...]:
    repo = Author.REPOSITORY
    launcher = documented.launcher if documented else profile.launcher
    told = configured(profile, documented)
    words = canonical(plan.command, profile.options, told.flags, profile.cli_style)
    found: dict[str, tuple[Json, str]] = {
        "workdir": (profile.launch_cwd, "where the repository starts it"),
        "model.id": (profile.base_model, "named in the repository"),
        "dataset.path": (profile.dataset, "named in the repository"),
        "training.method": (profile.method, "read from the code"),
        **repository_values(profile, documented),
        "launch.launcher": (
            Launcher.PYTHON.value if launcher is Launcher.NONE else launcher.value,
            "documented" if documented else "the entry point's kind",
        ),
        "flags": (dict(told.flags), "the parser's own spelling"),
        "config_keys": ({p: k.model_dump(mode="json") for p, k in told.keys.items()}, "read from the configs"),
    }
    metric = clear_metric(profile.metrics_logged)
    if metric is not None:
        found["target"] = {"metric": metric, "direction": direction_of(metric)}, "what the repository logs"
    if documented is not None:
        found["launch.args"] = list(documented.launcher_args), "documented"
        # A value that was masked when the file was read is no value.
        found["env"] = {k: v for k, v in documented.env.items() if MASK not in v}, "documented"
    found |= setup_values(profile, launcher)
    if preparation := [command for command in profile.prep_commands if MASK not in command]:
        found["setup.cmd"] = preparation, "documented before the training"
    secrets = needed_secrets(profile)
    if secrets:
        found["secrets"] = list(secrets), "the code reads them and has no default"
    given = {path: item for path, item in found.items() if item[0] not in (None, [], {})}
    changes = fitting(plan, given, repo)
    return (*changes, _change("command", list(words), repo, "documented" if documented else "the entry point"))


def _said(
    profile: RepoProfile, request: RunRequest, facts: ClusterFacts, now: datetime | None
) -> tuple[PlanChange, ...]:
    """The user's words: the sentence, then the answers file, then `--set`, the later ones over the earlier."""
    return (
        *spoken(profile, request.prompt, facts, now).changes,
        *changes_from(request.answers),
        *(c for c in request.sets if not c.confirms),
    )


def _struck(plan: TrainingPlan, sets: Iterable[PlanChange]) -> tuple[PlanChange, ...]:
    """Variables of the repository that a plan file leaves out: what it says of the environment is all of it."""
    named = {change.path for change in sets if change.confirms and change.path.startswith("env.")}
    left_out = [f"env.{name}" for name in plan.env if f"env.{name}" not in named] if named else []
    return tuple(_change(path, None, Author.USER, "not in the plan file") for path in left_out)


def _where(
    plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, image: str | None, images: Sequence[BaseImage]
) -> tuple[PlanChange, ...]:
    """Node pool, driver, image and interpreter, from what the nodes have. Without a cluster they stay open."""
    if facts.kind is ClusterKind.NONE:
        return ()
    cluster = Author.CLUSTER
    changes = []
    nodes = facts.usable_nodes()
    gpu = plan.resources.gpus > 0 or (wants_gpu(profile) and plan.set_by("resources.gpus") is Author.DEFAULT)
    able = [n for n in nodes if gpu_groups(n)] if gpu else list(nodes)
    pools = sorted({n.node_pool for n in able or nodes})
    if pools and "default" not in pools and plan.node_pool is None:
        what = "GPUs are" if gpu and able else "all nodes are"
        changes.append(_change("node_pool", pools[0], cluster, f"{what} in this pool"))
        plan = apply_changes(plan, changes)
    target = in_target(plan, facts)
    image, by = plan.image or image or image_in(profile), Author.DEFAULT
    why_image = "the image of the settings or the repository"
    holds_code = plan.code.kind == "image"  # no base image does
    if image is None and not holds_code and (base := base_image(profile, images, target, gpu=gpu and bool(able))):
        image, by, why_image = base
    driver, why = _driver(target, facts, image)
    changes.append(_change("driver", driver, cluster, why))
    if driver == "docker" and image:
        changes.append(_change("image", image, by, why_image))
    python = next((n.meta["caravan_python"] for n in target if n.meta.get("caravan_python")), None)
    if python and driver != "docker":
        changes.append(_change("setup.python", python, cluster, "the interpreter that the nodes offer"))
    return tuple(changes)


def image_in(profile: RepoProfile) -> str | None:
    """The repository's image, when it names one rather than a file to build one from."""
    name = profile.docker or ""
    last = name.rsplit("/", 1)[-1]
    return name if ":" in last and "dockerfile" not in last.lower() and " " not in name else None


def _driver(nodes: tuple[NodeFacts, ...], facts: ClusterFacts, image: str | None) -> tuple[str, str]:
    order = ["raw_exec", "exec"] if facts.shared_files else ["exec", "raw_exec"]
    if image:
        order = [*order, "docker"] if facts.shared_files else ["docker", *order]
    for driver in order:
        if with_driver(nodes, driver):
            return driver, "healthy on the nodes" + (" and an image is known" if driver == "docker" else "")
    return "docker", "no node reports a driver that would do"


def _gpus(plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    if not wants_gpu(profile):
        named = plan.resources.gpu_model is not None and plan.set_by("resources.gpus") is Author.DEFAULT
        return (_change("resources.gpus", 1, Author.DEFAULT, "a GPU type was named"),) if named else ()
    if facts.kind is ClusterKind.NONE:
        return (_usual_gpus(profile),)
    nodes = with_driver(in_target(plan, facts), plan.driver)
    vendors = sorted({g.vendor for n in nodes for g in gpu_groups(n)}, key=lambda v: (v != "nvidia", v))
    if not vendors:
        return (_change("resources.gpus", 0, Author.CLUSTER, "no node has a GPU"),)
    most = most_gpus(nodes, vendors[0], plan.resources.gpu_model) or most_gpus(nodes, vendors[0])
    changes = [_change("resources.gpu_vendor", vendors[0], Author.CLUSTER, "the nodes' GPUs")]
    documented = profile.num_gpus or 1
    if documented > most:
        why = f"the repository documents {documented}; no node has more than {most}"
        return (*changes, _change("resources.gpus", most, Author.CLUSTER, why))
    return (*changes, _usual_gpus(profile))


def _usual_gpus(profile: RepoProfile) -> PlanChange:
    by, why = Author.DEFAULT, "one GPU to begin with"
    if profile.num_gpus:
        by = Author.REPOSITORY
        why = "documented" if profile.num_gpus > 1 or profile.evidence.get("num_gpus") else "nothing documents more"
    return _change("resources.gpus", profile.num_gpus or 1, by, why)


def _machine(plan: TrainingPlan, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    """CPU, memory and disk: usual amounts, or what the largest fitting node has when that is less."""
    if facts.kind is ClusterKind.NONE:
        return ()
    gpus = plan.resources.gpus
    nodes = [n for n in with_driver(in_target(plan, facts), plan.driver) if not gpus or most_gpus([n]) >= gpus]
    wanted = {
        "resources.cpu_mhz": (_GPU_CPU_MHZ * gpus or _CPU_MHZ, max((n.cpu_mhz for n in nodes), default=0)),
        "resources.memory_mb": (_GPU_MEMORY_MB * gpus or _MEMORY_MB, max((n.memory_mb for n in nodes), default=0)),
        "resources.disk_mb": (_GPU_DISK_MB if gpus else _DISK_MB, max((n.disk_mb for n in nodes), default=0)),
    }
    changes = []
    for path, (usual, most) in wanted.items():
        room = int(most * 0.9)  # the node's own system needs some
        if 10 <= room < usual:
            changes.append(_change(path, room, Author.CLUSTER, "nine tenths of the largest node that fits"))
        else:
            changes.append(_change(path, usual, Author.DEFAULT, f"usual for {gpus} GPUs" if gpus else "usual on CPU"))
    if plan.driver == "docker" and gpus:
        memory = plan.resources.memory_mb
        changes.append(_change("shm_mb", max(64, min(8192, memory // 2)), Author.DEFAULT, "data loaders share memory"))
    return tuple(changes)
