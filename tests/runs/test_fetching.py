"""Fetching files into a folder: resumed, whole or not at all, and nothing outside or of others is touched."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.runs.origins import AllocationOrigin, DiskOrigin, Listing, Remote, UrlOrigin
from caravan.runs.outputs import Fetched, Manners, Target
from caravan.values.errors import ServiceError, StateError, UsageError
from caravan.values.file_names import is_safe
from caravan.values.job import FileEntry
from caravan.values.outputs import MANIFEST


class Store:
    """An origin of bytes by name. It breaks off after `breaks_after` bytes; `asked` lists the offsets."""

    def __init__(self, **files: bytes) -> None:
        self.data = {name.replace("__", "/"): data for name, data in files.items()}
        self.key = "store"
        self.breaks_after: int | None = None
        self.asked: list[tuple[str, int]] = []
        self.digests: dict[str, str] = {}

    def listing(self) -> Listing:
        return Listing(tuple(Remote(n, len(d), self.digests.get(n)) for n, d in sorted(self.data.items())))

    def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
        self.asked.append((file.name, offset))
        for at in range(offset, file.size, 2):
            if self.breaks_after is not None and at >= self.breaks_after:
                raise KeyboardInterrupt
            yield self.data[file.name][at : min(at + 2, file.size)]


def fetch(root: Path, origin: object, *, final: bool = True) -> tuple[Fetched, ...]:
    return Target(root).fetch(origin, "outputs", final=final, tell=lambda step: None)[0]  # type: ignore[arg-type]


def test_files_come_whole_and_a_second_time_costs_nothing(tmp_path: Path) -> None:
    store = Store(a=b"alpha", deep__b=b"")
    first = fetch(tmp_path, store)
    assert [(f.path, f.bytes, f.new) for f in first] == [("outputs/a", 5, True), ("outputs/deep/b", 0, True)]
    assert first[0].sha256 == hashlib.sha256(b"alpha").hexdigest()
    assert (tmp_path / "outputs/a").read_bytes() == b"alpha"
    store.asked.clear()
    assert [f.new for f in fetch(tmp_path, store)] == [False, False]
    assert store.asked == []


def test_an_interrupted_fetch_goes_on_where_it_ended(tmp_path: Path) -> None:
    store = Store(a=b"0123456789")
    store.breaks_after = 6
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, store)
    assert not (tmp_path / "outputs/a").exists()
    store.breaks_after = None
    assert fetch(tmp_path, store)[0].sha256 == hashlib.sha256(b"0123456789").hexdigest()
    assert store.asked == [("a", 0), ("a", 6)]
    assert list((tmp_path / ".caravan/parts").iterdir()) == []


def test_another_file_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    mine = tmp_path / "outputs/a"
    for text in (b"mine", b"MINE!"):  # of another size, and of the same
        mine.write_bytes(text)
        with pytest.raises(UsageError, match="is there already and differs"):
            fetch(tmp_path, Store(a=b"alpha"))
        assert mine.read_bytes() == text
    mine.write_bytes(b"alpha")
    assert fetch(tmp_path, Store(a=b"alpha"))[0].bytes == 5  # equal: nothing is lost


def test_what_came_while_the_job_ran_is_fetched_anew(tmp_path: Path) -> None:
    store = Store(a=b"one")
    fetch(tmp_path, store, final=False)
    store.data["a"] = b"two"
    fetch(tmp_path, store, final=False)
    assert (tmp_path / "outputs/a").read_bytes() == b"two"
    store.data["a"] = b"three"
    fetch(tmp_path, store)
    assert (tmp_path / "outputs/a").read_bytes() == b"three"


def test_wrong_bytes_are_no_file(tmp_path: Path) -> None:
    store = Store(a=b"alpha")
    store.digests["a"] = "0" * 64
    with pytest.raises(StateError, match="other bytes"):
        fetch(tmp_path, store)
    assert not (tmp_path / "outputs/a").exists()
    store.digests["a"] = hashlib.sha256(b"alpha").hexdigest()
    assert fetch(tmp_path, store)[0].new


def test_a_file_that_ends_early_is_left_while_it_is_written(tmp_path: Path) -> None:
    class Shrinking(Store):
        def listing(self) -> Listing:
            return Listing((Remote("a", 99),))

        def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
            yield b"short"

    assert fetch(tmp_path, Shrinking(), final=False) == ()
    with pytest.raises(StateError, match="other bytes"):
        fetch(tmp_path, Shrinking())


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "outputs").symlink_to(outside)
    with pytest.raises(UsageError, match="is a link"):
        fetch(root, Store(a=b"alpha"))
    (root / "outputs").unlink()
    (root / "outputs").mkdir()
    (root / "outputs/a").symlink_to(outside / "a")
    with pytest.raises(UsageError, match="is no file"):
        fetch(root, Store(a=b"alpha"))
    assert list(outside.iterdir()) == []


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        Target(tmp_path / "f")
    with pytest.raises(StateError, match="can't be written"):
        Target(tmp_path / "f" / "below")


def test_a_full_disk_is_said_before_anything_comes(tmp_path: Path) -> None:
    class Huge(Store):
        def listing(self) -> Listing:
            return Listing((Remote("a", 1 << 60),))

    with pytest.raises(StateError, match="has room for"):
        fetch(tmp_path, Huge())


def test_what_is_here_already_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, manners = Store(a=b"alpha", b=b"beta"), Manners(marks=False)
    store.digests = {name: hashlib.sha256(data).hexdigest() for name, data in store.data.items()}
    Target(tmp_path, manners).fetch(store, "", final=True, tell=lambda step: None)
    full = shutil.disk_usage(tmp_path)._replace(free=(64 << 20) + 4)  # what is kept free, and `b`
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    (tmp_path / "b").unlink()
    got, _ = Target(tmp_path, manners).fetch(store, "", final=True, tell=lambda step: None)
    assert [(f.path, f.new) for f in got] == [("a", False), ("b", True)]
    (tmp_path / "a").write_bytes(b"al")
    with pytest.raises(StateError, match="has room for"):
        Target(tmp_path, manners).fetch(store, "", final=True, tell=lambda step: None)


_HANGING = """
import threading
import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from caravan.runs.origins import UrlOrigin
from caravan.values.errors import ServiceError

