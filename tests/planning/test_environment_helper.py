"""The helper that finds or makes the job's Python: loaded as a module for its rules, run for an environment."""

import fcntl
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.planning.scenes import TEMPLATES


@pytest.fixture(scope="module")
def helper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment_helper", TEMPLATES / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requirement_files_are_read_with_what_they_include(helper: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("pytest\n")
    (tmp_path / "all.txt").write_text("# c\n-r more.txt\njinja2>=3 # why\n--index-url http://x\n-e .\n\nx \\\n >=1\n")
    assert helper.requirement_lines(tmp_path / "all.txt") == ["pytest", "jinja2>=3", ".", "x   >=1"]


@pytest.mark.parametrize("check", ["satisfied", "satisfied_simply"])
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("jinja2", True),
        ("Jinja2>=3.0,<9", True),
        ("jinja2<3", False),
        ("no-such-package-of-anybody", False),
        (".", False),
        ("./dir", False),
        ("jinja2 @ https://example.org/x.whl", False),
    ],
)
def test_what_counts_as_satisfied(helper: ModuleType, check: str, line: str, wanted: bool) -> None:
    assert getattr(helper, check)(line) is wanted


def test_a_file_that_includes_itself_over_another_comes_to_its_end(helper: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n-r b.txt\n")
    (tmp_path / "b.txt").write_text("y\n-r a.txt\n")
    assert helper.requirement_lines(tmp_path / "a.txt") == ["x", "y", "-r a.txt"]


def test_an_extra_asks_for_its_packages(helper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks = ["jinja2", "jinja2>=3; extra == 'small'", "no-such-package-of-anybody; extra == 'big'"]
    asks.append("server[small,all]; extra == 'all'")
    (tmp_path / "server-1.0.dist-info").mkdir()
    lines = ["Metadata-Version: 2.1", "Name: server", "Version: 1.0", *(f"Requires-Dist: {one}" for one in asks)]
    (tmp_path / "server-1.0.dist-info" / "METADATA").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    told = {extra: helper.satisfied(f"server[{extra}]>=1") for extra in ("small", "big", "small,big", "all", "none")}
    assert told == {"small": True, "big": False, "small,big": False, "all": True, "none": True}
    assert helper.satisfied("server") is True
    assert helper.satisfied_simply("server[small]") is False  # it can't read what the extra asks for


def test_a_marker_that_does_not_apply_is_satisfied(helper: ModuleType) -> None:
    assert helper.satisfied("pywin32; sys_platform == 'win32'")


def test_a_missing_requirements_file_is_said(tmp_path: Path) -> None:
    status, err = _run(tmp_path, "--file=not/there.txt")
    assert status == 66
    assert err == "caravan: the requirements file not/there.txt is not in the code\n"


def _command(place: Path, *arguments: str) -> list[str]:
    answer = f"--answer={place / 'answer.txt'}"
    return [sys.executable, str(TEMPLATES / "environment.py"), answer, *arguments]


def _environment(place: Path) -> dict[str, str]:
    return {"PATH": os.defpath, "CARAVAN_CACHE_DIR": str(place / "cache"), "PIP_NO_INDEX": "1", "HOME": str(place)}


def _run(place: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        _command(place, *arguments), env=_environment(place), capture_output=True, text=True, cwd=place, check=False
    )
    return done.returncode, done.stderr


def _wheel(place: Path) -> str:
    name = place / "tinything-1.0-py3-none-any.whl"
    with zipfile.ZipFile(name, "w") as wheel:
        wheel.writestr("tinything.py", "VALUE = 41\n")
        wheel.writestr("tinything-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinything\nVersion: 1.0\n")
        wheel.writestr(
            "tinything-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tinything-1.0.dist-info/RECORD", "")
    return str(name)


def test_two_jobs_share_one_environment_that_sees_the_base_packages(tmp_path: Path) -> None:
    arguments = (f"--pip={_wheel(tmp_path)}", "--pip=jinja2")
    running = [
        subprocess.Popen(
            _command(tmp_path, *arguments), env=_environment(tmp_path), stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        for _ in range(2)
    ]
    said = [p.communicate(timeout=300)[1] for p in running]
    assert [p.returncode for p in running] == [0, 0], said
    assert sorted("caravan: using" in text for text in said) == [False, True]
    python = (tmp_path / "answer.txt").read_text()
    assert python.startswith(str(tmp_path / "cache" / "environments"))
    script = "import tinything, jinja2; print(tinything.VALUE)"
    assert subprocess.run([python, "-c", script], capture_output=True, check=True).stdout == b"41\n"


def test_another_container_may_know_itself_by_our_process_id(
    helper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "environments"
    cache.mkdir()
    monkeypatch.setenv("CARAVAN_CACHE_DIR", str(tmp_path))
    with (cache / f".writable.{os.getpid()}").open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert next(iter(helper.caches())) == cache


def test_a_failed_installation_leaves_nothing_half_made(tmp_path: Path) -> None:
    status, err = _run(tmp_path, "--pip=no-such-package-of-anybody")
    assert status != 0
    assert err.splitlines()[-1].startswith("caravan: ")
    assert [p.suffix for p in (tmp_path / "cache/environments").iterdir()] == [".lock"]


def test_lines_of_packages_are_never_options(helper: ModuleType, tmp_path: Path) -> None:
    install = helper.building_steps(tmp_path, [Path("requirements.txt")], ["x>=1", "--index-url=https://evil.example"])[
        -1
    ]
    assert install[-5:] == ["-r", "requirements.txt", "--", "x>=1", "--index-url=https://evil.example"]
