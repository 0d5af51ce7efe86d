"""The environment of `make test-train`: made once, found again, made anew where it is not whole."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.train import environment as subject


@pytest.fixture
def made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; making an environment is a link to this Python."""
    commands: list[list[str]] = []

    def run(words: list[str]) -> None:
        commands.append(words)
        if "venv" in words:
            home = Path(words[-1])
            (home / "bin").mkdir(parents=True)
            (home / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(subject, "run", run)
    return commands


def test_it_is_made_once_for_the_same_requirements(tmp_path: Path, made_of: list[list[str]]) -> None:
    requirements = tmp_path / "r.txt"
    requirements.write_text("torch==2\n")
    first = subject.made(requirements, tmp_path / "cache")
    assert subject.made(requirements, tmp_path / "cache") == first
    assert len(made_of) == 2
    assert made_of[1][-2:] == ["-r", str(requirements)]
    requirements.write_text("torch==3\n")
    second = subject.made(requirements, tmp_path / "cache")
    assert second != first
    assert first.exists()  # somebody may be using it


def test_of_two_that_ask_at_once_one_makes_it(tmp_path: Path, made_of: list[list[str]]) -> None:
    requirements = tmp_path / "r.txt"
    requirements.write_text("")
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(subject.made, requirements, tmp_path) for _ in range(2)]
    assert asked[0].result() == asked[1].result()
    assert len(made_of) == 2


def test_one_that_is_interrupted_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subject, "run", interrupted)
    monkeypatch.setenv("CARAVAN_TRAIN_CACHE", str(tmp_path))
    monkeypatch.delenv("CARAVAN_TRAIN_PYTHON", raising=False)
    assert subject.main([]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("Interrupted:")
    assert not list(tmp_path.glob(f"*/{subject.MARK}"))


@pytest.mark.parametrize("harm", ["mark", "python"])
def test_one_that_is_not_whole_is_made_anew(tmp_path: Path, made_of: list[list[str]], harm: str) -> None:
    requirements = tmp_path / "r.txt"
    requirements.write_text("")
    python = subject.made(requirements, tmp_path)
    home = python.parents[1]
    ((home / subject.MARK) if harm == "mark" else python).unlink()
    (home / "left").touch()
    assert subject.made(requirements, tmp_path) == python
    assert not (home / "left").exists()
    assert (home / subject.MARK).exists()


def test_an_installer_that_fails_leaves_none_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_of: list[list[str]]
) -> None:
    making = subject.run

    def fails(words: list[str]) -> None:
        making(words)
        if "pip" in words:
            raise subprocess.CalledProcessError(1, words)

    monkeypatch.setattr(subject, "run", fails)
    (tmp_path / "r.txt").write_text("")
    with pytest.raises(subprocess.CalledProcessError):
        subject.made(tmp_path / "r.txt", tmp_path)
    assert sum("pip" in words for words in made_of) == subject.TRIES
    assert not list(tmp_path.glob(f"*/{subject.MARK}"))


def test_where_it_is_kept(tmp_path: Path) -> None:
    assert subject.cache({"CARAVAN_TRAIN_CACHE": "/a"}) == Path("/a")
    assert subject.cache({"XDG_CACHE_HOME": "/b"}) == Path("/b/caravan")
    assert subject.cache({}) == Path.home() / ".cache" / "caravan"


def test_a_python_that_is_named_is_taken_if_it_runs(tmp_path: Path) -> None:
    def asked(python: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.defpath, "CARAVAN_TRAIN_PYTHON": python}
        return subprocess.run(
            [sys.executable, subject.__file__], env=environ, capture_output=True, text=True, check=False
        )

    assert asked(sys.executable).stdout == f"{sys.executable}\n"
    wrong = asked(str(tmp_path))
    assert wrong.returncode == 1
    assert "is no Python that runs" in wrong.stderr
