"""The launch script with outputs that go to a URL or a volume, run for real by /bin/sh."""

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from caravan.planning.outputs import settled
from caravan.planning.script import launch_script
from caravan.values.outputs import MANIFEST, NOT_COPIED, OutputSummary, parse_manifest, parse_summary
from caravan.values.plan import Mount, OutputSink, TrainingPlan
from tests.planning.scenes import TEMPLATES, bare_plan, nomad
from tests.planning.test_launch_script import Place

WRITE = "import os,sys\nout = os.environ['CARAVAN_OUTPUT_DIR']\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "odd $(name) 'here'")
    made.helper = made.helper.replace("TRIES = 5", "TRIES = 2").replace("SETTLED_S = 10.0", "SETTLED_S = 0.1")
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


def plan_to(place: Place, shared: Path, text: str, **more: Any) -> TrainingPlan:
    sink = OutputSink(kind="url", location=f"file://{shared}/runs")
    return place.plan(place.pack(train_py=WRITE + text), "train.py", outputs=sink, **more)


def summary(place: Place) -> OutputSummary:
    found = parse_summary((place.alloc / "data" / "caravan-outputs.json").read_bytes())
    assert found is not None
    return found


def test_outputs_are_copied_below_the_url_and_listed_in_a_manifest(place: Place, shared: Path) -> None:
    text = "os.makedirs(out + '/a b')\nopen(out + '/a b/w', 'wb').write(b'weights')\nopen(out + '/log', 'w').close()\n"
    status, _, err = place.run(plan_to(place, shared, text))
    there = shared / "runs" / "r1" / "1"
    assert (status, err) == (0, f"caravan: 2 files (7 bytes) are copied to file://{there}\n")
    assert sorted(p.name for p in there.rglob("*") if p.is_file()) == [MANIFEST, "log", "w"]
    manifest = parse_manifest((there / MANIFEST).read_bytes())
    assert manifest is not None
    assert manifest.complete
    assert manifest.files["a b/w"].sha256 == hashlib.sha256(b"weights").hexdigest()
    told = summary(place)
    assert (told.files, told.bytes, told.newest is not None) == (2, 7, True)
    assert told.copied is not None
    assert (told.copied.complete, told.copied.files) == (True, 2)
    assert place.sentinel()["exit_code"] == 0


def test_a_place_that_cant_be_written_ends_the_job_before_the_training(place: Place, shared: Path) -> None:
    shared.write_text("a file")
    status, out, err = place.run(plan_to(place, shared, "print('trained')"))
    assert (status, out) == (NOT_COPIED, "")
    assert f"the outputs could not be copied to file://{shared}/runs/r1/1: NotADirectoryError" in err
    assert place.sentinel()["exit_code"] == NOT_COPIED


def test_a_training_whose_outputs_are_not_copied_is_no_success(place: Place, shared: Path) -> None:
    text = (
        f"import shutil\nopen(out + '/w', 'w').write('w')\nshutil.rmtree({str(shared)!r})\nopen({str(shared)!r}, 'w')"
    )
    status, _, err = place.run(plan_to(place, shared, text))
    assert status == NOT_COPIED == place.sentinel()["exit_code"]
    assert f"the outputs could not be copied to file://{shared}/runs/r1/1: w: " in err
    told = summary(place)
    assert told.copied is not None
    assert (told.copied.complete, told.files) == (False, 1)


def test_a_training_that_fails_keeps_its_code_and_its_outputs_are_copied(place: Place, shared: Path) -> None:
    status, _, _ = place.run(plan_to(place, shared, "open(out + '/half', 'w').write('x')\nsys.exit(7)"))
    assert status == 7 == place.sentinel()["exit_code"]
    assert (shared / "runs/r1/1/half").read_text() == "x"
    assert (shared / "runs/r1/1" / MANIFEST).exists()


def test_a_checkpoint_is_copied_while_the_training_runs(place: Place, shared: Path) -> None:
    there = shared / "runs/r1/1/checkpoint-1/w"
    text = (
        "import time\nos.makedirs(out + '/checkpoint-1')\nopen(out + '/checkpoint-1/w', 'w').write('one')\n"
        f"until = time.monotonic() + 50\nwhile not os.path.exists({str(there)!r}) and time.monotonic() < until:\n"
        "    time.sleep(0.05)\n"
        f"print(os.path.exists({str(there)!r}))\nos.remove(out + '/checkpoint-1/w')\n"
    )
    status, out, _ = place.run(plan_to(place, shared, text))
    assert (status, out) == (0, "True\n")
    manifest = json.loads((shared / "runs/r1/1" / MANIFEST).read_text())
    assert (list(manifest["files"]), list(manifest["earlier"])) == ([], ["checkpoint-1/w"])


def test_a_stop_leaves_time_to_copy_what_was_saved(place: Place, shared: Path) -> None:
    text = (
        "import signal,time\ndef stop(*_):\n    open(out + '/last', 'w').write('saved'); sys.exit(43)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\nwhile True: time.sleep(60)\n"
    )
    process = place.start(plan_to(place, shared, text))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 43 == place.sentinel()["exit_code"]
    assert (shared / "runs/r1/1/last").read_text() == "saved"
    assert (shared / "runs/r1/1" / MANIFEST).exists()


KILLED = """
def copier():
    for name in os.listdir('/proc'):
        try:
            words = open(f'/proc/{name}/cmdline', 'rb').read().split(b'\\0') if name.isdigit() else []
        except OSError:
            continue
        if b'copy' in words and os.fsencode(out) in words:
            return int(name)
open(out + '/w', 'w').write('weights')
os.kill(copier(), 9)
"""


