"""`pull`: outputs and logs in a folder, from each kind of place, with the exit codes of the design."""

import json
from pathlib import Path
from typing import Any

import pytest

from caravan.agent.state import RunState
from caravan.terminal.app import run
from caravan.values.errors import ClusterUnreachable
from caravan.values.outputs import SUMMARY_PATH
from caravan.values.plan import Mount, OutputSink, TrainingPlan
from caravan.values.run import RunEvent, RunRecord, RunRequest, RunStatus
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.wiring import FakeWiring, nobody, person, printed

RUN = "abc12345"
VOLUME = Mount(kind="host", source="models", destination="/caravan/outputs", read_only=False)


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path / "home")
    made.nomad = FakeCluster(made.clock, facts=one_node(builtin=False))
    return made


def ended_run(wiring: FakeWiring, outputs: OutputSink, status: RunStatus = RunStatus.SUCCEEDED, **more: Any) -> str:
    """A run whose one attempt has ended; the id of its allocation."""
    files = more.pop("files", {})
    plan = TrainingPlan(goal="g", command=("t.py",), driver="docker", image="a/b:1", outputs=outputs, **more)
    now = wiring.clock.now()
    record = RunRecord(
        id=RUN, created_at=now, updated_at=now, status=status, request=RunRequest(prompt="p", source="/s", cluster="x")
    )
    wiring.runs.create_run(record)
    wiring.scripted.states[RUN] = RunState(run_id=RUN, request=record.request, plan=plan)
    alloc_id = job_that_ended(wiring, f"caravan-{RUN}-a01", files)
    data = {"alloc_id": alloc_id, "attempt": 1, "node": "fake-1"}
    wiring.runs.add_event(RUN, RunEvent(at=now, kind="placed", data=data))
    wiring.folder(RUN).append_log(alloc_id, "train", "stdout", b"loss=1\n")
    return alloc_id


def job_that_ended(wiring: FakeWiring, job_id: str, files: dict[str, bytes]) -> str:
    wiring.nomad._script = lambda job: Script(files=files)
    group = {"Name": "train", "Tasks": [{"Name": "train", "Driver": "docker"}]}
    wiring.nomad.register({"ID": job_id, "Namespace": "default", "Type": "batch", "TaskGroups": [group]})
    *_, last = wiring.nomad.watch(job_id)
    return last.allocations[0].id


def pull(wiring: FakeWiring, to: Path, *words: str, terminal: Any = None) -> tuple[int, str, str]:
    terminal = terminal or nobody()
    code = run(wiring, ["pull", RUN, "--to", str(to), *words], terminal)
    return code, *printed(terminal)


def tree(root: Path) -> dict[str, bytes]:
    files = (p for p in root.rglob("*") if p.is_file() and ".caravan" not in p.parts)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def test_outputs_in_the_allocation_and_logs_come(wiring: FakeWiring, tmp_path: Path) -> None:
    files = {"alloc/data/outputs/a/w": b"weights", "alloc/data/outputs/log": b"", "alloc/data/other": b"x"}
    alloc_id = ended_run(wiring, OutputSink(), files=files)
    code, out, _ = pull(wiring, tmp_path / "to", "--json")
    document = json.loads(out)
    assert (code, document["attempt"], document["bytes"]) == (0, 1, 14)
    log = f"logs/{alloc_id[:8]}.train.stdout.log"
    assert tree(tmp_path / "to") == {
        "attempt-1/outputs/a/w": b"weights",
        "attempt-1/outputs/log": b"",
        log: b"loss=1\n",
    }
    code, out, _ = pull(wiring, tmp_path / "to")
    assert (code, out.startswith("3 files (3 were there already)")) == (0, True)


