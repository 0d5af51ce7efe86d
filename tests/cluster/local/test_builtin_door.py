"""Who may speak to the built-in cluster, what it refuses, and what it shows of files."""

import json
import os
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from caravan.cluster.local.web import MAX_BODY, host_of
from tests.cluster.local.bench import UNKNOWN, Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("builtin") / "home")
    yield bench
    bench.down()


@pytest.fixture(scope="module")
def alloc_id(bench: Bench) -> str:
    """An allocation that has left files, links and a pipe."""
    work = (
        "echo 0123456789 > $NOMAD_ALLOC_DIR/data/digits; ln -s /etc/passwd $NOMAD_ALLOC_DIR/data/link; "
        "ln -s / $NOMAD_ALLOC_DIR/data/root; mkfifo $NOMAD_ALLOC_DIR/data/pipe; echo hush > secrets/key; "
        "for i in 1 2 3; do echo line $i; done"
    )
    return str(bench.run(bench.job(work))["ID"])


@pytest.mark.parametrize("token", ["", "wrong", UNKNOWN])
@pytest.mark.parametrize("path", ["/v1/agent/self", "/v1/jobs", "/v1/nope", "/v1/event/stream"])
def test_without_the_token_nothing_is_told(bench: Bench, token: str, path: str) -> None:
    got = bench.ask("GET", path, token=token)
    assert (got.status_code, got.text) == (403, "Permission denied")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1"])
def test_another_host_header_is_refused(bench: Bench, host: str) -> None:
    assert bench.ask("GET", "/v1/jobs", Host=host).status_code == 403
    assert bench.ask("GET", "/v1/jobs", Host="localhost:1").status_code == 200


def test_hosts() -> None:
    assert [host_of(h) for h in ("[::1]:80", "LOCALHOST:1", "127.0.0.1", "")] == ["::1", "localhost", "127.0.0.1", ""]


def test_files_are_the_owners_alone(bench: Bench) -> None:
    for name in ("token", "address.json", "launch.json", "cluster.log"):
        assert stat.S_IMODE((bench.home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(bench.home.stat().st_mode) == 0o700
    launch = json.loads((bench.home / "launch.json").read_text())
    assert "MY_TOKEN" not in launch["environment"]


def test_a_body_too_large_is_refused(bench: Bench) -> None:
    address = bench.cluster.address.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=60) as raw:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Nomad-Token: {bench.cluster.token()}\r\n"
        raw.sendall(f"{head}Content-Length: {MAX_BODY + 1}\r\n\r\n".encode())
        assert b" 413 " in raw.recv(200)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("[1]", 400),
        ("{", 400),
        ("[" * 100_000, 400),
        ('{"Job": 3}', 400),
        ('{"Job": {"ID": "x", "TaskGroups": [3]}}', 400),
        ('{"Job": {"ID": "x", "TaskGroups": {"a": 1}}}', 400),
        ('{"Job": {"ID": "x", "Priority": "high"}}', 400),
        ('{"Job": {"ID": 3}}', 400),
        ('{"Job": {"ID": "x", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "../t", "Driver": "raw_exec"}]}]}}', 500),
        ('{"Job": {"ID": "x", "Type": "system", "TaskGroups": [{"Name": "g", "Tasks": []}]}}', 500),
    ],
)
def test_nonsense_is_refused_and_the_cluster_goes_on(bench: Bench, body: str, status: int) -> None:
    headers = {"X-Nomad-Token": bench.cluster.token()}
    got = requests.post(f"{bench.cluster.address}/v1/jobs", data=body, headers=headers, timeout=60)
    assert got.status_code == status, got.text
    assert got.text
    assert bench.get("/v1/jobs") is not None


def test_check_and_set(bench: Bench) -> None:
    job = bench.job("exec sleep 600")
    index = bench.register(job, EnforceIndex=True, JobModifyIndex=0)["JobModifyIndex"]
    for wrong, words in ((0, "job already exists"), (index + 1, f"conflicting job modify index: {index}")):
        got = bench.ask("POST", "/v1/jobs", {"Job": job, "EnforceIndex": True, "JobModifyIndex": wrong})
        assert got.status_code == 500
        assert got.text.endswith(words)
    bench.register(job, EnforceIndex=True, JobModifyIndex=index)
    bench.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")


def test_only_one_of_many_new_registrations_wins(bench: Bench) -> None:
    job = bench.job()
    with ThreadPoolExecutor(8) as pool:
        body = {"Job": job, "EnforceIndex": True, "JobModifyIndex": 0}
        got = list(pool.map(lambda _: bench.ask("POST", "/v1/jobs", body).status_code, range(8)))
    assert sorted(got) == [200] + [500] * 7


@pytest.mark.parametrize(
    "path",
    ["alloc/data/link", "alloc/data/root/etc/passwd", "../../token", "/../../state.db", "alloc/data/../../../../token"],
)
@pytest.mark.parametrize("call", ["cat", "stat", "ls", "readat"])
def test_no_path_leads_out_of_the_allocation(bench: Bench, alloc_id: str, path: str, call: str) -> None:
    got = bench.ask("GET", f"/v1/client/fs/{call}/{alloc_id}?path={path}&limit=10")
    assert got.status_code >= 400
    assert got.text == "Path escapes the alloc directory"


