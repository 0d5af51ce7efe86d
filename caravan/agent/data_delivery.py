"""The way that training data on this machine takes to the job, chosen while the plan is made.

What a repository names is taken only where it lies in that repository, in truth and not by way of a link; what lies
elsewhere is taken where a person has named it. Either is named in the plan by its real path, so that what is approved
and what a policy judges is what is read.
"""

import os
import posixpath
from pathlib import Path
from typing import Final

from caravan.agent.context import Context
from caravan.agent.data_places import named_path
from caravan.analysis.deny import is_denied
from caravan.analysis.tree import SourceTree
from caravan.planning.delivery import (
    DATA_DIR,
    DATA_MOUNT,
    covering,
    data_object,
    fetch_source,
    store_problem,
    volume_path,
    wishes,
    with_volume,
)
from caravan.values.amounts import size_text
from caravan.values.base import Json
from caravan.values.delivery import Parcel
from caravan.values.errors import UsageError
from caravan.values.job import ClusterFacts
from caravan.values.plan import STANDING, Author, DataSource, Mount, PlanChange, TrainingPlan, apply_changes

_NAMED: Final = 5
_ENDINGS: Final = (
    *(".csv", ".tsv", ".json", ".jsonl", ".parquet", ".arrow", ".txt", ".bin", ".npy", ".npz", ".tar", ".zip"),
    *(".gz", ".zst", ".h5", ".hdf5", ".pt", ".safetensors", ".mds", ".idx", ".lmdb"),
)


def with_data(plan: TrainingPlan, tree: SourceTree, context: Context) -> TrainingPlan:
    """The plan with the way that data here takes to the job; unchanged where the job reaches it by itself."""
    plan = _with_real_place(plan, context.facts())
    local, link = _local(plan, tree)
    wish = plan.data or DataSource()
    if local is None:
        if wish.kind is None and plan.data is not None:
            raise UsageError(
                f"data is set, but {plan.dataset.path or 'no data set'} is no path on this machine.",
                hint="Set dataset.path to the file or directory, or leave data unset.",
            )
        return _on_volume(plan, wish, context) if wish.kind == "volume" else plan
    if plan.data is None and not link and _is_mounted(plan, local):
        return plan  # a path as the task sees it, which happens to be here too
    facts = context.facts()
    measured: Parcel | None = None
    kind = wish.kind or _data_kind(facts, context)
    if kind != "volume":
        measured = _measured(local, kind, context)
    base: dict[str, Json] = {"local": str(local), "link": link, "kind": kind}
    if measured is not None:
        base |= {"size_bytes": measured.size, "files": measured.files, "folder": measured.folder}
        base |= {"left_out": list(measured.left_out)}
    found = _set(plan, base, "where it lies")
    if kind == "shared":
        return _set(found, {"location": str(local), "destination": str(local)}, "the cluster sees this machine's files")
    if kind == "volume":
        return _on_volume(found, wish, context)
    return _uploaded(found, measured, local, context) if kind == "upload" and measured else found


def looks_like_data(text: str) -> bool:
    """Whether a relative name is a file's or directory's, not the id of a hub."""
    return text.startswith(("./", "../")) or text.endswith(_ENDINGS)


def _data_kind(facts: ClusterFacts, context: Context) -> str | None:
    store = context.shipping.data_store
    if facts.shared_files:
        return "shared"
    if store is None:
        return None
    return "volume" if store.volume else "upload"


def _measured(local: Path, kind: str | None, context: Context) -> Parcel | None:
    """What sending it would be. What is not sent is only looked at where a person is to be told its size."""
    if context.courier is None or kind in ("shared", "code"):
        return None
    return context.courier.measure(local, context.progress.note, context.shipping.max_data_gb * 1_000_000_000)


def _uploaded(plan: TrainingPlan, parcel: Parcel, local: Path, context: Context) -> TrainingPlan:
    store = context.shipping.data_store
    if parcel.size > context.shipping.max_data_gb * 1_000_000_000:
        raise UsageError(
            f"The data {local} has {size_text(parcel.size)}, more than {context.shipping.max_data_gb} GB.",
            hint="Put it on a volume (--set data.kind=volume --set data.location=NAME), or set CARAVAN_MAX_DATA_GB.",
        )
    if store is None or store.volume or store_problem(store, "data"):
        return plan
    return _set(
        plan,
        {
            "sha256": parcel.sha256,
            "location": fetch_source(store, data_object(parcel)),
            "destination": f"{DATA_DIR}/{local.name}",
        },
        f"sent once to {store.url}",
    )


def _on_volume(plan: TrainingPlan, wish: DataSource, context: Context) -> TrainingPlan:
    """The plan with the volume that has the data mounted. `location` names it, `destination` may say the path in it."""
    store = context.shipping.data_store
    name = wish.location or (store.volume if store else "")
    if not name:
        return plan
    name, _ = volume_path(name, "")
    mount, mounts = with_volume(plan, name, DATA_MOUNT, context.facts())
    _, inside = volume_path(wish.location or name, mount.destination)
    local = (plan.data.link or plan.data.local) if plan.data else ""
    if not wish.destination and inside == mount.destination and local:
        inside = posixpath.join(inside, posixpath.basename(local))
    place = wish.destination or inside
    if not place.startswith("/"):
        place = posixpath.join(mount.destination, place)
    return mounted(plan, mounts, {"data.destination": place}, f"the volume {name} has the data")


