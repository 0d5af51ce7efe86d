"""Finds the last good checkpoint of a run, so that a training goes on from it. Runs inside the job.

    resume.py choose DIRECTORY --kind trainer|lightning|files [--pattern GLOB] [--auto] [--leader] --run ID
                     --lineage FILE --record FILE --answer FILE [--key KEY --overlay FILE]
    resume.py fetch DIRECTORY --from URL --attempt N --kind … [--pattern GLOB] --run ID --lineage FILE

`choose` writes the path of the newest checkpoint that is whole, of this run, and bound to the same model and method
(`--lineage`) to ANSWER, an empty file where there is none, and what it took and refused to RECORD. Nothing is deleted.
A program that looks for its checkpoint by itself (`--auto`) would take a broken one: that is moved to
`.caravan/set-aside` in the output directory. Only the leader of several nodes moves and writes there; all choose the
same. Where it can't be read whose the checkpoints are, nothing is chosen and the code is 74. `fetch` brings the last
checkpoints of earlier attempts from where the job's outputs were copied to; it needs fsspec, `choose` the standard
library alone.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

CHECK_S = 900.0  # for reading whole files; afterwards their structure alone is looked at
FETCHED = 2  # checkpoints: the last one may be broken
TRIES = 5
CANT_READ = 74  # EX_IOERR of sysexits.h
EARLIER = "it is of the training before the change"


def beside(name: str):
    """The module of that name that lies beside this file, whatever else is on the path."""
    told = importlib.util.spec_from_file_location(f"caravan_{name}", Path(__file__).resolve().with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    return module


checkpoints = beside("checkpoints")
OURS = checkpoints.OURS


def main() -> int:
    """Do what the first word says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    doing = parser.add_subparsers(dest="what", required=True)
    for name in ("choose", "fetch"):
        one = doing.add_parser(name)
        one.add_argument("directory", type=Path)
        one.add_argument("--kind", choices=("trainer", "lightning", "files"), required=True)
        one.add_argument("--pattern")
        one.add_argument("--run", required=True)
        one.add_argument("--lineage", type=Path, required=True)
        if name == "fetch":
            one.add_argument("--from", dest="url", required=True)
            one.add_argument("--attempt", type=int, required=True)
            continue
        one.add_argument("--auto", action="store_true")
        one.add_argument("--leader", action="store_true")
        one.add_argument("--record", type=Path, required=True)
        one.add_argument("--answer", type=Path, required=True)
        one.add_argument("--key")
        one.add_argument("--overlay", type=Path)
    options = parser.parse_args()
    try:
        return fetch(options) if options.what == "fetch" else choose(options)
    except Unknown as why:
        say(str(why))
        return CANT_READ


class Unknown(Exception):
    """Why it can't be told whose the checkpoints are: to start anew then might cost all that was trained."""


def say(text: str) -> None:
    """One line for the job's log."""
    sys.stderr.write(f"caravan: {' '.join(text.split())}\n")
    sys.stderr.flush()


def write_whole(path: Path, text: str) -> None:
    """Write under another name, then rename: what a machine that dies leaves is the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    with contextlib.suppress(OSError):  # not every file system knows this of a directory
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def shown(path) -> str:
    """A path as text that every reader takes, also where its name is none."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# ---- which checkpoint


def choose(options: argparse.Namespace) -> int:
    """Take the newest good checkpoint and tell of it."""
    lineage = json.loads(options.lineage.read_text(encoding="utf-8"))
    bound = Bound(options.directory, options.run, lineage)
    found, whole = checkpoints.candidates(options.directory, options.kind, options.pattern)
    if not whole:
        say(
            f"{shown(options.directory)} holds more than can be looked through: a checkpoint deep in it may not be seen"
        )
    until, rejected, taken = time.monotonic() + CHECK_S, [], None
    for path in found:
        why = bound.objection(path)
        if not why:
            why = checkpoints.problem(path, options.kind, found, until)
            if not why and options.key and shown(path) != os.fspath(path):
                why = "a config file can't hold its name, which is not UTF-8"
            if not why:
                taken = path
                break
        rejected.append(
            {"name": shown(path.relative_to(options.directory)), "step": checkpoints.step_of(path), "why": why}
        )
        if options.auto and options.leader and bound.may_move(path):
            rejected[-1]["moved_to"] = shown(set_aside(options.directory, path))
        elif options.auto and not bound.may_move(path):
            say(f"the program may take {shown(path)} by itself, which Caravan would not")
    if options.leader:
        bound.write(found)
    document = {
        "from": shown(taken) if taken else None,
        "name": shown(taken.relative_to(options.directory)) if taken else None,
        "step": checkpoints.step_of(taken) if taken else None,
        "rejected": [r for r in rejected if r["why"] != EARLIER][:20],
        "anew_because": "" if taken else bound.changed or because(found, whole),
    }
    write_whole(options.record, json.dumps(document))
    write_whole(options.answer, os.fspath(taken) if taken else "")
    if taken and options.key:
        write_whole(options.overlay, json.dumps({"text": None, "values": {options.key: os.fspath(taken)}}))
    tell(document)
    return 0


