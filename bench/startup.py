"""How long commands take from their start to their end, beside a bare interpreter; those that need no cluster.

    python bench/startup.py [--runs 5] [--only WORD,...] [--json]

All are run in turn as whole processes over an empty state directory, each beside the interpreter of its turn. A figure
is the median: milliseconds on the wall and of the processor, how many times the bare interpreter's processor time, and
how much more on the wall. Aim: `main.py --help` takes at most 150 ms more than `python -c pass`.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.product import environment, spent

AIM_MS = 150.0
LOG = "Traceback (most recent call last):\n  File 'train.py', line 3, in <module>\nMemoryError\n"
_WISH = ["--prompt", "Fine-tune the character model", "--codebase-path", "examples/numpy-lora"]


def commands(place: Path) -> dict[str, list[str]]:
    """Name → the words of each command that is timed."""
    log = place / "job.log"
    log.write_text(LOG)
    plain = ("--help", "--version", "runs", "config", "types", "cluster status", "completion bash")
    stores = ("models list", "memory list", "prompts list")
    return {
        **{name: name.split() for name in (*plain, *stores)},
        "analyze": ["analyze", "examples/numpy-lora"],
        "data": ["data", "examples/numpy-lora/data/lighthouse.txt"],
        "diagnose": ["diagnose", str(log)],
        "estimate": ["estimate", *_WISH],
        "plan": ["plan", *_WISH, "--cluster", "none"],
    }


def measure(runs: int, only: list[str]) -> dict[str, dict[str, float]]:
    """Medians of each command."""
    with tempfile.TemporaryDirectory() as place:
        around = environment(Path(place) / "home")
        chosen = {name: words for name, words in commands(Path(place)).items() if not only or name.split()[0] in only}
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in ("bare interpreter", *chosen)}
        for turn in range(runs + 1):
            bare = spent(["-c", "pass"], around)
            rows = {"bare interpreter": bare}
            for name, words in chosen.items():
                rows[name] = spent(["main.py", *words], around)
            for name, took in rows.items():
                if turn:  # the first one wrote the byte code
                    ratio, more = took.processor_ms / bare.processor_ms, took.wall_ms - bare.wall_ms
                    found[name].append((*took, ratio, more))
    names = ("processor_ms", "wall_ms", "times", "more_ms")
    return {
        name: {key: statistics.median(row[n] for row in rows) for n, key in enumerate(names)}
        for name, rows in found.items()
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="first words of the commands to time, by commas; all without it")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.runs, [word for word in options.only.split(",") if word])
    if options.json:
        print(json.dumps(figures))
        return
    print(f"load {os.getloadavg()[0]:.1f}; medians of {options.runs}; aim: --help at most {AIM_MS:.0f} ms more")
    for name, row in figures.items():
        print(
            f"{name:18}{row['processor_ms']:7.0f} ms of the processor, {row['times']:5.1f} times the bare interpreter"
            f"{row['wall_ms']:8.0f} ms on the wall, {row['more_ms']:+7.0f}"
        )


if __name__ == "__main__":
    main()
