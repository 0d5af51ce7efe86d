"""A bare text as evidence: a saved log, or what a cluster printed, without a run around it.

What a text is can be told by the caller, or is seen by its form. Only forms are known here, no causes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import Final

from caravan.diagnosis.evidence import evidence_of
from caravan.diagnosis.logscan import TROUBLE
from caravan.diagnosis.logtext import shortened
from caravan.values.base import Json
from caravan.values.escapes import without_escapes
from caravan.values.failure import Evidence, Stage
from caravan.values.job import PlacementFailure
from caravan.values.masking import mask


class TextKind(StrEnum):
    """What a bare text is."""

    TASK_STDERR = "task_stderr"
    DOCKER = "docker"
    NOMAD_EVAL = "nomad_eval"
    NOMAD_ALLOC_EVENT = "nomad_alloc_event"
    NOMAD_API = "nomad_api"


_EVENT_LIMIT: Final = 400  # characters
_EVENTS: Final = 30
_ANSWER: Final = 800  # characters of what a cluster answered
_ANSWERS: Final = 10  # lines of it
_PRINTED: Final = 262_144  # bytes: what a cluster prints of a job is shorter, what is longer is a log
# As Nomad prints it, and as it did before 0.10.
_TIME: Final = r"(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S{0,40}+|\d\d/\d\d/\d\d \d\d:\d\d:\d\d [A-Z]{3,4})"
_EVENT: Final = re.compile(
    rf"^[ \t]*+(?P<at>{_TIME})[ \t]{{2,}}(?P<type>[A-Z][\w -]{{0,40}}?)[ \t]{{2,}}(?P<text>\S.*)$", re.MULTILINE
)
_GROUP: Final = re.compile(r"Task Group \"(?P<name>[^\"]*)\" \(failed to place")
_FILTERED: Final = re.compile(r"\* Constraint \"(?P<why>.{0,1000})\":? (?:filtered )?(?P<count>\d{1,9}) nodes?\b")
_CLASS: Final = re.compile(
    r"\* Class \"(?P<why>[^\"]*)\":? (?:filtered )?(?P<count>\d{1,9}) nodes?\b(?!.{0,200}exhausted)"
)
_EXHAUSTED: Final = re.compile(r"\* Dimension \"(?P<why>.{0,1000})\" exhausted on (?P<count>\d{1,9}) nodes?")
_QUOTA: Final = re.compile(r"\* Quota limit hit \"(?P<why>.{0,1000})\"")
_NODES: Final = re.compile(r"(?<!\d)(\d{1,9}) nodes?\b")
_METRIC: Final = re.compile(
    r"(?i:\b(?P<name>(?:constraint|class)[_ ]?filtered|(?:dimension|quota)[_ ]?exhausted))[\"']?\s{0,3}[=:]?\s{0,3}"
    r"(?:\[[\"'](?P<why>[^\"']{1,400})[\"']\]\s{0,3}[=:]\s{0,3}(?P<count>\d{1,9})"
    r"|map\[(?P<map>[^\n]{1,1000}?)\](?=\s|$)"
    r"|\{(?P<object>[^{}]{1,1000})\})"
)
_IN_MAP: Final = re.compile(r"([^:\s][^:]{0,400}):(\d{1,9})(?=\s|$)")
_IN_OBJECT: Final = re.compile(r"[\"']([^\"']{1,400})[\"']\s{0,3}[:=]\s{0,3}(\d{1,9})")
_REFUSAL: Final = re.compile(
    r"Unexpected response code: \d{3}|Error (?:submitting|parsing|validating|during plan)|http: request failed"
)


def evidence_of_text(text: bytes, kind: TextKind | None = None, *, secrets: Sequence[str] = ()) -> Evidence:
    """The evidence that a bare text is. Without `kind` it is told by its form; any bytes will do. Never raises."""
    plain = evidence_of(Stage.VERIFY, log=text, secrets=secrets)
    if kind in (TextKind.TASK_STDERR, TextKind.DOCKER):
        return plain
    told = mask(without_escapes(text[-_PRINTED:].decode("utf-8", "replace")), secrets)
    kind = kind or kind_of(told)
    if kind is TextKind.NOMAD_EVAL:
        failures = tuple(placements(told))
        return plain.model_copy(
            update={"placement_failures": failures, "log_lines": () if failures else plain.log_lines}
        )
    if kind is TextKind.NOMAD_ALLOC_EVENT:
        return plain.model_copy(update={"events": tuple(events(told))[-_EVENTS:]})
    if kind is TextKind.NOMAD_API:
        answers = tuple(_answers(told))
        message = next(iter(answers), "")
        return Evidence(stage=Stage.DEPLOY, message=message[:_ANSWER], validation_errors=answers)
    return plain


def _answers(text: str) -> Iterator[str]:
    """What a cluster answered, as one line; of a long text its end, and the lines before that name a trouble."""
    whole = " ".join(text.split())
    if len(whole) > _ANSWER:
        lines = (" ".join(line.split())[:_ANSWER] for line in text.splitlines())
        yield from islice((line for line in lines if any(word in line.lower() for word in TROUBLE)), _ANSWERS)
    if whole:
        yield whole[-_ANSWER:]


def kind_of(text: str) -> TextKind:
    """What a text is, by its form; a task's log where nothing says otherwise."""
    if _GROUP.search(text) or '"FailedTGAllocs"' in text or ("Traceback" not in text and _METRIC.search(text)):
        return TextKind.NOMAD_EVAL
    if len(_EVENT.findall(text)) > 1 and "Recent Events" in text:
        return TextKind.NOMAD_ALLOC_EVENT
    if _REFUSAL.search(text) and "Traceback" not in text:
        return TextKind.NOMAD_API
    return TextKind.TASK_STDERR


