"""A run's trace as LangFuse shows it: one root, under it what `traces RUN` prints, each step an observation. Pure.

Ids follow from the trace file alone, so that what is sent twice is there once. The attributes are those that LangFuse
publishes for OpenTelemetry spans. How they are encoded and sent is not known here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from caravan.runs.timeline import WAITING, State, Step, Timeline, timeline
from caravan.values.base import Json, Value
from caravan.values.prompts import remote_name

if TYPE_CHECKING:
    from caravan.values.trace import SpanRecord, Trace

Attribute = str | bool | int | float | list[str]

TRACE_NAME: Final = "caravan run"
ROOT_NAME: Final = "run"

_TYPES: Final = {
    "run": "agent",
    "node": "chain",
    "cluster": "tool",
    "tool": "tool",
    "reasoner": "span",
    "generation": "generation",
    "event": "event",
}
"""Kind of a step → type of the observation, of those that LangFuse has; `span` for the rest."""
_NAMED: Final = {
    ("memory", "recall"): "retriever",
    ("node", "evaluate"): "evaluator",
    ("node", "budget_gate"): "guardrail",
    ("node", "validate_spec"): "guardrail",
}
"""Kind and name of steps that are more than their kind says."""
_LEVELS: Final = {State.FAILED: "ERROR", State.CUT_OFF: "WARNING", State.INTERRUPTED: "WARNING"}
_DOUBTFUL: Final = frozenset({"step by rules", "reply mended"})  # moments at which something did not go as meant
_UNFINISHED: Final = (State.RUNNING, State.WAITING)
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")
_LONGEST_ID: Final = 200  # characters of a session or a user that LangFuse takes
_CONTENT: Final = frozenset({"input", "output"})


class About(Value):
    """The run that a trace is of, as far as a trace page tells it. All texts are masked already.

    `status` and `detail` are the run's; `waits`: it waits for a person now; `content`: what models were asked and have
    said is told, where the trace has it.
    """

    run_id: str
    trace_id: str
    user: str = ""
    session: str = ""
    tags: tuple[str, ...] = ()
    status: str = ""
    detail: str = ""
    failed: bool = False
    waits: bool = False
    prompt: str = ""
    content: bool = False
    version: str = ""


@dataclass(frozen=True)
class Observation:
    """One span: ids of 16 hexadecimal digits, times in nanoseconds since 1970, attributes by their published names."""

    id: str
    parent: str | None
    name: str
    start_ns: int
    end_ns: int
    failed: bool = False
    message: str = ""
    attributes: dict[str, Attribute] = field(default_factory=dict)


_TEXTS: Final = tuple(f"langfuse.observation.{name}" for name in ("input", "output", "metadata"))


def bare(observation: Observation) -> Observation:
    """The same without its long texts, for a server that takes no more."""
    kept = {name: value for name, value in observation.attributes.items() if name not in _TEXTS}
    if len(kept) == len(observation.attributes):
        return observation
    return replace(observation, attributes=kept)


def root_id(trace_id: str) -> str:
    """The id of the trace's root."""
    return _derived(trace_id, "root")


def observations(
    trace: Trace,
    about: About,
    now: datetime,
    *,
    live: bool,
    harmless: Callable[[Json], Json] = lambda value: value,
    without: Collection[str] = (),
) -> tuple[Observation, ...]:
    """The root and all steps that are over, in the order of the tree.

    `live`: an agent works on the run now, so what is open in its last drive is left out, as is a wait before a drive of
    which nothing is known yet. Else what is open was cut off when its process died. `harmless` masks what goes out.
    `without`: ids of those that are not wanted, which saves their making.
    """
    if not trace.spans:
        return ()
    line = timeline(trace, now, driven=live, waits=about.waits and not live)
    made = _Made(trace, about, harmless)
    over = _finished(line, root_id(about.trace_id), live=live)
    steps = tuple(found for step, parent in over if (found := made.of(step, parent, without)) is not None)
    return (made.root(line), *steps)


