"""`analyze` as everybody calls it: a profile of an unchanged tree is taken from what was kept.

It knows when a profile may be taken again, and nothing of what is in one.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from caravan.analysis.kept import key_of
from caravan.analysis.tree import SourceTree
from caravan.values.repo import RepoProfile

if TYPE_CHECKING:
    from caravan.analysis.profile import Tree


def analyze(tree: "Tree", prompt: str = "", *, entry: str | None = None) -> RepoProfile:
    """The profile of a repository in the light of the user's sentence (`profile.analyze`).

    Where the tree keeps what was found, it is the kept one for the same contents, sentence, entry and code.
    """
    kept = tree.kept if isinstance(tree, SourceTree) else None
    if kept is None or not isinstance(tree, SourceTree):
        return _anew(tree, prompt, entry)
    digest = tree.digest  # notes what can't be read
    state = tree.git.model_dump(mode="json") if tree.git else None
    key = key_of((str(tree.root), digest, state, tree.notes, len(tree.files()), prompt, entry))
    if key is None:
        return _anew(tree, prompt, entry)
    known = kept.profile(key)
    if known is not None:
        return known
    found = _anew(tree, prompt, entry)
    if tree.unchanged():
        kept.keep_profile(key, found)
    return found


def _anew(tree: "Tree", prompt: str, entry: str | None) -> RepoProfile:
    from caravan.analysis import profile  # all readers: not needed where a profile is known

    with _uncollected():
        return profile.analyze(tree, prompt, entry=entry)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the search for cycles: parsed code has none, and to look through its millions of parts takes half of
    the time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
