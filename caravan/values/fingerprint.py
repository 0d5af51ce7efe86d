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

_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_DAY: Final = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},? )?"
_CLOCK: Final = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?(?: ?[AP]M\b)?(?: ?(?:Z|UTC|GMT|CES?T)\b|[+-]\d{2}:?\d{2}\b)?"
_DATE: Final = rf"(?:\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|{_DAY}{_MONTH} {{1,2}}\d{{1,2}}(?: \d{{4}})?)"
_TIME: Final = rf"{_DATE}(?:[T ,]{{1,2}}{_CLOCK}(?: \d{{4}}\b)?)?|\b{_CLOCK}"
_ENDS: Final = (
    "com|org|net|edu|gov|io|ai|co|dev|cloud|local|localdomain|internal|lan|corp|home|intra|consul|svc|cluster"
    "|de|eu|uk|ch|fr|nl|us|cn|jp"
)
"""Last parts of the names of hosts. Names of modules are dotted too, so that the dots alone say nothing."""

# Who says a line, and when, is no part of what it says.
_RANK: Final = r"\[(?:rank|default)\d+\]:|\[\d+,\d+\]<std(?:err|out)>:|\(\w+ pid=\d+[^)]*\)"
_BEFORE: Final = re.compile(rf"\s*(?:{_RANK}|\[?(?:{_TIME})\]?\s*[|:-]?)\s*")
# The order matters: what stands in quotes may hold paths, paths and hexadecimal words hold digits.
_BLANKS: Final = tuple(
    (re.compile(pattern), blank)
    for pattern, blank in (
        (r"\x1b\[[0-9;]*[A-Za-z]", ""),  # colours
        (r"\d+%\|[^|\n]*\|", ""),  # a progress bar before the message
        # What a failure names by these words tells it apart from others of its kind, so that it keeps its name.
        (
            r"(No module named|cannot import name|has no attribute|unexpected keyword argument|undefined symbol:?)"
            r" [\"'`]?([\w.]+)[\"'`]?",
            r"\1 \2 ",
        ),
        (r"\bmodule [\"'`]([\w.]+)[\"'`]", r"module \1"),
        (r"[\"'`](\w+)[\"'`] object ", r"\1 object "),
        (r"\"[^\"\n]*\"|`[^`\n]*`|(?<!\w)'[^'\n]*'(?!\w)", "<s>"),
        (r"[A-Za-z][A-Za-z0-9+.-]*://\S+", "<url>"),
        (rf"(?:{_TIME})", "<time>"),
        (r"(?:[A-Za-z]:)?(?:[\\/][\w.@+~-]+)+[\\/]?|\b[\w.@+~-]+(?:[\\/][\w.@+~-]+)+", "<path>"),
        (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*", "<user>"),
        (r"(?i)\b(user(?:name)?\s?[=:]|for user|as user)\s?[\w.-]+", r"\1 <user>"),
        (
            r"\[?\b(?=[0-9a-fA-F:]*\d)[0-9a-fA-F]{1,4}:(?:[0-9a-fA-F]{0,4}:){1,6}[0-9a-fA-F]{1,4}\b(?:%\w+)?\]?",
            "<host>",
        ),
        (rf"(?i)\b(?:[a-z0-9][a-z0-9-]*\.)+(?:{_ENDS})\b", "<host>"),
        (
            r"(?i)\b((?:host(?:name)?|node|server|peer|machine|client)(?:\s?[=:]\s?| (?=[\w.]*[-\d])))"
            r"(?:[\w.-]*\d[\w.-]*|[\w.]+-[\w.-]+)",
            r"\1<host>",
        ),
        (r"\b0[xX][0-9a-fA-F]+\b|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "<hex>"),
        (r"\b(?=[0-9a-fA-F]*[0-9])(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b", "<hex>"),
        (
            r"(?i)\b((?:run|job|alloc(?:ation)?|trial|experiment|request|session)(?:[_ -]?id)?(?:\s?[=:#]\s?|[ -]))"
            r"(?=[\w-]*\d)[\w-]{4,}",
            r"\1<id>",
        ),
        (r"\bv?\d+(?:\.\d+)+(?:[.+-]?(?:a|b|rc|dev|post|cu|cpu|git|rocm)[\w.]*)+", "<n>"),  # versions with their tails
        (r"\d+(?:[.,:]\d+)*(?:[eE][+-]?\d+)?\s?(?:[KMGT]i?B|bytes)\b", "<size>"),
        (r"\d+(?:[.,:]\d+)*(?:[eE][+-]?\d+)?", "<n>"),
        (r"<n>(?:\s?,\s?<n>)+", "<n>"),  # a list of figures, however long
        (r"\s+", " "),
    )
)


def shape(line: str) -> str:
    """A line without what only varies: who says it when, quoted texts, URLs, paths, hosts, users, run ids, hexadecimal
    words, sizes, versions and numbers."""
    line = line[:_LONGEST]
    before = _BEFORE.match(line)
    while before is not None and before.end() and before.end() < len(line):
        line = line[before.end() :]
        before = _BEFORE.match(line)
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
