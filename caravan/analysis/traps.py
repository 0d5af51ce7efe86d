"""What of a repository would not reach a job, or would reach it as another thing, by each way of delivery.

It judges by names and by what git says; the tree opens the few small files that must be looked into.
"""

from typing import Final, NamedTuple

from caravan.analysis.tree import SourceTree
from caravan.values.errors import UsageError

_POINTER: Final = b"version https://git-lfs.github.com/spec/v1"
_POINTER_BYTES: Final = 1024
_LOOKED_INTO: Final = 5000
_NAMED: Final = 5


class Traps(NamedTuple):
    """`pointers`: git-lfs pointers that stand where data should be; `lfs`: the repository keeps files there.

    `absent`: submodules that were not checked out; `changed`: submodules with uncommitted changes. `empty`: folders
    without a file. `unread`: what could not be read or was not followed, and why.
    """

    pointers: tuple[str, ...] = ()
    lfs: bool = False
    absent: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    submodules: bool = False
    empty: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def find_traps(tree: SourceTree) -> Traps:
    """The traps of a repository."""
    lfs = any("filter=lfs" in (tree.text(p) or "") for p in _attributes(tree))
    modules, paths = tree.submodules(), _paths(tree)
    return Traps(
        pointers=_pointers(tree) if lfs else (),
        lfs=lfs,
        absent=tuple(path for path in modules if not any(p.startswith(f"{path}/") for p in paths)),
        changed=tuple(path for path, state in modules.items() if state and (state.dirty_files or state.unknown)),
        submodules=bool(modules),
        empty=tree.empty_folders(),
        unread=tuple(n for n in tree.notes if "not followed" in n or "can't be read" in n or "is no text" in n),
    )


def warnings(traps: Traps, kind: str) -> tuple[str, ...]:
    """What a person should know before code is delivered in that way (`archive`, `git` or `image`)."""
    told = []
    if kind == "git":
        if traps.lfs:
            told.append("files of the repository are kept in git-lfs: a node without git-lfs gets pointers, not data")
        if traps.empty:
            told.append(f"git has no empty folders: {named(traps.empty)} will not be there")
    elif traps.pointers:
        told.append(
            f"{named(traps.pointers)} {'is a git-lfs pointer' if len(traps.pointers) == 1 else 'are git-lfs pointers'}"
            ", not the data: `git lfs pull` fetches it"
        )
    if traps.absent and kind != "git":
        told.append(
            f"the submodule {named(traps.absent)} is not checked out and is not delivered: "
            "`git submodule update --init` fetches it"
        )
    if kind != "git":
        told += traps.unread[:_NAMED]
    return tuple(told)


def named(names: tuple[str, ...]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _paths(tree: SourceTree) -> list[str]:
    return [entry.path for entry in tree.files()]


def _attributes(tree: SourceTree) -> list[str]:
    return [p for p in _paths(tree) if p.rsplit("/", 1)[-1] == ".gitattributes"][:_NAMED]


def _pointers(tree: SourceTree) -> tuple[str, ...]:
    small = [e.path for e in tree.files() if len(_POINTER) <= e.size <= _POINTER_BYTES][:_LOOKED_INTO]
    found = []
    for path in small:
        try:
            if tree.read_bytes(path, limit=len(_POINTER)) == _POINTER:
                found.append(path)
        except UsageError:
            continue
    return tuple(found)
