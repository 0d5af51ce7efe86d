"""`NAME=value` lines of a template with `env`, as Nomad's client reads them, with its words for what is wrong. Pure.

A message names a line and at most one character of it: what stands there may be a secret.
"""

import re
from typing import Final

from caravan.cluster.local.words import go_quote

_ESCAPED: Final = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t"}
_FIRST: Final = re.compile(r"[A-Za-z_]")
_LATER: Final = re.compile(r"[A-Za-z0-9_./]")


class BadEnv(Exception):
    """A text that is no environment; the message is the client's."""


def parse_env(text: str) -> dict[str, str]:
    """The variables of a text; empty lines and comments are left out. Raises BadEnv.

    A value may have parts in double quotes, with JSON's escapes, and in single quotes, without any; outside them `#`
    begins a comment.
    """
    told: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        try:
            name, value = _line(bare)
        except BadEnv as wrong:
            raise BadEnv(f"error on line {number}: {wrong}") from None
        told[name] = value
    return told


def _line(line: str) -> tuple[str, str]:
    before, equals, after = line.partition("=")
    if not equals:
        raise BadEnv("missing =")
    name = before.strip()
    if len(name) > len("export "):
        name = name.removeprefix("export ")
    if not name:
        raise BadEnv("empty key")
    if not _FIRST.match(name):
        raise BadEnv(f"key must start with [A-Za-z_] but found {_char(name[0])}")
    for char in name[1:]:
        if not _LATER.match(char):
            raise BadEnv(f"key characters must be [A-Za-z0-9/_.] but found {_char(char)}")
    return name, _value(after.strip())


def _char(char: str) -> str:
    return f"'{char}'"


def _value(text: str) -> str:
    out: list[str] = []
    kept, quote, at = 0, "", 0  # kept: how much of `out` stays where a comment follows
    while at < len(text):
        char = text[at]
        at += 1
        if ord(char) < 32:
            raise BadEnv(f"0x{ord(char):02x} is an invalid value character")
        if quote == '"' and char == "\\":
            char, at = _escape(text, at)
        elif char == quote:
            quote = ""
            continue
        elif not quote and char in "\"'":
            quote = char
            continue
        elif not quote and char == "#":
            return "".join(out[:kept])
        elif not quote and char in " \t":
            out.append(char)
            continue
        out.append(char)
        kept = len(out)
    if quote:
        raise BadEnv(f"unmatched {quote}")
    return "".join(out)


def _escape(text: str, at: int) -> tuple[str, int]:
    """What the escape sequence means whose second character is at `at`, and where it ends."""
    if at >= len(text):
        raise BadEnv("incomplete escape sequence")
    char = text[at]
    if ord(char) > 127:
        raise BadEnv("multibyte characters disallowed in escape sequences")
    if char != "u":
        if char not in _ESCAPED:
            raise BadEnv(f"invalid escape sequence: {go_quote(char)}")
        return _ESCAPED[char], at + 1
    code, at = _hex(text, at + 1)
    if 0xD800 <= code < 0xE000:
        if text[at : at + 2] != "\\u":
            raise BadEnv("incomplete Unicode surrogate pair")
        low, at = _hex(text, at + 2)
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00) if code < 0xDC00 <= low < 0xE000 else 0xFFFD
    return chr(code), at


def _hex(text: str, at: int) -> tuple[int, int]:
    digits = text[at : at + 4]
    if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
        raise BadEnv("incomplete hex sequence")
    return int(digits, 16), at + 4
