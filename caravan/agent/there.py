"""Whether what a plan names is there: data, code and config files, looked for on this machine and in the repository.

What speaks against a plan by its own words alone is `caravan.planning.checks`'. Only looks; nothing is changed or sent.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from caravan.agent.context import Context
from caravan.agent.data_delivery import looks_like_data
from caravan.agent.state import RunState
from caravan.agent.training import source_of
from caravan.analysis.tree import SourceTree
from caravan.planning.delivery import code_in_image, covering
from caravan.values.errors import UsageError
from caravan.values.plan import STANDING, TrainingPlan

_NO_PATH = re.compile(r"://|[\0*?\[\]{}$,;|<>]")  # a URL, patterns, a list, or what only the job knows


def absent(state: RunState, context: Context) -> tuple[str, ...]:
    """The problems of a plan that names what is not there, where that is known."""
    plan = state.need_plan()
    tree = _tree(state, context)
    data = () if state.request.dry_run and _is_said(plan) else _data(plan, tree, context)
    return (*_code(plan, context), *data, *_overlays(plan, tree))


def _is_said(plan: TrainingPlan) -> bool:
    """Whether the sentence names the data: a plan is worth seeing before they are there, a job is not."""
    origin = plan.provenance.get("dataset.path")
    return origin is not None and origin.why.startswith("prompt")


def doubtful(plan: TrainingPlan, tree: SourceTree, context: Context) -> tuple[str, ...]:
    """What a person should know of data that is not here, where the nodes may have it all the same."""
    text, here = _data_place(plan), context.facts().shared_files
    if not text or covering(plan, text) is not None or _is_there(plan, text, tree):
        return ()
    far = text.startswith(("/", "~"))
    if plan.set_by("dataset.path") not in STANDING:
        if far or not looks_like_data(text):
            return ()
        return (f"the data {text}, which the repository names, is not in it: the training must make or fetch it",)
    if not far and _is_said(plan) and looks_like_data(text):
        return (f"the data {text}, which the sentence names, is neither here nor in the code: say where it lies",)
    if not far or (here and plan.driver != "docker"):
        return ()  # that is a problem, or the id of a hub
    where = "in the image" if plan.driver == "docker" else "on the node"
    return (f"dataset.path: {text} is neither here nor below a volume of the plan: it must be {where} already",)


def dockerfile_hint(state: RunState, context: Context) -> tuple[str, ...]:
    """That a Dockerfile could be the way, where the code has none and only the registry is missing; else nothing."""
    plan, facts, path = state.need_plan(), context.facts(), state.need_profile().docker
    if not path or context.shipping.registry or context.image or plan.set_by("image") in STANDING:
        return ()
    lost = plan.code.kind == "archive" and not facts.shared_files and context.shipping.code_store is None
    if plan.code.kind != "image" and not lost:
        return ()
    tree = _tree(state, context)
    text = tree.text(posixpath.normpath(path)) if tree else None
    if not text or (lost and code_in_image(text) is None):
        return ()
    if not any("docker" in n.drivers for n in facts.usable_nodes()):
        return ()
    way = "set CARAVAN_REGISTRY (or registry of the cluster's profile) and it is built and pushed"
    return (f"There is a Dockerfile ({path}): {way}.",)


def _tree(state: RunState, context: Context) -> SourceTree | None:
    """The repository; None where it is gone since it was packed: then nothing is known."""
    try:
        return source_of(state, context)
    except UsageError:
        return None


def _code(plan: TrainingPlan, context: Context) -> Iterator[str]:
    code = plan.code
    asked = plan.set_by("code.location") in STANDING or plan.set_by("code") in STANDING
    if not asked or not context.facts().shared_files or not code.location.startswith("/"):
        return
    if code.kind not in ("mount", "archive") or covering(plan, code.location) is not None:
        return
    if not _exists(Path(code.location)):
        kind = "directory" if code.kind == "mount" else "archive"
        yield f"code.location: the {kind} {code.location} is not there."


def _data(plan: TrainingPlan, tree: SourceTree | None, context: Context) -> Iterator[str]:
    """Data that a person has named for a cluster that sees this machine's files, and that is not on it."""
    text = _data_place(plan)
    if plan.set_by("dataset.path") not in STANDING or not text:
        return
    far = text.startswith(("/", "~"))
    if far and (not context.facts().shared_files or plan.driver == "docker"):
        return  # a node or an image may have it
    if not far and (plan.code.kind != "archive" or not looks_like_data(text)):
        return  # the id of a hub, or in code that is not here
    if not far and tree is not None and _has_such(tree, text):
        return  # a file of that name lies elsewhere in the code: a repair that a person is asked about names it
    if covering(plan, text) is None and tree is not None and not _is_there(plan, text, tree):
        yield f"dataset.path: {text} is not there."


def _has_such(tree: SourceTree, text: str) -> bool:
    name = posixpath.basename(text.rstrip("/"))
    return any(posixpath.basename(entry.path) == name for entry in tree.files())


def _data_place(plan: TrainingPlan) -> str:
    """The one path that the training reads by its own word; empty for several, for a URL, and where a way is chosen."""
    text = plan.dataset.path or ""
    chosen = plan.data is not None and plan.data.kind in ("volume", "upload")
    return "" if chosen or _NO_PATH.search(text) else text


def _is_there(plan: TrainingPlan, text: str, tree: SourceTree) -> bool:
    if text.startswith(("/", "~")):
        return _exists(Path(text))
    return any(_exists(tree.root / start / text) for start in (plan.workdir or ".", "."))


def _exists(path: Path) -> bool:
    """Whether something is there; what may not be looked at may be."""
    try:
        return path.expanduser().exists()
    except RuntimeError:  # `~somebody` whom this machine does not know
        return False
    except OSError:
        return True


def _overlays(plan: TrainingPlan, tree: SourceTree | None) -> Iterator[str]:
    if tree is None or plan.code.kind not in ("archive", "git") or plan.set_by("code.location") in STANDING:
        return
    for overlay in plan.config_overlays:
        if posixpath.normpath(overlay.path) not in tree:
            yield f"config_overlays: {overlay.path} is not in the code: name a file that is delivered with it."
