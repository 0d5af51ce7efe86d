"""Templates as Nomad's client renders them, as far as the jobs here use them, and the environment that they say.

Pure. What is not understood is refused rather than guessed: a training with half an environment is worse than none.
"""

import base64
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from caravan.cluster.local import gotemplate

ItemsOf = Callable[[str], Mapping[str, str] | None]
"""The items of the variable at a path, or None where there is none. May raise TemplateRefused."""

Services = Callable[[], Sequence[Mapping[str, Any]]]
"""The services that are registered, as templates see them: Name, Address, Port, Tags, JobID, AllocID, …"""

_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*")
_ESCAPED: Final = {'"': '"', "\\": "\\", "n": "\n", "t": "\t"}
_ELSEWHERE: Final = ("key", "keyExists", "ls", "secret", "secrets", "service", "services", "tree")  # Consul, Vault


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


def no_services() -> Sequence[Mapping[str, Any]]:
    """A cluster without services."""
    return ()


class _Items(dict[str, str]):
    """A variable's items: for `with` and `if` they are there also when they are none."""

    def __bool__(self) -> bool:
        return True


def render(
    text: str,
    environment: Mapping[str, str],
    left: str = "{{",
    right: str = "}}",
    *,
    items_of: ItemsOf = no_variables,
    services: Services = no_services,
    strict: bool = False,
) -> str:
    """A template's text. `strict`: an item that is not there is an error, as `error_on_missing_key` has it.

    Go's template language with the functions of `_functions`; others are refused with TemplateRefused. Raises
    TemplateWaits for a variable that is not there.
    """
    functions = {**_plain(), **_asking(environment, items_of, services)}
    try:
        parsed = gotemplate.Template(text, [*functions, "and", "or", *_ELSEWHERE], left, right)
        return parsed.render({**functions, **{name: _elsewhere(name) for name in _ELSEWHERE}}, strict=strict)
    except gotemplate.Wrong as wrong:
        step = "parse" if wrong.parsing else 'execute: template: :1: executing ""'
        text = f"Template failed: (dynamic): {step}: {wrong}" if wrong.parsing else f"Template failed: {step} {wrong}"
        raise TemplateRefused(text, ends=True) from wrong


def _elsewhere(name: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise TemplateRefused(f"template: the built-in cluster has no Consul and no Vault for {name!r}")

    return refuse


def _asking(environment: Mapping[str, str], items_of: ItemsOf, services: Services) -> dict[str, Callable[..., Any]]:
    """The functions that look at the cluster or the environment."""

    def variable(path: str) -> Mapping[str, str]:
        found = items_of(path)
        if found is None:
            raise TemplateWaits(path)
        return _Items(found)

    def service(*given: Any) -> list[Mapping[str, Any]]:
        """`nomadService "name"`, or with a number and a key the same few for that key."""
        name = str(given[-1]).partition("@")[0]
        found = sorted(
            (s for s in services() if s["Name"] == name), key=lambda s: (s["Address"], s["Port"], s["AllocID"])
        )
        return found[: int(given[0])] if len(given) > 2 else found

    def all_services() -> list[Mapping[str, Any]]:
        tags: dict[str, set[str]] = {}
        for one in services():
            tags.setdefault(one["Name"], set()).update(one["Tags"])
        return [{"Name": name, "Tags": sorted(tags[name])} for name in sorted(tags)]

    return {
        "env": lambda name: environment.get(name, ""),
        "envOrDefault": lambda name, default: environment.get(name) or default,
        "mustEnv": lambda name: environment[name],
        "nomadVar": variable,
        "nomadVarExists": lambda path: items_of(path) is not None,
        "nomadService": service,
        "nomadServices": all_services,
    }


def _json(value: Any, *, html: bool) -> str:
    said = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    # What Go's encoder writes as \u…: always the separators of lines, and for toJSON what HTML would read.
    for char in "\u2028\u2029" + ("<>&" if html else ""):
        said = said.replace(char, f"\\u{ord(char):04x}")
    return said


def _printf(pattern: str, *values: Any) -> str:
    queue = list(values)

    def one(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        if not queue:
            return f"%!{found[2]}(MISSING)"
        value = queue.pop(0)
        if found[2] in "sv":
            return ("%" + found[1] + "s") % gotemplate.shown(value)
        return json.dumps(value) if found[2] == "q" else ("%" + found[1] + found[2]) % value

    return re.sub(r"%(?:%|([-+# 0]*\d*(?:\.\d+)?)([svdqfxXoeg]))", one, pattern)


def _plain() -> dict[str, Callable[..., Any]]:
    """The functions of Go and of the client's renderer that look at nothing but their arguments."""

    def show(*values: Any) -> str:
        return " ".join(gotemplate.shown(v) for v in values)

    def at(value: Any, *keys: Any) -> Any:
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else value[key]
        return value

    return {
        "add": lambda b, a: a + b,
        "base64Decode": lambda s: base64.b64decode(s).decode(),
        "base64Encode": lambda s: base64.b64encode(s.encode()).decode(),
        "contains": lambda item, items: item in items,
        "divide": lambda b, a: a // b if isinstance(a, int) and isinstance(b, int) else a / b,
        "eq": lambda a, *others: a in others,
        "ge": operator.ge,
        "gt": operator.gt,
        "index": at,
        "join": lambda separator, items: separator.join(items),
        "le": operator.le,
        "len": len,
        "lt": operator.lt,
        "modulo": lambda b, a: a % b,
        "multiply": lambda b, a: a * b,
        "ne": operator.ne,
        "not": lambda value: not value,
        "parseBool": lambda s: s in ("1", "t", "T", "true", "TRUE", "True"),
        "parseFloat": float,
        "parseInt": int,
        "parseJSON": lambda s: json.loads(s or "{}"),
        "print": show,
        "printf": _printf,
        "println": lambda *values: show(*values) + "\n",
        "replaceAll": lambda old, new, text: text.replace(old, new),
        "split": lambda separator, text: text.split(separator) if text else [],
        "subtract": lambda b, a: a - b,
        "toJSON": lambda value: _json(value, html=True),
        "toLower": str.lower,
        "toTitle": str.title,
        "toUnescapedJSON": lambda value: _json(value, html=False),
        "toUpper": str.upper,
        "trim": lambda cut, text: text.strip(cut),
        "trimPrefix": lambda cut, text: text.removeprefix(cut),
        "trimSpace": str.strip,
        "trimSuffix": lambda cut, text: text.removesuffix(cut),
    }


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
