"""`secrets list`, `put` and `remove`: what the jobs of a cluster get as secrets, whichever cluster it is.

A value is read from the keyboard without being shown, or from stdin; it goes to the cluster in one request and nowhere
else: it is no argument, stands in no output and is never read back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from caravan.terminal.options import ClusterOption, JsonOption, YesOption, terminal_of, wiring_of
from caravan.terminal.text import one_line
from caravan.values.errors import NeedsPerson, UsageError

if TYPE_CHECKING:
    from caravan.ports import Cluster
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MOST: Final = 32 * 1024
"""Characters of a value. A Nomad variable holds 64 KiB in all."""

PathOption = Annotated[
    str, typer.Option("--path", metavar="PATH", help="The Nomad variable; the default is for every job of a namespace.")
]
NamespaceOption = Annotated[str | None, typer.Option(help="Nomad namespace.")]
_JOBS: Final = "nomad/jobs"


class _Place(NamedTuple):
    cluster: Cluster
    address: str
    namespace: str
    path: str

    @property
    def text(self) -> str:
        cluster = "the built-in cluster" if self.address == "local" else self.address
        return one_line(f"{self.path} of the namespace {self.namespace} on {cluster}")


def list_secrets(
    ctx: typer.Context,
    path: PathOption = _JOBS,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the names of the secrets that jobs of a cluster get; never a value."""
    terminal, place = terminal_of(ctx), _place(wiring_of(ctx), path, cluster, namespace)
    names = sorted(place.cluster.variable_names(place.path, place.namespace) or ())
    if as_json:
        terminal.document({"path": place.path, "namespace": place.namespace, "names": names})
        return
    for name in names:
        terminal.out(one_line(name))
    if not names:
        terminal.out(f"There are none in {place.text}. `main.py secrets put NAME` writes one.")


def put(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Environment variable of the job, as HF_TOKEN.")],
    path: PathOption = _JOBS,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the jobs of a cluster a secret: its value is typed unseen, or read from stdin."""
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    if not _NAME.fullmatch(name):
        hint = "Give the name alone, as HF_TOKEN; the value is asked for."
        raise UsageError("That is no name of an environment variable.", hint=hint)
    value = _value(terminal, name)
    place = _place(wiring, path, cluster, namespace)
    place.cluster.write_variable(place.path, {name: value}, place.namespace)
    if as_json:
        terminal.document({"path": place.path, "namespace": place.namespace, "written": name})
    else:
        terminal.out(f"Wrote {name} to {place.text}. A job gets it where its plan names it among `secrets`.")


def remove(
    ctx: typer.Context,
    path: PathOption = _JOBS,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove all secrets of a Nomad variable from a cluster."""
    from caravan.terminal.dialogue import confirm

    terminal, place = terminal_of(ctx), _place(wiring_of(ctx), path, cluster, namespace)
    names = sorted(place.cluster.variable_names(place.path, place.namespace) or ())
    shown = one_line(", ".join(names))
    if names and not yes:
        if not terminal.interactive:
            raise NeedsPerson(f"This removes {shown} from {place.text}.", hint="Allow it with --yes.")
        if not confirm(terminal, f"Remove {shown} from {place.text}?"):
            raise NeedsPerson("Nothing was removed.")
    if names:
        place.cluster.remove_variable(place.path, place.namespace)
    if as_json:
        terminal.document({"path": place.path, "namespace": place.namespace, "removed": names})
    else:
        terminal.out(f"Removed {shown} from {place.text}." if names else f"There are none in {place.text}.")


def _place(wiring: Wiring, path: str, cluster: str | None, namespace: str | None) -> _Place:
    from caravan.values.run import RunRequest

    target = wiring.target(cluster)
    where = namespace or target.namespace
    request = RunRequest(prompt="", source="", cluster=target.address, namespace=where, profile=target.profile)
    return _Place(wiring.cluster(request), target.address, where, path.strip("/"))


def _value(terminal: Terminal, name: str) -> str:
    """The value, without the line break at its end. Raises UsageError for none, and for one that no job could get."""
    try:
        text = terminal.read_hidden(f"{name}: ") if terminal.interactive else terminal.stdin.read(_MOST + 2)
    except EOFError:
        text = ""
    value = text.removesuffix("\n").removesuffix("\r")
    if not value.strip():
        raise UsageError(
            f"No value for {name} was given.", hint=f"Type it, or pipe it in: `… | main.py secrets put {name}`."
        )
    if len(value) > _MOST or any(ord(c) < 32 and c not in "\n\t" for c in value):
        raise UsageError(f"The value of {name} is too long or holds control characters, which no job can get.")
    return value
