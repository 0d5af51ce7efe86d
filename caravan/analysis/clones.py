"""Repositories at a git URL: shallow clones at a branch, a tag or a commit, kept below the cache. Git opens the files.

The address is not trusted: it can be no option and no command (`ext::`), git never asks for a password, and neither an
error nor the clone itself holds the credentials that were in a URL.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from caravan.analysis.git import CLONES, SAFE, STATE_SECONDS, reason, run, without_credentials
from caravan.analysis.places import make_private, prune, replace_folder
from caravan.values.base import sha256_text
from caravan.values.errors import RepositoryError

CLONE_SECONDS: Final = 600.0
_URL: Final = re.compile(r"^(?:(?:git\+)?(?:https?|ssh|git|file)://\S+|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:(?!:)\S+)$")
_TRANSPORT: Final = re.compile(r"^[A-Za-z0-9+.-]*::")
_REF: Final = re.compile(r"(?!.*(?:\.\.|//|\.lock$|[./]$))[A-Za-z0-9_][A-Za-z0-9._/+-]{0,200}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHORT: Final = re.compile(r"[0-9a-f]{7,39}")
_FETCHED: Final = "refs/remotes/origin/fetched"
_BRANCHES: Final = 6  # names in a message


class Address(NamedTuple):
    """A git URL, and the branch, tag or commit that is meant; empty for the default branch."""

    url: str
    ref: str = ""


def is_url(source: str) -> bool:
    """Whether `source` is a git URL. Raises RepositoryError for one that could run something (`-x`, `ext::`)."""
    if source.startswith("-") or _TRANSPORT.match(source):
        raise RepositoryError(f"{source!r} is no repository.", hint="Give a path or an https, ssh or git URL.")
    return bool(_URL.match(source))


def address(source: str) -> Address:
    """`URL@REF` in its parts, as pip reads it: an `@` after the host's part of a URL, not at the start of a name.

    Raises RepositoryError for a ref that git would not have.
    """
    source = source.removeprefix("git+")
    scheme, separator, rest = source.partition("://")
    host, slash, path = rest.partition("/") if separator else source.partition(":")
    name, at, ref = path.rpartition("@")
    if not at or not name or name.endswith("/"):
        return Address(source)
    if not _REF.fullmatch(ref):
        shown = without_credentials(source)
        raise RepositoryError(f"{shown}: {ref!r} is no name of a branch, a tag or a commit.", hint="Write URL@REF.")
    return Address(f"{scheme}{separator}{host}{slash}{name}" if separator else f"{host}{slash}{name}", ref)


def clone(source: str, cache: Path, *, environment: Mapping[str, str] | None, seconds: float = CLONE_SECONDS) -> Path:
    """A shallow clone of `URL` or `URL@REF` in a folder of `cache`; the folder appears whole.

    One that is there already and stands where the remote stands is taken as it is; else it is replaced. Raises
    RepositoryError, without the URL's credentials, when git is missing, refuses or takes too long.
    """
    url, ref = address(source)
    shown = without_credentials(url)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", shown.rstrip("/").removesuffix(".git").rsplit("/", 1)[-1]) or "repository"
    folder = cache / f"{name}-{sha256_text(f'{shown}@{ref}' if ref else shown)[:12]}"
    part = cache / f".{folder.name}.{os.getpid()}.part"
    try:
        make_private(cache)
        if _is_current(folder, url, ref, environment, seconds):
            os.utime(folder)
            return folder
        _fetch(url, part, environment, seconds, ref)
        _settle(part, shown, environment)
        replace_folder(part, folder)
        prune(cache, keep=folder)
    except OSError as error:
        raise RepositoryError(f"Can't clone {shown} into {cache}: {error.strerror or error}.") from error
    except subprocess.TimeoutExpired as error:
        raise RepositoryError(f"Cloning {shown} took more than {seconds:.0f} s.", hint="Clone it yourself.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _is_current(folder: Path, url: str, ref: str, environment: Mapping[str, str] | None, seconds: float) -> bool:
    """Whether an earlier clone holds the commit that the remote has now, and nothing else."""
    if not (folder / ".git").is_dir():
        return False
    here = run((*SAFE, "rev-parse", "--verify", "--quiet", "HEAD"), folder, environment, STATE_SECONDS)[1]
    there = ref if _COMMIT.fullmatch(ref) else _commit_at(url, ref, folder.parent, environment, seconds)
    if not there or here.decode("ascii", "replace").strip() != there:
        return False
    code, changed, _ = run((*SAFE, "status", "--porcelain"), folder, environment, STATE_SECONDS)
    return code == 0 and not changed


def _commit_at(url: str, ref: str, cwd: Path, environment: Mapping[str, str] | None, seconds: float) -> str:
    """The commit at which a branch (else a tag) of the remote stands, its default branch without a name."""
    names = (f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}") if ref else ("HEAD",)
    asked = (*SAFE, "ls-remote", "--quiet", "--", url, *names)
    code, listed, _ = run(asked, cwd, environment, seconds, protocols=CLONES)
    rows = (line.split("\t") for line in listed.decode("utf-8", "replace").splitlines()) if code == 0 else ()
    found = {row[1]: row[0] for row in rows if len(row) == 2}
    return next((found[name] for name in names if name in found), "")


def _settle(part: Path, shown: str, environment: Mapping[str, str] | None) -> None:
    """What a clone has to say for itself: an address without credentials, and that its commit is the remote's."""
    for arguments in (("remote", "set-url", "origin", shown), ("update-ref", _FETCHED, "HEAD")):
        run((*SAFE, *arguments), part, environment, STATE_SECONDS)


