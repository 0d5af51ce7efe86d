"""Where a training's outputs go: what a person may say, what a cluster offers, and what would lose them.

Pure: it asks no store and no cluster. Which packages a URL needs in the job is a small table here.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import SplitResult, urlsplit

from caravan.planning.cluster_fit import in_target, with_driver
from caravan.planning.command import OUTPUTS_IN_ALLOCATION, VOLUME_MOUNT, sink_dir
from caravan.values.delivery import holds_credentials
from caravan.values.errors import UsageError
from caravan.values.job import ClusterFacts, ClusterKind, NodeFacts
from caravan.values.plan import STANDING, Author, Mount, OutputSink, PlanChange, TrainingPlan, apply_changes

PACKAGES: Final[dict[str, tuple[str, ...]]] = {
    "file": (),
    "s3": ("s3fs",),
    "s3a": ("s3fs",),
    "gs": ("gcsfs",),
    "gcs": ("gcsfs",),
    "az": ("adlfs",),
    "abfs": ("adlfs",),
    "abfss": ("adlfs",),
    "oci": ("ocifs",),
    "oss": ("ossfs",),
    "hf": ("huggingface_hub",),
    "sftp": ("paramiko",),
    "ssh": ("paramiko",),
    "smb": ("smbprotocol",),
    "webdav": ("webdav4[fsspec]",),
    "webhdfs": ("requests",),
    "hdfs": ("pyarrow",),
}
"""Protocol of a URL → the packages that fsspec needs for it beside itself."""

URL_CHOICE: Final = "url"
"""The choice that stands for every URL: the answer is the URL itself."""

FSSPEC: Final = "fsspec>=2023.1.0"
_SAY: Final = "Say volume:NAME, a URL like s3://bucket/runs, path:/DIRECTORY or allocation."
_CREDENTIALS: Final = "The outputs' place holds credentials: they reach the job as secrets, by name (`secrets`)."
_SHOWN: Final = 3  # nodes in a message
_PLAIN: Final = re.compile(r"[!-~]+\Z")  # printable ASCII: such an address means the same to every program


def read_sink(text: str) -> OutputSink:
    """What a person wrote for the outputs' place. Raises UsageError for what is no place.

    A volume is kept by its name until `settled` finds it on the cluster.
    """
    text = text.strip()
    kind, _, place = text.partition(":")
    if text == "allocation":
        return OutputSink(kind="allocation", location=OUTPUTS_IN_ALLOCATION)
    if kind == "volume" and place:
        return OutputSink(kind="volume", location=place)
    url = place if kind == "url" else text
    if "://" in url:
        problem = url_problem(url)
        if problem:
            raise UsageError(problem, hint=_SAY)
        return OutputSink(kind="url", location=url.rstrip("/") if urlsplit(url).path.strip("/") else url)
    if kind == "url":
        raise UsageError(f"{text!r} names no URL for the outputs.", hint="Say the URL itself, like s3://bucket/runs.")
    path = place if kind == "path" else text
    if not path.startswith("/"):
        raise UsageError(f"{text!r} is no place for outputs.", hint=_SAY)
    if holds_credentials(path):
        raise UsageError(_CREDENTIALS, hint=_SAY)
    return OutputSink(kind="path", location=path)


def url_problem(url: str) -> str:
    """What speaks against a URL as the outputs' place, in a sentence; empty for nothing. It repeats no credential."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "The outputs' URL can't be read."
    if parts.password is not None or "@" in (parts.username or ""):
        return "The outputs' URL holds a password: credentials reach the job as secrets, by name (`secrets`)."
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "The outputs' URL has a query or a fragment: keys and signatures reach the job as secrets, by name."
    if holds_credentials(url):
        return _CREDENTIALS
    if "://" not in url:
        return "The outputs' place names no URL: give one, --set outputs=s3://BUCKET/runs."
    if parts.scheme not in PACKAGES:
        known = ", ".join(PACKAGES)
        return f"{parts.scheme or 'That'} is no protocol that outputs can be copied by; they are {known}."
    if not _PLAIN.match(url) or "::" in url or any(part in (".", "..") for part in parts.path.split("/")):
        return f"{url!r} is no plain address: no blanks, no `..`, no chained protocols."
    return _nowhere(parts)


def _nowhere(parts: SplitResult) -> str:
    if parts.scheme == "file":
        return (
            "" if not parts.netloc and parts.path.strip("/") else "A file URL has three slashes: file:///shared/runs."
        )
    return "" if parts.netloc else f"The outputs' URL names no bucket or host after {parts.scheme}://."


def packages_for(url: str) -> tuple[str, ...]:
    """The requirement lines of the small environment that copies to the URL."""
    return (FSSPEC, *PACKAGES.get(url.partition("://")[0], ()))


def goes_with_job(plan: TrainingPlan) -> bool:
    """Whether what the training writes beside its code goes with the job: the code is the job's own copy."""
    return plan.code.kind != "mount"


def writable_volumes(nodes: Iterable[NodeFacts], facts: ClusterFacts) -> tuple[str, ...]:
    """Names of the host volumes that one of the nodes has writable, then ids of the cluster's CSI volumes."""
    host = sorted({name for n in nodes for name, v in n.host_volumes.items() if not v.read_only})
    return (*host, *sorted(set(facts.csi_volumes or ()) - set(host)))


