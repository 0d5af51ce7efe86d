"""Finds the trained model among a training's outputs, and tells its files by size and SHA-256. Runs inside the job.

    model_files.py DIRECTORY SUMMARY [--cache FILE] [--known FILE] [--checkpoints PATTERN]

The list comes into the summary of the outputs (`outputs.py summary`), as its `model`. Reading takes about a minute for
15 GB, less where a digest is in one of the two files; a stop ends it, and then the summary stays as it was. Checkpoints
and what only a trainer needs to go on are no part of a model. Standard library alone (3.8 and later).

Where the outputs are in no known format, all of them are listed but logs and checkpoints; the newest checkpoint is
the model where nothing else there can be one. Caravan's agent lists by the same code what it can see itself.
"""

import argparse
import contextlib
import fnmatch
import hashlib
import json
import os
import re
import signal
import stat
import sys
import time
from pathlib import Path

MOST_S = 900.0  # some hundred GB
MOST_FILES = 2000
MOST_DIRECTORIES = 20_000
PIECE = 1 << 20
ADAPTER, CONFIG = "adapter_config.json", "config.json"
WEIGHTS = re.compile(r".+\.safetensors|(pytorch|adapter)_model[\w.-]*\.bin|(tf_model|model)\.h5|flax_model\.msgpack")
CHECKPOINT = re.compile(r"(checkpoint|ckpt|global_step|step|epoch|iter)[-_=]?\d+.*", re.IGNORECASE)
LEFT_OUT = (
    *("optimizer*", "scheduler*", "scaler.pt", "rng_state*", "trainer_state.json", "training_args.bin", "caravan.json"),
    *("zero_to_fp32.py", "latest", "events.out.tfevents.*", "*.lock", "*.tmp", "*.part", "caravan-manifest*.json"),
)
"""Names of files that only a trainer needs, or nobody."""
NO_MODEL = ("__pycache__", "wandb", "mlruns", "runs", "logs", "lightning_logs")
LOGS = ("*.log", "*.jsonl", "*.out", "*.err", "log.txt", "logs.txt", "metrics.*")
"""Names of logs, which are left out of outputs in no known format: any other file may be the model's there."""
WEIGHTS_END = frozenset((".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx", ".gguf", ".h5", ".keras", ".msgpack"))
TEXTS_END = frozenset(("", ".json", ".txt", ".yaml", ".yml", ".toml", ".csv", ".tsv", ".md", ".py"))


def main():
    """Put the model's files into the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--known", type=Path)
    parser.add_argument("--checkpoints", default="", metavar="PATTERN", help="what the training calls a checkpoint")
    options = parser.parse_args()
    stops = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stops.append(True))
    document = _read(options.summary)
    if document:
        until = time.monotonic() + MOST_S
        document["model"] = listed(
            options.directory,
            options.cache,
            _read(options.known),
            until,
            lambda: bool(stops),
            checkpoints=options.checkpoints,
        )
        _keep(options.summary, document)
    return 0


def find_model(outputs):
    """(directory, kind) of the trained model; the kind is `adapter`, `model`, or empty where the format is not known.

    It is what DONE.json names, else the directory that was written last of those with a configuration and weights in
    Hugging Face's format (a checkpoint only where there is nothing else), else the outputs themselves.
    """
    outputs = Path(outputs)
    named = _named(outputs)
    if named is not None:
        return named, kind_of(named)
    found = [(not is_checkpoint(place, outputs), _written(place), place) for place in _directories(outputs)]
    found = [one for one in found if kind_of(one[2])]
    if not found:
        return outputs, ""
    best = max(found, key=lambda one: (one[0], one[1], os.fspath(one[2])))[2]
    return best, kind_of(best)


def _named(outputs):
    """What DONE.json says is the output, if that is a directory below the outputs."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        name = json.loads((outputs / "DONE.json").read_text(encoding="utf-8")).get("output")
        place = (outputs / name).resolve()
        if place.is_dir() and (place == outputs.resolve() or outputs.resolve() in place.parents):
            return outputs / name
    return None


