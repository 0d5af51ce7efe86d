"""The folder on disk: modes, atomic files, archives that are the same bytes, the lock, and its errors."""

import errno
import gzip
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from caravan.runs import files
from caravan.runs.folder import DiskFolder
from caravan.values.errors import RunBusy, StateError, UsageError
from caravan.values.plan import TrainingPlan
from caravan.values.reports import RunReport

ROOT = Path(files.__file__).parents[2]
PLAN = TrainingPlan(goal="g", command=("python", "t.py"))
CODE = [("b.py", b"b" * 5000, 0o100644), ("a/run.sh", b"#!/bin/sh\n", 0o100775), ("ünï.txt", b"", 0o600)]


def test_folders_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path / "home", "r-1")
    folder.save_plan(PLAN)
    folder.save_job(1, "job", {})
    folder.save_code(CODE)
    folder.append_log("a" * 36, "train", "stdout", b"x\n")
    folder.save_report(RunReport(markdown="#", page="<p>"))
    _ = folder.outputs
    with folder.lock():
        for path in (tmp_path / "home").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    left = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}
    assert not [name for name in left if name.endswith(".tmp")]


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "-x", ".hidden", "x" * 200, "a\n", "a\x00"])
def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(UsageError):
        DiskFolder(tmp_path, run_id)


def test_the_same_files_give_the_same_archive(tmp_path: Path) -> None:
    first = DiskFolder(tmp_path, "r-1").save_code(CODE)
    second = DiskFolder(tmp_path, "r-2").save_code(iter(reversed(CODE)))
    assert first.sha256 == second.sha256
    assert Path(first.location).read_bytes() == Path(second.location).read_bytes()
    with tarfile.open(first.location) as archive:
        members = [(m.name, m.mode, m.mtime, m.uid, m.gid, m.uname) for m in archive]
        assert archive.extractfile("b.py").read() == b"b" * 5000  # type: ignore[union-attr]
    assert members == [("a/run.sh", 0o755, 0, 0, 0, ""), ("b.py", 0o644, 0, 0, 0, ""), ("ünï.txt", 0o644, 0, 0, 0, "")]
    assert Path(first.location).read_bytes()[4:8] == bytes(4)  # gzip's own time


def test_names_that_are_long_or_not_utf8_are_packed(tmp_path: Path) -> None:
    names = ["d/" * 120 + "file", os.fsdecode(b"\xff\xfe.txt"), "with space\n"]
    source = DiskFolder(tmp_path, "r-1").save_code([(name, b"1", 0o644) for name in names])
    with tarfile.open(source.location) as archive:
        assert sorted(m.name for m in archive) == sorted(names)


@pytest.mark.parametrize("names", [["/etc/passwd"], ["../x"], ["a/../../x"], [""], ["d/"], ["a\x00"], ["a", "a"]])
def test_paths_that_lead_outside_are_refused_and_nothing_is_left(tmp_path: Path, names: list[str]) -> None:
    folder = DiskFolder(tmp_path, "r-1")
    with pytest.raises(UsageError):
        folder.save_code([(name, b"", 0o644) for name in names])
    assert list(folder.path.iterdir()) == []


def test_a_source_that_fails_leaves_no_half_archive(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, bytes, int]]:
        yield "a", b"1", 0o644
        raise PermissionError(errno.EACCES, "Permission denied", "secret.bin")

    folder = DiskFolder(tmp_path, "r-1")
    with pytest.raises(StateError, match=r"secret\.bin"):
        folder.save_code(broken())
    assert list(folder.path.iterdir()) == []
    assert gzip.decompress(Path(folder.save_code(CODE).location).read_bytes())


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = DiskFolder(tmp_path, "r-1")
    path = folder.save_report(RunReport(markdown="old"))

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left") as caught:
        folder.save_report(RunReport(markdown="new"))
    assert "Make room" in caught.value.hint
    assert path.read_text() == "old"
    assert [p.name for p in folder.path.iterdir()] == ["REPORT.md"]


def test_a_home_that_is_a_file_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    folder = DiskFolder(tmp_path / "home", "r-1")
    for act in (
        lambda: folder.save_plan(PLAN),
        lambda: folder.save_code(CODE),
        lambda: folder.append_log("a", "t", "stdout", b"x"),
        lambda: folder.outputs,
        lambda: folder.lock().__enter__(),
    ):
        with pytest.raises(StateError) as caught:
            act()
        assert "CARAVAN_HOME" in caught.value.line()


def test_damaged_job_files_are_a_state_error(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path, "r-1")
    path = folder.save_job(1, "job", {})
    path.with_name("job.json").write_bytes(b"{")
    with pytest.raises(StateError, match="damaged"):
        folder.load_job(1)


HOLDER = """
import sys, time
from pathlib import Path
from caravan.runs.folder import DiskFolder
with DiskFolder(Path(sys.argv[1]), "r-1").lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunBusy, match=rf"process {holder.pid}\b"), DiskFolder(tmp_path, "r-1").lock():
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with DiskFolder(tmp_path, "r-1").lock():
        assert (tmp_path / "runs" / "r-1" / ".lock.pid").read_text() == str(os.getpid())


def test_an_exception_inside_lets_the_run_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), DiskFolder(tmp_path, "r-1").lock():
        raise KeyError("x")
    with DiskFolder(tmp_path, "r-1").lock():
        pass
