"""The driver `docker` with a stand-in of Docker's daemon, which is everywhere, and with a real one where it answers."""

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.local.containers import CLUSTER_LABEL, split_image
from tests.cluster.local.bench import NODE, Bench, events, kinds
from tests.fakes.docker_daemon import DockerDaemon

IMAGE = "caravan-tests/busybox:1"
SOCKET = "unix:///var/run/docker.sock"


def docker_job(bench: Bench, *words: str, **config: Any) -> dict[str, Any]:
    """A job of one docker task that runs these words."""
    more = {k: config.pop(k) for k in ("Resources", "KillTimeout", "KillSignal") if k in config}
    return _with(bench, {"image": IMAGE, "command": words[0], "args": list(words[1:]), **config}, more)


def _with(bench: Bench, config: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    job = bench.job(Driver="docker", **more)
    job["TaskGroups"][0]["Tasks"][0]["Config"] = config
    return job


@pytest.fixture(scope="module")
def daemon() -> Iterator[DockerDaemon]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        made = DockerDaemon(Path(folder) / "d.sock", IMAGE).start()
        yield made
        made.stop()


@pytest.fixture(scope="module")
def faked(tmp_path_factory: pytest.TempPathFactory, daemon: DockerDaemon) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("faked") / "home", docker=daemon.url)
    yield bench
    bench.down()


def test_a_container_runs_says_and_is_removed(faked: Bench, daemon: DockerDaemon) -> None:
    limits = {"shm_size": 1 << 20, "ulimit": [{"nofile": "256:512"}], "labels": [{"a": "b"}], "work_dir": "/w"}
    mount = {"type": "tmpfs", "target": "/t", "tmpfs_options": [{"size": 4096}]}
    alloc = faked.run(docker_job(faked, "say", "hello", "0", mount=[mount], volumes=["local:/d:ro"], **limits))
    assert alloc["ClientStatus"] == "complete"
    assert kinds(alloc) == ["Received", "Task Setup", "Started", "Terminated"]
    assert faked.log(alloc) == "hello\n"
    assert faked.log(alloc, "stderr") == "hello\n"
    body = daemon.made[f"train-{alloc['ID']}"]
    host = body["HostConfig"]
    assert not any(name == f"train-{alloc['ID']}" for name in (c["Name"] for c in daemon.containers.values()))
    assert (body["WorkingDir"], body["Labels"]["a"]) == ("/w", "b")
    assert body["Labels"]["com.hashicorp.nomad.alloc_id"] == alloc["ID"]
    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (128 << 20, 128 << 20, 1 << 20)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 256, "Hard": 512}]
    assert {bind.split(":")[1] for bind in host["Binds"]} == {"/alloc", "/alloc/logs", "/local", "/secrets", "/d"}
    assert host["Mounts"] == [{"Type": "tmpfs", "Target": "/t", "ReadOnly": False, "TmpfsOptions": {"SizeBytes": 4096}}]
    told = dict(e.split("=", 1) for e in body["Env"])
    assert (told["NOMAD_ALLOC_DIR"], told["NOMAD_SECRETS_DIR"]) == ("/alloc", "/secrets")
    assert not {"PATH", "HOME", "DOCKER_HOST"} & set(told)


def test_exit_codes_and_memory_are_told_as_by_nomads_driver(faked: Bench) -> None:
    failed = faked.run(docker_job(faked, "say", "x", "3"))
    assert events(failed)[-2]["Details"]["exit_message"] == "Docker container exited with non-zero exit code: 3"
    full = faked.run(docker_job(faked, "oom"))
    assert events(full)[-2]["DisplayMessage"] == 'Exit Code: 137, Exit Message: "OOM Killed"'
    assert events(full)[-2]["Details"]["oom_killed"] == "true"


