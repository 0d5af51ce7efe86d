"""Small trainings in the manners in which people write them; scenarios put their faults into them.

Each really trains with numpy or the standard library, within a second. The texts hold places (`#<NAME>#`) that a
scenario fills in; what is not filled in falls away.
"""

import re

POINTS = "x,y\n" + "".join(f"{n / 8},{n / 4 + 0.5}\n" for n in range(-8, 9))
REVIEWS = "".join(
    f'{{"text": "{text}", "label": {label}}}\n'
    for text, label in (
        ("a fine and quiet film", 1),
        ("dull from the first minute", 0),
        ("the cast is fine", 1),
        ("a dull plot", 0),
        ("quiet and good", 1),
        ("bad and loud", 0),
    )
    * 8
)

_ARGPARSE = '''"""Fits a small regression by gradient descent."""
#<IMPORTS>#
import argparse
import csv
import json
import pathlib

import numpy as np
#<BEFORE>#

class SGD:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradient):
        self.weights -= self.lr * gradient


def read(path):
    with open(path, newline="") as file:
        rows = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    return np.array(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="points.csv", help="CSV with the columns x and y")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--output-dir", default="out")
    #<OPTIONS>#
    args = parser.parse_args()
    #<START>#
    points = read(args.data)
    #<READ>#
    weights, rng = np.zeros(2), np.random.default_rng(0)
    optimizer = SGD(weights, lr=args.learning_rate)
    for epoch in range(args.epochs):
        rng.shuffle(points)
        losses = []
        for at in range(0, len(points), args.batch_size):
            x, y = points[at : at + args.batch_size].T
            error = weights[0] * x + weights[1] - y
            losses.append(float(np.mean(error**2)))
            optimizer.step(2 * np.array([np.mean(error * x), np.mean(error)]))
        if epoch % 10 == 0:
            print(f"epoch {epoch} loss {np.mean(losses):.6g}", flush=True)
        #<EPOCH>#
    out = pathlib.Path(args.output_dir)
    #<SAVE>#
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.json").write_text(json.dumps(weights.tolist()))


if __name__ == "__main__":
    main()
'''

_CLICK = '''"""Trains a bag-of-words classifier on reviews."""
#<IMPORTS>#
import json
from pathlib import Path

import click
import numpy as np
#<BEFORE>#

@click.command()
@click.option("--train-file", default="reviews.jsonl", show_default=True)
@click.option("--num-epochs", default=30, show_default=True)
@click.option("--lr", default=0.5, show_default=True)
@click.option("--schedule", type=click.Choice(["constant", "linear", "cosine"]), default="constant")
@click.option("--save-to", default="checkpoints", show_default=True, help="output directory")
#<OPTIONS>#
def train(train_file, num_epochs, lr, schedule, save_to#<NAMES>#):
    #<START>#
    rows = [json.loads(line) for line in Path(train_file).read_text().splitlines()]
    words = sorted({word for row in rows for word in row["text"].split()})
    features = np.array([[row["text"].split().count(word) for word in words] for row in rows], float)
    labels = np.array([row["label"] for row in rows], float)
    weights = np.zeros(len(words))
    for epoch in range(num_epochs):
        share = {"constant": 1.0, "linear": 1 - epoch / num_epochs, "cosine": 0.5}[schedule]
        chances = 1 / (1 + np.exp(-features @ weights))
        train_loss = -np.mean(labels * np.log(chances) + (1 - labels) * np.log(1 - chances))
        weights -= lr * share * features.T @ (chances - labels) / len(rows)
        print(f"epoch={epoch} train_loss={train_loss:.4f}", flush=True)
        #<EPOCH>#
    place = Path(save_to)
    place.mkdir(parents=True, exist_ok=True)
    #<SAVE>#
    np.save(place / "classifier.npy", weights)


if __name__ == "__main__":
    train()
'''

