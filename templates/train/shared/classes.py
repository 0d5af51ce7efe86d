"""Classes: which labels the data has, how some of each are held out, and how good a classifier is.

Plain Python. No refusal shows what a row says, not even its label: the place is enough to find it.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.data import Row, Rows
from shared.refusals import Refused, note

MOST_LABELS = 10_000
PLACEHOLDER = re.compile(r"LABEL_\d+")  # what transformers calls labels that nobody named


@dataclass(frozen=True)
class Sorted:
    """A row and the number of its label."""

    row: Row
    label: int


def label_of(row: Row, column: str) -> str:
    """The label of a row as a text: `3`, `3.0` and 3 are one label. Raises Refused for none, and for several."""
    value = row.values.get(column)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float):
        if value != value:  # not a number
            raise row.refused("label", "the row has no label")
        return str(value)
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return text.removesuffix(".0") if re.fullmatch(r"-?\d+\.0", text) else text
    if value is None or isinstance(value, str):
        raise row.refused("label", "the row has no label")
    raise row.refused("label", "a label is one word or number; this type has one for each row")


def labels_of(rows: Rows, column: str, given: str | None, known: Sequence[str] = ()) -> list[str]:
    """The labels in their order: those given, else the model's own where the data has no others, else the data's.

    `known` are the names in the model's config. Numbers are sorted as numbers. Raises Refused for a single label, and
    where each row has one of its own.
    """
    found = Counter(label_of(row, column) for row in rows.rows)
    if given:
        named = [part.strip() for part in given.split(",") if part.strip()]
        if len(set(named)) < max(2, len(named)):
            raise Refused("label", "--labels must name two labels or more, each once")
        return named
    if len(found) < 2:
        raise Refused("label", "all rows have the same label: there is nothing to tell apart", rows.source)
    if len(found) > MOST_LABELS or (len(found) > 20 and len(found) > len(rows.rows) / 2):
        text = (
            f"{len(found)} labels in {len(rows.rows)} rows: too many to learn; is it a number that is to be predicted?"
        )
        raise Refused("label", text, rows.source)
    rare = sum(1 for count in found.values() if count == 1)
    if rare:
        note(f"{rare} of {len(found)} labels are there once only: none of their rows can be held out")
    own = [name for name in known if not PLACEHOLDER.fullmatch(name)]
    if own and len(own) == len(known) and set(found) <= set(own):
        return own
    return sorted(found, key=lambda label: (_number(label) is None, _number(label) or 0.0, label))


def _number(label: str) -> float | None:
    return float(label) if re.fullmatch(r"-?\d+(\.\d+)?", label) else None


def sort_rows(rows: Iterable[Row], column: str, labels: Sequence[str]) -> list[Sorted]:
    """Each row with its label's number. Where labels have names, a number in the data is the place of one.

    Raises Refused, naming the place, for a label that is none of them or a number that is out of range.
    """
    place = {label: number for number, label in enumerate(labels)}
    named = not any(re.fullmatch(r"-?\d+", label) for label in labels)
    made = []
    for row in rows:
        label = label_of(row, column)
        number = place.get(label)
        if number is None and named and re.fullmatch(r"-?\d+", label):
            number = int(label)
            if not 0 <= number < len(labels):
                raise row.refused("label", f"the label's number is out of range: there are 0 to {len(labels) - 1}")
        if number is None:
            raise row.refused("label", f"the label is none of the {len(labels)} that there are")
        made.append(Sorted(row, number))
    return made


def split_alike(rows: Sequence[Sorted], fraction: float, seed: int) -> tuple[list[Sorted], list[Sorted]]:
    """(learned, held out): of each label the same share, one at least where it has two rows or more.

    The same for the same rows, fraction and seed. Both keep the order of the data.
    """
    if fraction <= 0:
        return list(rows), []
    draw = random.Random(seed)
    by_label: dict[int, list[int]] = {}
    for at, row in enumerate(rows):
        by_label.setdefault(row.label, []).append(at)
    apart: set[int] = set()
    for label in sorted(by_label):
        there = by_label[label]
        if len(there) > 1:
            wanted = max(1, round(len(there) * min(fraction, 0.5)))
            apart.update(draw.sample(there, min(wanted, len(there) - 1)))
    return [r for i, r in enumerate(rows) if i not in apart], [r for i, r in enumerate(rows) if i in apart]


def balanced(rows: Sequence[Sorted], count: int) -> list[float]:
    """A weight for each label: the inverse of its share, 1 in the mean over rows; 0 for one that isn't there."""
    seen = Counter(row.label for row in rows)
    return [len(rows) / (len(seen) * seen[label]) if seen[label] else 0.0 for label in range(count)]


def majority(learned: Sequence[Sorted], held_out: Sequence[Sorted], labels: Sequence[str]) -> dict[str, Any]:
    """How good it would be to say the commonest label of the training data each time."""
    commonest = Counter(row.label for row in learned).most_common(1)[0][0]
    truth = [row.label for row in held_out]
    return scores(truth, [commonest] * len(truth), labels)


def scores(truth: Sequence[int], told: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro F1 (the mean over labels that are there or were told), precision, recall and F1 of each label.

    `confusion` has a row for each true label and a column for each that was told.
    """
    count = len(labels)
    table = [[0] * count for _ in range(count)]
    for true, said in zip(truth, told, strict=True):
        table[true][said] += 1
    each: dict[str, dict[str, float | int]] = {}
    for number, label in enumerate(labels):
        right, there = table[number][number], sum(table[number])
        said = sum(row[number] for row in table)
        if there or said:
            precision, recall = right / said if said else 0.0, right / there if there else 0.0
            both = precision + recall
            f1 = 2 * precision * recall / both if both else 0.0
            each[label] = {"precision": precision, "recall": recall, "f1": f1, "count": there}
    right = sum(table[number][number] for number in range(count))
    return {
        "accuracy": right / max(1, len(truth)),
        "macro_f1": sum(float(e["f1"]) for e in each.values()) / max(1, len(each)),
        "labels": each,
        "confusion": table,
    }


def summary(found: dict[str, Any]) -> dict[str, float]:
    """What of the scores is one number, for metrics and the model card."""
    return {name: found[name] for name in ("accuracy", "macro_f1", "loss") if name in found}


def label_names(config: Any) -> list[str]:
    """The labels that a model has names for, in their order."""
    named = getattr(config, "id2label", None) or {}
    return [str(named[number]) for number in sorted(named)]


def name_labels(config: Any, labels: Sequence[str]) -> None:
    """Write the labels into a model's configuration, which also sets their number."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
