"""Finds or makes a Python that has the required packages. Runs inside the job, with the standard library alone.

    environment.py --answer FILE [--file requirements.txt] [--pip LINE]... [--salt TEXT]

Writes the path of an interpreter into FILE: this one when it satisfies every requirement (then no
network is used), else that of a virtual environment that is made once in CARAVAN_CACHE_DIR and found again by the
hash of interpreter and requirements.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path


def main() -> int:
    """Answer with an interpreter; problems go to stderr as one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answer", type=Path)
    parser.add_argument("--file", type=Path, action="append", default=[])
    parser.add_argument("--pip", action="append", default=[])
    parser.add_argument("--salt", default="")
    options = parser.parse_args()
    lines = list(options.pip)
    for file in options.file:
        if not file.is_file():
            say(f"the requirements file {file} is not in the code")
            return 66
        lines += requirement_lines(file)
    missing = [line for line in lines if not satisfied(line)]
    python = sys.executable
    if missing:
        say(f"not installed here: {', '.join(missing)}")
        made = environment(options.file, options.pip, lines, options.salt)
        if isinstance(made, int):
            return made
        python = str(made)
    options.answer.write_text(python, encoding="utf-8")
    return 0


def say(text: str) -> None:
    """One line for the job's log."""
    sys.stderr.write(f"caravan: {text}\n")


def requirement_lines(file: Path) -> list[str]:
    """The requirements of a file and of the files that it includes, without comments and pip's own options."""
    found = []
    text = file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if match := re.match(r"(?:-r|--requirement)[\s=]+(.+)", line):
            inner = file.parent / match[1].strip()
            found += requirement_lines(inner) if inner.is_file() and inner != file else [line]
        elif match := re.match(r"(?:-e|--editable)[\s=]+(.+)", line):
            found.append(match[1])
        elif line and not line.startswith("-"):
            found.append(re.sub(r"\s+--hash[\s=]\S+", "", line))
    return found


def satisfied(line: str) -> bool:
    """Whether this interpreter has what a requirement line asks for; in doubt it has not."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        return satisfied_simply(line)
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False  # a path or an address
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    return requirement.url is None and requirement.specifier.contains(version, prereleases=True)


def satisfied_simply(line: str) -> bool:
    """Without the `packaging` library: names, and plain `==`, `>=`, `>`, `<=`, `<`, `!=` on numeric versions."""
    match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*((?:[<>=!]=?\s*[\d.]+\s*,?\s*)*)", line.strip())
    if match is None:
        return False
    try:
        have = numbers(metadata.version(match[1]))
    except metadata.PackageNotFoundError:
        return False
    tests = {
        "==": lambda a, b: a == b,
        ">=": lambda a, b: a >= b,
        "<=": lambda a, b: a <= b,
        "!=": lambda a, b: a != b,
        ">": lambda a, b: a > b,
        "<": lambda a, b: a < b,
    }
    for sign, wanted in re.findall(r"([<>=!]=?)\s*([\d.]+)", match[2]):
        if sign not in tests or not tests[sign](have, numbers(wanted)):
            return False
    return True


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, padded so that 2 equals 2.0."""
    found = [int(n) for n in re.findall(r"\d+", re.split(r"[^\d.]", version)[0])][:4]
    return tuple(found + [0] * (4 - len(found)))


def environment(files: list, pip: list, lines: list, salt: str):
    """The interpreter of a virtual environment with the packages, made now unless it is there; an exit code if not."""
    local = [line for line in lines if line.startswith((".", "/"))]  # the code itself: another code, another place
    what = json.dumps([sys.version, sysconfig.get_platform(), sys.executable, sorted(lines), salt if local else ""])
    cache = Path(os.environ.get("CARAVAN_CACHE_DIR") or ".caravan-cache") / "environments"
    cache.mkdir(parents=True, exist_ok=True)
    home = cache / hashlib.sha256(what.encode()).hexdigest()[:24]
    python = home / "bin" / "python"
    with (cache / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another job may be making the same one
        if (home / "complete").exists():
            say(f"using {home}")
            return python
        shutil.rmtree(home, ignore_errors=True)  # a half-made one
        for step in building_steps(home, files, pip):
            code = subprocess.call(step, stdout=sys.stderr)
            if code:
                shutil.rmtree(home, ignore_errors=True)
                say(f"{' '.join(step[:4])} failed with exit code {code}")
                return code
            share_packages(home)
        # An environment knows its own path, so it is made in place and a last file says that it is whole.
        part = home / f"complete.{os.getpid()}"
        part.write_text(what, encoding="utf-8")
        part.rename(home / "complete")
    return python


def building_steps(home: Path, files: list, pip: list) -> list:
    """The commands that make an environment: with this interpreter's own pip where it can: much faster."""
    # What follows `--` is no option, whatever it looks like.
    arguments = [*(word for file in files for word in ("-r", str(file))), "--", *pip]
    make = [sys.executable, "-m", "venv", "--system-site-packages", str(home)]
    install = ["install", "--disable-pip-version-check", "--no-input", *arguments]
    try:
        own = numbers(metadata.version("pip")) >= (22, 3)  # since then it installs into another environment
    except metadata.PackageNotFoundError:
        own = False
    if own:
        return [[*make, "--without-pip"], [sys.executable, "-m", "pip", "--python", str(home), *install]]
    return [make, [str(home / "bin" / "python"), "-m", "pip", *install]]


def share_packages(home: Path) -> None:
    """Let the new environment see this one's packages: `--system-site-packages` means those of the base Python."""
    if sys.prefix == sys.base_prefix:
        return
    for site in home.glob("lib/python*/site-packages"):
        (site / "caravan-base.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
