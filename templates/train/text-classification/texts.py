"""The data of this type: a text (maybe two) and its label in each row, as numbers for the model."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.classes import Sorted, labels_of, sort_rows, split_alike
from shared.data import Row, Rows, column_of, load, missing_column, renamed
from shared.lengths import Cut
from shared.refusals import Refused

TEXT = [
    "text",
    "sentence",
    "content",
    "review",
    "comment",
    "message",
    "body",
    "document",
    "query",
    "question",
    "utterance",
    "title",
    "tweet",
    "input",
    "sentence1",
    "text1",
    "premise",
]
PAIR = ["text_pair", "sentence2", "text2", "pair", "hypothesis", "context"]
LABEL = ["label", "labels", "class", "category", "sentiment", "intent", "topic", "target", "tag", "rating", "y"]


@dataclass
class Texts:
    """Learned and held-out rows with their labels' numbers, and which columns they are read from."""

    source: Rows
    labels: list[str]
    learned: list[Sorted]
    held_out: list[Sorted]
    text: str
    pair: str | None


def read(args: argparse.Namespace, known: Sequence[str] = ()) -> Texts:
    """The rows that `--data` and `--eval-data` name. `known`: labels that the model has names for.

    Raises Refused for what can't be learned from, with its place.
    """
    rows, given = load(args.data), renamed(args.columns)
    text, label = needed(rows, "text", TEXT, given), needed(rows, "label", LABEL, given)
    pair = column_of(rows, "pair", [name for name in PAIR if name not in (text, label)], given)
    labels = labels_of(rows, label, args.labels, known)
    learned = sort_rows(rows.rows, label, labels)
    if len({row.label for row in learned}) < 2:
        raise Refused("label", "all rows have the same label: there is nothing to tell apart", rows.source)
    apart = load(args.eval_data) if args.eval_data else rows.held_out
    if apart is not None:
        needed(apart, "text", (text,), {})
        held_out = sort_rows(apart.rows, needed(apart, "label", (label,), {}), labels)
    else:
        learned, held_out = split_alike(learned, args.eval_fraction, args.seed)
    for row in (*learned, *held_out):
        text_of(row.row, text)
    return Texts(rows, labels, learned, held_out, text, pair)


def needed(rows: Rows, role: str, known: Sequence[str], given: dict[str, str]) -> str:
    """The column of a role that must be there."""
    found = column_of(rows, role, known, given)
    if found is None:
        raise missing_column(rows.rows[0], known[:4])
    return found


def text_of(row: Row, column: str) -> str:
    """A row's text. Raises Refused for one that has none."""
    value = row.values.get(column)
    if column not in row.values:
        raise missing_column(row, [column])
    if not isinstance(value, str) or not value.strip():
        raise row.refused("empty_row", f"the row has no text in its column {column}")
    return value


def encoded(rows: Sequence[Sorted], texts: Texts, tokenizer: Any, limit: int) -> tuple[list[dict[str, Any]], Cut]:
    """What the model is given for each row, and how many were cut to the limit."""
    samples, cut = [], Cut(limit)
    for row in rows:
        second = row.row.values.get(texts.pair) if texts.pair else None
        told = tokenizer(text_of(row.row, texts.text), second if isinstance(second, str) and second else None)
        cut.count(len(told["input_ids"]))
        if len(told["input_ids"]) > limit:
            told = tokenizer(
                text_of(row.row, texts.text),
                second if isinstance(second, str) and second else None,
                truncation=True,
                max_length=limit,
            )
        samples.append({**told, "labels": row.label})
    return samples, cut
