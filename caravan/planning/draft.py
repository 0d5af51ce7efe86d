"""The first plan: what the repository says, what the cluster has, defaults, and what the user said, in that order.

Every field that is set keeps who set it and why. It reads values only: no file, no network.
"""

import posixpath
from collections.abc import Iterable
from typing import Final

from caravan.planning.answers import changes_from
from caravan.planning.cluster_fit import gpu_groups, in_target, most_gpus, with_driver
from caravan.planning.command import DISTRIBUTED, Documented, read_command
from caravan.planning.config_keys import configured, repository_values
from caravan.planning.environments import cache_changes
from caravan.planning.flags import fitting, typed_changes
from caravan.planning.metrics import clear_metric, direction_of
from caravan.planning.naming import resolve_gpu, resolve_model
from caravan.planning.prompt_reading import read_prompt
from caravan.planning.secrets import needed_secrets
from caravan.values.base import Json
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.masking import MASK
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
) -> TrainingPlan:
    """A whole plan. `image`: the one that the settings name for docker jobs. `place`: where the cluster wants jobs.

    Raises PlanError when a `--set` or an answer gives a value that the field doesn't take.
    """
    documented = read_command(profile.launch_command, profile.launcher) if profile.launch_command else None
    if documented is not None and not _starts(documented, profile):
        documented = None
    plan = TrainingPlan(goal=request.prompt, command=_command(profile, documented), code=code, outputs=outputs)
    plan = apply_changes(plan, _from_repository(plan, profile, documented))
    said = _said(profile, request, facts)
    plan = apply_changes(plan, said)  # first, so that what is derived sees it; standing keeps it
    plan = with_typed_values(plan, profile)
    plan = apply_changes(plan, place)
    plan = apply_changes(plan, _where(plan, profile, facts, image))
    plan = apply_changes(plan, _gpus(plan, profile, facts))
    plan = apply_changes(plan, _machine(plan, facts))
    plan = apply_changes(plan, cache_changes(plan))
    return apply_changes(plan, processes(plan, documented))


def chosen_script(given: Iterable[Json], profile: RepoProfile) -> str | None:
    """The Python file that a person named as what to start, as its path in the repository; the last word counts.

    `given` are answers and settings of the field `command`: a text, or a list of words.
    """
    found = None
    for value in given:
        read = read_command(value) if isinstance(value, str) else None
        words = read.command if read else tuple(map(str, value)) if isinstance(value, list | tuple) else ()
        script = next((w.removeprefix("./") for w in words if w.endswith(".py")), None)
        if script is not None:
            inside = f"{profile.launch_cwd.strip('/')}/{script}"
            found = inside if any(c.entry_point == inside for c in profile.candidates) else script
    return found


def with_fitting_flags(plan: TrainingPlan, profile: RepoProfile) -> TrainingPlan:
    """The plan without the profile's flags where its command starts another program: they are not that one's.

    Where it starts the profile's, what a person typed for these flags is what the fields say.
    """
    if _has_own_program(plan, profile):
        return plan.model_copy(update={"flags": {}, "config_keys": {}})
    return with_typed_values(plan, profile)


def with_typed_values(plan: TrainingPlan, profile: RepoProfile) -> TrainingPlan:
    """The plan with what a person typed in the command as the values of its fields, by that person."""
    return plan if _has_own_program(plan, profile) else apply_changes(plan, typed_changes(plan))


def _has_own_program(plan: TrainingPlan, profile: RepoProfile) -> bool:
    """Whether the plan's command starts another program than the profile's."""
    if not (plan.flags or plan.config_keys) or not plan.command or profile.entry_point is None:
        return False
    return not _names_entry(plan.command, profile) and not _reaches_entry(plan, profile.entry_point)


def _reaches_entry(plan: TrainingPlan, entry: str) -> bool:
    """Whether a word of the command is that script as seen from the working directory, or that module on its path."""
    paths = plan.env.get("PYTHONPATH", "").split(":")
    modules = [posixpath.join(p, f"{w.replace('.', '/')}.py") for p in ("", *paths) for w in plan.command]
    seen = (posixpath.normpath(posixpath.join(plan.workdir, word)) for word in (*plan.command, *modules))
    return posixpath.normpath(entry) in seen


def _starts(documented: Documented, profile: RepoProfile) -> bool:
    """Whether the documented command starts the entry point that was found."""
    if profile.entry_point is None or documented.launcher is Launcher.CLI:
        return True
    return _names_entry(documented.command, profile)


