"""What a run has come to: the document for programs and the text for people."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from caravan.terminal.endings import attempt_line, changes_text, repair_label, stopped_at, stopped_rows, was_stopped
from caravan.terminal.text import joined, one_line, words
from caravan.values.amounts import money
from caravan.values.base import Json
from caravan.values.record import EXIT_CODES, RunStatus

if TYPE_CHECKING:
    from caravan.agent.state import RunState
    from caravan.terminal.streams import Terminal
    from caravan.values.dialogue import Ask, Question
    from caravan.values.record import RunRecord
    from caravan.values.reproduction import Reproduced

REPORT: Final = "REPORT.md"
PAGE: Final = "report.html"
_NOTHING: Final = "nothing was deployed"
_STOPPED: Final = "stopped by the user"
_INDENT: Final = 13  # columns before the values


@dataclass(frozen=True)
class Result:
    """A run as it stands. `state` is None before its first checkpoint, `ask` when it waits for nothing.

    `kept`: the state's sheet as it was stored with the checkpoint, in place of the state.

    `cluster` says in a line where it runs, `reserved_usd` what the whole run may spend beside others, `used` what it
    has used of language models, `reproduced` whether it came to what the run did that it repeats.
    """

    record: RunRecord
    state: RunState | None
    ask: Ask | None
    folder: Path
    trace_url: str | None
    trace_path: Path | None = None
    cluster: str = "the default cluster"
    reserved_usd: float | None = None
    used: Json = None
    reproduced: Reproduced | None = None
    kept: dict[str, Json] | None = None

    @cached_property
    def sheet(self) -> dict[str, Json] | None:
        """What is told of the state; None before its first checkpoint."""
        if self.kept is not None or self.state is None:
            return self.kept
        from caravan.terminal.sheet import sheet_of

        return sheet_of(self.state)

    @property
    def report(self) -> Path | None:
        """The report's path, once it is written."""
        return self._written(REPORT)

    @property
    def page(self) -> Path | None:
        """The path of the report as HTML, once it is written."""
        return self._written(PAGE)

    def _written(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.is_file() else None

    @property
    def exit_code(self) -> int:
        """The command's exit code: that of the status, and of a reproduction whether it agrees."""
        code = EXIT_CODES[self.record.status]
        if code or self.reproduced is None:
            return code
        from caravan.values.reproduction import AGREEMENT_CODES

        return AGREEMENT_CODES[self.reproduced.verdict]


def document(result: Result) -> dict[str, Json]:
    """The main job's document (a stable contract; further fields may be added)."""
    record = result.record
    told: dict[str, Json] = result.kept["document"] if result.kept is not None else _told(result.state)
    return {
        "run_id": record.id,
        "source": record.request.source,
        "cluster": record.request.cluster,
        "status": record.status.value,
        "exit_code": result.exit_code,
        "detail": record.detail,
        "attempts": told["attempts"],
        "diagnosis": told["diagnosis"] if record.status is not RunStatus.SUCCEEDED else None,
        **{name: told[name] for name in ("repairs", "plan", "estimate", "outputs", "hcl_path", "metrics", "gate")},
        **{name: told[name] for name in ("registered", "resources", "warnings")},
        "stopped_at": at.isoformat() if (at := stopped_at(record, result.sheet)) is not None else None,
        "cost_usd": record.cost_usd,
        "reserved_usd": result.reserved_usd,
        "model": result.used,
        "user": record.user,
        "budget": told["budget"],
        "report_path": str(result.report) if result.report else None,
        "report_html_path": str(result.page) if result.page else None,
        "trace_url": result.trace_url,
        "trace_path": str(result.trace_path) if result.trace_path else None,
        "question": _question(result.ask) if result.ask else None,
        "reproduces": record.request.reproduces.run_id if record.request.reproduces else None,
        "reproduced": result.reproduced.model_dump(mode="json") if result.reproduced else None,
    }


def _told(state: RunState | None) -> dict[str, Json]:
    from caravan.terminal.sheet import document_of

    return document_of(state)


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
    head, *rest = result_lines(result)
    print_line(terminal, head)
    if result.ask is not None:
        _show_asked(terminal, result, result.ask)
    for line in rest:
        print_line(terminal, line)
    if result.reproduced is not None:
        from caravan.terminal.agreed import show_agreement

        show_agreement(terminal, result.reproduced)
    if result.record.status is RunStatus.PLANNED and result.state is not None:
        _show_plan(terminal, result)


def print_line(terminal: Terminal, line: str) -> None:
    """A line, on a terminal wrapped between words under its value; a path is left whole, so that it can be copied."""
    named = re.match(r"  \S.*?\s{2,}(?=\S)", line)
    indent = named.end() if named else _INDENT if line.startswith("  ") else 0
    name, value = line[:indent], line[indent:]
    wraps = indent or line.startswith("Run ")  # what is to be copied, a command, stays on its line
    if not terminal.stdout.isatty() or not wraps or " " not in value.strip():
        terminal.out(line)
        return
    from rich.text import Text

    from caravan.terminal.console import console_on

    console = console_on(terminal.stdout)
    wrapped = Text(value).wrap(console, max(20, console.size.width - indent - 1))
    for number, piece in enumerate(wrapped):
        terminal.out(f"{name if number == 0 else ' ' * indent}{piece.plain.rstrip()}")


def result_lines(result: Result, *, attempts: bool = True) -> list[str]:
    """The result in a few lines; without the attempts where they are shown otherwise."""
    record, sheet = result.record, result.sheet
    detail = record.detail.removeprefix(f"{record.status.value};").strip()
    said = _NOTHING if _set_wrong(record, sheet) else record.status.value
    if (at := stopped_at(record, sheet)) is not None:
        said = f"stopped by you at {at:%Y-%m-%d %H:%M} UTC"
        said, detail = joined((said, detail.removeprefix(_STOPPED).strip()), " "), ""
    lines = [one_line(joined((f"Run {record.id}: {said}", detail), "; "))]
    if result.ask is not None:
        return lines + _waiting(record.id, result.ask, result.state)
    rows: list[tuple[str, str]] = []
    if sheet is not None:
        rows += _attempt_rows(record, result.state, sheet) if attempts and result.state else []
        rows += [("metrics", sheet["metrics"]), ("gate", sheet["gate"]), ("registered", sheet["registered"])]
        rows += [(name, text) for name, text in sheet["used"]]
        rows += [("warning", text) for text in sheet["warnings"]]
        rows += [("job file", _job_file(record, sheet))]
        rows += stopped_rows(record, sheet)
        if record.status is RunStatus.SUCCEEDED:
            rows.append(("outputs", sheet["outputs"]))
    if record.cost_usd:
        rows.append(("cost", money(record.cost_usd)))
    rows.append(("model", model_line(result.used)))
    rows.append(("prompts", prompts_line(result.used)))
    if result.reserved_usd and record.status is RunStatus.RUNNING:
        rows.append(("reserved", f"{money(result.reserved_usd)} for the whole run"))
    rows += [("report", str(result.report or "")), ("page", str(result.page or "")), ("trace", result.trace_url or "")]
    patch = sheet["patch"] if sheet is not None and record.status is not RunStatus.SUCCEEDED else ""
    told = [f"  {name:<10} {value}" for name, value in rows if value]
    return lines + told + ([f"  {'suggested':<10} not applied:", *_patch_lines(patch)] if patch else [])


def prompts_line(used: Json) -> str:
    """The prompts that a language model was asked with, each with its version; empty where none was asked."""
    steps = used["steps"] if isinstance(used, dict) else []
    return ", ".join(dict.fromkeys(str(prompt) for step in steps for prompt in step.get("prompts", ())))


def model_line(used: Json) -> str:
    """What was used of language models, in a line; empty where none was asked."""
    if used is None:
        return ""
    from caravan.values.model import Usage
    from caravan.values.model_usage import line as usage_line

    known = {name: value for name, value in used.items() if name in Usage.model_fields}
    names = ", ".join(dict.fromkeys(str(step["model"]) for step in used["steps"]))
    return one_line(
        f"{names}: {usage_line(Usage.model_validate(known), sum(step['failed'] for step in used['steps']))}"
    )


def _patch_lines(patch: str) -> list[str]:
    """A diff's lines without what a terminal would take for a command; it was made of the user's own file."""
    return ["".join(c if c.isprintable() or c == "\t" else "?" for c in row) for row in patch.splitlines()]


def _set_wrong(record: RunRecord, sheet: dict[str, Json] | None) -> bool:
    """Whether it ended before anything was deployed, for what only a person can set otherwise."""
    return record.status is RunStatus.ESCALATED and sheet is not None and not sheet["attempts"]


def _attempt_rows(record: RunRecord, state: RunState, sheet: dict[str, Json]) -> list[tuple[str, str]]:
    last, label = state.attempts[-1].number if state.attempts else 0, repair_label(record, sheet)
    rows = []
    for attempt in state.attempts:
        told = attempt.diagnosis is not None and attempt.diagnosis.cause in record.detail  # in the line above
        stopped = attempt.number == last and was_stopped(record, sheet["attempts"][-1])
        line = attempt_line(attempt, label if attempt.number == last else "repair", cause=not told, stopped=stopped)
        rows.append((f"attempt {attempt.number}", line))
    return rows


def _job_file(record: RunRecord, sheet: dict[str, Json]) -> str:
    """The job file of the last deployed attempt; of a plan that nothing was deployed of, the one it would have."""
    if sheet["attempts"] and repair_label(record, sheet) != "repair":
        return str(sheet["attempts"][-1]["job_file"])
    return str(sheet["job_file"])


def how_to_answer(run_id: str, ask: Ask) -> str:
    """The command that goes on. `--yes` is named only where each question has a default."""
    from caravan.values.dialogue import AskKind

    if ask.kind is not AskKind.QUESTIONS:
        another = ", or take another plan with --choose N" if ask.choices else ""
        return f"Answer with `main.py resume {run_id} --approve`, or with --reject{another}."
    example, needed = example_answers(ask)
    text = f"Answer with `main.py resume {run_id} --answers FILE`; the file says, for example, {example}"
    return f"{text}." if needed else f"{text}. Or take the defaults with --yes."


def example_answers(ask: Ask) -> tuple[str, bool]:
    """What an answers file may say, in a line, and whether there is a question that has no default."""
    needed = [q for q in ask.questions if q.required and q.default is None]
    asked = (needed or ask.questions)[:1]
    return one_line(json.dumps({q.id: _example(q) for q in asked}, ensure_ascii=False)), bool(needed)


def _example(question: Question) -> Json:
    """A value that would do: the default, the first choice, or for a command one that looks like it."""
    if question.default is not None:
        return question.default
    if question.choices:
        return question.choices[0]
    if question.path == "command":
        return "python train.py"
    return next((value for value in _EXAMPLES if _fits(question, value)), "...")


_EXAMPLES: Final[tuple[Json, ...]] = ("...", 10, True, ["..."])


def _fits(question: Question, value: Json) -> bool:
    from caravan.planning.answers import type_answer
    from caravan.values.errors import UsageError

    try:
        type_answer(question, value)
    except UsageError:
        return False
    return True


def _waiting(run_id: str, ask: Ask, state: RunState | None) -> list[str]:
    from caravan.terminal.dialogue import question_lines
    from caravan.terminal.summary import choice_rows, grant_rows
    from caravan.values.dialogue import AskKind

    lines = []
    for number, question in enumerate(ask.questions, 1):
        lines += question_lines(question, number, len(ask.questions))
        lines.append(f"     id: {one_line(question.id)}, default: {words(question.default)}")
    rows = [("asked because", one_line(text)) for text in ask.objections]
    if ask.kind is AskKind.APPROVAL and state is not None and state.attempts and state.attempts[-1].repair:
        rows += [("would change", text) for text in changes_text(state.attempts[-1])]
    rows += [("budget", one_line(ask.budget.text))] if ask.budget and ask.budget.text else []
    rows += grant_rows(ask)
    rows += [("job file", one_line(ask.hcl_path))] if ask.hcl_path else []
    rows += [("warning", one_line(text)) for text in ask.warnings]
    rows += choice_rows(ask.choices)
    wide = max((len(name) for name, _ in rows), default=0)
    lines += [f"  {name:<{max(wide, 9)}}  {value}" for name, value in rows]
    return [*lines, how_to_answer(run_id, ask)]


def _show_asked(terminal: Terminal, result: Result, ask: Ask) -> None:
    """What approving would start, as a person at the prompt sees it: what is sent where, what it needs and costs."""
    from caravan.terminal.console import draw
    from caravan.terminal.summary import Scene, estimate_table, plan_table
    from caravan.values.dialogue import AskKind

    if ask.kind is not AskKind.APPROVAL or ask.plan is None:
        return
    draw(terminal.stdout, plan_table(ask.plan, Scene(result.record.request.source, result.cluster)))
    if ask.estimate is not None:
        draw(terminal.stdout, estimate_table(ask.estimate))


def _show_plan(terminal: Terminal, result: Result) -> None:
    """After a dry run: what would have been deployed."""
    from caravan.terminal.console import draw
    from caravan.terminal.summary import Scene, choice_rows, estimate_table, plan_table

    state = result.state
    if state is None or state.plan is None:
        return
    draw(terminal.stdout, plan_table(state.plan, Scene(result.record.request.source, result.cluster)))
    if state.estimate is not None:
        draw(terminal.stdout, estimate_table(state.estimate))
    for name, text in choice_rows(state.choices):
        terminal.out(f"{name:<17} {text}")
    if state.deployment is not None and state.deployment.hcl_path:
        terminal.out(f"job file          {state.deployment.hcl_path}")
