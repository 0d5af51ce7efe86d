"""String tokens → strings: escapes, trimming, and a heredoc's common indentation.

Pure. What a `${…}` in a string means is the evaluator's; here it is just another part between the texts.
"""

import re
from typing import Final

from caravan.hcl.errors import Problem, Span, advance

_ESCAPE: Final = re.compile(r"\\u[0-9a-fA-F]{0,4}|\\U[0-9a-fA-F]{0,8}|\\[^uU]|\\|\$\$\{|%%\{", re.DOTALL)
_SIMPLE: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_DOUBLED: Final = re.compile(r"\$\$\{|%%\{")


def unescape(text: str, span: Span) -> tuple[str, list[Problem]]:
    """The value of a text between quotes, and what is wrong with its escapes."""
    if "\\" not in text:
        return undouble(text), []
    out: list[str] = []
    problems: list[Problem] = []
    done = 0
    for match in _ESCAPE.finditer(text):
        out.append(text[done : match.start()])
        done = match.end()
        value, wrong = _escape(match[0])
        out.append(value)
        if wrong:
            start = advance(span.start, text[: match.start()])
            problems.append(Problem("Invalid escape sequence", wrong, Span(start, advance(start, match[0]))))
    out.append(text[done:])
    return "".join(out), problems


def _escape(sequence: str) -> tuple[str, str]:
    """The value of one escape sequence and what is wrong with it ("": nothing)."""
    kind = sequence[1:2]
    if sequence[0] in "$%":
        return sequence[1:], ""
    if not kind:
        return sequence, "Backslash must be followed by an escape sequence selector character."
    if kind in _SIMPLE:
        return _SIMPLE[kind], ""
    if kind not in "uU":
        return sequence[1:], f'The symbol "{kind}" is not a valid escape sequence selector.'
    if len(sequence) != (6 if kind == "u" else 10):
        digits = "four" if kind == "u" else "eight"
        return sequence, f"The \\{kind} escape sequence must be followed by {digits} hexadecimal digits."
    code = int(sequence[2:], 16)
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        return sequence, f"Cannot encode character U+{code:04x} in UTF-8."
    return chr(code), ""


def undouble(text: str) -> str:
    """A text in which `$${` and `%%{` are `${` and `%{`."""
    return _DOUBLED.sub(lambda m: m[0][1:], text) if "{" in text else text


def without_indent(parts: list[str | None]) -> list[str | None]:
    """The texts of a `<<-` heredoc without their common indentation; None stands for an interpolation.

    The indentation is that of the line with the least white space before its first character or interpolation; blank
    lines don't count, nor does what an interpolation yields.
    """
    least: int | None = None
    adjust: list[int] = []
    newline = True
    for i, part in enumerate(parts):
        if newline:
            newline = False
            if part is None:
                least = 0
            else:
                trimmed = part.lstrip()
                if trimmed or not part.endswith("\n"):
                    spaces = len(part) - len(trimmed)
                    least = spaces if least is None else min(least, spaces)
                    adjust.append(i)
        newline = newline or (part is not None and part.endswith("\n"))
    out = list(parts)
    for i in adjust:
        text = out[i]
        if text is not None and least:
            out[i] = text[least:]
    return out
