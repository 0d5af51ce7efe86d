"""Finds or makes a Python that has the required packages. Runs inside the job, with the standard library alone.

    environment.py --answer FILE [--file requirements.txt] [--pip LINE]... [--salt TEXT] [--apart]

Writes the path of an interpreter into FILE: this one when it satisfies every requirement (then no network is used),
else that of a virtual environment that is made once in CARAVAN_CACHE_DIR and found again by the hash of what it is made
from: the requirement files with all that they include, the lines, the interpreter with its own packages, platform and
indexes. Nothing in the cache is ever removed here but what a killed installer has left, and what is broken.
"""

import argparse
import collections
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.parse
import urllib.request
from importlib import metadata
from pathlib import Path

INDEX_VARIABLES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
)
PLAIN = {"pip", "setuptools", "wheel", "uv"}
"""What an interpreter has that has nothing: then uv, which sees no packages of its base, does what pip does."""
HELD = []
"""The lock's descriptor, which installers inherit: one that outlives us holds the lock until it has ended."""
UNREACHED = re.compile(
    r"(?i)name resolution|name or service not known|nodename nor servname|connection (?:refused|reset|timed out|broken)"
    r"|NewConnectionError|ConnectTimeout|ReadTimeout|timed out|network is unreachable|no route to host|dns error"
    r"|error sending request|failed to fetch|SSLError|certificate verify failed|\b50[234]\b|proxyerror"
)
FULL = re.compile(r"No space left on device|Disk quota exceeded")
PROBE = 1 << 20  # bytes that a cache must have room for
START_S = 60
STARTS = "import os, sys; sys.exit(not os.path.samefile(sys.prefix, sys.argv[1]))"
UNUSABLE = 74  # neither in the cache nor in the allocation can anything be kept


def main() -> int:
    """Answer with an interpreter; problems go to stderr as one line."""
    try:
        return answer()
    except OSError as error:
        say(f"no Python can be made ready: {' '.join(str(error).split())[:300]}")
        return UNUSABLE


def answer() -> int:
    """Read what is told and answer; the exit code. Raises OSError."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answer", type=Path)
    parser.add_argument("--file", type=Path, action="append", default=[])
    parser.add_argument("--pip", action="append", default=[])
    parser.add_argument("--salt", default="", help="says which code it is, where packages are made of it")
    parser.add_argument("--apart", action="store_true", help="the code is not ours: packages are built from a copy")
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
        made = environment(options.file, options.pip, lines, options.salt, apart=options.apart)
        if isinstance(made, int):
            return made
        python = str(made)
    options.answer.write_text(python, encoding="utf-8")
    return 0


def say(text: str) -> None:
    """One line for the job's log."""
    sys.stderr.write(f"caravan: {text}\n")


def requirement_lines(file: Path, above: tuple[Path, ...] = ()) -> list[str]:
    """The requirements of a file and of the files that it includes, without comments and pip's own options.

    A file that includes one of those `above` it, or itself, leaves its line as it is: pip says what is wrong with it.
    """
    found = []
    text = file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if match := re.match(r"(?:-r|--requirement)[\s=]+(.+)", line):
            inner = file.parent / match[1].strip()
            known = {one.resolve() for one in (*above, file)}
            again = not inner.is_file() or inner.resolve() in known
            found += [line] if again else requirement_lines(inner, (*above, file))
        elif match := re.match(r"(?:-e|--editable)[\s=]+(.+)", line):
            found.append(match[1])
        elif line and not line.startswith("-"):
            found.append(re.sub(r"\s+--hash[\s=]\S+", "", line))
    return found


def satisfied(line: str, within: tuple[str, ...] = ()) -> bool:
    """Whether this interpreter has what a requirement line asks for, its extras too; in doubt it has not.

    `within`: the lines whose extras ask for this one.
    """
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
    if requirement.url is not None or not requirement.specifier.contains(version, prereleases=True):
        return False
    for text in (metadata.requires(requirement.name) or ()) if requirement.extras and line not in within else ():
        asked = Requirement(text)
        marker = asked.marker
        if marker is None or marker.evaluate({"extra": ""}):  # asked for without an extra, too
            continue
        wanted = any(marker.evaluate({"extra": extra}) for extra in requirement.extras)
        asked.marker = None
        if wanted and not satisfied(str(asked), (*within, line)):
            return False
    return True


