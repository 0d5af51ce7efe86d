"""Fit a line by steps with momentum and noise, writing checkpoints of weights, momentum and random state."""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--output-dir", type=Path, default=Path("out"))
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--save-every", type=int, default=10)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--lora-rank", type=int, default=2, help="columns of the weights")
parser.add_argument("--resume-from", default=None, help="checkpoint to continue with")
args = parser.parse_args()
args.output_dir.mkdir(parents=True, exist_ok=True)
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
stopped = []


def save_checkpoint(step):
    part = args.output_dir / f".checkpoint-{step}.part"
    with part.open("wb") as file:
        state = json.dumps(rng.bit_generator.state)
        np.savez(file, weights=weights, momentum=momentum, rng=np.array(state), step=np.array(step))
    part.replace(args.output_dir / f"checkpoint-{step}.npz")
    print(f"saved checkpoint-{step}", flush=True)


rng = np.random.default_rng(0)
weights, momentum, done = np.zeros((3, args.lora_rank)), np.zeros((3, args.lora_rank)), 0
if args.resume_from:
    with np.load(args.resume_from) as saved:
        if saved["weights"].shape != weights.shape:
            sys.exit(f"error: {args.resume_from} has weights of shape {saved['weights'].shape}")
        weights, momentum, done = saved["weights"], saved["momentum"], int(saved["step"])
        rng.bit_generator.state = json.loads(str(saved["rng"]))
    print(f"continued at step {done}", flush=True)

hold = Path("held.json") if "HOLD_IN" not in os.environ else Path(os.environ["HOLD_IN"]) / "held.json"
target = np.ones((3, args.lora_rank))
for step in range(done + 1, args.steps + 1):
    x = rng.normal(size=(8, 3))
    error = x @ weights - x @ target
    gradient = x.T @ error / len(x)
    momentum = 0.9 * momentum + gradient
    weights = weights - args.lr * momentum
    loss = float((error**2).mean())
    print(f"step {step}/{args.steps} loss {loss!r}", flush=True)
    if step % args.save_every == 0:
        save_checkpoint(step)
    at = int(os.environ.get("HOLD_AT", "0"))
    if step == at and not hold.exists():  # once: until somebody ends this process
        hold.with_suffix(".part").write_text(json.dumps({"pid": os.getpid(), "out": str(args.output_dir.resolve())}))
        hold.with_suffix(".part").replace(hold)
        while not stopped:
            time.sleep(0.02)
    if stopped:
        save_checkpoint(step)
        sys.exit(143)
    if step == int(os.environ.get("FAIL_AT", "0")) and args.lora_rank > 1:
        sys.exit("RuntimeError: CUDA error: device-side assert triggered")

np.savez(args.output_dir / "weights.npz", weights=weights)
print(f"done: loss {loss!r}", flush=True)
