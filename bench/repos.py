"""How much of a repository is understood: profiles against labels, field by field, and the time that each takes.

    python bench/repos.py --labels DIR --trees DIR [--verbose]

DIR of the labels holds one JSON a repository; the scorer that belongs to them (`score.py`) stands beside that
directory, and its `score_one` is the judge. DIR of the trees holds a plain tree for each label, named like it.
A label without a tree is left out and named; it counts neither for nor against.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caravan.analysis import analyze, open_source

Scores = dict[str, tuple[float, Any, Any]]


def scorer(labels: Path) -> Callable[[dict[str, Any], dict[str, Any]], Scores]:
    """The labels' own `score_one(label, prediction)`, which gives field → (score, got, wanted)."""
    path = labels.resolve().parent / "score.py"
    spec = importlib.util.spec_from_file_location("labels_scorer", path)
    if spec is None or spec.loader is None or not path.is_file():
        sys.exit(f"error: there is no scorer {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    judge: Callable[[dict[str, Any], dict[str, Any]], Scores] = module.score_one
    return judge


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True, help="directory of the labels")
    parser.add_argument("--trees", type=Path, required=True, help="directory of the repositories' trees")
    parser.add_argument("--verbose", action="store_true", help="print what was missed")
    args = parser.parse_args()
    judge, totals, absent = scorer(args.labels), defaultdict[str, list[float]](list), list[str]()
    for path in sorted(args.labels.glob("*.json")):
        tree = args.trees / path.stem
        if not tree.is_dir():
            absent.append(path.stem)
            continue
        label = json.loads(path.read_text(encoding="utf-8"))
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as cache:
            profile = analyze(open_source(str(tree), cache=Path(cache)), label["task"])
        seconds = time.perf_counter() - start
        scores = judge(label, profile.contract())
        for field, (score, got, wanted) in scores.items():
            totals[field].append(score)
            if args.verbose and score < 1:
                print(f"  {field}: got {got!r}, wanted {wanted!r}"[:300])
        mean = sum(s for s, _, _ in scores.values()) / len(scores)
        print(f"{path.stem:40} {100 * mean:5.1f} %  {seconds:6.2f} s  {profile.files} files", flush=True)
    for field, values in totals.items():
        print(f"{field:20} {100 * sum(values) / len(values):5.1f} %  of {len(values)}")
    every = [v for values in totals.values() for v in values]
    if every:
        print(f"{'all fields':20} {100 * sum(every) / len(every):5.1f} %  of {len(every)}")
    if absent:
        print(f"no tree for {', '.join(absent)}")


if __name__ == "__main__":
    main()
