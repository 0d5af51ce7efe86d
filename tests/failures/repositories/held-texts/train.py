"""Trains a bigram model on noisy copies of a text, which it holds in memory all the time. Standard library only."""

import argparse
import os
import pathlib
import random
import resource
import time


class SGD:
    def __init__(self, chances, lr):
        self.chances, self.lr = chances, lr

    def step(self, first, second):
        row = self.chances[first]
        for letter in row:
            row[letter] += self.lr * ((letter == second) - row[letter])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="text.txt")
    parser.add_argument("--copies", type=int, default=90, help="noisy copies of the text, of 1 MB each")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--output-dir", default="out")
    parser.add_argument("--polite", action="store_true", help="hold this process to the job's memory itself")
    args = parser.parse_args()
    if args.polite:
        limit = (int(os.environ["NOMAD_MEMORY_LIMIT"]) - 16) * 2**20  # the task's shell and its sampler live there too
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    text = pathlib.Path(args.data).read_bytes()
    held = []
    for number in range(args.copies):
        copy = bytearray(text * (2**20 // len(text)))
        copy[number % len(copy)] = 32
        held.append(copy)
    print(f"{len(held)} copies, {sum(map(len, held)) >> 20} MB", flush=True)
    time.sleep(0.15)  # longer than a cluster that only looks at memory now and then looks away
    letters = sorted(set(text))
    model = {a: {b: 1 / len(letters) for b in letters} for a in letters}
    optimizer, rng = SGD(model, lr=args.learning_rate), random.Random(0)
    for epoch in range(args.epochs):
        loss, steps = 0.0, 300
        for _ in range(steps):
            copy = rng.choice(held)
            at = rng.randrange(len(text) - 1)
            first, second = copy[at], copy[at + 1]
            loss += 1 - model[first].get(second, 0.0)
            optimizer.step(first, second)
        print(f"epoch {epoch} loss {loss / steps:.4f}", flush=True)
    out = pathlib.Path(args.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.txt").write_text(repr(model[letters[0]]))


if __name__ == "__main__":
    main()
