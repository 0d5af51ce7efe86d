"""The data of this type: in each row an anchor and a text that belongs to it, maybe one that does not."""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass

from shared.data import Row, Rows, column_of, load, missing_column, renamed
from shared.refusals import Refused

ANCHOR = ["anchor", "query", "question", "sentence1", "text1", "sentence_1", "premise", "source", "a", "title"]
POSITIVE = [
    "positive",
    "pos",
    "answer",
    "passage",
    "document",
    "response",
    "sentence2",
    "text2",
    "sentence_2",
    "context",
    "target",
    "b",
    "body",
    "hypothesis",
]
NEGATIVE = ["negative", "neg", "hard_negative", "wrong", "negative_passage"]


@dataclass(frozen=True)
class Pair:
    """An anchor, what belongs to it, and maybe a text that looks alike and does not."""

    anchor: str
    positive: str
    negative: str | None = None


@dataclass
class Pairs:
    """Learned and held-out pairs, and the columns they are read from."""

    source: Rows
    learned: list[Pair]
    held_out: list[Pair]
    columns: dict[str, str]


def read(args: argparse.Namespace) -> Pairs:
    """The pairs that `--data` and `--eval-data` name. Raises Refused for what can't be learned from, with its place."""
    rows, given = load(args.data), renamed(args.columns)
    columns = columns_of(rows, given)
    learned = [pair_of(row, columns) for row in rows.rows]
    apart = load(args.eval_data) if args.eval_data else rows.held_out
    if apart is not None:
        held_out = [pair_of(row, columns) for row in apart.rows]
    else:
        learned, held_out = split_together(learned, args.eval_fraction, args.seed)
    if len({pair.positive for pair in learned}) < 2:
        raise Refused("label", "all rows have the same positive: there is nothing to tell apart", rows.source)
    return Pairs(rows, learned, held_out, columns)


def columns_of(rows: Rows, given: dict[str, str]) -> dict[str, str]:
    """Role → column. Two columns without any known name are anchor and positive."""
    found = {}
    for role, known in (("anchor", ANCHOR), ("positive", POSITIVE), ("negative", NEGATIVE)):
        taken = set(found.values())
        column = column_of(rows, role, [name for name in known if name not in taken], given)
        if column is not None:
            found[role] = column
    there = list(rows.rows[0].values)
    if not found and len(there) == 2:
        return {"anchor": there[0], "positive": there[1]}
    for role, known in (("anchor", ANCHOR), ("positive", POSITIVE)):
        if role not in found:
            raise missing_column(rows.rows[0], known[:4])
    return found


def pair_of(row: Row, columns: dict[str, str]) -> Pair:
    """A row's pair. Raises Refused for one that lacks a text. Of several positives or negatives the first is taken."""
    told: dict[str, str | None] = {"negative": None}
    for role, column in columns.items():
        if column not in row.values:
            raise missing_column(row, [column])
        value = row.values[column]
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, str) and value.strip():
            told[role] = value
        elif role != "negative":
            raise row.refused("empty_row", f"the row has no text in its column {column}")
    return Pair(str(told["anchor"]), str(told["positive"]), told["negative"])


def split_together(pairs: Sequence[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """(learned, held out): pairs that share an anchor or a positive are on the same side, so that no answer is known.

    The same for the same pairs, fraction and seed. Both keep the order of the data.
    """
    if fraction <= 0:
        return list(pairs), []
    groups = _groups(pairs)
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    sizes = dict.fromkeys(names, 0)
    for name in groups:
        sizes[name] += 1
    wanted, apart, taken = max(1, round(len(pairs) * min(fraction, 0.5))), set(), 0
    for name in names:
        if taken < wanted and taken + sizes[name] <= max(wanted, len(pairs) // 2) and len(apart) < len(names) - 1:
            apart.add(name)
            taken += sizes[name]
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair, name in zip(pairs, groups, strict=True):
        sides[name in apart].append(pair)
    return sides


def _groups(pairs: Sequence[Pair]) -> list[int]:
    """A number for each pair, the same for pairs that are linked by equal anchors or positives."""
    parent = list(range(len(pairs)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    first: dict[tuple[str, str], int] = {}
    for at, pair in enumerate(pairs):
        for key in (("anchor", pair.anchor), ("positive", pair.positive)):
            parent[root(at)] = root(first.setdefault(key, at))
    return [root(at) for at in range(len(pairs))]
