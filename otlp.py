"""Observations as OpenTelemetry's protobuf messages, in requests of bounded size. It sends nothing.

The libraries are loaded when the first request is made: a run begins without them.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from caravan.runs.observations import Attribute, Observation

MOST_SPANS: Final = 200
MOST_BYTES: Final = 1 << 20
"""Of one request before it is packed: well below what proxies take as a rule."""
_SCOPE: Final = "caravan"


def load() -> None:
    """Load the libraries now: the first request is made the sooner."""
    encoded((), "", "")
    gzip.compress(b"")


def batches(observations: Sequence[Observation], *, most: int = MOST_BYTES) -> Iterator[tuple[Observation, ...]]:
    """The observations in groups that make requests of at most that size; one that is larger alone is alone."""
    group: list[Observation] = []
    size = 0
    for observation in observations:
        needs = _bytes_of(observation)
        if group and (size + needs > most or len(group) >= MOST_SPANS):
            yield tuple(group)
            group, size = [], 0
        group.append(observation)
        size += needs
    if group:
        yield tuple(group)


def packed(observations: Sequence[Observation], trace_id: str, version: str) -> bytes:
    """An ExportTraceServiceRequest with these spans of one trace, packed with gzip; the same for the same spans."""
    return gzip.compress(encoded(observations, trace_id, version), mtime=0)


def encoded(observations: Sequence[Observation], trace_id: str, version: str) -> bytes:
    """The same, not packed."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

    spans = ScopeSpans(
        scope=InstrumentationScope(name=_SCOPE, version=version), spans=[_span(o, trace_id) for o in observations]
    )
    resource = Resource(attributes=_pairs({"service.name": _SCOPE, "service.version": version}))
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=[spans])])
    return bytes(request.SerializeToString())


def refused(answer: bytes) -> tuple[int, str]:
    """How many spans of a request were not taken, and why, by the answer to it; LangFuse's own says nothing."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        told = ExportTraceServiceResponse.FromString(answer).partial_success
    except DecodeError:  # JSON, or nothing at all: it was taken
        return 0, ""
    return int(told.rejected_spans), str(told.error_message)


def _span(observation: Observation, trace_id: str) -> Span:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    made = Span(
        trace_id=bytes.fromhex(trace_id),
        span_id=bytes.fromhex(observation.id),
        name=observation.name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=observation.start_ns,
        end_time_unix_nano=observation.end_ns,
        attributes=_pairs(observation.attributes),
    )
    if observation.parent is not None:
        made.parent_span_id = bytes.fromhex(observation.parent)
    if observation.failed:
        made.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=observation.message))
    return made


def _pairs(attributes: dict[str, Attribute]) -> list[KeyValue]:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return [KeyValue(key=name, value=_value(value)) for name, value in attributes.items()]


def _value(value: Attribute) -> AnyValue:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue

    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    return AnyValue(string_value=value)


def _bytes_of(observation: Observation) -> int:
    """About what a span takes: its texts, and a little for each field."""
    told = (f"{key}{value}" for key, value in observation.attributes.items())
    texts = (observation.name, observation.message, *told)
    return 80 + sum(len(text.encode("utf-8", "replace")) + 12 for text in texts)
