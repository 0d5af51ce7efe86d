"""Fetches what a training has copied to a URL, for the job that evaluates its model. Runs inside the job.

    fetch_model.py DIRECTORY URL

Each file of the copy's manifest is brought and held against its SHA-256; checkpoints are left out. The exit code is 1
where the copy is not whole or can't be reached. Needs fsspec; credentials come from the job's environment.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path, PurePosixPath

import outputs  # lies beside this file

TRIES = 4
CHECKPOINT = re.compile(r"checkpoint-\d+|\.caravan")


def main() -> int:
    """Fetch them, again after a while where the place does not answer."""
    if sys.path and Path(sys.path[0] or ".").resolve() == Path(__file__).resolve().parent:
        sys.path.pop(0)  # no module that lies here is meant by what is imported from now on
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("url")
    options = parser.parse_args()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for n in range(TRIES):
            # What a storage library may raise is known to nobody: a future keeps whatever it was.
            error = pool.submit(fetch, options.directory, options.url).exception()
            if error is None:
                return 0
            outputs.say(f"the model could not be fetched from {options.url}: {outputs.words(error)[:300]}")
            time.sleep(2**n if n + 1 < TRIES else 0)
    return 1


def fetch(directory: Path, url: str) -> None:
    """Bring every file of the copy. Raises ValueError for a copy that is not whole."""
    place = outputs.Place(url)
    document = json.loads(place.read(outputs.MANIFEST) or b"{}")
    files = document.get("files")
    if not isinstance(files, dict) or not document.get("complete"):
        raise ValueError("the copy has no manifest, so it is not whole")
    for name, wanted in sorted(files.items()):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or any(CHECKPOINT.fullmatch(part) for part in path.parts):
            continue
        bring(place, name, directory / name, wanted)
    outputs.say(f"{len(files)} files are fetched from {url}")


def bring(place, name: str, target: Path, wanted: dict) -> None:
    """One file, whole or not at all. Raises ValueError for one that is not as its manifest says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    place.fs.get_file(f"{place.root}/{name}", os.fspath(part))
    digest = hashlib.sha256()
    with part.open("rb") as stream:
        for piece in iter(lambda: stream.read(1 << 20), b""):
            digest.update(piece)
    if digest.hexdigest() != wanted.get("sha256"):
        part.unlink()
        raise ValueError(f"{name} is not as its manifest says")
    part.replace(target)


if __name__ == "__main__":
    sys.exit(main())
