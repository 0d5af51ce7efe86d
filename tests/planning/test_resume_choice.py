"""Which checkpoint a job goes on from: of this run, bound to the same training, whole; and what is done with others."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.planning.scenes import TEMPLATES

LINEAGE = {"model": "m", "lora_rank": 8}


class Job:
    """The helper as the launch script calls it, attempt after attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.out.mkdir(exist_ok=True)
        self.helper = TEMPLATES / "resume.py"

    def choose(
        self,
        *options: str,
        run: str = "r1",
        leader: bool = True,
        kind: str = "files",
        same: bool = True,
        **lineage: Any,
    ) -> dict[str, Any]:
        words = ["choose", str(self.out), "--run", run, "--kind", kind, *options, *(["--leader"] if leader else [])]
        told = any(word.startswith("--pattern=") for word in options)
        words += [] if kind != "files" or told else ["--pattern=checkpoint-*.npz"]
        self.said = self._call(words, {**LINEAGE, **lineage})
        record: dict[str, Any] = json.loads((self.folder / "record.json").read_text())
        assert not same or (self.folder / "answer.txt").read_text() == (record["from"] or "")
        return record

    def fails(self, *options: str) -> str:
        words = ["choose", str(self.out), "--run", "r1", "--kind", "files", "--pattern=checkpoint-*.npz", "--leader"]
        return self._call([*words, *options], LINEAGE, code=74)

    def _call(self, words: list[str], lineage: dict[str, Any], code: int = 0) -> str:
        (self.folder / "lineage.json").write_text(json.dumps(lineage))
        words += ["--lineage", str(self.folder / "lineage.json")]
        if words[0] == "choose":
            words += ["--record", str(self.folder / "record.json"), "--answer", str(self.folder / "answer.txt")]
        helper = [sys.executable, str(self.helper), *words]
        done = subprocess.run(helper, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        assert done.returncode == code, done.stderr
        return done.stderr

    def write(self, *steps: int) -> None:
        for step in steps:
            path = self.out / f"checkpoint-{step}.npz"
            np.savez(path, weights=np.arange(5.0), step=np.array(step))
            os.utime(path, (step, step))

    def names(self) -> list[str]:
        return sorted(p.name for p in self.out.iterdir() if p.name != ".caravan")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_a_first_start_has_nothing_and_says_nothing(job: Job) -> None:
    record = job.choose()
    assert (record["from"], job.said) == (None, "")


def test_the_newest_whole_one_is_taken_and_the_broken_one_is_told(job: Job) -> None:
    job.choose()
    job.write(9, 100, 20)
    (job.out / "checkpoint-100.npz").write_bytes(b"PK\x03\x04")
    os.utime(job.out / "checkpoint-100.npz", (1, 1))
    record = job.choose()
    assert (record["name"], record["step"]) == ("checkpoint-20.npz", 20)
    assert record["rejected"][0]["name"] == "checkpoint-100.npz"
    assert job.said.startswith("caravan: resumed from checkpoint-20.npz (not checkpoint-100.npz: ")
    assert job.names() == ["checkpoint-100.npz", "checkpoint-20.npz", "checkpoint-9.npz"]


def test_a_program_that_looks_for_itself_does_not_find_the_broken_one(job: Job) -> None:
    job.choose("--auto")
    job.write(1, 2)
    (job.out / "checkpoint-2.npz").write_bytes(b"")
    os.utime(job.out / "checkpoint-2.npz", (1, 1))
    assert job.choose("--auto")["name"] == "checkpoint-1.npz"
    assert job.names() == ["checkpoint-1.npz"]
    assert (job.out / ".caravan" / "set-aside" / "checkpoint-2.npz").exists()


def test_a_change_of_what_it_is_bound_to_starts_anew_for_good(job: Job) -> None:
    job.choose()
    job.write(5)
    record = job.choose(lora_rank=16)
    assert record["from"] is None
    assert "lora_rank 8 → 16" in record["anew_because"]
    assert job.choose(lora_rank=16)["from"] is None  # the old one stays another training's
    job.write(3)
    assert job.choose(lora_rank=16)["name"] == "checkpoint-3.npz"
    job.write(7)
    assert job.choose(lora_rank=8)["from"] is None


def test_after_a_change_a_program_that_looks_for_itself_finds_nothing(job: Job) -> None:
    job.choose("--auto")
    job.write(5)
    job.choose("--auto", model="n")
    assert job.names() == []
    assert (job.out / ".caravan" / "set-aside" / "checkpoint-5.npz").exists()


def test_what_others_wrote_is_neither_taken_nor_moved(job: Job) -> None:
    job.write(5)
    record = job.choose("--auto")
    assert record["from"] is None
    assert record["rejected"][0]["why"] == "it is not of this run"
    assert job.names() == ["checkpoint-5.npz"]
    job.write(4)
    assert job.choose("--auto")["name"] == "checkpoint-4.npz"
    assert job.choose("--auto", run="r2")["from"] is None
    assert job.names() == ["checkpoint-4.npz", "checkpoint-5.npz"]


def test_all_members_choose_the_same_and_only_the_leader_writes(job: Job) -> None:
    job.write(5)
    member = job.choose(leader=False)
    assert member["from"] is None
    assert not (job.out / ".caravan").exists()
    assert job.choose()["from"] is None
    job.write(6)
    before = (job.out / ".caravan" / "lineage.json").read_bytes()
    assert [job.choose(leader=leader)["name"] for leader in (False, True)] == ["checkpoint-6.npz"] * 2
    assert (job.out / ".caravan" / "lineage.json").read_bytes() == before
    # Before and after the leader has noted a change they come to the same.
    assert job.choose(leader=False, model="n")["from"] is None
    assert job.choose(model="n")["from"] is None
    assert job.choose(leader=False, model="n")["from"] is None


def test_a_config_key_is_told_the_path(job: Job) -> None:
    job.choose()
    job.write(5)
    overlay = job.folder / "overlay.json"
    job.choose("--key", "resume_from_checkpoint", "--overlay", str(overlay))
    path = str(job.out / "checkpoint-5.npz")
    assert json.loads(overlay.read_text())["values"] == {"resume_from_checkpoint": path}


@pytest.mark.skipif(importlib.util.find_spec("fsspec") is None, reason="fsspec copies to and from URLs")
def test_checkpoints_come_back_from_where_they_were_copied_to(job: Job, tmp_path: Path) -> None:
    store = tmp_path / "store" / "r1"
    job.choose()
    job.write(1, 2, 3)
    ended = tmp_path / "end"
    ended.touch()
    copier = [sys.executable, str(TEMPLATES / "outputs.py"), "copy", str(job.out), f"file://{store}/1"]
    subprocess.run([*copier, "--end", str(ended), "--told", str(tmp_path / "told")], check=True, capture_output=True)
    (store / "1" / "checkpoint-3.npz").write_bytes(b"other bytes")

    (tmp_path / "next").mkdir()
    second = Job(tmp_path / "next")
    words = ["fetch", str(second.out), "--from", f"file://{store}", "--attempt", "2", "--run", "r1", "--kind", "files"]
    words += ["--pattern=checkpoint-*.npz"]
    said = second._call(words, LINEAGE)
    assert "1/checkpoint-3.npz is not as its manifest says" in said
    assert second.names() == ["checkpoint-2.npz"]
    assert second.choose()["name"] == "checkpoint-2.npz"

    (tmp_path / "third").mkdir()
    third = Job(tmp_path / "third")
    words[1] = str(third.out)
    assert "before a change" in third._call(words, {**LINEAGE, "model": "n"})
    assert third.names() == []

    # What was copied and does not come is no change.
    (store / "1" / ".caravan" / "lineage.json").write_bytes(b"")
    for name in ("checkpoints.py", "outputs.py"):
        (tmp_path / name).write_text((TEMPLATES / name).read_text())
    third.helper = tmp_path / "resume.py"
    third.helper.write_text((TEMPLATES / "resume.py").read_text().replace("TRIES = 5", "TRIES = 1"))
    assert "earlier checkpoints could not be fetched" in third._call(words, LINEAGE, code=1)


def test_one_that_can_not_even_be_looked_at_is_passed_over(job: Job) -> None:
    job.choose(kind="trainer")
    for step in (3, 9):
        folder = job.out / f"checkpoint-{step}"
        (folder / "pytorch_model_fsdp_0").mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        np.savez(folder / "rng_state", state=np.arange(3))
        (folder / "rng_state.npz").rename(folder / "rng_state_0.pth")
        (folder / "pytorch_model_fsdp_0" / "__0_0.distcp").write_bytes(b"x")
        whole = pickle.dumps({}) if step == 3 else b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f."
        (folder / "pytorch_model_fsdp_0" / ".metadata").write_bytes(whole)
    record = job.choose(kind="trainer")
    assert record["name"] == "checkpoint-3"
    assert record["rejected"][0]["name"] == "checkpoint-9"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_what_says_whose_they_are_survives_its_damage(job: Job, data: bytes) -> None:
    job.choose()
    job.write(5)
    file = job.out / ".caravan" / "lineage.json"
    whole = file.read_bytes()
    file.write_bytes(data)
    assert job.choose(leader=False)["name"] == "checkpoint-5.npz"
    assert file.read_bytes() == data
    assert job.choose()["name"] == "checkpoint-5.npz"
    assert file.read_bytes() == whole


@pytest.mark.parametrize("data", [b"", b"{}", None])
def test_where_it_is_not_known_whose_they_are_nothing_starts_anew_over_them(job: Job, data: bytes | None) -> None:
    job.choose("--auto")
    job.write(5)
    job.choose("--auto")
    (job.out / ".caravan" / "lineage.copy.json").unlink()
    file = job.out / ".caravan" / "lineage.json"
    if data is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(data)
    (job.folder / "answer.txt").unlink()
    said = job.fails("--auto")
    assert said.count("\n") == 1
    assert said.startswith(f"caravan: {file}, which says whose the checkpoints are, is damaged, so none is taken")
    assert job.names() == ["checkpoint-5.npz"]
    assert not (job.folder / "answer.txt").exists()


def test_a_name_that_is_no_text_is_handed_on_as_it_is(job: Job) -> None:
    job.choose()
    job.write(5)
    name = os.fsdecode(b"checkpoint-\xff6.npz")
    (job.out / "checkpoint-5.npz").rename(job.out / name)
    record = job.choose(same=False)
    assert (record["name"], record["step"]) == ("checkpoint-\\xff6.npz", 6)
    assert (job.folder / "answer.txt").read_bytes() == os.fsencode(job.out / name)
    job.write(5)
    record = job.choose("--key", "resume", "--overlay", str(job.folder / "overlay.json"))
    assert record["name"] == "checkpoint-5.npz"
    assert record["rejected"][0]["why"] == "a config file can't hold its name, which is not UTF-8"


def test_a_directory_too_large_to_be_looked_through_is_told(job: Job, tmp_path: Path) -> None:
    for name in ("resume.py", "checkpoints.py"):
        text = (TEMPLATES / name).read_text().replace("MOST = 100_000", "MOST = 3")
        (tmp_path / name).write_text(text)
    job.helper = tmp_path / "resume.py"
    job.choose()
    for n in range(5):
        (job.out / f"folder-{n}").mkdir()
    record = job.choose()
    assert record["anew_because"].startswith("no checkpoint was found in the part")
    assert "holds more than can be looked through" in job.said
    job.write(5)
    assert job.choose()["name"] == "checkpoint-5.npz"


def test_a_pattern_may_name_the_folder_too(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.choose("--pattern=checkpoint-*/state.json")
    for step, at in ((9, 1000), (10, 2000)):
        path = job.out / "runs" / f"checkpoint-{step}" / "state.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"step": step}))
        os.utime(path, (at, at))
    (job.out / "state.json").write_text("{}")
    told = job.choose("--pattern=checkpoint-*/state.json")
    assert told["name"] == "runs/checkpoint-10/state.json"
    assert told["rejected"] == []
