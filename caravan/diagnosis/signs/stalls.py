"""Signs in our own words on a job that a deadline or its first steps stopped, or that was changed. Only data."""

from typing import Final

from caravan.diagnosis.sign import (
    BUDGET_OVER,
    JOB_CHANGED,
    NOT_ENDED,
    SMOKE_MEMORY,
    SMOKE_TIME,
    STALLED_AT_START,
    STALLED_IN_SILENCE,
    STALLED_WITHOUT_SIGN,
    Origin,
    Sign,
    row,
)
from caravan.values.failure import FailureClass

_F = FailureClass
_O = Origin

_SECRET: Final = r"(?P<path>nomad\.var\.\w+\([^)\s]*\)|vault\.\w+\([^)\s]*\))"

_JOB: Final = r"job (?P<job>\S+): "
_CHANGED: Final = _F.INTERRUPTED_EXTERNALLY

# A hang is less sure than what a log says in so many words: where one process ends in an error and the others wait
# for it, the error is the cause.
_LIKELY: Final = 0.75

_ALL: Final = tuple(failure for failure in _F if failure is not _F.INTERRUPTED_EXTERNALLY)

STALL_SIGNS: Final[tuple[Sign, ...]] = (
    row(rf"^{STALLED_AT_START} .*: Template: .*?{_SECRET}", _O.EVENT, _F.TEMPLATE_SECRET_UNAVAILABLE, 1.0),
    row(rf"^{STALLED_AT_START} .*: Template: ", _O.EVENT, _F.TEMPLATE_SECRET_UNAVAILABLE, 0.95),
    row(rf"^{STALLED_AT_START} .*: Driver: ", _O.EVENT, _F.IMAGE_PULL_TRANSIENT, 0.95),
    row(rf"^{STALLED_AT_START} .*: Downloading Artifacts", _O.EVENT, _F.ARTIFACT_DOWNLOAD_FAILED, 0.95),
    row(rf"^(?:{STALLED_WITHOUT_SIGN}|{STALLED_IN_SILENCE}) ", _O.EVENT, _F.PROCESS_HANG, _LIKELY, _F.HOST_MEMORY_OOM),
    row(
        rf"^{SMOKE_TIME} \((?P<needed_s>\d+) s\): (?P<needed>[^;]+); (?P<allowed>[^;]+)$",
        _O.EVENT,
        _F.RUN_TOO_LONG,
        1.0,
        *(f for f in _ALL if f is not _F.RUN_TOO_LONG),
    ),
    row(
        rf"^{SMOKE_MEMORY}: (?P<tried_gib>[\d.]+ GiB) of (?P<total_gib>[\d.]+ GiB)",
        _O.EVENT,
        _F.CUDA_OOM,
        1.0,
        *(f for f in _ALL if f is not _F.CUDA_OOM),
    ),
    # What the job itself says, where its answer is gone with the allocation.
    row(r"^caravan: smoke: over what was approved: the .* would take about", _O.LOG, _F.RUN_TOO_LONG, 0.95),
    row(rf"^{BUDGET_OVER}: ", _O.EVENT, _CHANGED, 1.0, _F.HOST_MEMORY_OOM, escalate=True, kind="money"),
    # It may still run there: another one beside it would train twice.
    row(rf"^Stalled .*{NOT_ENDED}", _O.EVENT, _F.INTERRUPTED_EXTERNALLY, 1.0, *_ALL, escalate=True),
    row(rf"^{JOB_CHANGED}: {_JOB}.* still runs", _O.EVENT, _CHANGED, 1.0, *_ALL, escalate=True, kind="changed, runs"),
    row(rf"^{JOB_CHANGED}: {_JOB}", _O.EVENT, _CHANGED, 1.0, *_ALL, escalate=True, kind="changed"),
)
