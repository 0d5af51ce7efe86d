"""`serve-model`: a language model served on the cluster as a service job, looked at, and ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import ClusterOption, JsonOption, terminal_of, wiring_of
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from caravan.terminal.wiring import Wiring
    from caravan.values.shape import ModelShape


def serve_model(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Model on the hub; without it the best that fits.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(metavar="N", help="How many GPUs of one node; 0: none, for a program of one's own.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="TYPE", help="Type of GPU, or a part of its name.")] = None,
    gpu_model: Annotated[str | None, typer.Option("--gpu-model", hidden=True)] = None,
    context: Annotated[int | None, typer.Option(metavar="TOKENS", help="Longest prompt and reply together.")] = None,
    quantization: Annotated[str | None, typer.Option(metavar="KIND", help="Weights: bf16, fp16, fp8 or awq.")] = None,
    cluster: ClusterOption = None,
    namespace: Annotated[str | None, typer.Option(help="Nomad namespace.")] = None,
    node_pool: Annotated[str | None, typer.Option(help="Node pool.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set a field (docs/model.md); repeatable.")
    ] = None,
    volume: Annotated[
        str | None, typer.Option(metavar="NAME", help="Host or CSI volume that keeps the weights.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image in place of vLLM's.")] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of job and service.")] = "caravan-model",
    hub_token: Annotated[
        bool, typer.Option("--hub-token", help="Give the job HF_TOKEN of the Nomad variable nomad/jobs.")
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the API key to that file too (mode 0600).")
    ] = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make another API key; the server starts anew.")] = False,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="What a day of it may cost, in place of the limits.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show and prove it; deploy nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask, where a day's cost is within the soft limit.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the server.")] = False,
    forget_key: Annotated[bool, typer.Option("--forget-key", help="With --stop: remove the API key too.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how the server stands, and where it is.")] = False,
    sizes: Annotated[bool, typer.Option("--sizes", help="Show which model fits which GPU; ask no cluster.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Serve Qwen on the cluster: vLLM as a Nomad service job.

    Model, GPUs and context are chosen by what the cluster has, unless they are given. It costs money until it is
    stopped: that is shown and asked for. Deploying the same again changes nothing. Ctrl-C while it starts leaves it
    alone. Exit code 0 when it is healthy, 1 when it does not come up.
    """
    from caravan.planning.serving_plan import Said, read_options
    from caravan.terminal.inputs import check_budget
    from caravan.terminal.serve_place import Place

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    _agree(stop=stop, status=status, dry_run=dry_run, sizes=sizes, forget_key=forget_key, gpus=gpus)
    if sizes:
        from caravan.terminal.serve_view import show_sizes

        show_sizes(terminal, as_json=as_json)
        return 0
    place = Place(wiring, terminal, cluster, namespace, name, as_json=as_json)
    if stop:
        return place.stop(forget_key=forget_key)
    if status:
        return place.status(key_file)
    options = read_options(sets or (), context=context, quantization=quantization, known=wiring.secrets())
    said = Said(
        name=name,
        model=model,
        shape=_shape(wiring, model) if model and gpus != 0 else None,
        gpus=gpus,
        gpu_model=gpu or gpu_model,
        options=options,
        node_pool=node_pool,
        volume=volume,
        image=image,
        hub_token=hub_token,
    )
    return place.serve(said, new_key=new_key, budget=check_budget(budget), dry_run=dry_run, yes=yes, key_file=key_file)


def _agree(*, stop: bool, status: bool, dry_run: bool, sizes: bool, forget_key: bool, gpus: int | None) -> None:
    if stop + status + dry_run + sizes > 1:
        raise UsageError("--stop, --status, --dry-run and --sizes say different things.", hint="Give one of them.")
    if forget_key and not stop:
        raise UsageError("--forget-key goes with --stop.", hint="To get another key: --new-key.")
    if gpus is not None and gpus < 0:
        raise UsageError(f"--gpus {gpus} is no number of GPUs.", hint="Give 1 or more, or 0 for a program of your own.")


def _shape(wiring: Wiring, model: str) -> ModelShape | None:
    """What the hub says of a model that our table does not know."""
    from caravan.planning.model_configs import read_model_config
    from caravan.planning.shapes import listed_shape

    if listed_shape(model) is not None:
        return None
    hub = wiring.hub()
    answer = hub.model(model) if hub is not None else None
    if answer is None or answer.config is None:
        return None
    return read_model_config(answer.config, params=answer.params, source=f"config.json of {model} on the hub")[0]
