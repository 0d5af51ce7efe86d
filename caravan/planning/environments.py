"""The training's Python: what is installed, where it is kept, and the task that prepares it before the training begins.

A pure function of the plan and the training's task. What is downloaded for the code is downloaded by this task, which
hands the code over in the allocation's directory.
"""

from typing import Final

from caravan.planning.command import command_line
from caravan.planning.config_files import in_place
from caravan.planning.delivery import CODE_FILE
from caravan.planning.words import is_value
from caravan.values.base import Json
from caravan.values.job import Lifecycle, Task, TaskResources, TemplateBlock
from caravan.values.plan import Author, Mount, PlanChange, TrainingPlan

TASK: Final = "environment"
SCRIPT: Final = "local/prepare.sh"
_CODE: Final = frozenset({"local/code", CODE_FILE})
_OURS: Final = "local/"
_NOT_NEEDED: Final = frozenset({"ports", "hostname", "runtime", "shm_size"})
"""Options of docker that are the training's alone."""
PREPARING_MHZ: Final = 1000
"""CPU of the preparing task where the training has cores of its own and says no MHz."""
_OFF: Final = frozenset({"", "off", "false", "no", "none", "null", "0"})
_CACHES: Final = {
    "CARAVAN_CACHE_DIR": "",
    "HF_HOME": "/huggingface",
    "TORCH_HOME": "/torch",
    "PIP_CACHE_DIR": "/pip",
}
"""Variables that say where packages and models are kept, and their places below the cache directory."""


def environment_words(plan: TrainingPlan) -> tuple[str, ...]:
    """The arguments of the environment helper; empty when the plan needs no packages."""
    setup, code = plan.setup, plan.code
    wanted = requirement_files(plan)
    if not wanted and not setup.pip:
        return ()
    files = tuple(f"--file={name}" for name in wanted)
    said = code.sha256 or code.ref or (plan.image if code.kind == "image" else None) or ""
    apart = () if in_place(plan) else ("--apart",)
    return (*files, *(f"--pip={line}" for line in setup.pip), f"--salt={said}", *apart)


def requirement_files(plan: TrainingPlan) -> tuple[str, ...]:
    """The files of requirements that are installed together: the plan's own, and those of options that are on."""
    setup = plan.setup
    more = [file for option, file in setup.option_requirements.items() if is_on(plan, option)]
    return tuple(dict.fromkeys(filter(None, (setup.requirements, *setup.further_requirements, *more))))


def is_on(plan: TrainingPlan, option: str) -> bool:
    """Whether the command gives the program that option with a value that is no word for off; the last one counts."""
    value = None
    words = command_line(plan)
    for word, after in zip(words, (*words[1:], "-"), strict=True):
        name, joined, text = word.partition("=")
        if name == option:
            value = text if joined else after if is_value(after) else "true"
    return value is not None and value.casefold() not in _OFF


def prepares(plan: TrainingPlan) -> bool:
    """Whether packages are installed by a task of its own: where it is wished, or where a cache outlives the job."""
    if not environment_words(plan):
        return False
    return outlives(plan) if plan.setup.prestart is None else plan.setup.prestart


def hands_over(plan: TrainingPlan) -> bool:
    """Whether the training's task finds its code where the preparing one has put it."""
    return prepares(plan) and in_place(plan)


def outlives(plan: TrainingPlan) -> bool:
    """Whether the plan's cache is kept after the job: a directory of the node, or one on a volume that is writable."""
    cache = plan.env.get("CARAVAN_CACHE_DIR", "")
    if not cache.startswith("/"):
        return False
    return plan.driver == "raw_exec" or any(_holds(mount, cache) for mount in plan.mounts)


def _holds(mount: Mount, path: str) -> bool:
    place = mount.destination.rstrip("/")
    return not mount.read_only and (path == place or path.startswith(f"{place}/"))


def cache_on(mounts: tuple[Mount, ...]) -> str | None:
    """The place of a volume that is there for caches: one that can be written, with `cache` in its name or place."""
    fitting = (m for m in mounts if not m.read_only and m.kind != "bind" and "cache" in f"{m.source} {m.destination}")
    return next((m.destination.rstrip("/") for m in fitting), None)


def cache_variables(directory: str) -> dict[str, str]:
    """The variables that keep packages and models below that directory."""
    return {variable: directory.rstrip("/") + place for variable, place in _CACHES.items()}


def cache_changes(plan: TrainingPlan) -> tuple[PlanChange, ...]:
    """Packages and models on a volume of the plan that is there for that, but for places that are said."""
    directory = cache_on(plan.mounts) if plan.driver != "raw_exec" else None
    found = cache_variables(directory) if directory else {}
    return tuple(
        PlanChange(path=f"env.{name}", value=value, by=Author.DEFAULT, why="kept on a volume for the next runs")
        for name, value in found.items()
        if name not in plan.env
    )


def preparing_task(plan: TrainingPlan, training: Task, scripts: tuple[TemplateBlock, ...]) -> Task:
    """The task, made of the training's: the same image, mounts, environment and secrets, and no GPU of its own.

    `scripts` are its script and helper. Its memory and CPU cost nothing: it is over before the training begins.
    """
    templates = [t for t in training.templates if not t.destination.startswith(_OURS) or _is_of_plan(plan, t)]
    config: dict[str, Json] = {k: v for k, v in training.config.items() if k not in _NOT_NEEDED}
    resources = training.resources
    return Task(
        name=TASK,
        driver=training.driver,
        config=config | {"args": ["${NOMAD_TASK_DIR}/prepare.sh"]},
        env=training.env,
        user=training.user,
        lifecycle=Lifecycle(hook="prestart"),
        resources=TaskResources(
            cpu=resources.cpu or PREPARING_MHZ, memory=resources.memory, memory_max=resources.memory_max
        ),
        templates=(*scripts, *templates),
        vault=training.vault,
        artifacts=tuple(a for a in training.artifacts if a.destination in _CODE),
        volume_mounts=training.volume_mounts,
        logs=training.logs,
    )


def _is_of_plan(plan: TrainingPlan, template: TemplateBlock) -> bool:
    return any(t.destination == template.destination for t in plan.templates)


def without_code(task: Task) -> Task:
    """The training's task without the download of the code, which it is handed."""
    return task.model_copy(update={"artifacts": tuple(a for a in task.artifacts if a.destination not in _CODE)})
