"""What the stand-in for LangFuse keeps, and how it answers requests: see `langfuse_server`."""

import gzip
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

WHEN = "2026-01-01T00:00:00.000Z"

Document = dict[str, Any]


@dataclass
class Asked:
    """A request that came: method, path, query, headers by lower-case names, body as it was sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def document(self) -> Any:
        """The body as JSON; None where there is none."""
        return json.loads(self.body) if self.body else None


@dataclass
class Span:
    """A span that came. Ids in hexadecimal; times in nanoseconds; `status` as OTLP: 0 unset, 1 ok, 2 error."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: Document
    status: int = 0
    status_message: str = ""
    events: tuple[Document, ...] = ()
    resource: Document = field(default_factory=dict)
    scope: str = ""


@dataclass
class Kept:
    """What it has: prompts by name (a row for each version), datasets, items and scores by id, spans by trace and id.

    A span or score that comes again replaces the earlier, as LangFuse does; `received` counts every span that came.
    """

    prompts: dict[str, list[Document]] = field(default_factory=dict)
    datasets: dict[str, Document] = field(default_factory=dict)
    items: dict[str, Document] = field(default_factory=dict)
    scores: dict[str, Document] = field(default_factory=dict)
    spans: dict[tuple[str, str], Span] = field(default_factory=dict)
    received: int = 0

    def traces(self) -> dict[str, list[Span]]:
        """The spans of each trace, by their begin."""
        found: dict[str, list[Span]] = {}
        for span in sorted(self.spans.values(), key=lambda s: s.start_ns):
            found.setdefault(span.trace_id, []).append(span)
        return found

    def children(self, trace_id: str, parent_id: str = "") -> list[Span]:
        """The spans under one of a trace, by their begin; those under none where none is named."""
        spans = self.traces().get(trace_id, [])
        known = {span.span_id for span in spans}
        return [s for s in spans if s.parent_id == parent_id or (not parent_id and s.parent_id not in known)]


def unpacked(asked: Asked) -> bytes:
    """A request's body without its packing."""
    return gzip.decompress(asked.body) if asked.headers.get("content-encoding") == "gzip" else asked.body


# Prompts


def create_prompt(kept: Kept, asked: Mapping[str, Any]) -> tuple[int, Document]:
    """A new version; the labels move to it, and `latest` always."""
    name, content, labels = asked.get("name"), asked.get("prompt"), list(asked.get("labels") or [])
    kind = asked.get("type") or "text"
    if not isinstance(name, str) or not 0 < len(name) <= 255 or "|" in name:
        return _bad("Invalid prompt name")
    if isinstance(content, str) != (kind == "text") or not content or not _are_labels(labels):
        return _bad("Invalid request data")
    if kind == "chat" and not all(isinstance(m, dict) and ("role" in m or "name" in m) for m in content):
        return _bad("Invalid request data")
    rows = kept.prompts.setdefault(name, [])
    if rows and rows[-1]["type"] != kind:
        return _bad("Previous versions have different prompt type. Create a new prompt with a different name.")
    row: Document = {
        "id": f"prompt-{name}-{len(rows) + 1}",
        "projectId": "project-1",
        "createdAt": WHEN,
        "updatedAt": WHEN,
        "createdBy": "API",
        "name": name,
        "version": len(rows) + 1,
        "type": kind,
        "prompt": content,
        "config": asked.get("config") or {},
        "labels": [],
        "tags": asked.get("tags") or (rows[-1]["tags"] if rows else []),
        "commitMessage": asked.get("commitMessage"),
        "resolutionGraph": None,
    }
    rows.append(row)
    _label(rows, row, [*labels, "latest"])
    return 201, row


def _are_labels(labels: list[Any]) -> bool:
    return all(isinstance(label, str) and re.fullmatch(r"[a-z0-9_\-.]{1,36}", label) for label in labels)


