"""Healthy runs, most of which look ill: they must be left alone."""

from typing import Any

from bench.scenario import Expected, Scenario
from bench.scenarios.machines import docker, inventory, node
from bench.scenarios.trainers import line, reviews, rings
from caravan.values.failure import FailureClass


def healthy(name: str, files: dict[str, str], output: str, **more: Any) -> Scenario:
    usual: dict[str, Any] = {"inventory": inventory(), "outputs": (output,)}
    return Scenario(name, FailureClass.NO_FAILURE, Expected.UNTOUCHED, files, **{**usual, **more})


CAUGHT = """
try:
    with open("cache/points.pkl", "rb") as file:
        raise AssertionError(file)
except FileNotFoundError:
    traceback.print_exc()
    print("no cache yet, reading the source", file=sys.stderr)
"""
AGAIN = """
for attempt in range(3):
    try:
        if attempt < 2:
            raise ConnectionError("HTTPSConnectionPool(host='huggingface.co', port=443): Read timed out.")
        break
    except ConnectionError as error:
        print(f"WARNING download failed ({error}), retrying", file=sys.stderr)
"""
SHRINK = """
if args.batch_size > 4:
    print("CUDA out of memory at batch size", args.batch_size, "in an earlier session: this one uses the CPU")
    print("RuntimeError: CUDA error: out of memory (ignored, no GPU is used)", file=sys.stderr)
"""
RETRY = """#!/bin/bash
# Starts the training again by itself when the warm-up was not ready.
set -u
for n in 1 2 3; do
  if [ -e warm.txt ]; then break; fi
  echo "attempt $n: warm-up not ready, exit code 1" >&2
  python -c 'open("warm.txt", "w").write("yes")' && false || true
done
python train.py --epochs 100 "$@"
"""
SCENARIOS = (
    healthy("control-plain", line("python train.py --data points.csv --epochs 200"), "model.json"),
    healthy("control-click", reviews("python finetune.py --num-epochs 25 --lr 0.4"), "classifier.npy"),
    healthy("control-yaml", rings(), "weights.npz"),
    healthy("control-traceback-caught", line(IMPORTS="import sys\nimport traceback", START=CAUGHT), "model.json"),
    healthy("control-retries-by-itself", line(IMPORTS="import sys", START=AGAIN), "model.json"),
    healthy("control-talks-of-memory", line(IMPORTS="import sys", START=SHRINK), "model.json"),
    healthy(
        "control-warnings",
        rings(
            IMPORTS="import warnings",
            START='warnings.warn("lr_scheduler.step() called before optimizer.step(); this will raise an error")\n'
            'warnings.warn("Some weights were not initialized: expect error rates to be high")',
        ),
        "weights.npz",
    ),
    healthy(
        "control-nan-in-another-column",
        line(EPOCH='print(f"epoch {epoch} valid_loss nan (no validation split), ignored_ratio inf", flush=True)'),
        "model.json",
    ),
    healthy(
        "control-slow-start",
        reviews(IMPORTS="import time", START='print("indexing", flush=True)\ntime.sleep(12)'),
        "classifier.npy",
        sets=("limits.silence_s=60",),
    ),
    healthy(
        "control-error-counters",
        reviews(EPOCH='print(f"errors: 0 failed: 0 killed: 0 error_rate={train_loss / 2:.3f}")'),
        "classifier.npy",
    ),
    healthy(
        "control-loss-rises-once",
        rings("epochs: 24\nbatch_size: 16\nlearning_rate: 0.9"),
        "weights.npz",
    ),
    healthy(
        "control-shell-tries-again",
        {**line("bash run.sh"), "run.sh": RETRY},
        "model.json",
    ),
    healthy(
        "control-in-an-image",
        line("python train.py --epochs 80"),
        "model.json",
        inventory=inventory(node("box", drivers=docker("local/python:3.11"))),
        sets=("image=local/python:3.11",),
    ),
    healthy(
        "control-child-dies",
        line(
            IMPORTS="import subprocess\nimport sys",
            START='probe = subprocess.run([sys.executable, "-c", "import os; os.abort()"], capture_output=True)\n'
            'print(f"feature probe ended with {probe.returncode} (Aborted): slow path", file=sys.stderr)',
        ),
        "model.json",
    ),
    healthy(
        "control-writes-where-only-its-code-says",
        {**rings(), "config.yaml": "training:\n  epochs: 20\n  batch_size: 16\n  learning_rate: 0.2\n"},
        "weights.npz",
    ),
)
