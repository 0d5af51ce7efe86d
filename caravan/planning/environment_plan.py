"""What the repository's environment becomes in a plan: files, packages, Python, image, driver; each with its reason.

Pure: findings and facts in, changes and warnings out. Nothing is changed here that a warning or a reason does not tell.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from packaging.version import Version

from caravan.planning.base_images import Choice, allows, choose_image, has_python, python_fits, wished_python
from caravan.planning.cluster_fit import gpu_groups, in_target, with_driver
from caravan.planning.conflicts import conflicts
from caravan.planning.cuda import AMPERE, Need, below_ampere, cuda_need, driver_of_node, is_older, newest_torch_for
from caravan.values.base import Json
from caravan.values.distributions import normal, requirement_name
from caravan.values.environment import BaseImage, ImportNeed, RepoEnvironment
from caravan.values.job import ClusterFacts, NodeFacts
from caravan.values.plan import STANDING, Author, PlanChange, TrainingPlan
from caravan.values.repo import Launcher, RepoProfile

_SHOWN: Final = 6
_FOR_NOTEBOOKS: Final = ("papermill", "ipykernel")
_MOST_EXCLUDED: Final = 30


class Line(NamedTuple):
    """A line for pip and why it is there."""

    line: str
    why: str


def setup_values(profile: RepoProfile, launcher: Launcher) -> dict[str, tuple[Json, str]]:
    """Plan path → value and reason of what is installed, by the findings; without findings by the file's names."""
    environment = profile.environment
    found: dict[str, tuple[Json, str]] = {}
    if own := {option.flag: option.requirements for option in profile.options if option.requirements}:
        found["setup.option_requirements"] = dict(own), "what these options need, where they are on"
    if environment is None:
        return found | _by_names(profile, launcher)
    files = environment.requirements
    if files:
        found["setup.requirements"] = files[0], "the repository's requirements"
        if files[1:]:
            found["setup.further_requirements"] = list(files[1:]), "installed together with the first"
    lines = list(_lines(environment))
    if lines:
        found["setup.pip"] = [x.line for x in lines], "; ".join(f"{x.line}: {x.why}" for x in lines)
    return found


def _lines(environment: RepoEnvironment) -> Iterator[Line]:
    if environment.own:
        yield Line(environment.own, "the repository's own package")
    yield from (Line(w.line, w.where.text_of()) for w in environment.pip)
    yield from (Line(n.requirement, _imported(n)) for n in environment.missing if n.requirement)


def _imported(need: ImportNeed) -> str:
    if not need.where.line:
        return need.where.text or need.where.file
    return f"{need.where.text_of()} imports {need.module}, and no dependency file names it"


def _by_names(profile: RepoProfile, launcher: Launcher) -> dict[str, tuple[Json, str]]:
    found: dict[str, tuple[Json, str]] = {}
    requirements = next((f for f in profile.dependency_files if f.endswith(".txt")), None)
    if requirements is not None:
        found["setup.requirements"] = requirements, "the repository's requirements"
    packaged = any(f in ("pyproject.toml", "setup.py", "setup.cfg") for f in profile.dependency_files)
    pip = ["."] if packaged and (launcher is Launcher.CLI or requirements is None) else []
    if pip:
        found["setup.pip"] = list(pip), "what the launcher needs"
    return found


def notebook_changes(plan: TrainingPlan) -> tuple[PlanChange, ...]:
    """What runs a notebook is installed with it: papermill, and the kernel that it asks to run the cells."""
    known = {requirement_name(line) for line in plan.setup.pip}
    lines = [Line(name, "runs the notebook") for name in _FOR_NOTEBOOKS if name not in known]
    return _installed_too(plan, lines) if plan.launch.launcher is Launcher.NOTEBOOK else ()


def _installed_too(plan: TrainingPlan, lines: Sequence[Line]) -> tuple[PlanChange, ...]:
    """What pip installs with these lines beside the plan's, and their reasons; none where a person has named it all."""
    if not lines or plan.set_by("setup.pip") in STANDING:
        return ()
    before = plan.provenance["setup.pip"].why if "setup.pip" in plan.provenance else ""
    why = "; ".join(filter(None, (before, *(f"{x.line}: {x.why}" for x in lines))))
    value = [*plan.setup.pip, *(x.line for x in lines)]
    return (PlanChange(path="setup.pip", value=value, by=Author.REPOSITORY, why=why),)


