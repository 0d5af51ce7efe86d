"""Judging a trained classifier, whatever it looks at: scores beside the commonest label and the base's, the fixed set,
whether it says one label to all. This module imports torch."""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from shared.classes import Sorted, label_names, majority, scores, sort_rows, split_alike, summary
from shared.data import Rows
from shared.files import read_json
from shared.judging import MOST_REGRESSED, drawn, id_of, named_labels, side_metrics, unlearnt
from shared.models import find_config
from shared.refusals import Refused, note
from shared.sides import adapter_of, base_of, finite, free, loaded, share, with_adapter

Source = Callable[[str], tuple[Rows, Rows | None]]
"""Name of data → all rows or the training's, and the held-out ones where the data says which."""
Logits = Callable[[Any, Sequence[Sorted]], list[list[float]]]
"""(model, rows) → what it says of each label for each row."""


class Classes:
    """What a classifier is judged on."""

    def __init__(
        self,
        args: argparse.Namespace,
        settings: argparse.Namespace | None,
        labels: list[str],
        source: Source,
        column: Callable[[Rows], str],
        key: Callable[[Sorted], str],
    ) -> None:
        self.args, self.labels, self.key = args, labels, key
        self.own = settings is not None and not args.data
        self.sets: dict[str, list[Sorted]] = {}
        learnt: list[Sorted] = []
        if settings is not None:
            rows, apart = source(settings.data)
            apart = source(settings.eval_data)[0] if settings.eval_data else apart
            # The labels in the order in which the training had them: of each as many are held out as it held out.
            learnt = sort_rows(rows.rows, column(rows), labels)
            if apart is not None:
                held_out = sort_rows(apart.rows, column(apart), labels)
            else:
                learnt, held_out = split_alike(learnt, settings.eval_fraction, settings.seed)
            if held_out:
                self.sets["held_out"] = held_out
        elif args.learnt:
            rows, apart = source(args.learnt)
            learnt = sort_rows(rows.rows, column(rows), labels)
            if apart is not None:
                self.sets["held_out"] = sort_rows(apart.rows, column(apart), labels)
        if args.data:
            rows, apart = source(args.data)
            rows = apart or rows
            brought = sort_rows(rows.rows, column(rows), labels)
            self.sets["held_out"] = unlearnt(brought, map(key, learnt), key, args.data)
        if args.regression:
            rows, _ = source(args.regression)
            self.sets["regression"] = sort_rows(rows.rows, column(rows), labels)
        self.commonest = learnt or self.sets.get("held_out", [])
        self.cut = len(self.sets.get("held_out", ())) > args.examples
        if learnt:
            self.sets["learnt"] = learnt
        for name in {"held_out", "learnt"} & set(self.sets):
            self.sets[name] = drawn(self.sets[name], args.examples, args.seed)
        if not self.sets:
            raise Refused("missing", "nothing to judge it on: say --data (evaluation.data in a plan)", args.model)
        if "held_out" not in self.sets:
            note("nothing was held out: it is judged on what it learned from alone")

    def judged(self, tuned: Callable[[], Any], base: Callable[[], Any], logits: Logits) -> dict[str, Any]:
        """The parts of the result. `base` gives a classifier of the same labels to compare with, or None.

        `tuned` hands the trained model over for good: it is gone when the base is loaded, so that a GPU need not hold
        both.
        """
        model = tuned()
        said = {name: logits(model, rows) for name, rows in self.sets.items()}
        del model
        free()
        before = base()
        was = {name: logits(before, rows) for name, rows in self.sets.items()} if before is not None else {}
        told: dict[str, Any] = {}
        for name, rows in self.sets.items():
            earlier = self.metrics(rows, was[name]) if name in was else None
            if earlier is None and name == "held_out":
                earlier = self.measured_before()
            guess = summary(majority(self.commonest, rows, self.labels))
            guess["majority"] = guess["accuracy"]
            told[name] = side_metrics([self.key(r) for r in rows], earlier, self.metrics(rows, said[name]), guess)
        if "regression" in said:
            told["regressed"] = self.worse(said["regression"], was.get("regression"))
        judged = said.get("held_out") or next(iter(said.values()))
        rows = self.sets["held_out"] if "held_out" in said else self.sets[next(iter(said))]
        told["collapse"] = self.collapse(rows, judged)
        return told

    def metrics(self, rows: Sequence[Sorted], said: list[list[float]]) -> dict[str, float]:
        """Accuracy, macro F1 and the mean cross-entropy in nats."""
        told = torch.tensor(said)
        truth = [row.label for row in rows]
        found = summary(scores(truth, told.argmax(-1).tolist(), self.labels))
        found["loss"] = float(torch.nn.functional.cross_entropy(told.double(), torch.tensor(truth)))
        return found

    def measured_before(self) -> dict[str, float] | None:
        """What the training measured of its model before the first step, on the same rows."""
        if not self.own or self.cut:
            return None
        folder = Path(self.args.model)
        found = read_json(folder.parent / "evaluation.json") or read_json(folder / "evaluation.json")
        base = found.get("base") if isinstance(found, dict) else None
        return base if isinstance(base, dict) else None

    def worse(self, said: list[list[float]], was: list[list[float]] | None) -> list[str]:
        """Ids of the fixed set's rows that are wrong now and were right before; where nothing was before, that are
        wrong."""
        found = []
        for number, (row, now) in enumerate(zip(self.sets["regression"], said, strict=True)):
            right = was is None or best(was[number]) == row.label
            if right and best(now) != row.label:
                found.append(id_of(row.row, number + 1))
        return found[:MOST_REGRESSED]

    def collapse(self, rows: Sequence[Sorted], said: list[list[float]]) -> dict[str, float]:
        """How large a share the commonest prediction has, and the commonest right one; how many labels are said of
        those that are there; the share of rows with an output that is no number."""
        told, truth = Counter(map(best, said)), Counter(row.label for row in rows)
        return {
            "commonest": told.most_common(1)[0][1] / len(said),
            "commonest_expected": truth.most_common(1)[0][1] / len(rows),
            "labels_told": len(told) / len(truth),
            "non_finite": 1 - share([all(finite(one)) for one in said]),
        }


