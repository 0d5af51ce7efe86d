"""The options that every training script has, spelled the same everywhere."""

import argparse


def boolean(text: str) -> bool:
    """`true` and `false`, as they are written on a command line."""
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def count(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def amount(text: str) -> float:
    """A number of at least 0."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return number


def rate(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def new_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the common options; a script adds its own, and changes defaults by `set_defaults`."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    add_input(parser)
    add_training(parser)
    add_hardware(parser)
    add_adapter(parser)
    add_keeping(parser)
    return parser


def add_input(parser: argparse.ArgumentParser) -> None:
    """Model and data."""
    parser.add_argument("--model", required=True, help="folder of the base model, or its id on the hub")
    parser.add_argument("--revision", default=None, help="branch, tag or commit of a model on the hub")
    parser.add_argument("--trust-remote-code", type=boolean, default=False, help="run code that the model brings")
    parser.add_argument("--data", required=True, help="file or folder to learn from, or hub:NAME[@REVISION][:SPLIT]")
    parser.add_argument("--eval-data", default=None, help="held-out data; unset: a part of --data is held out")
    parser.add_argument(
        "--eval-fraction", type=amount, default=0.05, help="part of --data that is held out, 0 for none"
    )
    parser.add_argument("--data-format", default="auto", help="how rows tell what is learned; auto: by their columns")
    parser.add_argument("--columns", default=None, help="names of columns, as role=name,role=name")
    parser.add_argument("--max-len", type=count, default=1024, help="tokens of a sequence; what is longer is cut")


def add_training(parser: argparse.ArgumentParser) -> None:
    """How long, how fast, with what."""
    parser.add_argument("--method", default="lora", help="what is trained")
    parser.add_argument("--epochs", type=rate, default=3.0, help="passes over the data")
    parser.add_argument("--max-steps", type=int, default=0, help="updates, in place of --epochs; 0: by --epochs")
    parser.add_argument("--micro-batch", type=count, default=1, help="samples of a step on one device")
    parser.add_argument("--grad-accum", type=count, default=8, help="steps for one update")
    parser.add_argument("--lr", type=rate, default=None, help="peak learning rate; unset: by the method")
    parser.add_argument("--warmup", type=amount, default=0.03, help="updates until the peak; below 1: their share")
    parser.add_argument("--weight-decay", type=amount, default=0.0)
    parser.add_argument("--max-grad-norm", type=amount, default=1.0, help="longer gradients are clipped; 0: never")
    parser.add_argument("--optimizer", default="adamw_torch", help="as transformers names it, e.g. paged_adamw_8bit")
    parser.add_argument("--scheduler", default="cosine", help="as transformers names it, e.g. linear, constant")
    parser.add_argument("--seed", type=int, default=42, help="of everything that is drawn")


def add_hardware(parser: argparse.ArgumentParser) -> None:
    """Numbers, memory, devices."""
    parser.add_argument(
        "--precision", choices=("auto", "bf16", "fp16", "fp32"), default="auto", help="of the arithmetic"
    )
    parser.add_argument("--quant-bits", type=int, choices=(4, 8), default=4, help="bits of frozen weights (qlora)")
    parser.add_argument(
        "--grad-checkpointing", type=boolean, default=False, help="less memory for about a third more time"
    )
    parser.add_argument("--attn", default="auto", help="attention: auto, sdpa, eager, flash_attention_2")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that bring batches, for each device")
    parser.add_argument("--fsdp", choices=("off", "full_shard", "shard_grad_op", "full_shard_offload"), default="off")
    parser.add_argument(
        "--deepspeed", choices=("off", "zero2", "zero3", "zero2_offload", "zero3_offload"), default="off"
    )


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """LoRA."""
    parser.add_argument("--lora-rank", type=count, default=16)
    parser.add_argument("--lora-alpha", type=rate, default=None, help="scale of the adapter; unset: twice the rank")
    parser.add_argument("--lora-dropout", type=amount, default=0.05)
    parser.add_argument(
        "--lora-targets", default="all-linear", help="layers that get an adapter: all-linear, or names with ,"
    )
    parser.add_argument("--packing", type=boolean, default=False, help="several short samples in one sequence")


def add_keeping(parser: argparse.ArgumentParser) -> None:
    """What is written, and when."""
    parser.add_argument("--output-dir", default="outputs", help="weights, checkpoints, metrics, model card")
    parser.add_argument("--logging-steps", type=count, default=1, help="updates between two lines of metrics")
    parser.add_argument("--eval-steps", type=int, default=0, help="updates between two evaluations; 0: each epoch")
    parser.add_argument("--save-steps", type=count, default=100, help="updates between two checkpoints")
    parser.add_argument("--save-total-limit", type=count, default=2, help="checkpoints that are kept")
    parser.add_argument("--resume-from-checkpoint", default="auto", help="auto: the newest whole one; never; or a path")
    parser.add_argument("--stop-on-nan", type=boolean, default=True, help="end where the loss is no number any more")
    parser.add_argument(
        "--check-only", type=boolean, nargs="?", const=True, default=False, help="look at all that is given, then end"
    )