def base_image(
    profile: RepoProfile, images: Sequence[BaseImage], nodes: Sequence[NodeFacts], *, gpu: bool
) -> tuple[str, Author, str] | None:
    """The image where none is built, by whom and why: what the Dockerfile comes from, else one of the settings'.

    On nodes that say which images they have, only those count. None: there is none that fits.
    """
    environment = profile.environment
    docker = [n.drivers["docker"] for n in with_driver(nodes, "docker")]
    if environment is None or not docker:
        return None
    have = [set(d.images) for d in docker if d.images is not None]

    def there(name: str) -> bool:
        return len(have) < len(docker) or any(name in some for some in have)

    file = environment.dockerfile
    if file and file.trains and file.base and "$" not in file.base and has_python(file.base) and there(file.base):
        return file.base, Author.REPOSITORY, f"{file.where.text_of()} comes from it; {file.why}"
    choice = _of_settings(environment, [i for i in images if there(i.image)], nodes, gpu=gpu)
    return (choice.image.image, Author.DEFAULT, choice.why) if choice else None


def _of_settings(
    environment: RepoEnvironment, images: Sequence[BaseImage], nodes: Sequence[NodeFacts], *, gpu: bool
) -> Choice | None:
    able = [n for n in with_driver(nodes, "docker") if gpu_groups(n, "nvidia")] if gpu else []
    compiled = {normal(requirement_name(w.line) or "") for w in environment.gpu_only} & _COMPILED
    return choose_image(images, environment, gpu=gpu, drivers=[driver_of_node(n) for n in able], nvcc=bool(compiled))


_COMPILED: Final = frozenset({"apex", "deepspeed", "flash-attn", "causal-conv1d", "mamba-ssm", "transformer-engine"})


def environment_changes(
    plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, images: Sequence[BaseImage] = ()
) -> tuple[PlanChange, ...]:
    """What follows from image, driver and nodes: apt's packages, repairs of pins, the oldest GPU driver, old GPUs."""
    environment = profile.environment
    if environment is None:
        return ()
    found: list[PlanChange] = []
    known = image_of(plan, images)
    apt = _apt(plan, environment, known)
    if apt:
        why = "; ".join(f"{p.name}: {p.why} ({p.where.text_of()})" for p in environment.system if p.name in apt)
        found.append(PlanChange(path="setup.apt", value=list(apt), by=Author.REPOSITORY, why=why[:800]))
    need = cuda_need(environment, known.torch if known else None) if plan.resources.gpus else None
    repairs = list(_repairs(plan, environment, facts, need, known))
    found += _installed_too(plan, [x for x in repairs if x.line not in plan.setup.pip])
    driver = _oldest(plan, facts, need, repaired=any(x.line.startswith("torch<") for x in repairs))
    if driver and need and not plan.resources.gpu_driver:
        found.append(PlanChange(path="resources.gpu_driver", value=driver, by=Author.REPOSITORY, why=need.why))
    return (*found, *_old_gpus(plan, environment, facts))


def fitting_images(
    plan: TrainingPlan, profile: RepoProfile | None, facts: ClusterFacts, images: Sequence[BaseImage]
) -> tuple[BaseImage, ...]:
    """The settings' base images that the plan's nodes have or can pull and run, the fittest first, at most some."""
    nodes = with_driver(in_target(plan, facts), "docker")
    docker = [n.drivers["docker"] for n in nodes]
    have = [set(d.images) for d in docker if d.images is not None]
    left = [i for i in images if len(have) < len(docker) or any(i.image in some for some in have)]
    environment = (profile.environment if profile else None) or RepoEnvironment()
    found: list[BaseImage] = []
    while left and docker and len(found) < _SHOWN:
        choice = _of_settings(environment, left, nodes, gpu=plan.resources.gpus > 0)
        if choice is None:
            break
        found.append(choice.image)
        left = [i for i in left if i.image != choice.image.image]
    return tuple(found)


def torch_bound(plan: TrainingPlan, facts: ClusterFacts) -> str | None:
    """The first minor version of torch that is too new for the newest driver of the plan's nodes; None: not known."""
    known = [d for d in _drivers(plan, facts) if d]
    return newest_torch_for(max(known, key=Version)) if known else None


def image_of(plan: TrainingPlan, images: Iterable[BaseImage]) -> BaseImage | None:
    """What is known of the plan's image: the settings' entry for it, also where a mirror has it."""
    return next((i for i in images if plan.image and plan.image.endswith(i.image)), None)


