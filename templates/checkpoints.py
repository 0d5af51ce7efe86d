"""Which checkpoints are in a directory, and whether one is whole. Runs inside the job; only reads.

It knows the layouts of transformers, Lightning, DeepSpeed, FSDP and accelerate, and the formats that tell their own
length or carry checksums: zip archives (torch, NumPy), safetensors, pickles, NumPy arrays, JSON. What can't be told is
not whole. Nothing of a checkpoint is run.
"""

import contextlib
import fnmatch
import json
import os
import pickle
import pickletools
import re
import stat
import time
import zipfile
import zlib
from pathlib import Path

OURS = ".caravan"  # in the output directory: what binds its checkpoints, and what was set aside
DEPTH = 4
MOST = 100_000  # entries below the directory's own that are looked at
SETTLE_S = 0.5
FRESH_S = 30.0  # a file that changed so recently may still be written by a task that was lost and not ended
JSON_BYTES = 64_000_000
PARTIAL = re.compile(r"(?:\.(?:part|partial|tmp|temp|incomplete)(?:[.\d-]\w*)?$)|^(?:tmp|temp)[-_.]|\.lock$")
ZIPS = (".pt", ".pth", ".bin", ".ckpt", ".npz", ".zip", ".keras", ".tar")
NUMBER = re.compile(r"\d+")


class Broken(Exception):
    """Why a checkpoint is not whole, in a few words."""


class Look(contextlib.AbstractContextManager):
    """Keeps what a look at damaged bytes raises. Which exceptions that may be, nobody can list."""

    error = None

    def __exit__(self, kind, error, trace) -> bool:
        """End the look; what ends the program itself still does."""
        del kind, trace
        self.error = error
        return isinstance(error, Exception)


def read_json(path: Path):
    """A JSON document, None where it can't be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, MemoryError):
        return None


# ---- what there is


def candidates(directory: Path, kind: str, pattern) -> tuple:
    """What looks like a checkpoint, the newest first: by its step, then by its time; and whether all was looked at."""
    found, count, whole = [], 0, True
    for here, folders, names in os.walk(directory):
        inside = Path(here)
        below = inside.relative_to(directory)
        depth = len(below.parts)
        folders[:] = sorted(f for f in folders if f != OURS)
        taken = {n for n in folders if is_one((below / n).as_posix(), kind, pattern, folder=True)}
        found += [inside / n for n in sorted(taken)]
        found += [inside / n for n in names if is_one((below / n).as_posix(), kind, pattern, folder=False)]
        folders[:] = [f for f in folders if f not in taken] if depth < DEPTH else []
        count += len(folders) + (len(names) if depth else 0)
        if count > MOST:
            whole = False
            break
    return sorted(found, key=lambda path: order(path, kind), reverse=True), whole


def is_one(path: str, kind: str, pattern, folder: bool) -> bool:
    """Whether a path below the output directory is a checkpoint's. A pattern of several parts tells the last ones."""
    parts = path.split("/")
    name = parts[-1]
    if kind == "trainer":
        return folder and re.fullmatch(r"checkpoint-\d+", name) is not None
    if kind == "lightning":
        return name.endswith(".ckpt")
    wanted = [p for p in (pattern or "").split("/") if p not in ("", ".")]
    last = parts[-len(wanted) :]
    return bool(wanted) and len(last) == len(wanted) and all(map(fnmatch.fnmatchcase, last, wanted))


def order(path: Path, kind: str) -> tuple:
    """By the step; what has none in its name (`last.ckpt`) is the newest there is, by its time."""
    at = 0.0
    with contextlib.suppress(OSError):
        at = path.stat().st_mtime
    return (at, *age(path.name)) if kind == "lightning" else (*age(path.name), at)


def age(name: str) -> tuple:
    """By which names are put in order, the newest last."""
    step = step_of(Path(name))
    return (step is None, step or 0, name)


def step_of(path: Path):
    """The number of a step or an epoch in the name, None where there is none."""
    named = re.search(r"(?:step|iter)[a-z]*[=_-]?(\d+)", path.name)
    numbers = NUMBER.findall(path.stem if path.suffix and not path.suffix[1:].isdigit() else path.name)
    return int(named[1]) if named else int(numbers[-1]) if numbers else None


def looks(path: Path) -> list:
    """By which a checkpoint that has changed is known: bytes, and the newest time of its files in ns."""
    found = [told for _, told in files_of(path)]
    return [sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0)]


def files_of(path: Path) -> list:
    """(file, stat) of a file, or of all files in a directory."""
    below = [Path(here) / name for here, _, names in os.walk(path) for name in names]
    found = []
    for file in below if path.is_dir() else [path]:
        with contextlib.suppress(OSError):  # gone meanwhile
            found.append((file, file.stat()))
    return found


# ---- whether it is whole


