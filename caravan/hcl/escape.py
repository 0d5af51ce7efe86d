"""The one filter through which every value gets into a job file.

Strings are written so that HCL reads exactly them: quotes, backslashes and control characters are escaped, `${` and
`%{` doubled. Doubling never changes what runs, for Nomad interpolates the parsed value and not the file; it only makes
the file harder to read. So in fields that Nomad interpolates when the job runs (`runtime` below: the attributes and
values of constraints and affinities, env values, driver options, artifact sources) references such as
`${attr.kernel.name}`, `${NOMAD_ALLOC_DIR}`, `${meta.x}`, `${node.x}`, `${env["X"]}` and `${device.attr.memory}` stay
as they are, provided that HCL keeps them. Everywhere else (a template's data above all) every `${` is doubled.

Several lines become a heredoc at the margin, so that a person can read the script, where that loses nothing.
"""

import re
from decimal import Decimal
from typing import Any, Final

from caravan.values.base import Json

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_KEYWORDS: Final = frozenset({"for", "in", "if", "null", "true", "false"})
_MARKS: Final = re.compile(r"[$%]\{")
# A reference that HCL hands on: a known root and constant steps. What follows the brace matters too: Nomad goes on
# collecting while it sees spaces and braces, so such references are doubled like all else.
_REFERENCE: Final = re.compile(
    r"""\$\{(?:
        (?:attr|meta|node|device)(?:\.[A-Za-z_][\w-]*)+(?:\["[\w./:@-]+"\])?
      | (?:attr|meta|node|env)\["[\w./:@-]+"\]
      | env\.[A-Za-z_]\w*
      | NOMAD_[A-Z][A-Za-z0-9_]*
    )\}(?!\ *\})""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPECIAL: Final = re.compile(r'[\\"\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200b-\u200f\u202a-\u202e\u2066-\u2069]')
_NOT_IN_HEREDOC: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\u200b-\u200f\u202a-\u202e\u2066-\u2069]"
)


def doubled(text: str, *, runtime: bool) -> str:
    """The text with `${` and `%{` doubled, but for references that are meant where `runtime` allows them."""
    if "{" not in text:
        return text
    out, at = [], 0
    for match in _MARKS.finditer(text):
        if runtime and text[match.start() : match.start() + 2] == "${" and _plain(text, match.start()):
            continue
        out.append(text[at : match.start()] + match[0][0])
        at = match.start()
    return "".join(out) + text[at:]


def _plain(text: str, at: int) -> bool:
    """Whether a reference starts there that reads as itself (a dollar before it would make it an escape)."""
    return _REFERENCE.match(text, at) is not None and text[at - 1 : at] not in ("$", "%")


def quoted(text: str, *, runtime: bool = False) -> str:
    """The text as a quoted string. Quotes inside a reference need no escape."""
    body = doubled(text, runtime=runtime)
    if not runtime:
        return f'"{_SPECIAL.sub(_escape, body)}"'
    out, at = [], 0
    for match in _REFERENCE.finditer(body):
        if not _plain(body, match.start()):
            continue
        out += [_SPECIAL.sub(_escape, body[at : match.start()]), match[0]]
        at = match.end()
    return f'"{"".join(out)}{_SPECIAL.sub(_escape, body[at:])}"'


def _escape(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"


def block_text(text: str) -> str | None:
    """The text as a heredoc, or None where that would lose something or help nobody."""
    if not text.endswith("\n") or text.count("\n") < 2 or _NOT_IN_HEREDOC.search(text):
        return None
    lines = {line.strip() for line in text.split("\n")}
    marker = next(m for m in ("EOT", *(f"EOT{n}" for n in range(2, len(lines) + 3))) if m not in lines)
    return f"<<{marker}\n{doubled(text, runtime=False)}{marker}"


def key(name: str) -> str:
    """An object's key: bare where it may be."""
    return name if _NAME.match(name) and name not in _KEYWORDS else quoted(name)


def is_name(text: str) -> bool:
    """Whether a text can be an argument's or a block's name."""
    return _NAME.match(text) is not None


def value(found: Json, *, runtime: bool = False, heredoc: bool = False) -> str:
    """Any JSON value as an HCL expression, on one line but for a heredoc."""
    if isinstance(found, str):
        return (block_text(found) if heredoc else None) or quoted(found, runtime=runtime)
    if isinstance(found, list | tuple):
        return f"[{', '.join(value(v, runtime=runtime) for v in found)}]"
    if isinstance(found, dict):
        inner = ", ".join(f"{key(k)} = {value(v, runtime=runtime)}" for k, v in found.items())
        return f"{{ {inner} }}" if inner else "{}"
    return _plain_value(found)


def _plain_value(found: Any) -> str:
    if found is None:
        return "null"
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int) or found.is_integer():
        return str(int(found))
    return format(Decimal(repr(found)), "f")