def _apt(plan: TrainingPlan, environment: RepoEnvironment, known: BaseImage | None) -> tuple[str, ...]:
    """The system packages that docker's image gets; a driver without root can't, and an image that is built has them.

    git-lfs is of use only where a command calls it: the node fetches the code, not the job.
    """
    if plan.driver != "docker" or plan.user not in (None, "root", "0") or plan.build is not None:
        return ()
    names = [p.name for p in environment.system]
    names = [n for n in names if n != "git-lfs" or any("git lfs" in c for c in plan.setup.cmd)]
    if known and known.tools:
        names = [n for n in names if n not in ("gcc", "g++", "make", "build-essential")]
    return tuple(n for n in names if n not in plan.setup.apt)


def _repairs(
    plan: TrainingPlan,
    environment: RepoEnvironment,
    facts: ClusterFacts,
    need: Need | None,
    known: BaseImage | None,
) -> Iterator[Line]:
    """Lines that mend what would fail: those of conflicts with one plain way, and an older torch for old drivers."""
    for conflict in conflicts(environment.declared, python_of(plan, known)):
        if conflict.repair:
            yield Line(conflict.repair, conflict.text)
    drivers = _drivers(plan, facts)
    if need is None or need.sure or not drivers or None in drivers or (known and known.torch):
        return
    newest = max((d for d in drivers if d), key=Version)
    bound = newest_torch_for(newest)
    uses = any(requirement_name(w.line) == "torch" for w in environment.declared) or any(
        n.requirement == "torch" for n in environment.missing
    )
    if bound and uses and (need.cuda is None or is_older(newest, need.driver)):
        yield Line(
            f"torch<{bound}", f"torch {bound} and newer need a newer GPU driver than {newest}, the nodes' newest"
        )


def _drivers(plan: TrainingPlan, facts: ClusterFacts) -> list[str | None]:
    nodes = with_driver(in_target(plan, facts), plan.driver)
    return [driver_of_node(n) for n in nodes if gpu_groups(n, "nvidia")] if plan.resources.gpus else []


def _oldest(plan: TrainingPlan, facts: ClusterFacts, need: Need | None, *, repaired: bool) -> str | None:
    """The oldest driver to demand: only where it tells nodes apart, and some node that reports one is new enough."""
    drivers = _drivers(plan, facts)
    if need is None or need.driver is None or repaired or plan.resources.gpu_vendor != "nvidia":
        return None
    old = [d for d in drivers if is_older(d, need.driver)]
    return need.driver if old and len(old) < len(drivers) else None


def _old_gpus(plan: TrainingPlan, environment: RepoEnvironment, facts: ClusterFacts) -> tuple[PlanChange, ...]:
    """Nodes with GPUs older than Ampere are left out where a package or the precision needs newer ones."""
    why = _ampere(plan, environment)
    nodes = [n for n in with_driver(in_target(plan, facts), plan.driver) if gpu_groups(n, "nvidia")]
    old = [n.name for n in nodes if below_ampere(n)]
    if not why or not plan.resources.gpus or not old or len(old) == len(nodes) or len(old) > _MOST_EXCLUDED:
        return ()
    value = [*plan.exclude_nodes, *old]
    why = f"{why}; their GPUs are older than Ampere"
    return (PlanChange(path="exclude_nodes", value=value, by=Author.CLUSTER, why=why),)


def _ampere(plan: TrainingPlan, environment: RepoEnvironment) -> str:
    """Why GPUs of compute capability 8.0 are needed; empty where nothing says so."""
    for wanted in environment.gpu_only:
        if normal(requirement_name(wanted.line) or "") in AMPERE:
            return f"{wanted.line} ({wanted.where.text_of()}) needs Ampere or newer"
    return "training.precision is bf16" if plan.training.precision == "bf16" else ""


def python_of(plan: TrainingPlan, known: BaseImage | None) -> str | None:
    """The minor version of the job's Python, where it is known."""
    import re

    if plan.driver == "docker":
        return known.python if known else None
    match = re.search(r"python(3\.\d+)$", plan.setup.python)
    return match[1] if match else None


def environment_warnings(
    plan: TrainingPlan, profile: RepoProfile, facts: ClusterFacts, images: Sequence[BaseImage] = ()
) -> tuple[str, ...]:
    """What a person should know of the environment before they approve."""
    environment = profile.environment
    if environment is None:
        return ()
    known = image_of(plan, images)
    return tuple(
        dict.fromkeys(
            (
                *_conflict_warnings(plan, environment, known),
                *_python_warnings(plan, environment, known),
                *_gpu_warnings(plan, environment, facts, known),
                *_package_warnings(plan, environment, known),
                *_image_warnings(plan, environment),
                *environment.notes,
            )
        )
    )


