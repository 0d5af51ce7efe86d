"""Templates as Nomad's client renders them, as far as the jobs here use them, and the environment that they say.

Pure. What is not understood is refused rather than guessed: a training with half an environment is worse than none.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

ItemsOf = Callable[[str], Mapping[str, str] | None]
"""The items of the variable at a path, or None where there is none. May raise TemplateRefused."""

_LITERAL: Final = r'"((?:[^"\\]|\\.)*)"'
_BARE_LITERAL: Final = r"`([^`]*)`"
_WITH: Final = re.compile(rf"with\s+nomadVar\s+(?:{_LITERAL}|{_BARE_LITERAL})")
_ITEM: Final = re.compile(r"\.(?P<name>[A-Za-z_]\w*)(?:\.Value)?(?:\s*\|\s*(?P<how>\w+))?")
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*")
_ESCAPED: Final = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}


class TemplateRefused(Exception):
    """A template that can't be rendered, with the reason. `ends`: Nomad kills the task for it while rendering."""

    def __init__(self, text: str, *, ends: bool = False) -> None:
        super().__init__(text)
        self.ends = ends


class TemplateWaits(Exception):
    """A template that can't be rendered yet: the variable at `path` is not there."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def no_variables(path: str) -> Mapping[str, str] | None:
    """A cluster without variables."""
    del path
    return None


@dataclass(frozen=True)
class _Action:
    text: str


def render(
    text: str,
    environment: Mapping[str, str],
    left: str = "{{",
    right: str = "}}",
    *,
    items_of: ItemsOf = no_variables,
    strict: bool = False,
) -> str:
    """A template's text. `strict`: an item that is not there is an error, as `error_on_missing_key` has it.

    Understood are `env "NAME"`, a text in quotes, comments, `-` trimming spaces, and `with nomadVar "PATH"` to `end`,
    in which `.NAME`, `.NAME.Value` and `| toJSON` or `| toUnescapedJSON` after them give an item. Everything else is
    refused with TemplateRefused. Raises TemplateWaits for a variable that is not there.
    """
    out: list[str] = []
    inside: Mapping[str, str] | None = None
    for part in _parts(text, left or "{{", right or "}}"):
        if isinstance(part, str):
            out.append(part)
        elif found := _WITH.fullmatch(part.text):
            if inside is not None:
                raise TemplateRefused("template: the built-in cluster knows no nomadVar inside another")
            path = _unquote(found[1]) if found[1] is not None else found[2]
            inside = items_of(path)
            if inside is None:
                raise TemplateWaits(path)
        elif part.text == "end":
            if inside is None:
                raise TemplateRefused("template: unexpected {{end}}")
            inside = None
        elif inside is not None and (item := _ITEM.fullmatch(part.text)):
            out.append(_item(item, inside, strict=strict))
        else:
            out.append(_evaluate(part.text, environment))
    if inside is not None:
        raise TemplateRefused("template: unexpected EOF")
    return "".join(out)


def _parts(text: str, left: str, right: str) -> list[str | _Action]:
    """The texts and the actions between them, trimmed as `-` says."""
    parts: list[str | _Action] = []
    rest, trim = text, False
    while True:
        before, found, after = rest.partition(left)
        if trim:
            before = before.lstrip()
        if not found:
            return [*parts, before]
        action, closed, rest = after.partition(right)
        if not closed:
            raise TemplateRefused("template: unclosed action")
        if action.startswith("- ") or action == "-":
            before, action = before.rstrip(), action[1:]
        trim = action.endswith(" -")
        parts += [before, _Action(action.removesuffix(" -").strip())]


def _item(found: re.Match[str], items: Mapping[str, str], *, strict: bool) -> str:
    name, how = found["name"], found["how"]
    if how not in (None, "toJSON", "toUnescapedJSON"):
        raise TemplateRefused(f"template: the built-in cluster does not know the template function {how!r}")
    if name not in items:
        if strict:
            raise TemplateRefused(
                f'Template failed: execute: template: at <.{name}>: map has no entry for key "{name}"', ends=True
            )
        return "null" if how else "<no value>"
    if how is None:
        return items[name]
    said = json.dumps(items[name], ensure_ascii=False)
    # What Go's encoder writes as \u…: always the separators of lines, and for toJSON what HTML would read.
    for char in "\u2028\u2029" + ("<>&" if how == "toJSON" else ""):
        said = said.replace(char, f"\\u{ord(char):04x}")
    return said


def _evaluate(action: str, environment: Mapping[str, str]) -> str:
    if action.startswith("/*") and action.endswith("*/"):
        return ""
    for pattern in (_LITERAL, _BARE_LITERAL):
        if found := re.fullmatch(pattern, action):
            return _unquote(found.group(1)) if pattern is _LITERAL else found.group(1)
        if found := re.fullmatch(rf"env\s+{pattern}", action):
            return environment.get(found.group(1), "")
    raise TemplateRefused(f"template: the built-in cluster does not know the template action {action[:80]!r}")


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m.group(1), m.group(1)), text)


def parse_env(text: str) -> dict[str, str]:
    """`NAME=value` lines as Nomad's client reads them; empty ones and comments are left out.

    A value may have parts in double quotes (with the escapes `\\\\`, `\\"`, `\\n` and `\\t` alone) and in single
    quotes (without any); outside them `#` begins a comment. Raises TemplateRefused for another line, which it names
    by what stands before its `=`: what comes after may be a secret.
    """
    told: dict[str, str] = {}
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        name = key.strip().removeprefix("export ").strip()
        if not equals or not _NAME.fullmatch(name):
            raise TemplateRefused(f"error parsing env template: line is no NAME=value: {key[:40]!r}")
        told[name] = _value(value.strip(), name)
    return told


def _value(text: str, name: str) -> str:
    out: list[str] = []
    kept, quote, escaped = 0, "", False  # kept: how much of `out` stays where a comment follows
    for char in text:
        if ord(char) < 32:
            raise TemplateRefused(f"error parsing env template: {name} holds the control character {ord(char):#04x}")
        if escaped:
            if char not in _ESCAPED:
                raise TemplateRefused(f"error parsing env template: {name}: invalid escape sequence: {char}")
            out.append(_ESCAPED[char])
            escaped = False
        elif quote == '"' and char == "\\":
            escaped = True
            continue
        elif char == quote:
            quote = ""
            continue
        elif quote:
            out.append(char)
        elif char in "\"'":
            quote = char
            continue
        elif char == "#":
            return "".join(out[:kept])
        else:
            out.append(char)
            if char in " \t":
                continue
        kept = len(out)
    if quote:
        raise TemplateRefused(f"error parsing env template: {name}: unmatched {quote}")
    return "".join(out)
