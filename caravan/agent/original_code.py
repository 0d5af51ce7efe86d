"""The code that a run was trained with, brought to the byte into the folder of the run that repeats it.

First the archive that was kept; where that is gone, the commit, if it can be fetched and gives the same archive. What
can't be had as it was is refused: a run with other code repeats nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from caravan.agent.state import RunState
from caravan.agent.training import files_of_type
from caravan.analysis.added import WithAdded
from caravan.analysis.tree import SourceTree
from caravan.planning.delivery import at_commit, git_address
from caravan.ports import RunFolder
from caravan.training.loading import Types
from caravan.values.errors import CaravanError, UsageError

ARCHIVE: Final = "code.tar.gz"
Open = Callable[[str], SourceTree]
"""Opens the repository at a path or URL."""


def bring_code(state: RunState, before: Path, into: RunFolder, open_tree: Open, types: Callable[[], Types]) -> str:
    """Bring the original's code into the folder; what the repetition names as its source comes back.

    `before` is the original's folder, which is only read. Raises UsageError where the code can't be had as it was,
    StateError for a damaged archive.
    """
    plan = state.need_plan()
    kept = before / ARCHIVE
    packed = plan.code.sha256 or (plan.build.sha256 if plan.build else None)
    if packed is not None and kept.is_file():
        return into.take_code(kept, packed).location
    if plan.code.kind == "git":
        source = f"{plan.code.location}@{plan.code.ref}"
        _reached(state.run_id, source, open_tree)
        return source
    if plan.code.kind == "archive":
        if packed is None:
            raise _gone(state.run_id, "its archive is not one that Caravan packed, and its content is not known")
        return _packed_anew(state, packed, into, open_tree, types)
    if plan.code.kind == "mount":
        raise _gone(state.run_id, f"it lies on a mount ({plan.code.location}), where it may have been changed since")
    if plan.image is None or "@sha256:" not in plan.image:
        raise _gone(state.run_id, "it is in an image that is named by its tag, which may stand for another one by now")
    return state.request.source


def _packed_anew(state: RunState, sha256: str, into: RunFolder, open_tree: Open, types: Callable[[], Types]) -> str:
    """The archive made once more of the commit, where the same bytes come out."""
    profile = state.need_profile()
    git = profile.git
    if git is None or not git.commit:
        raise _gone(state.run_id, "its archive is gone, and the repository had no commit")
    if git.uncommitted or git.dirty_files or git.unknown:
        raise _gone(state.run_id, "its archive is gone, and it had changes that were in no commit")
    place = at_commit(state.request.source, profile)
    remote = place.location or git_address(_top(state.request.source, git.prefix))
    tree = _reached(state.run_id, f"{remote}@{git.commit}", open_tree)
    if git.prefix:
        tree = open_tree(str(tree.root / git.prefix))
    if state.training is not None:
        tree = WithAdded(tree, files_of_type(state.training, {}, types))
    made = into.save_code(tree.delivery())
    if made.sha256 != sha256:
        raise _gone(
            state.run_id, f"its archive is gone, and what commit {git.commit[:12]} gives today is not the same bytes"
        )
    return made.location


def _top(source: str, prefix: str) -> str:
    """The git repository around a directory of this machine."""
    inside = Path(prefix.strip("/"))
    path = Path(source)
    return str(path.parents[len(inside.parts) - 1]) if prefix.strip("/") else str(path)


def _reached(run_id: str, source: str, open_tree: Open) -> SourceTree:
    try:
        return open_tree(source)
    except CaravanError as error:
        raise _gone(run_id, f"its archive is gone, and its commit can't be fetched: {error.message}") from error


def _gone(run_id: str, why: str) -> UsageError:
    return UsageError(
        f"The code of run {run_id} can't be had as it was: {why.rstrip('.')}.",
        hint="Start a new run with the code as it is now; `main.py compare` sets the two side by side.",
    )