def _fetch(url: str, part: Path, environment: Mapping[str, str] | None, seconds: float, ref: str = "") -> None:
    """Fetch into `part`: the default branch, a branch or tag by its name, or a commit by its whole number."""
    if _COMMIT.fullmatch(ref):
        _fetch_commit(url, part, environment, seconds, ref)
        return
    _clone(url, part, environment, seconds, ref)
    if not ref and run((*SAFE, "rev-parse", "--verify", "--quiet", "HEAD"), part, environment, STATE_SECONDS)[0]:
        _clone(url, part, environment, seconds, _only_branch(url, part, environment, seconds))


def _clone(url: str, part: Path, environment: Mapping[str, str] | None, seconds: float, ref: str) -> None:
    shutil.rmtree(part, ignore_errors=True)
    one = ("--branch", ref) if ref else ()
    arguments = ("clone", "--quiet", "--depth", "1", "--single-branch", "--no-recurse-submodules", *one, "--", url)
    code, _, errors = run((*SAFE, *arguments, str(part)), part.parent, environment, seconds, protocols=CLONES)
    if code != 0:
        raise _refused(url, ref, errors)


def _fetch_commit(url: str, part: Path, environment: Mapping[str, str] | None, seconds: float, commit: str) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    fetch = ("fetch", "--quiet", "--depth", "1", "--no-tags", "--no-recurse-submodules")
    steps = (
        ("init", "--quiet"),
        ("remote", "add", "origin", url),
        (*fetch, "origin", f"{commit}:{_FETCHED}"),
        ("checkout", "--quiet", "--detach", _FETCHED),
    )
    for step in steps:
        code, _, errors = run((*SAFE, *step), part, environment, seconds, protocols=CLONES)
        if code != 0:
            raise _refused(url, commit, errors)


def _refused(url: str, ref: str, errors: bytes) -> RepositoryError:
    shown = f"{without_credentials(url)}{' at ' if ref else ''}{ref}"
    if _SHORT.fullmatch(ref):
        hint = "A commit is written in full (40 digits)."
    else:
        hint = (
            "Check the URL, what stands after its @, and your access."
            if ref
            else "Check the URL and your access to it."
        )
    return RepositoryError(f"Can't clone {shown}: {reason(errors)}.", hint=hint)


def _only_branch(url: str, part: Path, environment: Mapping[str, str] | None, seconds: float) -> str:
    """The only branch of a repository whose default branch has no commit; RepositoryError for none or several."""
    shown = without_credentials(url)
    asked = (*SAFE, "ls-remote", "--quiet", "--heads", "--", url)
    _, listed, _ = run(asked, part, environment, seconds, protocols=CLONES)
    names = [line.partition("refs/heads/")[2] for line in listed.decode("utf-8", "replace").splitlines()]
    if not names:
        raise RepositoryError(f"{shown} has no commits.", hint="Push the training code to it.")
    if len(names) == 1:
        return names[0]
    head = run((*SAFE, "symbolic-ref", "--short", "HEAD"), part, environment, STATE_SECONDS)[1].decode().strip()
    few = ", ".join(names[:_BRANCHES]) + (f" and {len(names) - _BRANCHES} more" if len(names) > _BRANCHES else "")
    raise RepositoryError(
        f"{shown}: its default branch {head} has no commits; it has: {few}.",
        hint=f"Name the branch that is meant: {shown}@BRANCH.",
    )
