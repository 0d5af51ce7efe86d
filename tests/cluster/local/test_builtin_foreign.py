"""What others hand to the built-in cluster: broken archives, escaping names, half characters.

At most it ends the task that brought it.
"""

import base64
import copy
import gzip
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.local.bench import Bench, events, kinds


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("foreign") / "home")
    yield bench
    bench.down()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server of files, and the folder it serves."""
    folder = tmp_path_factory.mktemp("served")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def _broken_off() -> bytes:
    inner, noise = io.BytesIO(), os.urandom(200_000).hex().encode()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        about = tarfile.TarInfo("noise")
        about.size = len(noise)
        tar.addfile(about, io.BytesIO(noise))
    packed = gzip.compress(inner.getvalue())
    return packed[: len(packed) // 2]


def _damaged(data: bytes) -> bytes:
    """The same with some bytes in its middle replaced."""
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0x5A for b in data[middle : middle + 64]) + data[middle + 64 :]


def _zip(*, locked: bool = False) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", "".join(chr(65 + i * 7 % 50) for i in range(40_000)))
    data = bytearray(made.getvalue())
    if locked:  # the flag that says so, in the file's own header and in the directory's
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.index(mark) + at] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("short.tar.gz", _broken_off()),
        ("wrong.zip", _damaged(_zip())),
        ("locked.zip", _zip(locked=True)),
    ],
)
def test_a_broken_archive_ends_its_task_alone(bench: Bench, served: tuple[str, Path], name: str, data: bytes) -> None:
    address, folder = served
    (folder / name).write_bytes(data)
    alloc = bench.run(bench.job(Artifacts=[{"GetterSource": f"{address}/{name}", "RelativeDest": "local/"}]))
    assert "Failed Artifact Download" in kinds(alloc), events(alloc)
    assert bench.run(bench.job())["ClientStatus"] == "complete"


def test_an_artifact_s_file_name_leads_nowhere_else(bench: Bench, served: tuple[str, Path]) -> None:
    address, folder = served
    (folder / "plain").write_bytes(b"x")
    outside = "../../../../planted"
    artifact = {"GetterSource": f"{address}/plain", "GetterOptions": {"filename": outside}}
    alloc = bench.run(bench.job(Artifacts=[{**artifact, "RelativeDest": "local/"}]))
    assert "Failed Artifact Download" in kinds(alloc), events(alloc)
    assert not list(bench.home.parent.rglob("planted"))


def test_a_payload_is_not_written_through_a_link_of_the_task_s(bench: Bench, tmp_path: Path) -> None:
    job = bench.job(f"ln -sfn {tmp_path} local/out && test -e local/again || {{ touch local/again; exit 1; }}")
    job["ParameterizedJob"] = {"Payload": "required"}
    group = job["TaskGroups"][0]
    group["RestartPolicy"] = {**group["RestartPolicy"], "Attempts": 1}
    group["Tasks"][0]["DispatchPayload"] = {"File": "out/said"}
    group["Tasks"][0]["Config"]["args"] = ["-c", f"rm -rf local/out; ln -sfn {tmp_path} local/out; exit 1"]
    bench.register(job)
    body = {"Payload": base64.b64encode(b"x").decode()}
    child = bench.ask("POST", f"/v1/job/{job['ID']}/dispatch", body).json()["DispatchedJobID"]
    alloc = bench.alloc(child, "failed")
    assert not (tmp_path / "said").exists()
    assert any("escapes" in e["DisplayMessage"] for e in events(alloc)), events(alloc)
    assert bench.run(bench.job())["ClientStatus"] == "complete"


def test_half_a_character_in_a_job_does_not_stop_the_cluster(bench: Bench) -> None:
    job = bench.job()
    job["Meta"] = {"said": "\ud800"}
    job["ID"] = "half-\udc00"
    got = bench.ask("POST", "/v1/jobs", {"Job": job})
    assert got.status_code in (200, 400, 500)
    assert bench.run(bench.job())["ClientStatus"] == "complete"


def test_what_takes_the_place_of_another_and_is_stopped_before_never_runs(bench: Bench) -> None:
    stays = "trap '' INT TERM; while [ ! -e ../alloc/data/go ]; do sleep 0.05; done"
    first = bench.job(stays, KillTimeout=20_000_000_000)
    bench.register(copy.deepcopy(first))
    old = bench.alloc(first["ID"], "running")
    second = copy.deepcopy(first)
    second["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", "echo ran; sleep 60"]
    bench.register(second)
    path = f"/v1/job/{first['ID']}/allocations"
    listed = bench.wait(path, lambda found: len(found) == 2)
    waits = next(a["ID"] for a in listed if a["ID"] != old["ID"])
    bench.ask("DELETE", f"/v1/job/{first['ID']}")
    (bench.home / "allocs" / old["ID"] / "alloc" / "data" / "go").touch()
    bench.wait(path, lambda found: all(a["ClientStatus"] in ("complete", "failed") for a in found))
    shown = bench.get(f"/v1/allocation/{waits}")
    assert "Started" not in [e["Type"] for e in shown["TaskStates"]["train"]["Events"]], json.dumps(shown["TaskStates"])


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("Constraints", 0, "RTarget"), ["linux"]),
        (("Constraints", 0, "LTarget"), 7),
        (("Affinities", 0, "Weight"), "50"),
        (("TaskGroups", 0, "Networks", 0, "ReservedPorts", 0, "Value"), "http"),
        (("TaskGroups", 0, "Tasks", 0, "Resources", "Devices", 0, "Count"), 10**30),
        (("TaskGroups", 0, "Tasks", 0, "Env", "A"), {"b": 1}),
        (("TaskGroups", 0, "Volumes", "v", "Source"), ["data"]),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_and_nothing_of_it_stays(
    bench: Bench, path: tuple[str | int, ...], wrong: object
) -> None:
    rule = {"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}
    job = bench.job(Env={"A": "b"}, Resources={"Devices": [{"Name": "nvidia/gpu", "Count": 1}]})
    job |= {"Constraints": [rule], "Affinities": [{**rule, "Weight": 50}]}
    job["TaskGroups"][0] |= {
        "Networks": [{"ReservedPorts": [{"Label": "p", "Value": 8080}]}],
        "Volumes": {"v": {"Type": "host", "Source": "data", "ReadOnly": True}},
    }
    place: Any = job
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong
    got = bench.ask("POST", "/v1/jobs", {"Job": job})
    assert (got.status_code, str(path[-1]) in got.text) == (400, True)
    assert bench.ask("GET", f"/v1/job/{job['ID']}").status_code == 404
    assert bench.run(bench.job())["ClientStatus"] == "complete"
