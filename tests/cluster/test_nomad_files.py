"""Logs that are followed, files in parts, variables and the token, as real and broken servers answer."""

import base64
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from caravan.cluster.nomad import NomadCluster
from caravan.values.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    JobConflict,
    JobNotFound,
    UsageError,
)
from caravan.values.job import FileEntry, TokenFacts
from tests.fakes.clock import FakeClock
from tests.fakes.nomad_http import Answer, NomadHttp, Request

TOKEN = "b0c1d2e3-secret-of-the-cluster"
SECRET = "hf-value-that-nobody-may-see"
TEXT = b"".join(b"step %d\n" % n for n in range(2000))


class Ticking(FakeClock):
    """A clock that moves by a second whenever it is read."""

    def monotonic(self) -> float:
        self._passed += 1.0
        return super().monotonic()


@pytest.fixture
def server() -> Iterator[NomadHttp]:
    made = NomadHttp(lambda _: Answer({}))
    yield made
    made.close()


@pytest.fixture
def clock() -> FakeClock:
    return Ticking()


@pytest.fixture
def cluster(server: NomadHttp, clock: FakeClock) -> Iterator[NomadCluster]:
    made = NomadCluster(
        server.address, token=TOKEN, namespace="ml", region=None, verify=True, cert=None, clock=clock, timeout=2.0
    )
    yield made
    made.close()


def frame(data: bytes) -> bytes:
    body = {"Data": base64.b64encode(data).decode(), "File": "alloc/logs/train.stdout.0", "Offset": 7} if data else {}
    return json.dumps(body).encode()


def log_server(server: NomadHttp, follow: Callable[[int, int], Answer], over: Callable[[], bool]) -> None:
    """`follow(n, offset)` answers the nth request to follow."""
    followed = {"n": 0}

    def answer(request: Request) -> Answer:
        if request.path.startswith("/v1/allocation/"):
            return Answer(
                {"ClientStatus": "running", "TaskStates": {"train": {"State": "dead" if over() else "running"}}}
            )
        offset = int(request.query["offset"])
        if "follow" not in request.query:
            return Answer(TEXT[offset:])
        followed["n"] += 1
        return follow(followed["n"], offset)

    server.answer = answer


def pieces(*parts: bytes, torn: bool = False) -> Answer:
    return Answer(stream=lambda: iter(parts), torn=torn)


def test_a_log_is_followed_over_cut_connections(server: NomadHttp, cluster: NomadCluster) -> None:
    ends = iter([1000, 5000, 5000, len(TEXT)])
    state = {"over": False}

    def follow(number: int, offset: int) -> Answer:
        if number in {2, 4}:
            return Answer(b"No cluster leader", 500)
        end = next(ends, len(TEXT))
        state["over"] = end == len(TEXT)
        whole = frame(TEXT[offset:end]) + frame(b"")
        return pieces(whole[:7], whole[7:], frame(b""), torn=number % 2 == 1)

    log_server(server, follow, lambda: state["over"])
    assert b"".join(cluster.follow_log("a", "train", "stdout")) == TEXT
    assert [int(r.query["offset"]) for r in server.requests if "follow" in r.query][:4] == [0, 1000, 1000, 5000]
    assert {r.query["namespace"] for r in server.requests} == {"ml"}


def test_a_task_that_is_over_ends_its_log_though_nomad_follows_on(server: NomadHttp, cluster: NomadCluster) -> None:
    state = {"over": False}

    def endless() -> Iterator[bytes]:
        yield frame(TEXT[:100])
        while True:
            state["over"] = True
            yield frame(b"")

    log_server(server, lambda *_: Answer(stream=endless), lambda: state["over"])
    assert b"".join(cluster.follow_log("a", "train", "stdout")) == TEXT


def test_a_log_that_is_not_there_yet_gives_heartbeats(server: NomadHttp, cluster: NomadCluster) -> None:
    log_server(server, lambda *_: Answer(b'task "train" not started yet. No logs available', 404), lambda: False)
    followed = cluster.follow_log("a", "train", "stdout")
    assert [next(followed) for _ in range(3)] == [b"", b"", b""]