def satisfied_simply(line: str) -> bool:
    """Without the `packaging` library: no extras, and plain `==`, `>=`, `>`, `<=`, `<`, `!=` on numeric versions."""
    match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)\s*((?:[<>=!]=?\s*[\d.]+\s*,?\s*)*)", line.strip())
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


def environment(files: list, pip: list, lines: list, salt: str, *, apart: bool = False):
    """The interpreter of a virtual environment with the packages, made now unless it is there; an exit code if not."""
    flat = flat_lines(files)
    what = json.dumps(
        {
            "lines": [line.replace(f"{Path.cwd().resolve()}/", "") for line in (*flat, *pip)],
            "code": code_mark(salt, [*lines, *flat]),
            "python": [sys.version, sysconfig.get_platform(), sys.executable],
            "packages": sorted(f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()),
            "indexes": {name: plain(os.environ.get(name, "")) for name in INDEX_VARIABLES},
        },
        sort_keys=True,
    )
    problem = None
    for cache in caches():
        home = cache / hashlib.sha256(what.encode()).hexdigest()[:24]
        try:
            with alone(cache / f"{home.name}.lock"):
                code = 0 if usable(home) else whole(home, what, flat, pip, apart=apart)
        except OSError as error:
            if problem:
                raise
            problem = error
            say(f"the cache {cache} can't be used ({error.strerror or error}), so the next place is taken")
        else:
            return code or home / "bin" / "python"
    raise problem


def whole(home: Path, what: str, flat: list, pip: list, *, apart: bool) -> int:
    """Make it, and mark it as whole: the exit code. Raises OSError, above all where the disk is full."""
    began, cache, kept = time.monotonic(), home.parent, False
    wanted, code_copy = cache / f"{home.name}.txt", cache / f"{home.name}.code"
    shutil.rmtree(home, ignore_errors=True)  # a killed installer's, or a broken one
    say(f"installing into {home}, once for all jobs that share {cache}: a few seconds, some minutes and GB with torch")
    try:
        wanted.write_text("\n".join(apart_lines(cache, home, flat) if apart else flat) + "\n", encoding="utf-8")
        pip = apart_lines(cache, home, pip) if apart else pip
        code = made(home, [wanted] if flat else [], pip)
        if code:
            return code
        # An environment knows its own path, so it is made in place and a last file says that it is whole.
        size = sum(f.lstat().st_size for f in home.rglob("*") if not f.is_dir())
        part = home / f"complete.{os.getpid()}"
        mark = {"bytes": size, "holds": holding(home), "what": json.loads(what)}
        part.write_text(json.dumps(mark), encoding="utf-8")
        part.rename(home / "complete")
        kept = True
    finally:
        for rest in (wanted, code_copy) if kept else (wanted, code_copy, home):
            shutil.rmtree(rest, ignore_errors=True) if rest.is_dir() else rest.unlink(missing_ok=True)
    tell_sizes(cache, home, size, time.monotonic() - began)
    return 0


def usable(home: Path) -> bool:
    """Whether it is there, whole and unbroken; says which of them it is used as."""
    if not (home / "complete").exists():
        return False
    why = broken(home)
    if why:
        say(f"{home} is broken ({why}), so it is made anew")
        return False
    with contextlib.suppress(OSError):  # another user's
        os.utime(home / "complete")  # when it was used last
    say(f"using {home}")
    return True


def broken(home: Path) -> str:
    """Why an environment is not what was made any more; nothing where it is, or where that can't be told now."""
    try:
        held = json.loads((home / "complete").read_text(encoding="utf-8")).get("holds", [])
    except (ValueError, AttributeError):
        return "its mark can't be read"
    gone = sorted(set(held) - set(holding(home)))
    if gone:
        return f"{gone[0]} is gone" + (f", and {len(gone) - 1} more" if gone[1:] else "")
    words = [str(home / "bin" / "python"), "-I", "-c", STARTS, str(home)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_S, check=False)
    except subprocess.TimeoutExpired:
        return ""  # a slow disk: others may be at work in it
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EAGAIN):
            raise
        return f"its python does not start: {error.strerror}"
    if done.returncode in (0, -signal.SIGKILL):
        return ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return f"its python does not start: {''.join(said)[:200] or f'exit code {done.returncode}'}"


