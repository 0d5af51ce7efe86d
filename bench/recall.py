"""How long the memory takes to recall, beside a plain Mem0 search of the same store in the same process.

    python bench/recall.py [--sizes 100 1000 10000] [--rounds 30] [--json]

The store is the embedded one, in a temporary folder, filled with lessons of all causes, 50 codes and 20 models.
`failed` is a recall after a failure, `plan` one before the first plan, `plain` Mem0's search of the words alone; they
are run in turn. `open` is opening the store in a process that has the libraries loaded, `remember` storing a lesson.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from caravan.lessons import first, lesson_key, prepared, search_text, to_metadata  # noqa: E402
from caravan.values.failure import Diagnosis, FailureClass, Lesson  # noqa: E402
from caravan.values.plan import Author, PlanChange  # noqa: E402
from config import prepare_third_party_environment  # noqa: E402

CAUSES = tuple(FailureClass)
WORDS = ["tensor", "worker", "shard", "epoch", "loader", "kernel", "buffer", "socket", "cache", "driver"]
ALONE: dict[str, Any] = {"filters": {"user_id": "caravan"}, "top_k": 10, "threshold": 0.0}


def lesson(number: int) -> Lesson:
    """One of many different lessons."""
    cause = CAUSES[number % len(CAUSES)]
    said = " ".join(WORDS[(number * step) % len(WORDS)] for step in (1, 3, 7))
    return Lesson(
        failure=cause,
        fingerprint=f"{cause}:{number % 97}",
        text=f"{cause.replace('_', ' ')} in the {said} of part {number}.",
        context={
            "framework": "pytorch",
            "base_model": f"org/model-{number % 20}",
            "method": "lora",
            "entry_point": "train.py",
            "code_digest": f"{number % 50:064x}",
        },
        changes=(PlanChange(path="resources.memory_mb", value=2048 + number, by=Author.REPAIR),),
        before={"resources.memory_mb": 2048},
        worked=number % 3 > 0,
        source=f"run-{number}/1",
    )


def fill(memory: Any, size: int, clock: Any) -> None:
    """Store lessons directly, in the form that `remember` gives them: one by one it would take many minutes."""
    memory.remember(lesson(0))
    with memory._store() as engine:
        (row,) = engine.vector_store.list(filters={"user_id": "caravan"}, top_k=1)[0]
        lessons = [prepared(lesson(number)) for number in range(1, size)]
        for begin in range(0, len(lessons), 500):
            part = lessons[begin : begin + 500]
            texts = [search_text(x) for x in part]
            stored = [to_metadata(first(x, clock.now()), lesson_key(x)) for x in part]
            engine.vector_store.insert(
                vectors=[engine.embedding_model.embed(text) for text in texts],
                payloads=[{**row.payload, "data": t, **m} for t, m in zip(texts, stored, strict=True)],
                ids=[str(uuid.uuid4()) for _ in part],
            )


def _open(memory: Any) -> None:
    with memory._store():
        pass


def milliseconds(act: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def measure(size: int, rounds: int) -> dict[str, dict[str, float]]:
    """p50 and p95 in milliseconds, and the ratio of the medians to the plain search's, for a store of that size."""
    from machine import SystemClock
    from memory import Mem0Memory

    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        memory = Mem0Memory(Path(folder), clock=clock)
        fill(memory, size, clock)
        memory.close()
        opened = milliseconds(partial(_open, memory))
        cause = FailureClass.HOST_MEMORY_OOM
        known = Diagnosis(failure=cause, confidence=1, cause="Memory ran out.", fingerprint=f"{cause}:3")
        context = lesson(3).context
        times: dict[str, list[float]] = {"plain": [], "failed": [], "plan": [], "remember": []}
        for number in range(rounds):
            text = f"memory ran out in the loader {number}"
            with memory._store() as engine:
                times["plain"].append(milliseconds(partial(engine.search, text, **ALONE)))
            for name, diagnosis in (("failed", known), ("plan", None)):
                asked: dict[str, Any] = {"text": text, "diagnosis": diagnosis, "context": context, "limit": 10}
                times[name].append(milliseconds(partial(memory.recall, **asked)))
            if number % 5 == 0:
                times["remember"].append(milliseconds(partial(memory.remember, lesson(size + number))))
        memory.close()
    plain = statistics.median(times["plain"])
    figures = {name: _figures(values, plain) for name, values in times.items()}
    return {**figures, "open": _figures([opened], plain)}


def _figures(values: list[float], plain: float) -> dict[str, float]:
    ordered = sorted(values)
    p50 = statistics.median(ordered)
    return {"p50_ms": p50, "p95_ms": ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)], "ratio": p50 / plain}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        prepare_third_party_environment(Path(home))
        start = time.perf_counter()
        measure(2, 1)  # loads the libraries
        loading = time.perf_counter() - start
        figures = {size: measure(size, options.rounds) for size in options.sizes}
    if options.json:
        print(json.dumps({"loading_s": loading, "sizes": figures}))
        return
    print(f"loading the libraries and a first use: {loading:.1f} s")
    print(f"{'lessons':>8}  {'':9} {'p50':>9} {'p95':>9}   of plain")
    for size, found in figures.items():
        for name, row in found.items():
            print(f"{size:8}  {name:9} {row['p50_ms']:6.1f} ms {row['p95_ms']:6.1f} ms   {row['ratio']:6.2f}")


if __name__ == "__main__":
    main()
