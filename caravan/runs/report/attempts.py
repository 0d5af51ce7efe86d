"""The attempts: how each ended, why, what was done about it, and what that changed, as a diff."""

from collections.abc import Iterator

from caravan.runs.report.blocks import Badge, Block, Bullets, Code, Fold, Heading, Line, Listing, Paragraph, Strong
from caravan.runs.report.material import Material
from caravan.runs.report.words import block_of, code, text_of, time_of
from caravan.values.base import Json
from caravan.values.masking import mask_json
from caravan.values.run import Attempt, Outcome
from caravan.values.samples import peaks_in_words

_MEMBERS = 16  # of a group, of which it is told what they used


def blocks(material: Material) -> Iterator[Block]:
    """The section."""
    if not material.attempts:
        yield Paragraph(("Nothing was deployed.",))
    for attempt in material.attempts:
        yield Heading(f"Attempt {attempt.number}")
        yield Paragraph(_head(attempt))
        yield Bullets(tuple(_facts(material, attempt)))
        yield from _why(attempt)
        yield from _repair(material, attempt)


def passed_not(attempt: Attempt) -> bool:
    """Whether the training came to its end and its result did not pass."""
    return attempt.outcome is not None and attempt.outcome.succeeded and attempt.diagnosis is not None


def ended(attempt: Attempt) -> Badge:
    """How it ended, in a word or some."""
    if attempt.outcome is None:
        return Badge("not judged yet", "warn")
    if passed_not(attempt):
        return Badge("ended with exit code 0, but its result did not pass", "bad")
    return Badge(attempt.outcome.kind.value.replace("_", " "), "good" if attempt.outcome.succeeded else "bad")


def _head(attempt: Attempt) -> Line:
    line: Line = (ended(attempt), " Job ", *code(attempt.job_id), ", file ", *code(attempt.hcl_path), ".")
    if not attempt.counts:
        line += (" It was ended from outside though it was well, and does not count.",)
    return (*line, f" It {text_of(attempt.resumed)}.") if attempt.resumed else line


def _facts(material: Material, attempt: Attempt) -> Iterator[Line]:
    outcome = attempt.outcome
    if outcome is not None:
        told = _outcome(outcome, passed_not(attempt))
        if told:
            yield ("Outcome: ", *told)
        if outcome.started_at and outcome.finished_at:
            yield (f"Ran {time_of(outcome.started_at)} to {time_of(outcome.finished_at)}",)
    else:
        yield ("Outcome: not known",)
    estimate = material.estimate
    expected = (estimate.formula_gib or estimate.gpu_memory_gib) if estimate else None
    several = len(attempt.uses) > 1
    for use in attempt.uses[:_MEMBERS]:
        words = peaks_in_words(use, expected)
        if words:
            yield (f"Used: {f'node {use.member}: ' if several else ''}{text_of(words)}",)
    for line in attempt.observed:
        yield (f"Seen beside it: {text_of(line)}",)


def _outcome(outcome: Outcome, failed_later: bool) -> Line:
    parts: list[str] = [text_of(outcome.reason)] if outcome.reason else []
    if (
        outcome.exit_code is not None
        and not failed_later
        and not outcome.reason.endswith(f"exit code {outcome.exit_code}")
    ):
        parts.append(f"exit code {outcome.exit_code}")
    if outcome.signal:
        parts.append(f"signal {outcome.signal}")
    if outcome.oom_killed:
        parts.append("killed for memory")
    line: Line = (", ".join(parts),) if parts else ()
    if outcome.node_name:
        line += (", on " if parts else "on ", *code(outcome.node_name))
    return line


def _why(attempt: Attempt) -> Iterator[Block]:
    found = attempt.diagnosis
    if found is None:
        return
    advice = f" {text_of(found.advice)}" if found.advice else ""
    by = f" (Found by {text_of(found.by)}: the rules did not know it.)" if found.by != "rules" else ""
    yield Paragraph((Strong("Cause: "), *code(found.failure.value), f": {text_of(found.cause)}{advice}{by}"))
    if found.lines:
        yield Fold("The lines that say so", (Listing(block_of("\n".join(found.lines))),))
    if found.patch:
        text: Line = ("A change that is suggested, and that nobody has applied (", Code("suggested.patch"), ", by ")
        yield Paragraph((*text, Code("git apply"), "):"))
        yield Listing(block_of(found.patch), "diff")


def _repair(material: Material, attempt: Attempt) -> Iterator[Block]:
    if attempt.repair is not None:
        why = f": {text_of(attempt.repair.why)}" if attempt.repair.why else ""
        yield Paragraph((Strong("Repair: "), *code(attempt.repair.kind), why))
    if attempt.changed:
        yield Listing(changes(attempt, tuple(material.secrets)), "diff")


def changes(attempt: Attempt, known: tuple[str, ...]) -> str:
    """What its repair changed in the plan, as a diff of fields."""
    lines = []
    for path, before, after in changed_fields(attempt, known):
        lines += [f"-{text_of(path)}: {_value(before)}"] if before is not None else []
        lines += [f"+{text_of(path)}: {_value(after)}"] if after is not None else []
    return "\n".join(lines)


def changed_fields(attempt: Attempt, known: tuple[str, ...]) -> Iterator[tuple[str, Json, Json]]:
    """What its repair changed: path, before, after. A value under a name that speaks of a secret is masked."""
    for path, pair in attempt.changed.items():
        before, after = (next(iter(mask_json({path: value}, known).values())) for value in pair)
        yield path, before, after


def _value(value: Json) -> str:
    return text_of(value) or '""'