def kind_of(directory):
    """`adapter`, `model`, or empty for what is neither in Hugging Face's format."""
    try:
        names = {path.name for path in Path(directory).iterdir()}
    except OSError:
        return ""
    if not any(WEIGHTS.fullmatch(name) for name in names):
        return ""
    return "adapter" if ADAPTER in names else "model" if CONFIG in names else ""


def says_of_itself(directory, kind):
    """What a model's configuration says that it is: names of classes, and an adapter's task; bounded, as read."""
    config = _read(Path(directory) / CONFIG) if kind else {}
    names = config.get("architectures")
    task = _read(Path(directory) / ADAPTER).get("task_type") if kind == "adapter" else None
    named = [_text(name) for name in names[:10]] if isinstance(names, list) else []
    return {"architectures": named, "task": _text(task)}


def is_checkpoint(place, outputs):
    """Whether a directory is a checkpoint, or is in one, by the names on its way."""
    return any(CHECKPOINT.fullmatch(part) for part in place.relative_to(outputs).parts)


def _directories(outputs):
    for number, (here, folders, _) in enumerate(os.walk(outputs)):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NO_MODEL)
        yield Path(here)
        if number >= MOST_DIRECTORIES:
            return


def _written(place):
    """When the newest weights in a directory were written."""
    times = [0.0]
    with contextlib.suppress(OSError):
        times += [entry.stat().st_mtime for entry in os.scandir(place) if WEIGHTS.fullmatch(entry.name)]
    return max(times)


def model_paths(directory, checkpoints=""):
    """The model's files, ordered by their names' bytes. Other models and checkpoints below it are none of them.

    `checkpoints`: the pattern of the training's checkpoints, empty where it is not known.
    """
    found = []
    whole = kind_of(directory) != ""
    for here, folders, names in os.walk(directory):
        place = Path(here)
        folders[:] = [name for name in folders if _belongs(place / name, name, whole)]
        found += [place / name for name in names if not _left_out(name, whole)]
        if len(found) > MOST_DIRECTORIES:
            break
    if not whole:
        found = without_checkpoints(found, Path(directory), checkpoints)
    if len(found) > MOST_FILES:
        raise OSError(f"it has more than {MOST_FILES} files")
    return sorted(found, key=lambda path: os.fsencode(path.relative_to(directory).as_posix()))


def _belongs(place, name, whole):
    if name.startswith(".") or name in NO_MODEL or (whole and CHECKPOINT.fullmatch(name)):
        return False
    return not (whole and kind_of(place))


def _left_out(name, whole):
    patterns = LEFT_OUT if whole else LEFT_OUT + LOGS
    return name.startswith(".") or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def without_checkpoints(files, directory, pattern=""):
    """Those of the files that are no checkpoint's; where none of these can be a model, the newest checkpoint's too.

    A checkpoint is known by its name or by the pattern; a pattern without a place for a step tells none, since that
    file is written over again and is the model in the end. What can be a model is known by how its name ends: as
    weights do, or as the checkpoints themselves.
    """
    units, rest = {}, []
    for path in files:
        unit = _checkpoint_of(path.relative_to(directory).parts, pattern)
        if unit:
            units.setdefault(unit, []).append(path)
        else:
            rest.append(path)
    ends = WEIGHTS_END.union(path.suffix.lower() for unit in units.values() for path in unit) - TEXTS_END
    if units and not any(path.suffix.lower() in ends for path in rest):
        rest += units[max(units, key=lambda unit: _age(directory / unit))]
    return rest


