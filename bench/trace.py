"""What a span of the local trace costs, beside a plain `json.dumps` and write of the same two lines.

    python bench/trace.py [--spans 5000] [--json]

    span      microseconds of a span with a few attributes: its two lines made, masked, bounded and appended
    counted   microseconds that a look at the cluster costs within a watch, where it is only counted
    plain     microseconds of two lines of the same size, without masking and bounds, to a file that stays open

Medians of five rounds that take turns, on a file in the system's temporary directory.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from caravan.agent.traced import TracedCluster  # noqa: E402
from caravan.values.run import Phase, Snapshot  # noqa: E402
from machine import SystemClock  # noqa: E402
from observability import LocalTracer  # noqa: E402

ROUNDS = 5
SECRETS = ("correct-horse-battery", "another-known-secret")


class Endless:
    """As much of a cluster as is watched here."""

    def watch(self, *_: str) -> Iterator[Snapshot]:
        at = datetime.now(UTC)
        while True:
            yield Snapshot(job_id="job", at=at, phase=Phase.RUNNING)

    def logs(self, *_: str, **__: int) -> bytes:
        return b"loss 0.1\n"


def spans(tracer: LocalTracer, count: int) -> None:
    """Open and end spans as the ports' wrappers do."""
    for number in range(count):
        with tracer.span("register", "cluster", job=f"caravan-1a2b3c4d-a{number:02d}") as span:
            span.set(modify_index=number, reason="train: Building Task Directory")


def counted(tracer: LocalTracer, count: int) -> None:
    """Look at logs within a watch."""
    cluster = TracedCluster(Endless(), tracer, SystemClock())  # type: ignore[arg-type]
    watch = cluster.watch("job")
    next(watch)
    for _ in range(count):
        cluster.logs("1f1e5550", "train", "stdout")
    watch.close()  # type: ignore[attr-defined]


def plain(path: Path, like: bytes, count: int) -> None:
    """Write lines of the same content."""
    records = [json.loads(line) for line in like.splitlines()[:2]]
    with path.open("ab", buffering=0) as file:
        for _ in range(count):
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def microseconds(work: Callable[[], None], count: int) -> float:
    """Of one of `count`."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / count * 1e6


def one_round(folder: Path, count: int) -> dict[str, float]:
    """Each once, on fresh files."""
    traced, bare = folder / "trace.jsonl", folder / "plain.jsonl"
    for file in (traced, bare):
        file.unlink(missing_ok=True)
    tracer = LocalTracer(traced, run_id="bench", clock=SystemClock(), secrets=SECRETS)
    found = {"span": microseconds(lambda: spans(tracer, count), count)}
    like = traced.read_bytes()
    found["plain"] = microseconds(lambda: plain(bare, like, count), count)
    found["counted"] = microseconds(lambda: counted(tracer, count), count)
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=5000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = [one_round(Path(folder), options.spans) for _ in range(ROUNDS)]
    figures = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    if options.json:
        print(json.dumps(figures))
        return
    for name in ("plain", "span", "counted"):
        print(f"{name:8} {figures[name]:7.1f} µs   {figures[name] / figures['plain']:5.2f} times plain")


if __name__ == "__main__":
    main()
