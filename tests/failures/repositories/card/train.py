"""Trains a line with adapters' usual options. It plays what a card of the job's size would say: no card is used.

What it would need on the card follows from its real arguments; what the card has, from the environment of its job.
"""

import argparse
import os
import pathlib


class SGD:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradients):
        for name, gradient in gradients.items():
            self.weights[name] -= self.lr * gradient


class OutOfMemoryError(RuntimeError):
    __module__ = "torch"


def need_gib(args):
    """Weights and optimizer, and activations that grow with the batch and the sequence."""
    activations = args.per_device_train_batch_size * args.max_seq_length / 2048 * 0.8
    return args.model_gib + activations * (0.3 if args.gradient_checkpointing else 1.0)


def reserve(args):
    total = int(os.environ["CARD_MIB"]) / 1024
    need = need_gib(args)
    if need > total:
        free = max(total - args.model_gib, 0.0)
        raise OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {need - min(args.model_gib, total):.2f} GiB. GPU 0 has a total "
            f"capacity of {total:.2f} GiB of which {free:.2f} GiB is free. Process 4711 has {total - free:.2f} GiB "
            "memory in use. If reserved but unallocated memory is large try setting "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-gib", type=float, default=12.0, help="size of weights and optimizer on the card")
    parser.add_argument("--per_device_train_batch_size", type=int, default=16)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument("--max_seq_length", type=int, default=2048)
    parser.add_argument("--learning_rate", type=float, default=0.1)
    parser.add_argument("--output_dir", default="out")
    args = parser.parse_args()
    batch, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
    print(f"effective batch {batch * steps}", flush=True)
    points = [(n / 64 - 1, 2 * (n / 64 - 1) + 0.5) for n in range(128)]
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=args.learning_rate)
    for epoch in range(20):
        for start in range(0, len(points), batch * steps):
            reserve(args)
            part = points[start : start + batch * steps]
            errors = [weights["slope"] * x + weights["offset"] - y for x, y in part]
            slope = sum(2 * e * x for e, (x, _) in zip(errors, part)) / len(part)
            optimizer.step({"slope": slope, "offset": 2 * sum(errors) / len(part)})
        print(f"epoch {epoch} loss {sum(e * e for e in errors) / len(errors):.6g}", flush=True)
    out = pathlib.Path(args.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "weights.txt").write_text(repr(weights))


if __name__ == "__main__":
    main()