def best(said: Sequence[float]) -> int:
    """The label that is said."""
    return int(torch.tensor(said).argmax())


def trained_classifier(auto: Any, args: argparse.Namespace) -> tuple[Any, list[str]]:
    """(model, its labels). An adapter is put on its base with the configuration that lies beside it, which names the
    labels; where there is none, with as many labels as its own saved head has."""
    if adapter_of(args.model) is None:
        model = loaded(auto, args.model, args)
        return model, named_labels(model.config, args)
    base = base_of(args) or args.model
    beside = Path(args.model, "config.json").is_file()
    config = find_config(args if beside else argparse.Namespace(**{**vars(args), "model": base}))
    model = loaded(auto, base, args, config=config, ignore_mismatched_sizes=True)
    return with_adapter(model, args.model), named_labels(config, args)


def base_classifier(auto: Any, args: argparse.Namespace, labels: list[str]) -> Any:
    """The base, where it is a classifier with the same labels; else None: a head that nothing was learned by is drawn
    anew each time."""
    base = base_of(args)
    if not base or Path(base).resolve() == Path(args.model).resolve():
        return None
    asked = argparse.Namespace(**{**vars(args), "model": base})
    try:
        config = find_config(asked)
        heads = [name for name in getattr(config, "architectures", None) or () if "Classification" in name]
        return loaded(auto, base, args) if heads and label_names(config) == labels else None
    except (Refused, OSError) as error:
        note(f"the base {base!r} can't be loaded, so the model is judged alone: {str(error)[:200]}")
        return None
