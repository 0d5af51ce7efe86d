"""A run in one text that can travel: packed, unpacked, gathered from the store and the folder, and put into others.

A text that is damaged, too large or of another run is refused before anything of it is stored. What is in a checkpoint
is not known here.
"""

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from pathlib import PurePath
from typing import Final

from pydantic import ValidationError

from caravan.ports import Clock, RunFolder, Store
from caravan.values.errors import StateError, UsageError
from caravan.values.handover import Bundle, Carried
from caravan.values.run import Deployment

LARGEST: Final = 512 << 10
"""Characters of a packed run: it stands in a job, and Nomad keeps those in its servers' memory."""
_UNPACKED: Final = 64 << 20  # bytes
_MOST_EVENTS: Final = 2000  # the newest
_HEAD: Final = "caravan-run-1"
_WIDTH: Final = 76  # characters of a line


def pack(bundle: Bundle) -> str:
    """The bundle as printable ASCII, the same for the same bundle. Raises UsageError for one that is too large."""
    packed = gzip.compress(bundle.canonical().encode("utf-8", "surrogatepass"), mtime=0)
    body = base64.b64encode(packed).decode("ascii")
    lines = [body[i : i + _WIDTH] for i in range(0, len(body), _WIDTH)]
    text = "\n".join((f"{_HEAD} {hashlib.sha256(packed).hexdigest()}", *lines, ""))
    if len(text) > LARGEST:
        raise UsageError(
            f"The run {bundle.record.id} has {len(text) >> 10} KiB when packed: an agent's job can hold "
            f"{LARGEST >> 10} KiB.",
            hint="Use --detach in place of --on-cluster.",
        )
    return text


def unpack(data: bytes) -> Bundle:
    """What `pack` packed. Raises StateError for anything else, however it is damaged."""
    try:
        head, _, body = data[: LARGEST + 1].decode("ascii").strip().partition("\n")
        name, _, digest = head.partition(" ")
        packed = base64.b64decode("".join(body.split()), validate=True)
        if len(data) > LARGEST or name != _HEAD or hashlib.sha256(packed).hexdigest() != digest:
            raise ValueError
        opened = zlib.decompressobj(wbits=31)  # with gzip's header
        text = opened.decompress(packed, _UNPACKED)
        if not opened.eof:
            raise ValueError
        return Bundle.model_validate(json.loads(text.decode("utf-8", "surrogatepass")))
    except (ValueError, binascii.Error, zlib.error, RecursionError, ValidationError) as error:
        raise StateError("The packed run is damaged, or of another version of Caravan.") from error


def gather(store: Store, folder: RunFolder, run_id: str, checkpoint: bytes, carried: Carried) -> Bundle:
    """The run as it stands. `checkpoint` is the driver's."""
    return Bundle(
        record=store.run(run_id),
        deployments=store.deployments(run_id),
        events=store.events(run_id)[-_MOST_EVENTS:],
        checkpoint=base64.b64encode(checkpoint).decode("ascii"),
        papers=folder.papers(),
        folder=str(folder.path),
        carried=carried,
    )


def checkpoint_of(bundle: Bundle) -> bytes:
    """The driver's part. Raises StateError when it is none."""
    try:
        return base64.b64decode(bundle.checkpoint, validate=True)
    except (ValueError, binascii.Error) as error:
        raise StateError("The packed run is damaged.") from error


def put(bundle: Bundle, store: Store, folder: RunFolder, clock: Clock) -> None:
    """Put a run into a store and a folder; repeated it changes nothing. A run that has ended there keeps its end."""
    record = bundle.record
    store.create_run(record)
    folder.save_papers({name: _told_here(name, text, bundle, folder) for name, text in bundle.papers.items()})
    for deployment in bundle.deployments:
        mine = _rehomed(deployment, folder, clock)
        store.intend(mine)
        store.save_deployment(mine)
    for event in bundle.events:
        store.add_event(record.id, event)
    store.update_run(
        record.id,
        status=record.status,
        node=record.node,
        detail=record.detail,
        cost_usd=record.cost_usd,
        spent_since=min((d.registered_at for d in bundle.deployments if d.registered_at), default=None),
    )


def _told_here(name: str, text: str, bundle: Bundle, folder: RunFolder) -> str:
    """The report names files of the run; job files and the plan stay as they are to the letter."""
    if not bundle.folder or name not in ("REPORT.md", "report.html"):
        return text
    there, here = bundle.folder, str(folder.path)
    if name == "report.html":
        from markupsafe import escape  # as the page has it

        return text.replace(str(escape(there)), str(escape(here)))
    return text.replace(there, here)


def _rehomed(deployment: Deployment, folder: RunFolder, clock: Clock) -> Deployment:
    """As this machine knows it: its files are here. The other machine's clock counts from another start, so only the
    time of day is believed of how long nobody watched."""
    watched = deployment.watched
    if watched is not None:
        away = max(0.0, (clock.now() - watched.at).total_seconds())
        watched = watched.model_copy(update={"monotonic": clock.monotonic() - away})
    told = deployment.hcl_path
    path = told and str(folder.path / f"attempt-{deployment.attempt}" / PurePath(told).name)
    return deployment.model_copy(update={"watched": watched, "hcl_path": path})
