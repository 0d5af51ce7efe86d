"""Train a vision model that sorts images into classes: all weights, or LoRA with the head.

It looks at everything that is given before it loads a weight, resumes from the newest whole checkpoint in the output
folder, writes metrics as JSON lines, and saves so that nothing is ever half there. SIGTERM writes a checkpoint and ends
with exit code 143; input that can't be trained on ends it with 2 and one line on stderr.
"""

import argparse
import sys
from typing import Any

from pictures import Images, Pictures, Unreadable, batch, read, refused
from shared.arguments import new_parser
from shared.classes import label_names, name_labels
from shared.course import Course, begin, train
from shared.models import be_quiet, find_config, loaded_from, refused_model
from shared.parallel import by_blocks
from shared.refusals import Refused, run

KIND = "image-classification"
RATES = {"full": 5e-5, "lora": 5e-4}
"""Peak learning rates where none is given: adapters take about ten times that of all weights."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = new_parser(__doc__.splitlines()[0])
    parser.set_defaults(method="full", micro_batch=32, grad_accum=1, eval_fraction=0.1, num_workers=2)
    parser.set_defaults(warmup=0.1, weight_decay=0.01, scheduler="linear", grad_checkpointing=False)
    parser.add_argument("--labels", default=None, help="all labels in their order, with commas; unset: the data's")
    parser.add_argument("--class-weights", choices=("none", "balanced"), default="none", help="of labels in the loss")
    parser.add_argument("--label-smoothing", type=float, default=0.0, help="share of the target for all labels")
    parser.add_argument("--augment", choices=("none", "flip", "crop"), default="flip", help="random changes of images")
    args = parser.parse_args()
    if args.method not in RATES:
        parser.error(f"--method is one of {', '.join(RATES)}, not {args.method!r}")
    if args.data_format not in ("auto", "images"):
        parser.error(f"--data-format is auto or images, not {args.data_format!r}")
    args.lr = args.lr or RATES[args.method]
    return args


class Task:
    """Model, image processor and data, looked at but not loaded: what a training starts from."""

    def __init__(self, args: argparse.Namespace) -> None:
        be_quiet()
        self.args, self.config = args, find_config(args)
        self.processor = find_processor(args)
        self.pictures: Pictures = read(args, label_names(self.config))

    def images(self, part: str) -> Images:
        """A data set for the trainer: `learned`, changed at random, or `held_out`, as they are."""
        rows, image = getattr(self.pictures, part), self.pictures.image
        if part == "learned":
            return Images(rows, image, self.processor, self.args.augment, self.args.seed)
        return Images(rows, image, self.processor)

    @property
    def about(self) -> dict[str, Any]:
        """What is told of the data."""
        source = self.pictures.source
        return {
            "source": self.args.data,
            "sha256": source.sha256,
            "format": "images",
            "rows": len(source.rows),
            "learned": len(self.pictures.learned),
            "held_out": len(self.pictures.held_out),
            "labels": len(self.pictures.labels),
        }


def find_processor(args: argparse.Namespace) -> Any:
    """What makes an image the model's input. Raises Refused for a model that says nothing of it."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(args.model, **loaded_from(args))
    except (OSError, ValueError) as error:
        found = refused_model(error, args)
        if found is error:
            raise
        raise Refused("model_missing", "it has no image processor (preprocessor_config.json)", args.model) from error


def passes(images: Images) -> Any:
    """What tells a data set which pass begins. Data loaders that skip what was seen before a checkpoint don't."""
    from transformers import TrainerCallback

    class Passes(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            images.epoch = int((state.epoch or 0.0) + 1e-6)

    return Passes()


def build(task: Task, output: Any, numbers: str, watch: Any, resumed: bool) -> Any:
    """The trainer: model with its head, adapter where one is asked for, data, loss."""
    from shared.classifier import ClassTrainer, metrics_of, weights_of
    from shared.heads import load_with_head, with_adapter
    from shared.trainer import quiet, training_arguments
    from transformers import AutoModelForImageClassification, TrainingArguments

    args, labels = task.args, task.pictures.labels
    name_labels(task.config, labels)
    model, new = load_with_head(AutoModelForImageClassification, args, task.config, numbers, "classes of images")
    if args.method == "lora":
        model = with_adapter(model, args, new, None)
    learned = task.images("learned")
    told = training_arguments(args, output, numbers, evaluated=bool(task.pictures.held_out), resumed=resumed)
    told = by_blocks(told, model)
    trainer = ClassTrainer(
        model=model,
        args=TrainingArguments(**told, remove_unused_columns=False, label_names=["labels"]),
        train_dataset=learned,
        eval_dataset=task.images("held_out") if task.pictures.held_out else None,
        data_collator=batch,
        processing_class=task.processor,
        compute_metrics=metrics_of(labels),
        callbacks=[watch, passes(learned)],
        weights=weights_of(args, task.pictures.learned, len(labels)),
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

    pictures = task.pictures

    def measure(trainer: Any, watch: Any) -> dict[str, Any]:
        if not pictures.held_out:
            return {}
        tuned = evaluate(trainer, task.images("held_out"), pictures.labels)
        return compared(tuned, watch.base, pictures.learned, pictures.held_out, pictures.labels)

    course = Course(KIND, args, output, log, task.about)
    course.bound = {"data_sha256": pictures.source.sha256, "labels": pictures.labels, "augment": args.augment}
    course.lines = {"Labels": len(pictures.labels)}
    try:
        return train(course, lambda numbers, watch, resumed: build(task, output, numbers, watch, resumed), measure)
    except Unreadable as error:
        raise refused(error) or error from error


if __name__ == "__main__":
    sys.exit(run(main))
