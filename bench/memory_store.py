"""Lessons to measure the store with, and the store filled with them. Shared by the parts of `bench/memory.py`."""

import statistics
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from caravan.lessons import first, lesson_key, prepared, search_text
from caravan.values.failure import FailureClass, Lesson
from caravan.values.plan import Author, PlanChange

CAUSES = tuple(FailureClass)
WORDS = ["tensor", "worker", "shard", "epoch", "loader", "kernel", "buffer", "socket", "cache", "driver"]


def lesson(number: int) -> Lesson:
    """One of many different lessons: of all causes, 50 codes, 40 repositories and 20 models."""
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
            "repository": f"{number % 40:016x}",
        },
        changes=(PlanChange(path="resources.memory_mb", value=2048 + number, by=Author.REPAIR),),
        before={"resources.memory_mb": 2048},
        worked=number % 3 > 0,
        source=f"run-{number}/1",
    )


def opened(folder: Path) -> Any:
    """The memory in a folder."""
    from machine import SystemClock
    from memory import Mem0Memory

    return Mem0Memory(folder, clock=SystemClock())


def fill(folder: Path, size: int) -> None:
    """Store lessons in the form that `remember` gives them, many at once: one by one it would take minutes."""
    from machine import SystemClock
    from memory import fields_of

    now = SystemClock().now()
    with closing(opened(folder)) as memory:
        memory.remember(lesson(0))
        with memory._store() as engine:
            (row,) = engine.vector_store.list(filters=None, top_k=1)[0]
            for begin in range(1, size, 500):
                part = [prepared(lesson(number)) for number in range(begin, min(begin + 500, size))]
                texts = [search_text(x) for x in part]
                fields = [fields_of(first(x, now), lesson_key(x)) for x in part]
                engine.vector_store.insert(
                    vectors=[engine.embedding_model.embed(text) for text in texts],
                    payloads=[{**row.payload, "data": t, **m} for t, m in zip(texts, fields, strict=True)],
                    ids=[str(uuid.uuid4()) for _ in part],
                )


def milliseconds(act: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def cpu_milliseconds(act: Callable[[], object]) -> tuple[float, float]:
    """Wall time of one call, and the processor time that this process took for it."""
    start = time.process_time()
    wall = milliseconds(act)
    return wall, 1000 * (time.process_time() - start)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of them lies."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def median(values: list[float]) -> float:
    """The middle one."""
    return statistics.median(values)
