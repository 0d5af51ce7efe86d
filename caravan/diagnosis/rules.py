"""The judge: finds which signs the evidence holds, lets causes fall to those that outrank them, and weighs the rest.

The signs are rows in `signs/`; the judge names none of them. The surest cause is taken; among those about as sure, the
one whose line stands first in the evidence, where the traceback that ended the program stands before all else. Nothing
found: the cause is `unknown`, never a guess.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from caravan.diagnosis.details import PROGRESS, usage
from caravan.diagnosis.repair import mendable
from caravan.diagnosis.sentences import sentence
from caravan.diagnosis.sign import ENDED_BADLY, NOT_FOR_MEMORY, TOLD_BY_EVENTS, Lines, Origin, Seen, Sign
from caravan.diagnosis.signs import SIEVE, SIGNS
from caravan.diagnosis.taxonomy import advice
from caravan.values.failure import Diagnosis, Evidence, FailureClass, PastCase, Stage
from caravan.values.fingerprint import fingerprint
from caravan.values.plan import TrainingPlan

_QUOTED: Final = 8  # lines of evidence that a diagnosis quotes
_CERTAIN: Final = 1.0  # of our own words, and of what the cluster says of its own
_SURE: Final = 0.9  # from here on a sign says the cause in so many words
_LIKELY: Final = 0.7
_ORDER: Final = tuple(Origin)
_SIGKILL: Final = 9
_OURS: Final = "caravan: "
_OUR_CODES: Final = range(64, 81)


@dataclass(frozen=True)
class Finding:
    """A sign that holds, where, and what it found."""

    sign: Sign
    origin: Origin
    seen: Seen

    @property
    def weight(self) -> tuple[int, int, int]:
        """What the judge compares: how sure in four steps, then whose lines come first."""
        confidence = self.sign.confidence
        step = sum(confidence >= least for least in (_LIKELY, _SURE, _CERTAIN))
        return step, -_ORDER.index(self.origin), -self.seen.index


def diagnose(
    evidence: Evidence,
    plan: TrainingPlan,
    cases: Sequence[PastCase],  # noqa: ARG001
    signs: Sequence[Sign] = SIGNS,
) -> Diagnosis:
    """The cause by the rules; `unknown` with the most telling lines where none fits. Never raises.

    Past cases don't change a cause that rules read off the evidence; they come in where repairs are ordered.
    """
    findings = [f for f in outranked(find(evidence, signs)) if f.sign.failure is not FailureClass.UNKNOWN]
    if not findings and evidence.stage is Stage.VALIDATE:
        return _impossible(evidence)
    if not findings:
        return _unknown(evidence, plan)
    best = max(findings, key=lambda f: f.weight)  # of equals the first, and signs are in order
    failure = best.sign.failure
    same = [best, *(f for f in findings if f.sign.failure is failure and f is not best)]
    details = _details(same, plan)
    if failure is FailureClass.CLI_ARGS_INVALID and (named := usage(evidence.log_lines)):
        details["usage"] = named
    if failure is FailureClass.CUDA_OOM and _while_loading(best.seen.lines[0], evidence.log_lines):
        details["when"] = "loading"
    if failure is FailureClass.PLACEMENT_RESOURCES_EXHAUSTED and evidence.stage is Stage.VALIDATE:
        details["standing"] = "never"  # what only has to wait is no failure there
    lines = _unique(line for f in same for line in f.seen.lines)
    message = best.seen.lines[0] if best.origin is Origin.LOG else evidence.message or best.seen.lines[0]
    if failure is FailureClass.NCCL_TIMEOUT:  # whether one of them still worked decides what helps
        lines = _unique((*lines[: _QUOTED - 1], *_progress(evidence.log_lines)))
    return Diagnosis(
        failure=failure,
        confidence=best.sign.confidence,
        cause=sentence(failure, details, message, evidence.node_name),
        lines=lines[:_QUOTED],
        details=details,
        escalate=any(f.sign.escalate for f in same) or not mendable(failure),
        advice=advice(failure, plan),  # the ladder may end, or be empty for this cluster
        fingerprint=fingerprint(failure, (*best.seen.lines[:1], *_identity(details))),
        node_name=evidence.node_name,
    )


_LOADING: Final = re.compile(
    r"\.from_pretrained\(|\bself\._apply\(convert\)|\bmodule\._apply\(fn\)"
    r"|, in (?:from_pretrained|load_state_dict|_load_state_dict_into_(?:meta_)?model|set_module_tensor_to_device)\b"
)
"""Frames of a traceback in which a model's weights come to the device: no step was taken yet."""
_ABOVE: Final = 10  # lines of a traceback above its exception


