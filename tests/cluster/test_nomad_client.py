"""What the client asks and how it reads good answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from caravan.cluster.nomad import NomadCluster
from caravan.values.job import ClusterKind, DeviceGroup, HostVolume
from caravan.values.run import Phase
from tests.fakes.clock import FakeClock
from tests.fakes.nomad_http import Answer, NomadHttp, Request
from tests.fakes.recordings import load, states

JOB: Any = {"ID": "a/b c", "Type": "batch", "Namespace": "ml", "Meta": {"caravan_spec_sha256": "f" * 64}}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server() -> Iterator[NomadHttp]:
    made = NomadHttp(lambda _: Answer({}))
    yield made
    made.close()


@pytest.fixture
def cluster(server: NomadHttp, clock: FakeClock) -> Iterator[NomadCluster]:
    made = NomadCluster(
        server.address + "/", token="t", namespace="team", region="eu", verify=True, cert=None, clock=clock
    )
    yield made
    made.close()


def route(server: NomadHttp, table: dict[str, Any]) -> None:
    """Answer by path; a value that is callable gets the request."""

    def answer(request: Request) -> Answer:
        kind = request.path.split("/")[2]
        found = table.get(request.path, Answer(f"{kind} not found".encode() if kind in {"job", "node"} else b"", 404))
        found = found(request) if callable(found) else found
        return found if isinstance(found, Answer) else Answer(found)

    server.answer = answer


def recorded_node() -> Any:
    exchanges = load("cluster-facts")["exchanges"]
    return next(e["answer"][0] for e in exchanges if e["path"].startswith("/v1/nodes"))


def agent(**tags: str) -> Any:
    return {"config": {"Region": "eu", "Version": {"Version": "2.0.6"}}, "member": {"Tags": {"build": "2.0.6", **tags}}}


def test_facts_of_a_recorded_node(server: NomadHttp, cluster: NomadCluster) -> None:
    node = recorded_node()
    whole = node | {"Attributes": {"cpu.arch": "amd64"}, "Meta": {"rack": "1"}}
    route(server, {"/v1/agent/self": agent(), "/v1/nodes": [node], f"/v1/node/{node['ID']}": whole})
    facts = cluster.facts()
    assert (facts.kind, facts.shared_files, facts.version, facts.region) == (ClusterKind.NOMAD, False, "2.0.6", "eu")
    assert facts.address == server.address
    (found,) = facts.nodes
    assert (found.name, found.cpu_mhz, found.cores, found.memory_mb) == ("gpu-node-1", 5200, 2, 24105)
    assert found.devices == (
        DeviceGroup(
            vendor="nvidia",
            type="gpu",
            model="NVIDIA A100-SXM4-80GB",
            count=2,
            memory_mib=81920,
            driver="570.86.15",
        ),
    )
    assert set(found.drivers) == {"java", "mock_driver", "raw_exec", "exec", "docker"}
    assert found.drivers["docker"].version == "20.10.24+dfsg1"
    assert "nvidia" in found.drivers["docker"].runtimes
    assert found.drivers["docker"].images is None
    assert found.host_volumes == {"datasets": HostVolume(path="/srv/datasets", read_only=True)}
    assert (found.attributes, found.meta) == ({"cpu.arch": "amd64"}, {"rack": "1"})
    assert facts.usable_nodes() == (found,)
    assert {r.query["region"] for r in server.requests} == {"eu"}


def test_the_builtin_cluster_is_recognised(server: NomadHttp, cluster: NomadCluster) -> None:
    node = recorded_node()
    node["NodeResources"]["Devices"][0]["Attributes"]["caravan_declared"] = {"Bool": True}
    node["NodeResources"]["Devices"][0]["Attributes"]["memory"] = {"Float": 79.6, "Unit": "GiB"}
    node["NodeResources"]["Devices"][0]["Instances"][0]["Healthy"] = False
    node["Drivers"]["docker"]["Attributes"]["caravan.images"] = "a:1,b:2"
    node["ReservedResources"] = {"Memory": {"MemoryMB": 105}, "Cpu": {"CpuShares": 200}, "Disk": {"DiskMB": 19}}
    table = {"/v1/agent/self": agent(caravan_builtin="true"), "/v1/nodes": [node], f"/v1/node/{node['ID']}": node}
    route(server, table)
    facts = cluster.facts()
    assert (facts.kind, facts.shared_files) == (ClusterKind.BUILTIN, True)
    (found,) = facts.nodes
    assert (found.memory_mb, found.cpu_mhz, found.disk_mb) == (24000, 5000, 258000)
    assert found.drivers["docker"].images == ("a:1", "b:2")
    assert found.devices[0].declared
    assert (found.devices[0].count, found.devices[0].memory_mib) == (1, 81510)


def test_facts_without_the_right_to_read_the_agent(server: NomadHttp, cluster: NomadCluster) -> None:
    node = recorded_node() | {"Attributes": {"nomad.version": "2.0.6"}}
    down = recorded_node() | {"ID": "x", "Name": "a-down", "Status": "down"}
    left = recorded_node() | {"ID": "y", "Name": "b-left"}
    denied = Answer(b"Permission denied", 403)
    route(server, {"/v1/agent/self": denied, "/v1/nodes": [node, down, left], f"/v1/node/{node['ID']}": node})
    facts = cluster.facts()
    assert facts.version == "2.0.6"
    assert [(n.name, n.ready) for n in facts.nodes] == [("a-down", False), ("b-left", False), ("gpu-node-1", True)]


def test_parse_asks_for_the_canonical_job(server: NomadHttp, cluster: NomadCluster) -> None:
    route(server, {"/v1/jobs/parse": {"ID": "j"}})
    assert cluster.parse('job "j" {}') == {"ID": "j"}
    (request,) = server.requests
    assert request.body == {"JobHCL": 'job "j" {}', "Canonicalize": True}
    assert request.query == {"region": "eu", "namespace": "team"}


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        ("invalid-low-resources", "minimum MemoryMB value is 10; got 1"),
        ("invalid-duplicate-task", "Task 2 redefines 'train' from task 1"),
        ("invalid-type", 'Invalid job type: "training"'),
        ("namespace-missing", 'is in nonexistent namespace "ml"'),
    ],
)
def test_an_invalid_job_is_an_answer(recording: str, words: str, server: NomadHttp, cluster: NomadCluster) -> None:
    said = next(e["answer"] for e in load(recording)["exchanges"] if e["path"] == "/v1/validate/job")
    route(server, {"/v1/validate/job": said})
    dry = cluster.check(JOB)
    assert len(dry.errors) == 1
    assert words in dry.errors[0]
    assert "\n" not in dry.errors[0]
    assert dry.failures == ()


def test_a_job_that_nomad_can_not_read_is_an_answer_too(server: NomadHttp, cluster: NomadCluster) -> None:
    route(server, {"/v1/validate/job": Answer(b"json: cannot unmarshal string into Go struct field", 400)})
    assert cluster.check(JOB).errors == ("json: cannot unmarshal string into Go struct field",)


def test_an_unplaceable_job_is_an_answer(server: NomadHttp, cluster: NomadCluster) -> None:
    exchanges = load("gpu-too-many")["exchanges"]
    validated = next(e["answer"] for e in exchanges if e["path"] == "/v1/validate/job")
    planned = next(e["answer"] for e in exchanges if e["path"].endswith("/plan"))
    planned["Warnings"] = "2 warnings:\n\n* one\n* two\n  lines"
    route(server, {"/v1/validate/job": validated, "/v1/job/a%2Fb%20c/plan": planned})
    dry = cluster.check(JOB)
    assert dry.errors == ()
    assert dry.warnings == ("one", "two")
    assert dry.failures[0].line() == "train: missing devices (1 node)"
    assert server.requests[1].body["Job"] == JOB
    assert all("namespace" not in r.query for r in server.requests)  # it would outrank the job's own


def test_register_checks_and_sets(server: NomadHttp, cluster: NomadCluster) -> None:
    route(server, {"/v1/jobs": {"JobModifyIndex": 42, "EvalID": "e"}})
    found = cluster.register(JOB)
    assert (found.id, found.namespace, found.modify_index, found.spec_sha256) == ("a/b c", "ml", 42, "f" * 64)
    (request,) = server.requests
    assert request.body == {"Job": JOB, "EnforceIndex": True, "JobModifyIndex": 0}
    assert request.query == {"region": "eu"}
    assert cluster.register({"ID": "j"}).namespace == "team"
    assert server.requests[1].body["Job"]["Namespace"] == "team"


def test_find_and_stop_name_job_and_namespace(server: NomadHttp, cluster: NomadCluster) -> None:
    route(server, {"/v1/job/a%2Fb%20c": {**JOB, "Status": "dead", "Stop": True, "JobModifyIndex": 3}})
    found = cluster.find("a/b c", "ml")
    assert found is not None
    assert (found.stopped, found.status, found.modify_index, found.spec_sha256) == (True, "dead", 3, "f" * 64)
    assert cluster.find("other") is None
    cluster.stop("a/b c", "ml")
    cluster.stop("a/b c", "ml", purge=True)
    cluster.stop("other")  # 404: nothing to stop is no error
    assert [(r.method, r.query.get("namespace"), r.query.get("purge")) for r in server.requests] == [
        ("GET", "ml", None),
        ("GET", "default", None),
        ("DELETE", "ml", None),
        ("DELETE", "ml", "true"),
        ("DELETE", "default", None),
    ]


def test_logs_and_files_are_bytes(server: NomadHttp, cluster: NomadCluster) -> None:
    raw = bytes(range(256))
    route(server, {"/v1/client/fs/logs/a": Answer(raw), "/v1/client/fs/cat/a": Answer(raw)})
    assert cluster.logs("a", "train", "stderr", offset=7, limit=100) == raw[:100]
    assert cluster.read_file("a", "alloc/data/x y") == raw
    logs, cat = server.requests
    assert logs.query == {
        "region": "eu",
        "namespace": "team",
        "task": "train",
        "type": "stderr",
        "plain": "true",
        "origin": "start",
        "offset": "7",
    }
    assert cat.query["path"] == "alloc/data/x y"


def test_the_end_is_read_after_the_job_is_dead(server: NomadHttp, cluster: NomadCluster) -> None:
    """A task that ends between two requests must not look as if it had never been placed."""
    job, allocs, evals = list(states("ok-raw-exec"))[-1]
    first = {"allocations": True}

    def answer(request: Request) -> Answer:
        if request.path.endswith("/allocations"):
            early, first["allocations"] = first["allocations"], False
            return Answer([] if early else allocs, headers={"X-Nomad-Index": "9"})
        return Answer(evals if request.path.endswith("/evaluations") else job)

    server.answer = answer
    snapshot = cluster.snapshot("ok-raw-exec")
    assert snapshot.phase is Phase.ENDED
    assert len(snapshot.allocations) == 1


def test_a_job_that_is_not_there_is_gone(server: NomadHttp, cluster: NomadCluster) -> None:
    route(server, {"/v1/job/j/allocations": [], "/v1/job/j/evaluations": []})
    assert cluster.snapshot("j").phase is Phase.GONE
    assert [s.phase for s in cluster.watch("j")] == [Phase.GONE]