class Hung(MemoryFileSystem):
    def cat_file(self, path, start=None, end=None):
        threading.Event().wait()

fsspec.register_implementation("hung", Hung)
try:
    UrlOrigin("hung://share/x", patience_s=1).listing()
except ServiceError as error:
    print(error)
"""


def test_a_store_that_hangs_keeps_no_process_alive() -> None:
    program = [sys.executable, "-c", _HANGING]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("hung://share/x does not answer.\n", "")


class HostileCluster:
    """Lists what it likes."""

    def __init__(self, *entries: FileEntry) -> None:
        self.entries = entries

    def list_files(self, alloc_id: str, path: str) -> tuple[FileEntry, ...] | None:
        return self.entries if path == "alloc/data/outputs" else (FileEntry(name="x", size=1),)

    def read_part(self, alloc_id: str, path: str, *, offset: int, limit: int) -> bytes:
        return b"much more than was asked for"


def test_a_clusters_names_lead_nowhere_else(tmp_path: Path) -> None:
    bad = ("..", ".", "", "a/../../b", "/etc/passwd", "a\nb", "x" * 300)
    cluster = HostileCluster(
        *(FileEntry(name=n, size=1) for n in bad),
        *(FileEntry(name=n, is_dir=True) for n in bad),
        FileEntry(name="link", is_link=True, size=3),
        FileEntry(name="good", size=4),
        FileEntry(name="sub", is_dir=True),
    )
    origin = AllocationOrigin(cluster, "a1", "alloc/data/outputs")  # type: ignore[arg-type]
    got, listing = Target(tmp_path).fetch(origin, "outputs", final=True, tell=lambda step: None)
    assert [(f.path, f.bytes) for f in got] == [("outputs/good", 4), ("outputs/sub/x", 1)]
    assert len(listing.left_out) == 2 * len(bad) + 1
    assert (tmp_path / "outputs/good").read_bytes() == b"much"


@given(st.text())
def test_safe_names_stay_below(name: str) -> None:
    try:
        safe = is_safe(name)
    except UnicodeError:
        return
    if safe:
        assert (Path("/root") / name).resolve().is_relative_to("/root")
        assert not name.startswith("/")


def test_links_on_a_disk_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/w").write_bytes(b"w")
    (source / "latest").symlink_to("d")
    (source / "passwords").symlink_to("/etc/passwd")
    got, listing = Target(tmp_path / "to").fetch(DiskOrigin(source), "o", final=True, tell=lambda step: None)
    assert [f.path for f in got] == ["o/d/w"]
    assert sorted(listing.left_out) == ["latest", "passwords"]


def test_a_file_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    source, secret = tmp_path / "source", tmp_path / "secret"
    (source / "d").mkdir(parents=True)
    (secret / "d").mkdir(parents=True)
    for place in (source / "a", source / "d/w", secret / "w"):
        place.write_bytes(b"w")

    class Swapped(DiskOrigin):
        def __init__(self, name: str) -> None:
            super().__init__(source)
            self.name = name

        def listing(self) -> Listing:
            found = super().listing()
            (source / self.name).rename(tmp_path / f"was-{self.name}")
            (source / self.name).symlink_to(secret / "w" if self.name == "a" else secret)
            return found

    for name in ("a", "d"):
        with pytest.raises(StateError, match="can't be read"):
            fetch(tmp_path / f"to-{name}", Swapped(name))
        (source / name).unlink()
        (tmp_path / f"was-{name}").rename(source / name)


def test_the_directory_may_be_a_link_unless_it_is_the_jobs_to_make(tmp_path: Path) -> None:
    disk, own = tmp_path / "disk", tmp_path / "run"
    for place in (disk, own):
        place.mkdir()
    (disk / "w").write_bytes(b"w")
    (own / "outputs").symlink_to(disk)
    assert [f.path for f in fetch(tmp_path / "to", DiskOrigin(own / "outputs"))] == ["outputs/w"]
    with pytest.raises(StateError, match="is a link now"):
        DiskOrigin(own / "outputs", inside=own)
    (own / "outputs").unlink()
    assert DiskOrigin(own / "outputs", inside=own).listing() == Listing(())


def test_what_cannot_stand_beside_another_is_left_out_and_the_rest_comes(tmp_path: Path) -> None:
    class Odd(Store):
        def listing(self) -> Listing:
            names = ("a", "a", "a/b", "a/b/c", "z")
            return Listing(tuple(Remote(name, 1) for name in names), ("odd",))

        def pieces(self, file: Remote, offset: int) -> Iterator[bytes]:
            yield b"x"[offset:]

    got, listing = Target(tmp_path).fetch(Odd(), "outputs", final=True, tell=lambda step: None)
    assert [f.path for f in got] == ["outputs/a", "outputs/z"]
    assert listing.left_out == ("odd", "a", "a/b", "a/b/c")


def test_a_url_is_fetched_by_its_manifest(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "d").mkdir(parents=True)
    (there / "d/w").write_bytes(b"weights")
    (there / "old").write_bytes(b"rotated away")
    digest = hashlib.sha256(b"weights").hexdigest()
    files = {"d/w": {"size": 7, "sha256": digest}, "../up": {"size": 1, "sha256": digest}}
    (there / MANIFEST).write_text(json.dumps({"complete": True, "files": files}))
    got, listing = Target(tmp_path / "to").fetch(UrlOrigin(f"file://{there}"), "o", final=True, tell=lambda step: None)
    assert [(f.path, f.sha256) for f in got] == [("o/d/w", digest)]
    assert listing.left_out == ("../up",)
    (there / MANIFEST).unlink()
    assert {f.path for f in fetch(tmp_path / "to2", UrlOrigin(f"file://{there}"))} == {"outputs/d/w", "outputs/old"}


def test_a_url_that_cant_be_read_is_one_line() -> None:
    with pytest.raises((ServiceError, UsageError), match="can't be read"):
        UrlOrigin("s3://bucket/x").listing()
    assert UrlOrigin("file:///not/there").listing() == Listing(())
