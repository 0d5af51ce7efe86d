"""Archives: read like the directory that was packed, whatever the format; hostile and broken ones leave nothing."""

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.analysis import archive, open_source, unpacking
from caravan.analysis.tree import SourceTree
from caravan.values.errors import RepositoryError
from tests.analysis.repositories import write

FILES = {"train.py": b"print('loss 1')\n", "sub/run.sh": b"python train.py\n", "data/x.bin": b"\0\1", ".env": b"KEY=1"}
SEEN = ["data/x.bin", "sub/run.sh", "train.py"]


def tar(files: dict[str, bytes], top: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size, info.mode = len(content), 0o755 if name.endswith(".sh") else 0o640
            packed.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_of(*members: tarfile.TarInfo) -> bytes:
    """A tar of members; each holds as many letters as it says."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for info in members:
            packed.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, size
    return info


def zipped(files: dict[str, bytes], top: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            info = zipfile.ZipInfo(top + name)
            info.external_attr = (stat.S_IFREG | (0o755 if name.endswith(".sh") else 0o640)) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, content)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[dict[str, bytes], str], bytes]] = {
    ".zip": zipped,
    ".tar": tar,
    ".tar.gz": lambda files, top: gzip.compress(tar(files, top)),
    ".tgz": lambda files, top: gzip.compress(tar(files, top)),
    ".tar.bz2": lambda files, top: bz2.compress(tar(files, top)),
    ".tar.xz": lambda files, top: lzma.compress(tar(files, top)),
}


def opened(folder: Path, data: bytes, name: str = "code.tar") -> SourceTree:
    (folder / "here").mkdir(exist_ok=True)
    (folder / "here" / name).write_bytes(data)
    return open_source(str(folder / "here" / name), cache=folder / "cache")


def refused(folder: Path, data: bytes, name: str = "code.tar") -> str:
    """Why an archive is not unpacked; nothing of it is left, neither in the cache nor beside it."""
    with pytest.raises(RepositoryError) as caught:
        opened(folder, data, name)
    assert "\n" not in caught.value.line()
    assert not list((folder / "cache").glob("*"))
    assert [p.name for p in (folder / "here").iterdir()] == [name]
    assert sorted(p.name for p in folder.iterdir()) == ["cache", "here"]
    return caught.value.line()


@pytest.mark.parametrize("top", ["", "code-main/"])
@pytest.mark.parametrize("ending", PACKERS)
def test_an_archive_is_read_like_a_directory(tmp_path, ending, top):
    tree = opened(tmp_path, PACKERS[ending](FILES, top), f"code{ending}")
    assert [f.path for f in tree.files()] == SEEN
    assert {f.path: f.mode for f in tree.files()}["sub/run.sh"] == 0o755
    assert (tree.read_text("train.py"), tree.git, tree.cloned) == ("print('loss 1')\n", None, True)
    assert any(".env is on the deny list" in note for note in tree.notes)
    assert not list(tmp_path.rglob(".env"))
    assert tree.root.is_relative_to(tmp_path / "cache")
    assert [p.name for p in (tmp_path / "here").iterdir()] == [f"code{ending}"]


def test_the_digest_is_that_of_the_directory(tmp_path):
    files = {k: v for k, v in FILES.items() if k != ".env"}
    plain = open_source(str(write(tmp_path / "plain", files)), cache=tmp_path / "cache").digest
    (tmp_path / "plain/sub/run.sh").chmod(0o755)
    executable = open_source(str(tmp_path / "plain"), cache=tmp_path / "cache").digest
    assert opened(tmp_path, tar(files)).digest == executable != plain


def test_an_unchanged_archive_is_unpacked_once_and_a_changed_one_anew(tmp_path):
    first = opened(tmp_path, tar(FILES))
    (first.root / "mark.py").write_text("")
    assert "mark.py" in opened(tmp_path, tar(FILES))
    changed = opened(tmp_path, tar({**FILES, "more.py": b""}))
    assert changed.root != first.root
    assert "more.py" in changed
    assert "mark.py" not in changed


def test_a_folder_in_the_cache_that_says_nothing_is_unpacked_again(tmp_path):
    first = opened(tmp_path, tar(FILES, "top/"))
    about = first.root.parents[1] / "about.json"
    for text in ("", "{", '{"top": ".."}', '{"top": "../.."}', '{"top": "x"}', '{"more": 1}'):
        about.write_text(text)
        assert [f.path for f in opened(tmp_path, tar(FILES, "top/")).files()] == SEEN


def test_what_git_packed_is_whole_whatever_its_ignore_rules_say(tmp_path):
    root = write(tmp_path / "r", {".gitignore": "data/\n", "data/x.csv": "x", "train.py": ""})
    environment = {"PATH": os.defpath, "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(tmp_path)}
    for words in (("init", "-q"), ("add", "-Af"), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "1")):
        subprocess.run(("git", *words), cwd=root, env=environment, check=True)
    for name in ("code.tar", "code.tar.gz", "code.zip"):
        words = ("git", "archive", "--prefix=code-1/", "-o", str(tmp_path / name), "HEAD")
        subprocess.run(words, cwd=root, env=environment, check=True)
        tree = open_source(str(tmp_path / name), cache=tmp_path / "cache")
        assert [f.path for f in tree.files()] == [".gitignore", "data/x.csv", "train.py"]
    assert "data/x.csv" not in opened(tmp_path, tar({".gitignore": b"data/\n", "data/x.csv": b"", "train.py": b""}))


def test_links_inside_stay_and_others_do_not(tmp_path):
    (tmp_path / "secret.txt").write_text("hunter2")
    tree = opened(
        tmp_path,
        tar_of(
            member("a.py", size=3),
            member("docs/b.py", tarfile.SYMTYPE, "../a.py"),
            member("copy.py", tarfile.LNKTYPE, "a.py"),
            member("out.txt", tarfile.SYMTYPE, str(tmp_path / "secret.txt")),
            member("up.txt", tarfile.SYMTYPE, "../../../../../secret.txt"),
            member("round", tarfile.SYMTYPE, "docs/.."),
            member("sly", tarfile.SYMTYPE, "round/../../../../secret.txt"),
            member("dangling", tarfile.LNKTYPE, "nowhere"),
            member("pipe", tarfile.FIFOTYPE),
            member("device", tarfile.CHRTYPE),
        ),
    )
    assert [f.path for f in tree.files()] == ["a.py", "copy.py", "docs/b.py"]
    assert (tree.read_text("docs/b.py"), tree.read_text("copy.py")) == ("xxx", "xxx")
    notes = " ".join(tree.notes)
    assert all(f"{name} is a link that leads out" in notes for name in ("out.txt", "up.txt", "sly"))
    assert "pipe is no file" in notes


def test_nothing_is_written_by_way_of_a_link(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    for order in (0, 1):
        members = [member("d", tarfile.SYMTYPE, str(target)), member("d/evil.py", size=1), member("a.py", size=1)]
        tree = opened(tmp_path, tar_of(*members[:: 1 if order == 0 else -1]), f"code{order}.tar")
        assert [f.path for f in tree.files()] == ["a.py", "d/evil.py"]
    nested = [member("d", tarfile.SYMTYPE, "e"), member("d/x", tarfile.SYMTYPE, "../a.py"), member("a.py", size=1)]
    assert "a.py" in opened(tmp_path, tar_of(*nested), "nested.tar")
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["../evil.py", "/tmp/evil.py", "a/../../evil.py", "C:/evil.py", "a/" * 70 + "b", "n" * 300, "a\0b/.."]
)
def test_names_that_lead_out_refuse_the_whole_archive(tmp_path, name):
    said = refused(tmp_path, tar_of(member("a.py", size=1), member(name, size=1)) if "\0" not in name else b"\0" * 99)
    assert "is not unpacked" in said or "can't be unpacked" in said or "holds no files" in said


@pytest.mark.parametrize("name", ["../evil.py", "/abs/evil.py", "..\\evil.py", "C:\\evil.py"])
def test_names_in_a_zip_that_lead_out(tmp_path, name):
    assert "leads out of it" in refused(tmp_path, zipped({"a.py": b"", name: b""}), "code.zip")


SMALL = archive.Limits(packed=1_000_000, unpacked=1_000_000, members=10, seconds=60)
ZEROS = {"a.py": b"", "zeros.bin": bytes(5_000_000)}
MANY = {f"{i}.py": b"" for i in range(11)}


def lying(data: bytes) -> bytes:
    """A zip whose table and headers say that its largest file has one byte."""
    return data.replace((5_000_000).to_bytes(4, "little"), (1).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("b.zip", zipped(ZEROS), "more than 1 MB together"),
        ("b.tar.gz", gzip.compress(tar(ZEROS)), "more than 1 MB together"),
        ("b.tar.xz", lzma.compress(tar(ZEROS)), "more than 1 MB together"),
        ("b.tar", tar({"zeros.bin": bytes(2_000_000)}), "more than 1 MB"),
        ("m.zip", zipped(MANY), "more than 10 files"),
        ("m.tar", tar(MANY), "more than 10 files"),
        ("skipped.tar.gz", gzip.compress(tar({".env": bytes(5_000_000), "a.py": b""})), "headers lead|too large"),
        ("lying.zip", lying(zipped(ZEROS)), "can't be unpacked|more than 1 MB"),
    ],
)
def test_bombs_are_stopped(tmp_path, name, data, said):
    with pytest.raises(RepositoryError, match=said):
        archive.unpack(write(tmp_path, {name: data}) / name, tmp_path / "cache", limits=SMALL)
    assert list((tmp_path / "cache").iterdir()) == []


def test_time_is_bounded(tmp_path):
    limits = SMALL._replace(seconds=-1)
    with pytest.raises(RepositoryError, match="takes too long"):
        archive.unpack(write(tmp_path, {"a.tar": tar(FILES)}) / "a.tar", tmp_path / "cache", limits=limits)


def test_headers_that_want_all_the_memory(tmp_path):
    huge = tarfile.TarInfo("pax")
    huge.type, huge.size = tarfile.XHDTYPE, 1 << 33
    assert "header in it is too large" in refused(tmp_path, huge.tobuf(tarfile.GNU_FORMAT) + bytes(2048))


def test_headers_that_follow_one_another_for_ever(tmp_path):
    chain = tarfile.TarInfo("pax")
    chain.type, chain.size = tarfile.XHDTYPE, 0
    assert "can't be unpacked" in refused(tmp_path, chain.tobuf(tarfile.GNU_FORMAT) * 20_000, "chain.tar")


def test_an_xz_stream_that_asks_for_much_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_XZ_MEMORY", 1_000_000)
    assert "can't be unpacked" in refused(tmp_path, lzma.compress(tar(FILES)), "code.tar.xz")


def test_what_is_no_archive_is_one_line(tmp_path):
    assert "can't be unpacked" in refused(tmp_path, b"no archive at all", "code.zip")
    (tmp_path / "here/code.zip").unlink()
    assert "Unpack it" in refused(tmp_path, b"", "code.tar.zst")


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(zipped({"a.py": b"x"}))
    for start in (b"PK\3\4", b"PK\1\2"):
        data[data.index(start) + (6 if start == b"PK\3\4" else 8)] |= 1
    assert "encrypted" in refused(tmp_path, bytes(data), "code.zip")


def test_a_directory_named_like_an_archive_is_a_directory(tmp_path):
    assert "a.py" in open_source(str(write(tmp_path / "code.zip", {"a.py": ""})), cache=tmp_path / "cache")


def test_a_pipe_named_like_an_archive_is_refused(tmp_path):
    os.mkfifo(tmp_path / "code.tar")
    with pytest.raises(RepositoryError, match="no regular file"):
        open_source(str(tmp_path / "code.tar"), cache=tmp_path / "cache")


@given(
    st.sampled_from([*PACKERS]),
    st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=8)), max_size=6),
    st.integers(0, 4000),
)
@settings(deadline=None, max_examples=80)
def test_a_broken_archive_is_refused_or_read_and_writes_nowhere_else(ending, changes, cut):
    data = bytearray(PACKERS[ending](FILES, "top/"))
    for at, piece in changes:
        data[at % len(data) : at % len(data) + len(piece)] = piece
    data = data[: len(data) - cut % len(data)] if cut % 3 == 0 else data
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            tree = opened(folder, bytes(data), f"code{ending}")
        except RepositoryError as error:
            assert "\n" not in error.line()  # noqa: PT017
        else:
            assert all(tree.root in (tree.root / f.path).parents for f in tree.files())
        assert sorted(p.name for p in folder.iterdir()) in (["cache", "here"], ["here"])
        assert all(not p.name.startswith(".") for p in (folder / "cache").iterdir())


NAMES = st.lists(st.sampled_from(["a", "b.py", "..", ".", "", "d", "\\", "é", "C:", "~"]), max_size=5).map("/".join)
KINDS = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)


@given(st.lists(st.tuples(NAMES, st.sampled_from(KINDS), NAMES), max_size=8))
@settings(deadline=None, max_examples=100)
def test_no_names_and_links_lead_out(rows):
    data = tar_of(
        member("own.py", size=2), *(member(n or "x", k, t, 3 if k == tarfile.REGTYPE else 0) for n, k, t in rows)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, {"a": "outside", "b.py": "outside", "cache/a": "outside", "cache/d/b.py": "outside"})
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        try:
            tree = opened(folder, data)
        except RepositoryError:
            pass
        else:
            assert all(b"outside" not in tree.read_bytes(f.path) for f in tree.files())
        assert before == {p: p.read_bytes() for p in before}
