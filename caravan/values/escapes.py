"""Texts without what steers a terminal: escape sequences and control characters. A pure function.

A secret that is coloured in its middle is the same secret to whoever reads it, so this goes before masking.
"""

import re
from typing import Final

# ECMA-48: control sequences, also one that is cut at the text's end; strings; two-character escapes; what is left.
_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)|\x1b[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-Z\\-~]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def without_escapes(text: str) -> str:
    """`text` without escape sequences and control characters; tabs and line breaks stay."""
    return text if text.isprintable() else _ESCAPES.sub("", text)
