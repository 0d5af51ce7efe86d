"""Names of files as others tell them: which of them may be written, read or registered below a directory of ours."""

import os
import re
from typing import Final

_DEEPEST: Final = 64
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def is_safe(name: str) -> bool:
    """Whether a path with slashes stays below where it is written, and is one that a disk takes."""
    parts = name.split("/", _DEEPEST)
    try:
        fits = all(len(os.fsencode(part)) <= 255 for part in parts)
    except UnicodeError:  # half a surrogate, as a listing in JSON may hold it
        return False
    return fits and len(parts) <= _DEEPEST and not _CONTROL.search(name) and not {"", ".", ".."} & set(parts)
