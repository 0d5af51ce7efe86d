"""Fits a line to points by gradient descent. Standard library only."""

import argparse
import csv
import math
import pathlib


class SGD:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradients):
        for name, gradient in gradients.items():
            self.weights[name] -= self.lr * gradient


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="points.csv", help="CSV with the columns x and y")
    parser.add_argument("--num-epochs", type=int, default=400)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--schedule", choices=["constant", "linear"], default="constant")
    parser.add_argument("--keep-going", action="store_true", help="log a loss that is no number and go on")
    parser.add_argument("--output-dir", default="out")
    args = parser.parse_args()
    with open(args.data, newline="") as file:
        points = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=args.learning_rate)
    for epoch in range(args.num_epochs):
        errors = [weights["slope"] * x + weights["offset"] - y for x, y in points]
        loss = sum(e * e for e in errors) / len(errors)
        if epoch % 50 == 0 or epoch == args.num_epochs - 1 or not math.isfinite(loss):
            print(f"epoch {epoch} loss {loss:.6g}", flush=True)
        if not math.isfinite(loss) and not args.keep_going:
            raise SystemExit(f"loss is {loss} at epoch {epoch}, stopping")
        share = 1.0 if args.schedule == "constant" else 1 - epoch / args.num_epochs
        slope = 2 * share * sum(e * x for e, (x, _) in zip(errors, points)) / len(points)
        optimizer.step({"slope": slope, "offset": 2 * share * sum(errors) / len(points)})
    out = pathlib.Path(args.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "weights.txt").write_text(repr(weights))


if __name__ == "__main__":
    main()
