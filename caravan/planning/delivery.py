"""How code and data get to a job: what is chosen where nobody says it, how nodes fetch it, what speaks against a way.

Pure: who packs, puts and builds is not known here.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import urlsplit

from caravan.values.amounts import size_text
from caravan.values.base import Json
from caravan.values.delivery import Depot, Parcel
from caravan.values.job import ClusterFacts, ClusterKind
from caravan.values.plan import CodeSource, Mount, PlanChange, TrainingPlan
from caravan.values.repo import RepoProfile

CODE_MOUNT: Final = "/caravan/code"
DATA_MOUNT: Final = "/caravan/data"
"""Where a task sees a volume with its code or data, unless the plan mounts it elsewhere."""
CODE_FILE: Final = "local/code.tar.gz"
DATA_FILE: Final = "local/data.tar"
"""Where a node puts what it downloads. It is unpacked by the script: a node's own unpacking stops at 4096 files."""
DATA_DIR: Final = "${NOMAD_TASK_DIR}/data"
_NAMED: Final = 5
_NEAR: Final = "its remote (origin) is a directory of this machine"
_SCP: Final = re.compile(r"^(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]+):(?P<path>(?!//).+)$")
_LOOPBACK: Final = re.compile(r"://(?:[^/@]*@)?(?:localhost|127(?:\.\d+){3}|0\.0\.0\.0|\[::1?\])(?=[:/]|$)", re.I)
_FETCHED: Final = ("http", "https", "s3", "s3a", "gs", "gcs", "file")


# --- code -----------------------------------------------------------------------------------------------------------


def wishes(changes: Iterable[PlanChange], block: str) -> dict[str, Json]:
    """What a person said of a block: field → value, the last word counting."""
    found: dict[str, Json] = {}
    for change in changes:
        if change.path == block and isinstance(change.value, dict):
            found = dict(change.value)
        elif change.path.startswith(f"{block}."):
            found[change.path.removeprefix(f"{block}.")] = change.value
    return {field: value for field, value in found.items() if value is not None}


def code_kind(wish: dict[str, Json], facts: ClusterFacts, *, unpushed: str, in_image: bool) -> str:
    """The way of delivery: as it was said, else a copy where the cluster sees this machine's files, else the image that
    holds the code, else the commit, else an archive. `unpushed`: why it can't be the commit.
    """
    location = str(wish.get("location") or "")
    if wish.get("kind"):
        return str(wish["kind"])
    if location:
        return _kind_of(location)
    if facts.shared_files:
        return "archive"
    if in_image:
        return "image"
    return "archive" if unpushed else "git"


def _kind_of(location: str) -> str:
    """What a place alone says."""
    bare = urlsplit(location).path if "://" in location else location
    if bare.endswith((".tar.gz", ".tgz")):
        return "archive"
    if location.startswith(("/", "volume:")):
        return "mount"
    return "git"


def at_commit(source: str, profile: RepoProfile) -> CodeSource:
    """The code as the commit that is checked out, from the place where it came from or its remote."""
    git = profile.git
    if git is None:
        return CodeSource(kind="git")
    remote = git.remote_url or (source if _is_remote(source) else "")  # a source may name a ref after its address
    return CodeSource(kind="git", location=git_address(remote), ref=git.commit, subdir=git.prefix)


def _is_remote(text: str) -> bool:
    return "://" in text or (not text.startswith(("/", ".", "~")) and _SCP.match(text) is not None)


def git_address(remote: str) -> str:
    """The remote as every node reads it: `git@host:a/b` is ssh://git@host/a/b, a directory is a file URL.

    Without credentials: no node is handed what a person wrote into the address of a clone.
    """
    scp = None if "://" in remote else _SCP.match(remote)
    if scp:
        user = f"{scp['user']}@" if scp["user"] else ""
        return f"ssh://{user}{scp['host']}/{scp['path'].lstrip('/')}"
    if remote.startswith("/"):
        return f"file://{remote}"
    scheme, separator, rest = remote.partition("://")
    if separator and scheme.lower() not in ("ssh", "sftp"):
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return remote


