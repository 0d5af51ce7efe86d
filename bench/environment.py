"""How much sooner a job has its Python when an earlier one has made it: the first and the second start of one wish.

    python bench/environment.py [--packages N]

Wheels of pure Python are made on the spot and installed without a network. Prints both times and their ratio.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HELPER = Path(__file__).resolve().parents[1] / "templates" / "environment.py"


def main() -> int:
    """Install once, find it again five times, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=int, default=20)
    count = parser.parse_args().packages
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        wheels(place / "wheels", count)
        (place / "requirements.txt").write_text("".join(f"tiny{n}==1.0\n" for n in range(count)))
        first = timed(place)
        again = sorted(timed(place) for _ in range(5))[2]
    print(f"{count} packages: first start {first:.2f} s, later starts {again:.2f} s (median of 5)")
    print(f"ratio {first / again:.0f}")
    return 0


def wheels(folder: Path, count: int) -> None:
    """Wheels of a hundred modules each."""
    folder.mkdir()
    for n in range(count):
        info = f"tiny{n}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"tiny{n}-1.0-py3-none-any.whl", "w") as out:
            for module in range(100):
                out.writestr(f"tiny{n}/m{module}.py", f"VALUE = {module}\n")
            out.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny{n}\nVersion: 1.0\n")
            out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            out.writestr(f"{info}/RECORD", "")


def timed(place: Path) -> float:
    """Seconds until the job knows its interpreter."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(place),
        "CARAVAN_CACHE_DIR": str(place / "cache"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(place / "wheels"),
    }
    words = [sys.executable, str(HELPER), "--answer", str(place / "answer"), "--file", "requirements.txt"]
    began = time.perf_counter()
    subprocess.run(words, cwd=place, env=environment, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
