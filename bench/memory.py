"""What the memory is worth and what it costs: speed beside plain Mem0, many at once, kills, and quality.

    python bench/memory.py [--sizes 100 1000 10000] [--rounds 40] [--json]
    python bench/memory.py --concurrency [--seconds 60] [--kills 20] [--json]
    python bench/memory.py --quality

The store is the embedded one, in a temporary folder. `memory_speed` and `memory_together` say what is measured, and
`memory_quality` which lessons are looked for.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from config import prepare_third_party_environment  # noqa: E402


def main() -> int:
    """Print the figures; 1 where lessons were lost or an error came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--concurrency", action="store_true", help="several threads and processes, then kills")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--quality", action="store_true", help="whether the right lesson is among the first three")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        prepare_third_party_environment(Path(home))
        if options.concurrency:
            return _together(options)
        if options.quality:
            from bench.memory_quality import main as quality

            return quality(["--json"] if options.json else [])
        return _speed(options)


def _together(options: argparse.Namespace) -> int:
    from bench.memory_together import killed, shown, together

    found = {"together": together(options.seconds), "killed": killed(options.kills)}
    print(json.dumps(found) if options.json else shown(found))
    return int(any(part["lost"] or part["errors"] for part in found.values()))


def _speed(options: argparse.Namespace) -> int:
    from bench.memory_speed import shown, speed

    start = time.perf_counter()
    speed(2, 1)  # loads the libraries
    loading = time.perf_counter() - start
    figures = {size: speed(size, options.rounds) for size in options.sizes}
    if options.json:
        print(json.dumps({"loading_s": loading, "sizes": figures}))
    else:
        print(f"loading the libraries and a first use: {loading:.1f} s\n{shown(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
