"""Copies what a training writes to a URL, and counts it. Runs inside the job.

    outputs.py check URL
    outputs.py probe URL
    outputs.py copy DIRECTORY URL --end FILE --told FILE [--grace SECONDS] [--stopped]
    outputs.py keep DIRECTORY ANSWER --code DIR --since FILE
    outputs.py summary DIRECTORY ANSWER [--code DIR --since FILE] [--told FILE] [--kept FILE]

`check` says by its exit code whether this Python can write to such a URL; `probe` writes there and removes it again.
`copy` copies while the training runs (a folder that has not changed for some seconds), and when the file `--end`
appears what is left and last of all the manifest; after a SIGTERM, or with `--stopped` at once, it has `--grace`
seconds. `keep` brings what the training wrote beside its code into an output directory that is empty. `keep` and
`summary` need the standard library alone, the others fsspec. Credentials come from the job's environment.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import sys
import time
from pathlib import Path

NOT_COPIED = 79
MANIFEST = "caravan-manifest.json"
PART = "caravan-manifest.part.json"
SETTLED_S = 10.0  # a folder that has not changed for so long is complete
PAUSE_S = 0.5
TRIES = 5
OURS = ".caravan"  # in the output directory: what its checkpoints are bound to; no output
LARGE = 1_000_000  # bytes: smaller files beside the code are caches and logs
MOST_FILES = 200_000
MOST_KEPT = 10_000  # files beside the code that are kept: more are a dataset that was unpacked, or a cache
NO_CODE = (".git", "__pycache__", ".caravan-cache")
PASSED_OVER = (".pyc", ".pyo", ".lock", ".tmp", ".part")
WALK_S = 10.0
# Here a file needs no folder, and asking for one may mean to make a bucket.
WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "memory"}


def main() -> int:
    """Do what the first word says."""
    if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parent:
        sys.path.pop(0)  # the code lies beside this file, and none of its modules is meant
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doing = parser.add_subparsers(dest="what", required=True)
    for name in ("check", "probe"):
        doing.add_parser(name).add_argument("url")
    copy = doing.add_parser("copy")
    copy.add_argument("directory", type=Path)
    copy.add_argument("url")
    copy.add_argument("--end", type=Path, required=True)
    copy.add_argument("--told", type=Path, required=True)
    copy.add_argument("--grace", type=float, default=20.0)
    copy.add_argument("--stopped", action="store_true")
    keep = doing.add_parser("keep")
    summary = doing.add_parser("summary")
    for one in (keep, summary):
        one.add_argument("directory", type=Path)
        one.add_argument("answer", type=Path)
        one.add_argument("--code", type=Path, required=one is keep)
        one.add_argument("--since", type=Path, required=one is keep)
    summary.add_argument("--told", type=Path)
    summary.add_argument("--kept", type=Path)
    options = parser.parse_args()
    if options.what == "check":
        return check(options.url)
    if options.what == "probe":
        return probe(options.url)
    if options.what == "summary":
        return summarise(options)
    if options.what == "keep":
        return keep_left(options)
    copier = Copier(options.directory, options.url, options.end, options.told, options.grace)
    if options.stopped:
        copier.on_stop()
    return copier.run()


def say(text: str) -> None:
    """One line for the job's log."""
    sys.stderr.write(f"caravan: {' '.join(text.split())}\n")
    sys.stderr.flush()


def failed(url: str, why: str) -> int:
    """Say that the outputs are not where they should be; the exit code comes back."""
    say(f"the outputs could not be copied to {url}: {why[:300]}")
    return NOT_COPIED


