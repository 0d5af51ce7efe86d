"""How good a trained classifier of texts is: accuracy, macro F1 and loss, beside its base and the commonest label.

Without `--data` it is measured on what the training held out. Prints an `EvaluationResult`
(`caravan/values/evaluation.py`) as one line.
"""

import sys
from collections.abc import Sequence
from typing import Any

from shared.classes import Sorted
from shared.data import Rows, column_of, load, renamed
from shared.judging import judge_parser, key_of, result, settle, tell
from shared.lengths import limit_of, most_tokens
from shared.models import be_quiet
from shared.refusals import Refused, run
from texts import LABEL, PAIR, TEXT, Texts, encoded, needed


def said(model: Any, tokenizer: Any, samples: list[dict[str, Any]], batch: int) -> list[list[float]]:
    """What the model says of each label for each sample."""
    from shared.sides import in_batches

    def asked(part: Sequence[dict[str, Any]]) -> list[list[float]]:
        told = [{n: v for n, v in sample.items() if n != "labels"} for sample in part]
        padded = tokenizer.pad(told, return_tensors="pt").to(model.device)
        return [list(map(float, one)) for one in model(**padded).logits.float().tolist()]

    return [one for part in in_batches(samples, batch, asked) for one in part]


def ready(tokenizer: Any, model: Any) -> Any:
    """A tokenizer that pads as the model was trained: a language model's may have no token for it."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise Refused("model_missing", "the tokenizer has no token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "right"
    return tokenizer


def main() -> int:
    """Load, measure, tell."""
    parser = judge_parser(__doc__.splitlines()[0])
    parser.add_argument("--max-len", type=int, default=None, help="unset: as in the training, else 256")
    parser.add_argument("--attn", default=None)
    args = parser.parse_args()
    settings = settle(args, "text-classification", max_len=256)
    be_quiet()
    from shared.judged_classes import Classes, base_classifier, trained_classifier
    from shared.sides import config_of, tokenizer_of
    from transformers import AutoModelForSequenceClassification as Auto

    given = renamed(args.columns)
    tokenizer = tokenizer_of(args)
    model, labels = trained_classifier(Auto, args)
    tokenizer = ready(tokenizer, model)
    limit = limit_of(args, most_tokens(config_of(args), tokenizer))

    def source(name: str) -> tuple[Rows, Rows | None]:
        rows = load(name)
        return rows, rows.held_out

    def key(row: Sorted) -> str:
        return key_of(row.row.values)

    def logits(asked: Any, rows: Sequence[Sorted]) -> list[list[float]]:
        first = Rows("", [rows[0].row])
        text, label = needed(first, "text", TEXT, given), needed(first, "label", LABEL, given)
        pair = column_of(first, "pair", [name for name in PAIR if name not in (text, label)], given)
        samples, _ = encoded(rows, Texts(first, labels, [], [], text, pair), tokenizer, limit)
        return said(asked, tokenizer, samples, args.micro_batch)

    sets = Classes(args, settings, labels, source, lambda rows: needed(rows, "label", LABEL, given), key)
    trained = [model]
    del model  # nothing else must hold it
    found = sets.judged(trained.pop, lambda: base_classifier(Auto, args, labels), logits)
    return tell(args, result("text-classification", args, **found))


if __name__ == "__main__":
    sys.exit(run(main))
