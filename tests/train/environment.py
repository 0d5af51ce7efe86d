"""The Python that trains in `make test-train`: made once from requirements-train.txt, kept outside the clone, found
again by what it is made from. Prints the interpreter's path; what goes on is told on stderr.

    python tests/train/environment.py [REQUIREMENTS]

CARAVAN_TRAIN_PYTHON names one that is there already, CARAVAN_TRAIN_CACHE where environments are kept (default:
caravan in XDG_CACHE_HOME). Several may ask at once: one makes it, the others wait. None is ever removed but what an
installer that was killed has left.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = "complete.json"
TRIES = 3


def main(words: list[str]) -> int:
    requirements = Path(words[0]) if words else ROOT / "requirements-train.txt"
    given = os.environ.get("CARAVAN_TRAIN_PYTHON")
    try:
        python = Path(given) if given else made(requirements, cache(os.environ))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"The environment for training can't be made: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: what is half made is made anew the next time.\n")
        return 130
    if not runs(python):
        sys.stderr.write(f"{python} is no Python that runs: leave CARAVAN_TRAIN_PYTHON unset, or name another.\n")
        return 1
    sys.stdout.write(f"{python}\n")
    return 0


def cache(environ: Mapping[str, str]) -> Path:
    """Where environments are kept."""
    own = environ.get("CARAVAN_TRAIN_CACHE")
    home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else home / "caravan"


def name_of(requirements: Path) -> str:
    """A name for what an environment is made from: the requirements, this Python, this machine's kind."""
    made_from = (requirements.read_bytes(), sys.version.encode(), platform.machine().encode())
    return f"train-{hashlib.sha256(b'|'.join(made_from)).hexdigest()[:16]}"


def made(requirements: Path, place: Path) -> Path:
    """The interpreter of the environment, made now unless it is there and whole."""
    home = place.absolute() / name_of(requirements)
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{home.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"Somebody else makes {home}: waiting.\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / MARK).is_file() or not runs(home / "bin" / "python"):
            make(requirements, home)
    return home / "bin" / "python"


def make(requirements: Path, home: Path) -> None:
    """Make it in its place, as an environment knows its path, and mark it as whole at the very end."""
    sys.stderr.write(f"Installing {requirements.name} into {home}: 6 GB, once for these requirements.\n")
    sys.stderr.write("That takes some minutes, in which pip says nothing.\n")
    shutil.rmtree(home, ignore_errors=True)
    began = time.monotonic()
    run([sys.executable, "-m", "venv", str(home)])
    install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--no-input", "--retries", "8", "--no-cache-dir", "-r", str(requirements)]
    for left in reversed(range(TRIES)):
        try:
            run(install)
            break
        except subprocess.CalledProcessError:
            if not left:
                raise
    part = home / f"{MARK}.part"
    part.write_text(json.dumps({"requirements": requirements.read_text(), "seconds": time.monotonic() - began}))
    part.replace(home / MARK)
    sys.stderr.write(f"Made in {time.monotonic() - began:.0f} s.\n")


def run(words: list[str]) -> None:
    subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)


def runs(python: Path) -> bool:
    try:
        return subprocess.run([str(python), "-c", ""], check=False).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
