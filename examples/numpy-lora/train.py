"""Fine-tune a low-rank adapter of a small character model on a text. NumPy on one CPU core, a few seconds.

The base model is pretrained on the spot on `data/base.txt` (same seed, same weights); then it is frozen and only the
adapter learns. A batch depends on the seed and the step alone, so a resumed training ends exactly like an undisturbed
one. SIGTERM writes a checkpoint and ends with exit code 143.
"""

import argparse
import hashlib
import json
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np
from model import Adam, adapted, adapter_gradients, loss_and_gradients, new_adapter, new_weights

HERE = Path(__file__).resolve().parent
STOP = []  # filled by SIGTERM


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=HERE / "data" / "lighthouse.txt", help="text to fine-tune on")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="adapter, metrics and checkpoints")
    parser.add_argument("--epochs", type=float, default=60, help="passes over the text")
    parser.add_argument("--steps", type=int, default=None, help="number of updates, in place of --epochs")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences in a batch")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seq-len", type=int, default=32, help="characters in a sequence")
    parser.add_argument("--gradient-accumulation", type=int, default=1, help="batches for each update")
    parser.add_argument("--lora-rank", type=int, default=4)
    parser.add_argument("--lora-alpha", type=float, default=8, help="the adapter is scaled by alpha / rank")
    parser.add_argument("--pretrain-steps", type=int, default=600, help="updates that make the base model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=10, help="steps between two lines of the log")
    parser.add_argument("--eval-every", type=int, default=25, help="steps between two looks at the held-out text")
    parser.add_argument("--save-every", type=int, default=100, help="steps between two checkpoints")
    parser.add_argument("--resume-from", default=None, help="a checkpoint, or 'auto' for the newest in --output-dir")
    args = parser.parse_args()
    counts = ("batch_size", "seq_len", "gradient_accumulation", "lora_rank", "log_every", "eval_every", "save_every")
    for name in counts:
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.steps is not None and args.steps < 1:
        parser.error("--steps must be at least 1")
    if not (args.learning_rate > 0 and args.epochs > 0 and args.pretrain_steps >= 0):
        parser.error("--learning-rate and --epochs must be above 0, --pretrain-steps not below")
    return args


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: STOP.append("SIGTERM"))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    base_text, text = read_text(HERE / "data" / "base.txt"), read_text(args.data)
    characters = sorted(set(base_text + text))
    train, held_out = split(encode(text, characters), args)
    per_step = args.batch_size * args.seq_len * args.gradient_accumulation
    steps = args.steps or max(1, math.ceil(args.epochs * len(train) / per_step))
    config = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    config.update(steps=steps, characters="".join(characters), numpy=np.__version__)
    config["data_sha256"] = hashlib.sha256(text.encode()).hexdigest()

    weights = pretrain(encode(base_text, characters), len(characters), args)
    adapter = new_adapter(weights, args.lora_rank, np.random.default_rng([args.seed, 1]))
    adam = Adam(adapter)
    done = resume(args, config, adapter, adam)
    done = train_adapter(args, config, weights, adapter, adam, train, held_out, done)

    loss = evaluate(weights, adapter, args, held_out)
    save_arrays(args.output_dir / "adapter.npz", adapter)
    save_text(args.output_dir / "config.json", json.dumps({**config, "eval_loss": loss}, indent=2) + "\n")
    print(f"done after {done} steps: eval_loss {loss:.6f}, adapter in {args.output_dir / 'adapter.npz'}", flush=True)


def pretrain(tokens, vocabulary, args):
    """The base model: fresh weights, then a short training on the base text. The same for the same seed."""
    weights = new_weights(vocabulary, args.seq_len, np.random.default_rng([args.seed, 0]))
    adam = Adam(weights)
    for step in range(1, args.pretrain_steps + 1):
        if STOP:
            stop("before the first step of the fine-tuning; nothing to save")
        rng = np.random.default_rng([args.seed, 2, step])
        loss, gradients = loss_and_gradients(weights, *batch(tokens, 16, args.seq_len, rng))
        adam.step(weights, gradients, 3e-3, step)
        if step % 200 == 0:
            print(f"base model: step {step}/{args.pretrain_steps} loss {loss:.4f}", flush=True)
    return weights


