"""Train an encoder whose embeddings lie near each other for texts that belong together: all weights or LoRA.

It looks at everything that is given before it loads a weight, resumes from the newest whole checkpoint in the output
folder, writes metrics as JSON lines, and saves so that nothing is ever half there. SIGTERM writes a checkpoint and ends
with exit code 143; input that can't be trained on ends it with 2 and one line on stderr.
"""

import argparse
import sys
from typing import Any

from pairs import Pair, Pairs, read
from shared.arguments import boolean, new_parser, rate
from shared.course import Course, begin, train
from shared.lengths import Cut, limit_of, most_tokens
from shared.models import be_quiet, find_config, find_tokenizer
from shared.parallel import by_blocks
from shared.refusals import Refused, run

KIND = "embeddings"
RATES = {"full": 2e-5, "lora": 2e-4}
"""Peak learning rates where none is given: adapters take about ten times that of all weights."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__.splitlines()[0])
    parser.set_defaults(method="full", micro_batch=64, grad_accum=1, max_len=128, eval_fraction=0.1, epochs=1.0)
    parser.set_defaults(warmup=0.1, weight_decay=0.01, scheduler="linear", grad_checkpointing=False)
    parser.add_argument("--temperature", type=rate, default=0.05, help="cosines are divided by it")
    parser.add_argument("--pooling", choices=("mean", "cls"), default="mean", help="what of the last layer is embedded")
    parser.add_argument("--anchor-prefix", default="", help="put before each anchor, as some models want it")
    parser.add_argument("--positive-prefix", default="", help="put before each positive and negative")
    parser.add_argument("--symmetric", type=boolean, default=True, help="positives look for their anchors, too")
    args = parser.parse_args()
    if args.method not in RATES:
        parser.error(f"--method is one of {', '.join(RATES)}, not {args.method!r}")
    if args.data_format not in ("auto", "pairs"):
        parser.error(f"--data-format is auto or pairs, not {args.data_format!r}")
    if args.micro_batch < 2:
        parser.error("--micro-batch must be 2 or more: each pair is held against the others of its batch")
    args.lr = args.lr or RATES[args.method]
    return args


class Task:
    """Model, tokenizer and data, looked at but not loaded: what a training starts from."""

    def __init__(self, args: argparse.Namespace) -> None:
        be_quiet()
        self.args, self.config, self.tokenizer = args, find_config(args), find_tokenizer(args)
        if self.tokenizer.pad_token is None:
            raise Refused("model_missing", f"the tokenizer of {args.model!r} has no token to pad with: no encoder's")
        self.pairs: Pairs = read(args)
        most = most_tokens(self.config, self.tokenizer)
        self.limit = limit_of(args, most)
        self.cut = Cut(self.limit)
        for pair in self.pairs.learned:
            for text in (args.anchor_prefix + pair.anchor, args.positive_prefix + pair.positive):
                self.cut.count(len(self.tokenizer(text)["input_ids"]))
        self.cut.check(args, most)

    @property
    def about(self) -> dict[str, Any]:
        """What is told of the data: nothing of what a row says."""
        source = self.pairs.source
        return {
            "source": self.args.data,
            "sha256": source.sha256,
            "format": "pairs",
            "rows": len(source.rows),
            "learned": len(self.pairs.learned),
            "held_out": len(self.pairs.held_out),
            "tokens": self.cut.told(),
            "columns": self.pairs.columns,
        }


def samples(pairs: list[Pair]) -> list[dict[str, Any]]:
    """A data set for the trainer."""
    return [{"pair": pair} for pair in pairs]


def build(task: Task, output: Any, numbers: str, watch: Any, resumed: bool) -> Any:
    """The trainer: encoder, adapter where one is asked for, data, loss."""
    from encoder import Batch, EmbeddingTrainer, metrics_of
    from shared.heads import load_with_head, with_adapter
    from shared.trainer import quiet, training_arguments
    from transformers import AutoModel, TrainingArguments

    args = task.args
    model, new = load_with_head(AutoModel, args, task.config, numbers, "embeddings")
    for name in new:
        model.get_submodule(name).requires_grad_(False)  # a pooler that nothing is learned by
    if args.method == "lora":
        model = with_adapter(model, args, new, "FEATURE_EXTRACTION", keep=False)
    told = training_arguments(args, output, numbers, evaluated=bool(task.pairs.held_out), resumed=resumed)
    told = by_blocks(told, model)
    trainer = EmbeddingTrainer(
        model=model,
        args=TrainingArguments(
            **told,
            remove_unused_columns=False,
            label_names=["same"],
            dataloader_drop_last=len(task.pairs.learned) >= args.micro_batch,  # a small batch has few wrong answers
            include_num_input_tokens_seen="non_padding",
        ),
        train_dataset=samples(task.pairs.learned),
        eval_dataset=samples(task.pairs.held_out) or None,
        data_collator=Batch(task.tokenizer, task.limit, (args.anchor_prefix, args.positive_prefix)),
        processing_class=task.tokenizer,
        compute_metrics=metrics_of(task.pairs.held_out),
        callbacks=[watch],
        pooling=args.pooling,
        temperature=args.temperature,
        symmetric=args.symmetric,
        length=task.limit,
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

    def measure(trainer: Any, watch: Any) -> dict[str, Any]:
        from encoder import chance

        if not task.pairs.held_out:
            return {}
        if watch.evaluated_at != trainer.state.global_step:
            trainer.evaluate()
        about = {"held_out": len(task.pairs.held_out), "target": "mrr"}
        return {"chance": chance(task.pairs.held_out), "base": watch.base, "tuned": watch.latest, **about}

    course = Course(KIND, args, output, log, task.about)
    course.bound = {"data_sha256": task.pairs.source.sha256, "max_len": task.limit, "pooling": args.pooling}
    course.bound |= {"temperature": args.temperature}
    course.lines = {"Sequence length": task.limit, "Pooling": args.pooling, "Temperature": args.temperature}
    return train(course, lambda numbers, watch, resumed: build(task, output, numbers, watch, resumed), measure)


if __name__ == "__main__":
    sys.exit(run(main))
