"""Cases → train, dev and held-out, so that like cases never stand on two sides. Pure.

The side of a group follows from what its cases are like, and not from their ids or how many there are: a group that
one optimisation held out is held out by a later one too. Only groups that a new case joins to one get one side, which
was not that of each before.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from caravan.offline.cases import Case
from caravan.values.base import sha256_text

_TRAIN: Final = 35  # of a hundred
_DEV: Final = 25
LEAST: Final = {"train": 2, "dev": 2, "held_out": 6}
"""Groups of like cases that each side needs. Fewer than six held out can't tell a difference from chance: that all of
five are better, chance alone gives in one of 32, more often than `compare.CHANCE` allows; of six, in one of 64."""


class Sides(NamedTuple):
    """The cases of each side, groups in a fixed order."""

    train: tuple[Case, ...]
    dev: tuple[Case, ...]
    held_out: tuple[Case, ...]

    def sizes(self) -> dict[str, int]:
        """How many cases there are on each side."""
        return {name: len(getattr(self, name)) for name in self._fields}

    def lacking(self, groups: dict[str, str]) -> str:
        """Which side has too few groups of like cases, in words; empty: none."""
        for name, least in LEAST.items():
            found = len({groups[case.id] for case in getattr(self, name)})
            if found < least:
                return f"{name.replace('_', '-')} has {found} groups of like cases of {least} that it needs"
        return ""


def grouped(cases: Iterable[Case]) -> dict[str, str]:
    """Id → the name of its group: cases that share a mark, over others too, are one group."""
    owner: dict[str, str] = {}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    known = list(cases)
    for case in known:
        parent[case.id] = case.id
        for mark in case.alike:
            other = owner.setdefault(mark, case.id)
            one, two = sorted((root(other), root(case.id)))
            parent[two] = one
    return {case.id: root(case.id) for case in known}


def split(cases: Sequence[Case], most: int) -> tuple[Sides, dict[str, str]]:
    """The sides, of at most `most` cases together, and the group of each case.

    Where there are more, groups take turns, so that a group of many does not stand for all.
    """
    groups = grouped(cases)
    marks = {case.id: min(case.alike, default=case.id) for case in cases}
    key = {group: min(marks[c.id] for c in cases if groups[c.id] == group) for group in set(groups.values())}
    rank = {group: sha256_text(f"side:{name}") for group, name in key.items()}
    sides: dict[str, list[Case]] = {"train": [], "dev": [], "held_out": []}
    for case in sorted(cases, key=lambda c: (rank[groups[c.id]], c.id)):
        sides[side_of(rank[groups[case.id]])].append(case)
    shares = {"train": most * _TRAIN // 100, "dev": most * _DEV // 100}
    shares["held_out"] = most - sum(shares.values())
    return Sides(*(tuple(_turns(sides[name], groups)[: shares[name]]) for name in Sides._fields)), groups


def side_of(digest: str) -> str:
    """The side of a group by its digest (hexadecimal)."""
    place = int(digest[:8], 16) % 100
    return "train" if place < _TRAIN else "dev" if place < _TRAIN + _DEV else "held_out"


def _turns(cases: Sequence[Case], groups: dict[str, str]) -> list[Case]:
    """The first of each group, then the second of each."""
    nth: dict[str, int] = {}
    order = []
    for place, case in enumerate(cases):
        turn = nth[groups[case.id]] = nth.get(groups[case.id], -1) + 1
        order.append((turn, place))
    return [cases[place] for _, place in sorted(order)]
