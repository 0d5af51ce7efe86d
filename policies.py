"""Policies as files: which hold for a run, and whether they can be relied on.

Must not know what their rules mean. An administrator's file is read wherever the settings point: no setting and no
profile can switch it off, they only add to it.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from caravan.values.errors import CaravanError, StateError, UsageError
from caravan.values.policy import Policies, Policy, PolicyFile
from caravan.values.run import RunRequest
from caravan.values.settings import SettingRow
from config import Settings
from config_files import SYSTEM, toml_of
from profiles import Parse, ProfileFile, checked, find_target, read_profiles

_MOST_LINKS: Final = 40  # as Linux follows


def load_policies(
    request: RunRequest, settings: Settings, profiles: ProfileFile, parse: Parse, *, system: Path = SYSTEM
) -> Policies:
    """All policies in force for a run: the system's, whatever the settings say; CARAVAN_POLICY's beside it; and those
    of every profile of this cluster, the administrator's `caravan.toml` included. Never raises: `trouble` says it.
    """
    found: dict[str, PolicyFile] = {}
    try:
        wanted = list(_wanted(request, settings, profiles, parse, system))
        for path, must in wanted:
            if str(path) not in found and (must or _is_there(path)):
                found[str(path)] = PolicyFile(path=str(path), policy=read_policy(path))
    except CaravanError as error:
        return Policies(files=tuple(found.values()), trouble=error.line())
    return Policies(files=tuple(found.values()))


def _wanted(
    request: RunRequest, settings: Settings, profiles: ProfileFile, parse: Parse, system: Path
) -> Iterator[tuple[Path, bool]]:
    """The files to read, and whether they must be there: one that is named must."""
    yield system / "policy.toml", False
    if settings.policy is not None:
        yield settings.policy.expanduser().absolute(), True
    files = [profiles]
    own = system / "caravan.toml"
    if profiles.path != own and _is_there(own):
        try:
            _rely_on(own, list(_way(own.absolute())))
        except OSError as error:
            raise StateError(f"{own} can't be read ({error.strerror}).") from error
        files.append(read_profiles(own, own))
    for file in files:
        for name, profile in file.content.clusters.items():
            if profile.policy and (name == request.profile or parse(profile.address) == request.cluster):
                yield Path(profile.policy), True


def _is_there(path: Path) -> bool:
    """Whether there is such a file. One that can't be looked at counts as being there: reading it says why not."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def read_policy(path: Path) -> Policy:
    """The policy in a file. Raises StateError for one that can't be read, is broken, or that others may change."""
    try:
        way = list(_way(path.absolute()))
        _rely_on(path, way)
        # What is read is what was looked at: the last step is no link any more.
        handle = os.open(way[-1].path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as stream:  # noqa: PTH123 (a handle)
            looks = os.fstat(handle)
            _rely_on(path, [Step(way[-1].path, looks.st_mode, looks.st_uid)])
            if not stat.S_ISREG(looks.st_mode):
                raise StateError(f"The policy {path} is no file.")
            return checked(Policy, toml_of(stream, path), str(path))
    except OSError as error:
        raise StateError(f"The policy {path} can't be read ({error.strerror}).") from error
    except UsageError as error:
        raise StateError(f"The policy {error.line()}") from error


class Step(NamedTuple):
    """A directory, link or file on the way to a file: its mode and owner."""

    path: Path
    mode: int
    owner: int


def _way(path: Path) -> Iterator[Step]:
    """Every directory and link on the way to an absolute path, from `/` on, and last of all what is there.

    Raises OSError.
    """
    here, rest, links = Path("/"), list(path.parts[1:]), 0
    yield _step(here)
    while rest:
        name = rest.pop(0)
        if name in ("..", "."):
            here = here.parent if name == ".." else here
            continue
        step = _step(here / name)
        yield step
        if not stat.S_ISLNK(step.mode):
            here = step.path
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.path.readlink()
        here = Path("/") if target.is_absolute() else here
        rest = [*(part for part in target.parts if part != "/"), *rest]


def _step(path: Path) -> Step:
    looks = path.lstat()
    return Step(path, looks.st_mode, looks.st_uid)


def _rely_on(path: Path, way: Sequence[Step]) -> None:
    if trouble := untrusted(way, os.geteuid()):
        raise StateError(f"The policy {path} can't be relied on: {trouble}.")


def untrusted(way: Iterable[Step], user: int) -> str:
    """Why what is at the end of a way could be changed by somebody beside root and `user`; empty where it couldn't.

    In a directory with the sticky bit only the owner of an entry can put another in its place: as every entry's owner
    is looked at, others may write there.
    """
    for step in way:
        what = "directory" if stat.S_ISDIR(step.mode) else "link" if stat.S_ISLNK(step.mode) else "file"
        if step.owner not in (0, user):
            return f"its {what} {step.path} belongs to another user (chown root)"
        open_to_others = step.mode & (stat.S_IWGRP | stat.S_IWOTH)
        if what != "link" and open_to_others and not (what == "directory" and step.mode & stat.S_ISVTX):
            return f"its {what} {step.path} can be written by others (chmod go-w)"
    return ""


def policy_rows(settings: Settings, profiles: ProfileFile, parse: Parse, *, system: Path = SYSTEM) -> list[SettingRow]:
    """The policies that would hold for a run on the cluster that is meant by default, and what is wrong with them."""
    target = find_target(None, settings, profiles, parse)
    request = RunRequest(prompt="", source="", cluster=target.address, profile=target.profile)
    found = load_policies(request, settings, profiles, parse, system=system)
    rows = [SettingRow("policy", "", "in force", "file", file.path) for file in found.files]
    trouble = [SettingRow("policy", "", f"nothing is deployed: {found.trouble}", "file")] if found.trouble else []
    return [*rows, *trouble]
