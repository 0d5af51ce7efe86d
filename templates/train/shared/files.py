"""Files and folders that appear whole or not at all, and digests of what was read."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.refusals import Refused, refuse_output, writing


def usable_output(name: str) -> Path:
    """The output folder, made and tried. Raises Refused where it can't be written."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".try-{os.getpid()}"
        trial.write_bytes(b"caravan")
        trial.unlink()
    except OSError as error:
        refuse_output(error, folder)
        raise Refused("output_unwritable", f"can't be written: {error.strerror or error}", folder) from error
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path.parent):
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)


def write_json(path: Path, value: Any) -> None:
    """As `write_text`, a JSON document."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path) -> Any:
    """A JSON document, None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes its name when the block ends well, and is gone when it does not."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with writing(target.parent):
            part.mkdir(parents=True)
            yield part
            sync(part)
            if target.exists():
                shutil.rmtree(target)
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sync(folder: Path) -> None:
    """Bring a folder's files to the disk, so that a rename after it never shows half of them."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def digest_files(files: Iterable[Path]) -> str:
    """SHA-256 of one file's bytes; of several the one over their digests and names, by name."""
    found = []
    for path in sorted(files):
        with path.open("rb") as stream:
            digest = hashlib.sha256()  # not hashlib.file_digest: evaluations of other trainings may have Python 3.10
            while piece := stream.read(1 << 20):
                digest.update(piece)
            found.append((path.name, digest.hexdigest()))
    if len(found) == 1:
        return found[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in found).encode()).hexdigest()


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse an output for which the disk has no room. `needed` and what is told are bytes."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        refuse_output(error, folder)
        return
    if free < needed:
        text = f"{what} needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        raise Refused("disk_full", text, folder)
