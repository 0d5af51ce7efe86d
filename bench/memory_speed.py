"""How long the memory takes, beside a plain Mem0 search of the same store in the same process.

`failed` is a recall after a failure, `plan` one before the first plan, `plain` Mem0's search for the words alone; they
are run in turn. `open` is the first question to a store in a process that has the libraries loaded; `remember` storing
a new lesson, `forget` removing one and writing the files anew. `cpu` is what one call takes of a processor: on a busy
machine it says more than the clock.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.memory_store import cpu_milliseconds, fill, lesson, median, opened, percentile
from caravan.values.failure import Diagnosis, FailureClass

_ALONE: dict[str, Any] = {"filters": {"user_id": "caravan"}, "top_k": 10, "threshold": 0.0}

Figures = dict[str, dict[str, float]]


def speed(size: int, rounds: int) -> Figures:
    """p50 and p95 in milliseconds, and the ratio of the medians to the plain search's, for a store of that size."""
    cause = FailureClass.HOST_MEMORY_OOM
    known = Diagnosis(failure=cause, confidence=1, cause="Memory ran out.", fingerprint=f"{cause}:3")
    times: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}

    def timed(name: str, act: Any) -> None:
        wall, cpu = cpu_milliseconds(act)
        times.setdefault(name, []).append(wall)
        cpus.setdefault(name, []).append(cpu)

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        fill(place, size)
        for _ in range(3):
            memory = opened(place)
            timed("open", partial(_looked, memory))
            memory.close()
        memory = opened(place)
        for number in range(rounds):
            text, context = f"memory ran out in the loader {number}", lesson(3 + number).context
            with memory._store() as engine:
                timed("plain", partial(engine.search, text, **_ALONE))
            for name, diagnosis in (("failed", known), ("plan", None)):
                asked: dict[str, Any] = {"text": text, "diagnosis": diagnosis, "context": context, "limit": 10}
                timed(name, partial(memory.recall, **asked))
            timed("remember", partial(memory.remember, lesson(size + number)))
        (case,) = memory.all(limit=1)
        timed("forget", lambda: (memory.forget(case.id), memory.close()))
    plain = median(times["plain"])
    return {
        name: {
            "p50_ms": median(t),
            "p95_ms": percentile(t, 0.95),
            "cpu_ms": median(cpus[name]),
            "ratio": median(t) / plain,
        }
        for name, t in times.items()
    }


def _looked(memory: Any) -> None:
    with memory._store() as engine:
        engine.vector_store.get("00000000-0000-0000-0000-000000000000")


def shown(figures: dict[int, Figures]) -> str:
    """A table of the figures."""
    lines = [f"{'lessons':>8}  {'':9} {'p50':>12} {'p95':>12} {'cpu':>12}   of plain"]
    for size, found in figures.items():
        for name, row in found.items():
            wall = f"{row['p50_ms']:9.1f} ms {row['p95_ms']:9.1f} ms {row['cpu_ms']:9.1f} ms"
            lines.append(f"{size:8}  {name:9} {wall}   {row['ratio']:6.2f}")
    return "\n".join(lines)
