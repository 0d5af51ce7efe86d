"""What a run is judged by, as LangFuse keeps it beside the run's trace. Pure: made of the trace and the run's record.

An id follows from the run and the score's name, so that what is sent twice is there once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from caravan.values.base import Json, Value
from caravan.values.run import ENDED, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caravan.values.run import RunRecord
    from caravan.values.trace import SpanRecord, Trace

SCORED: Final = "scored"
"""Name of the moment in a trace that tells what a drive came to, with the attributes that are named below."""
RECALLED: Final = "recalled"
"""Name of the moments that tell a case that memory gave."""
USED: Final = "recall used"
"""Name of the moments that tell that the plan or a repair follows one."""

_LONGEST_TEXT: Final = 500  # characters of a comment


class Score(Value):
    """One score. `value` is a number, 1 or 0 for a boolean, a word for a category."""

    id: str
    trace_id: str
    name: str
    value: float | str
    data_type: Literal["NUMERIC", "BOOLEAN", "CATEGORICAL"]
    at: datetime
    comment: str = ""

    def body(self) -> dict[str, Json]:
        """As LangFuse takes it."""
        told: dict[str, Json] = {"id": self.id, "traceId": self.trace_id, "name": self.name, "value": self.value}
        told |= {"dataType": self.data_type, "timestamp": self.at.astimezone(UTC).isoformat().replace("+00:00", "Z")}
        return told | ({"comment": self.comment} if self.comment else {})


def scores(trace: Trace, trace_id: str, record: RunRecord) -> tuple[Score, ...]:
    """The scores that are known by now; one that is not known is not there."""
    told = _last_told(trace.spans)
    status = record.status if record.status in ENDED else None
    found: list[tuple[str, float | str, str]] = [
        ("deployed", float(_deployed(trace.spans)), ""),
        ("attempts", float(_attempts(trace.spans, told)), "jobs that were deployed"),
    ]
    if status is not None:
        found.append(("status", status.value, record.detail[:_LONGEST_TEXT]))
        found.append(("cost_usd", record.cost_usd, "US dollars: cluster and model"))
        found += [("fixed", float(status is RunStatus.SUCCEEDED), "")] if _failed(trace.spans) else []
    approved = _approved(trace.spans, record)
    found += [("user_approval", float(approved), "")] if approved is not None else []
    used = _recall_used(trace.spans)
    found += [("recall_used", float(used), "")] if used is not None else []
    found += [("gate", str(told["gate"]), "what the gate made of the model")] if told.get("gate") else []
    found += _errors(told)
    return tuple(_score(trace_id, name, value, comment, record.created_at) for name, value, comment in found)


_BOOLEANS: Final = frozenset({"deployed", "fixed", "user_approval", "recall_used"})


def _score(trace_id: str, name: str, value: float | str, comment: str, at: datetime) -> Score:
    kind: Literal["NUMERIC", "BOOLEAN", "CATEGORICAL"] = (
        "CATEGORICAL" if isinstance(value, str) else "BOOLEAN" if name in _BOOLEANS else "NUMERIC"
    )
    digest = hashlib.sha256(f"{trace_id}/score/{name}".encode()).hexdigest()[:32]
    return Score(id=digest, trace_id=trace_id, name=name, value=value, data_type=kind, at=at, comment=comment)


def _last_told(spans: Iterable[SpanRecord]) -> Mapping[str, Json]:
    told: Mapping[str, Json] = {}
    for span in spans:
        if span.kind == "event" and span.name == SCORED:
            told = span.attributes
    return told


def _registered(spans: Iterable[SpanRecord]) -> Iterator[str]:
    """The jobs that the cluster took, and those that were found there as ours."""
    for span in spans:
        took = span.kind == "cluster" and span.name == "register" and span.status == "ok"
        if took and isinstance(job := span.attributes.get("job"), str):
            yield job


def _deployed(spans: Iterable[SpanRecord]) -> bool:
    return any(_registered(spans))


def _attempts(spans: Iterable[SpanRecord], told: Mapping[str, Json]) -> int:
    known = told.get("attempts")
    return known if isinstance(known, int) else len(set(_registered(spans)))


def _failed(spans: Iterable[SpanRecord]) -> bool:
    """Whether there was something to mend."""
    return any(span.kind == "node" and span.name == "diagnose" for span in spans)


def _approved(spans: Iterable[SpanRecord], record: RunRecord) -> bool | None:
    """What a person said to a plan that was shown; None where nobody was asked or nobody has answered."""
    asked = answered = False
    for span in spans:
        asks = span.attributes.get("asks")
        if isinstance(asks, list) and "approval" in asks:
            asked, answered = True, False
        elif asked and span.kind == "node" and span.name in ("deliver", "deploy_job"):
            answered = True
    if not asked:
        return None
    if record.status is RunStatus.REJECTED:
        return False
    return True if answered else None


def _recall_used(spans: Sequence[SpanRecord]) -> bool | None:
    """Whether anything that memory gave was followed; None where it gave nothing."""
    names = {span.name for span in spans if span.kind == "event"}
    return USED in names if RECALLED in names else None


def _errors(told: Mapping[str, Json]) -> list[tuple[str, float | str, str]]:
    """How far the estimate was from what was measured: 0.1 is 10 % more measured than predicted."""
    found: list[tuple[str, float | str, str]] = []
    for name, unit in (("memory", "GiB of one GPU"), ("time", "seconds")):
        predicted, measured = (_number(told.get(f"{which}_{name}")) for which in ("predicted", "measured"))
        if predicted is None or measured is None:
            continue
        error = round(measured / predicted - 1, 4)
        found.append((f"estimate_error_{name}", error, f"measured {measured:g}, predicted {predicted:g} {unit}"))
    return found


def _number(value: Json) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
    return float(value) if known else None
