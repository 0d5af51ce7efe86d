"""The job's environment as a run sees it: which base images it may have, and what an index and a registry answer.

What becomes of findings is `caravan.planning.environment_plan`'s; nothing is installed, pulled or changed here.
"""

from packaging.requirements import Requirement

from caravan.agent.context import Context
from caravan.planning.base_images import newest_python
from caravan.planning.conflicts import held_lines
from caravan.planning.environment_plan import environment_warnings, image_of, python_of
from caravan.planning.policy import image_allowed
from caravan.planning.site import mirrored
from caravan.values.distributions import BUILT, normal
from caravan.values.environment import BaseImage, ImageState, RepoEnvironment, Wanted
from caravan.values.places import SourceLine
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile


def offered_images(context: Context) -> tuple[BaseImage, ...]:
    """The settings' base images that the policies allow, under the names that the site's mirrors give them."""
    site = context.site
    return tuple(
        i
        for i in context.base_images
        if image_allowed(mirrored(i.image, site.profile) if site else i.image, context.policies)
    )


def environment_told(plan: TrainingPlan, profile: RepoProfile, context: Context) -> tuple[str, ...]:
    """What a person should know before they approve: by rules, by the index, by the image's registry."""
    told = [*environment_warnings(plan, profile, context.facts(), context.base_images), *_image(plan, context)]
    if profile.environment is not None and plan.build is None:
        told += _resolved(plan, profile.environment, context)
    return tuple(told)


def _resolved(plan: TrainingPlan, environment: RepoEnvironment, context: Context) -> list[str]:
    """Whether the packages can be installed together. What is built from source or from an address is left out."""
    lines, apart = lines_to_resolve(plan, environment)
    if not lines or context.facts().shared_files:
        return []  # there it is this machine's own interpreter, which may have them already
    if context.resolver is None:
        return ["whether the packages can be installed together was not looked up"]
    python = python_of(plan, image_of(plan, context.base_images)) or newest_python(environment)
    indexes = tuple(dict.fromkeys(i.url for i in environment.indexes))
    found = context.resolver.resolve(lines, python=python, indexes=indexes)
    without = f" (without {', '.join(apart[:4])}, built on the spot)" if apart else ""
    if found.resolved is False:
        return [f"the packages can't be installed together{f' on Python {python}' if python else ''}: {found.text}"]
    if found.resolved is None:
        return [f"whether the packages can be installed together was not found out: {found.text}"]
    context.progress.note(f"{len(found.packages)} packages can be installed together{without}.")
    return []


def lines_to_resolve(plan: TrainingPlan, environment: RepoEnvironment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The requirement lines of the job, and the names of those that no index can answer for."""
    place = SourceLine(file="plan.yaml", line=0)
    own = [Wanted(line=line, where=place) for line in plan.setup.pip if not line.startswith(".")]
    kept, apart = [], []
    for line in held_lines((*environment.declared, *own)):
        required = Requirement(line)
        if required.url or normal(required.name) in _BUILT:
            apart.append(required.name)
        else:
            kept.append(line)
    return tuple(kept), tuple(dict.fromkeys(apart))


_BUILT = frozenset(normal(name) for name in BUILT.values() if name)


def _image(plan: TrainingPlan, context: Context) -> list[str]:
    """What the registry says of an image that is pulled; nodes that name their images have been asked already."""
    built = plan.build is not None and plan.image == plan.build.tag
    docker = [d for n in context.facts().usable_nodes() if (d := n.drivers.get("docker"))]
    if plan.driver != "docker" or not plan.image or built or any(d.images is not None for d in docker):
        return []
    if context.registry is None:
        return [f"whether the image {plan.image} is there was not checked"]
    answer = context.registry.look(plan.image)
    if answer.state is ImageState.ABSENT:
        return [f"the image {plan.image} is not there: {answer.text}"]
    if answer.state is ImageState.DENIED:
        hint = "" if plan.docker.auth else "; name its login with docker.auth, if the nodes have none of their own"
        return [f"the image {plan.image} could not be looked at: {answer.text}{hint}"]
    return [] if answer.state is ImageState.THERE else [f"the image {plan.image} was not checked: {answer.text}"]
