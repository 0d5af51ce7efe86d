"""Train a model that sorts texts into classes: an encoder or a language model with a head, all weights or LoRA.

It looks at everything that is given before it loads a weight, resumes from the newest whole checkpoint in the output
folder, writes metrics as JSON lines, and saves so that nothing is ever half there. SIGTERM writes a checkpoint and ends
with exit code 143; input that can't be trained on ends it with 2 and one line on stderr.
"""

import argparse
import sys
from typing import Any

from shared.arguments import new_parser
from shared.classes import Sorted, label_names, name_labels
from shared.course import Course, begin, train
from shared.data import Rows
from shared.lengths import Cut, limit_of, most_tokens
from shared.models import be_quiet, find_config, find_tokenizer
from shared.parallel import by_blocks
from shared.refusals import Refused, run
from texts import Texts, encoded, read

KIND = "text-classification"
RATES = {"full": 2e-5, "lora": 2e-4}
"""Peak learning rates where none is given: adapters take about ten times that of all weights."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__.splitlines()[0])
    parser.set_defaults(method="full", micro_batch=32, grad_accum=1, max_len=256, eval_fraction=0.1)
    parser.set_defaults(warmup=0.1, weight_decay=0.01, scheduler="linear", grad_checkpointing=False)
    parser.add_argument("--labels", default=None, help="all labels in their order, with commas; unset: the data's")
    parser.add_argument("--class-weights", choices=("none", "balanced"), default="none", help="of labels in the loss")
    parser.add_argument("--label-smoothing", type=float, default=0.0, help="share of the target for all labels")
    args = parser.parse_args()
    if args.method not in RATES:
        parser.error(f"--method is one of {', '.join(RATES)}, not {args.method!r}")
    if args.data_format not in ("auto", "classification"):
        parser.error(f"--data-format is auto or classification, not {args.data_format!r}")
    args.lr = args.lr or RATES[args.method]
    return args


class Task:
    """Model, tokenizer and data, looked at but not loaded: what a training starts from."""

    def __init__(self, args: argparse.Namespace) -> None:
        be_quiet()
        self.args, self.config = args, find_config(args)
        self.tokenizer = ready(find_tokenizer(args), self.config, args)
        self.texts: Texts = read(args, label_names(self.config))
        most = most_tokens(self.config, self.tokenizer)
        self.limit = limit_of(args, most)
        self.learned, self.cut = self.encode(self.texts.learned)
        self.held_out, _ = self.encode(self.texts.held_out)
        self.cut.check(args, most)

    def encode(self, rows: list[Sorted]) -> tuple[list[dict[str, Any]], Cut]:
        """What the model is given for each row."""
        return encoded(rows, self.texts, self.tokenizer, self.limit)

    @property
    def about(self) -> dict[str, Any]:
        """What is told of the data: nothing of what a row says."""
        source: Rows = self.texts.source
        return {
            "source": self.args.data,
            "sha256": source.sha256,
            "format": "classification",
            "rows": len(source.rows),
            "learned": len(self.learned),
            "held_out": len(self.held_out),
            "labels": len(self.texts.labels),
            "tokens": self.cut.told(),
            "columns": {"text": self.texts.text, "pair": self.texts.pair},
        }


def ready(tokenizer: Any, config: Any, args: argparse.Namespace) -> Any:
    """A tokenizer that can pad: a language model's may have no token for it, or one that the model lacks."""
    if tokenizer.pad_token is None or tokenizer.pad_token_id >= getattr(config, "vocab_size", 1 << 31):
        if tokenizer.eos_token is None:
            raise Refused("model_missing", f"the tokenizer of {args.model!r} has no token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def build(task: Task, output: Any, numbers: str, watch: Any, resumed: bool) -> Any:
    """The trainer: model with its head, adapter where one is asked for, data, loss."""
    from shared.classifier import ClassTrainer, metrics_of, weights_of
    from shared.heads import load_with_head, with_adapter
    from shared.trainer import quiet, training_arguments
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, TrainingArguments

    args, labels = task.args, task.texts.labels
    name_labels(task.config, labels)
    task.config.pad_token_id = task.tokenizer.pad_token_id
    model, new = load_with_head(AutoModelForSequenceClassification, args, task.config, numbers, "classes of texts")
    if args.method == "lora":
        model = with_adapter(model, args, new, "SEQ_CLS")
    told = training_arguments(args, output, numbers, evaluated=bool(task.held_out), resumed=resumed)
    told = by_blocks(told, model)
    trainer = ClassTrainer(
        model=model,
        args=TrainingArguments(
            **told, remove_unused_columns=False, label_names=["labels"], include_num_input_tokens_seen="non_padding"
        ),
        train_dataset=task.learned,
        eval_dataset=task.held_out or None,
        data_collator=DataCollatorWithPadding(task.tokenizer, pad_to_multiple_of=8),
        processing_class=task.tokenizer,
        compute_metrics=metrics_of(labels),
        callbacks=[watch],
        weights=weights_of(args, task.texts.learned, len(labels)),
        smoothing=args.label_smoothing,
    )
    quiet(trainer)
    return trainer


def main() -> int:
    """Check, train, measure, save."""
    args = parse_arguments()
    begun = begin(args, Task)
    if begun is None:
        return 0
    output, log, task = begun
    from shared.classifier import compared, evaluate

    labels, texts = task.texts.labels, task.texts

    def measure(trainer: Any, watch: Any) -> dict[str, Any]:
        if not task.held_out:
            return {}
        tuned = evaluate(trainer, task.held_out, labels)
        return compared(tuned, watch.base, texts.learned, texts.held_out, labels)

    course = Course(KIND, args, output, log, task.about)
    course.bound = {"data_sha256": texts.source.sha256, "labels": labels, "max_len": task.limit}
    course.lines = {"Labels": len(labels), "Sequence length": task.limit}
    return train(course, lambda numbers, watch, resumed: build(task, output, numbers, watch, resumed), measure)


if __name__ == "__main__":
    sys.exit(run(main))
