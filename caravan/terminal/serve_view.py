"""What `serve-model` says: the choice with its memory, other choices, the state of a server, and what to set then."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from caravan.terminal.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from caravan.agent.serving import Served
    from caravan.planning.serving_money import Price
    from caravan.planning.serving_plan import Decided
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json
    from caravan.values.serving import Fit, ServePlan


def show_choice(terminal: Terminal, decided: Decided, price: Price) -> None:
    """The choice, line by line."""
    plan = decided.plan
    terminal.out(f"Model {one_line(plan.served_name)}, context {plan.context} tokens, as the service {plan.name}.")
    if plan.fit is not None:
        seat = plan.fit.seat
        terminal.out(f"On {seat.gpus} × {one_line(seat.gpu_model)}, weights in {plan.weights}:")
        for name, gib in memory_lines(plan.fit):
            terminal.out(f"  {name:<38}{gib:>8.1f} GiB")
        tokens = plan.fit.memory.kv_tokens
        if tokens is not None:
            each = tokens / plan.context
            terminal.out(f"  room in the cache for {tokens} tokens: {each:.1f} requests of the whole context at once")
        terminal.out(_price_source(price.line(), seat.price_source if price.hour else ""))
    for note in decided.notes:
        terminal.out(f"Note: {note}")
    for other in decided.others:
        terminal.out(f"Also fits: {_short(other)}")


def memory_lines(fit: Fit) -> tuple[tuple[str, float], ...]:
    """What each GPU holds, in GiB."""
    memory = fit.memory
    rows = [
        ("weights", memory.weights),
        (f"cache of one request ({memory.context} tokens)", memory.kv),
        ("activations of a step, logits", memory.activations),
        ("CUDA context, graphs, buffers", memory.runtime),
        ("margin of the estimate", memory.margin),
        ("needed", memory.needed),
    ]
    return (*rows, ("vLLM's share of the GPU", memory.budget)) if memory.budget is not None else tuple(rows)


def _price_source(line: str, source: str) -> str:
    return f"{line} ({one_line(source)})" if source else line


def _short(fit: Fit) -> str:
    price = f", {fit.seat.usd_per_hour:.2f} USD an hour" if fit.seat.usd_per_hour is not None else ""
    return f"{fit.model.repo} on {fit.seat.gpus} × {one_line(fit.seat.gpu_model)}{price} (serve-model {fit.model.repo})"


def progress_line(seen: Served) -> str:
    """How it stands, in a line."""
    where = f" on {one_line(seen.node)}" if seen.node else ""
    said = [text for text in (seen.reason, seen.known.cause if seen.known else "") if text]
    why = f": {one_line('; '.join(said))}" if said else ""
    return f"{seen.phase.value}{where}{why}"


def trouble(seen: Served) -> str:
    """Why it is not healthy, with the cause where that is known."""
    if seen.known is None:
        return one_line(seen.reason) or "no reason is known"
    shown = f" It said: {one_line(seen.known.line)}" if seen.known.line else ""
    return f"{one_line(seen.known.cause)}.{shown}"


def environment(url: str, name: str, key_file: Path | None) -> dict[str, str]:
    """The variables that lead the agent to the server. The key itself is in none of them."""
    found = {"CARAVAN_MODEL_URL": url, "CARAVAN_MODEL": name}
    return found | ({"CARAVAN_MODEL_API_KEY_FILE": str(key_file)} if key_file is not None else {})


def show_environment(terminal: Terminal, variables: dict[str, str]) -> None:
    """What to set, ready to be pasted."""
    terminal.out("Set, then `main.py doctor` tries it:")
    for name, value in variables.items():
        terminal.out(f"  export {name}={shlex.quote(one_line(value))}")


def document(plan: ServePlan, price: Price, decided: Decided) -> dict[str, Json]:
    """The choice for a program."""
    fit = plan.fit
    return {
        "name": plan.name,
        "namespace": plan.namespace,
        "model": plan.repo,
        "served_name": plan.served_name,
        "context": plan.context,
        "weights": plan.weights.value,
        "gpus": plan.gpus,
        "gpu_model": fit.seat.gpu_model if fit else None,
        "memory_gib": {name: round(gib, 3) for name, gib in memory_lines(fit)} if fit else None,
        "cache_tokens": fit.memory.kv_tokens if fit else None,
        "image": plan.image,
        "usd_per_hour": price.hour,
        "notes": list(decided.notes),
        "others": _others(decided.others),
    }


def _others(fits: Iterable[Fit]) -> list[Json]:
    return [
        {
            "model": f.model.repo,
            "gpus": f.seat.gpus,
            "gpu_model": f.seat.gpu_model,
            "usd_per_hour": f.seat.usd_per_hour,
        }
        for f in fits
    ]


def show_sizes(terminal: Terminal, *, as_json: bool) -> None:
    """Which model is chosen for which GPUs."""
    from caravan.planning.serving_table import usual_sizes

    rows = usual_sizes()
    if as_json:
        found: list[Json] = [
            {
                "gpu": row.gpu,
                "gpus": row.gpus,
                "memory_gib": round(row.memory_gib, 1),
                "model": row.fit.model.repo if row.fit else None,
                "context": row.context,
                "needed_gib": round(row.fit.memory.needed, 1) if row.fit else None,
                "cache_tokens": row.fit.memory.kv_tokens if row.fit else None,
            }
            for row in rows
        ]
        terminal.document({"sizes": found, "exit_code": 0})
        return
    for row in rows:
        said = "nothing"
        if row.fit is not None:
            memory = row.fit.memory
            said = (
                f"{row.fit.model.repo:<22}{memory.needed:>6.1f} of {memory.budget or 0:.1f} GiB, context {row.context}"
            )
        terminal.out(f"{row.gpus} × {row.gpu:<26}{row.memory_gib:>6.1f} GiB  {said}")


def state_document(seen: Served) -> dict[str, Json]:
    """How a server stands, for a program."""
    return {
        "healthy": seen.healthy,
        "phase": seen.phase.value,
        "url": seen.url or None,
        "node": seen.node or None,
        "restarts": seen.restarts,
        "reason": trouble(seen) if not seen.healthy else "",
        "advice": seen.known.advice if seen.known else "",
    }
