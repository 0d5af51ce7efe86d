"""How a run's code and data get to its job: chosen while the plan is made, sent once the job is approved.

Nothing leaves this machine here before that. What may be sent where is `caravan.planning.delivery`'s to say; the
putting and building is the courier's.
"""

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from caravan.agent.context import Context
from caravan.agent.data_delivery import lies_here, mounted, with_data
from caravan.agent.state import RunState
from caravan.agent.training import source_of
from caravan.analysis.added import WithAdded
from caravan.analysis.deny import is_suspect
from caravan.analysis.traps import Traps, find_traps, named, warnings
from caravan.analysis.tree import SourceTree
from caravan.planning.delivery import (
    CODE_MOUNT,
    access_note,
    at_commit,
    code_in_image,
    code_kind,
    code_object,
    data_object,
    fetch_source,
    image_tag,
    not_from_git,
    put_url,
    store_problem,
    volume_path,
    wishes,
    with_volume,
)
from caravan.planning.draft import image_in
from caravan.planning.environments import requirement_files
from caravan.planning.package_room import room_for_packages
from caravan.values.base import Json
from caravan.values.delivery import Parcel, holds_credentials
from caravan.values.errors import PlanError
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import (
    Author,
    CodeSource,
    ImageBuild,
    PlanChange,
    TrainingPlan,
    apply_changes,
)
from caravan.values.repo import RepoProfile

_SMALL_MB: Final = 200  # what the usual disk has room for
_WORDS: Final = 200  # of a command that are looked at


class Chosen(NamedTuple):
    """The code's way, the image that is to be built for it, and what a person should know of both."""

    code: CodeSource
    build: ImageBuild | None = None
    warnings: tuple[str, ...] = ()


# --- code -----------------------------------------------------------------------------------------------------------


def choose_code(
    source: str, tree: SourceTree, profile: RepoProfile, said: Iterable[PlanChange], context: Context
) -> Chosen:
    """How the code gets to the job. The archive is packed where one is needed, and stays here."""
    facts, traps = context.facts(), find_traps(tree)
    said = tuple(said)
    wish = wishes(said, "code")
    added = _added(tree)
    _refuse_without(added, wish)
    if facts.kind is ClusterKind.NONE:  # nothing is packed for a plan on paper
        return Chosen(CodeSource.model_validate({"kind": "archive", **wish}), None, _suspects(tree))
    unpushed = added or _unpushed(source, profile, traps)
    dockerfile = "" if added else _dockerfile(profile, tree, said, wish, context)
    inside = code_in_image(tree.text(dockerfile) or "") if dockerfile else None
    kind = code_kind(wish, facts, unpushed=unpushed, in_image=inside is not None)
    packed = None
    if dockerfile or (kind == "archive" and not wish.get("location")):
        packed = _packed(tree, profile, context)
    build = None
    if dockerfile and packed is not None and context.shipping.registry:
        tag = image_tag(context.shipping.registry, source, packed.sha256 or "", dockerfile)
        build = ImageBuild(dockerfile=dockerfile, tag=tag, sha256=packed.sha256)
    code = _code(kind, wish, source, profile, tree, packed, inside if build else None, context)
    told = warnings(traps, kind) if kind != "mount" else ()
    if kind == "git" and not facts.shared_files:
        note = access_note(code, context.courier.public(code.location) if context.courier else None)
        told = (*told, note) if note else told
    told = (*told, *_suspects(tree))
    return Chosen(code, build, told)


def _suspects(tree: SourceTree) -> tuple[str, ...]:
    found = tuple(e.path for e in tree.files() if is_suspect(e.path))
    return (f"{named(found)} may hold secrets, and is delivered: it may as well be code or data",) if found else ()


def unpushed(state: RunState, context: Context) -> str:
    """Why the nodes can't get the run's code from a git remote, submodules included; empty where they can."""
    source, profile = state.request.source, state.need_profile()
    why = not_from_git(source, profile)
    if why or state.need_plan().code.kind != "git":
        return why
    tree = source_of(state, context)
    return _added(tree) or _unpushed(source, profile, find_traps(tree))


def _added(tree: SourceTree) -> str:
    """Why the code of a tree with added files is nowhere else, in half a sentence; empty for one without."""
    if not isinstance(tree, WithAdded):
        return ""
    return f"{tree.added[0].partition('/')[0]} is Caravan's own, added to what the repository has"