def _while_loading(message: str, lines: Sequence[str]) -> bool:
    """Whether the frames above that message are those of a model that comes to the device."""
    at = lines.index(message) if message in lines else 0
    return any(_LOADING.search(line) for line in lines[max(0, at - _ABOVE) : at])


def _progress(lines: Sequence[str]) -> tuple[str, ...]:
    """The last line by which something went on, where there is one."""
    return tuple([line for line in lines if re.search(PROGRESS, line, re.IGNORECASE)][-1:])


def _details(same: Sequence[Finding], plan: TrainingPlan) -> dict[str, str]:
    """What the signs of the cause name, the best one's first; then what the plan asked for where they name none."""
    details: dict[str, str] = {}
    for finding in same:
        fixed = finding.sign.details.items()
        if all(details.get(name, value) == value for name, value in fixed):  # else it speaks of another thing
            details = {**finding.seen.details, **details}
    for name, value in _asked(same[0].sign.failure, details, plan).items():
        details.setdefault(name, value)
    return details


def _asked(failure: FailureClass, details: dict[str, str], plan: TrainingPlan) -> dict[str, str]:
    """What the plan asked for; of a log without a plan nothing: what its fields hold by default nobody asked for."""
    resources = plan.resources
    if failure is FailureClass.IMAGE_NOT_FOUND and plan.image:
        return {"image": plan.image}
    if "resources" not in plan.model_fields_set and not plan.provenance:
        return {}
    if failure is FailureClass.HOST_MEMORY_OOM and details.get("where") == "task":
        return {"limit_mb": str(max(resources.memory_mb, resources.memory_max_mb or 0))}
    asked = {
        "memory": resources.memory_mb,
        "cpu": resources.cpu_mhz,
        "cores": resources.cores,
        "disk": resources.disk_mb,
        "devices": resources.gpus,
    }.get(details.get("dimension", ""))
    return {"asked": str(asked)} if asked else {}


# What tells one failure of a class from another, beside a line whose quoted words a fingerprint leaves out.
_IDENTITY: Final = ("where", "kind", "module", "package", "option", "program", "dimension")


def _identity(details: dict[str, str]) -> list[str]:
    return [f"{name} {details[name]}" for name in _IDENTITY if name in details]


def _impossible(evidence: Evidence) -> Diagnosis:
    """Our own checks refused the plan before the cluster was asked: their words are the cause.

    It is no escalation yet: memory may know, and where only a place is missing another plan may have one.
    """
    return Diagnosis(
        failure=FailureClass.JOBSPEC_INVALID,
        confidence=1.0,
        cause=evidence.message or "The plan can't become a job.",
        advice="Nothing was deployed. What it names is mended by --set or in the repository.",
        fingerprint=fingerprint(FailureClass.JOBSPEC_INVALID, (evidence.message,)),
    )


def find(evidence: Evidence, signs: Sequence[Sign] = SIGNS) -> tuple[Finding, ...]:
    """The signs that hold, in their order, each with all lines in which it does."""
    lines = lines_of(evidence)
    if signs is SIGNS:
        said = "\n".join(line for some in lines.values() for line in some)
        signs = [SIGNS[number] for number in sorted(SIEVE.passing(said))]
    found = ((sign, sign.find(lines)) for sign in signs)
    return tuple(Finding(sign, *where) for sign, where in found if where is not None)


def outranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings without those whose cause another one outranks.

    The weightiest speak first, and what has fallen fells nothing: so something is always left.
    """
    fallen: set[FailureClass] = set()
    for finding in sorted(findings, key=lambda f: f.weight, reverse=True):
        if finding.sign.failure not in fallen:
            fallen.update(finding.sign.outranks)
    return tuple(f for f in findings if f.sign.failure not in fallen)


def lines_of(evidence: Evidence) -> Lines:
    """The evidence as lines by origin; what is no text is put into ours (`killed for memory`)."""
    failures = evidence.placement_failures
    nowhere = any(not any(f.nodes_available.values()) and not f.nodes_evaluated for f in failures)
    asked_to_stop = _position(evidence.events, "Killing") < _position(evidence.events, "Terminated")
    asked_by_us = any(event.startswith("Stalled ") for event in evidence.events)
    told_otherwise = evidence.memory_told and not evidence.oom_killed
    said = {
        "interrupted": evidence.interrupted,
        "asked to stop": asked_to_stop and not asked_by_us and not _never_began(evidence.events),
        "killed for memory": evidence.oom_killed,
        NOT_FOR_MEMORY: told_otherwise,
        ENDED_BADLY: _ended_badly(evidence),
        TOLD_BY_EVENTS: evidence.stage is Stage.VERIFY and evidence.exit_code is None and not evidence.interrupted,
        "killed": told_otherwise and (evidence.signal == _SIGKILL or evidence.exit_code == 128 + _SIGKILL),
    }
    return {
        Origin.OUTCOME: tuple(text for text, so in said.items() if so),
        Origin.JUDGED: tuple(evidence.message.split("; ")) if evidence.stage is Stage.EVALUATE else (),
        Origin.VALIDATION: evidence.validation_errors,
        Origin.FILTERED: tuple(why for f in failures for why in f.constraint_filtered),
        Origin.EXHAUSTED: tuple(why for f in failures for why in (*f.dimension_exhausted, *f.quota_exhausted)),
        Origin.PLACEMENT: ("no nodes available",) if nowhere else (),
        Origin.EVENT: evidence.events,
        Origin.LOG: evidence.log_lines,
    }


def _ended_badly(evidence: Evidence) -> bool:
    """Whether something beside the log says so; a training that ended and was found wanting did, too."""
    codes = (evidence.exit_code, evidence.signal)
    return any(code not in (None, 0) for code in codes) or evidence.interrupted or evidence.stage is Stage.EVALUATE


def _never_began(events: Sequence[str]) -> bool:
    """Whether the task failed before it started: then it is told to stop because of that."""
    started = max((n for n, event in enumerate(events) if event.startswith("Started")), default=-1)
    return any(event.startswith(_BEFORE_START) for event in events[started + 1 :])


_BEFORE_START: Final = ("Setup Failure", "Driver Failure", "Failed Artifact Download", "Failed Validation")


def _position(events: Sequence[str], kind: str) -> int:
    """Where the first event of that kind stands since the task last started; beyond the end when there is none."""
    started = max((n for n, event in enumerate(events) if event.startswith("Started")), default=-1)
    found = (n for n, event in enumerate(events) if n > started and event.partition(":")[0] == kind)
    return next(found, len(events))


def _unknown(evidence: Evidence, plan: TrainingPlan) -> Diagnosis:
    lines = evidence.log_lines or evidence.events or tuple(f.line() for f in evidence.placement_failures)
    ran = evidence.stage is Stage.VERIFY and evidence.exit_code is not None
    message = _raised(lines) or _of_ours(lines, evidence.exit_code) or _complaint(lines)
    if not message and ran:  # our words on how it ended are no words of the log
        details = {"exit_code": str(evidence.exit_code)}
    else:
        details = {"kind": "log"} if message else {}
        message = message or evidence.message or next(reversed(lines), "")
    return Diagnosis(
        failure=FailureClass.UNKNOWN,
        confidence=0.0,
        cause=sentence(FailureClass.UNKNOWN, details, message, evidence.node_name),
        lines=lines[:_QUOTED],
        escalate=True,
        advice=advice(FailureClass.UNKNOWN, plan),
        fingerprint=fingerprint(FailureClass.UNKNOWN, [s for s in lines if _SHAPED.match(s)] or lines[:_QUOTED]),
        node_name=evidence.node_name,
    )


def _raised(lines: Sequence[str]) -> str:
    """The exception that ended it: what stands at the margin below the frames, whatever its name; else one by name."""
    frame_above = False
    for line in lines:
        frame_above = frame_above or bool(_FRAME.match(line))
        if frame_above and line[:1].strip():
            return line
    return next((line for line in lines if _EXCEPTION.match(line)), "")


def _of_ours(lines: Sequence[str], code: int | None) -> str:
    """The last word of the job's own script, where the exit code is one that only it has."""
    ours = (line for line in reversed(lines) if line.startswith(_OURS))
    return next(ours, "").removeprefix(_OURS) if code is not None and code in _OUR_CODES else ""


def _complaint(lines: Sequence[str]) -> str:
    """The last line that calls itself an error."""
    return next((line for line in reversed(lines) if _ERROR.match(line)), "")


_ERROR: Final = re.compile(r"(?:\S{1,60}: )?(?:ERROR|Error|error|FATAL|Fatal|fatal): ?\S")
_FRAME: Final = re.compile(r"\s+File \"[^\"]*\", line \d+")
_EXCEPTION: Final = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Fault)\b")
# The lines of a traceback that belong to its shape: frames and exception, not the source lines in between.
_SHAPED: Final = re.compile(r"\s*File \"[^\"]*\", line \d+, in |[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b")


def _unique(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))
