"""The cause of a failure as a model tells it: only where the rules know none or are unsure, only from quoted lines.

What the model quotes must stand in the evidence or the log letter by letter, but for spaces. A cause that only the
cluster can tell, and that nothing failed at all, are not its to say.
"""

import re
from collections.abc import Iterable
from typing import Final

from caravan.agent.qwen.replies import DiagnosisReply
from caravan.agent.qwen.words import misleads
from caravan.diagnosis.entry import Fixable
from caravan.diagnosis.repair import mendable
from caravan.diagnosis.taxonomy import TAXONOMY
from caravan.values.failure import Diagnosis, Evidence, FailureClass
from caravan.values.fingerprint import fingerprint

SURE: Final = 0.7
"""From here on a cause by the rules stands, and the model is not asked."""
MOST: Final = 0.69
"""How sure a cause by a model is at most: never as sure as a rule that says it in so many words."""
NOT_ITS: Final = frozenset(
    {
        *(FailureClass.NO_FAILURE, FailureClass.INTERRUPTED_EXTERNALLY, FailureClass.POLICY_DENIED),
        *(FailureClass.ACL_PERMISSION_DENIED, FailureClass.NOMAD_API_UNREACHABLE, FailureClass.NOMAD_OBJECT_NOT_FOUND),
        *(FailureClass.CLUSTER_TARGET_MISMATCH, FailureClass.JOBSPEC_INVALID, FailureClass.RUN_TOO_LONG),
        *(FailureClass.UNDERFIT, FailureClass.OVERFIT, FailureClass.WORSE_THAN_BASE, FailureClass.MODEL_COLLAPSED),
        *(FailureClass.REGRESSED, FailureClass.UNSAFE_ANSWERS, FailureClass.TARGET_MISSED),
        *(FailureClass.PLACEMENT_CONSTRAINT_FILTERED, FailureClass.PLACEMENT_RESOURCES_EXHAUSTED),
        *(FailureClass.PLACEMENT_GPU_UNAVAILABLE, FailureClass.DEPLOY_PROGRESS_DEADLINE),
    }
)
"""Causes that cluster, policies, our own clock and the evaluation gate tell."""
_DETAILS: Final = frozenset(
    {
        *("package", "module", "option", "value", "path", "program", "column", "file", "line", "function"),
        *("image", "host", "port", "device", "choices", "version", "want", "size", "dataset", "model", "key"),
    }
)
_KINDS: Final = frozenset(
    {"missing", "unknown", "value", "choice", "program", "script", "module", "workdir", "revision"}
)
"""What the ladders tell apart by `kind`, which no line says."""
_SHORTEST: Final = 8  # characters of a quote: a shorter one stands anywhere
_QUOTED: Final = 8
_WORDS: Final = 300


def classes() -> str:
    """The causes that a model may name."""
    return ", ".join(c.value for c in FailureClass if c not in NOT_ITS)


def judged(
    reply: DiagnosisReply, rules: Diagnosis, evidence: Evidence, log: Iterable[str], model: str
) -> tuple[Diagnosis, str]:
    """The diagnosis that stands, and why the model's does not where it is the rules'."""
    why = _refusal(reply, rules, evidence, log)
    if why:
        return rules, why
    failure = FailureClass(reply.failure)
    lines = tuple(" ".join(line.split()) for line in reply.lines if line.strip())[:_QUOTED]
    known = "\n".join(lines)
    said = _plain(reply.cause)
    advice = _plain(reply.advice)
    return (
        Diagnosis(
            failure=failure,
            confidence=min(max(reply.confidence, 0.0), MOST),
            cause=said if said.endswith(".") else f"{said}.",
            lines=lines,
            details=_details(reply.details, lines),
            escalate=not mendable(failure) or (reply.escalate and TAXONOMY[failure].fixable is not Fixable.YES),
            advice=rules.advice if not advice or misleads(advice, known) else advice,
            fingerprint=fingerprint(failure, lines[:1]),
            node_name=evidence.node_name,
            by=model,
        ),
        "",
    )


def _refusal(reply: DiagnosisReply, rules: Diagnosis, evidence: Evidence, log: Iterable[str]) -> str:
    if reply.failure not in {c.value for c in FailureClass}:
        return f"there is no cause {_plain(reply.failure)[:40]!r}"
    failure = FailureClass(reply.failure)
    if failure is FailureClass.UNKNOWN:
        return "it knows no cause either"
    if failure in NOT_ITS:
        return f"{failure.value} is not a model's to say"
    if not reply.cause.strip():
        return "it says no cause"
    if why := misleads(_plain(reply.cause), "\n".join(" ".join(line.split()) for line in reply.lines)):
        return why
    missing = unquoted(reply.lines, evidence, log)
    if missing is not None:
        return missing
    if rules.failure is not FailureClass.UNKNOWN and min(reply.confidence, MOST) <= rules.confidence:
        return f"the rules are as sure of {rules.failure.value}"
    return ""


def unquoted(lines: Iterable[str], evidence: Evidence, log: Iterable[str]) -> str | None:
    """Why the quotes do not stand; None: they do."""
    quotes = [" ".join(line.split()) for line in lines if line.strip()]
    if not quotes:
        return "it quotes no line"
    said = (*evidence.log_lines, *evidence.events, *evidence.validation_errors, evidence.message)
    places = (*said, *(f.line() for f in evidence.placement_failures), *log)
    text = "\n".join(" ".join(place.split()) for place in places)
    for quote in quotes:
        if len(quote) < _SHORTEST or quote not in text:
            return f"no line says {quote[:80]!r}"
    return None


def _details(details: dict[str, str], lines: tuple[str, ...]) -> dict[str, str]:
    """What the quoted lines name: only names that stand in them as whole words, and the kind of what they say."""
    text = "\n".join(lines)

    def stands(value: str) -> bool:
        return bool(value.strip()) and bool(re.search(rf"(?<![\w./-]){re.escape(value)}(?![\w/-])", text))

    found = {name: value for name, value in details.items() if name in _DETAILS and stands(value)}
    return found | ({"kind": details["kind"]} if details.get("kind") in _KINDS else {})


def _plain(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_WORDS]
