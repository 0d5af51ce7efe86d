"""`models list` and `models show`: the registered models, and all that is known of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from caravan.terminal.models_found import HOW, RefArgument, find
from caravan.terminal.options import JsonOption, terminal_of, wiring_of
from caravan.terminal.text import age, one_line
from caravan.values.amounts import size_text
from caravan.values.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caravan.ports import ModelRegistry
    from caravan.terminal.streams import Terminal
    from caravan.terminal.wiring import Wiring
    from caravan.values.base import Json
    from caravan.values.model_metrics import Figure
    from caravan.values.registry import ModelStage, ModelVersion, StageMove

_ALL = 100_000  # models that are looked through
_WIDE = 100  # columns from which on a file, its bytes and its checksum stand on one line


def list_models(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only the versions of this model.")] = None,
    stage: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Only those: candidate, staging, production or archived.")
    ] = None,
    metric: Annotated[str | None, typer.Option(metavar="NAME", help="Show this metric, and the best first.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the registered models, the newest first or the best by a metric."""
    from caravan.values.model_metrics import best_first

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    registry, wanted = wiring.models(), stage_of(stage) if stage else None
    found = registry.models(name=name, stage=wanted, limit=_ALL if metric else limit)
    if metric:
        _check_metric(registry, metric)
        found = best_first(found, metric)[:limit]
    if as_json:
        terminal.document([_row(wiring, model, metric) for model in found])
    elif found:
        _print_list(wiring, terminal, found, metric)
    elif name or stage:
        terminal.out("There are no such models.")
    else:
        terminal.out(f"No model is registered yet. {HOW}")


def stage_of(text: str) -> ModelStage:
    """The stage of that name. Raises UsageError."""
    from caravan.values.registry import ModelStage

    try:
        return ModelStage(text.lower())
    except ValueError as error:
        there = ", ".join(ModelStage)
        raise UsageError(f"{one_line(text, 60)!r} is no stage.", hint=f"There are: {there}.") from error


def _check_metric(registry: ModelRegistry, metric: str) -> None:
    import difflib

    known = {spec.name for spec in registry.definitions()} | {n for m in registry.models(limit=_ALL) for n in m.metrics}
    if known and metric not in known:
        like = difflib.get_close_matches(metric, known, n=5) or sorted(known)[:10]
        raise UsageError(f"No model has a metric {one_line(metric, 60)!r}.", hint=f"Like it: {', '.join(like)}.")


def _shown(model: ModelVersion, metric: str | None) -> Figure | None:
    from caravan.values.model_metrics import figure, figures

    return figure(model, metric) if metric else next((f for f in figures(model) if f.value is not None), None)


def _row(wiring: Wiring, model: ModelVersion, metric: str | None) -> dict[str, Json]:
    found = _shown(model, metric)
    shown: dict[str, Json] | None = None
    if found is not None:
        spec = found.spec
        shown = {"name": found.name, "value": found.value, "base": found.base, **spec.model_dump(exclude={"name"})}
        if not found.known:
            shown["direction"] = None
    document: dict[str, Any] = model.model_dump(mode="json", exclude={"files", "gate"})
    return {
        "ref": model.ref,
        **document,
        "metric": shown,
        "verdict": model.gate.verdict.value if model.gate else None,
        "address": model.files.address,
        "age_s": round((wiring.clock.now() - model.created_at).total_seconds()),
    }


def _print_list(wiring: Wiring, terminal: Terminal, models: Sequence[ModelVersion], metric: str | None) -> None:
    from caravan.terminal.console import cell, console_on, draw, listing, without
    from caravan.values.model_metrics import shown

    table = listing("model", "stage", "gate", "metric", "value", "its base", "trained from", "run", "age")
    now = wiring.clock.now()
    for model in models:
        found = _shown(model, metric)
        better = {"higher": "↑", "lower": "↓"}.get(found.way, "") if found else ""
        texts = (
            model.ref,
            model.stage.value,
            model.gate.verdict.value if model.gate else "-",
            f"{one_line(found.name, 24)} {better}" if found else "-",
            shown(found.value, found.spec) if found else "-",
            shown(found.base, found.spec) if found else "-",
            one_line(model.parent or model.base_model or "-", 32),
            one_line(model.run_id),
            age((now - model.created_at).total_seconds()),
        )
        table.add_row(*(cell(text) for text in texts))
    for column in table.columns:
        column.no_wrap = column.header != "trained from"
    for number in (4, 5, 8):
        table.columns[number].justify = "right"
    width = console_on(terminal.stdout).size.width
    draw(terminal.stdout, without(table, width, "age", "trained from", "its base", "gate", "run", "metric"))


