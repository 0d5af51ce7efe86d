"""`models pull` and `models verify`: from each kind of place, every checksum compared, nothing half under its name."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.agent.state import RunState
from caravan.runs.origins import DiskOrigin, Remote
from caravan.values.plan import Mount, OutputSink, TrainingPlan
from caravan.values.registry import ModelFile
from caravan.values.run import RunEvent
from tests.fakes.cluster import FakeCluster, Script, one_node
from tests.fakes.wiring import FakeWiring, person
from tests.terminal.models_case import FILES, a_run, add, document, listed, models, on_disk, tree

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def wiring(tmp_path: Path) -> FakeWiring:
    made = FakeWiring(tmp_path / "home")
    made.nomad = FakeCluster(made.clock, facts=one_node(builtin=False))
    return made


def job_that_ended(wiring: FakeWiring, files: dict[str, bytes]) -> str:
    wiring.nomad._script = lambda job: Script(files=files)
    group = {"Name": "train", "Tasks": [{"Name": "train", "Driver": "docker"}]}
    wiring.nomad.register({"ID": "caravan-abc12345-a01", "Type": "batch", "TaskGroups": [group]})
    *_, last = wiring.nomad.watch("caravan-abc12345-a01")
    return last.allocations[0].id


def test_files_at_a_path_come_whole_and_verified(wiring: FakeWiring, tmp_path: Path) -> None:
    add(wiring, str(on_disk(tmp_path / "m")))
    to = tmp_path / "to"
    code, out, err = models(wiring, "pull", "chat", "--to", str(to))
    assert (code, err) == (0, "")
    assert f"3 files, 10.3 kB, of chat@1 in {to}: every checksum agrees." in out
    assert f'PeftModel.from_pretrained(base, "{to}")' in out
    assert tree(to) == FILES  # nothing of ours is left beside them
    found = document(wiring, "pull", "chat@1", "--to", str(to))
    assert (found["verified"], [f["new"] for f in found["files"]]) == (True, [False] * 3)


def test_what_is_whole_here_needs_no_place(wiring: FakeWiring, tmp_path: Path) -> None:
    add(wiring, str(tmp_path / "gone"))
    on_disk(tmp_path / "to")
    assert models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))[0] == 0


def test_a_broken_pull_goes_on(wiring: FakeWiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(wiring, str(on_disk(tmp_path / "m")))
    to, asked = tmp_path / "to", list[tuple[str, int]]()
    real = DiskOrigin.pieces

    def breaking(self: DiskOrigin, file: Remote, offset: int) -> Iterator[bytes]:
        asked.append((file.name, offset))
        data = b"".join(real(self, file, offset))
        if file.name == WEIGHTS and offset == 0:
            yield data[:1000]
            raise KeyboardInterrupt
        yield data

    monkeypatch.setattr(DiskOrigin, "pieces", breaking)
    code, _, err = models(wiring, "pull", "chat", "--to", str(to))
    assert (code, "`main.py models pull chat@1` goes on" in err) == (130, True)
    assert [p.name for p in to.iterdir() if p.name != ".caravan"] == ["adapter_config.json"]
    asked.clear()
    assert models(wiring, "pull", "chat", "--to", str(to))[0] == 0
    assert (WEIGHTS, 1000) in asked
    assert tree(to) == FILES


def test_what_was_half_here_and_is_damaged_is_fetched_anew(
    wiring: FakeWiring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a power cut leaves it: the length is right, and the bytes were never written."""
    add(wiring, str(on_disk(tmp_path / "m")))
    to, real = tmp_path / "to", DiskOrigin.pieces

    def breaking(self: DiskOrigin, file: Remote, offset: int) -> Iterator[bytes]:
        for piece in real(self, file, offset):
            yield piece[:100]
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DiskOrigin, "pieces", breaking)
        assert models(wiring, "pull", "chat", "--to", str(to))[0] == 130
    (part,) = (to / ".caravan" / "parts").iterdir()
    part.write_bytes(bytes(part.stat().st_size))
    assert models(wiring, "pull", "chat", "--to", str(to))[0] == 0
    assert tree(to) == FILES


def test_what_was_changed_or_deleted_since_is_named_and_nothing_comes(wiring: FakeWiring, tmp_path: Path) -> None:
    place, to = on_disk(tmp_path / "m"), tmp_path / "to"
    add(wiring, str(place))
    (place / WEIGHTS).write_bytes(FILES[WEIGHTS][::-1])  # of the same size
    code, _, err = models(wiring, "pull", "chat", "--to", str(to))
    assert (code, WEIGHTS in err, "models verify chat@1" in err) == (2, True, True)
    assert not (to / WEIGHTS).exists()
    (place / WEIGHTS).write_bytes(b"short")
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "b"))
    assert (code, f"{WEIGHTS} of chat@1 was changed since it was registered (5 bytes, not 10240)" in err) == (2, True)
    (place / WEIGHTS).unlink()
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "c"))
    assert (code, f"{WEIGHTS} of chat@1 was deleted since it was registered" in err) == (2, True)
    assert not (tmp_path / "c").exists()


