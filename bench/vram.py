"""How good the memory estimate is: runs it over published figures and prints the scorer's own summary, and more.

usage: python -m bench.vram --data DIR [--worst N] [--quick] [--fit]

DIR holds `measured.jsonl` (one published figure a line), `score.py`, which judges {"id", "peak_gib"} lines, and where
they are there `out_of_memory.jsonl` (configurations that did not fit) and `gpus.json`. Prints the scorer's table, the
figures with one source left out (constants fitted on the others; not with --quick), the margin's, and the time of an
estimate. --fit fits the constants of `caravan/planning/memory/constants.py` anew and prints them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.vram_fit import fit, headline, leave_one_out
from caravan.planning.catalogue import CATALOGUE, USABLE_SHARE, gpu_like
from caravan.planning.margin import high_of, holds
from caravan.planning.memory import FITTED, memory_parts
from caravan.planning.rows import estimate_row, setting_of, shape_in
from caravan.values.base import Json
from caravan.values.errors import UsageError


def read(path: Path) -> list[dict[str, Json]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def predictions(rows: list[dict[str, Json]]) -> Iterator[dict[str, Json]]:
    """One {"id", "peak_gib"} for each row that can be estimated; the scorer counts a missing one as wholly wrong."""
    for row in rows:
        try:
            peak, _ = estimate_row({name: value for name, value in row.items() if name != "peak_gib"})
        except UsageError as error:
            print(error.line(), file=sys.stderr)
            continue
        yield {"id": row["id"], "peak_gib": peak}


def scored(data: Path, rows: list[dict[str, Json]], worst: int) -> int:
    """The scorer's table for `rows`, and its exit status."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(p) for p in predictions(rows)))
        file.flush()
        command = [sys.executable, str(data / "score.py"), file.name, "--worst", str(worst)]
        return subprocess.run(command, check=False).returncode


def reach(rows: list[dict[str, Json]]) -> None:
    """Prints the errors of each source with constants that were fitted without it."""
    left_out = leave_one_out(headline(rows))
    for source, found, fitted in left_out:
        moved = {n: v for n, v in fitted._asdict().items() if v != getattr(FITTED, n)}
        print(f"left out {source:20} n {len(found):4}  median {statistics.median(map(abs, found)):6.1%}  moved {moved}")
    every = [abs(e) for _, found, _ in left_out for e in found]
    macro = statistics.mean(statistics.median(map(abs, found)) for _, found, _ in left_out)
    under = sum(e < -0.1 for _, found, _ in left_out for e in found) / len(every)
    print(f"leave one source out: median {statistics.median(every):.1%}  macro {macro:.1%}  under {under:.1%}")


def high(row: dict[str, Json]) -> float:
    """What a GPU must hold by the estimate, whatever the row says was measured."""
    shape, setting = shape_in(row), setting_of(row)._replace(metric=None)
    return high_of(memory_parts(shape, setting), shape, setting)


def margin(rows: list[dict[str, Json]], too_much: list[dict[str, Json]]) -> None:
    """Prints how often the GPU that the estimate leads to would have run out of memory, and how large it is."""
    sizes = sorted({gpu.memory_mib / 1024 for gpu in CATALOGUE})
    short, larger = 0, []
    measured = [row for row in rows if row["measured"]]
    for row in measured:
        need = float(str(row["peak_gib"]))
        chosen = next((size for size in sizes if holds(size, high(row))), sizes[-1])
        short += need > chosen * USABLE_SHARE
        larger.append(chosen / next((size for size in sizes if size * USABLE_SHARE >= need), sizes[-1]))
    print(
        f"margin: {short / len(measured):.1%} of {len(measured)} would run out of memory on the GPU that is chosen; "
        f"it has {statistics.median(larger):.2f} times the memory of the smallest that holds the measured need"
    )
    found = [not holds(size, high(row)) for row in too_much if (size := _size(row))]
    if found:
        print(f"out of memory: {sum(found) / len(found):.1%} of {len(found)} are told not to fit")


def _size(row: dict[str, Json]) -> float | None:
    known = gpu_like(str(row.get("gpu") or ""))
    return known.memory_mib / 1024 if known else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with measured.jsonl and score.py")
    parser.add_argument("--worst", type=int, default=0, help="also print the N worst rows")
    parser.add_argument("--quick", action="store_true", help="leave no source out")
    parser.add_argument("--fit", action="store_true", help="fit the constants anew and print them")
    options = parser.parse_args()
    rows = read(options.data / "measured.jsonl")
    if options.fit:
        fitted = fit(headline(rows), rounds=2)
        for name, value in fitted._asdict().items():
            print(f"{name:16} {value:6} (now {getattr(FITTED, name)})")
        return 0
    status = scored(options.data, rows, options.worst)
    if not options.quick:
        reach(rows)
    too_much = options.data / "out_of_memory.jsonl"
    margin(rows, read(too_much) if too_much.exists() else [])
    start = time.perf_counter()
    told = sum(1 for _ in predictions(rows))
    print(f"one estimate: {(time.perf_counter() - start) / max(1, told) * 1000:.2f} ms")
    return status


if __name__ == "__main__":
    sys.exit(main())
