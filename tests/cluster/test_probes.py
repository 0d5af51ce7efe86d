"""Questions to a cluster that change nothing: what the answers come to, and that the time is bounded."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.local import control
from caravan.cluster.nomad import NomadCluster
from caravan.cluster.probes import JOB_ID, NO_ALLOC
from caravan.terminal.checkup import cluster_findings
from caravan.values.checkup import Examination, Heard, Level
from machine import SystemClock
from tests.fakes.clock import FakeClock
from tests.fakes.nomad_http import Answer, NomadHttp, Request
from tests.fakes.recordings import load

DENIED = Answer(b"Permission denied", 403)
SECRET = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
ALLOC = "11111111-2222-4333-8444-555555555555"


def node() -> Any:
    found = next(e["answer"][0] for e in load("cluster-facts")["exchanges"] if e["path"].startswith("/v1/nodes"))
    return found | {"Attributes": {"driver.nvidia.version": "570.86.15"}, "Meta": {}}


def healthy() -> dict[str, Any]:
    """What a Nomad with ACLs answers to a token with all rights."""
    token = {"Name": "ci", "Type": "client", "Policies": ["caravan"], "SecretID": SECRET, "ExpirationTime": None}
    scheduler = {"SchedulerConfig": {"MemoryOversubscriptionEnabled": True, "PreemptionConfig": {}}}
    return {
        "/v1/status/leader": "10.0.0.1:4647",
        "/v1/acl/token/self": token,
        "/v1/agent/self": {"config": {"Region": "global"}, "member": {"Tags": {"build": "2.0.6"}}},
        "/v1/nodes": [node()],
        f"/v1/node/{node()['ID']}": node(),
        "/v1/volumes": [],
        "/v1/regions": ["global"],
        "/v1/namespaces": [{"Name": "default"}, {"Name": "ml"}],
        "/v1/node/pools": [{"Name": "default"}],
        "/v1/operator/scheduler/configuration": scheduler,
        "/v1/allocations": [],
        "/v1/jobs/parse": {"ID": JOB_ID, "Name": JOB_ID},
        "/v1/validate/job": {"ValidationErrors": None},
        f"/v1/job/{JOB_ID}/plan": {"FailedTGAllocs": None},
        "/v1/event/stream": Answer(stream=lambda: iter([b"{}\n"])),
    }


@pytest.fixture
def server() -> Iterator[NomadHttp]:
    made = NomadHttp(lambda _: Answer({}))
    yield made
    made.close()


def examined(server: NomadHttp, table: dict[str, Any], *, token: str | None = SECRET, timeout: float = 5.0) -> Any:
    def answer(request: Request) -> Answer:
        words = {"job": b"job not found", "var": b"variable not found"}.get(request.path.split("/")[2], b"")
        found = table.get(request.path, Answer(words, 404))
        return found if isinstance(found, Answer) else Answer(found)

    server.answer = answer
    cluster = NomadCluster(
        server.address,
        token=token,
        namespace="ml",
        region=None,
        verify=True,
        cert=None,
        clock=FakeClock(),
        timeout=timeout,
    )
    try:
        return cluster.examine()
    finally:
        cluster.close()


def heard(exam: Examination) -> dict[str, Heard]:
    return {p.name: p.heard for p in exam.probes}


def test_a_token_with_all_rights(server: NomadHttp) -> None:
    exam = examined(server, healthy())
    absent = {"read-job", "read-logs", "read-fs"}  # there is no such job and no allocation: but nobody said no
    assert {n for n, h in heard(exam).items() if h is not Heard.OK} == absent
    assert exam.token is not None
    assert (exam.token.name, exam.token.policies) == ("ci", ("caravan",))
    assert exam.facts is not None
    assert exam.facts.version == "2.0.6"
    assert exam.probe("namespaces").found == ["default", "ml"]
    assert exam.probe("scheduler").found == {"oversubscription": True, "preemption": False, "closed": False}


def test_nothing_is_changed(server: NomadHttp) -> None:
    examined(server, healthy())
    wrote = {(r.method, r.path) for r in server.requests if r.method != "GET"}
    assert wrote <= {
        ("POST", "/v1/jobs/parse"),
        ("PUT", "/v1/validate/job"),
        ("PUT", f"/v1/job/{JOB_ID}/plan"),
    }
    assert {r.query["namespace"] for r in server.requests if r.path.startswith("/v1/job/")} == {"ml"}


def test_the_secret_goes_nowhere(server: NomadHttp) -> None:
    table = {name: Answer(f"no {SECRET} here".encode(), 403) for name in healthy()}
    exam = examined(server, {**table, "/v1/status/leader": "10.0.0.1:4647"})
    assert SECRET not in exam.model_dump_json()
    assert SECRET not in str(cluster_findings(exam, FakeClock().now()))


def test_denied_rights_are_told_one_by_one(server: NomadHttp) -> None:
    denied = ("/v1/agent/self", f"/v1/job/{JOB_ID}/plan", "/v1/event/stream", "/v1/operator/scheduler/configuration")
    logs = {f"/v1/client/fs/logs/{NO_ALLOC}": DENIED, "/v1/var/nomad/jobs": DENIED}
    exam = examined(server, {**healthy(), **dict.fromkeys(denied, DENIED), **logs})
    assert {n for n, h in heard(exam).items() if h is Heard.DENIED} == {
        "agent",
        "plan",
        "events",
        "scheduler",
        "read-logs",
        "variables",
    }
    found = {f.name: f for f in cluster_findings(exam, FakeClock().now())}
    assert found["may plan"].level is Level.FAILURE
    assert "submit-job" in found["may plan"].hint
    assert found["may read-logs"].level is Level.FAILURE
    assert found["may events"].level is Level.WARNING
    assert found["may agent"].level is Level.WARNING
    assert found["may parse"].level is Level.OK


def test_logs_and_files_are_tried_on_an_allocation_that_is_there(server: NomadHttp) -> None:
    alloc = {"ID": ALLOC, "TaskStates": {"main": {"StartedAt": "2026-01-01T00:00:00Z"}}}
    table = {**healthy(), "/v1/allocations": [alloc], f"/v1/client/fs/logs/{ALLOC}": Answer(b"x")}
    exam = examined(server, {**table, f"/v1/client/fs/ls/{ALLOC}": DENIED})
    assert exam.probe("read-logs").heard is Heard.OK
    assert exam.probe("read-fs").heard is Heard.DENIED
    (log,) = (r for r in server.requests if r.path.startswith("/v1/client/fs/logs/"))
    assert log.query["task"] == "main"


def test_no_token_where_one_is_needed(server: NomadHttp) -> None:
    exam = examined(server, {**dict.fromkeys(healthy(), DENIED), "/v1/status/leader": "10.0.0.1:4647"}, token=None)
    found = [f for f in cluster_findings(exam, FakeClock().now()) if f.level is Level.FAILURE]
    assert {f.name for f in found} == {"token"}  # what follows from it is no failure of its own
    assert exam.facts is None


def test_a_nomad_that_is_too_old(server: NomadHttp) -> None:
    old = {"config": {"Region": "global"}, "member": {"Tags": {"build": "1.5.3"}}}
    exam = examined(server, {**healthy(), "/v1/agent/self": old})
    found = {f.name: f for f in cluster_findings(exam, FakeClock().now())}
    assert found["version"].level is Level.FAILURE
    assert "1.6" in found["version"].text


def test_what_an_older_version_lacks(server: NomadHttp) -> None:
    old = {"config": {"Region": "global"}, "member": {"Tags": {"build": "1.8.0"}}}
    exam = examined(server, {**healthy(), "/v1/agent/self": old})
    assert len(exam.left_out) == 2
    found = [f for f in cluster_findings(exam, FakeClock().now()) if f.name == "version"]
    assert [f.level for f in found] == [Level.OK, Level.WARNING, Level.WARNING]


def test_no_leader(server: NomadHttp) -> None:
    exam = examined(server, {**healthy(), "/v1/status/leader": ""})
    assert any(f.name == "leader" and f.level is Level.FAILURE for f in cluster_findings(exam, FakeClock().now()))


def test_another_kind_of_server(server: NomadHttp) -> None:
    exam = examined(server, {"/v1/status/leader": Answer(b"<html>hello</html>", 200, {"Content-Type": "text/html"})})
    assert [p.name for p in exam.probes] == ["leader"]
    findings = cluster_findings(exam, FakeClock().now())
    assert [(f.name, f.level) for f in findings] == [("address", Level.FAILURE), ("the rest", Level.SKIPPED)]


def test_silence_ends_the_questions(server: NomadHttp) -> None:
    exam = examined(server, {**healthy(), "/v1/node/pools": Answer(silent=True)}, timeout=0.3)
    assert exam.probe("pools").heard is Heard.UNREACHABLE
    assert exam.probe("plan").heard is Heard.SKIPPED
    levels = {f.level for f in cluster_findings(exam, FakeClock().now()) if f.name == "may plan"}
    assert levels == {Level.SKIPPED}


def test_a_stream_that_has_nothing_to_say_was_not_refused(server: NomadHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caravan.cluster.probes._HEARS", 0.1)
    exam = examined(server, {**healthy(), "/v1/event/stream": Answer(silent=True)})
    assert (exam.probe("events").heard, exam.probe("events").found) == (Heard.OK, False)


def test_a_closed_port() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        cluster = NomadCluster(
            address, token=None, namespace="default", region=None, verify=True, cert=None, clock=FakeClock()
        )
        exam = cluster.examine()
        cluster.close()
    assert heard(exam) == {"leader": Heard.UNREACHABLE}
    first = cluster_findings(exam, FakeClock().now())[0]
    assert (first.name, first.level) == ("address", Level.FAILURE)
    assert "can't be reached" in first.text


def test_the_built_in_cluster(tmp_path: Path) -> None:
    running = control.start(tmp_path / "cluster", inventory=None, environment=dict(os.environ))
    try:
        cluster = NomadCluster(
            running.address,
            token=running.token(),
            namespace="default",
            region=None,
            verify=True,
            cert=None,
            clock=SystemClock(),
        )
        exam = cluster.examine()
        cluster.close()
    finally:
        control.stop(tmp_path / "cluster")
    findings = cluster_findings(exam, SystemClock().now())
    assert [f for f in findings if f.level is Level.FAILURE] == []
    assert any(f.name == "version" and "built-in" in f.text for f in findings)
    assert exam.probe("plan").heard is Heard.OK
