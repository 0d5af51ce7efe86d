"""The parts of watching by themselves: lines of the stream, the gate, what is kept of forgotten allocations."""

import json
import math
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.cluster.events import Told, read_line
from caravan.cluster.feed import Subscription
from caravan.cluster.gate import HOLDS, READS, Gate, backoff
from caravan.cluster.reading import Seen
from caravan.values.errors import ClusterUnreachable
from tests.fakes.clock import FakeClock
from tests.fakes.recordings import FOLDER

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
TOPIC = st.sampled_from(["Job", "Allocation", "Evaluation", "Node", "Deployment"]) | JSON
EVENT = st.fixed_dictionaries(
    {"Topic": TOPIC, "Key": JSON, "Namespace": st.text(max_size=3) | st.none(), "Payload": JSON, "FilterKeys": JSON}
)


def test_a_recorded_stream_names_its_jobs() -> None:
    lines = (FOLDER / "event-stream.ndjson").read_bytes().splitlines()
    told = [read_line(line) for line in lines]
    assert told[0] == Told()
    jobs = ("docker-gpu-no-nvidia-runtime", "exit-1-restarts")
    for line, said in zip(lines[1:], told[1:], strict=True):
        assert said.index == json.loads(line)["Index"]
        assert said.jobs == {("default", job) for job in jobs if job.encode() in line}


@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_refused(line: bytes) -> None:
    try:
        read_line(line)
    except ValueError:
        return


@given(st.fixed_dictionaries({"Index": JSON, "Events": st.lists(EVENT | JSON, max_size=3) | JSON}) | JSON)
def test_any_json_is_an_event_or_refused(value: Any) -> None:
    try:
        told = read_line(json.dumps(value).encode())
    except ValueError:
        return
    assert all(isinstance(part, str) for key in told.jobs for part in key)


def test_what_a_subscription_asks_for() -> None:
    wide, narrow = Subscription("*"), Subscription("team", frozenset({"b", "a"}))
    assert wide.params() == {"namespace": "*", "topic": ["Job", "Allocation", "Evaluation"]}
    assert narrow.params()["topic"] == [f"{t}:{j}" for t in ("Job", "Allocation", "Evaluation") for j in ("a", "b")]
    assert wide.covers(("any", "x"))
    assert [narrow.covers(k) for k in (("team", "a"), ("team", "c"), ("other", "a"))] == [True, False, False]


def test_the_gate_lets_few_in_and_calls_the_next_in_turn() -> None:
    gate, events = Gate(FakeClock()), [Event() for _ in range(READS + 3)]
    assert [gate.enter(e) for e in events] == [True] * READS + [False] * 3
    assert gate.pause() == math.inf
    gate.leave(None)
    assert [e.is_set() for e in events[READS:]] == [True, False, False]
    assert not gate.enter(events[-1])  # the place is kept for the one who was called
    assert gate.enter(events[READS])
    gate.forget(events[-2])
    gate.leave(None)
    assert not events[-2].is_set()
    assert events[-1].is_set()
    gate.forget(events[-1])  # called, but gone: the place is free again
    assert gate.enter(Event())


def test_in_trouble_one_asks_at_a_time_and_not_at_once() -> None:
    clock = FakeClock()
    gate, first, second = Gate(clock), Event(), Event()
    assert gate.hold()
    assert gate.enter(first)
    assert gate.enter(second)
    gate.leave(ClusterUnreachable("away"))
    gate.leave(ClusterUnreachable("away"))
    assert not gate.hold()
    assert not gate.enter(first)
    clock.sleep(gate.pause())
    assert gate.enter(first)
    assert not gate.enter(second)
    assert gate.pause() >= 1.0  # as long as the first one has no answer
    gate.leave(None)
    assert gate.trouble is None
    assert second.is_set()
    assert gate.enter(second)
    assert [gate.hold() for _ in range(HOLDS)] == [True] * (HOLDS - 1) + [False]


@given(st.integers(0, 10_000), st.floats(0.5, 300))
def test_a_backoff_is_never_nothing_and_never_too_long(tries: int, cap: float) -> None:
    assert 0.1 < backoff(tries, cap=cap) <= cap


def alloc(number: int, status: str = "running") -> Any:
    return {"ID": f"a{number}", "CreateIndex": number, "ClientStatus": status}


def test_what_was_seen_stays_until_the_job_is_another_one() -> None:
    seen = Seen()
    assert seen.add({"CreateIndex": 5}, [alloc(6)]) == []
    assert seen.add({"CreateIndex": 5}, [alloc(7)]) == [alloc(6)]
    assert seen.add(None, []) == [alloc(6), alloc(7)]  # purged
    assert seen.add({"CreateIndex": 5}, [alloc(6, "failed")]) == [alloc(7)]
    assert seen.add({"CreateIndex": 9}, [alloc(7)]) == []  # the list was read before the other job was there
    assert seen.add({"CreateIndex": 9}, [alloc(10)]) == []
    assert seen.add({"CreateIndex": 9}, []) == [alloc(10)]


@pytest.mark.parametrize("job", [None, {}, {"CreateIndex": 0}])
def test_a_job_that_tells_no_index_keeps_what_was_seen(job: Any) -> None:
    seen = Seen()
    seen.add({"CreateIndex": 5}, [alloc(6)])
    assert seen.add(job, []) == [alloc(6)]