def test_verify_reads_every_file(wiring: FakeWiring, tmp_path: Path) -> None:
    place = on_disk(tmp_path / "m")
    add(wiring, str(place))
    assert models(wiring, "verify", "chat")[1] == f"chat@1 in {place}: 3 files as registered.\n"
    (place / WEIGHTS).write_bytes(FILES[WEIGHTS][::-1])
    (place / "adapter_config.json").unlink()
    code, out, _ = models(wiring, "verify", "chat")
    assert code == 1
    assert f"changed: {WEIGHTS} (SHA-256 " in out
    assert "missing: adapter_config.json" in out
    assert "2 of 3 files are not as they were registered" in out
    code, out, _ = models(wiring, "verify", "chat", "--json")
    found = json.loads(out)
    assert (code, found["whole"]) == (1, False)
    assert [f["state"] for f in found["files"]] == ["missing", "changed", "whole"]


def test_another_file_in_the_way_stays_without_force(wiring: FakeWiring, tmp_path: Path) -> None:
    add(wiring, str(on_disk(tmp_path / "m")))
    to = on_disk(tmp_path / "to", {WEIGHTS: b"mine"})
    code, _, err = models(wiring, "pull", "chat", "--to", str(to))
    assert (code, "is there already and differs" in err, "--force" in err) == (2, True, True)
    assert (to / WEIGHTS).read_bytes() == b"mine"
    assert models(wiring, "pull", "chat", "--to", str(to), "--force")[0] == 0
    assert tree(to) == FILES


def test_an_earlier_version_in_the_folder_is_in_the_way_too(wiring: FakeWiring, tmp_path: Path) -> None:
    to = tmp_path / "to"
    add(wiring, str(on_disk(tmp_path / "one")), run_id="one")
    assert models(wiring, "pull", "chat@1", "--to", str(to))[0] == 0
    newer = {**FILES, WEIGHTS: b"newer"}
    add(wiring, str(on_disk(tmp_path / "two", newer)), run_id="two", files=newer)
    assert models(wiring, "pull", "chat@2", "--to", str(to))[0] == 2
    assert tree(to)[WEIGHTS] == FILES[WEIGHTS]


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", ".caravan/parts/x", "a//b", "a\nb", ""])
def test_a_name_that_leads_elsewhere_is_refused(wiring: FakeWiring, tmp_path: Path, name: str) -> None:
    rows = (*listed(FILES), ModelFile(path=name, bytes=1, sha256="0" * 64))
    add(wiring, str(on_disk(tmp_path / "m")), files=rows)
    for command in ("pull", "export"):
        code, _, err = models(wiring, command, "chat", "--to", str(tmp_path / "to"))
        assert (code, "leads elsewhere" in err) == (2, True)
    assert not (tmp_path / "to").exists()


def test_links_are_not_followed(wiring: FakeWiring, tmp_path: Path) -> None:
    place = on_disk(tmp_path / "m")
    add(wiring, str(place))
    (place / WEIGHTS).rename(tmp_path / "elsewhere")
    (place / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))
    assert (code, f"{WEIGHTS} of chat@1 was deleted" in err) == (2, True)
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    (place / WEIGHTS).unlink()
    (tmp_path / "elsewhere").rename(place / WEIGHTS)
    (tmp_path / "to" / "tokenizer").parent.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "to" / "tokenizer").symlink_to(tmp_path / "outside")
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))
    assert (code, "is a link" in err) == (2, True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_full_disk_is_said_before_anything_comes(wiring: FakeWiring, tmp_path: Path) -> None:
    place = on_disk(tmp_path / "m", {})
    place.mkdir()
    with (place / "w").open("wb") as stream:
        os.truncate(stream.fileno(), 1 << 42)  # no disk holds it; the file itself takes no room
    add(wiring, str(place), files=(ModelFile(path="w", bytes=1 << 42, sha256="0" * 64),))
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))
    assert (code, "has room for" in err) == (2, True)


def test_files_in_an_allocation_and_after_it_was_collected(wiring: FakeWiring, tmp_path: Path) -> None:
    alloc = job_that_ended(wiring, {f"alloc/data/outputs/adapter/{n}": d for n, d in FILES.items()})
    a_run(wiring)
    add(wiring, f"allocation:{alloc}/alloc/data/outputs/adapter")
    assert models(wiring, "verify", "chat")[0] == 0
    assert models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))[0] == 0
    assert tree(tmp_path / "to") == FILES
    wiring.nomad.stop("caravan-abc12345-a01", purge=True)
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "b"))
    assert (code, "has collected" in err, "--from" in err) == (4, True, True)
    assert models(wiring, "pull", "chat", "--to", str(tmp_path / "b"), "--from", str(tmp_path / "to"))[0] == 0
    assert tree(tmp_path / "b") == FILES


