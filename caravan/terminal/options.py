"""Options and arguments that several commands share, and what typer's context carries for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run id, or the beginning of one.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Once the job is deployed, go on in the background: watch, repair, report.")
]
OnClusterOption = Annotated[
    bool,
    typer.Option("--on-cluster", help="Once the job is deployed, go on as a job of the cluster: without this machine."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="local|URL|PROFILE",
        help="The cluster; else NOMAD_ADDR, default_cluster, the built-in.",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
SetsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the plan; repeatable.")
]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", metavar="NAME", help="Train with a script that Caravan brings, of this type (see `types`)."),
]
AnswersOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="Answers as YAML or JSON: question id or plan field to value.")
]

TERMINAL = "caravan.terminal"
"""Key of the Terminal in typer's `Context.meta`."""


def wiring_of(ctx: typer.Context) -> Wiring:
    """What `main.py` wired."""
    return cast("Wiring", ctx.obj)


def terminal_of(ctx: typer.Context) -> Terminal:
    """The streams of this command."""
    return cast("Terminal", ctx.meta[TERMINAL])


def without_settings(arguments: list[str]) -> tuple[Path | None, tuple[str, ...], list[str]]:
    """What `--config` and each `--setting` say, wherever they stand on the command line, and the words without them.

    One without its value stays among the words: the command refuses it.
    """
    config, flags, rest = None, [], []
    n = 0
    while n < len(arguments) and arguments[n] != "--":
        name, equals, value = arguments[n].partition("=")
        if name not in ("--config", "--setting") or not (equals or n + 1 < len(arguments)):
            rest.append(arguments[n])
            n += 1
            continue
        value = value if equals else arguments[n + 1]
        n += 1 if equals else 2
        if name == "--config":
            config = Path(value)
        else:
            flags.append(value)
    return config, tuple(flags), rest + arguments[n:]
