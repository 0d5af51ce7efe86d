"""The texts of stand-in trainers, in the styles that repositories have: options of transformers' Trainer, `key=value`
overrides, a recipe, processes of torchrun, a shell script around one of them.

Each has a loss that is really computed, an output that is really written, and asks the module `runtime` (`stand_in`)
for the card. Only the standard library is imported, so that a job needs no environment of its own.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from bench.scenario import Expected, Scenario
from bench.scenarios.stand_in import inventory, runtime
from caravan.values.failure import FailureClass

LINE: Final = """

POINTS = [(n / 64 - 1, 2 * (n / 64 - 1) + 0.5) for n in range(128)]


class SGD:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradients):
        for name, gradient in gradients.items():
            self.weights[name] -= self.lr * gradient


def one_epoch(weights, optimizer):
    for start in range(0, len(POINTS), 16):
        part = POINTS[start : start + 16]
        errors = [weights["slope"] * x + weights["offset"] - y for x, y in part]
        slope = sum(2 * e * x for e, (x, _) in zip(errors, part)) / len(part)
        optimizer.step({"slope": slope, "offset": 2 * sum(errors) / len(part)})
    return sum(e * e for e in errors) / len(errors)
"""
"""A small fit that every trainer really does."""

HF: Final = (
    '''"""Fine-tunes a causal language model, with the options of transformers' Trainer."""

import argparse
import json
import os
import pathlib

import runtime


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_name_or_path", default="@MODEL@")
    parser.add_argument("--train_file", default="data/train.jsonl")
    parser.add_argument("--per_device_train_batch_size", type=int, default=@BATCH@)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--max_seq_length", type=int, default=@LENGTH@)
    parser.add_argument("--optim", default="adamw_torch",
                        choices=["adamw_torch", "adamw_bnb_8bit", "adafactor", "sgd"])
    parser.add_argument("--attn_implementation", default="@ATTENTION@", choices=["eager", "sdpa", "flash_attention_2"])
    parser.add_argument("--bf16", action="store_true", help="cards older than Ampere need --fp16")
    parser.add_argument("--fp16", action="store_true")
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--num_train_epochs", type=int, default=12)
    parser.add_argument("--output_dir", default="outputs")@OPTIONS@
    return parser.parse_args()
'''
    + LINE
    + """

def main():
    args = parse()
    rows = [json.loads(line)["text"] for line in pathlib.Path(args.train_file).read_text().splitlines()]
    print(f"{len(rows)} rows, {args}", flush=True)
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    card = runtime.start(int(os.environ.get("LOCAL_RANK", "0")))@START@
    if args.bf16:
        runtime.wants_bf16(card)
    if args.attn_implementation == "flash_attention_2":
        runtime.wants_flash(card, @FLASH@)
    shape = runtime.shape_of(args.model_name_or_path)
    card.cut = @CUT@
    print(f"effective batch {args.per_device_train_batch_size * args.gradient_accumulation_steps}", flush=True)
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=args.learning_rate)
    runtime.occupy(
        card, shape, batch=args.per_device_train_batch_size, length=args.max_seq_length, precision=precision,
        checkpointing=args.gradient_checkpointing, optimizer=args.optim, attention=args.attn_implementation@OCCUPY@
    )
    loss = runtime.train(lambda _: one_epoch(weights, optimizer), args.num_train_epochs)
    out = pathlib.Path(args.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_text(json.dumps(weights))
    (out / "trainer_state.json").write_text(json.dumps({"loss": loss}))
    print(f"train_loss {loss:.6f}, saved to {out}", flush=True)


if __name__ == "__main__":
    main()
"""
)

LORA: Final = """
    parser.add_argument("--use_lora", action="store_true", help="train adapters instead of all weights")
    parser.add_argument("--lora_r", type=int, default=16)
    parser.add_argument("--load_in_4bit", action="store_true")"""
"""Further options of `HF`."""
LORA_OCCUPY: Final = """,
        lora_rank=args.lora_r if args.use_lora else 0, bits=4 if args.load_in_4bit else 0,
        loaded="bf16" if args.use_lora else None,"""

RECIPE: Final = (
    '''"""Trains what a recipe says."""

