"""The files of a repository, which this module alone opens; it never writes into the repository.

What may be seen: regular files below the root that git does not ignore (or tracks all the same), without those on
the deny list. Symbolic links are read only where they lead to such a file inside the tree.
"""

import codecs
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from caravan.analysis import git
from caravan.analysis.deny import is_denied
from caravan.analysis.hashes import Digester
from caravan.analysis.ignore import ALWAYS, Rules
from caravan.analysis.kept import Kept, Stamp
from caravan.analysis.places import inner_path
from caravan.values.amounts import size_text
from caravan.values.errors import RepositoryError, UsageError
from caravan.values.repo import GitState

MAX_FILES: Final = 50_000
MAX_DEPTH: Final = 40
MAX_TEXT: Final = 2_000_000
"""Bytes of a text that are read; what is longer is data, not something to understand."""
MAX_NOTEBOOK: Final = 16_000_000
"""The same for a notebook: most of it is pictures, and a part of one is none."""
_SNIFF: Final = 8192
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what a Windows shell's `>` writes
_MAX_NOTES: Final = 50


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that may be read and delivered: path from the root with slashes, size in bytes, mode 0o644 or 0o755."""

    path: str
    size: int
    mode: int


class SourceTree:
    """The files of one directory, looked at once. `notes` says what was left out or could not be read, and why.

    `cloned`: it is a copy of what a git URL or an archive has, and nothing in it is anybody's own on this machine.
    `work_tree`: what git would say, for a directory about which it is not to be asked. `kept`: what was found before.
    """

    def __init__(
        self,
        root: Path,
        *,
        environment: Mapping[str, str] | None = None,
        cloned: bool = False,
        work_tree: git.WorkTree | None = None,
        kept: Kept | None = None,
    ) -> None:
        self.root, self.cloned, self.kept = root, cloned, kept
        self._notes: list[str] = []
        self._whole = True
        self._links: dict[str, str] = {}  # link to a directory of the tree → that directory
        self._folders: set[str] = set()
        self._links_seen: dict[str, Stamp] = {}  # to files, which may be outside
        self._left: list[str] = []  # what is there and is not delivered; links that lead out of the tree never are
        self._stamps: dict[str, Stamp] = {}  # of the files that are no links, as they were found
        self._hashed: dict[str, Stamp] = {}
        self._plain: dict[str, bool] = {}
        self._environment = environment
        self._work_tree = work_tree or git.look(root, environment=environment)
        for note in self._work_tree.notes:
            self._note(note)
        self._entries = {e.path: e for e in sorted(self._scan(), key=lambda e: e.path)}
        self._drop_links_to_left_out()
        if cloned:
            self.need_files()

    def need_files(self) -> None:
        """Raise RepositoryError where there are no files: an empty directory will do for data that lie elsewhere."""
        if not self._entries:
            hint = "Give a training repository, or name the data to train on in the sentence."
            raise RepositoryError(f"{self.root} holds no files that may be read.", hint=hint)

    @property
    def git(self) -> GitState | None:
        """Where the tree stands in git; None outside git."""
        return self._work_tree.state

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or could not be read so far."""
        return tuple(self._notes)

    def files(self) -> tuple[FileEntry, ...]:
        """All files that may be read, by path."""
        return tuple(self._entries.values())

    def __contains__(self, path: object) -> bool:
        return path in self._entries

    def read_bytes(self, path: str, *, limit: int | None = None) -> bytes:
        """A file's first `limit` bytes (all when None). Raises UsageError for what may not or can't be read."""
        if path not in self._entries:
            raise UsageError(f"{path} is no file of the repository that may be read.")
        try:
            with os.fdopen(self._open(path), "rb") as file:
                size = os.fstat(file.fileno()).st_size  # a file that grows meanwhile would never end
                return file.read(size if limit is None else min(size, limit))
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror or error}.") from error

    def part(self, path: str, limit: int, *, from_end: bool = False) -> bytes | None:
        """A file's first or last `limit` bytes; None for what may not or can't be read."""
        try:
            with os.fdopen(self._open(path), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - limit) if from_end else 0)
                return file.read(limit) if path in self._entries else None
        except OSError:
            return None

    def read_text(self, path: str) -> str:
        """A text file's content, at most `MAX_TEXT` bytes of it; bytes that are no UTF-8 become U+FFFD.

        UTF-16 is read where a byte order mark says so. Raises UsageError for a binary file and for what may not or
        can't be read.
        """
        data = self.read_bytes(path, limit=MAX_NOTEBOOK if path.endswith(".ipynb") else MAX_TEXT)
        wide = data.startswith(_UTF16) and not path.endswith(".py")  # Python itself refuses such a script
        if b"\0" in data[:_SNIFF] and not wide:
            raise UsageError(f"{path} is no text.")
        text = data.decode("utf-16" if wide else "utf-8-sig", "replace")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def text(self, path: str) -> str | None:
        """`read_text`, with None and a note in place of an error."""
        try:
            return self.read_text(path)
        except UsageError as error:
            self._note(error.message)
            return None

    def delivery(self, *, limit: int | None = None) -> Iterator[tuple[str, bytes, int]]:
        """(path, content, mode) of every file, by path; one that can't be read is left out with a note.

        Raises RepositoryError, before it reads anything, when there are too many files to be looked at or together
        they have more than `limit` bytes.
        """
        if not self._whole:
            raise RepositoryError(
                f"{self.root} holds more than {MAX_FILES} files.", hint="Let .gitignore leave out what is no code."
            )
        total = sum(e.size for e in self.files())
        if limit is not None and total > limit:
            largest = max(self.files(), key=lambda e: e.size)
            raise RepositoryError(
                f"The repository's files have {size_text(total)} together, more than {size_text(limit)}"
                f" (the largest: {largest.path}).",
                hint="Let .gitignore leave out what is no code, or set CARAVAN_MAX_ARCHIVE_MB.",
            )
        return self._contents()

    def _contents(self) -> Iterator[tuple[str, bytes, int]]:
        yield from self._read_all("", "")
        for link, folder in self._links.items():  # as copies: what unpacks on a node may not know links
            yield from self._read_all(folder, link)
        full = {parent for path in self._entries for parent in _parents(path)}
        yield from ((path, b"", stat.S_IFDIR | 0o755) for path in sorted(self._folders - full))

    def _read_all(self, folder: str, place: str) -> Iterator[tuple[str, bytes, int]]:
        """The files below a folder, as if they were at `place`."""
        for entry in self.files():
            if folder and not entry.path.startswith(f"{folder}/"):
                continue
            try:
                yield place + entry.path.removeprefix(folder), self.read_bytes(entry.path), entry.mode
            except UsageError as error:
                self._note(error.message)

    def empty_folders(self) -> tuple[str, ...]:
        """Folders in which no file is delivered; git has none of them."""
        full = {parent for path in self._entries for parent in _parents(path)}
        return tuple(sorted(self._folders - full))

    def left_out(self, path: str) -> tuple[str, ...]:
        """What is there at the path or below it and is not delivered: ignored by git, or on the deny list."""
        path = os.path.normpath(path).replace(os.sep, "/")
        if path.startswith(("/", "../")) or path in ("", ".", ".."):
            return ()
        above = (left for left in self._left if left.endswith("/") and f"{path}/".startswith(left))
        if any(above) or path in self._left:
            return (path,) if os.path.lexists(self.root / path) and path not in self._entries else ()
        return tuple(left for left in self._left if left.startswith(f"{path}/"))

    def real(self, path: str) -> str | None:
        """Where a path of the tree leads in truth; None where it, or a link on its way, leads out of the tree."""
        return inner_path(self.root, path)

    def submodules(self) -> dict[str, GitState | None]:
        """The repository's submodules by path, and where each stands; None where it was not checked out."""
        text = self.text(".gitmodules") if ".gitmodules" in self._entries else None
        paths = re.findall(r"^\s*path\s*=\s*(\S.*?)\s*$", text or "", re.MULTILINE)[:_MAX_NOTES]
        found: dict[str, GitState | None] = {}
        for path in paths:
            there = any(p.startswith(f"{path}/") for p in self._entries)
            found[path] = git.look(self.root / path, environment=self._environment).state if there else None
        return found

    def forget(self) -> None:
        """Take nothing from what was kept, and keep nothing."""
        self.kept = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the sorted paths, modes and content hashes of all files that can be read (`hashes`)."""
        known = self.kept.hashes(self.root) if self.kept else {}
        digester = Digester(self._open, known, self._stamps)
        found = digester.digest(self.files(), self._note)
        # What a link leads to is a file of the tree, with a stamp of its own.
        links = {path: self._links_seen[path] for path in self._links_seen if path in self._entries}
        self._hashed = links | {path: hashed.stamp for path, hashed in digester.hashes.items()}
        if self.kept and digester.hashes != known:
            self.kept.keep_hashes(self.root, digester.hashes)
        return found

    def unchanged(self) -> bool:
        """Whether every file is still what the digest was made of; False where that can't be told."""
        try:
            now = {path: Stamp.of(os.lstat(self.root / path)) for path in self._hashed}
        except OSError:
            return False
        return now == self._hashed

    def _open(self, path: str) -> int:
        """A descriptor of a regular file inside the root; links are resolved first and judged by where they lead."""
        real = os.fspath(self.root / path)
        if path not in self._stamps or not self._is_plain(path.rpartition("/")[0]):
            real = os.path.realpath(real)
            inside = os.path.relpath(real, self.root).replace(os.sep, "/")
            if inside.startswith("../") or is_denied(inside):
                raise OSError("it leads to a file that may not be read")
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("it is no regular file")
        return descriptor

    def _is_plain(self, folder: str) -> bool:
        """Whether no link is on the way to a folder; asked once for each."""
        if folder not in self._plain:
            self._plain[folder] = os.path.realpath(self.root / folder) == os.fspath(self.root / folder)
        return self._plain[folder]

    def _scan(self) -> Iterator[FileEntry]:
        tracked = frozenset(self._work_tree.tracked)
        pending: list[tuple[str, Rules]] = [("", self._root_rules())]
        left, seen = [], 0
        while pending:
            directory, rules = pending.pop()
            children = self._children(directory)
            if any(c.name == ".gitignore" for c in children):
                ignoring = f"{directory}/.gitignore".lstrip("/")
                rules = rules.below(directory, self._rules_text(ignoring))
                if rules.left_out:
                    self._note(f"{ignoring} holds rules that were left out: too many, or too many wildcards")
            for child in children:
                path = f"{directory}/{child.name}".lstrip("/")
                if self._unwanted(child, path):
                    continue
                folder = child.is_dir(follow_symlinks=False)
                if rules.ignored(path, directory=folder) and path not in tracked and not self._work_tree.whole:
                    left.append(path + "/" * folder)
                elif folder:
                    self._folders.add(path)
                    pending.append((path, rules))
                elif (entry := self._seen(child, path)) is not None:
                    if seen == MAX_FILES:
                        self._whole = False
                        self._note(f"only the first {MAX_FILES} files were looked at")
                        return
                    seen += 1
                    yield entry
        yield from self._tracked_though_ignored(tracked, left)
        self._left += left
        if left:
            self._note("left out by .gitignore: " + ", ".join(sorted(left)[:8]) + (", …" if len(left) > 8 else ""))

    def _tracked_though_ignored(self, tracked: frozenset[str], left: list[str]) -> Iterator[FileEntry]:
        folders = tuple(path for path in left if path.endswith("/"))
        for path in tracked if folders else ():
            if path.startswith(folders) and not is_denied(path) and (entry := self._entry(path)) is not None:
                yield entry

    def _children(self, directory: str) -> list[os.DirEntry[str]]:
        if directory.count("/") >= MAX_DEPTH:
            self._note(f"{directory} is nested too deeply")
            return []
        try:
            with os.scandir(self.root / directory) as found:
                return sorted(found, key=lambda c: c.name)
        except OSError as error:
            self._note(f"{directory or '.'} can't be read: {error.strerror or error}")
            return []

    def _unwanted(self, child: "os.DirEntry[str]", path: str) -> bool:
        if child.name in ALWAYS:
            return True
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            self._note(f"{path!a} has a name that is no text")
            return True
        if is_denied(path):
            self._note(f"{path} is on the deny list: never read, never delivered")
            self._left.append(path)
            return True
        if child.is_symlink() and os.path.isdir(self.root / path):  # noqa: PTH112 (a loop must not raise)
            self._link(path)
            return True
        if child.is_dir(follow_symlinks=False):
            return os.path.lexists(self.root / path / "pyvenv.cfg")
        return False

    def _link(self, path: str) -> None:
        """A link to a directory: nothing is read by way of it, and only one of the tree is delivered, as a copy."""
        real = os.path.realpath(self.root / path)
        inside = os.path.relpath(real, self.root).replace(os.sep, "/")
        if inside in (".", "..") or inside.startswith("../") or f"{path}/".startswith(f"{inside}/"):
            self._note(f"{path} is a link to a directory: not followed")
        else:
            self._links[path] = inside

    def _seen(self, child: "os.DirEntry[str]", path: str) -> FileEntry | None:
        """The entry of a file found in a directory; a link or an odd one is opened to see what it is."""
        try:
            if child.is_file(follow_symlinks=False) and os.access(self.root / path, os.R_OK):
                found = child.stat(follow_symlinks=False)
                self._stamps[path] = Stamp.of(found)
                return _file_entry(path, found)
        except OSError:
            pass
        entry = self._entry(path)
        if entry is not None and child.is_symlink():
            self._links_seen[path] = Stamp.of(child.stat(follow_symlinks=False))
        return entry

    def _drop_links_to_left_out(self) -> None:
        """A link has what its target has, so one to a file that is left out is left out as that file is."""
        root = os.path.realpath(self.root)
        for path in self._links_seen:
            target = os.path.relpath(os.path.realpath(self.root / path), root).replace(os.sep, "/")
            if path in self._entries and target not in self._entries:
                del self._entries[path]
                self._left.append(path)
                self._note(f"{path} is a link to {target}, which is left out: so is the link")

    def _entry(self, path: str) -> FileEntry | None:
        try:
            descriptor = self._open(path)
        except OSError as error:
            self._note(f"{path} can't be read: {error.strerror or error}")
            return None
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return _file_entry(path, found)

    def _root_rules(self) -> Rules:
        return Rules().below("", self._rules_text(".git/info/exclude"))

    def _rules_text(self, path: str) -> str | None:
        """An ignore file's text, also in `.git`, which is otherwise never read; None where there is none."""
        try:
            descriptor = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                return file.read(MAX_TEXT).decode("utf-8", "replace")
        except OSError:
            return None

    def _note(self, text: str) -> None:
        if len(self._notes) < _MAX_NOTES and text not in self._notes:
            self._notes.append(text)


def _parents(path: str) -> Iterator[str]:
    """The folders above a path."""
    return (path[:i] for i, c in enumerate(path) if c == "/")


def _file_entry(path: str, found: os.stat_result) -> FileEntry:
    return FileEntry(path, found.st_size, 0o755 if found.st_mode & 0o111 else 0o644)
