"""What the commands of `models` share: a model by its ref or its run, and the place where its files lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from caravan.values.errors import JobNotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from caravan.ports import ModelRegistry
    from caravan.runs.model_files import Address
    from caravan.runs.origins import Place
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.registry import ModelVersion
    from caravan.values.run import RunRecord, RunRequest

RefArgument = Annotated[
    str,
    typer.Argument(
        metavar="REF", help="A model: NAME (its newest version), NAME@3, NAME@production, or a run.", show_default=False
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="DIR|URL", help="Where its files are by now, in place of where they were registered."
    ),
]
ThroughJobOption = Annotated[
    bool, typer.Option("--through-job", help="Read a volume by a small job that copies the run's outputs.")
]
JobYesOption = Annotated[bool, typer.Option("--yes", help="Deploy that job without asking.")]
ClusterOption = Annotated[
    str | None,
    typer.Option(metavar="local|URL|PROFILE", help="The cluster that has its files, where its run was deleted here."),
]
HOW: Final = (
    "A run whose model passes its gate registers it at its end; `main.py models register RUN` registers one by hand."
)


def find(wiring: Wiring, ref: str) -> ModelVersion:
    """The model that the ref names, or that the run of that id brought forth. Raises UsageError."""
    registry = wiring.models()
    try:
        return registry.model(ref)
    except UsageError as unknown:
        found = _of_run(wiring, registry, ref)
        if found is not None:
            return found
        if not registry.models(limit=1):
            raise UsageError("No model is registered yet.", hint=HOW) from unknown
        raise


def _of_run(wiring: Wiring, registry: ModelRegistry, ref: str) -> ModelVersion | None:
    """The model of a run; None where no run is called so. Raises UsageError for several, or one without a model."""
    if "@" in ref:
        return None
    found = registry.of_run(ref)  # the model outlives its run
    if found is not None:
        return found
    try:
        record = wiring.store().run(ref)
    except UsageError:
        if sum(r.id.startswith(ref) for r in wiring.store().runs(limit=_ALL)) > 1:
            raise
        return None
    found = registry.of_run(record.id)
    if found is None:
        raise UsageError(
            f"Run {record.id} has registered no model: it {_status(record)}.",
            hint=f"`main.py models register {record.id} --why TEXT` registers it by hand.",
        )
    return found


_ALL: Final = 10_000


def _status(record: RunRecord) -> str:
    return f"is {record.status.value}"


def run_of(wiring: Wiring, model: ModelVersion) -> RunRecord | None:
    """The run that brought it forth; None where it was deleted here."""
    try:
        found = wiring.store().run(model.run_id)
    except UsageError:
        return None
    return found if found.id == model.run_id else None


class Found(NamedTuple):
    """Where a model's files are read. `afterwards` removes what was made for it."""

    place: Place
    afterwards: Callable[[], None] | None = None


class Ways(NamedTuple):
    """What the command line says of how the files are reached."""

    elsewhere: str | None = None
    through_job: bool = False
    yes: bool = False
    cluster: str | None = None


def place_of(wiring: Wiring, terminal: Terminal, model: ModelVersion, ways: Ways) -> Found:
    """Where the model's files are read from.

    Raises UsageError where they can't be read from here, JobNotFound where the cluster has them no more.
    """
    from caravan.runs.model_files import place_here, read_address

    given = ways.elsewhere
    address = read_address(given if given is not None else model.files.address)
    if given is not None and "://" not in given:
        address = address._replace(kind="path", path=str(Path(given).expanduser().absolute()))
    record = run_of(wiring, model)
    if address.kind == "allocation":
        return Found(_allocation(wiring, model, address, record, ways))
    if address.kind == "volume":
        return _volume(wiring, terminal, model, address, record, ways)
    if address.kind == "path" and not Path(address.path).is_dir():
        gone = given is None and Path(address.path).is_relative_to(wiring.folder(model.run_id).path)
        raise UsageError(_nowhere(wiring, model, address, record, given), hint=_GONE if gone else _ELSEWHERE)
    return Found(place_here(address, model, inside=wiring.folder(model.run_id).path))