import argparse
import json
import pathlib

import runtime


def read(path):
    """YAML as far as recipes need it: two levels of keys and plain values."""
    recipe, part = {}, None
    for line in pathlib.Path(path).read_text().splitlines():
        words = line.split("#")[0].rstrip()
        key, _, value = words.strip().partition(":")
        if not words.strip():
            continue
        if not value.strip():
            part = recipe.setdefault(key, {})
        elif words.startswith(" "):
            part[key] = json.loads(value)
        else:
            recipe[key] = value.strip()
    return recipe
'''
    + LINE
    + """

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="recipe.yaml")
    recipe = read(parser.parse_args().config)
    t = recipe["training"]
    print(f"batch {t['batch_size']}, effective batch {t['batch_size'] * t['gradient_accumulation_steps']}", flush=True)
    card = runtime.start()
    runtime.occupy(
        card, runtime.shape_of(recipe["model_dir"]), batch=t["batch_size"], length=t["seq_len"],
        precision=t["precision"], checkpointing=t.get("gradient_checkpointing", False), offset=@OFFSET@,
    )
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=t["learning_rate"])
    loss = runtime.train(lambda _: one_epoch(weights, optimizer), t["epochs"])
    out = pathlib.Path(recipe["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.safetensors").write_text(json.dumps(weights))
    print(f"final loss {loss:.6f}", flush=True)


if __name__ == "__main__":
    main()
"""
)
"""A recipe says all: `model_dir`, `output_dir` and a part `training`. `@OFFSET@`: GiB of what else is on the card."""

OWN: Final = (
    '''"""Pretrains a small transformer whose shape is told by options."""

import argparse
import json
import pathlib

import runtime


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--depth", type=int, default=@DEPTH@)
    p.add_argument("--dim", type=int, default=@DIM@)
    p.add_argument("--vocab", type=int, default=32000)
    p.add_argument("--ctx", type=int, default=@LENGTH@, help="tokens of a sample")
    p.add_argument("--bs", "--batch-size", dest="batch_size", type=int, default=@BATCH@)
    p.add_argument("--accum-steps", type=int, default=1)@OPTIONS@
    p.add_argument("--lr", type=float, default=0.1)
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--out", default="runs")
    return p.parse_args()
'''
    + LINE
    + """

def main():
    args = get_args()
    shape = runtime.Shape(args.depth, args.dim, 4 * args.dim, max(1, args.dim // 64), args.vocab, args.ctx)
    print(f"{shape.parameters / 1e6:.0f}M parameters, effective batch {args.batch_size * args.accum_steps}", flush=True)
    card = runtime.start()
    runtime.occupy(card, shape, batch=args.batch_size, length=args.ctx, precision="@PRECISION@"@OCCUPY@)
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=args.lr)
    loss = runtime.train(lambda _: one_epoch(weights, optimizer), args.epochs)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.pt").write_text(json.dumps(weights))
    print(f"final loss {loss:.6f}", flush=True)


if __name__ == "__main__":
    main()
"""
)
"""A model of one's own: nothing says its size but the options of the program."""

KEY_VALUE: Final = (
    '''"""python finetune.py key=value ... over the defaults in conf.json."""

import json
import pathlib
import sys

import runtime


def settings(words):
    conf = json.loads(pathlib.Path("conf.json").read_text())
    for word in words:
        key, _, value = word.partition("=")
        place, *rest = key.split(".")
        node = conf
        for name in rest:
            node, place = node[place], name
        if place not in node:
            raise SystemExit(f"Could not override '{key}'. Key '{place}' is not in struct")
        node[place] = json.loads(value) if value[:1] in "0123456789-.tf" else value
    return conf
