"""What the sampler beside a training costs: CPU, time of the training, bytes. Run from the root:

python -m bench.sampler [--seconds S] [--rounds N]
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
WORK = "import time,sys\nn=0\nend=time.process_time()+float(sys.argv[1])\nwhile time.process_time()<end:\n    n+=1\n"
DAY = 86400.0
GPUS = [{"n": n, "used_mb": 61234, "total_mb": 85899, "busy": 97, "own_mb": 60000} for n in range(8)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU seconds of one training")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sys.path.insert(0, str(TEMPLATES))
    sample_s, look_s, size = parts()
    hour = samples_in(3600.0 + DAY) - samples_in(DAY)
    print(f"a sample {sample_s * 1e3:.2f} ms of CPU, a look whether to end {look_s * 1e6:.0f} µs")
    print(f"CPU an hour, after the first day: {hour * sample_s + 3600 / 0.25 * look_s:.2f} s; 0 GPUs asked")
    print(f"CPU in the first hour: {samples_in(3600.0) * sample_s + 3600 / 0.25 * look_s:.2f} s")
    for count in (0, 1, 8):
        line = size + len(json.dumps({"gpus": GPUS[:count]}, separators=(",", ":")))
        print(f"{count} GPUs: {line} bytes a line, {samples_in(DAY) * line / 1e6:.2f} MB the first day")
    ratio, spread = beside(options.seconds, options.rounds)
    print(f"a training's time with it / without it: {ratio:.4f} (median of {options.rounds}, spread {spread:.4f})")
    return 0


def parts() -> tuple[float, float, int]:
    """CPU seconds of a sample and of a look, bytes of a line without GPUs."""
    sampler = importlib.import_module("sampler")
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(["sleep", "600"]) as parent:
        place = Path(folder)
        told = {"alloc": place, "outputs": place, "end": place / "end", "began": place / "began"}
        options = SimpleNamespace(out=place / "s.jsonl", parent=parent.pid, most=1 << 30, **told)
        made = sampler.Sampler(options, gpus_of=no_gpus)
        sizes = [len(json.dumps(made.sample(), separators=(",", ":"))) for _ in range(5)]
        sample_s = timed(lambda: made.tell(made.sample()), 200)
        look_s = timed(made.is_over, 2000)
        parent.kill()
    return sample_s, look_s, max(sizes)


def no_gpus(environ: Any) -> Any:
    del environ
    return "none", nothing


def nothing(pids: Any) -> list[Any]:
    del pids
    return []


def timed(what: Any, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        what()
    return (time.process_time() - began) / count


def samples_in(seconds: float) -> int:
    """How many samples are taken in that time."""
    sampler = importlib.import_module("sampler")
    at, count = 0.0, 0
    while at < seconds:
        at, count = at + sampler.pause_s(at), count + 1
    return count


def beside(seconds: float, rounds: int) -> tuple[float, float]:
    """Time of the same work with a sampler beside it and without, one after the other; the median and the spread."""
    ratios = []
    for _ in range(rounds):
        alone, watched = once(seconds, watched=False), once(seconds, watched=True)
        ratios.append(watched / alone)
    return statistics.median(ratios), max(ratios) - min(ratios)


def once(seconds: float, *, watched: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        with subprocess.Popen([sys.executable, "-c", WORK, str(seconds)]) as work:
            place = Path(folder)
            words = ["-B", "-E", "-s", "-S", str(TEMPLATES / "sampler.py"), str(place / "s.jsonl"), "--alloc", folder]
            words += ["--outputs", folder, "--parent", str(work.pid), "--end", str(place / "end")]
            words += ["--began", str(place / "began")]
            beside = subprocess.Popen([sys.executable, *words]) if watched else None
            work.wait()
            passed = time.monotonic() - began
        if beside is not None:
            beside.wait()
    return passed


if __name__ == "__main__":
    sys.exit(main())