def _refuse_without(added: str, wish: dict[str, Json]) -> None:
    """Raises PlanError where the code shall come from a place that the added files are not in."""
    kind = code_kind(wish, _NOWHERE, unpushed="", in_image=False) if wish.keys() & {"kind", "location"} else "archive"
    if not added or (kind == "archive" and not wish.get("location")):
        return
    places = {"git": "no git remote has it", "image": "no image has it", "mount": "nothing can be added to a mount"}
    raise PlanError(
        f"code.kind: {kind} can't be: {added}, and {places.get(kind, 'the archive there lacks it')}.",
        hint="Leave code unset: then it is sent as an archive.",
    )


_NOWHERE: Final = ClusterFacts(kind=ClusterKind.NONE, address="")


def with_delivery(plan: TrainingPlan, chosen: Chosen, tree: SourceTree, context: Context) -> TrainingPlan:
    """The plan with everything that the way of its code and data asks for: volumes, image, disk."""
    if context.facts().kind is ClusterKind.NONE:
        return plan
    plan = with_code(plan, context.facts())
    if chosen.build is not None and plan.image == chosen.build.tag:
        build = chosen.build.model_dump(mode="json")
        plan = apply_changes(plan, [PlanChange(path="build", value=build, by=Author.REPOSITORY, why="its Dockerfile")])
    plan = with_data(plan, tree, context)
    if context.facts().shared_files:
        return plan
    plan = apply_changes(plan, _disk(plan))
    files = (posixpath.normpath(posixpath.join(plan.workdir or ".", f)) for f in requirement_files(plan))
    return apply_changes(plan, room_for_packages(plan, [tree.text(f) or "" for f in files if f in tree]))


def _disk(plan: TrainingPlan) -> tuple[PlanChange, ...]:
    """Room for what is downloaded and unpacked: twice its size, for a moment it is there twice."""
    sizes = [plan.code.size_bytes or 0 if plan.code.kind == "archive" else 0]
    sizes += [plan.data.size_bytes or 0] if plan.data is not None and plan.data.kind == "upload" else []
    more = 2 * sum(sizes) // 1_000_000
    if more < _SMALL_MB:
        return ()
    room = plan.resources.disk_mb + more
    by = plan.set_by("resources.disk_mb")
    return (PlanChange(path="resources.disk_mb", value=room, by=by, why="room for what is sent"),)


def _unpushed(source: str, profile: RepoProfile, traps: Traps) -> str:
    why = not_from_git(source, profile)
    if not why and traps.changed:
        return f"the submodule {named(traps.changed)} has changes that are not committed"
    return why


def _dockerfile(
    profile: RepoProfile, tree: SourceTree, said: Iterable[PlanChange], wish: dict[str, Json], context: Context
) -> str:
    """The Dockerfile that an image is built from; empty where none is, or none is wanted."""
    if not context.shipping.registry or context.courier is None or not profile.docker:
        return ""
    path = posixpath.normpath(profile.docker)
    judged = profile.environment.dockerfile if profile.environment else None
    if judged is not None and judged.path == path and not judged.trains and wish.get("kind") != "image":
        return ""  # it serves, documents or tests: why is told with the plan
    given = context.image or image_in(profile) or any(c.path == "image" for c in said)
    if path not in tree or given or (wish.get("location") and wish.get("kind") == "image"):
        return ""
    wanted = wish.get("kind") == "image" or not context.facts().shared_files
    return path if wanted and any("docker" in n.drivers for n in context.facts().usable_nodes()) else ""


def _packed(tree: SourceTree, profile: RepoProfile, context: Context) -> CodeSource:
    found = context.folder.save_code(tree.delivery(limit=context.max_archive_mb * 1_000_000))
    return found.model_copy(update={"uncommitted": profile.git.uncommitted if profile.git else ()})


