"""How good a trained classifier of images is: accuracy, macro F1 and loss, beside its base and the commonest label.

Without `--data` it is measured on what the training held out; of a folder with a held-out part that part is measured.
Prints an `EvaluationResult` (`caravan/values/evaluation.py`) as one line.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pictures import IMAGE, LABEL, Images, Unreadable, batch, needed, refused, source
from shared.classes import Sorted
from shared.data import renamed
from shared.judging import judge_parser, key_of, result, settle, tell
from shared.models import be_quiet
from shared.refusals import run
from train import find_processor


def key_of_image(row: Sorted, given: dict[str, str]) -> str:
    """What an image is known by: its content, where it is a file, and its label."""
    value = row.row.values.get(given.get("image", "image"))
    if isinstance(value, str) and Path(value).is_file():
        return key_of([hashlib.sha256(Path(value).read_bytes()).hexdigest(), row.label])
    return key_of({name: str(told) for name, told in row.row.values.items()})


def measure(args: Any, settings: Any) -> dict[str, Any]:
    """The parts of the result."""
    from shared.judged_classes import Classes, base_classifier, trained_classifier
    from shared.sides import in_batches
    from transformers import AutoModelForImageClassification as Auto

    given = renamed(args.columns)
    processor = find_processor(args)
    model, labels = trained_classifier(Auto, args)

    def logits(asked: Any, rows: Sequence[Sorted]) -> list[list[float]]:
        from shared.data import Rows

        images = Images(rows, needed(Rows("", [rows[0].row]), "image", IMAGE, given), processor)

        def of(part: Sequence[int]) -> list[list[float]]:
            pixels = batch(images[at] for at in part)["pixel_values"]
            said = asked(pixel_values=pixels.to(asked.device, asked.dtype)).logits
            return [list(map(float, one)) for one in said.float().tolist()]

        return [one for part in in_batches(range(len(images)), args.micro_batch, of) for one in part]

    def column(rows: Any) -> str:
        return needed(rows, "label", LABEL, given)

    sets = Classes(args, settings, labels, source, column, lambda row: key_of_image(row, given))
    trained = [model]
    del model  # nothing else must hold it
    return sets.judged(trained.pop, lambda: base_classifier(Auto, args, labels), logits)


def main() -> int:
    """Load, measure, tell."""
    args = judge_parser(__doc__.splitlines()[0]).parse_args()
    settings = settle(args, "image-classification")
    be_quiet()
    try:
        found = measure(args, settings)
    except Unreadable as error:
        raise refused(error) or error from error
    return tell(args, result("image-classification", args, **found))


if __name__ == "__main__":
    sys.exit(run(main))