'''
    + LINE
    + """

def main():
    cfg = settings(sys.argv[1:])
    print(json.dumps(cfg), flush=True)
    train = cfg["train"]
    card = runtime.start()
    runtime.occupy(card, runtime.shape_of(cfg["model"]), batch=train["batch_size"], length=train["max_len"],
                   precision=train["precision"], attention="eager", checkpointing=train["grad_ckpt"])
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=train["lr"])
    loss = runtime.train(lambda _: one_epoch(weights, optimizer), train["epochs"])
    out = pathlib.Path(cfg["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.bin").write_text(json.dumps(weights))
    print(f"final loss {loss:.6f}", flush=True)


if __name__ == "__main__":
    main()
"""
)

ROWS: Final = "\n".join(f'{{"text": "row {n} of the texts"}}' for n in range(24)) + "\n"


def hf(
    model: str,
    *,
    batch: int = 8,
    length: int = 1024,
    attention: str = "sdpa",
    options: str = "",
    occupy: str = "",
    flash: bool = True,
    start: str = "",
    cut: float = 0.0,
) -> str:
    """The trainer with transformers' options. `cut`: share of the card that is lost in pieces."""
    values = {"MODEL": model, "BATCH": batch, "LENGTH": length, "ATTENTION": attention}
    values |= {"START": start, "OPTIONS": options, "OCCUPY": occupy, "FLASH": flash, "CUT": cut}
    return filled(HF, values)


def filled(text: str, values: dict[str, object]) -> str:
    """The text with `@NAME@` replaced."""
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def own(
    *,
    depth: int = 24,
    dim: int = 1536,
    length: int = 2048,
    batch: int = 16,
    options: str = "",
    occupy: str = "",
    precision: str = "bf16",
) -> str:
    """The trainer of a model of one's own."""
    values = {"DEPTH": depth, "DIM": dim, "LENGTH": length, "BATCH": batch, "OPTIONS": options, "OCCUPY": occupy}
    return filled(OWN, {**values, "PRECISION": precision})


def written(trainer: str) -> tuple[str, ...]:
    """The names of the files of weights that a trainer's text writes at its end."""
    return tuple(dict.fromkeys(re.findall(r'\(out / "(model\.\w+)"\)', trainer)))


def played(
    name: str,
    trainer: str,
    command: str,
    *nodes: Mapping[str, Any],
    expected: Expected = Expected.FIXED,
    failure: FailureClass = FailureClass.CUDA_OOM,
    changed: tuple[str, ...] = (),
    within: int = 3,
    sets: tuple[str, ...] = (),
    files: Mapping[str, str] | None = None,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    script: str = "train.py",
    torch: str = "2.4.1+cu121",
    **more: Any,
) -> Scenario:
    """A scenario whose repository has that trainer, documented by that command."""
    # Names of their own: all scenarios share a store, in which a node that broke is one that others keep away from.
    nodes = tuple({**node, "name": f"{name}-{node['name']}"} for node in nodes)
    facts = {f"{name}-{node}": known for node, known in (facts or {}).items()}
    readme = f"# Training\n\n    {command}\n"
    told = {script: trainer, "runtime.py": runtime(nodes, facts, torch), "README.md": readme, "data/train.jsonl": ROWS}
    usual = () if any(s.startswith("resources.gpus=") for s in sets) else ("resources.gpus=1",)
    return Scenario(
        name=f"gpu-{name}",
        failure=failure,
        expected=expected,
        files={**told, **(files or {})},
        inventory=inventory(*nodes),
        sets=("limits.max_run_s=600", "resources.memory_mb=256", "smoke.on=false", *usual, *sets),
        environment={"CARAVAN_USD_PER_GPU_HOUR": "0.5"},
        changed=changed,
        within=within,
        outputs=written(trainer),
        stand_in=True,
        **{"seconds": 300, **more},
    )