def events(text: str) -> Iterator[str]:
    """The rows of `nomad alloc status` as event lines, the oldest first whichever way they are printed."""
    rows = [(m["at"], shortened(f"{m['type']}: {m['text'].strip()}")) for m in _EVENT.finditer(text)]
    if rows and rows[0][0] > rows[-1][0]:
        rows.reverse()
    return (line for _, line in rows)


def placements(text: str) -> Iterator[PlacementFailure]:
    """Why groups could not be placed, as `nomad job run`, `job plan` and `eval status` print it or as Nomad's JSON."""
    if text.lstrip().startswith("{"):
        yield from _from_json(text)
        return
    parts = _GROUP.split(text)
    groups = list(zip(parts[1::2], parts[2::2], strict=True)) or [("", text)]
    for name, said in groups:
        failure = PlacementFailure(
            group=name,
            nodes_evaluated=max((int(n) for n in _NODES.findall(said)), default=0),
            nodes_available=_counts([("nodes", n) for n in _NODES.findall(said)]),
            class_filtered=_counts(_CLASS.findall(said)),
            constraint_filtered=_counts(_FILTERED.findall(said)),
            dimension_exhausted=_counts(_EXHAUSTED.findall(said)),
            quota_exhausted=tuple(_QUOTA.findall(said)),
        )
        if not (failure.constraint_filtered or failure.dimension_exhausted or failure.quota_exhausted):
            failure = _metrics(said) or failure
        if parts[1::2] or failure.constraint_filtered or failure.dimension_exhausted or failure.quota_exhausted:
            yield failure


def _by_name(text: str) -> Iterator[tuple[str, str, str]]:
    """Name of a metric, why, and how many nodes, from how schedulers' logs and other tools print an evaluation."""
    for match in _METRIC.finditer(text):
        name = match["name"].lower().replace("_", "").replace(" ", "")
        if match["why"]:
            yield name, match["why"], match["count"]
        for why, count in _IN_MAP.findall(match["map"] or "") + _IN_OBJECT.findall(match["object"] or ""):
            yield name, why.strip(), count


def _metrics(text: str) -> PlacementFailure | None:
    counts: dict[str, list[tuple[str, str]]] = {}
    for name, why, count in _by_name(text):
        counts.setdefault(name, []).append((why, count))
    if not counts:
        return None
    filtered, exhausted = _counts(counts.get("constraintfiltered", [])), _counts(counts.get("dimensionexhausted", []))
    return PlacementFailure(
        group="",
        nodes_evaluated=max((n for some in (filtered, exhausted) for n in some.values()), default=0),
        class_filtered=_counts(counts.get("classfiltered", [])),
        constraint_filtered=filtered,
        dimension_exhausted=exhausted,
        quota_exhausted=tuple(why for why, _ in counts.get("quotaexhausted", [])),
    )


def _counts(found: Iterable[tuple[str, str]]) -> dict[str, int]:
    return {why[:_EVENT_LIMIT]: int(count) for why, count in found}


def _from_json(text: str) -> Iterator[PlacementFailure]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    groups = document.get("FailedTGAllocs") if isinstance(document, dict) else None
    for name, metric in (groups or {}).items() if isinstance(groups, dict) else ():
        if isinstance(metric, dict):
            yield PlacementFailure(
                group=str(name),
                nodes_evaluated=_count(metric.get("NodesEvaluated")),
                nodes_available=_numbers(metric.get("NodesAvailable")),
                constraint_filtered=_numbers(metric.get("ConstraintFiltered")),
                dimension_exhausted=_numbers(metric.get("DimensionExhausted")),
                quota_exhausted=tuple(str(q) for q in metric.get("QuotaExhausted") or () if isinstance(q, str)),
            )


def _count(value: Json) -> int:
    return value if isinstance(value, int) else 0


def _numbers(value: Json) -> dict[str, int]:
    return {str(k)[:_EVENT_LIMIT]: _count(v) for k, v in value.items()} if isinstance(value, dict) else {}