def _names_entry(command: tuple[str, ...], profile: RepoProfile) -> bool:
    entry = profile.entry_point or ""
    inside = entry.removeprefix(f"{profile.launch_cwd.strip('/')}/")
    module = inside.removesuffix(".py").replace("/", ".")
    return any(w.removeprefix("./") in (entry, inside, module) for w in command)


def _command(profile: RepoProfile, documented: Documented | None) -> tuple[str, ...]:
    if documented is not None:
        return documented.command
    if profile.launcher is Launcher.CLI and profile.cli_name:
        return (profile.cli_name,)
    if profile.entry_point is None:
        return ()  # a required question asks for it, and no plan without a command passes the checks
    script = profile.entry_point.removeprefix(f"{profile.launch_cwd.strip('/')}/")
    return (f"./{script}" if script.startswith("-") else script,)  # else an option of its interpreter


def _change(path: str, value: Json, by: Author, why: str) -> PlanChange:
    return PlanChange(path=path, value=value, by=by, why=why)


def _from_repository(plan: TrainingPlan, profile: RepoProfile, documented: Documented | None) -> tuple[PlanChange, ...]:
    repo = Author.REPOSITORY
    launcher = documented.launcher if documented else profile.launcher
    told = configured(profile, documented)
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
    requirements = next((f for f in profile.dependency_files if f.endswith(".txt")), None)
    if requirements is not None:
        found["setup.requirements"] = requirements, "the repository's requirements"
    pip = _pip(profile, launcher, requirements)
    if pip:
        found["setup.pip"] = list(pip), "what the launcher needs"
    if preparation := [command for command in profile.prep_commands if MASK not in command]:
        found["setup.cmd"] = preparation, "documented before the training"
    secrets = needed_secrets(profile)
    if secrets:
        found["secrets"] = list(secrets), "the code reads them and has no default"
    given = {path: item for path, item in found.items() if item[0] not in (None, [], {})}
    changes = fitting(plan, given, repo)
    return (*changes, _change("command", list(plan.command), repo, "documented" if documented else "the entry point"))


def _pip(profile: RepoProfile, launcher: Launcher, requirements: str | None) -> tuple[str, ...]:
    packaged = any(f in ("pyproject.toml", "setup.py", "setup.cfg") for f in profile.dependency_files)
    found = ["."] if packaged and (launcher is Launcher.CLI or requirements is None) else []
    return (*found, *(["papermill"] if launcher is Launcher.NOTEBOOK else []))


def _said(profile: RepoProfile, request: RunRequest, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    """The user's words: the sentence, then the answers file, then `--set`, the later ones over the earlier."""
    changes = []
    for change in read_prompt(request.prompt):
        if change.path == "model.id":
            name = resolve_model(str(change.value), profile.base_model)
            if name is None:
                continue  # the repository names the same model, with its owner
            change = change.model_copy(update={"value": name})
        if change.path == "resources.gpu_model":
            change = change.model_copy(update={"value": resolve_gpu(str(change.value), facts)})
        changes.append(change)
    return (*changes, *changes_from(request.answers), *request.sets)


def _where(plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, image: str | None) -> tuple[PlanChange, ...]:
    """Node pool, driver, image and interpreter, from what the nodes have."""
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
    image = plan.image or image or image_in(profile)
    driver, why = _driver(target, facts, image)
    changes.append(_change("driver", driver, cluster, why))
    if driver == "docker" and image:
        changes.append(_change("image", image, Author.DEFAULT, "the image of the settings or the repository"))
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
    by, why = (Author.REPOSITORY, "documented") if profile.num_gpus else (Author.DEFAULT, "one GPU to begin with")
    return (*changes, _change("resources.gpus", documented, by, why))


def _machine(plan: TrainingPlan, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    """CPU, memory and disk: usual amounts, or what the largest fitting node has when that is less."""
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


def processes(plan: TrainingPlan, documented: Documented | None) -> tuple[PlanChange, ...]:
    """As many processes as GPUs under a distributed launcher, or as documented where there are none."""
    if plan.launch.launcher not in DISTRIBUTED:
        return ()
    count = plan.resources.gpus or (documented.nproc if documented else None) or 1
    if count == plan.launch.nproc:
        return ()
    return (_change("launch.nproc", count, Author.DEFAULT, "one process for each GPU"),)
