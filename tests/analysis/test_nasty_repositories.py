"""Repositories made to break a reader: nothing hangs, nothing runs, nothing grows without bound, nothing is changed."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from caravan.analysis import analyze, hashes, open_source, sources, tree
from caravan.analysis.ignore import MAX_RULES
from caravan.analysis.makefile import recipes
from caravan.values.errors import RepositoryError
from tests.analysis.repositories import opened, profile_of, script, write
from tests.analysis.test_git_source import ENVIRONMENT, repository, run

TRAIN = script("")
CELL = {"cell_type": "code", "source": TRAIN}


def fingerprint(root: Path) -> str:
    """Everything of a tree that a write would change: names, kinds, times, link targets, contents."""
    rows = []
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        link = str(path.readlink()) if path.is_symlink() else ""
        digest = hashlib.sha256(content).hexdigest()
        rows.append((str(path), found.st_mode, found.st_mtime_ns, found.st_ctime_ns, found.st_size, link, digest))
    return repr(rows)


def test_the_repository_is_left_as_it_was_to_the_nanosecond(tmp_path: Path) -> None:
    root = repository(tmp_path / "r", {"train.py": TRAIN, "README.md": "    python train.py\n"})
    (root / "link").symlink_to("train.py")
    os.utime(root / "train.py", ns=(1, 1))  # git would like to refresh its index now
    before = fingerprint(root)
    found = open_source(str(root), cache=tmp_path / "cache", environment=ENVIRONMENT)
    analyze(found, "Train it")
    assert list(found.delivery())
    assert fingerprint(root) == before


def test_a_filter_in_the_configuration_of_a_work_tree_does_not_run(tmp_path: Path) -> None:
    root = repository(tmp_path / "r", {"train.py": TRAIN, ".gitattributes": "* filter=x\n"})
    run(root, "config", "extensions.worktreeConfig", "true")
    run(root, "config", "--worktree", "filter.x.clean", f"touch {tmp_path / 'ran'}; cat")
    write(root, {"train.py": TRAIN.replace("loss", "cost")})
    found = open_source(str(root), cache=tmp_path / "cache", environment=ENVIRONMENT)
    assert any("filters" in note for note in found.notes)
    assert not (tmp_path / "ran").exists()


def test_git_is_not_led_elsewhere_by_the_environment(tmp_path: Path) -> None:
    root = repository(tmp_path / "r", {"a.py": "1"})
    other = repository(tmp_path / "other", {"b.py": "2", "c.py": "3"})
    led = {**ENVIRONMENT, "GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other)}
    found = open_source(str(root), cache=tmp_path / "cache", environment=led)
    assert found.git
    assert found.git.commit == run(root, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["HEAD", "index", "config"])
def test_a_pipe_inside_the_git_directory_holds_nothing_up(tmp_path: Path, name: str) -> None:
    root = repository(tmp_path / "r", {"train.py": TRAIN})
    (root / ".git" / name).unlink()
    os.mkfifo(root / ".git" / name)
    found = open_source(str(root), cache=tmp_path / "cache", environment=ENVIRONMENT)
    assert found.git is None
    assert any(name in note for note in found.notes)


def test_an_ignore_file_that_is_a_pipe_with_a_silent_writer_is_no_ignore_file(tmp_path: Path) -> None:
    root = write(tmp_path / "r", {"train.py": TRAIN})
    os.mkfifo(root / ".gitignore")
    holder = os.open(root / ".gitignore", os.O_RDWR)
    try:
        assert [f.path for f in opened(root).files()] == ["train.py"]
    finally:
        os.close(holder)


def test_a_bare_repository_is_named_so(tmp_path: Path) -> None:
    root = repository(tmp_path / "r", {"train.py": TRAIN})
    run(tmp_path, "clone", "-q", "--bare", str(root), "bare.git")
    with pytest.raises(RepositoryError, match="bare git repository"):
        open_source(str(tmp_path / "bare.git"), cache=tmp_path / "cache")


def test_why_a_clone_failed_is_git_s_first_word(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError) as caught:
        open_source(f"file://{tmp_path}/nowhere", cache=tmp_path / "cache", environment=ENVIRONMENT)
    assert "does not appear to be a git repository" in caught.value.line()
    assert ".." not in caught.value.line()


def test_ignore_rules_that_would_take_for_ever_are_left_out_and_named(tmp_path: Path) -> None:
    slow = "a*" * 30 + "b\n"
    many = "".join(f"/x{i}/\n" for i in range(MAX_RULES + 5))
    found = opened(tmp_path, {".gitignore": f"*.log\n{slow}{many}", "a" * 200: "", "x.log": "", "train.py": ""})
    assert "x.log" not in found
    assert "a" * 200 in found
    assert any("left out: too many" in note for note in found.notes)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"train.py": TRAIN})
    with (tmp_path / "data.bin").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file of a TB: reading it would never end
    found = opened(tmp_path)
    assert len(found.digest) == 64
    with pytest.raises(RepositoryError, match=r"data\.bin") as caught:
        found.delivery(limit=512_000_000)
    assert "CARAVAN_MAX_ARCHIVE_MB" in caught.value.line()


def test_the_digest_sees_size_beginning_and_end_of_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "MAX_HASHED", 1000)
    large = tmp_path / "large.bin"
    seen = set()
    for content in (b"a" * 5_000_000, b"b" + b"a" * 4_999_999, b"a" * 4_999_999 + b"b", b"a" * 5_000_001):
        large.write_bytes(content)
        seen.add(opened(tmp_path).digest)
    assert len(seen) == 4


def test_files_beyond_the_bound_are_never_left_out_of_a_delivery_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_FILES", 3)
    assert len(list(opened(tmp_path, {f"{n}.py": "" for n in range(3)}).delivery())) == 3
    found = opened(tmp_path, {"3.py": ""})
    assert len(found.files()) == 3
    with pytest.raises(RepositoryError, match="more than 3 files"):
        found.delivery()


def test_a_file_that_grows_while_it_is_read_ends(tmp_path: Path) -> None:
    found = opened(tmp_path, {"log.txt": "x" * 10})
    with (tmp_path / "log.txt").open("ab") as writer:
        writer.write(b"y" * 10)
    assert found.read_bytes("log.txt") == b"x" * 10 + b"y" * 10  # what was there when it was opened


def test_paths_longer_than_the_system_takes_are_left_out(tmp_path: Path) -> None:
    root = write(tmp_path / "r", {"train.py": TRAIN})
    here = os.open(root, os.O_RDONLY)
    try:
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=here)
            inner = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(os.open("deep.py", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    found = opened(root)
    assert [f.path for f in found.files()] == ["train.py"]
    assert any("File name too long" in note for note in found.notes)


def test_requirements_from_a_windows_shell_are_read(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, {"train.py": TRAIN, "requirements.txt": "torch==2.1\n".encode("utf-16")})
    assert profile.dependency_files == ("requirements.txt",)
    assert not [note for note in profile.notes if "no text" in note]


def test_a_notebook_full_of_pictures_is_read(tmp_path: Path) -> None:
    cell = {**CELL, "outputs": [{"data": {"image/png": "A" * (tree.MAX_TEXT + 1)}}]}
    profile = profile_of(tmp_path, {"train.ipynb": json.dumps({"cells": [cell]})})
    assert profile.entry_point == "train.ipynb"


SHAPES: tuple[object, ...] = (
    [],
    {},
    {"cells": 5},
    {"cells": [5, None, {}, {"cell_type": "code"}, {"cell_type": "code", "source": 5}]},
)


@pytest.mark.parametrize("shape", [*SHAPES, {"cells": [{"cell_type": "code", "source": [1, None, {"a": 1}]}]}])
def test_notebooks_of_any_shape_are_read(tmp_path: Path, shape: object) -> None:
    profile = profile_of(tmp_path, {"train.py": TRAIN, "x.ipynb": json.dumps(shape)})
    assert profile.entry_point == "train.py"


def test_a_recipe_without_a_name_is_none() -> None:
    assert recipes(" :\n\tpython train.py\n") == []


def test_the_profile_stays_small_whatever_the_code_holds(tmp_path: Path) -> None:
    parser = "import argparse\nparser = argparse.ArgumentParser()\n"
    parser += "".join(f"parser.add_argument('--option-{n}')\n" for n in range(3000))
    parser += f"parser.add_argument('--data', default={list(range(20_000))})\n"
    parser += f"parser.add_argument('--text', default='{'x' * 50_000}')\n"
    profile = profile_of(tmp_path, {"train.py": script(parser, imports="".join(f"import m{n}\n" for n in range(5000)))})
    assert profile.entry_point == "train.py"
    assert len(json.dumps(profile.contract())) < 300_000


def test_texts_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_READ", 100)
    monkeypatch.setattr(sources, "MAX_PARSED_TEXT", 50)
    read = sources.Sources((f"{n}.py" for n in range(9)), lambda _: "x = 1\n" * 10)
    assert [read.text(f"{n}.py") is None for n in range(4)] == [False, False, True, True]
    assert [read.module(f"{n}.py").error is None for n in range(2)] == [True, False]
    assert len(read.notes) == 2


def test_names_of_any_kind_are_listed_and_delivered(tmp_path: Path) -> None:
    names = ["new\nline.py", "quo'te\".py", "-rf.py", "\x1b[31mred.py", "$(id).py", "tab\t.py", "back\\slash.py"]
    names += [
        "*.txt",
        "[x].py",
        "{{a}}.py",
        "${env}.py",
        "%s{0}.py",
        "\u202egpj.py",
        " ",
        "~",
        "...",
        "TRAIN.py",
        "train.py",
    ]
    found = opened(tmp_path, dict.fromkeys(names, TRAIN))
    assert sorted(p for p, _, _ in found.delivery()) == sorted(names)
    profile = analyze(found, "Train it")
    assert profile.entry_point in names
    json.dumps(profile.contract())
