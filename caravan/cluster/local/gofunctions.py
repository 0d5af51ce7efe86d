"""The functions of job templates that look at nothing but their arguments: Go's and the client's renderer's. Pure."""

import base64
import hashlib
import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from caravan.cluster.local.goeval import CallFailed
from caravan.cluster.local.goprint import joined, printf, shown, type_name
from caravan.cluster.local.words import go_quote


def _whole(value: Any) -> Any:
    """The value with floats that are whole as Go's encoder writes them: without a point."""
    if isinstance(value, Mapping):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and abs(value) < 1e21 and value.is_integer() else value


def _json(value: Any, *, html: bool, indent: int | None = None) -> str:
    apart = (",", ":") if indent is None else (",", ": ")
    said = json.dumps(_whole(value), ensure_ascii=False, separators=apart, sort_keys=True, indent=indent)
    # What Go's encoder writes as \u…: always the separators of lines, and for toJSON what HTML would read.
    for char in "\u2028\u2029" + ("<>&" if html else ""):
        said = said.replace(char, f"\\u{ord(char):04x}")
    return said


def _bool(text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("", "0", "f", "F", "false", "FALSE", "False"):
        return False
    raise CallFailed(f"parseBool: strconv.ParseBool: parsing {go_quote(text)}: invalid syntax")


def _int(text: str, *, signed: bool = True) -> int:
    word = "parseInt: strconv.ParseInt" if signed else "parseUint: strconv.ParseUint"
    if not re.fullmatch(r"[-+]?[0-9]+|" if signed else r"[0-9]+|", text):
        raise CallFailed(f"{word}: parsing {go_quote(text)}: invalid syntax")
    number = int(text or 0)
    if not (-(1 << 63) <= number < 1 << 63 if signed else number < 1 << 64):
        raise CallFailed(f"{word}: parsing {go_quote(text)}: value out of range")
    return number


def _divided(a: Any, b: Any) -> Any:
    """Whole numbers are cut towards 0."""
    if not (isinstance(a, int) and isinstance(b, int)):
        return a / b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _rest(b: Any, a: Any) -> int:
    """What remains of a division, with the sign of what is divided."""
    for one in (a, b):
        if not isinstance(one, int):
            raise CallFailed(f"modulo: unknown type for {printf('%q', one)} ({type_name(one)})")
    return int(a - b * _divided(a, b))


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise CallFailed(f"error parsing regexp: {error.msg}: `{text}`") from error


def _replaced(pattern: str, new: str, text: str) -> str:
    """`$1`, `$name` and `${name}` stand for groups, `$$` for itself; a group that there is not is empty."""

    def one(found: re.Match[str]) -> str:
        def group(named: re.Match[str]) -> str:
            if named[3]:
                return "$"
            name = named[1] or named[2]
            key: int | str = int(name) if name.isdecimal() else name
            known = key <= found.re.groups if isinstance(key, int) else key in found.re.groupindex
            return (found[key] or "") if known else ""

        return re.sub(r"\$(?:\{(\w+)\}|(\w+)|(\$))", group, new, flags=re.ASCII)

    return _pattern(pattern).sub(one, text)


def _title(text: str) -> str:
    """Each word with its first letter large and the rest as it is; marks within a word (`it's`, `a.b`) end none."""

    def one(word: re.Match[str]) -> str:
        at = next((n for n, char in enumerate(word[0]) if char.isalpha()), 0)
        return word[0][:at] + word[0][at].title() + word[0][at + 1 :]

    return re.sub(r"\w+(?:['\u2019.:]\w+)*", one, text)


def _comparable(a: Any, b: Any) -> None:
    """Refuse to compare plain values of two types, and lists and maps at all, as Go does."""
    for one in (a, b):
        if isinstance(one, list | Mapping):
            raise CallFailed(f"non-comparable type {shown(one)}: {type_name(one)}")
    kinds = [type(one) for one in (a, b)]
    if all(kind in (str, int, float, bool) for kind in kinds) and kinds[0] is not kinds[1]:
        raise CallFailed(f"incompatible types for comparison: {type_name(a)} and {type_name(b)}")


def _equal(a: Any, *others: Any) -> bool:
    if not others:
        raise CallFailed("missing argument for comparison")
    for other in others:
        _comparable(a, other)
        if a == other:
            return True
    return False


def _by(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(a: Any, b: Any) -> bool:
        _comparable(a, b)
        return compare(a, b)

    return compared


def _indent(spaces: int, text: str) -> str:
    if spaces < 0:
        raise CallFailed("indent value must be a positive integer")
    return "\n".join(" " * spaces + line if line else line for line in text.split("\n"))


def plain() -> dict[str, Callable[..., Any]]:
    """The functions of Go and of the client's renderer that look at nothing but their arguments."""

    def at(value: Any, *keys: Any) -> Any:
        for key in keys:
            if isinstance(value, Mapping):
                value = value.get(key)
            elif isinstance(key, int) and not 0 <= key < len(value):
                raise CallFailed(f"index out of range: {key}")
            else:
                value = value[key]
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
        "regexMatch": lambda pattern, s: _pattern(pattern).search(s) is not None,
        "regexReplaceAll": _replaced,
        "sha256Hex": lambda s: hashlib.sha256(s.encode()).hexdigest(),
        "toJSONPretty": lambda value: _json(value, html=True, indent=2),
        "base64Decode": lambda s: base64.b64decode(s).decode(),
        "base64Encode": lambda s: base64.b64encode(s.encode()).decode(),
        "contains": lambda item, items: item in items,
        "divide": lambda b, a: _divided(a, b),
        "eq": _equal,
        "ge": _by(operator.ge),
        "gt": _by(operator.gt),
        "index": at,
        "join": lambda separator, items: separator.join(items),
        "le": _by(operator.le),
        "len": lambda value: len(value.encode() if isinstance(value, str) else value),
        "lt": _by(operator.lt),
        "modulo": _rest,
        "multiply": lambda b, a: a * b,
        "ne": lambda a, b: not _equal(a, b),
        "not": lambda value: not value,
        "parseBool": _bool,
        "parseFloat": lambda s: float(s) if s else 0.0,
        "parseInt": _int,
        "parseUint": lambda s: _int(s, signed=False),
        "parseJSON": lambda s: json.loads(s or "{}", parse_int=float),  # as Go reads numbers
        "print": joined,
        "printf": printf,
        "println": lambda *values: " ".join(map(shown, values)) + "\n",
        "replaceAll": lambda old, new, text: text.replace(old, new),
        "split": lambda separator, text: (text.split(separator) if separator else list(text)) if text else [],
        "subtract": lambda b, a: a - b,
        "toJSON": lambda value: _json(value, html=True),
        "toLower": str.lower,
        "toTitle": _title,
        "toUnescapedJSON": lambda value: _json(value, html=False),
        "toUpper": str.upper,
        "trim": lambda cut, text: text.strip(cut),
        "trimPrefix": lambda cut, text: text.removeprefix(cut),
        "trimSpace": str.strip,
        "trimSuffix": lambda cut, text: text.removesuffix(cut),
    }