def test_secrets_and_pipes_are_not_read(bench: Bench, alloc_id: str) -> None:
    got = bench.ask("GET", f"/v1/client/fs/cat/{alloc_id}?path=train/secrets/key")
    assert got.status_code == 403
    assert "hush" not in got.text
    for path in ("alloc/data/pipe", "alloc/data"):
        assert bench.ask("GET", f"/v1/client/fs/cat/{alloc_id}?path={path}").status_code == 400


def test_files_are_read(bench: Bench, alloc_id: str) -> None:
    base = "/v1/client/fs"
    assert bench.ask("GET", f"{base}/cat/{alloc_id}?path=alloc/data/digits").text == "0123456789\n"
    assert bench.ask("GET", f"{base}/readat/{alloc_id}?path=alloc/data/digits&offset=3&limit=4").text == "3456"
    assert bench.get(f"{base}/stat/{alloc_id}?path=alloc/data/digits")["Size"] == 11
    assert [f["Name"] for f in bench.get(f"{base}/ls/{alloc_id}?path=/")] == ["alloc", "train"]
    assert bench.ask("GET", f"{base}/cat/{alloc_id}?path=alloc/data/none").status_code == 404


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("origin=start&offset=7", "line 2\nline 3\n"),
        ("origin=end&offset=7", "line 3\n"),
        ("offset=10000", ""),
        ("follow=true", "line 1\nline 2\nline 3\n"),
    ],
)
def test_log_ranges(bench: Bench, alloc_id: str, query: str, text: str) -> None:
    got = bench.ask("GET", f"/v1/client/fs/logs/{alloc_id}?task=train&type=stdout&plain=true&{query}")
    assert (got.status_code, got.text) == (200, text)


def test_a_blocking_query_waits_for_a_change(bench: Bench) -> None:
    index = bench.ask("GET", "/v1/jobs").headers["X-Nomad-Index"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bench.ask, "GET", f"/v1/jobs?index={index}&wait=60s")
        job = bench.job()
        bench.register(job)
        got = waiting.result(60)
    assert int(got.headers["X-Nomad-Index"]) > int(index)
    assert job["ID"] in [j["ID"] for j in got.json()]
    assert bench.ask("GET", "/v1/jobs?index=x").status_code == 400
    assert bench.ask("GET", "/v1/jobs?index=1&wait=never").status_code == 400


def test_the_event_stream_tells_of_the_wanted_job(bench: Bench) -> None:
    job, other = bench.job(), bench.job()
    headers = {"X-Nomad-Token": bench.cluster.token()}
    first = bench.ask("GET", "/v1/jobs").headers["X-Nomad-Index"]
    address = (
        f"{bench.cluster.address}/v1/event/stream?topic=Allocation:{job['ID']}&topic=Job:{job['ID']}&index={first}"
    )
    with requests.get(address, headers=headers, stream=True, timeout=60) as stream:
        bench.register(other)
        bench.register(job)
        seen = []
        for line in stream.iter_lines(chunk_size=1):
            seen += json.loads(line).get("Events", [])
            states = [e["Payload"]["Allocation"]["ClientStatus"] for e in seen if e["Topic"] == "Allocation"]
            if "complete" in states:
                break
    assert {e["Topic"] for e in seen} == {"Allocation", "Job"}
    assert all(job["ID"] in (e["Key"], *(e["FilterKeys"] or [])) for e in seen)


def test_what_is_not_there(bench: Bench) -> None:
    for path, status, text in (
        ("/v1/job/none", 404, "job not found"),
        (f"/v1/allocation/{UNKNOWN}", 404, "alloc not found"),
        (f"/v1/evaluation/{UNKNOWN}", 404, "eval not found"),
        (f"/v1/node/{UNKNOWN}", 404, "node not found"),
        ("/v1/nope", 404, ""),
        ("/v1/job/none?namespace=other", 404, "job not found"),
    ):
        got = bench.ask("GET", path)
        assert (got.status_code, got.text) == (status, text)
    assert os.path.sep not in bench.ask("GET", f"/v1/client/fs/cat/{UNKNOWN}?path=x").text


def test_a_token_that_was_never_written_opens_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "token").touch(mode=0o600)  # as a kill leaves it that comes between making and writing
    bench = Bench(home)
    try:
        assert requests.get(f"{bench.cluster.address}/v1/agent/self", timeout=30).status_code == 403
        assert bench.get("/v1/agent/self")
    finally:
        bench.down()


@pytest.mark.parametrize("offset", ["9" * 30, "\u00b2", "\u0661"])
def test_a_position_that_no_file_has_is_refused(bench: Bench, alloc_id: str, offset: str) -> None:
    path = f"/v1/client/fs/readat/{alloc_id}?path=alloc/data/digits&limit=1&offset={offset}"
    assert bench.ask("GET", path).status_code == 400
