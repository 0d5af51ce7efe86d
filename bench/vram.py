"""How good the memory estimate is: runs it over published figures and prints the scorer's own summary.

usage: python -m bench.vram --data DIR [--worst N]

DIR holds `measured.jsonl` (one published figure a line) and `score.py`, which judges {"id", "peak_gib"} lines.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from caravan.planning.rows import estimate_row
from caravan.values.errors import UsageError


def predictions(measured: Path) -> list[dict[str, object]]:
    """One {"id", "peak_gib"} for each row that can be estimated; the scorer counts a missing one as wholly wrong."""
    said: list[dict[str, object]] = []
    for line in measured.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row.pop("peak_gib", None)
        try:
            peak, _ = estimate_row(row)
        except UsageError as error:
            print(error.line(), file=sys.stderr)
            continue
        said.append({"id": row["id"], "peak_gib": peak})
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with measured.jsonl and score.py")
    parser.add_argument("--worst", type=int, default=0, help="also print the N worst rows")
    options = parser.parse_args()
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.write("\n".join(json.dumps(p) for p in predictions(options.data / "measured.jsonl")))
        file.flush()
        command = [sys.executable, str(options.data / "score.py"), file.name, "--worst", str(options.worst)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
