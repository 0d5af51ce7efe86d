"""Names of files as others tell them: which of them may be written, read or registered below a directory of ours."""

import os
import re
from typing import Final

_DEEPEST: Final = 64
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def is_safe(name: str) -> bool:
    """Whether a path with slashes stays below where it is written, and is one that a disk takes."""
    parts = name.split("/", _DEEPEST)
    return (
        len(parts) <= _DEEPEST
        and not _CONTROL.search(name)
        and all(part not in ("", ".", "..") and len(os.fsencode(part)) <= 255 for part in parts)
    )