@pytest.mark.parametrize(
    ("words", "config", "said"),
    [
        (("missing",), {}, 'Error response from daemon: exec: "missing": executable file not found in $PATH: unknown'),
        (("say", "x", "0"), {"image": "nowhere/x:1"},
         'Failed to pull `nowhere/x:1`: Error response from daemon: Get "https://registry/v2/": no route to nowhere/x'),
        (("say", "x", "0"), {"mount": [{"type": "bind", "source": "/no/such", "target": "/x"}]},
         "failed to create container: Error response from daemon: bind source path does not exist: /no/such"),
        (("say", "x", "0"), {"runtime": "kata"}, 'requested runtime "kata" is not allowed'),
        (("say", "x", "0"), {"ports": ["http"]}, 'Port "http" not found, check network block'),
        (("say", "x", "0"), {"ulimit": [{"nofile": ""}]},
         'failed to parse ulimit configuration: Malformed ulimit specification nofile: "", cannot be empty'),
    ],
)  # fmt: skip
def test_what_the_daemon_refuses_is_said(
    faked: Bench, daemon: DockerDaemon, words: tuple[str, ...], config: dict[str, Any], said: str
) -> None:
    alloc = faked.run(docker_job(faked, *words, **config))
    assert kinds(alloc)[-2:] == ["Driver Failure", "Not Restarting"]
    assert events(alloc)[-2]["DriverError"].endswith(said)
    assert daemon.find(f"train-{alloc['ID']}") is None


def test_a_stop_reaches_the_container_by_its_signal(faked: Bench) -> None:
    job = docker_job(faked, "wait", KillTimeout=20_000_000_000)
    faked.register(job)
    faked.alloc(job["ID"], "running")
    faked.ask("DELETE", f"/v1/job/{job['ID']}")
    alloc = faked.alloc(job["ID"], "complete", "failed")
    assert kinds(alloc)[-3:] == ["Killing", "Terminated", "Killed"]
    assert events(alloc)[-2]["Details"]["exit_code"] == "143"


def test_containers_are_found_again_and_those_of_others_left_alone(faked: Bench, daemon: DockerDaemon) -> None:
    stranger = {"Id": "f" * 64, "Name": "stranger", "Config": {"Labels": {}}, "State": {"Running": True}}
    label = daemon.made[next(iter(daemon.made))]["Labels"][CLUSTER_LABEL]
    left = {**stranger, "Id": "e" * 64, "Name": "left", "Config": {"Labels": {CLUSTER_LABEL: label}}}
    daemon.containers |= {stranger["Id"]: stranger, left["Id"]: left}
    job = docker_job(faked, "wait")
    faked.register(job)
    alloc = faked.alloc(job["ID"], "running")
    faked.crash()
    faked.up()
    assert daemon.find("stranger") is not None
    assert daemon.find("left") is None
    container = daemon.find(f"train-{alloc['ID']}")
    assert container is not None
    daemon.end(container, 5)
    ended = faked.alloc(job["ID"], "failed")
    assert events(ended)[-2]["Details"]["exit_code"] == "5"
    del daemon.containers[stranger["Id"]]


def test_a_declared_image_that_the_daemon_lacks_runs_as_a_process(faked: Bench) -> None:
    alloc = faked.run(_with(faked, {"image": "local/python:3.11", "command": "echo", "args": ["declared"]}, {}))
    assert faked.log(alloc) == "declared\n"
    (node,) = faked.get("/v1/nodes")
    attributes = faked.get(f"/v1/node/{node['ID']}")["Attributes"]
    assert attributes["caravan.docker"] == "daemon 0-stand-in"
    assert attributes["caravan.memory_limits"] in ("cgroups", "watched")
    assert "containers of Docker 0-stand-in where it has the image, else processes" in faked.cluster.inventory


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a", ("a", "latest")),
        ("a:1", ("a", "1")),
        ("127.0.0.1:5000/a", ("127.0.0.1:5000/a", "latest")),
        ("127.0.0.1:5000/a:2", ("127.0.0.1:5000/a", "2")),
        ("a@sha256:12", ("a", "sha256:12")),
    ],
)
def test_an_images_parts(name: str, parts: tuple[str, str]) -> None:
    assert split_image(name) == parts