def _code(
    kind: str,
    wish: dict[str, Json],
    source: str,
    profile: RepoProfile,
    tree: SourceTree,
    packed: CodeSource | None,
    inside: str | None,
    context: Context,
) -> CodeSource:
    found = CodeSource.model_validate({"kind": kind})
    if not holds_credentials(str(wish.get("location") or "")):
        found = found.model_copy(update={"location": str(wish.get("location") or "")})
    if kind == "archive" and packed is not None:
        found = _in_store(packed, context, asked="kind" in wish)
    elif kind == "git" and not found.location:
        found = at_commit(source, profile).model_copy(update={"files": len(tree.files())})
    elif kind == "image" and inside and packed is not None:
        found = packed.model_copy(update={"kind": "image", "location": inside})
    try:
        return CodeSource.model_validate({**found.model_dump(), **wish})
    except ValidationError as error:
        first = error.errors()[0]
        raise PlanError(f"code.{'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def _in_store(packed: CodeSource, context: Context, *, asked: bool) -> CodeSource:
    """The archive where the nodes will fetch it; where it lies, for a cluster that sees it or without a store.

    `asked`: a person wants an archive, so that a store is used also where a copy would do.
    """
    store = context.shipping.code_store
    near = context.facts().shared_files and not asked
    if near or store is None or packed.sha256 is None or store_problem(store, "code"):
        return packed
    return packed.model_copy(update={"location": fetch_source(store, code_object(packed.sha256))})


def with_code(plan: TrainingPlan, facts: ClusterFacts) -> TrainingPlan:
    """The plan with the volume that has its code among its mounts, where the code's place names one."""
    if plan.code.kind != "mount" or not plan.code.location.startswith("volume:"):
        return plan
    name, _ = volume_path(plan.code.location, CODE_MOUNT)
    mount, mounts = with_volume(plan, name, CODE_MOUNT, facts)
    _, place = volume_path(plan.code.location, mount.destination)
    return mounted(plan, mounts, {"code.location": place}, f"the volume {name} has the code")


def needed_but_left_out(plan: TrainingPlan, tree: SourceTree) -> tuple[str, ...]:
    """Files that the training names and that are not delivered, because git ignores them or a secret may be in them."""
    if plan.code.kind in ("image", "mount") and plan.build is None:
        return ()
    words = [*plan.command, *(w.partition("=")[2] for w in plan.command if "=" in w)]
    words += [str(v) for v in plan.training.options.values() if isinstance(v, str)]
    words += requirement_files(plan)
    found = []
    for word in dict.fromkeys(words[:_WORDS]):
        inside = posixpath.normpath(posixpath.join(plan.workdir or ".", word)) if word and word[0] != "-" else ""
        if inside and lies_here(tree, inside) and not (plan.data and plan.data.link == inside):
            found.append(inside)
    if not found:
        return ()
    return (
        f"{named(tuple(found))} is named by the command, but is not delivered: git ignores it or may hold a secret",
    )


# --- once it is approved --------------------------------------------------------------------------------------------


def deliver(state: RunState, context: Context) -> TrainingPlan:
    """Send what the approved plan needs to be sent, and build its image. The plan comes back, naming that by digest.

    Raises ServiceError for what may go better on a resume, UsageError for what must be changed first.
    """
    plan, courier = state.need_plan(), context.courier
    if courier is None:
        return plan
    archive = context.folder.path / "code.tar.gz"
    tell = context.progress.note
    code, store = plan.code, context.shipping.code_store
    if _is_sent(plan, context) and store is not None and code.sha256:
        parcel = Parcel(sha256=code.sha256, size=code.size_bytes or 0, files=code.files or 0)
        url = put_url(store, code_object(code.sha256))
        new = courier.put(archive, url, parcel, tell)
        tell(f"The code is at {url}." if new else f"The code was at {url} already: nothing was sent.")
    data, store = plan.data, context.shipping.data_store
    if data is not None and data.kind == "upload" and data.sha256 and store is not None:
        parcel = Parcel(sha256=data.sha256, size=data.size_bytes or 0, files=data.files or 0, folder=data.folder)
        url = put_url(store, data_object(parcel))
        new = courier.put(Path(data.local), url, parcel, tell)
        tell(f"The data is at {url}." if new else f"The data was at {url} already: nothing was sent.")
    if plan.build is None or plan.image != plan.build.tag:
        return plan
    digest = courier.build(archive, plan.build, context.folder.path / "image-build.log", tell)
    image = f"{plan.build.tag.rpartition(':')[0]}@{digest}"
    why = f"what was pushed as {plan.build.tag}"
    return apply_changes(plan, [PlanChange(path="image", value=image, by=Author.CLUSTER, why=why)])


def _is_sent(plan: TrainingPlan, context: Context) -> bool:
    """Whether the code is the archive that was packed here, for the configured store."""
    code, store = plan.code, context.shipping.code_store
    if code.kind != "archive" or store is None or not code.sha256:
        return False
    return code.location == fetch_source(store, code_object(code.sha256))


def is_needed(plan: TrainingPlan) -> bool:
    """Whether anything of the plan may have to be sent or built before its job is deployed."""
    sent = plan.data is not None and plan.data.kind == "upload"
    return sent or plan.build is not None or (plan.code.kind == "archive" and _remote(plan.code))


def _remote(code: CodeSource) -> bool:
    return code.size_bytes is not None and not code.location.endswith("/code.tar.gz")
