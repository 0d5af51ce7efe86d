"""The list of calls against the calls that the client makes, and the example policy against the list."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.nomad import NomadCluster
from caravan.cluster.rights import CALLS
from caravan.terminal.checkup import RIGHTS
from caravan.values.errors import CaravanError
from tests.fakes.clock import FakeClock
from tests.fakes.nomad_http import Answer, NomadHttp, Request

ROOT = Path(__file__).resolve().parents[2]
POLICY = (ROOT / "docs" / "examples" / "nomad-policy.hcl").read_text(encoding="utf-8")
JOB = {"ID": "j", "Namespace": "default"}


def pattern(path: str) -> re.Pattern[str]:
    return re.compile(path.replace(":path", ".+").replace(":id", "[^/]+"))


def listed(method: str, path: str) -> bool:
    methods = {"PUT", "POST"} if method in ("PUT", "POST") else {method}
    return any(c.method in methods and pattern(c.path).fullmatch(path) for c in CALLS)


def answer(request: Request) -> Answer:
    node = {"ID": "n1", "Status": "ready", "Name": "n1"}
    bodies: dict[str, Any] = {
        "/v1/nodes": [node],
        "/v1/node/n1": node,
        "/v1/volumes": [],
        "/v1/agent/self": {"member": {"Tags": {"build": "2.0.6"}}},
        "/v1/status/leader": "10.0.0.1:4647",
        "/v1/jobs/parse": JOB,
        "/v1/job/j": {**JOB, "Status": "dead", "JobModifyIndex": 1},
        "/v1/jobs": {"JobModifyIndex": 1},
        "/v1/var/nomad/jobs": {"Items": {}, "ModifyIndex": 1},
    }
    if request.path.endswith(("/allocations", "/evaluations")) or "/fs/ls/" in request.path:
        return Answer([])
    return Answer(bodies.get(request.path, {}))


@pytest.fixture
def server() -> Iterator[NomadHttp]:
    made = NomadHttp(answer)
    yield made
    made.close()


def test_each_call_of_the_client_is_listed_and_each_that_is_listed_is_made(server: NomadHttp) -> None:
    clock = FakeClock()
    cluster = NomadCluster(
        server.address, token="t", namespace="default", region=None, verify=True, cert=None, clock=clock, timeout=5
    )
    everything = (
        cluster.facts,
        lambda: cluster.parse("job {}"),
        lambda: cluster.check(JOB),
        lambda: cluster.find("j"),
        lambda: cluster.register(JOB),
        lambda: cluster.snapshot("j"),
        lambda: next(iter(cluster.watch("j"))),
        lambda: cluster.logs("a", "t", "stdout"),
        lambda: cluster.read_file("a", "f"),
        lambda: list(zip(range(3), cluster.follow_log("a", "t", "stdout"), strict=False)),
        lambda: cluster.list_files("a", "d"),
        lambda: cluster.read_part("a", "f", offset=0, limit=1),
        lambda: cluster.services("s"),
        lambda: cluster.checks("a"),
        lambda: cluster.variable_names("nomad/jobs"),
        lambda: cluster.write_variable("nomad/jobs", {"A": "b"}),
        lambda: cluster.remove_variable("nomad/jobs/j"),
        cluster.token,
        lambda: cluster.stop("j"),
        cluster.examine,
    )
    for call in everything:
        try:
            call()
        except CaravanError:
            continue  # what was asked for counts here, not what the answer means
    cluster.close()
    made = {(r.method, r.path) for r in server.requests}
    assert [m for m in made if not listed(*m)] == []
    unmade = [c for c in CALLS if not any(pattern(c.path).fullmatch(path) for _, path in made)]
    assert [c.path for c in unmade] == []


def test_each_path_in_the_clients_source_is_listed() -> None:
    """Calls that only some path of the code makes."""
    known = [c.path.split(":")[0].rstrip("/") for c in CALLS]
    found = set()
    for file in (ROOT / "caravan" / "cluster").glob("*.py"):
        for part in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.startswith("/v1/"):
                found.add(part.value.split(":")[0].rstrip("/"))
    assert [path for path in found if not any(k == path or k.startswith(f"{path}/") for k in known)] == []


@pytest.mark.parametrize("right", sorted({c.right for c in CALLS if c.right}))
def test_the_policy_gives_each_right(right: str) -> None:
    block, _, level = right.partition(" ")
    if not level:
        assert f'"{right}"' in POLICY
    elif level == "destroy":  # of what is a job's own alone
        assert re.findall(r'path "([^"]+)" {\s+capabilities = \[[^]]*"destroy"', POLICY) == ["nomad/jobs/*"]
    elif block == "variables":
        assert len(re.findall(rf'path "nomad/jobs(?:/\*)?" {{\s+capabilities = \[[^]]*"{level}"', POLICY)) == 2
    else:
        assert re.search(rf'^{block}(?: "\*")? {{\s+policy = "{level}"', POLICY, re.MULTILINE)


def test_the_policy_gives_no_more() -> None:
    capabilities = re.search(r'namespace "default" {\s+capabilities = \[(.*?)\]', POLICY, re.DOTALL)
    assert capabilities
    given = set(re.findall(r'"([a-z-]+)"', capabilities[1]))
    assert given == {c.right for c in CALLS if c.right and " " not in c.right}


def test_doctor_probes_each_right_that_runs_can_not_do_without() -> None:
    """By the words that it tells a person to add to the policy."""
    told = " ".join(right.grant for right in RIGHTS)
    for call in CALLS:
        if call.right and not call.without:
            assert call.right.split(" ")[0] in told