def settled(plan: TrainingPlan, facts: ClusterFacts) -> TrainingPlan:
    """The plan with the outputs' volume, where it is only named, among its mounts, and its mount as the place."""
    name = plan.outputs.location
    if plan.outputs.kind != "volume" or not name or name.startswith("/"):
        return plan
    by, why = plan.set_by("outputs.location"), f"the volume {name} takes the outputs"
    if by not in STANDING and plan.set_by("mounts") in STANDING:
        by = plan.set_by("mounts")  # else the mount would be left out
    found = next((m for m in plan.mounts if m.source == name and m.kind != "bind" and not m.read_only), None)
    mounts: list[PlanChange] = []
    if found is None:
        host = any(name in n.host_volumes for n in facts.nodes)
        kind = "csi" if not host and name in (facts.csi_volumes or ()) else "host"
        found = Mount(kind=kind, source=name, destination=_free_place(plan), read_only=False)
        value = [m.model_dump(mode="json") for m in (*plan.mounts, found)]
        mounts.append(PlanChange(path="mounts", value=value, by=by, why=why))
    place = PlanChange(path="outputs.location", value=found.destination, by=by, why=why)
    return apply_changes(plan, [*mounts, place])


def _free_place(plan: TrainingPlan) -> str:
    taken, number = {m.destination for m in plan.mounts}, 2
    place = VOLUME_MOUNT
    while place in taken:
        place, number = f"{VOLUME_MOUNT}-{number}", number + 1
    return place


def vanishing(plan: TrainingPlan, facts: ClusterFacts) -> tuple[str, ...]:
    """Why what the training writes would not outlive its job; empty where it would, and on the built-in cluster."""
    if facts.kind is not ClusterKind.NOMAD:
        return ()
    if plan.outputs.kind == "allocation":
        asked = ", as was asked for," if plan.set_by("outputs.kind") is Author.USER else ""
        text = f"the outputs stay in the job's allocation{asked} and vanish when the cluster collects its garbage"
        keep = "to keep them start again with --set outputs=volume:NAME or --set outputs=s3://BUCKET/runs"
        return (f"{text}: {keep}",)
    own = plan.training.output_dir
    if own is None or plan.outputs.kind == "url":
        return ()
    place = sink_dir(settled(plan, facts).outputs)
    if own == place or own.startswith(f"{place}/") or _cover(plan, own) is not None:
        return ()
    if own.startswith("/") and plan.driver == "raw_exec":
        return ()
    return (f"training.output_dir = {own} is not in {place}: what is written there vanishes with the job",)


def output_problems(plan: TrainingPlan, facts: ClusterFacts) -> tuple[str, ...]:
    """What makes the outputs' place impossible on this cluster, in words."""
    sink = plan.outputs
    if sink.kind == "volume":
        return tuple(_volume_problems(settled(plan, facts), facts))
    if sink.kind == "url":
        problem = url_problem(sink.location)
        if problem:
            return (problem,)
        return tuple(_path_problems(plan, facts)) if sink.location.startswith("file:") else ()
    return tuple(_path_problems(plan, facts)) if sink.kind == "path" else ()


def _path_problems(plan: TrainingPlan, facts: ClusterFacts) -> Iterator[str]:
    path = plan.outputs.location.removeprefix("file://")
    if not path.startswith("/"):
        yield f"The outputs' place {path!r} is no absolute path."
    elif facts.kind is ClusterKind.NOMAD and not facts.shared_files and plan.driver != "raw_exec":
        mount = _cover(plan, path)
        if mount is None:
            yield (
                f"{path} is inside the task and vanishes with it, for no writable mount covers it: name a volume "
                "(outputs=volume:NAME), a URL, or mount the directory (mounts)."
            )


def _cover(plan: TrainingPlan, path: str) -> Mount | None:
    """The writable mount under which a path of the task lies."""
    inside = (m for m in plan.mounts if f"{path.rstrip('/')}/".startswith(f"{m.destination.rstrip('/')}/"))
    deepest = max(inside, key=lambda m: len(m.destination), default=None)
    return None if deepest is None or deepest.read_only else deepest


def _volume_problems(plan: TrainingPlan, facts: ClusterFacts) -> Iterator[str]:
    mount = next((m for m in plan.mounts if m.destination.rstrip("/") == plan.outputs.location.rstrip("/")), None)
    if mount is None:
        known = ", ".join(writable_volumes(facts.usable_nodes(), facts)) or "none"
        yield f"No mount is at {plan.outputs.location!r}, where the outputs go; volumes that can be written: {known}."
    elif mount.read_only:
        yield f"The volume {mount.source} is mounted read-only, and the outputs go there: set its read_only to false."
    elif mount.kind == "csi" and facts.csi_volumes is not None and mount.source not in facts.csi_volumes:
        known = ", ".join(facts.csi_volumes) or "none"
        yield f"The cluster has no CSI volume {mount.source}; it has {known}."
    elif mount.kind == "host":
        nodes = with_driver(in_target(plan, facts), plan.driver)
        having = [n for n in nodes if mount.source in n.host_volumes]
        if having and all(n.host_volumes[mount.source].read_only for n in having):
            known = ", ".join(writable_volumes(nodes, facts)) or "none"
            where = ", ".join(n.name for n in having[:_SHOWN]) + (", …" if len(having) > _SHOWN else "")
            yield f"The host volume {mount.source} is read-only on {where}; volumes that can be written: {known}."