def test_the_cluster_of_a_deleted_run_is_named(wiring: FakeWiring, tmp_path: Path) -> None:
    alloc = job_that_ended(wiring, {f"alloc/data/outputs/{n}": d for n, d in FILES.items()})
    add(wiring, f"allocation:{alloc}/alloc/data/outputs")
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))
    assert (code, "was deleted here" in err, "--cluster" in err) == (2, True, True)
    assert models(wiring, "pull", "chat", "--to", str(tmp_path / "to"), "--cluster", "local")[0] == 0


def test_files_at_a_url(wiring: FakeWiring, tmp_path: Path) -> None:
    on_disk(tmp_path / "m" / "with space")
    add(wiring, f"file://{tmp_path}/m/with%20space", run_id="one")
    assert models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))[0] == 0
    assert tree(tmp_path / "to") == FILES
    import fsspec

    memory = fsspec.filesystem("memory")
    for name, data in FILES.items():
        memory.pipe(f"/models-test/{name}", data)
    add(wiring, "memory://models-test", run_id="two")
    assert models(wiring, "pull", "chat@2", "--to", str(tmp_path / "b"))[0] == 0
    assert tree(tmp_path / "b") == FILES
    memory.rm(f"/models-test/{WEIGHTS}")
    assert models(wiring, "verify", "chat@2")[0] == 1
    memory.rm("/models-test", recursive=True)


def test_a_path_that_is_not_here_is_said_with_its_node(wiring: FakeWiring, tmp_path: Path) -> None:
    a_run(wiring)
    data = {"alloc_id": "a1", "attempt": 1, "node": "gpu-7"}
    wiring.runs.add_event("abc12345", RunEvent(at=wiring.clock.now(), kind="placed", data=data))
    add(wiring, "/mnt/nowhere/m")
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))
    assert (code, "on gpu-7 in /mnt/nowhere/m" in err, "--from" in err) == (2, True, True)
    own = wiring.folder("gone1234").path / "outputs"
    add(wiring, str(own), run_id="gone1234")
    code, _, err = models(wiring, "pull", "chat@2")
    assert (code, "are gone with it" in err, "Copy them" in err) == (2, True, False)
    code, _, err = models(wiring, "pull", "chat@2", "--from", str(tmp_path / "none"))
    assert (code, "is no folder" in err) == (2, True)


def test_a_volume_is_read_by_a_job_that_is_asked_for(wiring: FakeWiring, tmp_path: Path) -> None:
    mount = Mount(kind="host", source="models", destination="/caravan/outputs", read_only=False)
    sink = OutputSink(kind="volume", location=mount.destination)
    plan = TrainingPlan(goal="g", command=("t.py",), driver="docker", image="a/b:1", outputs=sink, mounts=(mount,))
    record = a_run(wiring)
    wiring.scripted.states[record.id] = RunState(run_id=record.id, request=record.request, plan=plan)
    alloc = job_that_ended(wiring, {})
    data = {"alloc_id": alloc, "attempt": 1, "node": "fake-1"}
    wiring.runs.add_event(record.id, RunEvent(at=wiring.clock.now(), kind="placed", data=data))
    add(wiring, f"volume:models/{record.id}/adapter")
    to = str(tmp_path / "to")
    code, _, err = models(wiring, "pull", "chat", "--to", to)
    assert (code, f"in {record.id}/adapter of the volume models (written on fake-1)" in err) == (2, True)
    assert "--through-job" in err
    wiring.nomad._script = lambda job: Script(files={f"alloc/data/outputs/adapter/{n}": d for n, d in FILES.items()})
    assert models(wiring, "pull", "chat", "--to", to, "--through-job")[0] == 3
    assert models(wiring, "pull", "chat", "--to", to, "--through-job", terminal=person("y"))[0] == 0
    assert tree(tmp_path / "to") == FILES
    assert wiring.nomad.find(wiring.nomad.registrations[-1]["ID"]) is None  # its copy is not left behind
    wiring.runs.delete_run(record.id)
    code, _, err = models(wiring, "pull", "chat", "--to", str(tmp_path / "b"), "--through-job")
    assert (code, "is not known here any more" in err) == (2, True)


def test_files_that_were_not_listed_come_unverified_and_that_is_said(wiring: FakeWiring, tmp_path: Path) -> None:
    add(wiring, str(on_disk(tmp_path / "m")), files={})
    code, out, _ = models(wiring, "pull", "chat", "--to", str(tmp_path / "to"))
    assert (code, "nothing was compared" in out) == (0, True)
    assert tree(tmp_path / "to") == FILES
    code, _, err = models(wiring, "verify", "chat")
    assert (code, "without checksums" in err) == (2, True)


def test_a_secret_in_a_files_name_is_not_told(wiring: FakeWiring, tmp_path: Path) -> None:
    name = "hf_abcdefghijklmnopqrst1234.bin"
    add(wiring, str(on_disk(tmp_path / "m", {name: b"w"})), files={name: b"w"})
    for words in (["pull", "chat", "--to", str(tmp_path / "to")], ["verify", "chat"]):
        _, out, err = models(wiring, *words, "--json")
        assert "abcdefghijklmnopqrst" not in out + err
