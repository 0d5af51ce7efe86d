"""Sending a trace file to LangFuse: what arrives, what is remembered, and what LangFuse may do wrong."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from caravan.values.run import RunRecord, RunRequest, RunStatus
from langfuse_access import LangfuseError, LangfuseFault
from langfuse_client import LangfuseClient
from observability import LocalTracer, trace_id
from sending import TraceSender, is_missing, note_path, push, read_note
from tests.fakes.clock import FakeClock
from tests.fakes.langfuse_server import LangfuseServer, blurts, cuts, redirects, status

RUN = "abc12345"
TRACES = "/api/public/otel"
SCORES = "/api/public/scores"


class Place:
    """A run's trace and a LangFuse."""

    def __init__(self, home: Path, server: LangfuseServer) -> None:
        self.path, self.clock, self.server = home / "traces" / f"{RUN}.jsonl", FakeClock(), server
        self.tracer = LocalTracer(self.path, run_id=RUN, clock=self.clock)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        request = RunRequest(prompt="Train it", source="https://git.invalid/x/nanoGPT.git")
        self.record = RunRecord(id=RUN, created_at=at, updated_at=at, request=request, user="ana")

    def trace(self, nodes: int = 3, text: str = "") -> None:
        with self.tracer.span("run", "run"):
            for number in range(nodes):
                with self.tracer.span(f"node {number}", "node", text=text):
                    self.clock.sleep(1)

    def sender(self, **known: Any) -> TraceSender:
        client = LangfuseClient(self.server.access(timeout_s=5.0))
        return TraceSender(client, self.path, self.record, clock=self.clock, **known)

    def names(self) -> list[str]:
        return sorted(span.name for span in self.server.kept.spans.values())

    def lacks(self) -> bool:
        return is_missing(self.path, self.server.access())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with LangfuseServer() as server:
        yield Place(tmp_path, server)


def test_what_is_over_is_sent_once_and_the_rest_at_the_end(place: Place) -> None:
    sender = place.sender()
    with place.tracer.span("run", "run"):
        with place.tracer.span("first", "node"):
            place.clock.sleep(1)
        assert sender.send(live=True).spans == 2  # the root is sent with whatever is new
        assert sender.send(live=True).spans == 0
        with place.tracer.span("second", "node"):
            assert sender.send(live=True).spans == 0
    place.record = sender.record = place.record.model_copy(update={"status": RunStatus.SUCCEEDED})
    taken = sender.send(live=False)
    assert (taken.spans, taken.scores > 0) == (3, True)
    assert place.names() == ["drive 1", "first", "run", "second"]
    assert {s.trace_id for s in place.server.kept.spans.values()} == {trace_id(RUN)}
    (root,) = place.server.kept.children(trace_id(RUN))
    assert root.name == "run"
    assert json.loads(root.attributes["langfuse.observation.output"])["status"] == "succeeded"
    assert root.resource == {"service.name": "caravan", "service.version": root.resource["service.version"]}


def test_what_is_sent_twice_is_there_once(place: Place) -> None:
    place.trace()
    push(place.sender(), place.clock)
    before, scores = dict(place.server.kept.spans), dict(place.server.kept.scores)
    push(place.sender(again=True), place.clock)
    assert place.server.kept.received == 2 * len(before)
    assert (place.server.kept.spans, place.server.kept.scores) == (before, scores)


def test_another_process_goes_on_behind_what_was_taken(place: Place) -> None:
    place.trace(2)
    place.sender().send(live=False)
    assert not place.lacks()
    place.trace(1)
    assert place.lacks()
    taken = place.sender().send(live=False)
    assert taken.spans == 3  # root, drive, node
    assert not place.lacks()


def test_another_project_has_nothing_of_it(place: Place, tmp_path: Path) -> None:
    place.trace()
    place.sender().send(live=False)
    with LangfuseServer() as other:
        assert is_missing(place.path, other.access())
        place.server = other
        assert place.sender().send(live=False).spans == 5


def test_a_note_that_is_damaged_says_nothing(place: Place) -> None:
    place.trace()
    place.sender().send(live=False)
    note_path(place.path).write_text("{")
    assert place.lacks()
    assert place.sender().send(live=False).spans == 5


def test_a_request_that_is_too_large_goes_in_parts(place: Place) -> None:
    place.trace(20)
    place.server.fail(status(413), TRACES, times=3)
    taken = place.sender().send(live=False)
    assert (taken.spans, taken.rejected) == (22, 0)
    assert len(place.names()) == 22


def test_a_span_that_is_too_large_alone_goes_without_its_texts(place: Place) -> None:
    place.trace(0)
    place.server.fail(status(413), TRACES, times=2)  # both, then the root alone
    taken = place.sender().send(live=False)
    assert (taken.spans, taken.rejected) == (2, 0)
    (root,) = place.server.kept.children(trace_id(RUN))
    assert "langfuse.observation.metadata" not in root.attributes


