"""What a span of the local trace costs, beside a plain `json.dumps` and write of the same two lines.

    python bench/trace.py [--spans 5000] [--json]
    python bench/trace.py --langfuse [--spans 2000] [--json]
    python bench/trace.py --langfuse --seconds 2 [--spans 50] [--json]

    span      microseconds of a span with a few attributes: its two lines made, masked, bounded and appended
    counted   microseconds that a look at the cluster costs within a watch, where it is only counted
    plain     microseconds of two lines of the same size, without masking and bounds, to a file that stays open

Medians of five rounds that take turns, on a file in the system's temporary directory.

With --langfuse, in three rounds, what sending beside the run costs it: the same work (spans with computing between
them) with the local file alone (`local`), with a stand-in for LangFuse on the loopback (`sent`), and with one that
takes requests and never answers (`black hole`): microseconds of processor time a span in the whole process (`sent`
with the stand-in's own), and milliseconds that the run waits at its end.

With --seconds, what is left for the end of a run that takes so long, in a process of its own with all that it loads
first: milliseconds that it waits, median and most of seven, and how many of them were through in time.
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from caravan.agent.traced import TracedCluster  # noqa: E402
from caravan.values.run import Phase, RunRecord, RunRequest, Snapshot  # noqa: E402
from langfuse_access import LangfuseAccess  # noqa: E402
from live_traces import THREAD, LangfuseTraces, LiveTracer  # noqa: E402
from machine import SystemClock  # noqa: E402
from observability import LocalTracer  # noqa: E402
from tests.fakes.langfuse_server import PUBLIC_KEY, SECRET_KEY, LangfuseServer, hangs  # noqa: E402

ROUNDS = 5
SHORT_ROUNDS = 7
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


def worked(tracer: LocalTracer | LiveTracer, count: int) -> tuple[float, float]:
    """Spans with some computing in each: microseconds of processor time of one, seconds that the end took."""

    def work() -> None:
        with tracer.span("run", "run"):
            for number in range(count):
                with tracer.span("register", "cluster", job=f"caravan-1a2b3c4d-a{number:02d}"):
                    sum(i * i for i in range(4_000))

    begin = time.process_time()
    work()
    each = (time.process_time() - begin) / count * 1e6
    start = time.perf_counter()
    tracer.close()
    return each, time.perf_counter() - start


def sending_round(folder: Path, count: int, server: LangfuseServer) -> dict[str, float]:
    """Each once, on fresh files."""
    at = datetime.now(UTC)
    record = RunRecord(id="bench", created_at=at, updated_at=at, request=RunRequest(prompt="x", source="/x"))
    found: dict[str, float] = {}
    for name in ("local", "sent", "black hole"):
        path = folder / f"{name}.jsonl"
        for file in (path, path.with_suffix(".sent.json")):
            file.unlink(missing_ok=True)
        server.heal()
        if name == "black hole":
            server.fail(hangs())
        tracer: LocalTracer | LiveTracer = LocalTracer(path, run_id="bench", clock=SystemClock(), secrets=SECRETS)
        if isinstance(tracer, LocalTracer) and name != "local":
            traces = LangfuseTraces(server.access(), folder, clock=SystemClock(), secrets=SECRETS)
            tracer = traces.live(tracer, path, record, lambda: record)
        found[name], found[f"{name}, end"] = worked(tracer, count)
        for thread in threading.enumerate():  # what the run did not wait for must not slow the next one down
            if thread.name == THREAD:
                thread.join()
    return found


def short_run(access: LangfuseAccess, seconds: float, count: int) -> None:
    """Print as JSON how long the end of a run takes, in milliseconds, and whether LangFuse has all of its trace."""
    logging.disable(logging.WARNING)
    at = datetime.now(UTC)
    record = RunRecord(id="bench", created_at=at, updated_at=at, request=RunRequest(prompt="x", source="/x"))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "bench.jsonl"
        local = LocalTracer(path, run_id="bench", clock=SystemClock(), secrets=SECRETS)
        traces = LangfuseTraces(access, Path(name), clock=SystemClock(), secrets=SECRETS)
        tracer = traces.live(local, path, record, lambda: record)
        with tracer.span("run", "run"):
            for _ in range(count):
                with tracer.span("estimate", "node"):
                    time.sleep(seconds / count)
        start = time.perf_counter()
        tracer.close()
        print(json.dumps({"ms": (time.perf_counter() - start) * 1000, "whole": not traces.is_missing(path)}))
        sys.stdout.flush()
        for thread in threading.enumerate():
            if thread.name == THREAD:
                thread.join()


def print_short_runs(seconds: float, count: int, *, as_json: bool) -> None:
    """Print what is left for the end of short runs."""
    found = []
    with LangfuseServer() as server:
        words = ["--langfuse", "--seconds", str(seconds), "--spans", str(count), "--to", server.url]
        for _ in range(SHORT_ROUNDS):
            done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True)
            found.append(json.loads(done.stdout))
    took = [told["ms"] for told in found]
    whole = sum(told["whole"] for told in found)
    if as_json:
        print(json.dumps({"median_ms": statistics.median(took), "most_ms": max(took), "whole": whole}))
        return
    print(f"end {statistics.median(took):.1f} ms, at most {max(took):.1f} ms; {whole} of {len(found)} in time")


def print_sending(count: int, *, as_json: bool) -> None:
    """Print what sending costs."""
    logging.disable(logging.WARNING)  # the black hole's
    with tempfile.TemporaryDirectory() as folder, LangfuseServer() as server:
        rounds = [sending_round(Path(folder), count, server) for _ in range(3)]
    figures = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    if as_json:
        print(json.dumps(figures))
        return
    for name in ("local", "sent", "black hole"):
        ratio, end = figures[name] / figures["local"], figures[f"{name}, end"] * 1000
        print(f"{name:10} {figures[name]:7.1f} µs a span   {ratio:5.2f} times local   {end:7.1f} ms at the end")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=5000)
    parser.add_argument("--langfuse", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--to", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.to:
        access = LangfuseAccess.of(options.to, SecretStr(PUBLIC_KEY), SecretStr(SECRET_KEY))
        assert access is not None
        short_run(access, options.seconds, options.spans)
        return
    if options.langfuse and options.seconds:
        print_short_runs(options.seconds, options.spans, as_json=options.json)
        return
    if options.langfuse:
        print_sending(options.spans, as_json=options.json)
        return
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