def _busybox() -> bytes | None:
    """A file system of one static busybox, or None where this machine has none."""
    found = shutil.which("busybox")
    if found is None:
        return None
    kind = subprocess.run([found, "--list"], capture_output=True, text=True, check=False)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(found, "bin/busybox")
        for name in ("sh", "sleep", "echo", "cat", "dd", "env", "mount", "id", "trap", "head", "tr"):
            if name in kind.stdout.split():
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        for name in ("tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(folder)
    return packed.getvalue()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    import docker
    import docker.errors

    if not Path(SOCKET.removeprefix("unix://")).exists():
        pytest.skip("no daemon of Docker answers on this machine")
    packed = _busybox()
    if packed is None:
        pytest.skip("there is no busybox to make an image of")
    client = docker.APIClient(base_url=SOCKET, version="auto", timeout=30)
    try:
        client.ping()
    except docker.errors.DockerException:
        client.close()
        pytest.skip("no daemon of Docker answers on this machine")
    repository, tag = split_image(IMAGE)
    client.import_image_from_data(packed, repository=repository, tag=tag)
    bench = Bench(tmp_path_factory.mktemp("real") / "home", NODE, docker=SOCKET)
    yield bench
    bench.down()
    left = client.containers(all=True, filters={"ancestor": IMAGE})
    client.remove_image(IMAGE, force=True)
    client.close()
    assert not left


def test_really_the_image_is_the_tasks_file_system(real: Bench) -> None:
    script = "echo $((1+1)); cat 2>/dev/null /etc/os-release || echo alone; echo x > /alloc/data/y; echo $V; id -u"
    job = docker_job(real, "sh", "-c", script)
    job["TaskGroups"][0]["Tasks"][0]["Env"] = {"V": "${NOMAD_JOB_ID}"}
    alloc = real.run(job)
    assert alloc["ClientStatus"] == "complete", events(alloc)
    assert real.log(alloc) == f"2\nalone\n{job['ID']}\n0\n"
    got = real.ask("GET", f"/v1/client/fs/cat/{alloc['ID']}?path=/alloc/data/y")
    assert got.text == "x\n"


def test_really_memory_is_limited(real: Bench) -> None:
    hungry = "head -c 200000000 /dev/zero | tr '\\0' 'x' | (read -r x; echo survived)"
    alloc = real.run(docker_job(real, "sh", "-c", hungry, Resources={"MemoryMB": 32}))
    details = events(alloc)[-2]["Details"]
    assert details["oom_killed"] == "true"
    assert details["exit_message"] == "OOM Killed"


def test_really_a_command_that_is_not_there(real: Bench) -> None:
    alloc = real.run(docker_job(real, "torchrun"))
    said = events(alloc)[-2]["DriverError"]
    assert said.startswith("Failed to start container ")
    assert 'exec: "torchrun": executable file not found in $PATH' in said


@pytest.mark.parametrize(("trapped", "code"), [("trap 'echo saved; exit 0' TERM;", "0"), ("trap '' TERM;", "137")])
def test_really_a_stop_is_a_signal_and_then_a_kill(real: Bench, trapped: str, code: str) -> None:
    script = f"{trapped} echo ready; while true; do sleep 0.1; done"
    job = docker_job(real, "sh", "-c", script, KillTimeout=1_000_000_000)
    real.register(job)
    alloc = real.alloc(job["ID"], "running")
    while "ready" not in real.log(alloc):
        pass
    real.ask("DELETE", f"/v1/job/{job['ID']}")
    alloc = real.alloc(job["ID"], "complete", "failed")
    assert kinds(alloc)[-3:] == ["Killing", "Terminated", "Killed"]
    assert events(alloc)[-2]["Details"]["exit_code"] == code
    assert ("saved" in real.log(alloc)) == (code == "0")


def test_really_a_container_outlives_the_clusters_process(real: Bench) -> None:
    job = docker_job(
        real, "sh", "-c", "echo ready; while [ ! -e /alloc/data/go ]; do sleep 0.1; done; echo over; exit 4"
    )
    real.register(job)
    alloc = real.alloc(job["ID"], "running")
    real.crash()
    real.up()
    (real.home / "allocs" / alloc["ID"] / "alloc" / "data" / "go").touch()
    ended = real.alloc(job["ID"], "failed")
    assert events(ended)[-2]["Details"]["exit_code"] == "4"
    assert real.log(ended) == "ready\nover\n"
