"""Fine-tune a language model on texts, instructions or conversations: all weights, LoRA, or LoRA over 4-bit weights.

It looks at everything that is given before it loads a weight, resumes from the newest whole checkpoint in the output
folder, writes metrics as JSON lines, and saves so that nothing is ever half there. SIGTERM writes a checkpoint and ends
with exit code 143; input that can't be trained on ends it with 2 and one line on stderr.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples import Encoder, Format, Samples, answers_only, read
from shared.arguments import boolean, new_parser
from shared.course import Course, begin, train
from shared.files import whole_folder
from shared.lengths import limit_of, most_tokens
from shared.models import be_quiet, find_config, find_tokenizer
from shared.records import perplexity
from shared.refusals import Refused, note, run

CHECKED = 5000
"""Rows that `--check-only` writes as tokens at most, so that it takes seconds."""
RATES = {"full": 2e-5, "lora": 2e-4, "qlora": 2e-4}
"""Peak learning rates where none is given: adapters take about ten times that of all weights."""


def options() -> argparse.ArgumentParser:
    """The script's options."""
    parser = new_parser(__doc__.splitlines()[0])
    parser.add_argument("--chat-template", default=None, help="file with a chat template, in place of the tokenizer's")
    parser.add_argument(
        "--loss-on", choices=("auto", "answers", "all"), default="auto", help="which tokens are learned"
    )
    parser.add_argument("--merge", type=boolean, default=False, help="write the base with the adapter merged in, too")
    return parser


def parse_arguments() -> argparse.Namespace:
    """The command line, with what follows from it."""
    parser = options()
    args = parser.parse_args()
    if args.method not in RATES:
        parser.error(f"--method is one of {', '.join(RATES)}, not {args.method!r}")
    args.lr = args.lr or RATES[args.method]
    return args


@dataclass
class Task:
    """What is trained on: tokens to learn from, tokens held out, and what is told of the data."""

    tokenizer: Any
    learned: Samples
    held_out: Samples | None
    about: dict[str, Any]


def prepare(args: argparse.Namespace) -> Task:
    """Read the data, find the model, write one as tokens of the other. Raises Refused for what can't be trained on."""
    parts = read(args)
    rows, apart, form = parts.source, parts.apart, parts.form
    be_quiet()
    config = find_config(args)
    tokenizer = find_tokenizer(args)
    most = most_tokens(config, tokenizer)
    args.max_len = limit_of(args, most)
    if args.chat_template:
        tokenizer.chat_template = read_template(args.chat_template)
    if tokenizer.eos_token_id is None:
        raise Refused("model_missing", f"the tokenizer of {args.model!r} has no token for the end of a text")
    learned = encode(args, tokenizer, form, parts.learned, most)
    held_out = encode(args, tokenizer, parts.form_apart, parts.held_out, most) if parts.held_out else None
    about = {
        "source": args.data,
        "sha256": rows.sha256,
        "format": form.name,
        "rows": len(rows.rows),
        "learned": len(learned.samples) - learned.dropped,
        "held_out": len(held_out.samples) if held_out else 0,
        "eval_sha256": apart.sha256 if apart else None,
        "empty": learned.empty,
        "tokens": learned.lengths(),
        "limit": args.max_len,
        "cut": learned.cut,
        "dropped": learned.dropped,
    }
    return Task(tokenizer, learned, held_out, about)


def encode(args: argparse.Namespace, tokenizer: Any, form: Format, rows: list[Any], most: int | None) -> Samples:
    """Rows as tokens; what is longer than the limit is told, and refused where that is all.

    `most`: tokens that the model was made for. A check alone looks at a part of many rows, spread over all of them.
    """
    rows = rows[:: len(rows) // CHECKED + 1] if args.check_only else rows
    answers = answers_only(args, form)
    found = Encoder(tokenizer, form, max_len=args.max_len, answers=answers).encode(rows)
    total, longest = len(found.samples), found.lengths()["longest"]
    if found.cut == total or found.dropped == total:
        text = f"all {total} sequences are longer than --max-len {args.max_len} (the longest has {longest} tokens)"
        text += f"; the model takes up to {most}" if most else ""
        raise Refused("all_too_long", text, rows[0].file)
    if found.cut:
        gone = f", {found.dropped} of them left out, as nothing to learn remains" if found.dropped else ""
        note(f"{found.cut} of {total} sequences are longer than --max-len {args.max_len} and are cut{gone}")
    return found


def read_template(name: str) -> str:
    """The text of a chat template's file."""
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("no_chat_template", "the file of the chat template can't be read", name) from error


def bound(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    """What a later start must share to go on from a checkpoint: other tokens would come in another order."""
    return {"data_sha256": task.about["sha256"], "max_len": args.max_len, "packing": args.packing}


def main() -> int:
    """Check, train, save."""
    args = parse_arguments()
    begun = begin(args, prepare)
    if begun is None:
        return 0
    output, log, task = begun
    course = Course("sft", args, output, log, task.about, bound(args, task), also=lambda *how: also(args, task, *how))
    course.lines = {"Sequence length": args.max_len, "Format": task.about["format"]}

    def build(numbers: str, watch: Any, resumed: bool) -> Any:
        from building import build as built

        return built(args, output, numbers, task.tokenizer, (task.learned, task.held_out), watch, resumed=resumed)

    return train(course, build, measure)


def measure(trainer: Any, watch: Any) -> dict[str, Any]:
    """Loss and perplexity on held-out data, of the base model and of what was trained from it."""
    if trainer.eval_dataset is None:
        return {}
    if watch.evaluated_at != trainer.state.global_step:
        trainer.evaluate()
    sides = {"base": watch.base, "tuned": watch.latest}
    return {name: {**side, "perplexity": perplexity(side["loss"])} for name, side in sides.items() if "loss" in side}


def also(args: argparse.Namespace, task: Task, adapter: Path, numbers: str) -> None:
    """Where it is asked for, the base model with the adapter merged into it, as a model of its own."""
    if not args.merge or args.method == "full":
        return
    from building import merge

    with whole_folder(adapter.with_name("model")) as folder:
        merge(args, numbers, adapter).save_pretrained(folder)
        task.tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    sys.exit(run(main))
