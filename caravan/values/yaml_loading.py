"""Which of PyYAML's safe loaders reads a text: libyaml's, which is fast, or the one in Python, which survives any text.

libyaml's nodes are put together by a function in C that calls itself for each level: from some ten thousand levels on
the process dies by SIGSEGV, and no `except` sees it. The one in Python raises RecursionError. Pure.
"""

from typing import Any, Final

DEEPEST: Final = 100
"""Levels up to which libyaml is taken; no file that a person wrote has as many."""


def safe_loader(text: str) -> Any:
    """The loader class for `yaml.load` and `yaml.compose`, which may raise RecursionError with it."""
    import yaml

    fast = getattr(yaml, "CSafeLoader", None)
    return fast if fast is not None and _is_shallow(text, fast) else yaml.SafeLoader


def _is_shallow(text: str, loader: Any) -> bool:
    """Whether no part of it is deeper than `DEEPEST`. Its events come one after the other, and call nothing again."""
    # Blocks that are told apart by their indentation alone need as many signs as the square of their depth.
    if len(text) < DEEPEST**2 and sum(map(text.count, "[{-?")) < DEEPEST:
        return True
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > DEEPEST:
                    return False
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:  # what loads it comes no further than this, and says why
        return True
    return True
