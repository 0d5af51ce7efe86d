"""The main job: a repository and a sentence become a finished training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.inputs import make_request
from caravan.terminal.options import (
    AnswersOption,
    ClusterOption,
    DetachOption,
    JsonOption,
    OnClusterOption,
    SetsOption,
    TypeOption,
    terminal_of,
    wiring_of,
)
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from caravan.terminal.streams import Terminal


def train(
    ctx: typer.Context,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What to train, in a sentence.")] = None,
    codebase_path: Annotated[
        str | None,
        typer.Option(
            metavar="PATH_OR_URL",
            help="The training repository: a directory, an archive (zip, tar), or a git URL, URL@REF for a branch, tag"
            " or commit. It is never changed.",
        ),
    ] = None,
    kind: TypeOption = None,
    answers: AnswersOption = None,
    sets: SetsOption = None,
    plan: Annotated[
        str | None, typer.Option(metavar="FILE", help="Run a plan file, as `plan --output` writes it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take defaults, approve within the soft limit.")] = False,
    budget: Annotated[float | None, typer.Option(metavar="USD", help="What the whole run may cost.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan and check the job, deploy nothing.")] = False,
    send_secrets: Annotated[
        bool,
        typer.Option("--send-secrets", help="Write secrets that the job needs to the cluster, from this environment."),
    ] = False,
    cluster: ClusterOption = None,
    config: Annotated[  # noqa: ARG001  (`main.py` reads it, wherever it stands)
        str | None,
        typer.Option(metavar="FILE", help="Settings and cluster profiles, in place of all other files; any command."),
    ] = None,
    setting: Annotated[  # noqa: ARG001  (likewise)
        list[str] | None,
        typer.Option("--setting", metavar="SETTING=VALUE", help="A setting, for this command alone; any command."),
    ] = None,
    smoke: Annotated[
        bool | None,
        typer.Option(
            "--smoke/--no-smoke", help="Measure some steps before the rest of a job begins; else where it costs money."
        ),
    ] = None,
    detach: DetachOption = False,
    on_cluster: OnClusterOption = False,
    as_json: JsonOption = False,
    version: Annotated[bool, typer.Option("--version", help="Show Caravan's version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # noqa: ARG001  (`run` reads it)
) -> int:
    """Bring the fine-tune of a repository to its end on a Nomad cluster.

    Without a command the main job runs: read the repository, ask, plan, estimate, deploy, watch, repair, report.

    Exit codes: 0 done, 1 failed for good, 2 wrong use, 3 a person is needed, 4 cluster, 5 other service,
    130 interrupted.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx)
        return 0
    if version:
        return _say_version(terminal_of(ctx), as_json=as_json)
    from caravan.terminal.detach import Goes, where_to

    goes = where_to(detach=detach, on_cluster=on_cluster)
    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    request = make_request(
        wiring,
        prompt=prompt,
        source=codebase_path,
        cluster=cluster,
        answers=answers,
        sets=(*([] if smoke is None else [f"smoke.on={str(smoke).lower()}"]), *(sets or ())),
        budget=budget,
        yes=yes,
        dry_run=dry_run,
        send_secrets=send_secrets,
        plan=plan,
        kind=kind,
    )
    if prompt is not None and request.prompt != prompt.strip():
        terminal.err("The prompt held what is or looks like a secret: it is masked in all that is kept of it.")
    from caravan.agent.beginning import new_run
    from caravan.terminal.driving import Driving, drive_run

    if goes is Goes.CLUSTER and not dry_run:
        from caravan.terminal.oncluster import check_place

        check_place(wiring, request)
    record = new_run(request, wiring.clock.now(), wiring.user)
    wiring.store().create_run(record)
    terminal.run_id = record.id
    return drive_run(wiring, terminal, record, as_json=as_json, how=Driving(goes=goes))


def _say_version(terminal: Terminal, *, as_json: bool) -> int:
    from caravan import __version__

    if as_json:
        terminal.document({"version": __version__})
    else:
        terminal.out(f"caravan {__version__}")
    return 0


def _refuse_options(ctx: typer.Context) -> None:
    """Options of the main job before a command would do nothing: say so."""
    given = [name for name in ctx.params if name != "debug" and _is_given(ctx, name)]
    if given:
        flag = {"sets": "--set", "as_json": "--json", "kind": "--type"}.get(given[0], f"--{given[0].replace('_', '-')}")
        raise UsageError(
            f"{flag} stands before the command {ctx.invoked_subcommand!r}.", hint="Put the command's options after it."
        )


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
