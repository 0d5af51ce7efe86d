"""Tasks with a view of their own: directories and mounts where the job expects them, or a word that there are none."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caravan.cluster.local import drivers, view
from caravan.cluster.local.inventory import Node
from caravan.cluster.local.taskenv import TaskPlace
from tests.cluster.local.bench import NODE, Bench, events, kinds

VOLUME = {"path": "/no/such/folder", "read_only": True, "files": {"train/data.jsonl": "one\n"}}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("views")
    trial = folder / "trial"
    trial.mkdir()
    if hindrance := view.hindrance(trial):
        pytest.skip(hindrance)
    bench = Bench(folder / "home", {**NODE, "host_volumes": {"data": VOLUME}})
    yield bench
    bench.down()


def docker(script: str, **config: Any) -> dict[str, Any]:
    return {
        "Driver": "docker",
        "Config": {"image": "local/python:3.11", "command": "sh", "args": ["-c", script], **config},
    }


@pytest.mark.parametrize("driver", ["docker", "exec"])
def test_a_task_finds_its_own_directories(bench: Bench, driver: str) -> None:
    script = "echo $NOMAD_ALLOC_DIR $NOMAD_TASK_DIR $NOMAD_SECRETS_DIR; echo x > /alloc/data/x; ls -d /local /secrets"
    config = {"command": "/bin/sh", "args": ["-c", script]}
    given = docker(script) if driver == "docker" else {"Driver": "exec", "Config": config}
    alloc = bench.run(bench.job(**given))
    assert bench.log(alloc).split() == ["/alloc", "/local", "/secrets", "/local", "/secrets"]
    assert bench.ask("GET", f"/v1/client/fs/cat/{alloc['ID']}?path=alloc/data/x").text == "x\n"
    assert not Path("/alloc").exists()


def test_mounts_lie_where_the_job_expects_them(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("of the machine\n")
    mount = [
        {"type": "bind", "source": str(tmp_path), "target": "/mnt/deep/down", "readonly": True},
        {"type": "tmpfs", "target": "/scratch"},
        {"type": "volume", "source": "cache", "target": "/root/.cache/x"},
    ]
    script = "cat /mnt/deep/down/f; touch /mnt/deep/down/g || echo kept; echo > /scratch/x; echo > /root/.cache/x/y"
    alloc = bench.run(
        bench.job(**docker(script, mount=mount, volumes=["local/here:/there", f"{tmp_path}/f:/etc/f:ro"]))
    )
    assert bench.log(alloc) == "of the machine\nkept\n"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("driver", ["docker", "exec"])
def test_a_declared_host_volume_holds_its_files_and_is_read_only(bench: Bench, driver: str) -> None:
    script = "cat /data/train/data.jsonl; touch /data/new || echo kept"
    config = {"command": "/bin/sh", "args": ["-c", script]}
    given = docker(script) if driver == "docker" else {"Driver": "exec", "Config": config}
    job = bench.job(**given, VolumeMounts=[{"Volume": "d", "Destination": "/data"}])
    job["TaskGroups"][0]["Volumes"] = {"d": {"Type": "host", "Source": "data", "ReadOnly": True}}
    assert bench.log(bench.run(job)) == "one\nkept\n"


def test_a_first_process_does_not_end_by_a_signal_that_it_does_not_handle(bench: Bench) -> None:
    job = bench.job(**docker("exec sleep 60"), KillTimeout=50_000_000)
    bench.register(job)
    bench.alloc(job["ID"], "running")
    bench.ask("DELETE", f"/v1/job/{job['ID']}")
    alloc = bench.alloc(job["ID"], "complete", "failed")
    assert [e["ExitCode"] for e in events(alloc) if e["Type"] == "Terminated"] == [137]


def test_a_bind_whose_source_is_not_there_is_the_drivers_failure(bench: Bench) -> None:
    mount = [{"type": "bind", "source": "/no/such/folder", "target": "/x"}]
    alloc = bench.run(bench.job(**docker("true", mount=mount)))
    assert kinds(alloc)[-2] == "Driver Failure"
    assert "bind source path does not exist: /no/such/folder" in events(alloc)[-2]["DisplayMessage"]


def started(tmp_path: Path, config: dict[str, Any], *, isolated: bool, **task: Any) -> drivers.Started:
    place = TaskPlace(tmp_path / "alloc", tmp_path / "train")
    return drivers.Started(
        task={"Name": "train", "Driver": "docker", "VolumeMounts": None, **task},
        group={"Volumes": None},
        config={"image": "local/python:3.11", "command": "sh", **config},
        environment={"PATH": os.environ["PATH"]},
        place=place,
        node=Node.model_validate(NODE),
        devices=0,
        alloc_id="a",
        isolated=isolated,
        scratch=tmp_path / "scratch",
        folder=tmp_path / "run",
    )


def test_without_views_a_mount_elsewhere_is_refused_and_one_at_its_own_place_taken(tmp_path: Path) -> None:
    mount = {"type": "bind", "source": str(tmp_path), "target": str(tmp_path)}
    assert drivers.command(started(tmp_path, {"mount": [mount]}, isolated=False)).view is None
    with pytest.raises(drivers.CannotStart, match="no view of their own"):
        drivers.command(started(tmp_path, {"mount": [{**mount, "target": "/elsewhere"}]}, isolated=False))
    with pytest.raises(drivers.CannotStart, match="no view of their own"):
        drivers.command(started(tmp_path, {}, isolated=False, VolumeMounts=[{"Volume": "d"}]))


def test_a_work_dir_that_is_not_there_is_made_in_the_view_alone(tmp_path: Path) -> None:
    made = drivers.command(started(tmp_path, {"work_dir": "/no/such/folder"}, isolated=True))
    assert made.cwd == "/no/such/folder"
    assert made.view is not None
    assert any(m.target == "/no/such/folder" for m in made.view.mounts)