def _set(plan: TrainingPlan, fields: dict[str, Json], why: str) -> TrainingPlan:
    """The plan's data with these fields; what a person said of it stays."""
    given = wishes((PlanChange(path=p, value=plan.get(p), by=o.by) for p, o in plan.provenance.items()), "data")
    whole = plan.set_by("data") in STANDING
    by = Author.USER if whole else Author.CLUSTER  # else what follows from a person's word would be left out
    changes = [PlanChange(path=f"data.{k}", value=v, by=by, why=why) for k, v in fields.items() if v and k not in given]
    return apply_changes(plan, changes)


def _with_real_place(plan: TrainingPlan, facts: ClusterFacts) -> TrainingPlan:
    """The plan with the real path of the place that a person named for data, where that is one of this machine."""
    place = plan.data.location if plan.data else ""
    real = os.path.realpath(place) if place.startswith("/") and facts.shared_files else place
    if real == place:
        return plan
    change = PlanChange(path="data.location", value=real, by=plan.set_by("data.location"), why=f"where {place} leads")
    return apply_changes(plan, [change])


def _is_mounted(plan: TrainingPlan, local: Path) -> bool:
    """Whether the data set's path is one that the task sees by a mount, as it is written or as it is here."""
    return any(covering(plan, path) is not None for path in (plan.dataset.path or "", str(local)))


def _local(plan: TrainingPlan, tree: SourceTree) -> tuple[Path | None, str]:
    """The data on this machine that the job would not have, and where the training finds it in the code by itself.

    Its real path: what is approved must be what is read.
    """
    field = "data.local" if plan.data and plan.data.local else "dataset.path"
    text = str(plan.get(field) or "")
    if not text or "://" in text or "\0" in text:
        return None, ""
    inside = posixpath.normpath(posixpath.join(plan.workdir or ".", text))
    asked = plan.set_by(field) in STANDING
    if not text.startswith(("/", "~")) and not inside.startswith(".."):
        real = _inside(plan, tree, inside, asked=asked)
        if real is not None:
            return real, inside
        if inside in tree or any(e.path.startswith(f"{inside}/") for e in tree.files()):
            return None, ""  # it goes with the code
        if not looks_like_data(text):
            return None, ""  # the id of a hub
    if not asked:
        return None, ""  # what a repository names outside of itself is not fetched from this machine
    try:
        path = named_path(text, None if tree.cloned else tree.root / (plan.workdir or "."))
        there = path.exists()
    except (OSError, RuntimeError):
        return None, ""
    return (Path(os.path.realpath(path)) if there else None), ""


def _inside(plan: TrainingPlan, tree: SourceTree, path: str, *, asked: bool) -> Path | None:
    """The real place of data that lies in the repository and is not delivered with its code; None where none does.

    Nothing in a clone is anybody's data. A link that leads out of the repository is followed where a person has named
    it, and only then.
    """
    if tree.cloned or plan.code.kind == "mount":
        return None
    real = tree.real(path)
    if real is None:
        there = Path(os.path.realpath(tree.root / path))
        return there if asked and there.exists() else None
    if not lies_here(tree, path):
        return None
    names = (path, os.path.relpath(real, os.path.realpath(tree.root)).replace(os.sep, "/"))
    return Path(real) if asked or not any(map(is_denied, names)) else None


def lies_here(tree: SourceTree, path: str) -> bool:
    """Whether something is at a path of the repository, or below it, that the job will not get with the code.

    A secret in a folder that is delivered otherwise does not make the folder one that is left out.
    """
    left = tree.left_out(path)
    return path in left or not all(map(is_denied, left))


def not_sent(plan: TrainingPlan) -> tuple[str, ...]:
    """What a person should know of the data before it is sent: what of it is left out."""
    left = plan.data.left_out if plan.data else ()
    if plan.data is None or not left:
        return ()
    return (f"of the data {plan.data.local} this is not sent: {', '.join(left[:_NAMED])}" + _more(left),)


def _more(left: tuple[str, ...]) -> str:
    return f" and {len(left) - _NAMED} more (data.left_out in the plan)" if len(left) > _NAMED else ""


def mounted(plan: TrainingPlan, mounts: tuple[Mount, ...], more: dict[str, Json], why: str) -> TrainingPlan:
    """The plan with these mounts, and further fields that follow from a place that was named."""
    by = Author.USER  # naming a volume is the person's word or the profile's; what follows from it must stand
    changes = [PlanChange(path=path, value=value, by=by, why=why) for path, value in more.items()]
    if mounts != plan.mounts:
        value = [m.model_dump(mode="json") for m in mounts]
        changes.insert(0, PlanChange(path="mounts", value=value, by=by, why=why))
    return apply_changes(plan, changes)
