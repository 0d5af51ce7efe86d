"""Constraints: resolving `${...}` on a node and comparing, for nodes and devices. Pure."""

import re
from collections.abc import Callable, Mapping

from caravan.cluster.local.words import JsonDict

_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([A-Za-z%/]*)\s*")
_FACTORS: dict[str, tuple[str, float]] = {
    "": ("", 1),
    "%": ("%", 1),
    "Hz": ("Hz", 1),
    "kHz": ("Hz", 1e3),
    "MHz": ("Hz", 1e6),
    "GHz": ("Hz", 1e9),
    "mW": ("W", 1e-3),
    "W": ("W", 1),
    "kW": ("W", 1e3),
    **{f"{p}iB": ("B", 1024.0**n) for n, p in enumerate("KMGTPE", start=1)},
    **{f"{p}B": ("B", 1000.0**n) for n, p in enumerate("kMGTPE", start=1)},
    "B": ("B", 1),
    **{f"{p}iB/s": ("B/s", 1024.0**n) for n, p in enumerate("KMGTPE", start=1)},
    **{f"{p}B/s": ("B/s", 1000.0**n) for n, p in enumerate("kMGTPE", start=1)},
    "B/s": ("B/s", 1),
}
"""Unit → (base unit, factor), as in Nomad's device plug-ins (plugins/shared/structs/units.go)."""


def resolve(target: str, known: Mapping[str, str]) -> str | None:
    """The value of a constraint's target on a node; None when it refers to something that the node lacks.

    A target without `${...}` stands for itself.
    """
    found = _REFERENCE.fullmatch(target)
    return known.get(found.group(1)) if found else target


def matches(operator: str, left: str | None, right: str | None, *, units: bool = True) -> bool:
    """Whether a constraint holds. A missing side holds only for `is_not_set`, `!=` and `not`.

    `units`: sizes are compared as such (`40 GiB`), as those of devices are; a node's attributes are numbers or texts.
    """
    if operator == "is_set":
        return left is not None
    if operator == "is_not_set":
        return left is None
    if operator in ("!=", "not"):
        return left != right
    if left is None or right is None:
        return False
    compare = (_OPERATORS if units else _PLAIN).get(operator)
    return compare is not None and compare(left, right)


def _ordered(wanted: Callable[[int], bool]) -> Callable[[str, str], bool]:
    def compare(left: str, right: str) -> bool:
        one, other = _quantity(left), _quantity(right)
        if one is not None and other is not None:
            if one[0] != other[0]:
                return False
            return wanted((one[1] > other[1]) - (one[1] < other[1]))
        return wanted((left > right) - (left < right))

    return compare


def _plainly(wanted: Callable[[int], bool]) -> Callable[[str, str], bool]:
    """By number where both are one, whole or not, else by their letters."""

    def compare(left: str, right: str) -> bool:
        for kind in (int, float):
            try:
                one, other = kind(left), kind(right)
            except ValueError:
                continue
            return wanted((one > other) - (one < other))
        return wanted((left > right) - (left < right))

    return compare


def _equal(left: str, right: str) -> bool:
    one, other = _quantity(left), _quantity(right)
    return left == right or (one is not None and one == other)


def _quantity(text: str) -> tuple[str, float] | None:
    """A number with its unit as (base unit, number), or None."""
    found = _NUMBER.fullmatch(text)
    if not found or found.group(2) not in _FACTORS:
        return None
    base, factor = _FACTORS[found.group(2)]
    return base, float(found.group(1)) * factor


def _matches_pattern(left: str, right: str) -> bool:
    try:
        return re.search(right, left) is not None
    except re.error:
        return False


def _members(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}


def _version(text: str) -> tuple[tuple[int, ...], str] | None:
    """Numbers and pre-release of a version, or None."""
    found = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.~-]+))?(?:\+\S+)?", text.strip())
    if not found:
        return None
    return tuple(int(p) for p in found.group(1).split(".")), found.group(2) or ""


def _compare_versions(one: tuple[tuple[int, ...], str], other: tuple[tuple[int, ...], str]) -> int:
    width = max(len(one[0]), len(other[0]))
    left, right = ((v[0] + (0,) * width)[:width] for v in (one, other))
    if left != right:
        return 1 if left > right else -1
    if one[1] == other[1]:
        return 0
    if not one[1] or not other[1]:  # a release is above its pre-releases
        return 1 if not one[1] else -1
    return 1 if one[1] > other[1] else -1


def _in_version_range(left: str, right: str) -> bool:
    """By Nomad's operator `version`: a pre-release is in no range that names none."""
    have = _version(left)
    parts = right.split(",")
    return have is not None and all(_meets(have, p) and (not have[1] or _early(have, p)) for p in parts)


def _early(have: tuple[tuple[int, ...], str], condition: str) -> bool:
    found = re.fullmatch(r"\s*(>=|<=|!=|~>|=|>|<)?\s*(\S+)\s*", condition)
    want = _version(found.group(2)) if found else None
    if found is None or want is None or found.group(1) in (None, "=", "!="):
        return True
    return bool(want[1]) and want[0] == have[0]


def _in_semver_range(left: str, right: str) -> bool:
    have = _version(left)
    return have is not None and all(_meets(have, part) for part in right.split(","))


def _meets(have: tuple[tuple[int, ...], str], condition: str) -> bool:
    found = re.fullmatch(r"\s*(>=|<=|!=|~>|=|>|<)?\s*(\S+)\s*", condition)
    want = _version(found.group(2)) if found else None
    if found is None or want is None:
        return False
    order = _compare_versions(have, want)
    operator = found.group(1) or "="
    if operator == "~>":
        return order >= 0 and have[0][: len(want[0]) - 1] == want[0][:-1]
    allowed = {"=": (0,), "!=": (-1, 1), ">": (1,), ">=": (0, 1), "<": (-1,), "<=": (-1, 0)}
    return order in allowed[operator]


_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "=": _equal,
    "==": _equal,
    "is": _equal,
    "<": _ordered(lambda order: order < 0),
    "<=": _ordered(lambda order: order <= 0),
    ">": _ordered(lambda order: order > 0),
    ">=": _ordered(lambda order: order >= 0),
    "regexp": _matches_pattern,
    "version": _in_version_range,
    "semver": _in_semver_range,
    "set_contains": lambda left, right: _members(right) <= _members(left),
    "set_contains_all": lambda left, right: _members(right) <= _members(left),
    "set_contains_any": lambda left, right: bool(_members(right) & _members(left)),
}


_PLAIN: dict[str, Callable[[str, str], bool]] = {
    **_OPERATORS,
    **dict.fromkeys(("=", "==", "is"), lambda left, right: left == right),
    "<": _plainly(lambda order: order < 0),
    "<=": _plainly(lambda order: order <= 0),
    ">": _plainly(lambda order: order > 0),
    ">=": _plainly(lambda order: order >= 0),
}


def describe(constraint: JsonDict) -> str:
    """A constraint as placement failures name it: `${attr.kernel.name} = linux`; what is not there leaves its blank."""
    operator = constraint.get("Operand") or "="
    if operator == "distinct_hosts":
        return "distinct_hosts"
    return f"{constraint.get('LTarget') or ''} {operator} {constraint.get('RTarget') or ''}"


def holds(constraint: JsonDict, known: Mapping[str, str], *, units: bool = False) -> bool:
    """Whether a constraint holds where `known` gives the meaning of `${...}`; `units` as for `matches`."""
    left = resolve(constraint.get("LTarget") or "", known)
    right = resolve(constraint.get("RTarget") or "", known)
    return matches(constraint.get("Operand") or "=", left, right, units=units)