def _label(rows: list[Document], row: Document, labels: list[str]) -> None:
    for other in rows:
        other["labels"] = [label for label in other["labels"] if label not in labels]
    row["labels"] = [*row["labels"], *dict.fromkeys(labels)]


def _create(kept: Kept, asked: Asked) -> tuple[int, Any]:
    return create_prompt(kept, asked.document)


def _get(kept: Kept, asked: Asked, name: str) -> tuple[int, Any]:
    number, label = asked.query.get("version"), asked.query.get("label")
    if number and label:
        return _bad("Cannot specify both version and label")
    wanted = label or ("" if number else "production")
    for row in kept.prompts.get(name, []):
        if (wanted and wanted in row["labels"]) or (number and str(row["version"]) == number):
            return 200, row
    how = f"label '{wanted}'" if wanted else f"version {number}"
    return 404, {"message": f"Prompt not found: '{name}' with {how}", "error": "LangfuseNotFoundError"}


def _patch(kept: Kept, asked: Asked, name: str, number: str) -> tuple[int, Any]:
    labels = asked.document.get("newLabels")
    if not isinstance(labels, list) or not _are_labels(labels) or "latest" in labels:
        return _bad("Invalid request data")
    rows = kept.prompts.get(name, [])
    for row in rows:
        if str(row["version"]) == number:
            _label(rows, row, labels)
            return 200, row
    return 404, {"message": "Prompt not found", "error": "LangfuseNotFoundError"}


def _list(kept: Kept, asked: Asked) -> tuple[int, Any]:
    rows = []
    for name, versions in sorted(kept.prompts.items()):
        found = [row for row in versions if asked.query.get("label", "latest") in row["labels"]]
        shown = versions if "label" not in asked.query else found
        if not shown or asked.query.get("name", name) != name:
            continue
        rows.append(
            {
                "name": name,
                "type": shown[-1]["type"],
                "versions": [row["version"] for row in shown],
                "labels": sorted({label for row in shown for label in row["labels"]}),
                "tags": shown[-1]["tags"],
                "lastUpdatedAt": WHEN,
                "lastConfig": shown[-1]["config"],
            }
        )
    return 200, _page(rows, asked)


# Datasets


def _dataset(kept: Kept, asked: Asked, name: str) -> tuple[int, Any]:
    if name in kept.datasets:
        return 200, kept.datasets[name]
    return 404, {"message": "Dataset not found", "error": "LangfuseNotFoundError"}


def _datasets(kept: Kept, asked: Asked) -> tuple[int, Any]:
    return 200, _page(list(kept.datasets.values()), asked)


def _put_dataset(kept: Kept, asked: Asked) -> tuple[int, Any]:
    told = asked.document
    if not told.get("name"):
        return _bad("Invalid request data")
    row = {"id": f"dataset-{told['name']}", "projectId": "project-1", "createdAt": WHEN, "updatedAt": WHEN}
    kept.datasets[told["name"]] = row | {k: told.get(k) for k in ("name", "description", "metadata")}
    return 200, kept.datasets[told["name"]]


def _put_item(kept: Kept, asked: Asked) -> tuple[int, Any]:
    told = asked.document
    if told.get("datasetName") not in kept.datasets:
        return 404, {"message": "Dataset not found", "error": "LangfuseNotFoundError"}
    name = told.get("id") or f"item-{len(kept.items) + 1}"
    if name in kept.items and kept.items[name]["datasetName"] != told["datasetName"]:
        return _bad("Dataset item with this id exists in another dataset")
    row = {"id": name, "status": "ACTIVE", "input": None, "expectedOutput": None, "metadata": None}
    row |= {"sourceTraceId": None, "sourceObservationId": None, "mediaReferences": []}
    row |= {"datasetId": f"dataset-{told['datasetName']}", "createdAt": WHEN, "updatedAt": WHEN}
    kept.items[name] = row | {k: v for k, v in told.items() if v is not None}
    return 200, kept.items[name]


