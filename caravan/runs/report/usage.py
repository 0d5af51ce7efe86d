"""What it cost, how to go on, the versions, the trace, and the events."""

import json
import shlex
from collections.abc import Iterator

from caravan.runs.report.blocks import Block, Code, Fold, Line, Link, Listing, Paragraph, Table
from caravan.runs.report.material import Material
from caravan.runs.report.understanding import answers_text
from caravan.runs.report.words import block_of, code, text_of, time_of, words
from caravan.values import model_usage
from caravan.values.amounts import money
from caravan.values.masking import mask_json
from caravan.values.run import RunRecord, RunStatus

_MOST_EVENTS = 40
_NEXT: dict[RunStatus, str] = {
    RunStatus.RUNNING: "The run is not finished. `resume` goes on where it stands.",
    RunStatus.WAITING: "The run waits for a person. `resume` asks again, and goes on with the answer.",
    RunStatus.PLANNED: "Nothing was deployed, because a dry run was asked for. Without `--dry-run` it is.",
    RunStatus.SUCCEEDED: "The training is finished.",
    RunStatus.FAILED: "The training failed and no attempt is left. `resume --set` takes it up with another setting.",
    RunStatus.ESCALATED: "Something stands in its way that only a person can mend. Mend it, then `resume --again`.",
    RunStatus.REJECTED: "The plan was rejected, and nothing more was deployed.",
    RunStatus.STOPPED: "The run was stopped.",
}


def cost(material: Material) -> Iterator[Block]:
    """The section: the cluster's time and the language model's."""
    record, reserved = material.record, material.reserved_usd
    spent = model_usage.used(material.events)
    asked = spent.usd or 0.0
    rows: list[tuple[Line, ...]] = [(("The cluster",), (money(max(0.0, record.cost_usd - asked)),))]
    if spent.calls:
        rows.append((("The language model",), (money(asked) if spent.usd is not None else "not known",)))
    rows.append((("In all",), (money(record.cost_usd),)))
    if reserved is not None:
        rows.append((("It might spend",), (money(reserved),)))
    yield Table(("What", "Cost"), tuple(rows), frozenset({1}))
    price = material.estimate.usd_per_hour if material.estimate is not None else None
    if price is not None:
        yield Paragraph((f"The price of the plan's place was {money(price)} an hour.",))
    elif material.estimate is not None:
        yield Paragraph(("What an hour on this cluster costs is not known, so its time counts as nothing.",))
    told = model_usage.rows(material.events)
    if told:
        line = model_usage.line(spent, sum(row.failed for row in told))
        yield Paragraph((f"{text_of(line)}. What came of its answers stands under What happened.",))
        head = ("Step", "Model", "Prompt", "Calls", "Tokens", "Seconds", "Cost")
        yield Table(head, tuple(_model_row(row) for row in told), frozenset({3, 4, 5, 6}))


def _model_row(row: model_usage.Row) -> tuple[Line, ...]:
    use = row.usage
    failed = f" ({row.failed} without a reply)" if row.failed else ""
    return (
        words(row.step),
        words(row.model),
        words(", ".join(row.prompts)),
        (f"{use.calls}{failed}",),
        (f"{use.prompt_tokens} + {use.completion_tokens}",),
        (f"{use.seconds:.1f}",),
        (money(use.usd) if use.usd is not None else "not known",),
    )


def go_on(material: Material) -> Iterator[Block]:
    """The section: what can be done with the run now, and how the same is done again."""
    record = material.record
    yield Paragraph(_quoted(_NEXT[record.status]))
    lines = [f"python main.py show {record.id}", f"python main.py logs {record.id}"]
    if record.status in (RunStatus.RUNNING, RunStatus.WAITING):
        lines.append(f"python main.py resume {record.id}")
    if material.trace:
        lines.append(f"python main.py traces {record.id}")
    yield Listing("\n".join(lines), "sh")
    if material.plan is not None and material.attempts:
        yield Paragraph(
            ("To train it again with the same commit, data, image, seed and plan, and see whether the result agrees:",)
        )
        yield Listing(f"python main.py reproduce {record.id}", "sh")
    again: list[Block] = [Listing(block_of(command(record)), "sh")]
    if record.request.answers:
        again.append(Paragraph(("with these answers in a file that ", Code("--answers"), " names:")))
        again.append(Listing(block_of(answers_text(mask_json(record.request.answers, material.secrets))), "json"))
    yield Fold("To ask for the same anew", tuple(again))


