"""Fingerprints of failures: the shape of a stack or message without what differs from run to run.

A pure function that diagnosis (which puts it into a `Diagnosis`) and the memory of lessons (which finds by it) share,
so that both speak of the same shape.
"""

import re
from collections.abc import Iterable
from typing import Final

from caravan.values.base import sha256_text

_LONGEST: Final = 2000  # characters of a line that count; what follows is data, not shape
_MOST: Final = 30  # lines that count
_DIGEST: Final = 12  # hexadecimal digits: 48 bits, enough for millions of lessons

# The order matters: what stands in quotes may hold paths, paths and hexadecimal words hold digits.
_BLANKS: Final = tuple(
    (re.compile(pattern), blank)
    for pattern, blank in (
        (r"\"[^\"\n]*\"|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w)", "<s>"),
        (r"[A-Za-z][A-Za-z0-9+.-]*://\S+", "<url>"),
        (r"(?:[A-Za-z]:)?(?:[\\/][\w.@+~-]+)+[\\/]?|\b[\w.@+~-]+(?:[\\/][\w.@+~-]+)+", "<path>"),
        (r"\b0[xX][0-9a-fA-F]+\b|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "<hex>"),
        (r"\b(?=[0-9a-fA-F]*[0-9])(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b", "<hex>"),
        (r"\d+(?:[.,:]\d+)*(?:[eE][+-]?\d+)?\s?(?:[KMGT]i?B|bytes)\b", "<size>"),
        (r"\d+(?:[.,:]\d+)*(?:[eE][+-]?\d+)?", "<n>"),
        (r"\s+", " "),
    )
)


def shape(line: str) -> str:
    """A line without quoted texts, URLs, paths, hexadecimal words, sizes and numbers."""
    line = line[:_LONGEST]
    for pattern, blank in _BLANKS:
        line = pattern.sub(blank, line)
    return line.strip()


def fingerprint(kind: str, lines: Iterable[str]) -> str:
    """`kind:digest` over the shapes of the lines, each shape once; `kind:-` where no line says anything.

    `kind` is the failure class, so that equal words under another cause have another fingerprint. At most the first
    30 lines count.
    """
    shapes = dict.fromkeys(s for s in (shape(line) for line in lines) if s)
    if not shapes:
        return f"{kind}:-"
    return f"{kind}:{sha256_text(chr(10).join(list(shapes)[:_MOST]))[:_DIGEST]}"