def not_from_git(source: str, profile: RepoProfile) -> str:
    """Why the nodes can't get the code from a git remote, in half a sentence; empty where they can."""
    git = profile.git
    if git is None:
        return "it is in no git repository with a commit"
    if git.dirty_files:
        names = f"see `git status`: {_listed(git.uncommitted)}" if git.uncommitted else "see `git status`"
        return f"{git.dirty_files} file{' is' if git.dirty_files == 1 else 's are'} not committed ({names})"
    if git.unknown:
        return f"whether all is committed is not known ({git.unknown})"
    if _is_remote(source):
        return ""
    if not git.remote_url:
        return "its git repository has no remote (origin)"
    if not git.pushed:
        unknown = " (its branch follows none there)" if git.pushed is None else ""
        return f"commit {git.commit[:7]} is not on origin{unknown}"
    return _NEAR if not _is_remote(git.remote_url) or git.remote_url.startswith("file:") else ""


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def access_note(code: CodeSource, public: bool | None) -> str:
    """What is to be said of who may read the remote; empty where everybody may. `public`: what it answered."""
    if code.kind != "git" or public or code.location.startswith("file:"):
        return ""
    if code.location.startswith("ssh://"):
        return (
            f"the nodes fetch the code over ssh ({code.location}): their Nomad client needs a key that may read it; "
            "no key is sent from here"
        )
    why = "is private" if public is False else "did not say whether everybody may read it"
    return f"{code.location} {why}: the nodes need credentials of their own for it (git's helper or .netrc)"


def nearby_notes(plan: TrainingPlan, facts: ClusterFacts) -> Iterator[str]:
    """Stores and remotes of a real cluster's job that only a node on this very machine reaches."""
    if facts.kind is not ClusterKind.NOMAD or facts.shared_files:
        return
    places = {"code": plan.code.location, "data": plan.data.location if plan.data else ""}
    if plan.outputs.kind == "url":
        places["outputs"] = plan.outputs.location
    for what, place in places.items():
        if _LOOPBACK.search(place):
            yield f"{place} ({what}) is an address of this machine alone: nodes elsewhere reach themselves by it"


def image_tag(registry: str, source: str, sha256: str, dockerfile: str) -> str:
    """The name and tag of the image built from that code: the same for the same content."""
    name = re.sub(r"[^a-z0-9]+", "-", posixpath.basename(source.rstrip("/")).removesuffix(".git").lower()).strip("-")
    place = re.sub(r"[^a-z0-9]+", "-", dockerfile.lower()).strip("-")
    which = "" if place == "dockerfile" else f"-{place[:40]}"
    return f"{registry.rstrip('/')}/{name or 'training'}:{sha256[:20]}{which}"


def code_in_image(dockerfile: str) -> str | None:
    """Where in the image a Dockerfile's last stage puts all of the code; None where it doesn't, or that is unclear."""
    place, found = "", None
    for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
        word, _, rest = line.strip().partition(" ")
        kind, words = word.upper(), [w for w in rest.split() if not w.startswith("--")]
        if kind == "FROM":
            place, found = "", None
        elif kind == "WORKDIR" and words and "$" not in rest:
            place = posixpath.normpath(posixpath.join(place, words[0].strip("\"'")))
        elif kind in ("COPY", "ADD") and "--from=" not in rest and len(words) == 2 and "$" not in rest:
            source, target = (w.strip("\"',[]") for w in words)
            if source in (".", "./"):
                whole = posixpath.normpath(posixpath.join(place, target))
                found = whole if whole.startswith("/") else None
    return found


# --- stores ---------------------------------------------------------------------------------------------------------


def code_object(sha256: str) -> str:
    """The name under which an archive of code is kept."""
    return f"code-{sha256}.tar.gz"


