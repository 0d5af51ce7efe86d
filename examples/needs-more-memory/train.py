"""Fine-tune a small character model on a text, on one CPU core, with memory that grows with the text. NumPy only.

The base model learns on the spot from `data/base.txt` (same seed, same weights). For the fine-tuning the features of
all windows of the text are computed once and kept as float32: fast epochs, paid for with memory.
"""

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np
from model import Adam, loss_and_gradients, new_embedding, new_weights, window_features

HERE = Path(__file__).resolve().parent
BASE_STEPS = 40  # updates that make the base model
STOP = []  # filled by SIGTERM


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE / "data" / "railway.txt", help="text to fine-tune on")
    parser.add_argument("--max-chars", type=int, default=None, help="use only so many characters of the text")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="weights, metrics and checkpoints")
    parser.add_argument("--epochs", type=float, default=1, help="passes over the text")
    parser.add_argument("--batch-size", type=int, default=512, help="windows in a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--context", type=int, default=128, help="characters in a window")
    parser.add_argument("--width", type=int, default=32, help="numbers for each character")
    parser.add_argument("--hidden", type=int, default=16, help="size of the hidden layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=10, help="steps between two lines of the log")
    parser.add_argument("--save-every", type=int, default=200, help="steps between two checkpoints")
    args = parser.parse_args()
    for name in ("batch_size", "context", "width", "hidden", "log_every", "save_every"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if not (args.learning_rate > 0 and args.epochs > 0):
        parser.error("--learning-rate and --epochs must be above 0")
    return args


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: STOP.append("SIGTERM"))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    base_text, text = read_text(HERE / "data" / "base.txt"), read_text(args.data)[: args.max_chars]
    if len(text) <= 2 * args.context:
        sys.exit(f"error: the text has {len(text)} characters: too few for --context {args.context}")
    alphabet = sorted(set(base_text + text))
    rng = np.random.default_rng([args.seed, 0])
    embedding = new_embedding(len(alphabet), args.width, rng)
    weights = new_weights(args.context * args.width, args.hidden, len(alphabet), rng)
    train_base(args, weights, encode(base_text, alphabet), embedding)

    size = (len(text) - args.context) * args.context * args.width * 4
    print(f"{len(text)} characters: {size / 2**20:.0f} MiB of features", flush=True)
    features, targets = window_features(encode(text, alphabet), embedding, args.context, report_features)
    held_out = max(1, len(features) // 50)
    learned = slice(0, len(features) - held_out)
    steps = max(1, math.ceil(args.epochs * learned.stop / args.batch_size))
    before = evaluate(weights, features[learned.stop :], targets[learned.stop :])
    fine_tune(args, weights, features[learned], targets[learned], steps)
    after = evaluate(weights, features[learned.stop :], targets[learned.stop :])

    config = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    config.update(steps=steps, alphabet="".join(alphabet), eval_loss_before=before, eval_loss=after)
    save_arrays(args.output_dir / "model.npz", {"embedding": embedding, **weights})
    save_text(args.output_dir / "config.json", json.dumps(config, indent=2) + "\n")
    print(f"done after {steps} steps: eval_loss {after:.4f}, at first {before:.4f}", flush=True)


def train_base(args, weights, tokens, embedding):
    """Teach fresh weights the base text. The same for the same seed."""
    features, targets = window_features(tokens, embedding, args.context)
    adam, rng = Adam(weights), np.random.default_rng([args.seed, 1])
    for _ in range(BASE_STEPS):
        batch = rng.integers(0, len(features), 256)
        loss, gradients = loss_and_gradients(weights, features[batch], targets[batch])
        adam.step(weights, gradients, 3e-3)
    print(f"base model: loss {loss:.4f} after {BASE_STEPS} steps", flush=True)


def fine_tune(args, weights, features, targets, steps):
    """Passes over all windows in an order of their own; logs and checkpoints on the way."""
    metrics = args.output_dir / "metrics.jsonl"
    metrics.unlink(missing_ok=True)
    adam, rng, order = Adam(weights), np.random.default_rng([args.seed, 2]), np.array([], np.int64)
    since, counted = time.perf_counter(), 0
    for step in range(1, steps + 1):
        if len(order) == 0:
            order = rng.permutation(len(features))
        batch, order = np.sort(order[: args.batch_size]), order[args.batch_size :]
        loss, gradients = loss_and_gradients(weights, features[batch], targets[batch])
        if not math.isfinite(loss):
            sys.exit(f"error: the loss is {loss} at step {step}; try a smaller --learning-rate")
        adam.step(weights, gradients, args.learning_rate)
        counted += len(batch)
        if step % args.log_every == 0 or step in (1, steps):
            speed = counted / max(time.perf_counter() - since, 1e-9)
            since, counted = time.perf_counter(), 0
            row = {"step": step, "loss": round(loss, 6), "tokens_per_second": round(speed)}
            print(f"step {step}/{steps} loss {loss:.4f} tokens/s {row['tokens_per_second']}", flush=True)
            with metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if STOP or step % args.save_every == 0 or step == steps:
            save_checkpoint(args, weights, step)
        if STOP:
            print(f"stopped by {STOP[0]} after step {step}", flush=True)
            sys.exit(143)


def evaluate(weights, features, targets):
    """The loss on the held-out end of the text, in nats per character."""
    return loss_and_gradients(weights, features, targets)[0]


def report_features(done, count):
    if STOP:
        print(f"stopped by {STOP[0]} before the first step; nothing to save", flush=True)
        sys.exit(143)
    if done == count:
        print(f"features of {count} windows are ready", flush=True)


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: can't read {path}: {error}")


def encode(text, alphabet):
    index = {c: i for i, c in enumerate(alphabet)}
    return np.array([index[c] for c in text], np.int64)


# ---- files that appear whole


def save_checkpoint(args, weights, step):
    save_arrays(args.output_dir / f"checkpoint-{step:06d}.npz", {**weights, "step": np.array(step)})
    for old in sorted(args.output_dir.glob("checkpoint-*.npz"))[:-2]:
        old.unlink()


def save_arrays(path, arrays):
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def save_text(path, text):
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