_YAML = '''"""Trains a small network on rings. Everything is set in a YAML file."""
#<IMPORTS>#
import argparse
import os
from dataclasses import dataclass

import numpy as np
import yaml
#<BEFORE>#

@dataclass
class TrainingConfig:
    epochs: int = 20
    batch_size: int = 16
    learning_rate: float = 0.2
    hidden: int = 8
    num_workers: int = 0
    output_dir: str = "runs/rings"
    #<FIELDS>#


class Descent:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradients):
        for weight, gradient in zip(self.weights, gradients):
            weight -= self.lr * gradient


def rings(rng, count=128):
    radius, angle = rng.choice([0.5, 1.5], count), rng.uniform(0, 6.283, count)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) + rng.normal(0, 0.05, (count, 2))
    return x, (radius > 1).astype(float)


def train(config):
    #<START>#
    rng = np.random.default_rng(7)
    x, y = rings(rng)
    w1, w2 = rng.normal(0, 0.7, (2, config.hidden)), rng.normal(0, 0.7, config.hidden)
    optimizer = Descent([w1, w2], lr=config.learning_rate)
    for epoch in range(config.epochs):
        total = 0.0
        for at in range(0, len(x), config.batch_size):
            bx, by = x[at : at + config.batch_size], y[at : at + config.batch_size]
            h = np.tanh(bx @ w1)
            p = 1 / (1 + np.exp(-(h**2) @ w2))
            total += -np.sum(by * np.log(p + 1e-9) + (1 - by) * np.log(1 - p + 1e-9))
            d = (p - by) / len(bx)
            optimizer.step([bx.T @ (np.outer(d, w2) * 2 * h * (1 - h**2)), (h**2).T @ d])
        print({"epoch": epoch, "loss": round(float(total / len(x)), 4)}, flush=True)
        #<EPOCH>#
    os.makedirs(config.output_dir, exist_ok=True)
    #<SAVE>#
    np.savez(os.path.join(config.output_dir, "weights.npz"), w1=w1, w2=w2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="config.yaml")
    args = parser.parse_args()
    with open(args.config) as file:
        settings = yaml.safe_load(file)
    config = TrainingConfig(**settings["training"])
    train(config)


if __name__ == "__main__":
    main()
'''


def _filled(text: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        found = re.search(rf"^( *)#<{name}>#", text, re.MULTILINE)
        indent = found[1] if found else ""
        lines = value.strip("\n").splitlines()
        text = text.replace(f"#<{name}>#", f"\n{indent}".join(lines).replace(f"\n{indent}\n", "\n\n"))
    text = re.sub(r"^ *#<[A-Z]+>#\n", "", text, flags=re.MULTILINE)
    return re.sub(r"#<[A-Z]+>#", "", text)


def argparse_trainer(**places: str) -> str:
    """A regression over a CSV. Places: IMPORTS, BEFORE, OPTIONS, START, READ, EPOCH, SAVE. Leaves model.json."""
    return _filled(_ARGPARSE, places)


def click_trainer(**places: str) -> str:
    """A classifier of reviews. Places: IMPORTS, BEFORE, OPTIONS, NAMES, START, EPOCH, SAVE. Leaves classifier.npy."""
    return _filled(_CLICK, places)


def yaml_trainer(**places: str) -> str:
    """A network set by YAML. Places: IMPORTS, BEFORE, FIELDS, START, EPOCH, SAVE. Leaves weights.npz."""
    return _filled(_YAML, places)


def line(command: str = "python train.py", **places: str) -> dict[str, str]:
    """A whole repository of the argparse kind."""
    return {"README.md": readme("Slope", command), "train.py": argparse_trainer(**places), "points.csv": POINTS}


def reviews(command: str = "python finetune.py", **places: str) -> dict[str, str]:
    """A whole repository of the click kind."""
    files = {"README.md": readme("Reviews", command), "finetune.py": click_trainer(**places)}
    return {**files, "reviews.jsonl": REVIEWS}


def rings(config: str = "", command: str = "python main.py --config config.yaml", **places: str) -> dict[str, str]:
    """A whole repository of the YAML kind; `config`: the lines of its part `training`."""
    lines = config or "epochs: 20\nbatch_size: 16\nlearning_rate: 0.2\n"
    lines = f"{lines.strip()}\noutput_dir: runs/rings\n"
    text = "training:\n" + "".join(f"  {row}\n" for row in lines.strip().splitlines())
    return {"README.md": readme("Rings", command), "main.py": yaml_trainer(**places), "config.yaml": text}


def readme(title: str, command: str) -> str:
    return f"# {title}\n\nTraining:\n\n    {command}\n"
