"""What of a job's delivery stands in the job itself: artifacts, bind mounts, and the launch script's part. Pure.

What a node downloads it doesn't unpack: its own unpacking stops at 4096 files and makes empty files of links. The
script does.
"""

import posixpath
from typing import Any

from caravan.planning.delivery import CODE_FILE, DATA_DIR, DATA_FILE
from caravan.values.job import ArtifactBlock, ClusterFacts
from caravan.values.plan import CodeSource, DataSource, TrainingPlan


def is_fetched(location: str) -> bool:
    """Whether a node downloads it; else it is a path that the task sees."""
    return "://" in location


def delivery_artifacts(plan: TrainingPlan) -> tuple[ArtifactBlock, ...]:
    """What the client downloads of code and data before the task starts."""
    return (*_code_artifacts(plan.code), *_data_artifacts(plan.data))


def _code_artifacts(code: CodeSource) -> tuple[ArtifactBlock, ...]:
    if code.kind == "git":
        source = code.location if code.location.startswith("git::") else f"git::{code.location}"
        return (ArtifactBlock(source=source, destination="local/code", options={"ref": code.ref} if code.ref else {}),)
    if code.kind == "archive" and is_fetched(code.location):
        return (_file(code.location, CODE_FILE, code.sha256),)
    return ()


def _data_artifacts(data: DataSource | None) -> tuple[ArtifactBlock, ...]:
    if data is None or data.kind != "upload" or not is_fetched(data.location):
        return ()
    place = DATA_FILE if data.folder else f"local/data/{posixpath.basename(data.destination)}"
    return (_file(data.location, place, data.sha256),)


def _file(source: str, destination: str, sha256: str | None) -> ArtifactBlock:
    """One file as it is, checked by its hash."""
    options = {"archive": "false"} | ({"checksum": f"sha256:{sha256}"} if sha256 else {})
    return ArtifactBlock(source=source, destination=destination, mode="file", options=options)


def delivery_binds(plan: TrainingPlan, facts: ClusterFacts) -> list[tuple[str, str, bool]]:
    """(path on the node, path in the container, read-only) on a cluster that shares this machine's files."""
    if not facts.shared_files:
        return []
    code, data = plan.code, plan.data
    seen = [code.location] if code.kind in ("archive", "mount") and code.location.startswith("/") else []
    seen += [data.location] if data is not None and data.kind == "shared" and data.location else []
    return [(path, path, True) for path in seen if not any(m.destination == path for m in plan.mounts)]


def delivery_words(plan: TrainingPlan) -> dict[str, Any]:
    """What the launch script's part of code and data is rendered with."""
    code, data = plan.code, plan.data
    return {
        "code_kind": code.kind,
        "code_dir": code.location if code.kind in ("image", "mount") else "",
        "subdir": code.subdir,
        "archive": _fetched(CODE_FILE) if is_fetched(code.location) else code.location,
        "sha256": code.sha256,
        "data": _data_words(data) if data is not None and data.kind in ("volume", "upload", "shared") else None,
    }


def _fetched(destination: str) -> str:
    return f"${{NOMAD_TASK_DIR}}/{posixpath.basename(destination)}"


def _data_words(data: DataSource) -> dict[str, Any]:
    """`tar`: what is unpacked first; `file`: what is checked where it lies; `place`: where the training finds it."""
    near = data.kind == "upload" and not is_fetched(data.location)
    tar = (data.location if near else _fetched(DATA_FILE)) if data.kind == "upload" and data.folder else ""
    return {
        "tar": tar,
        "file": data.location if near and not data.folder else "",
        "sha256": data.sha256 if near else None,  # what a client downloads it has checked
        "dir": DATA_DIR,
        "place": data.destination,
        "link": data.link,
    }
