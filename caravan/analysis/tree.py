"""The files of a repository. The only module of this room that opens files; it never writes into the repository.

What may be seen: regular files below the root that git does not ignore (or tracks all the same), without those on
the deny list. Symbolic links are read only where they lead to such a file inside the tree.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from caravan.analysis import git
from caravan.analysis.deny import is_denied
from caravan.analysis.ignore import ALWAYS, Rules
from caravan.values.errors import RepositoryError, UsageError
from caravan.values.repo import GitState

MAX_FILES: Final = 50_000
MAX_DEPTH: Final = 40
MAX_TEXT: Final = 2_000_000
"""Bytes of a text that are read; what is longer is data, not something to understand."""
_SNIFF: Final = 8192
_MAX_NOTES: Final = 50


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that may be read and delivered: path from the root with slashes, size in bytes, mode 0o644 or 0o755."""

    path: str
    size: int
    mode: int


def open_source(source: str, *, cache: Path, environment: Mapping[str, str] | None = None) -> "SourceTree":
    """The tree at a local path or git URL; a URL is cloned (shallow) below `cache`.

    `environment` is what git's process gets (a search path alone when None). Raises RepositoryError, one line, for
    what is missing, no directory, empty or unreadable.
    """
    if not source.strip() or "\0" in source:
        raise RepositoryError("No repository was named.", hint="Give a path or a git URL.")
    try:
        root = Path(source).expanduser()
    except RuntimeError as error:  # ~nobody/x
        raise RepositoryError(f"There is no directory {source}.", hint="Write the path in full.") from error
    if not source.startswith("-") and os.path.lexists(root):
        return SourceTree(_directory(root), environment=environment)
    if git.is_url(source):
        return SourceTree(git.clone(source, cache, environment=environment), environment=environment)
    raise RepositoryError(f"There is no directory {source}.", hint="Give the path of a training repository.")


def _directory(root: Path) -> Path:
    try:
        if not root.is_dir():
            raise RepositoryError(f"{root} is no directory.", hint="Give the directory that holds the repository.")
        with os.scandir(root):
            pass
        return root.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RepositoryError(f"{root} can't be read: {reason}.", hint="Check its permissions.") from error


class SourceTree:
    """The files of one directory, looked at once. `notes` says what was left out or could not be read, and why."""

    def __init__(self, root: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.root = root
        self._notes: list[str] = []
        self._work_tree = git.look(root, environment=environment)
        for note in self._work_tree.notes:
            self._note(note)
        self._entries = {e.path: e for e in sorted(self._scan(), key=lambda e: e.path)}
        if not self._entries:
            raise RepositoryError(f"{root} holds no files that may be read.", hint="Give a training repository.")

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
                return file.read() if limit is None else file.read(limit)
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror or error}.") from error

    def read_text(self, path: str) -> str:
        """A text file's content, at most `MAX_TEXT` bytes of it; bytes that are no UTF-8 become U+FFFD.

        Raises UsageError for a binary file and for what may not or can't be read.
        """
        data = self.read_bytes(path, limit=MAX_TEXT)
        if b"\0" in data[:_SNIFF]:
            raise UsageError(f"{path} is no text.")
        return data.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")

    def text(self, path: str) -> str | None:
        """`read_text`, with None and a note in place of an error."""
        try:
            return self.read_text(path)
        except UsageError as error:
            self._note(error.message)
            return None

    def delivery(self) -> Iterator[tuple[str, bytes, int]]:
        """(path, content, mode) of every file, by path; one that can't be read is left out with a note."""
        for entry in self.files():
            try:
                yield entry.path, self.read_bytes(entry.path), entry.mode
            except UsageError as error:
                self._note(error.message)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the sorted paths, modes and content hashes of all files that can be read."""
        whole = hashlib.sha256()
        for path, data, mode in self.delivery():
            whole.update(f"{path}\0{mode:o}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        return whole.hexdigest()

    def _open(self, path: str) -> int:
        """A descriptor of a regular file inside the root; links are resolved first and judged by where they lead."""
        real = os.path.realpath(self.root / path)
        inside = os.path.relpath(real, self.root).replace(os.sep, "/")
        if inside.startswith("../") or is_denied(inside):
            raise OSError("it leads to a file that may not be read")
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("it is no regular file")
        return descriptor

    def _scan(self) -> Iterator[FileEntry]:
        tracked = frozenset(self._work_tree.tracked)
        pending: list[tuple[str, Rules]] = [("", self._root_rules())]
        left, seen = [], 0
        while pending:
            directory, rules = pending.pop()
            children = self._children(directory)
            if any(c.name == ".gitignore" for c in children):
                rules = rules.below(directory, self._rules_text(f"{directory}/.gitignore".lstrip("/")))
            for child in children:
                path = f"{directory}/{child.name}".lstrip("/")
                if self._unwanted(child, path):
                    continue
                folder = child.is_dir(follow_symlinks=False)
                if rules.ignored(path, directory=folder) and path not in tracked:
                    left.append(path + "/" * folder)
                elif folder:
                    pending.append((path, rules))
                elif (entry := self._entry(path)) is not None:
                    seen += 1
                    yield entry
                if seen >= MAX_FILES:
                    self._note(f"only the first {MAX_FILES} files were looked at")
                    return
        yield from self._tracked_though_ignored(tracked, left)
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
            return True
        if child.is_symlink() and os.path.isdir(self.root / path):  # noqa: PTH112 (a loop must not raise)
            self._note(f"{path} is a link to a directory: not followed")
            return True
        if child.is_dir(follow_symlinks=False):
            return os.path.lexists(self.root / path / "pyvenv.cfg")
        return False

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
        return FileEntry(path, found.st_size, 0o755 if found.st_mode & 0o111 else 0o644)

    def _root_rules(self) -> Rules:
        return Rules().below("", self._rules_text(".git/info/exclude"))

    def _rules_text(self, path: str) -> str | None:
        """An ignore file's text, also in `.git`, which is otherwise never read; None where there is none."""
        try:
            descriptor = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                return file.read(MAX_TEXT).decode("utf-8", "replace")
        except OSError:
            return None

    def _note(self, text: str) -> None:
        if len(self._notes) < _MAX_NOTES and text not in self._notes:
            self._notes.append(text)
