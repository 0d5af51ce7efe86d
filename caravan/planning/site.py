"""What a cluster's profile brings into a plan, as the cluster's own word. It never stands against what a person said.

Pure. Whether the nodes have what a profile promises is the checks' to say.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from caravan.planning.environments import cache_on, cache_variables
from caravan.planning.outputs import read_sink
from caravan.values.base import Json
from caravan.values.environment import BaseImage
from caravan.values.errors import UsageError
from caravan.values.plan import STANDING, Author, Mount, PlanChange, TrainingPlan
from caravan.values.references import image_under, read_image
from caravan.values.target import ClusterProfile

_APT_CONF: Final = "local/apt.conf"


def place_changes(profile: ClusterProfile, name: str) -> tuple[PlanChange, ...]:
    """Where jobs of the cluster run: what is chosen after it (driver, GPUs) is chosen from the nodes there."""
    found: dict[str, Json] = {
        "region": profile.region,
        "node_pool": profile.node_pool,
        "datacenters": list(profile.datacenters) if profile.datacenters is not None else None,
    }
    return tuple(_change(path, value, name) for path, value in found.items() if value)


def site_changes(plan: TrainingPlan, profile: ClusterProfile, name: str) -> tuple[PlanChange, ...]:
    """Everything else: environment, caches, mirrors, volumes, the outputs' place. Raises UsageError for no such place.

    A variable that the repository or a person has set stays.
    """
    found = list(_environment(plan, profile))
    if profile.outputs is not None and not _stands(plan, "outputs"):
        found += [("outputs", _sink(profile.outputs, name))]
    mounts = _with_volumes(plan, profile)
    if mounts != plan.mounts:
        found.append(("mounts", [m.model_dump(mode="json") for m in mounts]))
    if plan.image and plan.set_by("image") not in STANDING:
        found += [("image", mirrored(plan.image, profile))] if mirrored(plan.image, profile) != plan.image else []
    return tuple(_change(path, value, name) for path, value in found)


def _stands(plan: TrainingPlan, block: str) -> bool:
    """Whether a person or a repair has set the block or a part of it."""
    paths = (p for p in plan.provenance if p == block or p.startswith(f"{block}."))
    return any(plan.provenance[p].by in STANDING for p in paths)


def _sink(text: str, name: str) -> Json:
    try:
        return read_sink(text).model_dump(mode="json")
    except UsageError as error:
        raise UsageError(f"The cluster profile {name}: outputs: {error.message}", hint=error.hint) from error


def mirrored(image: str, profile: ClusterProfile) -> str:
    """The image as the cluster's mirrors have it: the longest prefix of its full name is replaced."""
    known = read_image(image)
    if known is None:
        return image
    under = {p: rest for p in profile.registry_mirrors if (rest := image_under(known, p)) is not None}
    if not under:
        return image
    prefix = max(under, key=len)
    return f"{profile.registry_mirrors[prefix].rstrip('/')}/{under[prefix]}"


def mirrored_images(images: Iterable[BaseImage], profile: ClusterProfile | None) -> tuple[BaseImage, ...]:
    """Base images under the names that the cluster's mirrors give them."""
    return tuple(i.model_copy(update={"image": mirrored(i.image, profile)}) if profile else i for i in images)


def _environment(plan: TrainingPlan, profile: ClusterProfile) -> Iterator[tuple[str, Json]]:
    wanted = dict(profile.env)
    if profile.pip_index_url:
        wanted |= {"PIP_INDEX_URL": profile.pip_index_url, "UV_DEFAULT_INDEX": profile.pip_index_url}
    if profile.hf_endpoint:
        wanted["HF_ENDPOINT"] = profile.hf_endpoint
    directory = profile.cache_dir or cache_on(_with_volumes(plan, profile) if plan.driver != "raw_exec" else ())
    if directory:
        wanted |= cache_variables(directory)
    if profile.apt_proxy and plan.driver == "docker":
        wanted["APT_CONFIG"] = f"${{NOMAD_TASK_DIR}}/{_APT_CONF.removeprefix('local/')}"
        text = f'Acquire::http::Proxy "{profile.apt_proxy}";\n'
        template = {"destination": _APT_CONF, "data": text, "env": False}
        if not any(t.destination == _APT_CONF for t in plan.templates):
            yield "templates", [*(t.model_dump(mode="json") for t in plan.templates), template]
    yield from ((f"env.{variable}", value) for variable, value in wanted.items() if variable not in plan.env)


def _with_volumes(plan: TrainingPlan, profile: ClusterProfile) -> tuple[Mount, ...]:
    """The plan's mounts with the profile's volumes, but for places that are taken; raw_exec can't mount any."""
    if plan.driver == "raw_exec":
        return plan.mounts
    mounts = plan.mounts
    for source, volume in profile.volumes.items():
        writable = profile.outputs == f"volume:{source}"  # the outputs go there
        taken = any(m.source == source or m.destination == volume.destination for m in mounts)
        if not taken:
            mount = Mount(
                kind=volume.kind,
                source=source,
                destination=volume.destination,
                read_only=volume.read_only and not writable,
            )
            mounts = (*mounts, mount)
    return mounts


def _change(path: str, value: Json, name: str) -> PlanChange:
    return PlanChange(path=path, value=value, by=Author.CLUSTER, why=f"the cluster profile {name}")
