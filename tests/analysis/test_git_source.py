"""Git: clones by URL without asking, and the state of a working tree, robust against odd repositories."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis import clones, open_source
from caravan.values.errors import RepositoryError
from tests.analysis.repositories import opened, write

ENVIRONMENT = {
    "PATH": os.defpath,
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A"), ("EMAIL", "a@b.c"))
    },
}


def run(root: Path, *arguments: str) -> str:
    done = subprocess.run(("git", *arguments), cwd=root, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(root: Path, files: dict[str, str]) -> Path:
    write(root, files)
    run(root, "init", "-q", "-b", "main")
    run(root, "add", "-A", "-f")
    run(root, "commit", "-q", "-m", "first")
    return root


def test_an_interrupt_is_not_lost_where_git_ends_by_itself_meanwhile(tmp_path):
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nkill -INT $PPID\n")
    git.chmod(0o755)
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        open_source(
            str(tmp_path / "repo"), cache=tmp_path / "cache", environment={"PATH": f"{git.parent}:{os.defpath}"}
        )


def test_outside_git_there_is_no_state(tmp_path):
    tree = opened(tmp_path, {"a.py": ""})
    assert tree.git is None


def test_the_state_of_a_working_tree(tmp_path):
    root = repository(tmp_path / "r", {"a.py": "1", "b.py": "1", "c.py": "1"})
    run(root, "remote", "add", "origin", "https://user:hunter2hunter2@example.com/x/y.git")
    write(root, {"a.py": "2", "new.py": "n"})
    run(root, "mv", "b.py", "moved.py")
    tree = opened(root)
    assert tree.git
    assert tree.git.commit == run(root, "rev-parse", "HEAD")
    assert (tree.git.branch, tree.git.dirty_files, tree.git.pushed) == ("main", 3, None)
    assert tree.git.remote_url == "https://example.com/x/y.git"


def test_a_commit_that_was_seen_at_the_remote_is_pushed_whatever_its_branch_follows(tmp_path):
    root, bare = repository(tmp_path / "r", {"a.py": "1"}), tmp_path / "bare.git"
    run(tmp_path, "clone", "-q", "--bare", str(root), str(bare))
    run(root, "remote", "add", "origin", str(bare))
    assert opened(root).git.pushed is None
    run(root, "fetch", "-q", "origin")
    assert opened(root).git.pushed is True
    run(root, "checkout", "-q", "--detach")
    assert opened(root).git.pushed is True
    write(root, {"a.py": "2"})
    run(root, "commit", "-q", "-a", "-m", "more")
    assert opened(root).git.pushed is None


def test_a_repository_without_commits_and_a_detached_one(tmp_path):
    fresh = write(tmp_path / "fresh", {"a.py": ""})
    run(fresh, "init", "-q")
    tree = opened(fresh)
    assert tree.git is None
    assert any("no commit" in n for n in tree.notes)
    root = repository(tmp_path / "r", {"a.py": "1"})
    run(root, "checkout", "-q", "--detach")
    state = opened(root).git
    assert state
    assert state.branch is None


def test_a_broken_git_directory_is_no_state(tmp_path):
    assert opened(tmp_path, {"a.py": "", ".git/HEAD": "nonsense"}).git is None
    assert opened(tmp_path / "f", {"a.py": "", ".git": "gitdir: /nowhere"}).git is None


def test_tracked_files_count_though_they_are_ignored(tmp_path):
    root = repository(tmp_path / "r", {".gitignore": "data/\n*.txt\n", "data/train.csv": "x", "kept.txt": "x"})
    write(root, {"data/own.csv": "x", "own.txt": "x"})
    assert [f.path for f in opened(root).files()] == [".gitignore", "data/train.csv", "kept.txt"]


def test_nothing_of_the_repositorys_configuration_runs(tmp_path):
    root = repository(tmp_path / "r", {"a.py": "1", ".gitattributes": "*.py filter=evil\n"})
    marker = tmp_path / "ran"
    run(root, "config", "core.fsmonitor", f"touch {marker}; false")
    run(root, "config", "filter.evil.clean", f"touch {marker}; cat")
    run(root, "config", "core.sshCommand", f"touch {marker}; false")
    write(root, {"a.py": "2"})
    tree = opened(root)
    assert not marker.exists()
    assert tree.git
    assert any("filters" in n for n in tree.notes)


def test_without_git_on_the_path_the_tree_is_read_all_the_same(tmp_path):
    root = repository(tmp_path / "r", {"a.py": "1"})
    tree = open_source(str(root), cache=tmp_path / "cache", environment={"PATH": str(tmp_path)})
    assert tree.git is None
    assert [f.path for f in tree.files()] == ["a.py"]
    assert any("git could not be asked" in n for n in tree.notes)


def test_a_clone_is_shallow_whole_and_renewed(tmp_path):
    origin = repository(tmp_path / "origin", {"train.py": "1"})
    write(origin, {"train.py": "2"})
    run(origin, "commit", "-q", "-a", "-m", "second")
    cache, url = tmp_path / "cache", f"file://{origin}"
    tree = open_source(url, cache=cache)
    assert tree.read_text("train.py") == "2"
    assert run(tree.root, "rev-list", "--count", "HEAD") == "1"
    write(origin, {"train.py": "3"})
    run(origin, "commit", "-q", "-a", "-m", "third")
    assert open_source(url, cache=cache).read_text("train.py") == "3"
    assert [p.name for p in cache.iterdir()] == [tree.root.name]


def test_a_clone_that_fails_is_one_line_without_the_password(tmp_path):
    url = "https://user:hunter2hunter2@127.0.0.1:1/x/y.git"
    with pytest.raises(RepositoryError) as caught:
        open_source(url, cache=tmp_path / "cache")
    assert "hunter2" not in caught.value.line()
    assert "Can't clone https://127.0.0.1:1/x/y.git" in caught.value.line()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_clone_that_hangs_is_ended(tmp_path):
    slow = tmp_path / "bin" / "git"
    write(tmp_path, {"bin/git": "#!/bin/sh\nsleep 600\n"})
    slow.chmod(0o755)
    environment = {"PATH": f"{slow.parent}:{os.defpath}"}
    with pytest.raises(RepositoryError, match="took more than"):
        clones.clone("https://example.com/x", tmp_path / "cache", environment=environment, seconds=0.2)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        *(("https://a.b/c.git", True), ("ssh://git@a.b/c", True), ("git@a.b:c/d.git", True), ("file:///x", True)),
        *(("./x", False), ("x/y", False), ("C:/x", False), ("https://a b", False)),
    ],
)
def test_urls(source, expected):
    assert clones.is_url(source) is expected


@pytest.mark.parametrize("source", ["ext::sh -c x", "fd::17", "-x", "--upload-pack=x", "git::x"])
def test_urls_that_could_run_something(source):
    with pytest.raises(RepositoryError):
        clones.is_url(source)


def bare(tmp_path: Path, *branches: str) -> str:
    """A bare repository whose HEAD names a branch that nobody pushed."""
    root = repository(tmp_path / "work", {"train.py": "1"})
    target = tmp_path / "bare.git"
    run(tmp_path, "init", "-q", "--bare", "-b", "master", str(target))
    for branch in branches:
        run(root, "push", "-q", str(target), f"HEAD:refs/heads/{branch}")
    return f"file://{target}"


def test_of_a_repository_whose_head_is_unborn_the_only_branch_is_taken(tmp_path):
    folder = clones.clone(bare(tmp_path, "main"), tmp_path / "cache", environment=ENVIRONMENT)
    assert (folder / "train.py").read_text() == "1"


@pytest.mark.parametrize(
    ("branches", "said"),
    [(("dev", "main"), "default branch master has no commits; it has: dev, main"), ((), "no commits")],
)
def test_where_it_has_none_or_several_they_are_named_with_the_url(tmp_path, branches, said):
    url = bare(tmp_path, *branches)
    with pytest.raises(RepositoryError, match=said) as raised:
        clones.clone(url, tmp_path / "cache", environment=ENVIRONMENT)
    assert raised.value.message.startswith(url)


def history(tmp_path: Path) -> tuple[Path, list[str]]:
    """A repository whose train.py says the number of each of its three commits; the second one has names."""
    root = repository(tmp_path / "origin", {"train.py": "1"})
    commits = [run(root, "rev-parse", "HEAD")]
    for number in ("2", "3"):
        write(root, {"train.py": number})
        run(root, "commit", "-q", "-a", "-m", number)
        commits.append(run(root, "rev-parse", "HEAD"))
    run(root, "branch", "feature/x", commits[1])
    run(root, "tag", "-a", "-m", "one", "v1.0", commits[0])
    return root, commits


@pytest.mark.parametrize(("ref", "number"), [("feature/x", "2"), ("v1.0", "1"), ("main", "3"), ("", "3")])
def test_a_branch_and_a_tag_are_fetched_by_name(tmp_path, ref, number):
    root, commits = history(tmp_path)
    tree = open_source(f"file://{root}{'@' if ref else ''}{ref}", cache=tmp_path / "cache", environment=ENVIRONMENT)
    assert tree.read_text("train.py") == number
    assert tree.git
    assert (tree.git.commit, tree.git.remote_url, tree.git.pushed) == (commits[int(number) - 1], f"file://{root}", True)
    assert run(tree.root, "rev-list", "--count", "HEAD") == "1"


def test_a_commit_is_fetched_by_its_number(tmp_path):
    root, commits = history(tmp_path)
    source = f"git+file://{root}@{commits[1]}"
    tree = open_source(source, cache=tmp_path / "cache", environment=ENVIRONMENT)
    assert tree.read_text("train.py") == "2"
    assert tree.git
    assert (tree.git.commit, tree.git.pushed, tree.git.branch) == (commits[1], True, None)
    assert run(tree.root, "rev-list", "--count", "HEAD") == "1"
    shutil.rmtree(root)  # a commit never changes: nobody is asked again
    assert open_source(source, cache=tmp_path / "cache", environment=ENVIRONMENT).root == tree.root


def test_a_clone_that_is_current_is_taken_again_and_a_changed_one_is_not(tmp_path):
    root, _ = history(tmp_path)
    source, cache = f"file://{root}@feature/x", tmp_path / "cache"
    tree = open_source(source, cache=cache, environment=ENVIRONMENT)
    (tree.root / ".git" / "mine").touch()
    assert (open_source(source, cache=cache, environment=ENVIRONMENT).root / ".git" / "mine").exists()
    write(tree.root, {"own.py": ""})
    assert "own.py" not in open_source(source, cache=cache, environment=ENVIRONMENT)
    assert [p.name for p in cache.iterdir()] == [tree.root.name]


@pytest.mark.parametrize(
    ("ref", "words"),
    [("nothing", "at nothing: "), ("abcdef1", "written in full"), ("a..b", "no name of a branch"), ("-x", "no name")],
)
def test_a_ref_that_is_not_there_is_one_line(tmp_path, ref, words):
    root, _ = history(tmp_path)
    with pytest.raises(RepositoryError) as caught:
        open_source(f"file://{root}@{ref}", cache=tmp_path / "cache", environment=ENVIRONMENT)
    assert words in caught.value.line()
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://a.b/c/d.git", ("https://a.b/c/d.git", "")),
        ("https://a.b/c/d@v1", ("https://a.b/c/d", "v1")),
        ("https://me:pw@a.b/c/d", ("https://me:pw@a.b/c/d", "")),
        ("https://me:pw@a.b/c/d@x/y", ("https://me:pw@a.b/c/d", "x/y")),
        ("https://a.b/@me/d", ("https://a.b/@me/d", "")),
        ("git+https://a.b/@me/d@main", ("https://a.b/@me/d", "main")),
        ("ssh://git@a.b/c", ("ssh://git@a.b/c", "")),
        ("ssh://git@a.b/c@t", ("ssh://git@a.b/c", "t")),
        ("git@a.b:c/d.git", ("git@a.b:c/d.git", "")),
        ("git@a.b:c/d.git@0123", ("git@a.b:c/d.git", "0123")),
    ],
)
def test_what_stands_after_the_address_is_the_ref(source, expected):
    assert clones.address(source) == expected


@given(st.text(max_size=60), st.sampled_from(("https://a.b/", "ssh://g@h/", "git@h:", "file:///", "git+https://x/")))
def test_no_address_is_anything_but_read_or_refused(text, start):
    source = start + text
    try:
        url, ref = clones.address(source) if clones.is_url(source) else ("", "")
    except RepositoryError as error:
        assert "\n" not in error.line() or "\n" in text  # noqa: PT017
        return
    assert not url.startswith("-")
    assert not ref.startswith("-")
    assert source.removeprefix("git+") in (f"{url}@{ref}", url) or not url


def test_a_clone_keeps_no_credentials(tmp_path):
    bare_url = bare(tmp_path, "main", "master")
    real = shutil.which("git") or "git"
    # A stand-in for a server that asks for a password: git itself gets the address without it.
    write(
        tmp_path,
        {
            "bin/git": "#!/bin/sh\nfor a; do shift; case $a in https://*) a=" + bare_url + ";; esac; "
            f'set -- "$@" "$a"; done\nexec {real} "$@"\n'
        },
    )
    (tmp_path / "bin/git").chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{tmp_path}/bin:{os.defpath}"}
    folder = clones.clone("https://me:hunter2hunter2@a.b/c.git", tmp_path / "cache", environment=environment)
    kept = [p for p in folder.rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()]
    assert (kept, (folder / "train.py").read_text()) == ([], "1")
