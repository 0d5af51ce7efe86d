"""The cache of environments: one for equal wishes, whole or not there, with its size; and the task that fills it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caravan.planning.environments import cache_changes, hands_over, prepares
from caravan.planning.jobspec import to_job_spec
from caravan.values.job import Task
from caravan.values.plan import CodeSource, Mount, Setup, TrainingPlan, apply_changes
from tests.planning.scenes import ARCHIVE, GIT, TEMPLATES, bare_plan, node, nomad

HELPER = TEMPLATES / "environment.py"
SLOW = """
import pathlib, time, zipfile
def build_wheel(directory, *_):
    pathlib.Path("building").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    name = "slowthing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as out:
        out.writestr("slowthing.py", "VALUE = 1")
        info = "slowthing-1.0.dist-info"
        out.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: slowthing\\nVersion: 1.0\\n")
        out.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        out.writestr(f"{info}/RECORD", "")
    return name
"""
FULL_ONCE = """if pathlib.Path("full").exists():
        pathlib.Path("full").unlink()
        raise OSError(28, "No space left on device")"""
PROJECT = (
    '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    '[project]\nname = "slowthing"\nversion = "1.0"\n'
)


def start(place: Path, *words: str, python: str = sys.executable, **more: str) -> subprocess.Popen[str]:
    environment = {
        "PATH": os.defpath,
        "HOME": str(place),
        "CARAVAN_CACHE_DIR": str(place / "cache"),
        "NOMAD_ALLOC_DIR": str(place / "alloc"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(place / "wheels"),
        **more,
    }
    command = [python, str(HELPER), f"--answer={place / 'answer'}", *words]
    return subprocess.Popen(
        command, cwd=place, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def run(place: Path, *words: str, status: int = 0, python: str = sys.executable, **more: str) -> str:
    child = start(place, *words, python=python, **more)
    _, said = child.communicate(timeout=300)
    assert child.returncode == status, said
    return said


def environments(place: Path) -> list[Path]:
    return sorted(p for p in (place / "cache" / "environments").iterdir() if p.is_dir())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "tinything-1.0-py3-none-any.whl", "w") as out:
        out.writestr("tinything.py", "VALUE = 41\n")
        out.writestr("tinything-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinything\nVersion: 1.0\n")
        out.writestr("tinything-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr("tinything-1.0.dist-info/RECORD", "")
    return tmp_path


def test_equal_wishes_share_one_and_other_wishes_have_another(place: Path) -> None:
    (place / "requirements.txt").write_text("-r more.txt\n")
    (place / "more.txt").write_text("tinything # why\n")
    words = ("--file=requirements.txt",)
    first = run(place, *words)
    assert "made " in first
    assert "all 1 in " in first
    assert "caravan: using " in run(place, *words)
    (place / "more.txt").write_text("tinything==1.0\n")
    assert "all 2 in " in run(place, *words)
    assert "all 3 in " in run(place, *words, PIP_EXTRA_INDEX_URL="https://who:secret@pypi.example/simple")
    marks = [json.loads((p / "complete").read_text()) for p in environments(place)]
    assert all(mark["bytes"] > 1000 for mark in marks)
    assert "secret" not in json.dumps(marks)


def test_a_killed_installer_leaves_nothing_that_is_used(place: Path) -> None:
    code = place / "slow"
    code.mkdir()
    (code / "backend.py").write_text(SLOW)
    (code / "pyproject.toml").write_text(PROJECT)
    child = start(place, "--pip=./slow", "--salt=1")
    while not (code / "building").exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    (half,) = environments(place)
    assert not (half / "complete").exists()
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    (code / "go").touch()
    assert "made " in run(place, "--pip=./slow", "--salt=1")
    python = (place / "answer").read_text()
    assert python == str(half / "bin" / "python")
    subprocess.run([python, "-c", "import slowthing"], check=True)


def test_a_cache_that_cannot_be_written_costs_no_job(place: Path) -> None:
    (place / "cache").write_text("a file")
    said = run(place, "--pip=tinything")
    assert "so packages are installed for this job alone" in said
    assert (place / "answer").read_text().startswith(str(place / "alloc/cache/environments"))


def damaged_package(home: Path) -> None:
    (tinything,) = home.glob("lib/python*/site-packages/tinything.py")
    tinything.unlink()


def uninstalled(home: Path) -> None:
    for part in home.glob("lib/python*/site-packages/tinything*"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()


def without_programs(home: Path) -> None:
    shutil.rmtree(home / "bin")


def without_interpreter(home: Path) -> None:
    (home / "bin" / "python").unlink()
    (home / "bin" / "python").symlink_to("/nowhere/python")


def no_environment(home: Path) -> None:
    (home / "pyvenv.cfg").unlink()


def half_marked(home: Path) -> None:
    (home / "complete").write_text('{"bytes": 1')


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damaged_package, "tinything.py is gone)"),
        (uninstalled, "is gone, and 1 more)"),
        (without_programs, "bin/"),
        (without_interpreter, "its python does not start: No such file"),
        (no_environment, "its python does not start: exit code 1"),
        (half_marked, "its mark can't be read"),
    ],
)
def test_a_broken_one_is_made_anew(damage: Callable[[Path], None], why: str, place: Path) -> None:
    run(place, "--pip=tinything")
    damage(environments(place)[0])
    said = run(place, "--pip=tinything")
    assert "is broken (" in said
    assert why in said
    assert "made " in said
    subprocess.run([(place / "answer").read_text(), "-c", "import tinything"], check=True)
    assert "caravan: using " in run(place, "--pip=tinything")


def test_a_cache_that_fills_up_costs_no_job(place: Path) -> None:
    code = place / "slow"
    code.mkdir()
    (code / "backend.py").write_text(
        SLOW.replace('pathlib.Path("building").touch()', FULL_ONCE).replace('pathlib.Path("go").exists()', "True")
    )
    (code / "pyproject.toml").write_text(PROJECT)
    (code / "full").touch()
    said = run(place, "--pip=./slow", "--salt=1")
    assert "can't be used (No space left on device), so the next place is taken" in said
    assert (place / "answer").read_text().startswith(str(place / "alloc/cache/environments"))
    assert environments(place) == []


def test_a_disk_without_room_for_an_environment_is_not_used(place: Path) -> None:
    command = ["/bin/sh", "-c", 'ulimit -f 1; exec "$@"', "sh", sys.executable, str(HELPER)]
    environment = {
        "PATH": os.defpath,
        "CARAVAN_CACHE_DIR": str(place / "cache"),
        "NOMAD_ALLOC_DIR": str(place / "alloc"),
    }
    words = [f"--answer={place / 'answer'}", "--pip=tinything"]
    done = subprocess.run([*command, *words], cwd=place, env=environment, capture_output=True, text=True, check=False)
    for folder in (place / "cache", place / "alloc/cache"):
        assert f"the cache {folder} can't be used (No space left on device), so packages are" in done.stderr
    assert not list(place.glob("*/environments/.writable*"))


def test_no_room_anywhere_is_one_line(place: Path) -> None:
    for name in ("cache", "alloc", ".caravan-cache"):
        (place / name).write_text("a file")
    said = run(place, "--pip=tinything", status=74).splitlines()
    assert all(line.startswith("caravan: ") for line in said)
    assert said[-1].startswith("caravan: no Python can be made ready: ")


def test_an_editable_install_does_not_point_into_the_job(place: Path) -> None:
    (place / "requirements.txt").write_text("-e ./pkg[extra]\n--find-links ./wheels\n-c limits.txt\ntinything\n")
    (place / "limits.txt").write_text("tinything<2\n")
    script = "import importlib.util, sys; s = importlib.util.spec_from_file_location('e', sys.argv[1]); " + (
        "m = importlib.util.module_from_spec(s); s.loader.exec_module(m); "
        "from pathlib import Path; print(m.flat_lines([Path('requirements.txt')]))"
    )
    done = subprocess.run([sys.executable, "-c", script, HELPER], cwd=place, capture_output=True, text=True, check=True)
    home = place.resolve()
    assert done.stdout.strip() == str(["./pkg[extra]", f"-f {home}/wheels", f"-c {home}/limits.txt", "tinything"])


def test_code_that_is_not_ours_is_built_from_a_copy(place: Path) -> None:
    code = place / "user"
    code.mkdir()
    (code / "backend.py").write_text(SLOW.replace('pathlib.Path("go").exists()', "True"))
    (code / "pyproject.toml").write_text(PROJECT)
    run(place, "--pip=./user", "--apart")
    assert sorted(p.name for p in code.iterdir()) == ["backend.py", "pyproject.toml"]
    assert not list((place / "cache/environments").glob("*.code"))


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not here")
def test_uv_is_used_by_a_python_that_has_nothing_yet(place: Path) -> None:
    uv = shutil.which("uv") or ""
    path = f"{Path(uv).parent}:{os.defpath}"
    venv.create(place / "bare", with_pip=False, symlinks=True)
    said = run(place, "--pip=tinything", python=str(place / "bare" / "bin" / "python"), PATH=path)
    assert "tinything==1.0" in said
    subprocess.run([(place / "answer").read_text(), "-c", "import tinything"], check=True)


def plan(**more: Any) -> TrainingPlan:
    fields: dict[str, Any] = {"driver": "raw_exec", "setup": Setup(requirements="requirements.txt"), **more}
    return bare_plan(**fields)


CACHE = {"CARAVAN_CACHE_DIR": "/cache/caravan"}
VOLUME = Mount(kind="host", source="cache", destination="/cache", read_only=False)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (plan(), False),
        (plan(env=CACHE), True),
        (plan(env=CACHE, setup=Setup()), False),
        (plan(env=CACHE, driver="docker"), False),
        (plan(env=CACHE, driver="docker", mounts=(VOLUME,)), True),
        (plan(env=CACHE, driver="exec", mounts=(VOLUME.model_copy(update={"read_only": True}),)), False),
        (plan(env=CACHE, driver="exec", mounts=(VOLUME.model_copy(update={"destination": "/cac"}),)), False),
        (plan(env={"CARAVAN_CACHE_DIR": "${NOMAD_ALLOC_DIR}/cache"}), False),
        (plan(setup=Setup(pip=("x",), prestart=True)), True),
        (plan(env=CACHE, setup=Setup(pip=("x",), prestart=False)), False),
    ],
)
def test_a_task_of_its_own_where_the_cache_outlives_the_job(made: TrainingPlan, wanted: bool) -> None:
    assert prepares(made) is wanted


def tasks(made: TrainingPlan) -> tuple[Task, ...]:
    spec = to_job_spec(made, nomad(node()), run_id="r1", attempt=1, job_id="caravan-r1-a01", templates=TEMPLATES)
    return spec.groups[0].tasks


def test_the_task_has_what_packages_need_and_no_gpu() -> None:
    made = plan(env=CACHE, driver="docker", image="img:1", mounts=(VOLUME,), code=GIT, secrets=("TOKEN",), shm_mb=64)
    made = made.model_copy(update={"resources": made.resources.model_copy(update={"gpus": 2, "cores": 4})})
    first, training = tasks(made)
    assert (first.name, training.name) == ("environment", "train")
    assert first.lifecycle is not None
    assert (first.lifecycle.hook, first.lifecycle.sidecar) == ("prestart", False)
    assert (first.resources.devices, first.resources.cores) == ((), None)
    assert training.resources.devices
    assert first.resources.memory == training.resources.memory
    assert (first.config["image"], "shm_size" in first.config) == ("img:1", False)
    assert [a.destination for a in first.artifacts] == ["local/code"]
    assert training.artifacts == ()
    assert [t.destination for t in first.templates if t.env] == [t.destination for t in training.templates if t.env]
    assert hands_over(made)


@pytest.mark.parametrize("code", [GIT, ARCHIVE, CodeSource(kind="mount", location="/srv/code")])
def test_the_jobs_scripts_are_whole(code: CodeSource, tmp_path: Path) -> None:
    made = plan(env=CACHE, code=code)
    for task, name in zip(tasks(made), ("local/prepare.sh", "local/launch.sh"), strict=True):
        (script,) = [t.data for t in task.templates if t.destination == name]
        file = tmp_path / "script"
        file.write_text(script)
        subprocess.run(["/bin/sh", "-n", str(file)], check=True)
        assert ('"$alloc_dir/code"' in script) is (code.kind != "mount")


def test_a_volume_for_caches_keeps_packages_and_models() -> None:
    made = apply_changes(plan(driver="exec", mounts=(VOLUME,), env={"HF_HOME": "/own"}), ())
    changes = {c.path: c.value for c in cache_changes(made)}
    assert changes == {
        "env.CARAVAN_CACHE_DIR": "/cache",
        "env.TORCH_HOME": "/cache/torch",
        "env.PIP_CACHE_DIR": "/cache/pip",
    }
    assert prepares(apply_changes(made, cache_changes(made)))
    for other in (
        VOLUME.model_copy(update={"read_only": True}),
        Mount(kind="host", source="data", destination="/data"),
    ):
        assert cache_changes(plan(driver="exec", mounts=(other,))) == ()
    assert cache_changes(plan(mounts=(VOLUME,))) == ()  # raw_exec sees no volumes