_GONE: Final = (
    "If they were pulled or exported before, name that folder or URL with --from: every checksum is compared."
)
_ELSEWHERE: Final = "Copy them, and name the folder or URL with --from: every checksum is compared."


def _nowhere(wiring: Wiring, model: ModelVersion, address: Address, record: RunRecord | None, given: str | None) -> str:
    if given is not None:
        return f"{address.path} is no folder."
    own = wiring.folder(model.run_id).path
    if Path(address.path).is_relative_to(own):
        return f"The files of {model.ref} were in {address.path}, the folder of its run, and are gone with it."
    node = _node(wiring, record)
    on = f"on {node} in" if node else "in"
    return f"The files of {model.ref} are {on} {address.path}, which is not on this machine."


def _node(wiring: Wiring, record: RunRecord | None) -> str:
    from caravan.terminal.lookup import placed_attempts

    placed = placed_attempts(wiring, record.id) if record is not None else {}
    return placed[max(placed)][1] if placed else ""


def _request(wiring: Wiring, model: ModelVersion, record: RunRecord | None, ways: Ways) -> RunRequest:
    from caravan.values.run import RunRequest

    if ways.cluster is None and record is not None:
        return record.request
    if ways.cluster is None:
        raise UsageError(
            f"The run {model.run_id} of {model.ref} was deleted here, so its cluster is not known.",
            hint="Name it with --cluster.",
        )
    target = wiring.target(ways.cluster)
    return RunRequest(prompt="", source="", cluster=target.address, namespace=target.namespace, profile=target.profile)


def _allocation(wiring: Wiring, model: ModelVersion, address: Address, record: RunRecord | None, ways: Ways) -> Place:
    from caravan.runs.origins import AllocationOrigin

    origin = AllocationOrigin(wiring.cluster(_request(wiring, model, record, ways)), address.name, address.path)
    if not origin.exists():
        raise JobNotFound(
            f"The files of {model.ref} were in the allocation {address.name[:8]}, which the cluster has collected: "
            "they are gone there.",
            hint="If they were pulled before, name that folder with --from. "
            "A volume or a URL keeps them next time (outputs).",
        )
    return origin


def _volume(
    wiring: Wiring, terminal: Terminal, model: ModelVersion, address: Address, record: RunRecord | None, ways: Ways
) -> Found:
    """Files in a volume, by a job that copies the run's outputs into its allocation."""
    from caravan.runs.origins import AllocationOrigin
    from caravan.terminal.lookup import look_up, placed_attempts
    from caravan.terminal.volumes import ferried

    where = f"in {address.path} of the volume {address.name}"
    if not ways.through_job:
        node = _node(wiring, record)
        raise UsageError(
            f"The files of {model.ref} are {where}{f' (written on {node})' if node else ''}, and the cluster's API "
            "reads no volumes.",
            hint=f"`main.py models pull {model.ref} --through-job` copies them by a small job. {_ELSEWHERE}",
        )
    state = look_up(wiring, record).state if record is not None else None
    placed = placed_attempts(wiring, record.id) if record is not None else {}
    run, _, below = address.path.partition("/")
    if record is None or state is None or state.plan is None or not placed or run != record.id:
        raise UsageError(
            f"The files of {model.ref} are {where}, and the run whose job would copy them is not known here any more.",
            hint=_ELSEWHERE,
        )
    alloc_id, node = placed[max(placed)]
    copied = ferried(wiring, terminal, record, state.plan, node, alloc_id, yes=ways.yes)
    root = f"{copied.root}/{below}".rstrip("/")
    return Found(AllocationOrigin(copied.cluster, copied.alloc_id, root), copied.afterwards)
