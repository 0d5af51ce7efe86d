"""How long `main.py --help` takes beside a bare interpreter.

    python bench/startup.py [--runs 20] [--json]

Both are run in turn as whole processes; the figure is the median of the pairwise differences, in milliseconds.
Aim: at most 150 ms more than `python -c pass`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def seconds(command: list[str]) -> float:
    """Wall time of one run of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(runs: int) -> dict[str, float]:
    """Medians of both commands and of their difference, in milliseconds."""
    bare, page = [sys.executable, "-c", "pass"], [sys.executable, "main.py", "--help"]
    seconds(page)  # once for the byte code
    pairs = [(seconds(bare), seconds(page)) for _ in range(runs)]
    return {
        "bare_ms": 1000 * statistics.median(b for b, _ in pairs),
        "help_ms": 1000 * statistics.median(p for _, p in pairs),
        "difference_ms": 1000 * statistics.median(p - b for b, p in pairs),
        "ratio": statistics.median(p / b for b, p in pairs),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.runs)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"python -c pass    {figures['bare_ms']:7.1f} ms")
    print(f"main.py --help    {figures['help_ms']:7.1f} ms   {figures['ratio']:.1f} times the bare interpreter")
    print(f"difference        {figures['difference_ms']:7.1f} ms   (aim: at most 150 ms)")


if __name__ == "__main__":
    main()
