"""Trains the table, logs a line for each pass, writes whole checkpoints, goes on from the newest one."""

import argparse
import json
import signal
import sys
from pathlib import Path

from counting import loss_and_gradient, pairs
from defaults import DEFAULTS, TYPE


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--output-dir", type=Path, default=Path(DEFAULTS["output_dir"]))
    parser.add_argument("--lr", type=float, default=DEFAULTS["lr"])
    parser.add_argument("--epochs", type=float, default=DEFAULTS["epochs"])
    parser.add_argument("--eval-fraction", type=float, default=DEFAULTS["eval_fraction"])
    parser.add_argument("--save-steps", type=int, default=DEFAULTS["save_steps"])
    parser.add_argument("--resume-from-checkpoint", default=DEFAULTS["resume"])
    return parser.parse_args()


def save(folder, document):
    """A folder that is whole as soon as it has its name."""
    beside = folder.with_name(f".{folder.name}.tmp")
    beside.mkdir(parents=True, exist_ok=True)
    (beside / "model.json").write_text(json.dumps(document), encoding="utf-8")
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    beside.replace(folder)


def newest(output, wanted):
    """The state to go on from: that of the newest checkpoint, or of the one that is named; none: from the start."""
    if wanted == "never":
        return {"step": 0, "weights": {}}
    found = sorted(output.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    chosen = found[-1] if wanted == "auto" and found else Path(wanted) if wanted != "auto" else None
    if chosen is None:
        return {"step": 0, "weights": {}}
    print(f"resumed from {chosen.name}", file=sys.stderr)
    return json.loads((chosen / "model.json").read_text(encoding="utf-8"))


def main():
    given = options()
    try:
        text = Path(given.data).read_text(encoding="utf-8")
    except OSError as error:
        print(f"caravan-train: missing: {given.data}: {error.strerror}", file=sys.stderr)
        return 2
    cut = len(text) - int(len(text) * given.eval_fraction)
    alphabet = sorted(set(text))
    training, held_out = pairs(text[:cut]), pairs(text[cut:])
    if not training:
        print(f"caravan-train: empty: {given.data}: fewer than two characters to learn from", file=sys.stderr)
        return 2
    state = newest(given.output_dir, given.resume_from_checkpoint)
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    given.output_dir.mkdir(parents=True, exist_ok=True)
    with (given.output_dir / "metrics.jsonl").open("a", encoding="utf-8") as log:
        for step in range(state["step"] + 1, int(given.epochs) + 1):
            loss, gradient = loss_and_gradient(state["weights"], alphabet, training)
            for pair, slope in gradient.items():
                state["weights"][pair] = state["weights"].get(pair, 0.0) - given.lr * slope
            state["step"] = step
            row = {"step": step, "epoch": step, "loss": loss, "lr": given.lr}
            if held_out:
                row["eval_loss"] = loss_and_gradient(state["weights"], alphabet, held_out)[0]
            line = json.dumps(row)
            print(line, flush=True)
            print(line, file=log, flush=True)
            if ended or step % given.save_steps == 0:
                save(given.output_dir / f"checkpoint-{step}", state)
            if ended:
                return 143
    save(given.output_dir / "model", {**state, "alphabet": "".join(alphabet), "type": TYPE})
    done = given.output_dir / ".DONE.tmp"
    done.write_text(json.dumps({"type": TYPE, "step": state["step"]}), encoding="utf-8")
    done.replace(given.output_dir / "DONE.json")  # the last thing that is written
    return 0


if __name__ == "__main__":
    sys.exit(main())
