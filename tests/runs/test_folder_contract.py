"""What every RunFolder does: the real one and the fake pass the same tests."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from caravan.ports import RunFolder
from caravan.runs.folder import DiskFolder
from caravan.runs.plan_file import load_plan
from caravan.values.errors import RunBusy, StateError
from caravan.values.plan import Author, Provenance, TrainingPlan
from caravan.values.reports import RunReport
from tests.fakes.folder import PlainFolder

ALLOC = "0a1b2c3d-ffff-eeee-dddd-cccccccccccc"
SECRET = "correct-horse-battery"
PLAN = TrainingPlan(
    goal="fine-tune", command=("python", "train.py"), provenance={"command": Provenance(by=Author.REPOSITORY, why="x")}
)
Make = Callable[[str], RunFolder]


@pytest.fixture(params=["disk", "plain"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "disk":
        return lambda run_id: DiskFolder(tmp_path, run_id, secrets=[SECRET])
    return lambda run_id: PlainFolder(tmp_path, run_id, secrets=[SECRET])


@pytest.fixture
def folder(make: Make) -> RunFolder:
    return make("r-1")


def test_a_damaged_archive_of_code_is_told_in_a_line(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path, "r-1")
    kept = Path(folder.save_code([("train.py", b"print(1)" * 500, 0o644)]).location)
    kept.write_bytes(kept.read_bytes()[:30])
    with pytest.raises(StateError, match=r"code.tar.gz is damaged"):
        folder.save_code(())


def test_nothing_is_made_before_something_is_written(folder: RunFolder) -> None:
    assert folder.path.name == "r-1"
    assert folder.log_files() == ()
    assert folder.log_size(ALLOC, "train", "stdout") == 0
    assert not folder.path.exists()
    assert folder.outputs.is_dir()
    assert folder.outputs.parent == folder.path


def test_the_plan_reads_back_equal(folder: RunFolder) -> None:
    assert load_plan(folder.save_plan(PLAN)) == PLAN


def test_a_job_comes_back_to_the_letter(folder: RunFolder) -> None:
    path = folder.save_job(2, 'job "ä" {}\n', {"ID": "ä", "Meta": None, "N": [1, 2.5]})
    assert path.name == "job.nomad.hcl"
    assert folder.load_job(2) == ('job "ä" {}\n', {"ID": "ä", "Meta": None, "N": [1, 2.5]})
    with pytest.raises(StateError):
        folder.load_job(1)


def test_code_is_packed_once(folder: RunFolder) -> None:
    first = folder.save_code([("train.py", b"one", 0o644), ("bin/run", b"#!", 0o755)])
    with tarfile.open(first.location) as archive:
        assert {m.name: m.mode for m in archive} == {"train.py": 0o644, "bin/run": 0o755}
    again = folder.save_code([("train.py", b"two", 0o644)])
    assert again == first
    assert first.kind == "archive"


def test_code_is_taken_over_to_the_byte_or_not_at_all(make: Make) -> None:
    kept = make("r-1").save_code([("train.py", b"one", 0o644)])
    assert kept.sha256
    other = make("r-2")
    taken = other.take_code(Path(kept.location), kept.sha256)
    assert taken.sha256 == kept.sha256
    assert Path(taken.location).parent == other.path
    assert Path(taken.location).read_bytes() == Path(kept.location).read_bytes()
    third = make("r-3")
    with pytest.raises(StateError, match="damaged"):
        third.take_code(Path(kept.location), "0" * 64)
    assert not (third.path / "code.tar.gz").exists()


def test_logs_grow_by_their_offset_and_hide_secrets(folder: RunFolder) -> None:
    data = f"step 1\npassword is {SECRET}\nend".encode()
    for n in range(0, len(data), 7):
        assert folder.log_size(ALLOC, "train", "stdout") == n
        folder.append_log(ALLOC, "train", "stdout", data[n : n + 7])
    (copy,) = folder.log_files()
    assert copy.name == "0a1b2c3d.train.stdout.log"
    assert copy.read_text() == "step 1\npassword is [masked]\nend"


def test_log_files_come_in_the_order_they_were_begun(folder: RunFolder) -> None:
    for alloc in ("zz", "aa", "zz"):
        folder.append_log(alloc, "train", "stdout", b"x\n")
    folder.append_log("aa", "train", "stderr", b"")
    assert [p.name.rsplit(".", 1)[0] for p in folder.log_files()] == [
        "zz.train.stdout",
        "aa.train.stdout",
        "aa.train.stderr",
    ]


def test_a_held_run_is_busy_until_it_is_let_go(folder: RunFolder, make: Make) -> None:
    with folder.lock():
        with pytest.raises(RunBusy, match="process"), make("r-1").lock():
            pass
        with folder.lock(), make("r-2").lock():
            pass
        with pytest.raises(RunBusy), make("r-1").lock():
            pass
    with make("r-1").lock():
        pass


def test_looking_whether_a_run_is_held_writes_nothing(folder: RunFolder, make: Make) -> None:
    assert not folder.is_held()
    assert not folder.path.exists()
    assert folder.holder() is None
    with folder.lock():
        assert make("r-1").is_held()
        assert make("r-1").holder() == os.getpid()
        assert not make("r-2").is_held()
        assert make("r-2").holder() is None
    assert not make("r-1").is_held()
    assert make("r-1").holder() is None


def test_the_report_hides_secrets(folder: RunFolder) -> None:
    report = RunReport(markdown=f"# Report\n{SECRET}\n", page=f"<p>{SECRET}</p>")
    assert folder.save_report(report).read_text() == "# Report\n[masked]\n"
    assert folder.papers()["report.html"] == "<p>[masked]</p>"
    assert folder.save_patch(f"+{SECRET}\n").read_text() == "+[masked]\n"
    assert folder.papers()["suggested.patch"] == "+[masked]\n"


def test_deleting_takes_all_and_may_be_repeated(folder: RunFolder) -> None:
    folder.save_plan(PLAN)
    folder.append_log(ALLOC, "train", "stdout", b"x\n")
    with folder.lock():
        folder.delete()
        folder.delete()
    assert not folder.path.exists()
    assert folder.log_files() == ()


def test_the_background_agent_is_written_down(folder: RunFolder) -> None:
    assert folder.agent() is None
    folder.save_agent({"pid": 7, "began": 1.5})
    assert folder.agent() == {"pid": 7, "began": 1.5}
    folder.agent_log.write_text("it began\n")
    assert folder.agent_log.read_text() == "it began\n"


def test_samples_are_kept_apart_from_logs_and_hold_no_secret(make: Make) -> None:
    folder = make("r1")
    assert (folder.samples_size(ALLOC), folder.samples(ALLOC)) == (0, b"")
    folder.append_samples(ALLOC, b'{"up": 1}\n')
    folder.append_samples(ALLOC, f'{{"x": "{SECRET}"}}\n'.encode())
    assert folder.samples_size(ALLOC) == len(b'{"up": 1}\n') + len(f'{{"x": "{SECRET}"}}\n')
    assert folder.samples(ALLOC).startswith(b'{"up": 1}\n')
    assert SECRET.encode() not in folder.samples(ALLOC)
    assert folder.log_files() == ()
    assert make("r1").samples(ALLOC) == folder.samples(ALLOC)
