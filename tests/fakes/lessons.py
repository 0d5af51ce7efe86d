"""Lessons and diagnoses to try a memory with, a clock that stands, and what Mem0 needs before it is imported."""

from datetime import UTC, datetime, timedelta
from threading import Event

from caravan.values.failure import Diagnosis, FailureClass, Lesson
from caravan.values.plan import Author, PlanChange

OOM = FailureClass.HOST_MEMORY_OOM


class StillClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def wait(self, event: Event, seconds: float) -> bool:
        self.sleep(0 if event.is_set() else seconds)
        return event.is_set()


def lesson(**fields: object) -> Lesson:
    """One like many; `fields` are those in which it is another."""
    base: dict[str, object] = {
        "failure": OOM,
        "fingerprint": "host_memory_oom:abc",
        "text": "The task was killed at its memory limit of 2048 MB.",
        "context": {"framework": "pytorch", "base_model": "tiny", "method": "lora"},
        "changes": (PlanChange(path="resources.memory_mb", value=4096, by=Author.REPAIR),),
        "worked": True,
        "source": "run-1/1",
    }
    return Lesson.model_validate(base | fields)


def diagnosis(**fields: object) -> Diagnosis:
    """Of the same cause as `lesson`."""
    base: dict[str, object] = {"failure": OOM, "confidence": 1.0, "cause": "memory ran out", "fingerprint": "x"}
    return Diagnosis.model_validate(base | fields)