def because(found: list, whole: bool) -> str:
    """Why nothing was taken, empty where there was nothing."""
    if found:
        return "no checkpoint is good"
    return "" if whole else "no checkpoint was found in the part of the output directory that was looked through"


def tell(document: dict) -> None:
    """What was taken and what was not, in a line; nothing of a first start."""
    refused = "; ".join(f"not {r['name']}: {r['why']}" for r in document["rejected"][:4])
    if document["name"]:
        say(f"resumed from {document['name']}{f' ({refused})' if refused else ''}")
    elif document["anew_because"] or refused:
        why = "; ".join(filter(None, (document["anew_because"], refused)))
        say(f"the training starts anew: {why}")


# ---- whose it is


class Bound:
    """Which run and which model the checkpoints of a directory belong to."""

    def __init__(self, directory: Path, run: str, lineage: dict) -> None:
        self.directory, self.run, self.lineage = directory, run, lineage
        self.file = directory / OURS / "lineage.json"
        self.copy = self.file.with_name("lineage.copy.json")
        self.before = self._read()
        self.ours = self.before.get("run") == run
        self.changed = self._changes() if self.ours else ""
        self.others = self.before.get("others") if isinstance(self.before.get("others"), dict) else {}

    def _read(self) -> dict:
        """What was written last, {} where nothing ever was. Raises Unknown where that can't be told."""
        try:
            self.file.lstat()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Unknown(f"{shown(self.file)} can't be looked at: {error.strerror or error}") from error
        for file in (self.file, self.copy):
            before = checkpoints.read_json(file) if file.is_file() else None
            if isinstance(before, dict) and isinstance(before.get("run"), str):
                return before
        raise Unknown(
            f"{shown(self.file)}, which says whose the checkpoints are, is damaged, so none is taken and nothing starts"
            " anew over them; remove it to start anew"
        )

    def _changes(self) -> str:
        before = self.before.get("lineage")
        before = before if isinstance(before, dict) else {}
        names = [n for n in sorted({*before, *self.lineage}) if before.get(n) != self.lineage.get(n)]
        shown = [f"{n} {text(before.get(n))} → {text(self.lineage.get(n))}" for n in names]
        return f"what its checkpoints are bound to has changed: {', '.join(shown)}"[:500] if names else ""

    def objection(self, path: Path) -> str:
        """Why the checkpoint is not this training's; empty where it is."""
        name = path.relative_to(self.directory).as_posix()
        if self.changed:
            return EARLIER
        if not self.ours or (name in self.others and self.others[name] == checkpoints.looks(path)):
            return "it is not of this run" if not self.ours else "it is of another training"
        return ""

    def may_move(self, path: Path) -> bool:
        """Whether it was written by this run; what others wrote stays where it is."""
        name = path.relative_to(self.directory).as_posix()
        return self.ours and not (name in self.others and self.others[name] == checkpoints.looks(path))

    def write(self, found: list) -> None:
        """From now on what is written here is of this training; what is there already and is not stays marked."""
        others = dict(self.others) if self.ours else {}
        if self.changed or not self.ours:
            others.update({p.relative_to(self.directory).as_posix(): checkpoints.looks(p) for p in found if p.exists()})
        document = {"run": self.run, "lineage": self.lineage, "others": others}
        for file in (self.copy, self.file):  # the one is there if the other is damaged
            if checkpoints.read_json(file) != document:
                write_whole(file, json.dumps(document, indent=1))


