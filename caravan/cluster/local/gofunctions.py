"""The functions of job templates that look at nothing but their arguments: Go's and the client's renderer's. Pure."""

import base64
import hashlib
import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from caravan.cluster.local import gotemplate
from caravan.cluster.local.goeval import CallFailed
from caravan.cluster.local.words import go_quote


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


def _bool(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("", "0", "f", "F", "false", "FALSE", "False"):
        return False
    raise CallFailed(f"parseBool: strconv.ParseBool: parsing {go_quote(text)}: invalid syntax")


def _int(text: str) -> int:
    if not re.fullmatch(r"[-+]?\d+|", text):
        raise CallFailed(f"parseInt: strconv.ParseInt: parsing {go_quote(text)}: invalid syntax")
    return int(text or 0)


def _indent(spaces: int, text: str) -> str:
    if spaces < 0:
        raise CallFailed("indent value must be a positive integer")
    return "\n".join(" " * spaces + line if line else line for line in text.split("\n"))


def plain() -> dict[str, Callable[..., Any]]:
    """The functions of Go and of the client's renderer that look at nothing but their arguments."""

    def show(*values: Any) -> str:
        return " ".join(gotemplate.shown(v) for v in values)

    def at(value: Any, *keys: Any) -> Any:
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else value[key]
        return value

    def has(items: Any, wanted: Any) -> set[Any]:
        return set(items) & set(wanted)

    return {
        "add": lambda b, a: a + b,
        "base64URLDecode": lambda s: base64.urlsafe_b64decode(s).decode(),
        "base64URLEncode": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
        "containsAll": lambda wanted, items: has(items, wanted) == set(wanted),
        "containsAny": lambda wanted, items: bool(has(items, wanted)),
        "containsNone": lambda wanted, items: not has(items, wanted),
        "containsNotAll": lambda wanted, items: has(items, wanted) != set(wanted),
        "in": lambda items, item: item in items,
        "indent": _indent,
        "loop": lambda first, *end: range(first, end[0]) if end else range(first),
        "maximum": lambda b, a: max(a, b),
        "md5sum": lambda s: hashlib.md5(s.encode(), usedforsecurity=False).hexdigest(),
        "minimum": lambda b, a: min(a, b),
        "regexMatch": lambda pattern, s: re.search(pattern, s) is not None,
        "regexReplaceAll": lambda pattern, new, s: re.sub(pattern, re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", new), s),
        "sha256Hex": lambda s: hashlib.sha256(s.encode()).hexdigest(),
        "toJSONPretty": lambda value: json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True),
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
        "parseBool": _bool,
        "parseFloat": lambda s: float(s) if s else 0.0,
        "parseInt": _int,
        "parseUint": _int,
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