def test_a_copier_that_was_killed_is_followed_by_another_one(place: Place, shared: Path) -> None:
    status, _, err = place.run(plan_to(place, shared, KILLED))
    assert status == 0 == place.sentinel()["exit_code"], err
    assert "the copier ended with exit code 137 and is started once more" in err
    assert (shared / "runs/r1/1/w").read_text() == "weights"
    assert (shared / "runs/r1/1" / MANIFEST).exists()


def test_a_copier_that_dies_twice_is_a_failure_in_its_own_words(place: Place, shared: Path) -> None:
    place.helper = place.helper.replace(
        '"""Copy until the end; 0 when all of it is there."""', "os.kill(os.getpid(), 9)"
    )
    status, _, err = place.run(plan_to(place, shared, "open(out + '/w', 'w').write('weights')"))
    assert status == NOT_COPIED == place.sentinel()["exit_code"]
    there = shared / "runs" / "r1" / "1"
    assert err.endswith(f"caravan: the copier of the outputs to file://{there} ended with exit code 137, twice\n")


def test_a_volume_has_a_directory_for_each_run(place: Place, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    code = place.pack(train_py="import sys; open(sys.argv[2] + '/w', 'w').write('w')")
    sink = OutputSink(kind="volume", location=str(volume))
    plan = place.plan(code, "train.py", "--out", "x", outputs=sink, flags={"training.output_dir": "--out"})
    status, _, err = place.run(plan)
    assert (status, err) == (0, "")
    assert (volume / "r1" / "w").read_text() == "w"
    assert summary(place).directory == str(volume / "r1")


BESIDE = WRITE + "open('model.bin', 'wb').write(b'0' * 2_000_000)\nopen('small.txt', 'w').write('x')\n"


def test_large_files_beside_the_outputs_are_counted(place: Place) -> None:
    plan = place.plan(place.pack(train_py=BESIDE), "train.py", "--out", "x", flags={"training.output_dir": "--out"})
    status, _, _ = place.run(plan)
    told = summary(place)
    assert (status, told.files, told.elsewhere.files, told.elsewhere.bytes) == (0, 0, 1, 2_000_000)
    assert told.elsewhere.largest[0].name == "model.bin"
    assert told.kept is None


LEFT = """
import os, pathlib, sys
for name in "runs/tiny/model.bin runs/log.txt .cache/hub __pycache__/train.pyc env/pyvenv.cfg env/lib.so".split():
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("abc")
os.utime("runs/log.txt", (1, 1))
os.symlink("/etc/hostname", "runs/link")
"""


def test_what_nothing_told_where_to_write_is_kept(place: Place) -> None:
    """New files alone: not the code, no caches, no hidden folders, no environment of Python, no links."""
    code = place.pack(train_py=LEFT, README_md="# An old one")
    status, _, err = place.run(place.plan(code, "train.py"))
    assert (status, err) == (0, "")
    kept = [p.relative_to(place.outputs).as_posix() for p in place.outputs.rglob("*") if p.is_file()]
    assert sorted(kept) == ["runs/log.txt", "runs/tiny/model.bin"]
    told = summary(place)
    assert told.kept is not None
    assert (told.files, told.kept.files, told.kept.left, told.kept.bytes) == (2, 2, 0, 6)
    assert set(told.kept.largest) == set(kept)


def test_what_is_kept_is_copied_to_a_url_too(place: Place, shared: Path) -> None:
    status, _, _ = place.run(plan_to(place, shared, LEFT))
    assert status == 0
    assert (shared / "runs" / "r1" / "1" / "runs" / "tiny" / "model.bin").read_text() == "abc"


@pytest.mark.parametrize("end", ["open(out + '/w', 'w').write('w')", "sys.exit(3)"])
def test_nothing_is_kept_beside_outputs_nor_of_a_failure(place: Place, end: str) -> None:
    """What a failed attempt left in the shared outputs would look to the next one as if it had been written there."""
    status, _, _ = place.run(place.plan(place.pack(train_py=WRITE + LEFT + end), "train.py"))
    assert status == (3 if "exit" in end else 0)
    assert not (place.outputs / "runs").exists()
    assert summary(place).kept is None


def test_what_cant_be_kept_is_told(place: Place) -> None:
    place.helper = place.helper.replace("MOST_KEPT = 10_000", "MOST_KEPT = 1")
    status, _, _ = place.run(place.plan(place.pack(train_py=LEFT), "train.py"))
    told = summary(place)
    assert (status, told.files) == (0, 0)
    assert told.kept is not None
    assert (told.kept.files, told.kept.left, told.kept.error) == (0, 2, "more than 1 files are new")


def test_a_relative_directory_is_where_the_command_sees_it(place: Place) -> None:
    code = place.pack(src__train_py="open('out/w', 'w').write('abc')")
    plan = place.plan(code, "train.py", workdir="src", training={"output_dir": "out"})
    assert place.run(plan)[0] == 0
    assert (place.task / "code/src/out/w").exists()
    assert summary(place).bytes == 3


def test_the_copier_gets_its_packages_and_no_url_is_code() -> None:
    sink = OutputSink(kind="url", location="s3://bucket/it's $(here)")
    text = launch_script(bare_plan(outputs=sink, kill_timeout_s=90), TEMPLATES)
    assert "--pip='fsspec>=2023.1.0' --pip=s3fs" in text
    assert "--grace 86" in text
    assert """address='s3://bucket/it'"'"'s $(here)'/${NOMAD_META_caravan_run:?}""" in text


def test_a_named_volume_is_mounted(tmp_path: Path) -> None:
    plan = settled(bare_plan(outputs=OutputSink(kind="volume", location="ckpt")), nomad())
    assert plan.mounts == (Mount(kind="host", source="ckpt", destination="/caravan/outputs", read_only=False),)
    assert plan.outputs.location == "/caravan/outputs"
    assert settled(plan, nomad()) == plan
