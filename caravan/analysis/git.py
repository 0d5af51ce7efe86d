"""Git as a child process, and where a working tree stands. Opens no file itself; `clones` fetches.

The repository is not trusted: no hook, file-system monitor, filter or submodule of it runs, git never asks for a
password, and a URL can't be an option or a command (`ext::`).
"""

import os
import re
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from caravan.values.masking import mask
from caravan.values.repo import GitState

STATE_SECONDS: Final = 30.0
_USER: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]*@")
# Nothing that the repository's own configuration could start.
SAFE: Final = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
CLONES: Final = "https:http:ssh:git:file"  # transports; all others, `ext` above all, are refused


# Set by who calls us from a hook or an alias of another repository: they would lead git there.
_ELSEWHERE: Final = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_ATTR_SOURCE"),
    *("GIT_QUARANTINE_PATH", "GIT_EXTERNAL_DIFF", "GIT_TRACE", "GIT_TEMPLATE_DIR"),
)
_GIT_FILES: Final = ("HEAD", "config", "config.worktree", "index", "info/exclude", "packed-refs", "commondir")


@dataclass(frozen=True)
class WorkTree:
    """What git says of a directory: its state (None outside git), the files it tracks below it, and remarks.

    `whole`: everything that is there is tracked.
    """

    state: GitState | None = None
    tracked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = False


def without_credentials(url: str) -> str:
    """The URL without user and password (an ssh user alone says nothing and stays)."""
    return url if url.startswith("ssh://") and ":" not in url[6:].split("@")[0] else _USER.sub(r"\g<scheme>", url)


MAX_NAMED: Final = 50
"""Paths of uncommitted changes that are kept."""


def reason(errors: bytes) -> str:
    """Why git failed, without credentials: its first fatal line says it, the last ones are advice."""
    said = without_credentials(mask(errors.decode("utf-8", "replace"))).strip().splitlines()
    fatal = (line for line in said if line.startswith(("fatal:", "ERROR:", "error:")))
    return next(fatal, said[-1] if said else "git gave no reason").rstrip(". ")