def test_following_what_is_not_there(server: NomadHttp, cluster: NomadCluster) -> None:
    server.answer = lambda _: Answer(b'Unknown allocation "a"', 404)
    with pytest.raises(JobNotFound):
        next(cluster.follow_log("a", "train", "stdout"))
    log_server(server, lambda *_: Answer(b'unknown task name "train"', 400), lambda: False)
    with pytest.raises(JobNotFound):
        next(cluster.follow_log("a", "train", "stdout"))


def test_a_collected_allocation_ends_its_log(server: NomadHttp, cluster: NomadCluster) -> None:
    log_server(server, lambda *_: pieces(frame(TEXT[:50])), lambda: False)
    followed = cluster.follow_log("a", "train", "stdout")
    assert next(followed) == TEXT[:50]
    server.answer = lambda _: Answer(b'Unknown allocation "a"', 404)
    assert b"".join(followed) == b""


@pytest.mark.parametrize("garbage", [b"<html>", b'{"Data": "%%"}', b'{"Data": 5}', b"[1]}", b"{" * (2 << 20)])
def test_frames_that_are_none_are_an_outage(garbage: bytes, server: NomadHttp, cluster: NomadCluster) -> None:
    log_server(server, lambda *_: pieces(garbage), lambda: False)
    with pytest.raises(ClusterUnreachable, match="away for 120 s"):
        b"".join(cluster.follow_log("a", "train", "stdout"))


def test_a_denial_is_no_outage(server: NomadHttp, cluster: NomadCluster) -> None:
    log_server(server, lambda *_: Answer(b"Permission denied", 403), lambda: False)
    with pytest.raises(ClusterDenied):
        list(cluster.follow_log("a", "train", "stdout"))


def test_listings_and_parts(server: NomadHttp, cluster: NomadCluster) -> None:
    server.answer = lambda _: Answer(
        [{"Name": "b", "IsDir": False, "Size": 5}, {"Name": "a", "IsDir": True, "Size": 4096}]
    )
    assert cluster.list_files("x", "alloc/data") == (
        FileEntry(name="a", is_dir=True, size=4096),
        FileEntry(name="b", size=5),
    )
    server.answer = lambda _: Answer(None)
    assert cluster.list_files("x", "alloc/data") == ()
    server.answer = lambda _: Answer(b"0123456789")
    assert cluster.read_part("x", "alloc/data/b", offset=3, limit=4) == b"0123"
    assert server.requests[-1].query == {"path": "alloc/data/b", "offset": "3", "limit": "4", "namespace": "ml"}
    for status, text in (
        (404, b"alloc not found"),
        (500, b"open x: no such file or directory"),
        (500, b"stat x: not a directory"),
    ):
        server.answer = lambda _, found=(text, status): Answer(*found)
        assert cluster.list_files("x", "alloc/data") is None
        with pytest.raises(JobNotFound):
            cluster.read_part("x", "alloc/data/b", offset=0, limit=4)


def variable(**items: str) -> Any:
    return {"Namespace": "ml", "Path": "caravan/x", "ModifyIndex": 42, "Items": items}


def test_a_variable_keeps_its_other_items(server: NomadHttp, cluster: NomadCluster) -> None:
    server.answer = lambda _: Answer(variable(A=SECRET))
    assert cluster.variable_names("caravan/x", "ml") == {"A"}
    cluster.write_variable("caravan/x", {"B": "new"}, "ml")
    put = server.requests[-1]
    assert (put.method, put.path, put.query) == ("PUT", "/v1/var/caravan/x", {"namespace": "ml", "cas": "42"})
    assert put.body["Items"] == {"A": SECRET, "B": "new"}


def test_a_new_variable(server: NomadHttp, cluster: NomadCluster) -> None:
    server.answer = lambda r: Answer(variable() if r.method == "PUT" else b"variable not found", 200 if r.body else 404)
    assert cluster.variable_names("caravan/x") is None
    cluster.write_variable("caravan/x", {"B": "new"})
    assert server.requests[-1].query["cas"] == "0"
    with pytest.raises(UsageError, match="no path"):
        cluster.write_variable("caravan/no such", {"B": "new"})


def test_a_variable_that_somebody_else_wrote(server: NomadHttp, cluster: NomadCluster) -> None:
    server.answer = lambda r: Answer(variable(A=SECRET), 409 if r.method == "PUT" else 200)
    with pytest.raises(JobConflict) as caught:
        cluster.write_variable("caravan/x", {"B": SECRET})
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert len([r for r in server.requests if r.method == "PUT"]) == 1