def words(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def write_whole(path: Path, document: dict) -> None:
    """Write JSON under another name, then rename it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.replace(path)


def check(url: str) -> int:
    """0 when fsspec and what it needs for the protocol are installed here."""
    try:
        import fsspec

        fsspec.get_filesystem_class(url.partition("://")[0])
    except (ImportError, ValueError):
        return 1
    return 0


class Place:
    """The folder at a URL."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self.fs, root = fsspec.core.url_to_fs(self.url)
        self.root = root.rstrip("/")
        self.made = set()
        self.has_folders = self.url.partition("://")[0] not in WITHOUT_FOLDERS

    def path(self, name: str) -> str:
        """The path of a file, in a folder that is there."""
        path = f"{self.root}/{name}"
        parent = path.rpartition("/")[0]
        if self.has_folders and parent not in self.made:
            self.fs.makedirs(parent, exist_ok=True)
            self.made.add(parent)
        return path

    def put(self, file: Path, name: str, size: int) -> None:
        """Copy a file there, and look whether it has come whole where that may be seen."""
        path = self.path(name)
        self.fs.put_file(os.fspath(file), path)
        there = self.size(name)
        if there is not None and there != size:
            raise OSError(f"{name} has {there} bytes there, not {size}")

    def size(self, name: str):
        """A file's size, None where it can't be seen; -1 when it is not there."""
        try:
            return self.fs.info(f"{self.root}/{name}").get("size")
        except FileNotFoundError:
            return -1
        except OSError:  # written to, but not to be looked at
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self.fs.pipe_file(self.path(name), data)

    def read(self, name: str):
        """A small file, None when it is not there or must not be read."""
        try:
            return self.fs.cat_file(f"{self.root}/{name}")
        except OSError:
            return None

    def remove(self, name: str) -> None:
        """Remove a file of ours; where that is not allowed it stays."""
        with contextlib.suppress(OSError):
            self.fs.rm_file(f"{self.root}/{name}")


def probe(url: str) -> int:
    """Write there before hours are spent on what could not be kept."""

    def attempt() -> None:
        place = Place(url)
        place.write("caravan-probe", b"Caravan looks whether outputs can be written here.\n")
        place.remove("caravan-probe")

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        error = None
        for n in range(TRIES):
            # What a storage library may raise is known to nobody: a future keeps whatever it was.
            error = pool.submit(attempt).exception()
            if error is None:
                return 0
            time.sleep(2**n if n + 1 < TRIES else 0)
    return failed(url, words(error))


class Copier:
    """Copies a directory to a URL, each version of a file once."""

    def __init__(self, directory: Path, url: str, end: Path, told: Path, grace: float) -> None:
        self.directory, self.url, self.end, self.told, self.grace = directory, url.rstrip("/"), end, told, grace
        self.pool = concurrent.futures.ThreadPoolExecutor(1)  # copies, while the main thread looks at the clock
        self.parent = os.getppid()
        self.deadline = None
        self.place = None
        self.done = {}  # name → (size, mtime in ns, SHA-256)
        self.known = {}  # name → {size, sha256}, of an earlier copier of this attempt
        self.earlier = {}
        self.seen = {}  # folder → (what it looked like, since when)
        self.warned = set()

    def run(self) -> int:
        """Copy until the end; 0 when all of it is there."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_stop)
        problem = self.copy_all()
        told = {
            "to": self.url,
            "files": len(self.done),
            "bytes": sum(size for size, _, _ in self.done.values()),
            "complete": not problem,
            "error": problem[:300],
        }
        with contextlib.suppress(OSError):
            write_whole(self.told, told)
            taken = {os.fspath((self.directory / name).resolve()): looks for name, looks in self.done.items()}
            write_whole(self.told.with_name("outputs-digests.json"), taken)  # for `model_files.py`
        code = failed(self.url, problem) if problem else 0
        if not problem:
            say(f"{told['files']} files ({told['bytes']} bytes) are copied to {self.url}")
        sys.stderr.flush()
        os._exit(code)  # a copy that hangs is not waited for

    def on_stop(self, *_) -> None:
        """From the first stop on there is little time."""
        if self.deadline is None:
            self.deadline = time.monotonic() + self.grace

    def copy_all(self) -> str:
        """Copy while the training runs and at its end; what went wrong comes back."""
        problem = self.call(self.begin, TRIES)
        while not problem:
            ending = self.end.exists()
            if os.getppid() != self.parent:
                return "the job was killed"
            if ending:
                return self.finish()
            self.round(SETTLED_S)
            if self.over():
                return "there was no time left after the stop"
            time.sleep(PAUSE_S)
        return problem

    def finish(self) -> str:
        """Copy what is left, then the manifest."""
        problem = self.round(0.0, TRIES)
        if problem:
            return problem
        now = set(files(self.directory))
        for name in sorted(set(self.done) - now):
            self.earlier[name] = self.done.pop(name)
        return self.call(lambda: self.write_manifest(MANIFEST, complete=True), TRIES) or self.call(
            lambda: self.place.remove(PART), 1
        )

    def begin(self) -> None:
        """Reach the place, and see what an earlier copier has brought there."""
        self.place = Place(self.url)
        for name in (PART, MANIFEST):
            try:
                document = json.loads(self.place.read(name) or b"{}")
            except ValueError:
                continue
            self.known.update(document.get("files") or {})

    def round(self, settled_s: float, tries: int = 1) -> str:
        """Copy every file that is new and settled. Only with several tries a failure is one."""
        found = files(self.directory)
        quiet = self.quiet(found, settled_s)
        copied = False
        for name in sorted(found):
            size, changed = found[name]
            before = self.done.get(name)
            if name in (MANIFEST, PART) or name not in quiet or (before and before[:2] == (size, changed)):
                continue
            problem = self.call(lambda name=name: self.copy(name), tries, size)
            if problem and (tries > 1 or self.over()):
                return f"{name}: {problem}"
            if problem and name not in self.warned:
                self.warned.add(name)
                say(f"{name} could not be copied yet ({problem[:200]}); it is tried again")
            copied = copied or not problem
        if copied:
            self.call(lambda: self.write_manifest(PART, complete=False), 1)
        return ""

    def quiet(self, found: dict, settled_s: float) -> set:
        """Names of the files whose folder has not changed for that long; at the top each file stands for itself."""
        units = {}
        for name, version in found.items():
            folder = name.rpartition("/")[0]
            units.setdefault(folder or name, {})[name] = version
        now, names = time.monotonic(), set()
        for unit, inside in units.items():
            looks, since = self.seen.get(unit, (None, now))
            if looks != inside:
                self.seen[unit] = (inside, now)
                since = now
            if now - since >= settled_s:
                names.update(inside)
        return names

    def copy(self, name: str) -> None:
        """Copy one file, unless it is there already with this content."""
        file = self.directory / name
        try:
            before = version(file)
            digest = sha256(file)
        except FileNotFoundError:
            return  # rotated away meanwhile
        known = self.known.get(name)
        same = isinstance(known, dict) and known.get("size") == before[0] and known.get("sha256") == digest
        if not same or self.place.size(name) != before[0]:
            self.place.put(file, name, before[0])
            if not file.exists():
                return
            if version(file) != before:
                raise OSError("it changed while it was copied")
        self.done[name] = (*before, digest)

    def write_manifest(self, name: str, *, complete: bool) -> None:
        """Write what is there by size and SHA-256."""

        def entries(of: dict) -> dict:
            return {n: {"size": size, "sha256": digest} for n, (size, _, digest) in sorted(of.items())}

        document = {"version": 1, "complete": complete, "files": entries(self.done), "earlier": entries(self.earlier)}
        self.place.write(name, json.dumps(document, indent=1).encode())

    def over(self) -> bool:
        """Whether the time after a stop is over."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def call(self, work, tries: int, size: int = 0) -> str:
        """Do something that may fail or hang, again after a pause; what went wrong the last time comes back."""
        problem = ""
        for n in range(tries):
            # What a storage library may raise is known to nobody: a future keeps whatever it was.
            future = self.pool.submit(work)
            patience = time.monotonic() + 600 + size / 200_000
            while not concurrent.futures.wait([future], timeout=0.2).done:
                if self.over():
                    return "there was no time left after the stop"
                if time.monotonic() > patience:
                    return "it took too long"
            error = future.exception()
            if error is None:
                return ""
            problem = words(error)
            wake = time.monotonic() + (2**n if n + 1 < tries else 0)
            while time.monotonic() < wake and not self.over():
                time.sleep(0.1)
        return problem


def version(file: Path) -> tuple:
    """By which a file that has changed is known."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def sha256(file: Path) -> str:
    """A file's SHA-256."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def files(directory: Path) -> dict:
    """The regular files below a directory: name with slashes → (size, mtime in ns). Links to folders are left out."""
    found = {}
    for here, _, names in os.walk(directory):
        for name in names:
            path = Path(here) / name
            with contextlib.suppress(OSError):  # gone meanwhile, or a link to nowhere
                looks = path.stat()
                if stat.S_ISREG(looks.st_mode):
                    found[path.relative_to(directory).as_posix()] = (looks.st_size, looks.st_mtime_ns)
    return found


def summarise(options: argparse.Namespace) -> int:
    """Count the output directory, and large new files in the code's directory, into a small file."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it takes moments
    until = time.monotonic() + WALK_S
    count = total = 0
    newest, whole = None, True
    for path, looks in walk(options.directory, until, (OURS,)):
        if looks is None:
            whole = False
            break
        count, total = count + 1, total + looks.st_size
        if newest is None or looks.st_mtime > newest[1]:
            newest = (path.relative_to(options.directory).as_posix(), looks.st_mtime)
    document = {
        "directory": os.fspath(options.directory),
        "files": count,
        "bytes": total,
        "newest": {"name": printable(newest[0]), "at": newest[1]} if newest else None,
        "elsewhere": elsewhere(options, until),
        "copied": None,
        "kept": None,
        "whole": whole,
    }
    for name, file in (("copied", options.told), ("kept", options.kept)):
        if file and file.is_file():
            with contextlib.suppress(OSError, ValueError):
                document[name] = json.loads(file.read_text(encoding="utf-8"))
    options.answer.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.answer, document)
    return 0


def keep_left(options: argparse.Namespace) -> int:
    """Bring what the training wrote beside its code into the output directory, if that is empty; tell what was kept."""
    if any(looks is not None for _, looks in walk(options.directory, time.monotonic() + WALK_S, (OURS,))):
        return 0
    left = left_beside(options)
    names = [printable(path.as_posix())[:200] for path, _ in sorted(left, key=lambda one: -one[1])[:5]]
    document = {"files": 0, "bytes": 0, "left": len(left), "largest": names, "error": ""}
    if left:
        write_whole(options.answer, document)  # a stop meanwhile leaves what is true then
    if len(left) > MOST_KEPT:
        document["error"] = f"more than {MOST_KEPT} files are new"
        left = []
    for path, size in left:
        try:
            take(options.code / path, options.directory / path)
        except OSError as error:
            document["error"] = words(error)[:300]
            break
        document["files"] += 1
        document["bytes"] += size
        document["left"] -= 1
    if names:
        write_whole(options.answer, document)
    return 0


def take(source: Path, target: Path) -> None:
    """A second name for the file, or where that can't be a copy of it, which has its name when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            shutil.copy2(source, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def left_beside(options: argparse.Namespace) -> list:
    """Files that came into the code's directory since the training's start, with their bytes: no caches, no hidden
    ones, no environments of Python, nothing that was unpacked before it began.
    """
    code, out = options.code.resolve(), options.directory.resolve()
    if code == Path(code.anchor) or code.is_relative_to(out) or not options.since.is_file():
        return []
    start = options.since.stat().st_mtime_ns
    found = []
    for here, folders, names in os.walk(code):
        folders[:] = [name for name in folders if is_written(Path(here) / name, out)]
        for name in names:
            path = Path(here) / name
            if name.startswith(".") or name.endswith(PASSED_OVER) or path.is_symlink():
                continue
            with contextlib.suppress(OSError):
                looks = path.stat()
                # Not when it was changed by its own account: what is copied with its times is as new.
                if stat.S_ISREG(looks.st_mode) and looks.st_ctime_ns > start:
                    found.append((path.relative_to(code), looks.st_size))
        if len(found) > MOST_KEPT:
            break
    return sorted(found)


def is_written(folder: Path, out: Path) -> bool:
    """Whether a training's results may be in a folder beside its code."""
    if folder.name.startswith(".") or folder.name in (*NO_CODE, "node_modules") or folder.name.endswith(".egg-info"):
        return False
    marks = ("pyvenv.cfg", "CACHEDIR.TAG")
    return folder != out and not any((folder / mark).exists() for mark in marks)


def walk(directory: Path, until: float, leave_out: tuple = ()):
    """Regular files with their looks; at the end of patience a None."""
    count = 0
    for here, folders, names in os.walk(directory):
        folders[:] = [f for f in folders if f not in leave_out and Path(here) / f not in leave_out]
        for name in names:
            path = Path(here) / name
            count += 1
            if count > MOST_FILES or time.monotonic() > until:
                yield path, None
                return
            with contextlib.suppress(OSError):
                looks = path.stat()
                if stat.S_ISREG(looks.st_mode):
                    yield path, looks


def elsewhere(options: argparse.Namespace, until: float) -> dict:
    """Large files that came into the code's directory since the training's start, the largest five by name."""
    found = []
    code = options.code.resolve() if options.code else None
    if code is not None and code != Path(code.anchor) and options.since and options.since.is_file():
        start = options.since.stat().st_mtime_ns
        leave_out = (*NO_CODE, options.directory.resolve())
        for path, looks in walk(code, until, leave_out):
            if looks is not None and looks.st_size >= LARGE and looks.st_mtime_ns > start:
                found.append((looks.st_size, printable(path.relative_to(code).as_posix())))
    found.sort(reverse=True)
    return {
        "files": len(found),
        "bytes": sum(size for size, _ in found),
        "largest": [{"name": name[:200], "bytes": size} for size, name in found[:5]],
    }


def printable(name: str) -> str:
    """A file's name as a text that every program can read."""
    return os.fsencode(name).decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main())
