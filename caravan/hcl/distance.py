"""The near name that HCL suggests for an unknown one. Pure."""

from collections.abc import Iterable


def edits(a: str, b: str) -> int:
    """The Levenshtein distance of two names."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def closest(name: str, names: Iterable[str]) -> str:
    """The first of `names` less than three edits away (HCL's threshold), or ""."""
    return next((n for n in names if abs(len(n) - len(name)) < 3 and edits(name, n) < 3), "")