def _finished(line: Timeline, root: str, *, live: bool) -> Iterator[tuple[Step, str]]:
    """The steps that are over, each with its parent's id in the tree."""
    last = max((number for number, step in enumerate(line.steps) if step.inside), default=-1)
    for number, top in enumerate(line.steps):
        if top.kind == "wait" and live and number > last:
            continue
        waiting = [(top, root, True)]
        while waiting:  # no recursion: a damaged trace may be deep
            step, parent, over = waiting.pop()
            over = step.state not in _UNFINISHED and (over or step.kind != "phase")
            if over:
                yield step, parent
            waiting += [(child, step.id, over) for child in reversed(step.inside)]


class _Made:
    """Makes observations of one trace's steps."""

    def __init__(self, trace: Trace, about: About, harmless: Callable[[Json], Json]) -> None:
        self._about, self._harmless = about, harmless
        self._spans: dict[str, SpanRecord] = {span.id: span for span in trace.spans}
        self._drives: dict[str, SpanRecord] = {}
        self._begun = _ns(trace.spans[0].started_at)
        self._end = self._begun
        self._common = _common(about)
        for span in trace.spans:
            above = self._drives.get(span.parent or "")
            self._drives[span.id] = above or span

    def root(self, line: Timeline) -> Observation:
        """The run as a whole, from its first sign to the last of the steps that were made, or left out, before."""
        about = self._about
        message = about.detail if about.failed else ""
        told: dict[str, Attribute] = {
            **self._common,
            "langfuse.observation.type": "agent",
            "langfuse.trace.metadata": _json(self._harmless({"run_id": about.run_id, "status": about.status})),
            "langfuse.observation.metadata": _json(
                {"working_seconds": line.working, "waiting_seconds": line.waiting, "idle_seconds": line.idle}
            ),
            "langfuse.observation.output": _json(self._harmless({"status": about.status, "detail": about.detail})),
        }
        if about.prompt:
            told["langfuse.observation.input"] = str(self._harmless(about.prompt))
        if about.failed:
            told |= {"langfuse.observation.level": "ERROR", "langfuse.observation.status_message": message}
        return Observation(
            root_id(about.trace_id),
            None,
            ROOT_NAME,
            self._begun,
            self._end,
            failed=about.failed,
            message=message,
            attributes=told,
        )

    def of(self, step: Step, parent: str, without: Collection[str] = ()) -> Observation | None:
        """A step; None where it is not wanted."""
        start = self._start(step)
        end = start + round(max(step.seconds or 0.0, 0.0) * 1e6) * 1000
        self._end = max(self._end, end)
        if self._id(step.id) in without:
            return None
        name, message = str(self._harmless(step.name)) or "?", str(self._harmless(_said(step)))
        return Observation(
            id=self._id(step.id),
            parent=self._id(parent),
            name=name,
            start_ns=start,
            end_ns=end,
            failed=step.state is State.FAILED,
            message=message,
            attributes=self._common | self._attributes(step, message),
        )

    def _start(self, step: Step) -> int:
        """By the time of day at which its drive began, and the process's own clock from there on."""
        span = self._spans.get(step.id)
        if span is None:  # a wait begins where what was before it ended
            return self._end
        return _ns(self._drives[span.id].started_at) + round(span.offset_s * 1e6) * 1000

    def _id(self, name: str) -> str:
        return name if _SPAN_ID.fullmatch(name) else _derived(self._about.trace_id, name)

    def _attributes(self, step: Step, message: str) -> dict[str, Attribute]:
        known = self._harmless(step.attributes)
        attributes: dict[str, Json] = known if isinstance(known, dict) else {}
        told: dict[str, Attribute] = {"langfuse.observation.type": type_of(step)}
        level = _LEVELS.get(step.state) or ("WARNING" if step.name in _DOUBTFUL and step.kind == "event" else "")
        if level:
            told["langfuse.observation.level"] = level
        if message:
            told["langfuse.observation.status_message"] = message
        metadata = {key: value for key, value in attributes.items() if key not in _CONTENT}
        metadata |= {"kind": step.kind} | ({"state": step.state.value} if step.state.value else {})
        told["langfuse.observation.metadata"] = _json(metadata)
        told |= _generation(attributes) if step.kind == "generation" else {}
        given, found = _given_and_found(step, attributes, content=self._about.content)
        told |= {"langfuse.observation.input": _json(given)} if given is not None else {}
        told |= {"langfuse.observation.output": _json(found)} if found is not None else {}
        return told


