"""How long the memory takes, beside a plain Mem0 search of the same store in the same process.

`failed` is a recall after a failure, `plan` one before the first plan, `plain` Mem0's search for the words alone; they
are run in turn. `open` is the first question to a store in a process that has the libraries loaded, without what the
question itself takes; `remember` storing a new lesson, `forget` removing one and writing the files anew.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench.memory_store import fill, lesson, median, milliseconds, opened, percentile
from caravan.values.failure import Diagnosis, FailureClass

_ALONE: dict[str, Any] = {"filters": {"user_id": "caravan"}, "top_k": 10, "threshold": 0.0}

Figures = dict[str, dict[str, float]]


def speed(size: int, rounds: int) -> Figures:
    """p50 and p95 in milliseconds, and the ratio of the medians to the plain search's, for a store of that size."""
    cause = FailureClass.HOST_MEMORY_OOM
    known = Diagnosis(failure=cause, confidence=1, cause="Memory ran out.", fingerprint=f"{cause}:3")
    times: dict[str, list[float]] = {"plain": [], "failed": [], "plan": [], "remember": [], "open": [], "forget": []}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        fill(place, size)
        for _ in range(3):
            memory = opened(place)
            first = milliseconds(partial(_looked, memory))
            times["open"].append(first - milliseconds(partial(_looked, memory)))
            memory.close()
        memory = opened(place)
        for number in range(rounds):
            text, context = f"memory ran out in the loader {number}", lesson(3 + number).context
            with memory._store() as engine:
                times["plain"].append(milliseconds(partial(engine.search, text, **_ALONE)))
            for name, diagnosis in (("failed", known), ("plan", None)):
                asked: dict[str, Any] = {"text": text, "diagnosis": diagnosis, "context": context, "limit": 10}
                times[name].append(milliseconds(partial(memory.recall, **asked)))
            times["remember"].append(milliseconds(partial(memory.remember, lesson(size + number))))
        (case,) = memory.all(limit=1)
        times["forget"].append(milliseconds(partial(memory.forget, case.id)) + milliseconds(memory.close))
    plain = median(times["plain"])
    return {
        name: {"p50_ms": median(t), "p95_ms": percentile(t, 0.95), "ratio": median(t) / plain}
        for name, t in times.items()
    }


def _looked(memory: Any) -> None:
    with memory._store() as engine:
        engine.vector_store.get("00000000-0000-0000-0000-000000000000")


def shown(figures: dict[int, Figures]) -> str:
    """A table of the figures."""
    lines = [f"{'lessons':>8}  {'':9} {'p50':>12} {'p95':>12}   of plain"]
    for size, found in figures.items():
        for name, row in found.items():
            lines.append(f"{size:8}  {name:9} {row['p50_ms']:9.1f} ms {row['p95_ms']:9.1f} ms   {row['ratio']:6.2f}")
    return "\n".join(lines)