def problem(path: Path, kind: str, found: list, until: float) -> str:
    """Why a checkpoint is not whole, in a few words; empty where it is. One that can't be looked at is not whole."""
    with Look() as look:
        unsettled(path)
        if path.is_dir():
            check_directory(path, kind, found, until)
        else:
            check_file(path, until, must=True)
    if look.error is None:
        return ""
    said = str(look.error)[:300]
    return said if isinstance(look.error, Broken) else f"{type(look.error).__name__}: {said}".rstrip(": ")


def unsettled(path: Path) -> None:
    """Raise for what is not written to its end."""
    before = looks(path)
    for file, told in files_of(path):
        if not stat.S_ISREG(told.st_mode):  # reading a pipe would wait for ever
            raise Broken(f"{file.name} is no file that holds data")
        if PARTIAL.search(file.name):
            raise Broken(f"{file.name} was not written to its end")
    if before[1] / 1e9 > time.time() - FRESH_S:
        time.sleep(SETTLE_S)
        if looks(path) != before:
            raise Broken("something still writes it")


def check_directory(path: Path, kind: str, found: list, until: float) -> None:
    """Raise Broken for a directory that lacks a file or has one that is not whole."""
    files = [f for f, _ in files_of(path)]
    names = {f.relative_to(path).as_posix() for f in files}
    if not names:
        raise Broken("it is empty")
    if kind == "trainer":
        check_trainer(path, names)
    else:
        check_siblings(path, names, found)
    check_sharded(path, names)
    for file in sorted(files):
        check_file(file, until, must=False)


def check_trainer(path: Path, names: set) -> None:
    """transformers' own files: the state, the model, the optimizer, the schedule, the random numbers."""
    state = read_json(path / "trainer_state.json")
    step = state.get("global_step") if isinstance(state, dict) else None
    if not isinstance(step, int):
        raise Broken("trainer_state.json is missing or not whole")
    if step != step_of(path):
        raise Broken(f"trainer_state.json is of step {step}")
    top = {n.split("/")[0] for n in names}
    sharded = any(re.fullmatch(r"global_step\d+|pytorch_model_fsdp\w*", n) for n in top)
    needed = {
        "model": r"(?:adapter_)?model(?:-\d+-of-\d+)?\.safetensors|(?:pytorch|adapter)_model(?:-\d+-of-\d+)?\.bin",
        "optimizer": r"optimizer(?:_\d+)?(?:\.pt|\.bin)?",
        "scheduler": r"scheduler\.pt",
        "random state": r"rng_state(?:_\d+)?\.pth",
    }
    for what, pattern in needed.items():
        # DeepSpeed and FSDP keep model, optimizer and maybe the schedule in directories of their own.
        if not any(re.fullmatch(pattern, n) for n in top) and not (sharded and what != "random state"):
            raise Broken(f"it has no {what}")


def check_siblings(path: Path, names: set, found: list) -> None:
    """A directory of no known layout must have what those before it have; numbers in names don't count."""
    plain = {NUMBER.sub("0", n) for n in names}
    for other in found:
        if other != path and other.is_dir() and other.parent == path.parent and order(other, "") < order(path, ""):
            before = {NUMBER.sub("0", f.relative_to(other).as_posix()) for f, _ in files_of(other)}
            if before - plain:
                raise Broken(f"it lacks {sorted(before - plain)[0]}, which {other.name} has")
            return


def check_sharded(path: Path, names: set) -> None:
    """DeepSpeed's tag, FSDP's metadata, and the index of a model in several files."""
    if "latest" in names:
        tag = (path / "latest").read_text(encoding="utf-8", errors="replace").strip()
        states = [n for n in names if n.startswith(f"{tag}/")]
        if not tag or not any(n.endswith("_model_states.pt") for n in states):
            raise Broken(f"DeepSpeed's {tag[:40] or 'tag'} is not there")
        ranks = [int(m[1]) for n in states if (m := re.search(r"zero_pp_rank_(\d+)_.*optim_states\.pt$", n))]
        if ranks and len(set(ranks)) != max(ranks) + 1:
            raise Broken(f"DeepSpeed's {tag} lacks the optimizer of a rank")
    elif any(re.match(r"global_step\d+/", n) for n in names):
        raise Broken("DeepSpeed has not named its tag")
    for folder in sorted({n.rpartition("/")[0] for n in names if n.endswith(".distcp")}):
        check_distributed(path / folder)
    for name in sorted(n for n in names if n.endswith(".index.json")):
        document = read_json(path / name)
        shards = document.get("weight_map") if isinstance(document, dict) else None
        if not isinstance(shards, dict):
            raise Broken(f"{name} is not whole")
        missing = sorted({str(s) for s in shards.values()} - names)
        if missing:
            raise Broken(f"{missing[0]} is missing")


class Inert:
    """Stands for every class of a pickle that is looked at: nothing of it is run."""

    def __new__(cls, *args, **kwargs):
        """Takes anything."""
        del args, kwargs
        return super().__new__(cls)

    def __setstate__(self, state) -> None:
        """Keeps plain attributes."""
        if isinstance(state, dict):
            self.__dict__.update(state)


