"""What a run has come to: the document for programs and the text for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caravan.terminal.text import joined, money, one_line, words
from caravan.values.dialogue import AskKind
from caravan.values.run import EXIT_CODES, RunStatus

if TYPE_CHECKING:
    from caravan.agent.state import RunState
    from caravan.terminal.streams import Terminal
    from caravan.values.base import Json
    from caravan.values.dialogue import Ask
    from caravan.values.run import Attempt, RunRecord

REPORT: Final = "REPORT.md"
_INDENT: Final = 13  # columns before the values


@dataclass(frozen=True)
class Result:
    """A run as it stands. `state` is None before its first checkpoint, `ask` when it waits for nothing.

    `cluster` says in a line where it runs.
    """

    record: RunRecord
    state: RunState | None
    ask: Ask | None
    folder: Path
    trace_url: str | None
    cluster: str = "the default cluster"

    @property
    def report(self) -> Path | None:
        """The report's path, once it is written."""
        path = self.folder / REPORT
        return path if path.is_file() else None


def document(result: Result) -> dict[str, Json]:
    """The main job's document (a stable contract; further fields may be added)."""
    record, state = result.record, result.state
    plan = state.plan if state else None
    return {
        "run_id": record.id,
        "status": record.status.value,
        "exit_code": EXIT_CODES[record.status],
        "detail": record.detail,
        "attempts": [a.model_dump(mode="json") for a in state.attempts] if state else [],
        "plan": plan.model_dump(mode="json") if plan else None,
        "estimate": state.estimate.model_dump(mode="json") if state and state.estimate else None,
        "outputs": plan.outputs.model_dump(mode="json") if plan else None,
        "hcl_path": state.deployment.hcl_path if state and state.deployment else None,
        "metrics": state.metrics if state else {},
        "warnings": list(state.warnings) if state else [],
        "cost_usd": record.cost_usd,
        "report_path": str(result.report) if result.report else None,
        "trace_url": result.trace_url,
        "question": _question(result.ask) if result.ask else None,
    }


def _question(ask: Ask) -> dict[str, Json]:
    # Plan and estimate stand in the document already.
    found: dict[str, Json] = ask.model_dump(mode="json", exclude={"plan", "estimate"})
    return found


def show_result(terminal: Terminal, result: Result, *, as_json: bool) -> None:
    """Print what the run has come to, on stdout; what to do next, where it waits, on stderr for programs."""
    if as_json:
        if result.ask is not None:
            terminal.err(f"Run {result.record.id} waits for a person. {how_to_answer(result.record.id, result.ask)}")
        terminal.document(document(result))
        return
    for line in result_lines(result):
        _print_line(terminal, line)
    if result.record.status is RunStatus.PLANNED and result.state is not None:
        _show_plan(terminal, result)


def _print_line(terminal: Terminal, line: str) -> None:
    """A line, on a terminal wrapped between words under its value; a path is left whole, so that it can be copied."""
    name, value = line[:_INDENT], line[_INDENT:]
    if not terminal.stdout.isatty() or not line.startswith("  ") or " " not in value.strip():
        terminal.out(line)
        return
    from rich.text import Text

    from caravan.terminal.console import console_on

    console = console_on(terminal.stdout)
    wrapped = Text(value).wrap(console, max(20, console.size.width - _INDENT - 1))
    for number, piece in enumerate(wrapped):
        terminal.out(f"{name if number == 0 else ' ' * _INDENT}{piece.plain.rstrip()}")


def result_lines(result: Result, *, attempts: bool = True) -> list[str]:
    """The result in a few lines; without the attempts where they are shown otherwise."""
    record, state = result.record, result.state
    detail = record.detail.removeprefix(f"{record.status.value};").strip()
    lines = [one_line(joined((f"Run {record.id}: {record.status.value}", detail), "; "))]
    if result.ask is not None:
        return lines + _waiting(record.id, result.ask)
    plan = state.plan if state else None
    rows: list[tuple[str, str]] = []
    if state is not None:
        rows += [(f"attempt {a.number}", attempt_line(a)) for a in state.attempts] if attempts else []
        rows += [("metrics", words(state.metrics) if state.metrics else "")]
        rows += [("warning", one_line(text)) for text in state.warnings]
        rows += [("job file", (state.deployment.hcl_path or "") if state.deployment else "")]
    if plan is not None and record.status is RunStatus.SUCCEEDED:
        rows.append(("outputs", one_line(joined((plan.outputs.kind, plan.outputs.location), ": "))))
    if record.cost_usd:
        rows.append(("cost", money(record.cost_usd)))
    rows += [("report", str(result.report or "")), ("trace", result.trace_url or "")]
    return lines + [f"  {name:<10} {value}" for name, value in rows if value]


def attempt_line(attempt: Attempt) -> str:
    """An attempt: its job, how it ended, why, and what was done about it."""
    outcome, diagnosis, repair = attempt.outcome, attempt.diagnosis, attempt.repair
    changed = [f"{path} {words(a)} → {words(b)}" for path, (a, b) in attempt.changed.items()]
    parts = (
        f"{attempt.job_id} {outcome.kind.value if outcome else 'is not judged yet'}",
        outcome.reason if outcome else "",
        f"cause: {diagnosis.cause}" if diagnosis else "",
        f"repair: {repair.why or repair.kind}" if repair else "",
        f"changed: {', '.join(changed)}" if changed else "",
    )
    return one_line("; ".join(p.rstrip(".;") for p in parts if p))


def how_to_answer(run_id: str, ask: Ask) -> str:
    """The command that goes on."""
    if ask.kind is AskKind.QUESTIONS:
        return (
            f"Answer with `main.py resume {run_id} --answers FILE` (question id: value), or take defaults with --yes."
        )
    return f"Answer with `main.py resume {run_id} --approve`, or with --reject."


def _waiting(run_id: str, ask: Ask) -> list[str]:
    from caravan.terminal.dialogue import question_lines

    lines = []
    for number, question in enumerate(ask.questions, 1):
        lines += question_lines(question, number, len(ask.questions))
        lines.append(f"     id: {one_line(question.id)}, default: {words(question.default)}")
    if ask.budget and ask.budget.text:
        lines.append(f"  budget     {one_line(ask.budget.text)}")
    if ask.hcl_path:
        lines.append(f"  job file   {one_line(ask.hcl_path)}")
    lines += [f"  warning    {one_line(text)}" for text in ask.warnings]
    return [*lines, how_to_answer(run_id, ask)]


def _show_plan(terminal: Terminal, result: Result) -> None:
    """After a dry run: what would have been deployed."""
    from caravan.terminal.console import draw
    from caravan.terminal.summary import Scene, estimate_table, plan_table

    state = result.state
    if state is None or state.plan is None:
        return
    draw(terminal.stdout, plan_table(state.plan, Scene(result.record.request.source, result.cluster)))
    if state.estimate is not None:
        draw(terminal.stdout, estimate_table(state.estimate))
    if state.deployment is not None and state.deployment.hcl_path:
        terminal.out(f"job file          {state.deployment.hcl_path}")