def test_what_is_never_taken_is_counted_and_missing(place: Place) -> None:
    place.trace(1)
    place.server.fail(status(413), TRACES)
    taken = place.sender().send(live=False)
    assert (taken.spans, taken.rejected) == (0, 3)
    assert "too large" in taken.why
    assert place.lacks()


def test_a_part_that_is_refused_is_told(place: Place) -> None:
    place.trace(2)
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 1
    answer.partial_success.error_message = "one is odd"
    place.server.fail(blurts(answer.SerializeToString(), kind="application/x-protobuf"), TRACES, times=1)
    taken = place.sender().send(live=False)
    assert (taken.spans, taken.rejected, taken.why) == (3, 1, "one is odd")
    assert read_note(place.path).rejected == 1
    assert place.lacks()


def test_refused_scores_are_told(place: Place) -> None:
    place.trace(1)
    place.server.fail(blurts(json.dumps({"accepted": 1, "rejected": 1, "errors": []}), 207), SCORES)
    taken = place.sender().send(live=False)
    assert (taken.scores, taken.rejected) == (1, 1)


def test_a_bad_request_is_not_repeated(place: Place) -> None:
    place.trace(1)
    place.server.fail(status(400, "odd"), TRACES)
    taken = push(place.sender(), place.clock)
    assert taken.rejected == 3
    assert len(place.server.paths(TRACES)) == 1


def test_langfuse_may_answer_with_json(place: Place) -> None:
    place.trace(1)
    place.server.fail(blurts("{}"), TRACES)
    assert place.sender().send(live=False).spans == 3


def test_a_push_waits_as_long_as_it_is_asked_to(place: Place) -> None:
    place.trace(1)
    place.server.fail(status(429, retry_after="7"), TRACES, times=1)
    place.server.fail(status(500), TRACES, times=1)
    before = place.clock.monotonic()
    assert push(place.sender(), place.clock).spans == 3
    assert place.clock.monotonic() - before == 7 + 4


@pytest.mark.parametrize(
    ("fault", "said", "tries"),
    [
        (status(401), LangfuseFault.DENIED, 1),
        (status(403), LangfuseFault.FORBIDDEN, 1),
        (status(503), LangfuseFault.SERVER_ERROR, 3),
        (status(429, retry_after="86400"), LangfuseFault.TOO_MANY, 1),
        (redirects("https://elsewhere.invalid/"), LangfuseFault.REDIRECTED, 1),
        (cuts(), LangfuseFault.UNREACHABLE, 3),
    ],
)
def test_what_no_patience_mends_is_an_error(place: Place, fault: Any, said: LangfuseFault, tries: int) -> None:
    place.trace(1)
    place.server.fail(fault, TRACES)
    with pytest.raises(LangfuseError) as raised:
        push(place.sender(), place.clock)
    assert raised.value.fault is said
    assert len(place.server.paths(TRACES)) == tries
    assert place.lacks()
    place.server.heal()
    assert push(place.sender(), place.clock).spans == 3


def test_what_was_taken_before_a_failure_is_not_sent_again(place: Place) -> None:
    place.trace(450)
    sender = place.sender()
    sent = len(place.server.paths(TRACES))
    place.server.fail(status(500), SCORES, times=1)
    with pytest.raises(LangfuseError):
        sender.send(live=False)
    received = place.server.kept.received
    assert (sent, received) == (0, 452)
    assert sender.send(live=False).spans == 1  # the root
    assert len(place.names()) == 452


def test_requests_are_packed_and_of_bounded_size(place: Place) -> None:
    place.trace(2000, text="some text " * 150)
    place.sender().send(live=False)
    bodies = [a.body for a in place.server.asked if a.path.startswith(TRACES)]
    assert max(len(gzip.decompress(body)) for body in bodies) < (1 << 20) + 10_000
    assert len(place.names()) == 2002


def test_what_is_known_to_be_secret_now_leaves_in_no_part(place: Place) -> None:
    with (
        place.tracer.span("run", "run"),
        place.tracer.span("find hush-hush-value", "cluster", told={"hush-hush-value": 1}),
    ):
        place.tracer.event("hush-hush-value", why="by hush-hush-value")
    request = place.record.request.model_copy(update={"source": "/x/hush-hush-value", "prompt": "hush-hush-value"})
    told = {"request": request, "user": "hush-hush-value", "detail": "hush-hush-value", "status": RunStatus.FAILED}
    place.record = place.record.model_copy(update=told)
    push(place.sender(secrets=("hush-hush-value",), content=True), place.clock)
    assert len(place.names()) == 4
    left = place.server.sent()
    assert b"hush" not in left


def test_the_users_sentence_leaves_only_where_content_may(place: Place) -> None:
    place.trace(1)
    push(place.sender(), place.clock)
    assert b"Train it" not in place.server.sent()
    push(place.sender(content=True, again=True), place.clock)
    assert b"Train it" in place.server.sent()


def test_a_trace_that_is_not_there_is_nothing_to_send(place: Place) -> None:
    assert push(place.sender(), place.clock).spans == 0
    assert not place.lacks()
    assert place.server.asked == []