def _quoted(text: str) -> Line:
    """Our own sentence, in which what stands in backticks is code."""
    return tuple(Code(part) if n % 2 else part for n, part in enumerate(text.split("`")) if part)


def command(record: RunRecord) -> str:
    """The command that asks for the same run again."""
    request = record.request
    parts = ["python", "main.py", "--prompt", request.prompt, "--codebase-path", request.source]
    if request.cluster:
        parts += ["--cluster", request.profile or request.cluster]
    for change in request.sets:
        value = change.value if isinstance(change.value, str) else json.dumps(change.value)
        parts += ["--set", f"{change.path}={value}"]
    if request.budget_usd is not None:
        parts += ["--budget", f"{request.budget_usd:g}"]
    flags = (("--send-secrets", request.send_secrets), ("--yes", request.yes), ("--dry-run", request.dry_run))
    return shlex.join(parts + [flag for flag, given in flags if given])


def versions(material: Material) -> Iterator[Block]:
    """The section: with what it was done, and the trace."""
    rows: list[tuple[Line, ...]] = [((text_of(name),), code(value)) for name, value in material.versions.items()]
    plan, result = material.plan, material.result
    if plan is not None:
        own = result.code if result is not None else None
        sha = (own.sha256 if own is not None else None) or plan.code.sha256
        commit = (own.commit if own is not None else None) or _commit(material)
        data = (result.data.sha256 if result is not None else None) or (plan.data.sha256 if plan.data else None)
        rows.append((("Commit of the code",), code(commit) or ("not known",)))
        rows.append((("Code as it was sent (SHA-256)",), code(sha) or ("not known",)))
        rows.append((("Data (SHA-256)",), code(data) or ("not seen from here",)))
        image = (result.image if result is not None else None) or plan.image
        rows.append((("Image",), code(image) or ("none: it ran as a process of the node",)))
        seed = result.seed if result is not None and result.seed is not None else plan.training.seed
        rows.append((("Seed",), code(seed) if seed is not None else ("not set by the plan",)))
        rows.append((("Plan (SHA-256)",), code(_plan_digest(material)) or ("not known",)))
    if rows:
        yield Table(("What", "Version"), tuple(rows))
    else:
        yield Paragraph(("No versions are recorded.",))
    if material.trace:
        trace = text_of(material.trace)
        yield Paragraph(("Each step with its time is in the trace: ", Link(trace, trace), "."))


def _commit(material: Material) -> str | None:
    profile = material.profile
    return profile.git.commit if profile is not None and profile.git is not None else None


def _plan_digest(material: Material) -> str | None:
    if material.result is not None:
        return material.result.plan_sha256
    return material.attempts[-1].plan_sha256 if material.attempts else None


def events(material: Material) -> Iterator[Block]:
    """The section: the last events."""
    shown = [event for event in material.events if event.kind != model_usage.CALL]
    if not shown:
        yield Paragraph(("Nothing is recorded.",))
        return
    earlier = len(shown) - _MOST_EVENTS
    rows = tuple(((time_of(e.at),), code(e.kind), words(e.text)) for e in shown[-_MOST_EVENTS:])
    table = Table(("When", "What", ""), rows)
    note = (Paragraph((f"{earlier} earlier events are left out.",)),) if earlier > 0 else ()
    yield Fold(f"The last {len(rows)} events" if earlier > 0 else f"All {len(rows)} events", (*note, table))
