"""How well the rules tell failures apart: runs them over labelled logs and prints accuracy, precision, recall, misses.

usage: python -m bench.failures --data PATH [--predictions FILE] [--misses] [--speed]

PATH is a folder with `visible.jsonl`, or such a file: {"id", "text", "origin", "class"} a line. FILE gets the
{"id", "class"} lines that a scorer reads. `--speed` also says how fast a log is boiled down.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path

from caravan.diagnosis.logtext import digest
from caravan.diagnosis.reading import TextKind, evidence_of_text
from caravan.diagnosis.rules import diagnose
from caravan.values.failure import Diagnosis, FailureClass
from caravan.values.plan import TrainingPlan

_F = FailureClass
FIRST_SET = (
    *(_F.HOST_MEMORY_OOM, _F.CUDA_OOM, _F.MISSING_PYTHON_PACKAGE, _F.CLI_ARGS_INVALID, _F.ENTRYPOINT_NOT_FOUND),
    *(_F.IMAGE_NOT_FOUND, _F.PLACEMENT_GPU_UNAVAILABLE, _F.PLACEMENT_RESOURCES_EXHAUSTED, _F.DATA_PATH_MISSING),
    _F.NUMERIC_DIVERGENCE,
)
PLAN = TrainingPlan(goal="a failure without a run", command=("python", "train.py"))

Told = tuple[dict[str, str], Diagnosis]


def tell(file: Path) -> list[Told]:
    """Each row with what the rules say of it."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row, diagnose(evidence_of_text(row["text"].encode(), TextKind(row["origin"])), PLAN, ())) for row in rows]


def show(told: list[Told], *, misses: bool) -> None:
    """The figures: over all classes, then for each class of the first set."""
    right = sum(row["class"] == found.failure for row, found in told)
    wrong = sum(found.failure not in (row["class"], _F.UNKNOWN) for row, found in told)
    print(f"all classes: {right} of {len(told)} right ({right / len(told):.3f}), {wrong} wrong, the others unknown")
    gold = Counter(row["class"] for row, _ in told)
    said = Counter(found.failure.value for _, found in told)
    hit = Counter(row["class"] for row, found in told if row["class"] == found.failure)
    total = [sum(table[f.value] for f in FIRST_SET) for table in (hit, said, gold)]
    print(f"first set: precision {_share(total[0], total[1])}, recall {_share(total[0], total[2])}")
    for failure in (f.value for f in FIRST_SET):
        precision, recall = _share(hit[failure], said[failure]), _share(hit[failure], gold[failure])
        print(f"  {failure:32} precision {precision:16} recall {recall}")
    for row, found in told:
        concerns = {row["class"], found.failure.value} & {f.value for f in FIRST_SET}
        if misses and row["class"] != found.failure and concerns:
            print(
                f"  {row['id']}: {row['class']}, said {found.failure.value} ({found.confidence:g}): {found.cause[:160]}"
            )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f} ({part}/{whole})" if whole else "- (0/0)"


def speed() -> None:
    """Megabytes a second at which a long log without line noise is boiled down."""
    line = (
        b"{'loss': 2.%04d, 'grad_norm': 0.912, 'learning_rate': 2e-05, 'epoch': 0.31}\n[rank1]: batch 81 took 0.31 s\n"
    )
    log = b"".join(line % (n % 10_000) for n in range(60_000))
    start = time.perf_counter()
    digest(log)
    print(f"boiling down: {len(log) / 1e6 / (time.perf_counter() - start):.1f} MB/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with visible.jsonl, or a file of such lines")
    parser.add_argument("--predictions", type=Path, help="write {id, class} lines to this file")
    parser.add_argument("--misses", action="store_true", help="also print what was missed or wrongly taken for another")
    parser.add_argument("--speed", action="store_true", help="also print how fast logs are read")
    options = parser.parse_args()
    told = tell(options.data / "visible.jsonl" if options.data.is_dir() else options.data)
    show(told, misses=options.misses)
    if options.predictions:
        lines = (json.dumps({"id": row["id"], "class": found.failure.value}) for row, found in told)
        options.predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if options.speed:
        speed()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