def holding(home: Path) -> list:
    """What an environment holds: its programs and its packages, those that are not empty."""
    folders = (home / "bin", *home.glob("lib/python*/site-packages"))
    entries = [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    held = (e for e in entries if e.name != "__pycache__" and (not e.is_dir() or any(e.iterdir())))
    return sorted(str(entry.relative_to(home)) for entry in held)


def flat_lines(files: list) -> list:
    """The lines of requirement files with those that they include in their place, for one file elsewhere.

    What is relative to a file becomes absolute. An editable install would point into this job's directory, which other
    jobs don't have, so it becomes a plain one.
    """
    found = []
    for file in files:
        for line in file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*$", "", line).strip()
            option = re.match(
                r"(-r|--requirement|-c|--constraint|-e|--editable|-f|--find-links)(?:[\s=]+|(?=[^-\s]))(.+)", line
            )
            if option is None:
                found += [line] if line else []
                continue
            kind, value = option[1], option[2].strip()
            beside = file.parent / value
            if kind in ("-r", "--requirement") and beside.is_file() and beside != file:
                found += flat_lines([beside])
            elif kind in ("-c", "--constraint") and beside.is_file():
                found.append(f"-c {beside.resolve()}")
            elif kind in ("-f", "--find-links") and beside.is_dir():
                found.append(f"-f {beside.resolve()}")
            else:
                found.append(value if kind in ("-e", "--editable") else line)
    return found


def is_local(line: str) -> bool:
    """Whether a line means a path of the code."""
    return line.startswith((".", "/")) and "://" not in line


def code_mark(salt: str, lines: list) -> list:
    """What tells one code from another, where packages are made of it or constraints lie in it."""
    marks = [salt] if any(is_local(line) for line in lines) else []
    if marks and not salt:
        for line in lines:
            root = Path(line.partition("[")[0])
            for file in sorted(root.rglob("*.*")) if is_local(line) and root.is_dir() else []:
                if file.is_file() and "/." not in f"/{file.as_posix()}":
                    marks += [[str(file), file.stat().st_size, file.stat().st_mtime_ns]]
    bounds = [Path(line[3:]) for line in lines if line.startswith("-c ")]
    return marks + [hashlib.sha256(file.read_bytes()).hexdigest() for file in bounds if file.is_file()]


def apart_lines(cache: Path, home: Path, lines: list) -> list:
    """The lines with a copy in place of each directory of the code: a build writes beside what it builds."""
    found = []
    for n, line in enumerate(lines):
        path, bracket, extras = line.partition("[")
        if is_local(line) and Path(path).is_dir():
            copy = cache / f"{home.name}.code" / str(n)
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(path, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__"))
            line = f"{copy}{bracket}{extras}"
        found.append(line)
    return found


def plain(address: str) -> str:
    """An index without what it is asked with."""
    return re.sub(r"//[^/@\s]*@", "//", address)


def caches():
    """Where environments may be kept, one after another: in the allocation where the cache can't be written."""
    wanted = Path(os.environ.get("CARAVAN_CACHE_DIR") or ".caravan-cache").absolute()
    own = Path(os.environ.get("NOMAD_ALLOC_DIR") or ".") / "cache"
    for place in dict.fromkeys((wanted, own)):
        cache = place / "environments"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            # A name that nobody has: two containers may know us by the same process id.
            with tempfile.NamedTemporaryFile(dir=cache, prefix=".writable.", buffering=0) as probe:
                fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if probe.write(bytes(PROBE)) < PROBE:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(probe.fileno())
        except OSError as error:
            why = error.strerror or error
            say(f"the cache {place} can't be used ({why}), so packages are installed for this job alone")
            continue
        yield cache
    yield Path(".caravan-cache").absolute()


@contextlib.contextmanager
def alone(path: Path):
    """Hold the lock of an environment, so that of several jobs one makes it. A killed one's lock is free at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another job is making this environment; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        HELD.append(lock.fileno())
        try:
            yield
        finally:
            HELD.clear()


def made(home: Path, files: list, pip: list) -> int:
    """Make the environment: by uv where it is there and does the same as pip, else by pip. The exit code.

    Raises OSError where the disk is full.
    """
    ways = [building_steps(home, files, pip)]
    fast = uv_steps(home, files, pip)
    for steps in ([fast] if fast else []) + ways:
        code, said = 0, ()
        shutil.rmtree(home, ignore_errors=True)
        for step in steps:
            code, said = run(step)
            if code:
                break
            share_packages(home)
        if not code:
            return 0
        say(f"{' '.join(steps[-1][:4])} failed with exit code {code}" + ("; now by pip" if steps is fast else ""))
    if any(FULL.search(line) for line in said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for index, why in away(files, said):
        say(f"the package index {index} can't be reached: {why}")
    return code


def away(files: list, said) -> list:
    """The indexes that can't be reached, each with why, where the installer's last words leave that open."""
    sign = next((line.strip() for line in reversed(said) if UNREACHED.search(line)), "")
    nothing = any("from versions: none" in line or "not found in the package registry" in line for line in said)
    if not sign and not nothing:
        return []
    found = []
    for index in indexes(files):
        address = urllib.parse.urlsplit(index)
        if address.scheme not in ("http", "https") or urllib.request.getproxies().get(address.scheme):
            continue  # through a proxy nothing can be said
        try:
            port = address.port or (80 if address.scheme == "http" else 443)
            socket.create_connection((address.hostname, port), 5).close()
        except OSError as error:
            found.append((index, error.strerror or str(error)))
    return found or ([(indexes(files)[0], sign[:300])] if sign else [])


def run(step: list) -> tuple:
    """Run a command, its output going to our log as it comes; the exit code and the last lines."""
    last, environ = collections.deque(maxlen=400), installer_environment()
    with subprocess.Popen(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ, pass_fds=HELD) as child:
        for line in child.stdout:
            text = line.decode("utf-8", "replace")
            sys.stderr.write(text)
            sys.stderr.flush()
            last.append(text)
    return child.returncode, last


def installer_environment() -> dict:
    """The environment of pip and uv: uv is told what pip is, and keeps its downloads in the cache too."""
    found = dict(os.environ)
    for ours, theirs in (
        ("UV_DEFAULT_INDEX", "PIP_INDEX_URL"),
        ("UV_INDEX", "PIP_EXTRA_INDEX_URL"),
        ("UV_FIND_LINKS", "PIP_FIND_LINKS"),
    ):
        if found.get(theirs):
            found.setdefault(ours, found[theirs])
    if found.get("CARAVAN_CACHE_DIR"):
        found.setdefault("UV_CACHE_DIR", str(Path(found["CARAVAN_CACHE_DIR"]) / "uv"))
    found.setdefault("PIP_RETRIES", "8")  # an index that stumbles gets a minute
    found.setdefault("UV_HTTP_RETRIES", "8")
    return found


def indexes(files: list) -> list:
    """Where packages are looked for, by environment and files; PyPI where nothing says."""
    named = [
        os.environ.get(n, "") for n in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
    ]
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        named += re.findall(r"(?m)^(?:-i|--index-url|--extra-index-url|-f|--find-links)[\s=]+(\S+)", text)
    found = [plain(word) for name in named for word in name.split()]
    return list(dict.fromkeys(found)) or ["https://pypi.org/simple"]


def uv_steps(home: Path, files: list, pip: list):
    """The commands of uv, or None where it isn't there or this interpreter has packages, which uv would not see."""
    names = {(d.metadata["Name"] or "").lower() for d in metadata.distributions()}
    uv = shutil.which("uv")
    if uv is None or names - PLAIN:
        return None
    arguments = [word for file in files for word in ("-r", str(file))]
    offline = ["--no-index"] if os.environ.get("PIP_NO_INDEX", "").lower() in ("1", "true", "yes") else []
    install = ["pip", "install", "--python", str(home / "bin" / "python"), "--index-strategy", "unsafe-best-match"]
    make = [uv, "venv", "--no-project", "--system-site-packages", "--python", sys.executable, str(home)]
    return [make, [uv, *install, *offline, *arguments, "--", *pip]]


def tell_sizes(cache: Path, home: Path, size: int, seconds: float) -> None:
    """Say how large the new environment is, and all of them together."""
    total, count = 0, 0
    for mark in cache.glob("*/complete"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            total += json.loads(mark.read_text(encoding="utf-8"))["bytes"]
            count += 1
    say(f"made {home} in {seconds:.0f} s, {size / 1e6:.0f} MB; all {count} in {cache}: {total / 1e6:.0f} MB")


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