def _checkpoint_of(parts, pattern):
    """The path of the checkpoint that a file is or belongs to, empty for none."""
    wanted = [part for part in pattern.split("/") if part not in ("", ".")] if "*" in pattern else []
    for n, part in enumerate(parts):
        last = parts[max(0, n + 1 - len(wanted)) : n + 1]
        named = bool(wanted) and wanted != ["*"] and len(last) == len(wanted)
        if CHECKPOINT.fullmatch(part) or (named and all(map(fnmatch.fnmatchcase, last, wanted))):
            return "/".join(parts[: n + 1])
    return ""


def _age(path):
    """By the step in its name, the newest last; what has none there (`last.ckpt`) is newer, by its time."""
    numbers, at = re.findall(r"\d+", path.name), 0.0
    with contextlib.suppress(OSError):
        at = path.stat().st_mtime
    return (not numbers, [int(number) for number in numbers], at, path.name)


def listed(outputs, cache=None, known=None, until=None, stopped=lambda: False, *, checkpoints="", links=True):
    """The model as `caravan.values.outputs.TrainedModel` has it; None where there is no file of one.

    `cache`: a file of digests that were taken before, which is brought up to date. `known`: more of them. A digest
    counts while size and time of its file are the same. `links` False: files that are links are left out. What can't
    be read until `until` (monotonic seconds), or before `stopped` says so, is left out, and `error` says it.
    """
    begun = time.monotonic()
    directory, kind = find_model(outputs)
    name = os.path.relpath(os.fspath(directory), os.fspath(outputs)).replace(os.sep, "/")
    told = {"path": printable(name), "kind": kind, "files": [], "bytes": 0, "sha256": None, "seconds": 0.0, "error": ""}
    told.update(says_of_itself(directory, kind))
    digests = {**_read(cache), **(known or {})}
    try:
        for path in model_paths(directory, checkpoints):
            if not links and path.is_symlink():
                continue
            looks = path.stat()
            if not stat.S_ISREG(looks.st_mode):
                continue
            digest = _digest(path, looks, digests, until, stopped)
            entry = {"path": printable(path.relative_to(directory).as_posix()), "bytes": looks.st_size}
            told["files"].append({**entry, "sha256": digest})
            told["bytes"] += looks.st_size
    except (OSError, TimeoutError) as error:
        told["error"] = f"its files could not all be read: {error}"[:300]
    if not told["files"] and not told["error"]:
        return None
    if not told["error"]:
        told["sha256"] = list_digest(told["files"])
    if cache is not None:
        with contextlib.suppress(OSError):
            _keep(cache, digests)
    told["seconds"] = round(time.monotonic() - begun, 3)
    return told


def list_digest(files):
    """One value for a list of files: SHA-256 of the text that `sha256sum` prints of it, ordered by paths."""
    ordered = sorted(files, key=lambda file: file["path"].encode("utf-8", "surrogatepass"))
    text = "".join(f"{file['sha256']}  {file['path']}\n" for file in ordered)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(path, looks, digests, until, stopped):
    name, version = os.fspath(path.resolve()), [looks.st_size, looks.st_mtime_ns]
    before = digests.get(name)
    if isinstance(before, list) and before[:2] == version and len(before) == 3:
        return before[2]
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while True:
            piece = stream.read(PIECE)
            if not piece:
                break
            digest.update(piece)
            if stopped():
                raise TimeoutError("the job was stopped")
            if until is not None and time.monotonic() > until:
                raise TimeoutError("it took too long")
    digests[name] = [*version, digest.hexdigest()]
    return digest.hexdigest()


def _read(cache):
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        found = json.loads(Path(cache).read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _keep(file, document):
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(json.dumps(document), encoding="utf-8")
    part.replace(file)


def _text(value):
    return value.encode("utf-8", "replace").decode("utf-8")[:100] if isinstance(value, str) else ""


def printable(name):
    """A file's name as a text that every program can read."""
    return os.fsencode(name).decode("utf-8", "replace")


if __name__ == "__main__":
    if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parent:
        sys.path.pop(0)  # the code lies beside this file, and none of its modules is meant
    sys.exit(main())
