"""Healthy runs, some of which look ill: they must be left alone."""

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import inventory
from caravan.values.failure import FailureClass

PLAIN = {
    "README.md": "# Slope\n\n    python train.py --data points.csv --epochs 200\n",
    "points.csv": "x,y\n" + "".join(f"{n / 8},{n / 4 + 0.5}\n" for n in range(-8, 9)),
    "train.py": '''"""Fits a line by gradient descent."""

import argparse
import csv
import json
import pathlib


class SGD:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradients):
        for name, gradient in gradients.items():
            self.weights[name] -= self.lr * gradient


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="points.csv")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--output-dir", default="out")
    args = parser.parse_args()
    with open(args.data, newline="") as file:
        points = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=args.learning_rate)
    for epoch in range(args.epochs):
        errors = [weights["slope"] * x + weights["offset"] - y for x, y in points]
        if epoch % 20 == 0:
            print(f"epoch {epoch} loss {sum(e * e for e in errors) / len(errors):.6g}", flush=True)
        slope = 2 * sum(e * x for e, (x, _) in zip(errors, points)) / len(points)
        optimizer.step({"slope": slope, "offset": 2 * sum(errors) / len(points)})
    out = pathlib.Path(args.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "weights.json").write_text(json.dumps(weights))


if __name__ == "__main__":
    main()
''',
}

SCENARIOS = (
    Scenario(
        "control-plain", FailureClass.NO_FAILURE, Expected.UNTOUCHED, PLAIN, inventory(), outputs=("weights.json",)
    ),
)
