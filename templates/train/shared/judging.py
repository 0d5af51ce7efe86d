"""Measuring a trained model: the command line of each `evaluate.py`, what it is measured on, and what is told of it.

What is not said on the command line comes from what the job asks (`CARAVAN_EVALUATION_ASKED`), then from the training's
own run.json: so the part that is judged is the one that the training held out. The same model and seed give the same
result, but for its seconds.
"""

import argparse
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from shared.arguments import amount, boolean, count
from shared.files import read_json, write_json
from shared.records import versions
from shared.refusals import Refused, note

ADAPTER = "adapter_config.json"
DEFAULTS: dict[str, Any] = {
    "examples": 1000,
    "seed": 0,
    "generate": 0,
    "regression_drop": 0.05,
    "precision": "auto",
    "trust_remote_code": False,
    "attn": "auto",
}
MOST_REGRESSED = 200
BEGUN = time.monotonic()


def judge_parser(description: str) -> argparse.ArgumentParser:
    """The options that each `evaluate.py` has. What is not given is settled by `settle`."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--model", default=None, help="folder of a trained model or adapter; unset: CARAVAN_MODEL")
    parser.add_argument("--base", default=None, help="the model that it began from; unset: as the training says")
    parser.add_argument("--revision", default=None, help="of the base model on the hub")
    parser.add_argument("--trust-remote-code", type=boolean, default=None)
    parser.add_argument("--data", default=None, help="what it is measured on; unset: what its training held out")
    parser.add_argument("--learnt", default=None, help="data that it learned from; unset: as the training says")
    parser.add_argument("--columns", default=None, help="names of columns, as role=name,role=name")
    parser.add_argument("--examples", type=count, default=None, help="held-out examples at most, and as many learnt")
    parser.add_argument("--seed", type=int, default=None, help="by which examples are drawn where there are more")
    parser.add_argument("--regression", default=None, help="a small set, with ids, that must not get worse")
    parser.add_argument("--regression-drop", type=amount, default=None, help="share by which an example of it may")
    parser.add_argument("--canary", default=None, help="prompts whose answers must be safe; builtin: Caravan's own")
    parser.add_argument("--generate", type=int, default=None, help="sample generations that are kept")
    parser.add_argument("--micro-batch", type=count, default=32, help="examples at once; halved where memory runs out")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp16", "fp32"), default=None)
    parser.add_argument("--output", type=Path, default=None, help="file for the result, beside stdout")
    return parser


def settle(args: argparse.Namespace, kind: str, **defaults: Any) -> argparse.Namespace | None:
    """Fill in what was not given on the command line. The settings of the training, None where they are not known.

    Raises Refused where no model is named.
    """
    asked = _asked()
    args.model = args.model or os.environ.get("CARAVAN_MODEL")
    if not args.model:
        raise Refused("options", "--model or CARAVAN_MODEL must name the folder of the trained model")
    if not Path(args.model).is_dir():
        raise Refused("model_missing", "there is no such folder", args.model)
    if args.output is None and os.environ.get("CARAVAN_EVALUATION"):
        args.output = Path(os.environ["CARAVAN_EVALUATION"])
    run = next((r for r in (read_json(p / "run.json") for p in (Path(args.model).parent, Path(args.model))) if r), None)
    settings = run["settings"] if isinstance(run, dict) and run.get("type") == kind else None
    known = {**(settings or {}), "seed": None, "data": None, "base": (settings or {}).get("model")}
    for name in vars(args):
        if getattr(args, name) is None:
            said = (asked.get(name), known.get(name), defaults.get(name), DEFAULTS.get(name))
            setattr(args, name, next((value for value in said if value is not None), None))
    _be_steady(args.seed)
    if settings is None or {"data", "eval_data", "eval_fraction", "seed"} - set(settings):
        return None
    return argparse.Namespace(**settings)


def _asked() -> dict[str, Any]:
    try:
        found = json.loads(os.environ.get("CARAVAN_EVALUATION_ASKED") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _be_steady(seed: int) -> None:
    """Let the same inputs give the same numbers, as far as torch can."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


# ---- what is measured on


def drawn(rows: Sequence[Any], most: int, seed: int) -> list[Any]:
    """At most so many of the rows, in their order: the same for the same rows and seed."""
    if len(rows) <= most:
        return list(rows)
    return [rows[at] for at in sorted(random.Random(seed).sample(range(len(rows)), most))]


def key_of(values: Any) -> str:
    """SHA-256 of what a row says."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def digest_of(keys: Iterable[str]) -> str:
    """SHA-256 of a set by its rows' keys, in their order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def unlearnt(rows: list[Any], learnt: Iterable[str], key: Callable[[Any], str], source: str) -> list[Any]:
    """The rows of data that was brought for judging which were not learned from, word by word.

    Raises Refused where all of them were.
    """
    known = set(learnt)
    kept = [row for row in rows if key(row) not in known]
    if not kept:
        raise Refused("leak", "all of its rows are in the training data: nothing of it is held out", source)
    if len(kept) < len(rows):
        note(f"{len(rows) - len(kept)} of {len(rows)} rows of {source} are in the training data and are left out")
    return kept


def id_of(row: Any, number: int) -> str:
    """The name of an example of a fixed set: its `id`, else its place."""
    told = row.values.get("id")
    return str(told if told is not None else row.line or number)[:200]


# ---- what is told


def result(kind: str, args: argparse.Namespace, **parts: Any) -> dict[str, Any]:
    """An `EvaluationResult` (`caravan/values/evaluation.py`); parts that are None are left out."""
    told = {"version": 1, "by": os.environ.get("CARAVAN_EVALUATION_BY") or kind, "seed": args.seed}
    told |= {name: part for name, part in parts.items() if part is not None}
    sha256 = os.environ.get("CARAVAN_MODEL_SHA256") or model_sha256(Path(args.model))
    return {**told, "versions": versions(), "model_sha256": sha256, "seconds": round(time.monotonic() - BEGUN, 3)}


def side_metrics(
    keys: Sequence[str], base: dict[str, float] | None, tuned: dict[str, float], guess: dict[str, float] | None = None
) -> dict[str, Any]:
    """What was measured on one set."""
    told = {"base": base or {}, "tuned": tuned, "guess": guess or {}}
    return {**told, "samples": len(keys), "sha256": digest_of(keys)}


def tell(args: argparse.Namespace, found: dict[str, Any]) -> int:
    """Print the result as one line, and write it where it was asked for."""
    print(json.dumps(found), flush=True)
    if args.output:
        write_json(args.output, found)
    return 0


def model_sha256(folder: Path) -> str:
    """One value for a model's files: SHA-256 of the text that `sha256sum` prints of them, ordered by paths."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    lines = []
    for path in sorted(files, key=lambda p: p.relative_to(folder).as_posix().encode()):
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
        lines.append(f"{digest.hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def named_labels(config: Any, args: argparse.Namespace) -> list[str]:
    """The labels of a trained classifier. Raises Refused for a model that is none."""
    from shared.classes import PLACEHOLDER, label_names

    names = label_names(config)
    placeholders = all(PLACEHOLDER.fullmatch(name) for name in names)
    if len(names) < 2 or (placeholders and not os.environ.get("CARAVAN_EVALUATION_BY")):
        raise Refused("model_missing", "it names no labels: no classifier that a training here has written", args.model)
    return [str(number) for number in range(len(names))] if placeholders else names