def show(ctx: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Show a model: files, metrics beside its base, gate, code and data, history, and how to load it."""
    from caravan.runs.loading_code import loading

    wiring, terminal = wiring_of(ctx), terminal_of(ctx)
    registry, model = wiring.models(), find(wiring, ref)
    moves = registry.moves(model.ref)
    children = [m.ref for m in registry.models(limit=_ALL) if m.parent == model.ref]
    how = loading(model, f"{model.name}-{model.version}", trained=trained_as(wiring, model))
    pull = f"main.py models pull {model.ref}"
    if as_json:
        document: dict[str, Any] = model.model_dump(mode="json")
        terminal.document(
            {
                "ref": model.ref,
                **document,
                "moves": [move.model_dump(mode="json") for move in moves],
                "children": list(children),
                "pull": pull,
                "load": list(how.lines),
                "merge": list(how.merge),
                "needs": list(how.packages),
            }
        )
        return
    _print_model(terminal, model, moves, children)
    terminal.out(f"\nPull its files:\n  {pull}")
    terminal.out("\nLoad it:")
    terminal.raw("\n".join(f"  {line}" if line else "" for line in how.lines))


def trained_as(wiring: Wiring, model: ModelVersion) -> str | None:
    """The training type of its run, as long as its result is kept."""
    result = wiring.store().result(model.run_id)
    training = result.plan.get("training") if result else None
    kind = training.get("type") if isinstance(training, dict) else None
    return kind if isinstance(kind, str) else None


def _print_model(terminal: Terminal, model: ModelVersion, moves: Sequence[StageMove], children: Sequence[str]) -> None:
    from caravan.terminal.console import draw, pairs

    code, data = model.code, model.data
    files = model.files.files
    size = f"{len(files)} files, {size_text(sum(f.bytes for f in files))}" if files else "not listed, no checksums"
    changed = f", {len(code.uncommitted)} files not as committed" if code.uncommitted else ""
    rows = [
        ("model", f"{model.ref}, {model.stage.value}"),
        ("registered", f"{model.created_at:%Y-%m-%d %H:%M} UTC by {one_line(model.by) or 'nobody known'}"),
        ("because", one_line(model.why)),
        ("run", model.run_id),
        ("base model", one_line(model.base_model or "")),
        ("parent", model.parent or ""),
        ("children", ", ".join(children)),
        ("method", one_line(model.method or "")),
        ("kind", model.kind or ("in no known format: its outputs but logs and checkpoints" if files else "")),
        ("code", one_line(f"{code.source} {code.commit or ''}".strip() + changed)),
        ("data", one_line(data.path or "") + (f", {data.rows} rows" if data.rows is not None else "")),
        ("SHA-256 of data", data.sha256 or "not known: it was not seen from here"),
        ("SHA-256 of plan", model.plan_sha256),
        ("files", f"{size}, in {one_line(model.files.address)}"),
    ]
    draw(terminal.stdout, pairs([row for row in rows if row[1]]))
    _print_files(terminal, model)
    _print_metrics(terminal, model)
    _print_gate(terminal, model)
    if moves:
        terminal.out("\nStages:")
        for move in moves:
            before = f"{move.before.value} → " if move.before else ""
            why = f": {one_line(move.why)}" if move.why else ""
            by = f" by {one_line(move.by)}" if move.by else ""
            terminal.out(f"  {move.at:%Y-%m-%d %H:%M}  {before}{move.after.value}{by}{why}")


def _print_files(terminal: Terminal, model: ModelVersion) -> None:
    from caravan.terminal.console import cell, console_on, draw, listing

    if not model.files.files:
        return
    terminal.out()
    table = listing("file", "bytes", "SHA-256")
    for file in model.files.files:
        table.add_row(cell(one_line(file.path)), str(file.bytes), file.sha256)
    table.columns[1].justify = "right"
    narrow = console_on(terminal.stdout).size.width < _WIDE
    for column in table.columns[1:]:
        column.no_wrap = not narrow  # a checksum that is not cut can still be compared
    draw(terminal.stdout, table)


def _print_metrics(terminal: Terminal, model: ModelVersion) -> None:
    from caravan.terminal.console import cell, draw, listing
    from caravan.values.model_metrics import figures, shown

    found = figures(model)
    if not found:
        return
    terminal.out()
    table = listing("metric", "this model", "its base", "better is", "what it is")
    for row in found:
        values = shown(row.value, row.spec), shown(row.base, row.spec)
        table.add_row(cell(one_line(row.name)), *map(cell, values), row.way, cell(one_line(row.spec.title)))
    draw(terminal.stdout, table)


def _print_gate(terminal: Terminal, model: ModelVersion) -> None:
    gate = model.gate
    if gate is None:
        terminal.out("\nGate: it was not checked.")
        return
    terminal.out(f"\nGate: {gate.verdict.value}, judged by {gate.judged_by}")
    for check in gate.checks:
        terminal.out(f"  {check.verdict.value:<8}{check.kind.value:<11}{one_line(check.text)}")
