"""How good a trained classifier of texts is on data: accuracy, macro F1, each label, the confusion table, as JSON."""

import argparse
import json
import sys
from typing import Any

from shared.classes import scores, sort_rows
from shared.data import column_of, load, renamed
from shared.files import write_json
from shared.judging import judge_parser, load_trained, named_labels
from shared.models import be_quiet, find_tokenizer
from shared.refusals import run
from texts import LABEL, PAIR, TEXT, Texts, encoded, needed


def told_labels(model: Any, tokenizer: Any, samples: list[dict[str, Any]], batch: int) -> list[int]:
    """The label that the model says for each sample."""
    import torch

    found: list[int] = []
    for begin in range(0, len(samples), batch):
        part = [{n: v for n, v in s.items() if n != "labels"} for s in samples[begin : begin + batch]]
        padded = tokenizer.pad(part, return_tensors="pt").to(model.device)
        with torch.no_grad():
            found += model(**padded).logits.float().argmax(-1).tolist()
    return found


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The scores of the model on the data."""
    from transformers import AutoModelForSequenceClassification

    rows, given = load(args.data), renamed(args.columns)
    text, label = needed(rows, "text", TEXT, given), needed(rows, "label", LABEL, given)
    pair = column_of(rows, "pair", [name for name in PAIR if name not in (text, label)], given)
    tokenizer = find_tokenizer(args)
    model, config = load_trained(AutoModelForSequenceClassification, args)
    labels = named_labels(config, args)
    held_out = sort_rows(rows.rows, label, labels)
    texts = Texts(rows, labels, [], held_out, text, pair)
    samples, _ = encoded(held_out, texts, tokenizer, args.max_len)
    said = told_labels(model, tokenizer, samples, args.micro_batch)
    return {"rows": len(held_out), "data_sha256": rows.sha256, **scores([r.label for r in held_out], said, labels)}


def main() -> int:
    """Load, measure, tell."""
    parser = judge_parser(__doc__)
    parser.add_argument("--max-len", type=int, default=256, help="as in the training")
    args = parser.parse_args()
    be_quiet()
    found = measure(args)
    print(json.dumps(found), flush=True)
    if args.output:
        write_json(args.output, found)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