def train_adapter(args, config, weights, adapter, adam, tokens, held_out, done):
    """Run the steps after `done`, log them, write checkpoints. Gives the number of the last step."""
    scale, since, counted = args.lora_alpha / args.lora_rank, time.perf_counter(), 0
    if done == 0:
        log_held_out(args, 0, evaluate(weights, adapter, args, held_out))  # the base model: B starts at zero
    for step in range(done + 1, config["steps"] + 1):
        loss, gradients = 0.0, None
        for part in range(args.gradient_accumulation):
            rng = np.random.default_rng([args.seed, 3, step, part])
            sample = batch(tokens, args.batch_size, args.seq_len, rng)
            part_loss, g = loss_and_gradients(adapted(weights, adapter, scale), *sample)
            g = adapter_gradients(g, adapter, scale)
            loss += part_loss / args.gradient_accumulation
            gradients = g if gradients is None else {k: gradients[k] + g[k] for k in g}
        if not math.isfinite(loss):
            sys.exit(f"error: the loss is {loss} at step {step}; try a smaller --learning-rate")
        adam.step(adapter, {k: g / args.gradient_accumulation for k, g in gradients.items()}, args.learning_rate, step)
        counted += args.batch_size * args.seq_len * args.gradient_accumulation
        if step % args.log_every == 0 or step in (1, config["steps"]):
            speed = counted / max(time.perf_counter() - since, 1e-9)
            since, counted = time.perf_counter(), 0
            log(args, {"step": step, "loss": round(loss, 6), "tokens_per_second": round(speed)}, config["steps"])
        if step % args.eval_every == 0 or step == config["steps"]:
            log_held_out(args, step, evaluate(weights, adapter, args, held_out))
        if STOP or step % args.save_every == 0:
            save_checkpoint(args, config, adapter, adam, step)
        if STOP:
            stop(f"after step {step}; continue with --resume-from auto")
    return config["steps"]


def evaluate(weights, adapter, args, tokens):
    """The loss on the held-out end of the text, in nats per character."""
    ready = adapted(weights, adapter, args.lora_alpha / args.lora_rank)
    count = (len(tokens) - 1) // args.seq_len
    x = tokens[: count * args.seq_len].reshape(count, args.seq_len)
    y = tokens[1 : count * args.seq_len + 1].reshape(count, args.seq_len)
    return loss_and_gradients(ready, x, y, with_gradients=False)[0]


# ---- text and batches


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: can't read {path}: {error}")


def encode(text, characters):
    index = {c: i for i, c in enumerate(characters)}
    return np.array([index[c] for c in text], np.int64)


def split(tokens, args):
    """The text's beginning to learn from and its last tenth (at least two sequences) to judge by."""
    held_out = max(len(tokens) // 10, 2 * args.seq_len + 1)
    if len(tokens) < held_out + args.seq_len + 1:
        sys.exit(f"error: {args.data} has {len(tokens)} characters: too few for --seq-len {args.seq_len}")
    return tokens[:-held_out], tokens[-held_out:]


def batch(tokens, size, length, rng):
    starts = rng.integers(0, len(tokens) - length, size)
    windows = starts[:, None] + np.arange(length)
    return tokens[windows], tokens[windows + 1]


# ---- log, checkpoints, files that appear whole


def log(args, row, steps):
    print(f"step {row['step']}/{steps} loss {row['loss']:.4f} tokens/s {row['tokens_per_second']}", flush=True)
    write_row(args, row)


def log_held_out(args, step, loss):
    print(f"step {step} eval_loss {loss:.6f}", flush=True)
    write_row(args, {"step": step, "eval_loss": round(loss, 6)})


def write_row(args, row):
    with (args.output_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def save_checkpoint(args, config, adapter, adam, step):
    arrays = {f"adapter/{k}": v for k, v in adapter.items()}
    arrays.update({f"mean/{k}": v for k, v in adam.mean.items()})
    arrays.update({f"square/{k}": v for k, v in adam.square.items()})
    arrays["step"], arrays["config"] = np.array(step), np.array(json.dumps(config))
    path = args.output_dir / f"checkpoint-{step:06d}.npz"
    save_arrays(path, arrays)
    for old in sorted(args.output_dir.glob("checkpoint-*.npz"))[:-2]:
        old.unlink()
    print(f"saved {path}", flush=True)


def resume(args, config, adapter, adam):
    """Fill adapter and optimizer from a checkpoint and give its step; 0 where there is nothing to resume from."""
    metrics = args.output_dir / "metrics.jsonl"
    path = Path(args.resume_from) if args.resume_from else None
    if args.resume_from == "auto":
        path = max(args.output_dir.glob("checkpoint-*.npz"), default=None)
    if path is None:
        metrics.unlink(missing_ok=True)
        return 0
    if not path.is_file():
        sys.exit(f"error: there is no checkpoint {path}")
    with np.load(path) as saved:
        before = json.loads(str(saved["config"]))
        fixed = ("data_sha256", "seed", "seq_len", "lora_rank", "lora_alpha", "pretrain_steps", "characters")
        changed = [k for k in fixed if before[k] != config[k]]
        if changed:
            sys.exit(f"error: {path} was written with another {', '.join(changed)}")
        for k in adapter:
            adapter[k], adam.mean[k], adam.square[k] = saved[f"adapter/{k}"], saved[f"mean/{k}"], saved[f"square/{k}"]
        step = int(saved["step"])
    if metrics.exists():  # rows after the checkpoint will be written again
        rows = [r for r in metrics.read_text(encoding="utf-8").splitlines() if json.loads(r)["step"] <= step]
        save_text(metrics, "".join(r + "\n" for r in rows))
    print(f"resumed from {path} at step {step}", flush=True)
    return step


def save_arrays(path, arrays):
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)


def save_text(path, text):
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def stop(where):
    print(f"stopped by {STOP[0]} {where}", flush=True)
    sys.exit(143)


if __name__ == "__main__":
    main()
