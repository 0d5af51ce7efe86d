"""Files → `RepoProfile`. `tree` opens files (and `git` asks git); what reads evidence is pure, over texts.

    open_source(path or URL) → SourceTree → analyze(tree, prompt) → RepoProfile

One module for each kind of evidence (python, options, training, shell, markdown, makefile, dependencies, configs,
notebooks, prompt), `documents` and `rank` combine them, `fields` and `profile` fill the profile.
"""

from caravan.analysis.known import analyze
from caravan.analysis.opening import open_source
from caravan.analysis.tree import FileEntry, SourceTree

__all__ = ["FileEntry", "SourceTree", "analyze", "open_source"]