def test_a_secret_in_a_files_name_is_not_told(
    wiring: FakeWiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, secret = "hf_abcdefghijklmnopqrst1234", "odd-known-value"
    monkeypatch.setattr(wiring, "secrets", lambda: (secret,))
    ended_run(wiring, OutputSink(), files={f"alloc/data/outputs/{n}.bin": b"w" for n in (name, secret)})
    _, out, err = pull(wiring, tmp_path / "to", "--what", "outputs", "--json")
    assert not [n for n in (name, secret) if n in out + err]
    assert sorted(tree(tmp_path / "to")) == [f"attempt-1/outputs/{n}.bin" for n in (name, secret)]


def test_logs_or_outputs_alone(wiring: FakeWiring, tmp_path: Path) -> None:
    ended_run(wiring, OutputSink(), files={"alloc/data/outputs/w": b"w"})
    assert pull(wiring, tmp_path / "a", "--what", "outputs")[0] == 0
    assert list(tree(tmp_path / "a")) == ["attempt-1/outputs/w"]
    assert pull(wiring, tmp_path / "b", "--what", "logs")[0] == 0
    assert [name.partition("/")[0] for name in tree(tmp_path / "b")] == ["logs"]


def test_a_collected_allocation_is_said_and_the_logs_have_come(wiring: FakeWiring, tmp_path: Path) -> None:
    ended_run(wiring, OutputSink(), files={"alloc/data/outputs/w": b"w"})
    wiring.nomad.stop(f"caravan-{RUN}-a01", purge=True)
    code, _, err = pull(wiring, tmp_path / "to")
    assert code == 4
    assert "has collected the allocation" in err
    assert len(tree(tmp_path / "to")) == 1


def test_a_path_of_this_machine_is_copied(wiring: FakeWiring, tmp_path: Path) -> None:
    place = wiring.folder(RUN).outputs
    (place / "w").write_bytes(b"weights")
    ended_run(wiring, OutputSink(kind="path", location=str(place)))
    assert pull(wiring, tmp_path / "to", "--what", "outputs")[0] == 0
    assert tree(tmp_path / "to") == {"outputs/w": b"weights"}


def test_a_path_of_a_node_is_said(wiring: FakeWiring, tmp_path: Path) -> None:
    ended_run(wiring, OutputSink(kind="path", location="/mnt/x"))
    code, _, err = pull(wiring, tmp_path / "to")
    assert (code, "on fake-1 in /mnt/x" in err) == (2, True)


def test_a_url_is_read_from_here(wiring: FakeWiring, tmp_path: Path) -> None:
    there = tmp_path / "there" / RUN / "1"
    there.mkdir(parents=True)
    (there / "w").write_bytes(b"weights")
    ended_run(wiring, OutputSink(kind="url", location=f"file://{tmp_path}/there"))
    assert pull(wiring, tmp_path / "to", "--what", "outputs")[0] == 0
    assert tree(tmp_path / "to") == {"attempt-1/outputs/w": b"weights"}


def volume_run(wiring: FakeWiring, files: dict[str, bytes]) -> None:
    sink = OutputSink(kind="volume", location=VOLUME.destination)
    ended_run(
        wiring, sink, mounts=(VOLUME,), files={SUMMARY_PATH: b'{"directory": "/x", "files": 1, "bytes": 7000000}'}
    )
    wiring.nomad._script = lambda job: Script(files=files)


def test_a_volume_is_named_with_the_way_to_read_it(wiring: FakeWiring, tmp_path: Path) -> None:
    volume_run(wiring, {})
    code, _, err = pull(wiring, tmp_path / "to")
    assert code == 2
    assert f"the directory {RUN} of the volume models" in err
    assert "--through-job" in err


def test_a_volume_is_read_by_a_job_that_is_asked_for(wiring: FakeWiring, tmp_path: Path) -> None:
    volume_run(wiring, {"alloc/data/outputs/w": b"weights"})
    before = len(wiring.nomad.registrations)
    code, _, err = pull(wiring, tmp_path / "to", "--through-job")
    assert (code, "263 MB of disk" in err, "--yes" in err) == (3, True, True)
    assert pull(wiring, tmp_path / "to", "--through-job", terminal=person("n"))[0] == 3
    assert len(wiring.nomad.registrations) == before
    code, _, _ = pull(wiring, tmp_path / "to", "--through-job", "--what", "outputs", terminal=person("y"))
    assert code == 0
    assert tree(tmp_path / "to")["outputs/w"] == b"weights"
    job = wiring.nomad.registrations[-1]
    group = job["TaskGroups"][0]
    assert group["Volumes"]["v0"]["ReadOnly"] is True
    assert job["Constraints"][-1]["RTarget"] == "fake-1"
    assert f"/caravan/outputs/{RUN}" in group["Tasks"][0]["Config"]["args"][1]
    assert wiring.nomad.find(job["ID"]) is None  # its copy is not left behind


def test_a_copying_job_that_failed_is_said_and_the_next_is_another(wiring: FakeWiring, tmp_path: Path) -> None:
    volume_run(wiring, {})
    wiring.nomad._script = lambda job: Script(exit_code=66)
    code, _, err = pull(wiring, tmp_path / "to", "--through-job", "--yes")
    assert (code, "did not copy the outputs" in err) == (4, True)
    wiring.nomad._script = lambda job: Script(files={"alloc/data/outputs/w": b"w"})
    assert pull(wiring, tmp_path / "to", "--through-job", "--yes")[0] == 0
    assert wiring.nomad.registrations[-1]["ID"].endswith("-pull-02")


def test_ctrl_c_keeps_what_has_come(wiring: FakeWiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended_run(wiring, OutputSink(), files={"alloc/data/outputs/w": b"weights"})
    real = wiring.nomad.read_part

    def interrupted(alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        if offset:
            raise KeyboardInterrupt
        return real(alloc_id, path, offset=offset, limit=3)

    monkeypatch.setattr(wiring.nomad, "read_part", interrupted)
    code, _, err = pull(wiring, tmp_path / "to")
    assert (code, "what has come is kept" in err) == (130, True)
    monkeypatch.setattr(wiring.nomad, "read_part", real)
    assert pull(wiring, tmp_path / "to")[0] == 0
    assert tree(tmp_path / "to")["attempt-1/outputs/w"] == b"weights"


def test_wrong_use_and_a_cluster_that_is_away(wiring: FakeWiring, tmp_path: Path) -> None:
    ended_run(wiring, OutputSink(), files={"alloc/data/outputs/w": b"w"})
    code, _, err = pull(wiring, tmp_path / "to", "--attempt", "3")
    assert (code, "these did: 1" in err) == (2, True)
    wiring.nomad.fail("list_files", ClusterUnreachable("no answer"))
    assert pull(wiring, tmp_path / "to")[0] == 4
    (tmp_path / "file").write_text("x")
    assert pull(wiring, tmp_path / "file")[0] == 2


def test_a_run_that_still_writes_is_said(wiring: FakeWiring, tmp_path: Path) -> None:
    ended_run(wiring, OutputSink(), RunStatus.RUNNING, files={"alloc/data/outputs/w": b"w"})
    code, _, err = pull(wiring, tmp_path / "to")
    assert (code, "Attempt 1 is not over" in err) == (0, True)
