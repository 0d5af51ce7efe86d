"""Trains a line by a recipe file: no option sets a batch. It plays what a card of the job's size would say.

What it would need on the card follows from the recipe; what the card has, from the environment of its job.
"""

import argparse
import json
import os
import pathlib
import tomllib


class SGD:
    def __init__(self, weights, lr):
        self.weights, self.lr = weights, lr

    def step(self, gradients):
        for name, gradient in gradients.items():
            self.weights[name] -= self.lr * gradient


class OutOfMemoryError(RuntimeError):
    __module__ = "torch"


def read_recipe(path):
    """JSON, TOML, or YAML as far as recipes need it: two levels of keys and plain values."""
    text = pathlib.Path(path).read_text()
    if path.endswith(".json"):
        return json.loads(text)
    if path.endswith(".toml"):
        return tomllib.loads(text)
    recipe, part = {}, None
    for line in text.splitlines():
        words = line.split("#")[0]
        key, _, value = words.strip().partition(": ")
        if not words.strip():
            continue
        if words.rstrip().endswith(":"):
            part = recipe.setdefault(words.strip()[:-1], {})
        elif words.startswith(" "):
            part[key] = json.loads(value)
        else:
            recipe[key] = value.strip()
    return recipe


def reserve(training):
    total = int(os.environ["CARD_MIB"]) / 1024
    need = 12 + 0.8 * training["batch_size"]
    if need > total:
        raise OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {need - 12:.2f} GiB. GPU 0 has a total capacity of {total:.2f} GiB "
            f"of which {total - 12:.2f} GiB is free. Process 4711 has 12.00 GiB memory in use. If reserved but "
            "unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="recipe.yaml")
    recipe = read_recipe(parser.parse_args().config)
    training = recipe["training"]
    batch, steps = training["batch_size"], training["gradient_accumulation_steps"]
    print(f"batch {batch}, effective batch {batch * steps}, rate {training['learning_rate']}", flush=True)
    points = [(n / 64 - 1, 2 * (n / 64 - 1) + 0.5) for n in range(128)]
    weights = {"slope": 0.0, "offset": 0.0}
    optimizer = SGD(weights, lr=training["learning_rate"])
    for epoch in range(training["epochs"]):
        for start in range(0, len(points), batch * steps):
            reserve(training)
            part = points[start : start + batch * steps]
            errors = [weights["slope"] * x + weights["offset"] - y for x, y in part]
            slope = sum(2 * e * x for e, (x, _) in zip(errors, part)) / len(part)
            optimizer.step({"slope": slope, "offset": 2 * sum(errors) / len(part)})
        print(f"epoch {epoch} loss {sum(e * e for e in errors) / len(errors):.6g}", flush=True)
    out = pathlib.Path(recipe["output_dir"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "weights.txt").write_text(repr(weights))
    print("written to", out)


if __name__ == "__main__":
    main()
