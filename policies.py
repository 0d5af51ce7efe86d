"""Policies as files: which hold for a run, and whether they can be relied on.

Must not know what their rules mean. An administrator's file is read wherever the settings point: no setting and no
profile can switch it off, they only add to it.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from caravan.values.errors import CaravanError, StateError, UsageError
from caravan.values.policy import Policies, Policy, PolicyFile
from caravan.values.run import RunRequest
from config import Settings
from profiles import SYSTEM, Parse, ProfileFile, checked, find_target, read_profiles, read_toml


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
        for place, what in ((path, "file"), (path.parent, "directory")):
            mode = place.stat().st_mode
            sticky = what == "directory" and mode & stat.S_ISVTX
            if mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
                raise StateError(
                    f"The policy {path} can't be relied on: its {what} can be written by others (chmod go-w)."
                )
        return checked(Policy, read_toml(path), str(path))
    except OSError as error:
        raise StateError(f"The policy {path} can't be read ({error.strerror}).") from error
    except UsageError as error:
        raise StateError(f"The policy {error.line()}") from error


def policy_rows(
    settings: Settings, profiles: ProfileFile, parse: Parse, *, system: Path = SYSTEM
) -> list[tuple[str, str, str]]:
    """The policies that would hold for a run on the cluster that is meant by default, and what is wrong with them."""
    target = find_target(None, settings, profiles, parse)
    request = RunRequest(prompt="", source="", cluster=target.address, profile=target.profile)
    found = load_policies(request, settings, profiles, parse, system=system)
    rows = [("policy", "in force", file.path) for file in found.files]
    return [*rows, ("policy", found.trouble, "nothing is deployed")] if found.trouble else rows