def data_object(parcel: Parcel) -> str:
    """The name under which data is kept."""
    return f"data-{parcel.sha256}" + (".tar" if parcel.folder else "")


def put_url(depot: Depot, name: str) -> str:
    """Where an object of the store is put."""
    return f"{depot.url.rstrip('/')}/{name}"


def fetch_source(depot: Depot, name: str) -> str:
    """How a node names that object: a source of Nomad's artifacts, or a path in the task; empty where it can't."""
    if depot.fetch:
        return f"{depot.fetch.rstrip('/')}/{name}"
    url = put_url(depot, name)
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return url
    if parts.scheme in ("s3", "s3a"):
        return f"s3::https://s3.amazonaws.com/{parts.netloc}{parts.path}"
    if parts.scheme in ("gs", "gcs"):
        return f"gcs::https://www.googleapis.com/storage/v1/{parts.netloc}{parts.path}"
    return parts.path if parts.scheme == "file" else ""


def store_problem(depot: Depot, what: str) -> str:
    """What speaks against a store, in a sentence; empty for nothing."""
    parts = urlsplit(depot.url)
    if "::" in depot.url or parts.query or parts.fragment or ".." in parts.path.split("/"):
        return f"The {what} store {depot.url} is no plain address: no query, no `..`, no chained protocols."
    if not parts.scheme or (not parts.netloc and parts.scheme != "file" and not depot.volume):
        return f"The {what} store {depot.url} is no URL: say s3://BUCKET/PATH, https://HOST/PATH or file:///SHARE/PATH."
    if parts.scheme not in _FETCHED and not depot.fetch and not depot.volume:
        return (
            f"Nomad's clients can't fetch {parts.scheme}:// addresses: say how they reach {depot.url} (fetch), by "
            f"https, s3::, gcs:: or a path that tasks see, or take another {what} store."
        )
    return ""


# --- what speaks against it -----------------------------------------------------------------------------------------


def code_problems(plan: TrainingPlan, facts: ClusterFacts, unpushed: str, store: Depot | None = None) -> Iterator[str]:
    """Why the job would not get its code."""
    code = plan.code
    if code.kind == "archive" and store is not None and not facts.shared_files and store_problem(store, "code"):
        yield store_problem(store, "code")
    elif code.kind == "archive" and code.location.startswith("/") and not facts.shared_files:
        if store is None:
            yield _unreachable_code(unpushed) if plan.training.type is None else _unsent_code(unpushed)
        elif not _seen_by_task(plan, code.location):
            yield f"The task would not see {code.location}: mount that directory (mounts), or use another code store."
    near = facts.shared_files and unpushed == _NEAR
    if code.kind == "git" and unpushed and not near and _ours(plan):
        mend = f"{_push(unpushed)}, or say code.kind=archive to send it as it is"
        yield f"The code can't come from git, for {unpushed}: {mend}."
    if code.kind != "image" and not code.location:
        yield f"code.location is empty: the job would have no code ({code.kind})."
    if code.kind == "image" and plan.driver != "docker":
        yield f"The code is in an image, but the driver is {plan.driver}: the nearest is driver docker with that image."
    if code.kind == "mount" and code.location.startswith("/") and not facts.shared_files:
        if not _seen_by_task(plan, code.location):
            yield f"No mount shows {code.location} to the task: set code.location=volume:NAME/PATH, or mounts."
    elif code.kind == "mount" and code.location and not code.location.startswith("/"):
        yield f"code.location {code.location} is no path that a task sees: say volume:NAME/PATH or an absolute path."


def _unreachable_code(unpushed: str) -> str:
    return (
        f"The nodes can't see the code on this machine{f', and {unpushed}' if unpushed else ''}: {_push(unpushed)}, "
        "or give a git URL, or name a store that nodes fetch from (CARAVAN_CODE_STORE, or code_store in the cluster's "
        "profile), or a volume that has it (code.location=volume:NAME/PATH), or use an image that holds it "
        "(code.kind=image)."
    )