def type_of(step: Step) -> str:
    """The type that LangFuse shows a step as."""
    return _NAMED.get((step.kind, step.name)) or _TYPES.get(step.kind, "span")


def _common(about: About) -> dict[str, Attribute]:
    """What every span of the trace says of it: LangFuse keeps no record of a trace beside its spans."""
    told: dict[str, Attribute] = {"langfuse.trace.name": TRACE_NAME, "langfuse.trace.tags": list(about.tags)}
    if about.user:
        told["user.id"] = about.user[:_LONGEST_ID]
    if about.session:
        told["session.id"] = about.session[:_LONGEST_ID]
    if about.version:
        told["langfuse.version"] = about.version
    return told


def _said(step: Step) -> str:
    """The step's state in a line where it is more than over."""
    if step.state is State.FAILED:
        return step.error
    if step.state is State.CUT_OFF:
        return "cut off: its process was killed, and it lasted at least so long"
    if step.state is State.ASKED:
        asks = step.attributes.get("asks")
        return f"asks a person: {', '.join(map(str, asks))}" if isinstance(asks, list) and asks else "asks a person"
    if step.state is State.INTERRUPTED:
        return "interrupted"
    return WAITING if step.kind == "wait" and step.name == WAITING else ""


def _generation(attributes: Mapping[str, Json]) -> dict[str, Attribute]:
    """What LangFuse knows of a model's call: the model, its tokens, its price, the prompt that it manages."""
    told: dict[str, Attribute] = {}
    if model := attributes.get("model"):
        told["langfuse.observation.model.name"] = str(model)
    counts = {"input": attributes.get("prompt_tokens"), "output": attributes.get("completion_tokens")}
    usage = {name: count for name, count in counts.items() if isinstance(count, int)}
    if usage:
        told["langfuse.observation.usage_details"] = _json(usage)
    usd = attributes.get("usd")
    if isinstance(usd, int | float):
        told["langfuse.observation.cost_details"] = _json({"total": usd})
    told["langfuse.observation.model.parameters"] = _json({"thinking": attributes.get("thinking") is True})
    number, prompt = attributes.get("prompt_number"), attributes.get("prompt")
    if isinstance(number, int) and prompt:  # LangFuse links what it manages itself, by its name there and number
        told |= {"langfuse.observation.prompt.name": remote_name(str(prompt))}
        told["langfuse.observation.prompt.version"] = number
    return told


def _given_and_found(step: Step, attributes: Mapping[str, Json], *, content: bool) -> tuple[Json, Json]:
    """What stands in the page's two fields: a change of the plan as before and after, a recall as sought and found, and
    with `content` what a model was asked and has said.
    """
    if "before" in attributes and "after" in attributes:
        return attributes["before"], attributes["after"]
    if step.kind == "memory" and step.name == "recall":
        sought = {key: attributes[key] for key in ("failure_class", "fingerprint") if attributes.get(key)}
        return sought or None, attributes.get("cases")
    return (attributes.get("input"), attributes.get("output")) if content else (None, None)


def _derived(trace_id: str, name: str) -> str:
    """A span's id for what has none of its own: 8 bytes of a SHA-256, never all zero."""
    return hashlib.sha256(f"{trace_id}/{name}".encode("utf-8", "replace")).hexdigest()[:15] + "1"


def _ns(at: datetime) -> int:
    """Nanoseconds since 1970, without the rounding of a float."""
    passed = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return max((passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1000, 0)


def _json(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