def _conflict_warnings(plan: TrainingPlan, environment: RepoEnvironment, known: BaseImage | None) -> Iterator[str]:
    for conflict in conflicts(environment.declared, python_of(plan, known)):
        mended = conflict.repair and conflict.repair in plan.setup.pip
        yield conflict.text + (f": {conflict.repair} is added (setup.pip)" if mended else "")
    bound = next((x for x in plan.setup.pip if x.startswith("torch<")), None)
    if bound:
        yield f"{bound} is added (setup.pip): what is newer needs a newer GPU driver than the nodes have"


def _python_warnings(plan: TrainingPlan, environment: RepoEnvironment, known: BaseImage | None) -> Iterator[str]:
    bounds = [w for w in environment.pythons if w.required]
    python = python_of(plan, known)
    if python is None:
        if bounds or wished_python(environment):
            wish = bounds[0] if bounds else environment.pythons[0]
            where = "the image" if plan.driver == "docker" else "the nodes"
            yield f"Python {wish.specifier} is asked for ({wish.where.text_of()}); which one {where} has is not known"
        return
    against = next((w for w in bounds if not allows(w, python)), None)
    if against:
        yield f"the job's Python is {python}, but {against.where.text_of()} asks for {against.specifier}"
    elif not python_fits(python, environment):
        yield f"the job's Python is {python}, for which the pinned framework has no wheel"
    elif (wished := wished_python(environment)) and wished[0] != python:
        yield f"the job's Python is {python}; {wished[1]} was made with {wished[0]}"


def _gpu_warnings(
    plan: TrainingPlan, environment: RepoEnvironment, facts: ClusterFacts, known: BaseImage | None
) -> Iterator[str]:
    if not plan.resources.gpus:
        if environment.gpu_only:
            names = ", ".join(dict.fromkeys(requirement_name(w.line) or w.line for w in environment.gpu_only[:_SHOWN]))
            yield f"{names}: works on a CUDA GPU alone, and the plan asks for no GPU"
        return
    drivers = _drivers(plan, facts)
    need = cuda_need(environment, known.torch if known else None)
    if need and need.driver and drivers and "torch<" not in " ".join(plan.setup.pip):
        old = [d for d in drivers if is_older(d, need.driver)]
        if old and len(old) == len(drivers):
            said = f"{need.why} needs CUDA {need.cuda}, so GPU driver {need.driver} or newer"
            yield f"{said}; the newest of the nodes' is {max((d for d in drivers if d), key=Version)}"
        elif None in drivers:
            yield f"{need.why} needs GPU driver {need.driver} or newer; not all nodes tell theirs"
    why = _ampere(plan, environment)
    nodes = [n for n in with_driver(in_target(plan, facts), plan.driver) if gpu_groups(n, "nvidia")]
    if why and nodes and all(below_ampere(n) for n in nodes):
        yield f"{why}, but all GPUs there are older"


def _package_warnings(plan: TrainingPlan, environment: RepoEnvironment, known: BaseImage | None) -> Iterator[str]:
    for need in environment.missing:
        if need.requirement is None:
            yield f"{need.where.text_of()} imports {need.module}, which no dependency file names and nobody here knows"
    if plan.driver != "docker" and (left := [p for p in environment.system if p.name != "git-lfs"]):
        names = ", ".join(f"{p.name} ({p.where.text_of()})" for p in left[:_SHOWN])
        yield f"these system packages must be on the nodes, for {plan.driver} installs none: {names}"
    built = [w for w in environment.gpu_only if normal(requirement_name(w.line) or "") in _COMPILED]
    if built and plan.driver == "docker" and plan.build is None and not (known and known.nvcc):
        names = ", ".join(dict.fromkeys(f"{w.line} ({w.where.text_of()})" for w in built[:_SHOWN]))
        yield f"where no wheel fits, CUDA's compiler is needed, which the image may not have: {names}"


def _image_warnings(plan: TrainingPlan, environment: RepoEnvironment) -> Iterator[str]:
    file = environment.dockerfile
    if file and not file.trains:
        yield f"{file.path} is not used: {file.why}"
    elif file and plan.driver == "docker" and plan.build is None and plan.image != file.base:
        why = "no registry is set, or another image is named"
        yield f"{file.path} is not built ({why}), " + (
            f"so {plan.image} is used" if plan.image else "and no image is known"
        )
