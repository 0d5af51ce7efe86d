"""What was found is taken again for the same contents, and only then; a cache that is broken or foreign is no cache."""

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.analysis import SourceTree, analyze, hashes, kept, open_source, profile
from caravan.analysis.kept import Hashed, Kept, Stamp
from caravan.values.repo import RepoProfile
from tests.analysis.repositories import script, write

FILES = {"train.py": script(""), "README.md": "    python train.py\n", "data/x.csv": "1\n"}


class Seen:
    """Counts what is really read and really analysed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[str] = []
        self.analysed = 0
        read, made = hashes.Digester._read, profile.analyze

        def reading(digester: hashes.Digester, path: str) -> Hashed:
            self.read.append(path)
            return read(digester, path)

        def making(*args: object, **words: object) -> RepoProfile:
            self.analysed += 1
            return made(*args, **words)

        monkeypatch.setattr(hashes.Digester, "_read", reading)
        monkeypatch.setattr(profile, "analyze", making)
        monkeypatch.setattr(kept, "_SETTLED_NS", -1)  # the tests' files are all young


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def opened(tmp_path: Path) -> SourceTree:
    return open_source(str(tmp_path / "r"), cache=tmp_path / "cache", kept=tmp_path / "kept")


def test_an_unchanged_tree_is_neither_read_nor_analysed_again(tmp_path, seen):
    write(tmp_path / "r", FILES)
    first = analyze(opened(tmp_path), "train it")
    assert (sorted(seen.read), seen.analysed) == (sorted(FILES), 1)
    assert analyze(opened(tmp_path), "train it") == first
    assert (len(seen.read), seen.analysed) == (len(FILES), 1)


def test_another_sentence_entry_or_code_is_another_profile(tmp_path, seen, monkeypatch):
    write(tmp_path / "r", FILES)
    for prompt, entry in (("a", None), ("b", None), ("a", "train.py"), ("a", None)):
        analyze(opened(tmp_path), prompt, entry=entry)
    assert seen.analysed == 3
    monkeypatch.setattr(kept, "code_version", lambda: "another")
    analyze(opened(tmp_path), "a")
    assert seen.analysed == 4
    monkeypatch.setattr(kept, "code_version", lambda: None)
    analyze(opened(tmp_path), "a")
    assert seen.analysed == 5


def test_only_what_changed_is_read_again(tmp_path, seen):
    root = write(tmp_path / "r", FILES)
    before = opened(tmp_path).digest
    seen.read.clear()
    write(root, {"data/x.csv": "2\n"})
    changed = opened(tmp_path)
    assert changed.digest != before
    assert seen.read == ["data/x.csv"]
    assert changed.digest == open_source(str(root), cache=tmp_path / "cache").digest


def test_a_change_with_the_old_time_and_size_is_seen(tmp_path, seen):
    root = write(tmp_path / "r", FILES)
    before, stat = opened(tmp_path).digest, (root / "data/x.csv").stat()
    (root / "data/x.csv").write_text("2\n")
    os.utime(root / "data/x.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert opened(tmp_path).digest != before


def test_young_files_are_not_kept(tmp_path, seen, monkeypatch):
    monkeypatch.setattr(kept, "_SETTLED_NS", 10**12)
    write(tmp_path / "r", FILES)
    assert opened(tmp_path).digest == opened(tmp_path).digest
    assert len(seen.read) == 2 * len(FILES)


def test_a_link_that_leads_elsewhere_is_seen(tmp_path, seen):
    root = write(tmp_path / "r", {**FILES, "one.py": "1", "two.py": "2"})
    (root / "link.py").symlink_to("one.py")
    before = analyze(opened(tmp_path))
    assert analyze(opened(tmp_path)) == before
    assert seen.analysed == 1
    (root / "link.py").unlink()
    (root / "link.py").symlink_to("two.py")
    assert analyze(opened(tmp_path)).tree_digest != before.tree_digest


def test_what_changes_while_it_is_analysed_is_not_kept(tmp_path, seen, monkeypatch):
    root = write(tmp_path / "r", FILES)
    made = profile.analyze

    def changing(*args: object, **words: object) -> RepoProfile:
        found = made(*args, **words)
        write(root, {"train.py": "changed"})
        return found

    monkeypatch.setattr(profile, "analyze", changing)
    analyze(opened(tmp_path))
    assert not list((tmp_path / "kept").glob("profile-*"))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"key": "x"}', b"\xff", b'{"root": 1, "rows": {}}', b'{"root":"/x","rows":{"a":[1]}}']
)
def test_a_broken_entry_is_dropped(tmp_path, seen, text):
    write(tmp_path / "r", FILES)
    first = analyze(opened(tmp_path))
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(text)
    assert analyze(opened(tmp_path)) == first
    assert seen.analysed == 2
    assert all(path.read_bytes() != text for path in (tmp_path / "kept").iterdir())


def test_an_entry_under_anothers_name_is_none(tmp_path, seen):
    write(tmp_path / "r", FILES)
    analyze(opened(tmp_path), "a")
    (one,) = (tmp_path / "kept").glob("profile-*")
    other = "0" * 64
    one.rename(one.with_name(f"profile-{other}.json"))
    assert Kept(tmp_path / "kept").profile(other) is None


def test_it_is_private_and_what_others_may_write_is_not_believed(tmp_path, seen):
    write(tmp_path / "r", FILES)
    analyze(opened(tmp_path))
    folder = tmp_path / "kept"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    for path in folder.iterdir():
        path.chmod(0o666)
    analyze(opened(tmp_path))
    assert seen.analysed == 2
    for path in folder.iterdir():
        moved = path.rename(tmp_path / path.name)
        path.symlink_to(moved)
    analyze(opened(tmp_path))
    assert seen.analysed == 3


def test_no_secret_of_the_repository_is_in_it(tmp_path, seen):
    token = "hf_PlantedPlantedPlanted0001"
    command = f"```\npython train.py --token {token}\n```\n"
    write(tmp_path / "r", {**FILES, "README.md": command, "config.py": f'API_TOKEN = "{token}"\n', ".env": token})
    analyze(opened(tmp_path))
    assert all(token.encode() not in path.read_bytes() for path in (tmp_path / "kept").iterdir())


def test_it_is_bounded(tmp_path, seen, monkeypatch):
    monkeypatch.setattr(kept, "MAX_ENTRIES", 4)
    write(tmp_path / "r", FILES)
    for number in range(8):
        analyze(opened(tmp_path), f"prompt {number}")
    assert len(list((tmp_path / "kept").iterdir())) == 4
    monkeypatch.setattr(kept, "MAX_BYTES", 1)
    analyze(opened(tmp_path), "one more")
    assert len(list((tmp_path / "kept").iterdir())) == 1
    monkeypatch.setattr(kept, "MAX_ENTRY", 1)
    analyze(opened(tmp_path), "too large")
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_a_folder_that_can_not_be_written_stops_nothing(tmp_path, seen):
    write(tmp_path / "r", FILES)
    (tmp_path / "kept").write_text("a file")
    assert analyze(opened(tmp_path)).is_training_repo


def test_many_at_once_leave_whole_entries(tmp_path, seen):
    write(tmp_path / "r", FILES)
    first = analyze(opened(tmp_path))
    found: list[RepoProfile] = []
    threads = [threading.Thread(target=lambda: found.append(analyze(opened(tmp_path)))) for _ in range(6)]
    for path in (tmp_path / "kept").glob("profile-*"):
        path.unlink()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [first] * 6
    assert [p.name for p in (tmp_path / "kept").iterdir() if p.name.startswith(".")] == []


NUMBERS = st.integers(0, 1 << 62)
HASHED = st.builds(
    Hashed, st.builds(Stamp, NUMBERS, st.integers(0, 10**18), st.integers(0, 10**18), NUMBERS), st.text()
)


@given(st.dictionaries(st.text(), HASHED, max_size=5))
def test_hashes_come_back_as_they_were(tmp_path_factory, rows):
    store = Kept(tmp_path_factory.mktemp("kept"))
    store.keep_hashes(Path("/r"), rows)
    found = store.hashes(Path("/r"))
    assert found in ({path: h for path, h in rows.items() if h.stamp.settled}, {})
    assert store.hashes(Path("/other")) == {}


def test_a_stamp_is_settled_when_it_is_old():
    now = time.time_ns()
    assert Stamp(1, now - 10**10, now - 10**10, 1).settled
    assert not Stamp(1, now, now - 10**10, 1).settled
    assert not Stamp(1, now - 10**10, now, 1).settled


def test_a_fake_tree_is_analysed_anew(tmp_path, seen):
    write(tmp_path / "r", FILES)
    tree = open_source(str(tmp_path / "r"), cache=tmp_path / "cache")
    assert analyze(tree) == analyze(tree)
    assert seen.analysed == 2


def test_a_tree_may_be_told_to_forget(tmp_path, seen):
    write(tmp_path / "r", FILES)
    first = analyze(opened(tmp_path))
    tree = opened(tmp_path)
    tree.forget()
    assert analyze(tree) == first
    assert (seen.analysed, len(seen.read)) == (2, 2 * len(FILES))