def _items(kept: Kept, asked: Asked) -> tuple[int, Any]:
    wanted = asked.query.get("datasetName")
    rows = [row for row in reversed(kept.items.values()) if wanted in (None, row["datasetName"])]
    return 200, _page(rows, asked)


def _page(rows: list[Document], asked: Asked) -> Document:
    number, limit = int(asked.query.get("page") or 1), min(int(asked.query.get("limit") or 50), 100)
    meta = {"page": number, "limit": limit, "totalItems": len(rows), "totalPages": -(-len(rows) // limit)}
    return {"data": rows[(number - 1) * limit : number * limit], "meta": meta}


# Scores and traces


def _scores(kept: Kept, asked: Asked) -> tuple[int, Any]:
    told = asked.document
    if not isinstance(told, list):
        return _bad("Invalid request data")
    errors = []
    for score in told:
        if (
            not isinstance(score, dict)
            or not score.get("name")
            or not isinstance(score.get("value"), int | float | str)
        ):
            errors.append({"message": "Invalid score"})
            continue
        kept.scores[score.get("id") or f"score-{len(kept.scores) + 1}"] = score
    if errors:
        return 207, {"accepted": len(told) - len(errors), "rejected": len(errors), "errors": errors}
    return 202, {"message": "Accepted"}


def _traces(kept: Kept, asked: Asked) -> tuple[int, Any]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    if asked.headers.get("content-type") != "application/x-protobuf":
        return 400, {"message": "Content-Type must be application/x-protobuf", "error": "InvalidRequestError"}
    try:
        request = ExportTraceServiceRequest.FromString(unpacked(asked))
    except (DecodeError, OSError, EOFError):
        return _bad("Failed to parse OTLP trace data")
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for raw in of_scope.spans:
                span = _span(raw, resource, of_scope.scope.name)
                kept.received += 1
                kept.spans[span.trace_id, span.span_id] = span
    return 200, ExportTraceServiceResponse().SerializeToString()


def _span(raw: Any, resource: Document, scope: str) -> Span:
    return Span(
        trace_id=raw.trace_id.hex(),
        span_id=raw.span_id.hex(),
        parent_id=raw.parent_span_id.hex(),
        name=raw.name,
        start_ns=raw.start_time_unix_nano,
        end_ns=raw.end_time_unix_nano,
        attributes=_attributes(raw.attributes),
        status=raw.status.code,
        status_message=raw.status.message,
        events=tuple(
            {"name": e.name, "time_ns": e.time_unix_nano, "attributes": _attributes(e.attributes)} for e in raw.events
        ),
        resource=resource,
        scope=scope,
    )


def _attributes(pairs: Any) -> Document:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def _projects(kept: Kept, asked: Asked) -> tuple[int, Any]:
    row = {"id": "project-1", "name": "fine-tunes", "metadata": {}, "organization": {"id": "o-1", "name": "lab"}}
    return 200, {"data": [row]}


def _bad(message: str) -> tuple[int, Document]:
    return 400, {"message": message, "error": "InvalidRequestError"}


ROUTES: tuple[tuple[str, str, Callable[..., tuple[int, Any]]], ...] = (
    ("GET", "/api/public/projects", _projects),
    ("POST", "/api/public/v2/prompts", _create),
    ("GET", "/api/public/v2/prompts", _list),
    ("GET", "/api/public/v2/prompts/([^/]+)", _get),
    ("PATCH", r"/api/public/v2/prompts/([^/]+)/versions/(\d+)", _patch),
    ("GET", "/api/public/v2/datasets", _datasets),
    ("POST", "/api/public/v2/datasets", _put_dataset),
    ("GET", "/api/public/v2/datasets/([^/]+)", _dataset),
    ("POST", "/api/public/dataset-items", _put_item),
    ("GET", "/api/public/dataset-items", _items),
    ("POST", "/api/public/scores", _scores),
    ("POST", "/api/public/otel/v1/traces", _traces),
)