def text(value) -> str:
    """A value in a few characters."""
    return "unset" if value is None else str(value)[:80]


def set_aside(directory: Path, path: Path) -> str:
    """Move a checkpoint to where no program looks for one; its new path in the output directory comes back."""
    place = directory / OURS / "set-aside"
    place.mkdir(parents=True, exist_ok=True)
    name = path.relative_to(directory).as_posix().replace("/", "_")
    number, target = 2, place / name
    while target.exists():
        target, number = place / f"{name}.{number}", number + 1
    path.rename(target)
    return target.relative_to(directory).as_posix()


# ---- from where the outputs were copied to


def fetch(options: argparse.Namespace) -> int:
    """Bring the last checkpoints of the newest attempt that has any; 1 where its place does not answer."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for n in range(TRIES):
            # What a storage library may raise is known to nobody: a future keeps whatever it was.
            error = pool.submit(fetch_once, options).exception()
            if error is None:
                return 0
            say(f"earlier checkpoints could not be fetched: {type(error).__name__}: {str(error)[:200]}")
            time.sleep(2**n if n + 1 < TRIES else 0)
    return 1


def fetch_once(options: argparse.Namespace) -> None:
    """One look at each attempt from this one back, for its manifest and for whose it is."""
    helper = beside("outputs")
    place = helper.Place(options.url)
    wanted = {"run": options.run, "lineage": json.loads(options.lineage.read_text(encoding="utf-8"))}
    for attempt in range(options.attempt, 0, -1):
        listed = manifest(place, helper, attempt)
        units = {}
        for name in listed:
            unit = unit_of(name, options.kind, options.pattern)
            if unit:
                units.setdefault(unit, []).append(name)
        if not units:
            continue
        told = place.read(f"{attempt}/{OURS}/lineage.json")
        # One that was copied and does not come raises: it is asked for again, and nothing starts anew for it.
        bound = json.loads(told or (b"" if f"{OURS}/lineage.json" in listed else b"{}"))
        if {name: bound.get(name) for name in wanted} != wanted:
            say(f"the checkpoints of attempt {attempt} are of the training before a change")
            return
        if "/" in (options.pattern or "").strip("/"):  # what lies beside a file in its folder is of the same checkpoint
            units = {u: [n for n in listed if n.startswith(f"{u.rpartition('/')[0]}/")] for u in units}
        newest = sorted(units, key=lambda u: [checkpoints.age(p.name) for p in (Path(u), Path(u).parent)])[-FETCHED:]
        say(f"fetching {' and '.join(newest)} of attempt {attempt}")
        for name in (f"{OURS}/lineage.json", *(n for unit in newest for n in units[unit])):
            if name in listed:
                bring(place, f"{attempt}/{name}", options.directory / name, listed[name])
        return


def manifest(place, helper, attempt: int) -> dict:
    """What an attempt has copied: name → {size, sha256}."""
    found = {}
    for name in (helper.PART, helper.MANIFEST):
        with contextlib.suppress(ValueError):
            document = json.loads(place.read(f"{attempt}/{name}") or b"{}")
            found.update(document.get("earlier") or {})
            found.update(document.get("files") or {})
    return found


def unit_of(name: str, kind: str, pattern) -> str:
    """The checkpoint that a file is or belongs to, empty for none."""
    parts = name.split("/")
    for n, part in enumerate(parts):
        path = "/".join(parts[: n + 1])
        if part == OURS:
            return ""
        if checkpoints.is_one(path, kind, pattern, folder=n + 1 < len(parts)):
            return path
    return ""


def bring(place, name: str, target: Path, wanted: dict) -> None:
    """Fetch a file; one that does not come whole is left away, and its checkpoint is then not taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        place.fs.get_file(f"{place.root}/{name}", os.fspath(part))
        digest = hashlib.sha256()
        with part.open("rb") as stream:
            for piece in iter(lambda: stream.read(1 << 20), b""):
                digest.update(piece)
        if digest.hexdigest() == wanted.get("sha256"):
            part.replace(target)
            return
        say(f"{name} is not as its manifest says")
    except OSError as error:
        say(f"{name} could not be fetched: {error}")
    with contextlib.suppress(OSError):
        part.unlink()


if __name__ == "__main__":
    sys.exit(main())
