"""REPORT.md: what was asked, found, planned, tried and spent in a run, and how to go on.

A pure function of its arguments and the template: the same run gives the same text. Everything that others wrote is
masked and escaped, so that it can neither show a secret nor break a table. It must not know how the run was driven.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from caravan.runs.plan_file import shown_fields
from caravan.values import model_usage
from caravan.values.base import Json
from caravan.values.dialogue import Answer, Question
from caravan.values.estimate import Estimate
from caravan.values.masking import mask, mask_json
from caravan.values.plan import TrainingPlan
from caravan.values.repo import RepoProfile
from caravan.values.run import Attempt, Outcome, RunEvent, RunRecord, RunStatus
from caravan.values.samples import peaks_in_words

_LONGEST_CELL: Final = 400  # characters of one value in a table
_MOST_EVENTS: Final = 40
_SPECIAL: Final = re.compile(r"([\\`*_\[\]|~])")
_FREE: Final = ("env", "training.options")  # mappings whose keys are the user's: one row for each

_PROFILE_ROWS: Final = (
    ("Entry point", "entry_point"),
    ("Launch command", "launch_command"),
    ("Working directory", "launch_cwd"),
    ("Framework", "framework"),
    ("Method", "method"),
    ("Base model", "base_model"),
    ("Data set", "dataset"),
    ("GPUs", "num_gpus"),
    ("Distributed", "distributed"),
    ("Python", "python_requires"),
    ("Dependency files", "dependency_files"),
    ("Configuration files", "config_files"),
    ("Environment variables", "env_vars_needed"),
)

_MEMBERS: Final = 16  # of a group, of which the report tells what they used
_NEXT: Final[dict[RunStatus, str]] = {
    RunStatus.RUNNING: "The run is not finished. `resume` goes on where it stands.",
    RunStatus.WAITING: "The run waits for a person. `resume` asks again, and goes on with the answer.",
    RunStatus.PLANNED: "Nothing was deployed, because a dry run was asked for. Without `--dry-run` it is.",
    RunStatus.SUCCEEDED: "The training is finished.",
    RunStatus.FAILED: "The training failed and no attempt is left. The attempts above say what was tried.",
    RunStatus.ESCALATED: "The run ended with something that only a person can mend. Mend it, then start it again.",
    RunStatus.REJECTED: "The plan was rejected, and nothing more was deployed.",
    RunStatus.STOPPED: "The run was stopped.",
}


def render_report(
    record: RunRecord,
    plan: TrainingPlan | None = None,
    profile: RepoProfile | None = None,
    estimate: Estimate | None = None,
    attempts: Sequence[Attempt] = (),
    outcome: Outcome | None = None,
    events: Sequence[RunEvent] = (),
    *,
    templates: Path,
    questions: Sequence[Question] = (),
    answers: Sequence[Answer] = (),
    metrics: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    trace: str | None = None,
    secrets: Sequence[str] = (),
    reserved_usd: float | None = None,
) -> str:
    """The report as Markdown (GitHub's dialect), from the template `report.md.j2` in `templates`.

    None or empty: that part of the run was not reached, and its section says so or is left out. `metrics`: the last
    logged value of each; `trace`: where the run's trace is; `secrets`: values known to be secret; `reserved_usd`: what
    the whole run might spend. Money in US dollars, times in UTC.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - Markdown is escaped by our own filters, HTML in it with them
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = {
        "md": _md,
        "code": _code,
        "cell": _cell,
        "block": _block,
        "diff": _diff,
        "time": _time,
        "span": _span,
        "usd": _usd,
    }
    environment.filters.update(filters)
    known = tuple(secrets)
    shown = [event for event in events if event.kind != model_usage.CALL]
    text = environment.get_template("report.md.j2").render(
        run=_plain(record, known),
        reserved=reserved_usd,
        prompt=mask(record.request.prompt, known),
        next=_NEXT[record.status],
        command=mask(_command(record), known),
        answers=json.dumps(mask_json(record.request.answers, known), ensure_ascii=False, indent=2),
        asked=list(_asked(questions, answers, known)),
        found=_found(profile, known),
        rows=list(_plan_rows(plan, known)) if plan else [],
        estimate=_plain(estimate, known),
        attempts=[_attempt(attempt, known, estimate) for attempt in attempts],
        outcome=_plain(outcome, known),
        outputs=_plain(plan.outputs, known) if plan else None,
        metrics=sorted((metrics or {}).items()),
        warnings=mask_json(list(warnings), known),
        trace=mask(trace, known) if trace else None,
        model=[row._asdict() for row in model_usage.rows(events)],
        model_line=model_usage.line(model_usage.used(events), sum(row.failed for row in model_usage.rows(events))),
        events=[_plain(event, known) for event in shown[-_MOST_EVENTS:]],
        earlier=max(0, len(shown) - _MOST_EVENTS),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _plain(value: Any, known: tuple[str, ...]) -> Any:
    return None if value is None else mask_json(value.model_dump(), known)


def _attempt(attempt: Attempt, known: tuple[str, ...], estimate: Estimate | None) -> dict[str, Json]:
    changed = {
        path: [next(iter(mask_json({path: value}, known).values())) for value in pair]
        for path, pair in attempt.changed.items()
    }
    expected = (estimate.formula_gib or estimate.gpu_memory_gib) if estimate else None
    several = len(attempt.uses) > 1
    used = [(f"node {u.member}: " if several else "", peaks_in_words(u, expected)) for u in attempt.uses[:_MEMBERS]]
    told = [f"{who}{text}" for who, text in used if text]
    return {**_plain(attempt, known), "changed": changed, "used": mask_json(list(told), known)}


def _asked(
    questions: Sequence[Question], answers: Sequence[Answer], known: tuple[str, ...]
) -> Iterator[dict[str, Json]]:
    given = {answer.question_id: answer for answer in answers}
    for question in questions:
        answer = given.get(question.id)
        by = "" if answer is None else "you" if answer.by_user else "default"
        (value,) = mask_json({question.path: None if answer is None else answer.value}, known).values()
        yield {"text": mask(question.text, known), "path": question.path, "value": value, "by": by}


def _found(profile: RepoProfile | None, known: tuple[str, ...]) -> dict[str, Json] | None:
    if profile is None:
        return None
    plain = _plain(profile, known)
    rows = []
    for title, name in _PROFILE_ROWS:
        value, lines = plain[name], plain["evidence"].get(name) or []
        if value not in (None, "", [], "."):
            rows.append((title, value, f"{lines[0]['file']}:{lines[0]['line']}" if lines else ""))
    return {**plain, "rows": rows}


def _plan_rows(plan: TrainingPlan, known: tuple[str, ...]) -> Iterator[tuple[str, Json, str, str]]:
    """Field, value, author and reason for each field of the plan that says something."""
    for path, value in _leaves(mask_json(shown_fields(plan, {"provenance"}), known)):
        reason = next((plan.provenance[p].why for p in _prefixes(path) if p in plan.provenance), "")
        yield path, value, plan.whose(path), mask(reason, known)


def _leaves(value: dict[str, Json], prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, dict) and prefix.rstrip(".") not in _FREE:
            yield from _leaves(item, f"{path}.")
        else:
            yield path, item


def _prefixes(path: str) -> Iterator[str]:
    """The path and the paths above it, the longest first."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _command(record: RunRecord) -> str:
    """The command that asks for the same run again."""
    request = record.request
    words = ["python", "main.py", "--prompt", request.prompt, "--codebase-path", request.source]
    if request.cluster:
        words += ["--cluster", request.cluster]
    for change in request.sets:
        value = change.value if isinstance(change.value, str) else json.dumps(change.value)
        words += ["--set", f"{change.path}={value}"]
    if request.budget_usd is not None:
        words += ["--budget", f"{request.budget_usd:g}"]
    flags = (("--yes", request.yes), ("--dry-run", request.dry_run))
    return shlex.join(words + [flag for flag, given in flags if given])


def _text(value: Json) -> str:
    """A value on one line, bounded, without control characters."""
    text = (
        value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    )
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"


def _md(value: Json) -> str:
    """A value as running text: nothing in it is Markdown or HTML."""
    escaped = _SPECIAL.sub(r"\\\1", _text(value).replace("&", "&amp;"))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def _code(value: Json) -> str:
    """A value as code in running text; nothing for an empty one."""
    text = _text(value)
    if not text:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _cell(value: Json) -> str:
    """A value as code in a cell of a table; one with a bar, which ends a cell even in code, as running text."""
    return _md(value) if "|" in _text(value) else _code(value)


def _block(text: str) -> str:
    """A text of several lines as a block of code."""
    shown = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip("\n")
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence}text\n{shown}\n{fence}"


def _diff(text: str) -> str:
    """A unified diff as a block of code."""
    return _block(text).replace("text\n", "diff\n", 1)


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    """Seconds as hours, minutes and seconds, the two largest that count."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _usd(amount: float) -> str:
    return f"{amount:.2f} USD"
