"""`estimate`: GPU memory, time and cost of a training, from a few words, a repository, a plan file, or many rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caravan.terminal.options import AnswersOption, JsonOption, terminal_of, wiring_of
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from caravan.terminal.estimate_sheet import Typed
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json


def estimate(
    ctx: typer.Context,
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="Path or git URL of a repository.", show_default=False)
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="With PATH: what to train, in a sentence.")] = None,
    plan: Annotated[str | None, typer.Option(metavar="FILE", help="A plan file, as `plan --output` writes it.")] = None,
    jsonl: Annotated[
        str | None, typer.Option(metavar="FILE", help="Many trainings: a JSON line for each in, one for each out.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Hub id or name of the model.")] = None,
    params: Annotated[float | None, typer.Option(metavar="B", help="Its parameters in billions.")] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="full, lora, qlora, dora or freeze.")] = None,
    seq_len: Annotated[int | None, typer.Option(metavar="N", help="Tokens of a sequence.")] = None,
    micro_batch: Annotated[int | None, typer.Option(metavar="N", help="Samples of one GPU at a time.")] = None,
    grad_accum: Annotated[int | None, typer.Option(metavar="N", help="Micro batches in an update.")] = None,
    optimizer: Annotated[str | None, typer.Option(metavar="NAME", help="adamw, adamw8bit, adafactor, sgd, …")] = None,
    precision: Annotated[str | None, typer.Option(metavar="TYPE", help="bf16, fp16 or fp32.")] = None,
    quant_bits: Annotated[int | None, typer.Option(metavar="4|8", help="Bits of the frozen base model.")] = None,
    lora_rank: Annotated[int | None, typer.Option(metavar="N", help="Rank of the adapters.")] = None,
    lora_targets: Annotated[str | None, typer.Option(metavar="A,B", help="Where they are: q,v or all.")] = None,
    checkpointing: Annotated[
        bool | None, typer.Option("--checkpointing/--no-checkpointing", help="Activations are computed again.")
    ] = None,
    flash: Annotated[
        bool | None, typer.Option("--flash/--eager", help="Blockwise attention, or the plain one.")
    ] = None,
    parallel: Annotated[
        str | None, typer.Option(metavar="KIND", help="ddp, zero1, zero2, zero3 or fsdp, over --gpus.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", help="GPUs that train together.")] = None,
    gpu: Annotated[str | None, typer.Option(metavar="TYPE", help="GPU type: A100-80GB, L4, 'RTX 4090'.")] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(metavar="GIB", help="Memory of a GPU that the catalogue doesn't know.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(metavar="USD", help="Price of a GPU hour, instead of a list's.")
    ] = None,
    rows: Annotated[int | None, typer.Option(metavar="N", help="Examples of the data: then time and cost.")] = None,
    epochs: Annotated[float | None, typer.Option(metavar="N", help="Passes over them.")] = None,
    max_steps: Annotated[int | None, typer.Option(metavar="N", help="Updates in all, instead of --epochs.")] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field; with PATH or --plan one of the plan."),
    ] = None,
    answers: AnswersOption = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="local|URL|PROFILE", help="Its GPU types, instead of the catalogue's.")
    ] = None,
    inventory: Annotated[Path | None, typer.Option(metavar="FILE", help="Those of an inventory file.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Say what a training needs: GPU memory line by line, GPUs that hold it, time and cost.

    Of a description (--model …), of a repository (PATH --prompt), of a plan file, or of many rows. Nothing is
    deployed, and no cluster is needed.
    """
    from caravan.terminal.estimate_sheet import Typed

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    described: dict[str, Json] = {
        "model": model,
        "params_b": params,
        "method": method,
        "seq_len": seq_len,
        "micro_batch": micro_batch,
        "grad_accum": grad_accum,
        "optimizer": optimizer,
        "compute_dtype": precision,
        "quant_bits": quant_bits,
        "lora_rank": lora_rank,
        "lora_targets": lora_targets,
        "grad_checkpointing": checkpointing,
        "flash_attention": flash,
        "parallel": parallel,
        "gpus": gpus,
    }
    about = {name: value for name, value in described.items() if value is not None}
    if cluster is not None and inventory is not None:
        raise UsageError("--cluster and --inventory both name nodes.", hint="Give one of them.")
    typed = Typed(
        fields=about,
        sets=tuple(sets or ()),
        gpu=gpu,
        gpu_memory=gpu_memory,
        price=price,
        rows=rows,
        epochs=epochs,
        max_steps=max_steps,
        cluster=cluster,
        inventory=inventory,
    )
    if jsonl is not None:
        beside = [n for n, v in ctx.params.items() if v and n not in ("jsonl", "as_json")]
        if beside:
            raise UsageError("--jsonl holds the trainings itself.", hint=f"Leave {_spelled(beside)} out.")
        from caravan.terminal.estimate_rows import print_rows

        return print_rows(terminal, jsonl)
    if path is not None or plan is not None:
        if about:
            raise UsageError(
                f"{_spelled(list(about))}: PATH and --plan say this themselves.",
                hint="Change a field of theirs with --set, for example --set training.micro_batch=2.",
            )
        return _of_a_plan(wiring, terminal, typed, path, prompt, plan, answers, as_json=as_json)
    if prompt is not None or answers is not None:
        raise UsageError("--prompt and --answers are about a repository.", hint="Name it: estimate PATH --prompt TEXT.")
    from caravan.terminal.estimate_sheet import sheet_of_words
    from caravan.terminal.estimate_view import show_sheet

    return show_sheet(terminal, sheet_of_words(wiring, typed), as_json=as_json)


_OPTIONS = {
    "params_b": "params",
    "compute_dtype": "precision",
    "grad_checkpointing": "checkpointing",
    "flash_attention": "flash",
    "sets": "set",
}
"""Options of another name than the field or parameter."""


def _spelled(names: list[str]) -> str:
    return ", ".join("PATH" if n == "path" else f"--{_OPTIONS.get(n, n).replace('_', '-')}" for n in names)


def _of_a_plan(
    wiring: Wiring,
    terminal: Terminal,
    typed: Typed,
    path: str | None,
    prompt: str | None,
    plan: str | None,
    answers: str | None,
    *,
    as_json: bool,
) -> int:
    from caravan.terminal.estimate_sheet import sheet_of_file, sheet_of_plan
    from caravan.terminal.estimate_view import show_sheet

    if path is None and plan is not None:
        if prompt is not None or answers is not None:
            raise UsageError("A plan file alone asks nothing.", hint="Leave --prompt and --answers out, or name PATH.")
        return show_sheet(terminal, sheet_of_file(wiring, typed, plan), as_json=as_json)
    from caravan.terminal.inputs import make_request
    from caravan.terminal.plan import drawn_up

    with wiring.aside(typed.inventory) as aside:
        request = make_request(
            aside,
            prompt=prompt,
            source=path,
            cluster="local" if typed.inventory is not None else typed.cluster,
            answers=answers,
            sets=typed.sets,
            budget=None,
            yes=True,
            dry_run=True,
            plan=plan,
            nowhere=typed.cluster is None and typed.inventory is None,
        )
        found = drawn_up(aside, terminal, request, as_json=as_json, whole=False)
        return show_sheet(terminal, sheet_of_plan(aside, typed, found), as_json=as_json)