def _unsent_code(unpushed: str) -> str:
    """The same for code with files that Caravan adds: no remote, volume or image has those."""
    return (
        f"The nodes can't see the code on this machine{f', and {unpushed}' if unpushed else ''}: name a store that "
        "nodes fetch from (CARAVAN_CODE_STORE, or code_store in the cluster's profile)."
    )


def _push(unpushed: str) -> str:
    return "push it to a remote that the nodes reach" if unpushed == _NEAR else "commit and push it"


def _ours(plan: TrainingPlan) -> bool:
    """Whether the place in git is the one that Caravan found: a person's own is their word."""
    return "code.location" not in plan.provenance and "code" not in plan.provenance


def data_problems(plan: TrainingPlan, facts: ClusterFacts, store: Depot | None = None) -> Iterator[str]:
    """Why the training would not get data that lies on this machine."""
    data = plan.data
    if data is None:
        return
    if data.kind is None:
        yield _unreachable_data(plan)
    elif data.kind == "upload":
        if not data.location:
            yield store_problem(store, "data") if store and store_problem(store, "data") else _unreachable_data(plan)
        elif data.location.startswith("/") and not facts.shared_files and not _seen_by_task(plan, data.location):
            yield f"The task would not see {data.location}: mount that directory (mounts), or use another data store."
    elif data.kind == "shared" and not facts.shared_files:
        yield f"{facts.address} does not see this machine's files: data.kind=shared is for the built-in cluster."
    elif data.kind == "volume":
        if not data.destination.startswith("/"):
            yield "Which volume has the data is not said: --set data.location=NAME (and data.destination=/PATH/IN/IT)."
        elif not _seen_by_task(plan, data.destination):
            yield f"No mount shows {data.destination} to the task: set data.location=NAME of the volume, or mounts."
    elif data.kind == "code" and data.local.startswith(("/", "~")):
        yield f"{data.local} is not in the repository: data.kind=code can't be."


def _unreachable_data(plan: TrainingPlan) -> str:
    data = plan.data
    size = f" ({size_text(data.size_bytes)}, {data.files} files)" if data and data.size_bytes is not None else ""
    return (
        f"The data {data.local if data else ''}{size} is on this machine alone: name a volume that has it (--set "
        "data.kind=volume --set data.location=NAME), a store to send it to (CARAVAN_DATA_STORE, or data_store in the "
        "cluster's profile), keep it in the repository without ignoring it, or train on a hub's data set."
    )


def _seen_by_task(plan: TrainingPlan, path: str) -> bool:
    """Whether a mount shows the path to the task, or the task sees the node's own files."""
    return plan.driver == "raw_exec" or covering(plan, path) is not None


def covering(plan: TrainingPlan, path: str) -> Mount | None:
    """The mount under which a path of the task lies."""
    inside = (m for m in plan.mounts if f"{path.rstrip('/')}/".startswith(f"{m.destination.rstrip('/')}/"))
    return max(inside, key=lambda m: len(m.destination), default=None)


def volume_path(text: str, mount: str) -> tuple[str, str]:
    """`volume:NAME/PATH` (or without `volume:`) as the volume's name and the path where a task sees it."""
    name, _, rest = text.removeprefix("volume:").strip("/").partition("/")
    return name, posixpath.join(mount, rest) if rest else mount


def with_volume(plan: TrainingPlan, name: str, mount: str, facts: ClusterFacts) -> tuple[Mount, tuple[Mount, ...]]:
    """The mount of a volume that is read, and the plan's mounts with it."""
    found = next((m for m in plan.mounts if m.source == name and m.kind != "bind"), None)
    if found is not None:
        return found, plan.mounts
    host = any(name in n.host_volumes for n in facts.nodes)
    made = Mount(
        kind="csi" if not host and name in (facts.csi_volumes or ()) else "host", source=name, destination=mount
    )
    return made, (*plan.mounts, made)
