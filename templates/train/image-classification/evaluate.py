"""How good a trained classifier of images is on data: accuracy, macro F1, each label, the confusion table, as JSON."""

import argparse
import json
import sys
from typing import Any

from pictures import IMAGE, LABEL, Images, Unreadable, batch, check, needed, refused, source
from shared.classes import scores, sort_rows
from shared.data import renamed
from shared.files import write_json
from shared.judging import judge_parser, load_trained, named_labels
from shared.models import be_quiet
from shared.refusals import run
from train import find_processor


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The scores of the model on the data."""
    import torch
    from transformers import AutoModelForImageClassification

    rows, apart = source(args.data)
    rows, given = apart or rows, renamed(args.columns)
    image, label = needed(rows, "image", IMAGE, given), needed(rows, "label", LABEL, given)
    processor = find_processor(args)
    model, config = load_trained(AutoModelForImageClassification, args)
    labels = named_labels(config, args)
    held_out = sort_rows(rows.rows, label, labels)
    check(held_out, image)
    images, said = Images(held_out, image, processor), []
    for begin in range(0, len(images), args.micro_batch):
        part = batch(images[at] for at in range(begin, min(begin + args.micro_batch, len(images))))
        with torch.no_grad():
            logits = model(pixel_values=part["pixel_values"].to(model.device, model.dtype)).logits
        said += logits.float().argmax(-1).tolist()
    return {"rows": len(held_out), "data_sha256": rows.sha256, **scores([r.label for r in held_out], said, labels)}


def main() -> int:
    """Load, measure, tell. Of a folder with a held-out part that part is measured."""
    args = judge_parser(__doc__).parse_args()
    be_quiet()
    try:
        found = measure(args)
    except Unreadable as error:
        raise refused(error) or error from error
    print(json.dumps(found), flush=True)
    if args.output:
        write_json(args.output, found)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