class Within:
    """A stream of which no more is read at once than its file has, whatever a damaged length says."""

    def __init__(self, stream) -> None:
        self.stream, self.size = stream, os.fstat(stream.fileno()).st_size
        self.readline, self.tell = stream.readline, stream.tell

    def read(self, count: int) -> bytes:
        """As a file reads. Raises EOFError for more than there is."""
        if count > self.size:
            raise EOFError("cut off")
        return self.stream.read(count)


class Looking(pickle.Unpickler):
    """Reads a pickle without loading a class of it."""

    def find_class(self, module: str, name: str):
        """Never what is named."""
        del module, name
        return Inert


def check_distributed(folder: Path) -> None:
    """A distributed checkpoint: its metadata comes last, and tells how long each file is."""
    try:
        with (folder / ".metadata").open("rb") as stream:
            check_memo(stream, folder)
            stored = getattr(Looking(stream).load(), "storage_data", None)
    except OSError as error:
        raise Broken(f"{folder.name} has no .metadata") from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise Broken(f"the .metadata of {folder.name} is not whole") from error
    for item in stored.values() if isinstance(stored, dict) else ():
        name, begin, length = (getattr(item, n, None) for n in ("relative_path", "offset", "length"))
        if isinstance(name, str) and isinstance(begin, int) and isinstance(length, int):
            file = folder / name
            if not file.is_file() or file.stat().st_size < begin + length:
                raise Broken(f"{name} is missing or too short")


def check_memo(stream, folder: Path) -> None:
    """A damaged number of a remembered object would have the reader take memory up to it: more than there is."""
    within = Within(stream)
    most = within.size
    for operation, number, _ in pickletools.genops(within):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and number > most:
            raise Broken(f"the .metadata of {folder.name} is not whole")
    stream.seek(0)


def check_file(file: Path, until: float, must: bool) -> None:
    """Raise Broken for a file that is not whole by its own format; `must`: also where that can't be told."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(16)
    ending = file.suffix.lower()
    if ending == ".safetensors":
        check_safetensors(file, size)
    elif ending == ".json":
        if size == 0 or (size <= JSON_BYTES and read_json(file) is None):
            raise Broken(f"{file.name} is not whole")
    elif head[:4] == b"PK\x03\x04":
        check_zip(file, until)
    elif head[:6] == b"\x93NUMPY":
        check_array(file, size)
    elif ending in (".pkl", ".pickle") or (head[:1] == b"\x80" and ending in ZIPS):
        check_pickle(file, size)
    elif must or ending in ZIPS:
        raise Broken(f"{file.name} is {'empty' if size == 0 else 'of a kind that can not be checked'}")


def check_safetensors(file: Path, size: int) -> None:
    """The header says where the last tensor ends."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8 or length > JSON_BYTES * 2:
            raise Broken(f"{file.name} is cut off")
        try:
            header = json.loads(stream.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            short = 8 + length + max(ends, default=0) - size
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise Broken(f"{file.name} has no readable header") from error
    if short:
        raise Broken(f"{file.name} is {abs(short)} bytes too {'short' if short > 0 else 'long'}")


def check_zip(file: Path, until: float) -> None:
    """torch and NumPy write zip archives: the directory is at the end, and each member has a checksum."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            # A member that is an archive itself must not be taken for the whole.
            if not members or min(m.header_offset for m in members) != 0:
                raise Broken(f"{file.name} is cut off")
            for member in members:
                with archive.open(member) as stream:
                    while time.monotonic() < until and stream.read(1 << 20):
                        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, KeyError) as error:
        raise Broken(f"{file.name} is broken: {str(error)[:80] or type(error).__name__}") from error


def check_array(file: Path, size: int) -> None:
    """A NumPy array: the header says how much comes after it."""
    with file.open("rb") as stream:
        head = stream.read(12)
        wide = 2 if head[6:7] == b"\x01" else 4
        length = int.from_bytes(head[8 : 8 + wide], "little")
        if length > size:
            raise Broken(f"{file.name} is cut off")
        stream.seek(8 + wide)
        header = stream.read(length).decode("latin-1", "replace")
    kind = re.search(r"'descr': '[<>|=](\w)(\d+)'", header)
    shape = re.search(r"'shape': \(([\d, ]*)\)", header)
    if kind is None or shape is None:
        raise Broken(f"{file.name} is of a kind that can not be checked")
    count = 1
    for number in NUMBER.findall(shape[1]):
        count *= int(number)
    if 8 + wide + length + count * int(kind[2]) * (4 if kind[1] == "U" else 1) != size:
        raise Broken(f"{file.name} is not as long as its header says")


def check_pickle(file: Path, size: int) -> None:
    """A pickle ends where it says, and nothing of it is run. torch's old format has more behind it: not to be told."""
    try:
        with file.open("rb") as stream:
            for operation, _, _ in pickletools.genops(Within(stream)):
                if operation.name == "STOP":
                    break
            end = stream.tell()
    except (ValueError, EOFError, UnicodeDecodeError, IndexError, OverflowError) as error:
        raise Broken(f"{file.name} is cut off or broken") from error
    if end != size:
        raise Broken(f"{file.name} is of a kind that can not be checked")