def look(root: Path, *, environment: Mapping[str, str] | None = None) -> WorkTree:
    """Where the directory stands in git. Outside git, without git or when git refuses: no state, and a note."""
    odd = next((name for name in _GIT_FILES if _is_special(root / ".git" / name)), None)
    if odd is not None:
        return WorkTree(notes=(f"git was not asked: .git/{odd} is no regular file",))
    try:
        return _look(root, environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return WorkTree(notes=(f"git could not be asked: {type(error).__name__}",))


def _is_special(path: Path) -> bool:
    """Whether git would wait at that path for ever: a pipe, a device, a socket. Nothing is opened."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _look(root: Path, environment: Mapping[str, str] | None) -> WorkTree:
    # The owner check guards against what a foreign configuration could start; `SAFE` and the look for filters do so.
    safe = (*SAFE, "-c", "safe.directory=*")

    def ask(*arguments: str) -> bytes | None:
        code, output, _ = run((*safe, *arguments), root, environment, STATE_SECONDS)
        return output if code == 0 else None

    inside = ask("rev-parse", "--is-inside-work-tree")
    if inside is None or inside.strip() != b"true":
        return WorkTree()
    # A worktree's own configuration is another file than the repository's, and git follows both.
    local, own = (ask("config", scope, "--includes", "--list", "-z") or b"" for scope in ("--local", "--worktree"))
    settings = _settings(local) | _settings(own)
    tracked = (ask("ls-files", "-z", "--cached") or b"").decode("utf-8", "surrogateescape").split("\0")
    if any(key.startswith("filter.") for key in settings):
        head = ask("rev-parse", "--verify", "--quiet", "HEAD")
        state = GitState(commit=head.decode().strip()) if head else None
        note = "the repository configures git filters: uncommitted changes were not counted"
        if state is not None:
            state = state.model_copy(update={"unknown": "its repository configures git filters"})
        return WorkTree(state, tuple(filter(None, tracked)), (note,))
    # `dirty` runs nothing inside a submodule, but sees another commit in it than the recorded one.
    status = ask("status", "--porcelain=v2", "--branch", "-z", "--ignore-submodules=dirty", "--", ".")
    prefix = (ask("rev-parse", "--show-prefix") or b"").decode("utf-8", "replace").strip("\n/")
    state = parse_status(status or b"", settings.get("remote.origin.url"), prefix=prefix)
    if state and state.remote_url and not state.pushed:
        # The branch may follow none, or another one: what counts is that the commit was seen at the remote.
        seen = ask("for-each-ref", "--count=1", "--contains", state.commit, "refs/remotes/origin")
        state = state.model_copy(update={"pushed": True}) if seen and seen.strip() else state
    notes = () if state else ("the git repository has no commit yet",)
    return WorkTree(state, tuple(filter(None, tracked)), notes)


def _settings(listing: bytes) -> dict[str, str]:
    rows = (row.partition("\n") for row in listing.decode("utf-8", "replace").split("\0") if row)
    return {key: value for key, _, value in rows}


def parse_status(output: bytes, remote: str | None, *, prefix: str = "") -> GitState | None:
    """The state in the output of `git status --porcelain=v2 --branch -z`; None before the first commit.

    `prefix` is the directory's path in the repository: paths are told from there.
    """
    head: dict[str, str] = {}
    dirty: list[str] = []
    rows = iter(output.decode("utf-8", "replace").split("\0"))
    for row in rows:
        if row.startswith("# branch."):
            key, _, value = row[len("# branch.") :].partition(" ")
            head[key] = value
        elif row[:1] in ("1", "2", "u", "?"):
            dirty.append(_path_in(row).removeprefix(f"{prefix}/" if prefix else ""))
            if row[:1] == "2":
                next(rows, None)  # the name before the renaming
    commit = head.get("oid", "")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return None
    branch = head.get("head")
    ahead = re.match(r"\+(\d+) ", head.get("ab", ""))
    return GitState(
        commit=commit,
        branch=None if branch in (None, "(detached)") else branch,
        remote_url=without_credentials(remote) if remote else None,
        dirty_files=len(dirty),
        pushed=ahead[1] == "0" if ahead else None,
        uncommitted=tuple(sorted(dirty)[:MAX_NAMED]),
        prefix=prefix,
    )


def _path_in(row: str) -> str:
    """The path at a row's end: after the fields that its kind has."""
    fields = {"1": 8, "2": 9, "u": 10, "?": 1}[row[:1]]
    return row.split(" ", fields)[-1]


def is_public(url: str, *, environment: Mapping[str, str] | None, seconds: float = 10.0) -> bool | None:
    """Whether an http(s) remote answers without anybody's credentials; None where that can't be told."""
    if not url.startswith(("https://", "http://")):
        return None
    bare = {**(environment or {"PATH": os.defpath}), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    bare["HOME"] = os.devnull  # no .netrc either
    try:
        code, _, errors = run(
            (*SAFE, "-c", "credential.helper=", "ls-remote", "--quiet", "--", url, "HEAD"),
            Path(os.sep),
            bare,
            seconds,
            protocols="https:http",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if code == 0:
        return True
    return False if _REFUSED.search(errors) else None


_REFUSED: Final = re.compile(
    rb"could not read Username|Authentication failed|not found|terminal prompts disabled|40[134]"
)


def run(
    arguments: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str] | None,
    seconds: float,
    *,
    protocols: str = "none",
) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors of git. Raises OSError without git, TimeoutExpired after killing all it started."""
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    quiet |= {"GIT_ALLOW_PROTOCOL": protocols, "GIT_NO_LAZY_FETCH": "1"}
    base = dict(environment) if environment is not None else {"PATH": os.defpath}
    for name in _ELSEWHERE:
        base.pop(name, None)
    base |= {"SSH_ASKPASS": "", "SSH_ASKPASS_REQUIRE": "never"}  # no window that asks for a password either
    base.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    with subprocess.Popen(
        ("git", *arguments),
        cwd=cwd,
        env=base | quiet,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException:
            # After Ctrl-C `communicate` waits for git a moment: that nothing is left to kill must not take its place.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # git's helpers too
            process.wait()
            raise
    return process.returncode, output, errors