def chained(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "answer",
    [
        Answer(json.dumps(variable(A=SECRET)).encode()[:-3]),
        Answer({"Items": SECRET, "ModifyIndex": 1}),
        Answer({"Items": {"A": {"deep": SECRET}}, "ModifyIndex": 1, "Type": SECRET, "Roles": [SECRET]}),
        Answer([SECRET]),
        Answer(SECRET.encode(), 500),
        Answer(SECRET.encode(), 400),
        Answer(SECRET.encode(), 403),
        Answer(variable(A=SECRET), cut=9),
    ],
)
def test_values_reach_no_exception_and_no_log(
    answer: Answer, server: NomadHttp, cluster: NomadCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer = lambda _: answer
    for call in (
        lambda: cluster.variable_names("caravan/x"),
        lambda: cluster.write_variable("caravan/x", {"B": SECRET}),
        cluster.token,
    ):
        try:
            call()
        except ClusterError as error:
            for link in chained(error):
                assert SECRET not in repr(link) + str(link) + str(getattr(link, "doc", ""))
                assert TOKEN not in repr(link) + str(link)
    assert SECRET not in caplog.text
    assert TOKEN not in caplog.text


def test_the_token(server: NomadHttp, cluster: NomadCluster) -> None:
    body = {"SecretID": TOKEN, "Name": "ci", "Type": "client", "Policies": ["caravan"], "Roles": [{"Name": "gpu"}]}
    server.answer = lambda _: Answer(body | {"ExpirationTime": "2026-11-22T10:00:00.123456789Z"})
    assert cluster.token() == TokenFacts(
        name="ci",
        policies=("caravan", "role gpu"),
        expires_at=datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC),
    )
    server.answer = lambda _: Answer({"Type": "management", "ExpirationTime": None, "Policies": None})
    assert cluster.token() == TokenFacts(management=True)
    for status, text in ((400, b"ACL support disabled"), (404, b"Not Found")):
        server.answer = lambda _, found=(text, status): Answer(*found)
        assert cluster.token() is None


def test_facts_of_five_hundred_nodes(server: NomadHttp, cluster: NomadCluster) -> None:
    def node(number: int) -> Any:
        return {"ID": f"n{number:03}", "Name": f"gpu-{number:03}", "Status": "ready", "ModifyIndex": 10 + number}

    moved: dict[str, int] = {}

    def answer(request: Request) -> Answer:
        if request.path == "/v1/nodes":
            return Answer([node(n) | ({"ModifyIndex": 9999} if f"n{n:03}" in moved else {}) for n in range(500)])
        if request.path.startswith("/v1/node/"):
            return Answer(node(int(request.path[-3:])) | {"Attributes": {"nomad.version": "1.10.5"}})
        if request.path == "/v1/volumes":
            return Answer([{"ID": "weights"}, {"ID": "data"}])
        return Answer(b"Permission denied", 403)

    server.answer = answer
    facts = cluster.facts()
    assert [n.name for n in facts.nodes] == [f"gpu-{n:03}" for n in range(500)]
    assert (facts.version, facts.csi_volumes) == ("1.10.5", ("data", "weights"))
    asked = len(server.requests)
    assert asked == 503
    moved["n007"] = 1
    assert cluster.facts() == facts
    assert len(server.requests) == asked + 4  # agent, list, volumes and the one node that changed


def test_csi_volumes_that_may_not_be_listed_are_not_known(server: NomadHttp, cluster: NomadCluster) -> None:
    agent = {"config": {"Version": {"Version": "2.0.6"}}}
    table = {"/v1/agent/self": Answer(agent), "/v1/nodes": Answer([])}
    server.answer = lambda r: table.get(r.path, Answer(b"Permission denied", 403))
    assert cluster.facts().csi_volumes is None
    table["/v1/volumes"] = Answer(None)
    assert cluster.facts().csi_volumes == ()


def test_a_nomad_that_is_too_old(server: NomadHttp, cluster: NomadCluster) -> None:
    agent = {"config": {"Version": {"Version": "1.5.9"}}}
    server.answer = lambda r: Answer(agent if r.path == "/v1/agent/self" else [])
    with pytest.raises(ClusterError, match=r"runs Nomad 1\.5\.9, and Caravan needs 1\.6\.0 or later"):
        cluster.facts()
