"""A repository as a person names it: a directory, an archive or a URL. Says who fetches it, and opens nothing."""

import os
from collections.abc import Mapping
from pathlib import Path

from caravan.analysis import archive, clones, downloads, git
from caravan.analysis.kept import Kept
from caravan.analysis.places import directory
from caravan.analysis.tree import SourceTree
from caravan.values.errors import RepositoryError


def open_source(
    source: str, *, cache: Path, environment: Mapping[str, str] | None = None, kept: Path | None = None
) -> SourceTree:
    """The tree at a local directory, in an archive (a file or an http(s) URL), or at a git URL (`URL@REF`).

    Clones (shallow) and unpacked archives lie below `cache`; hashes and profiles that were found are kept below `kept`
    (nowhere when None). `environment` is what git's process gets (a search path alone when None). Raises
    RepositoryError, one line, for what is missing, no directory or unreadable, and for an empty clone or archive; an
    empty directory of this machine is a tree without files (`SourceTree.need_files`).
    """
    known = Kept(kept) if kept is not None else None
    if not source.strip() or "\0" in source:
        raise RepositoryError("No repository was named.", hint="Give a path or a git URL.")
    try:
        root = Path(source).expanduser()
    except RuntimeError as error:  # ~nobody/x
        raise RepositoryError(f"There is no directory {source}.", hint="Write the path in full.") from error
    if not source.startswith("-") and os.path.lexists(root):
        if archive.is_archive(root.name) and not root.is_dir():
            return _unpacked(archive.unpack(root, cache), known)
        return SourceTree(directory(root), environment=environment, kept=known)
    if downloads.is_address(source):
        return _unpacked(archive.unpack(downloads.fetch(source, cache), cache), known)
    if clones.is_url(source):
        folder = clones.clone(source, cache, environment=environment)
        return SourceTree(folder, environment=environment, cloned=True, kept=known)
    raise RepositoryError(f"There is no directory {source}.", hint="Give the path of a training repository.")


def _unpacked(found: archive.Unpacked, kept: Kept | None) -> SourceTree:
    """The tree of an archive. Git is not asked: another repository may lie around the cache."""
    work_tree = git.WorkTree(notes=found.notes, whole=found.whole)
    return SourceTree(found.root, cloned=True, work_tree=work_tree, kept=kept)
