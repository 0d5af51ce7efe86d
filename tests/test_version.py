"""The version is stated in one place, `caravan/__init__.py`; all others ask there, and the changelog tells of it."""

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from caravan import __version__
from caravan.terminal.app import run
from tests.fakes.wiring import FakeWiring

ROOT = Path(__file__).resolve().parent.parent
TELLS = ("caravan/__init__.py", "CHANGELOG.md")  # what states it, and the history of all of them
OF_OTHERS = ("tests/", "constraints.txt", "requirements")  # versions of other programs, which may look the same


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FakeWiring(Path("/nowhere")), ["--version"]) == 0
    assert capsys.readouterr() == (f"caravan {__version__}\n", "")
    assert run(FakeWiring(Path("/nowhere")), ["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


def test_it_is_no_option_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(FakeWiring(Path("/nowhere")), ["--version", "runs"]) == 2
    assert "--version stands before the command 'runs'" in capsys.readouterr().err


def test_it_is_a_version_as_packages_have_them() -> None:
    from packaging.version import Version

    assert str(Version(__version__)) == __version__


def test_nothing_else_states_it() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    stated = re.compile(rf"(?<![\w.]){re.escape(__version__)}(?![\w.]*\d)")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if name in TELLS or name.startswith(OF_OTHERS) or not path.is_file():
            continue
        if stated.search(path.read_text(encoding="utf-8", errors="replace")):
            found.append(name)
    assert found == []


def test_the_project_file_asks_there() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "caravan.__version__"}


def test_the_changelog_tells_of_it() -> None:
    """As keepachangelog.com has it: newest first, each release with its day, and its kinds of changes alone."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.+)$", text, re.M)
    assert heads[0] == "[Unreleased]"
    released = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", head) for head in heads[1:]]
    assert all(released), heads
    assert released[0] is not None
    assert released[0][1] == __version__
    days = [date.fromisoformat(match[2]) for match in released if match]
    assert days == sorted(days, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds


def test_the_interpreter_alone_reads_it() -> None:
    """So that an image's label can be made of it before anything is installed."""
    code = "import sys; sys.path.insert(0, '.'); import caravan; print(caravan.__version__)"
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == __version__
